# The cluster's authority, judged by the openssl command: what it issues verifies for its purpose and
# says who it is; what it revokes does not; files are for their owner only.
. "$(dirname "$0")/../lib/cluster.sh"
CA=$WORK/ca

ca() {
	local verb=$1
	shift
	cairn ca "$verb" --ca "$CA" "$@"
}
verifies() { # PURPOSE DIRECTORY
	openssl verify -x509_strict -crl_check -CAfile "$CA/ca.pem" -CRLfile "$CA/crl.pem" \
		-purpose "$1" "$2/identity.pem"
}
refused_as() { # REASON PURPOSE DIRECTORY
	local said
	said=$(verifies "$2" "$3" 2>&1) && { echo "$said"; return 1; }
	echo "$said" | grep -q "$1"
}
says() { # TEXT DIRECTORY
	openssl x509 -in "$2/identity.pem" -noout -text | tee "$WORK/text" | grep -q "$1"
}
field() { # ROLE/NAME's state according to `list`
	ca list | awk -v role="${1%/*}" -v name="${1#*/}" '$1 == role && $2 == name {print $3}' | tail -1
}

check "an authority is made" ca init
check "not twice" sh -c "! cairn ca init --ca '$CA'"
check "a chunkserver's certificate" ca issue --role chunkserver --name cs1 --host 10.0.0.7 --host cs1.example
check "a client's" ca issue --role client --name alice --export home
check "one that ends soon, elsewhere" ca issue --role admin --name bob --lifetime 5d --out "$WORK/bob"
check "an unknown role is refused" sh -c "! cairn ca issue --ca '$CA' --role root --name x"
check "a name that has one is refused" sh -c "! cairn ca issue --ca '$CA' --role client --name alice"

CS=$CA/issued/chunkserver-cs1 ALICE=$CA/issued/client-alice
check "the chunkserver's is good for a server" verifies sslserver "$CS"
check "and for a client of others" verifies sslclient "$CS"
check "the client's is good for a client" verifies sslclient "$ALICE"
check "not for a server" refused_as "unsuitable certificate purpose" sslserver "$ALICE"
check "it says role and name" says "URI:cairn://[0-9a-f]\{32\}/chunkserver/cs1" "$CS"
check "it says its hosts" says "IP Address:10.0.0.7, DNS:cs1.example" "$CS"
check "it says its export" says "URI:cairn://[0-9a-f]\{32\}/export/home" "$ALICE"
check "keys are on P-256" says "ASN1 OID: prime256v1" "$CS"
check "it is no authority" says "CA:FALSE" "$CS"
check "certificate and key belong together" sh -c "
	[ \"\$(openssl x509 -in '$CS/identity.pem' -noout -pubkey)\" = \
	  \"\$(openssl pkey -in '$CS/identity.pem' -pubout)\" ]"
check "files are for the owner only" sh -c "
	[ -z \"\$(find '$CA' '$WORK/bob' -type f ! -perm 600; find '$CA' '$WORK/bob' -type d ! -perm 700)\" ]"

OLD=$(openssl x509 -in "$WORK/bob/identity.pem" -noout -serial)
check "what ends within 30 days is renewed" ca renew --all
check "with another number and key" sh -c "
	[ '$OLD' != \"\$(openssl x509 -in '$WORK/bob/identity.pem' -noout -serial)\" ]"
check "and verifies" verifies sslclient "$WORK/bob"
check "others are not" sh -c "[ \$(cairn ca list --ca '$CA' | grep -c alice) = 1 ]"

check "a certificate is revoked" ca revoke client/alice
check "it does not verify any more" refused_as "certificate revoked" sslclient "$ALICE"
check "the others do" verifies sslclient "$CS"
check "the list says so" [ "$(field client/alice)" = revoked ]
check "the CRL is signed" sh -c "openssl crl -in '$CA/crl.pem' -noout -verify -CAfile '$CA/ca.pem' 2>&1 | grep -q 'verify OK'"
check "it has the number" sh -c "
	serial=\$(openssl x509 -in '$ALICE/identity.pem' -noout -serial)
	openssl crl -in '$CA/crl.pem' -noout -text | grep -q \"\${serial#serial=}\""
check "credentials directories have the new CRL" cmp "$CA/crl.pem" "$CS/crl.pem"
rm "$CA/crl.pem" "$CS/crl.pem"
check "revoked once more: the list is made again" ca revoke client/alice
check "everywhere" cmp "$CA/crl.pem" "$CS/crl.pem"
check "it is on it" refused_as "certificate revoked" sslclient "$ALICE"
check "who was never issued one is not revoked" sh -c "! cairn ca revoke --ca '$CA' client/nobody"
check "the name can be issued again" ca issue --role client --name alice
check "and is good" verifies sslclient "$ALICE"
