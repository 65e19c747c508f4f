# awk -v systems="a b" -v json=FILE -f table.awk about.tsv results.tsv: prints the table of `make bench` and
# writes the same, with every run, as JSON. The lines that it reads are written by row() in bench.sh.
BEGIN {
	FS = "\t"
	n_systems = split(systems, sys, " ")
}

FILENAME ~ /about\.tsv$/ {
	about_key[++n_about] = $1
	about[n_about] = $2
	next
}

!($1 in seen) {
	seen[$1] = 1
	rows[++n_rows] = $1
	unit[$1] = $2
}

$5 == "failed" { next }

# SECONDS OPERATIONS BYTES, CPU before and after, fsyncs of servers, of the log, copies, RSS
$4 == "account" {
	split($5, t, " ")
	split($6, c, " ")
	cpu[$1, $3] = c[2] - c[1]
	operations[$1, $3] = t[2]
	bytes[$1, $3] = t[3]
	sync_servers[$1, $3] = $7
	sync_log[$1, $3] = $8
	copies[$3] = $9
	rss[$1, $3] = $10
	next
}

{
	split($5, t, " ")
	run[$1, $3, ++runs[$1, $3]] = ($2 ~ /^MiB/ ? t[3] / 1048576 : t[2]) / (t[1] > 0 ? t[1] : 1e-6)
}

function median(r, s,    n, i, j, x, v) {
	n = runs[r, s]
	for (i = 1; i <= n; i++) {
		x = run[r, s, i]
		for (j = i - 1; j >= 1 && v[j] > x; j--)
			v[j + 1] = v[j]
		v[j + 1] = x
	}
	return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}

function short(x) {
	return x == "" ? "-" : sprintf(x >= 100 ? "%.0f" : x >= 1 ? "%.1f" : "%.2f", x)
}

function ratio(r, a, b) {
	return value[r, a] == "" || !value[r, b] ? "-" : sprintf("%.2f", value[r, a] / value[r, b])
}

# CPU seconds per GiB, or per 1,000 operations
function cpu_each(r, s) {
	if (!((r, s) in cpu))
		return "-"
	return sprintf("%.2f", cpu[r, s] / (unit[r] == "MiB/s" ? bytes[r, s] / 1073741824 : operations[r, s] / 1000))
}

# fsyncs a replica (of a chunk: a server's share times the copies), and of the log
function syncs(r, s) {
	if (!((r, s) in sync_log) || (sync_servers[r, s] == "-" && sync_log[r, s] == "-"))
		return "-"
	return (sync_servers[r, s] == "-" ? "-" : int(sync_servers[r, s] / copies[s] + 0.5)) "/" sync_log[r, s]
}

function head(title, last,    i) {
	printf "\n%-46s %-6s", title, "unit"
	for (i = 1; i <= n_systems; i++)
		printf " %10s", sys[i]
	print last
}

function quoted(s) {
	gsub(/["\\]/, "\\\\&", s)
	return "\"" s "\""
}

function number(x) {
	return x == "" || x == "-" ? "null" : x
}

function write_json(    i, j, k, r, s) {
	printf "{\n  \"about\": {" >json
	for (i = 1; i <= n_about; i++)
		printf "%s\n    %s: %s", (i == 1 ? "" : ","), quoted(about_key[i]), quoted(about[i]) >json
	printf "\n  },\n  \"rows\": [" >json
	for (i = 1; i <= n_rows; i++) {
		r = rows[i]
		printf "%s\n    {\"work\": %s, \"unit\": %s, \"systems\": {", (i == 1 ? "" : ","), quoted(r),
			quoted(unit[r]) >json
		for (j = 1; j <= n_systems; j++) {
			s = sys[j]
			printf "%s\n      %s: {\"median\": %s, \"runs\": [", (j == 1 ? "" : ","), quoted(s),
				number(value[r, s]) >json
			for (k = 1; k <= runs[r, s]; k++)
				printf "%s%.3f", (k == 1 ? "" : ", "), run[r, s, k] >json
			printf "], \"cpu_s\": %s, \"operations\": %s, \"bytes\": %s, \"server_syncs\": %s, \"log_syncs\": %s, \"master_rss_kb\": %s}",
				number(cpu[r, s]), number(operations[r, s]), number(bytes[r, s]),
				number(sync_servers[r, s]), number(sync_log[r, s]), number(rss[r, s]) >json
		}
		printf "}}" >json
	}
	print "\n  ]\n}" >json
}

END {
	for (i = 1; i <= n_about; i++)
		printf "%-9s %s\n", about_key[i], about[i]
	for (i = 1; i <= n_rows; i++)
		for (j = 1; j <= n_systems; j++)
			if (runs[rows[i], sys[j]])
				value[rows[i], sys[j]] = median(rows[i], sys[j])
	head("work (medians)", sprintf(" %11s %15s", "cairn3/fuse", "cairn3/moosefs3"))
	for (i = 1; i <= n_rows; i++) {
		r = rows[i]
		printf "%-46s %-6s", r, unit[r]
		for (j = 1; j <= n_systems; j++)
			printf " %10s", short(value[r, sys[j]])
		printf " %11s %15s\n", ratio(r, "cairn3", "fuse"), ratio(r, "cairn3", "moosefs3")
	}
	head("CPU seconds of all daemons", "")
	for (i = 1; i <= n_rows; i++) {
		r = rows[i]
		printf "%-46s %-6s", r, unit[r] == "MiB/s" ? "/GiB" : "/1000"
		for (j = 1; j <= n_systems; j++)
			printf " %10s", cpu_each(r, sys[j])
		print ""
	}
	head("fsyncs paid", "")
	for (i = 1; i <= n_rows; i++) {
		r = rows[i]
		printf "%-46s %-6s", r, "repl/log"
		for (j = 1; j <= n_systems; j++)
			printf " %10s", syncs(r, sys[j])
		print ""
	}
	write_json()
}
