# Cairn. `make run` and `make test` are the two commands to know; `make help` lists the others.

MAKEFLAGS += --no-builtin-rules
# As many jobs as there are processors, unless -jN says otherwise.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
SANITIZER ?=
comma := ,
CC := gcc
OUT := build$(if $(SANITIZER),/$(subst $(comma),-,$(SANITIZER)))
OBJ := $(OUT)/obj

PACKAGES := gcc make pkg-config libc6-dev libfuse3-dev fuse3 libssl-dev libleveldb-dev \
	libcmocka-dev libraft-dev libuv1-dev libisal-dev libjansson-dev libinih-dev uthash-dev \
	attr iproute2 procps diffutils util-linux e2fsprogs openssl
TEST_PACKAGES := clang libclang-rt-dev nftables jq systemd binutils
POSIX_PACKAGES := git sqlite3 postgresql fio dbench stress-ng
BENCH_PACKAGES := moosefs-master moosefs-chunkserver moosefs-client glusterfs-server glusterfs-client \
	bindfs linux-perf git sqlite3 jq

VERSION := 0.1.0
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -DCAIRN_VERSION='"$(VERSION)"' -MMD -MP
CFLAGS ?= -O2 -g
CFLAGS += -std=gnu11 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wno-unused-parameter -fno-strict-aliasing -fPIC -pthread
LDFLAGS += -pthread
# Hardening, checked by tests/cluster/test_hardening.sh. Where the compiler or the C library has no
# FORTIFY_SOURCE=3 it means 2. The sanitizers have checks of their own, which FORTIFY hides from.
cc_has = $(shell $(CC) -Werror $(1) -c -x c /dev/null -o /dev/null 2>/dev/null && echo $(1))
HARDEN := $(call cc_has,-fstack-clash-protection) $(call cc_has,-fcf-protection)
CFLAGS += -fstack-protector-strong $(HARDEN)
LDFLAGS += -Wl,-z,relro,-z,now,-z,noexecstack
ifneq ($(SANITIZER),)
CFLAGS += -fsanitize=$(SANITIZER) -fno-omit-frame-pointer -O1
LDFLAGS += -fsanitize=$(SANITIZER)
else ifeq ($(filter -O0,$(CFLAGS)),)
CFLAGS += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
endif
V ?=
Q := $(if $(V),,@)

LIBS_common := -lisal -lssl -lcrypto -linih
LIBS_master := -lraft -luv -lleveldb -ljansson
LIBS_chunkserver :=
LIBS_client :=
LIBS_fuse = $(shell pkg-config --libs fuse3)
LIBS_tools := -ljansson
LIBS_checker = $(OBJ)/libclient.a $(OBJ)/libcommon.a # it works through libcairn
CPPFLAGS_fuse = $(shell pkg-config --cflags fuse3)

COMPONENTS := common master chunkserver client fuse tools
$(foreach c,$(COMPONENTS),$(eval SRC_$(c) := $(wildcard $(c)/*.c)))
$(foreach c,$(COMPONENTS),$(eval OBJ_$(c) := $(patsubst %.c,$(OBJ)/%.o,$(filter-out $(c)/main.c,$(SRC_$(c))))))

# The fault suite's checker, without its main: tests/unit/test_checker_*.c are linked with it.
OBJ_checker := $(patsubst %.c,$(OBJ)/%.o,$(filter-out %/main.c,$(wildcard tests/fault/checker/*.c)))

PROGRAMS := $(OUT)/cairn-master $(OUT)/cairn-chunkserver $(OUT)/cairn-mount $(OUT)/cairn
UNITS := $(OUT)/cairn-master.service $(OUT)/cairn-chunkserver.service
LIBRARIES := $(OUT)/libcairn.a $(OUT)/libcairn.so $(OUT)/cairn.pc
UNIT_TESTS := $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(wildcard tests/unit/test_*.c))
CLUSTER_PROGRAMS := $(patsubst tests/cluster/%.c,$(OUT)/tests/%,$(wildcard tests/cluster/*.c))
FAULT_PROGRAMS := $(OUT)/tests/checker \
	$(patsubst tests/fault/%.c,$(OUT)/tests/%,$(wildcard tests/fault/*.c))
# tests/posix/PROGRAM/*.c: they call the kernel, not libcairn.
BENCH_PROGRAMS := $(patsubst tests/bench/%.c,$(OUT)/tests/%,$(wildcard tests/bench/*.c))
# A pass-through FUSE file system to compare with: libfuse's example, from Debian's package.
PASSTHROUGH := $(wildcard /usr/share/doc/libfuse3-dev/examples/passthrough_ll.c)
BENCH_PROGRAMS += $(if $(PASSTHROUGH),$(OUT)/tests/passthrough_ll)
POSIX_PROGRAMS := $(patsubst tests/posix/%/main.c,$(OUT)/tests/posix_%,$(wildcard tests/posix/*/main.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(OUT)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all help run stop deps test-deps test test-unit test-sim test-cluster unit-tests cluster-programs \
	fuzzers fuzz fuzz-smoke-build test-faults test-posix bench check-deps install clean
all: $(PROGRAMS) $(LIBRARIES) $(UNITS)
help:
	@sed -n 's/^## //p' Makefile

# ---- objects ----
$(OBJ)/%.o: %.c Makefile
	@mkdir -p $(@D)
	@$(if $(V),,echo "  CC    $<")
	$(Q)$(CC) $(CPPFLAGS) $(CPPFLAGS_$(firstword $(subst /, ,$<))) $(CFLAGS) -c $< -o $@

$(foreach c,$(COMPONENTS) checker,$(eval $(OBJ)/lib$(c).a: $(OBJ_$(c))))
$(OBJ)/lib%.a:
	@mkdir -p $(@D)
	@$(if $(V),,echo "  AR    $@")
	$(Q)rm -f $@ && ar rcs $@ $^

# ---- programs ----
define LINK
@mkdir -p $(@D)
@$(if $(V),,echo "  LD    $@")
$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -pie -o $@ $(filter %.o,$^) $(filter %.a,$^) $(1) $(LIBS_common)
endef
$(OUT)/cairn-master: $(OBJ)/master/main.o $(OBJ)/libmaster.a $(OBJ)/libcommon.a
	$(call LINK,$(LIBS_master))
$(OUT)/cairn-chunkserver: $(OBJ)/chunkserver/main.o $(OBJ)/libchunkserver.a $(OBJ)/libcommon.a
	$(call LINK,$(LIBS_chunkserver))
$(OUT)/cairn-mount: $(OBJ)/fuse/main.o $(OBJ)/libfuse.a $(OBJ)/libclient.a $(OBJ)/libcommon.a
	$(call LINK,$(LIBS_fuse))
$(OUT)/cairn: $(OBJ)/tools/main.o $(OBJ)/libtools.a $(OBJ)/libclient.a $(OBJ)/libcommon.a
	$(call LINK,$(LIBS_tools))

# ---- libcairn: only what cairn.h marks is visible ----
$(OUT)/libcairn.so: $(OBJ_client) $(OBJ_common)
	@$(if $(V),,echo "  LD    $@")
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libcairn.so.0 \
		-Wl,--version-script=client/libcairn.map -o $@ $^ $(LIBS_common)
	$(Q)ln -sf libcairn.so $(OUT)/libcairn.so.0
$(OUT)/libcairn.a: $(OBJ_client) $(OBJ_common)
	@$(if $(V),,echo "  AR    $@")
	$(Q)rm -f $@ && ar rcs $@ $^
PREFIX ?= /usr/local
FILL_IN = sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' $< > $@
$(OUT)/cairn.pc: client/cairn.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)$(FILL_IN)
$(OUT)/%.service: tools/systemd/%.service.in Makefile
	@mkdir -p $(@D)
	$(Q)$(FILL_IN)

# ---- tests: tests/unit/test_COMPONENT_MODULE.c is linked with that component ----
word2 = $(word 2,$(subst _, ,$(notdir $(1))))
.SECONDEXPANSION:
$(OUT)/tests/test_%: $(OBJ)/tests/unit/test_%.o $$(OBJ)/lib$$(call word2,$$@).a $(OBJ)/libcommon.a
	$(call LINK,$(LIBS_$(call word2,$@)) -lcmocka)
$(OUT)/tests/test_master_raise $(OUT)/tests/test_master_repair $(OUT)/tests/test_master_compare \
		$(OUT)/tests/test_master_power $(OUT)/tests/test_master_full $(OUT)/tests/test_master_lost \
		$(OUT)/tests/test_master_server \
		$(OUT)/tests/test_master_hold: $(OBJ)/tests/lib/fake_master.o
$(OUT)/tests/test_checker_worker: $(OBJ)/libclient.a
SIM_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(wildcard tests/sim/*.c)) $(OBJ)/tests/lib/fake_master.o
$(OUT)/tests/sim: $(SIM_OBJ) $(OBJ)/libmaster.a $(OBJ)/libcommon.a
	$(call LINK,$(LIBS_master))
$(CLUSTER_PROGRAMS): $(OUT)/tests/%: $(OBJ)/tests/cluster/%.o $(OBJ)/libclient.a $(OBJ)/libcommon.a
	$(call LINK,)
$(filter-out %/checker,$(FAULT_PROGRAMS)): $(OUT)/tests/%: $(OBJ)/tests/fault/%.o \
		$(OBJ)/libchunkserver.a $(OBJ)/libclient.a $(OBJ)/libcommon.a
	$(call LINK,)
$(OUT)/tests/checker: $(OBJ)/tests/fault/checker/main.o $(OBJ)/libchecker.a $(OBJ)/libclient.a \
		$(OBJ)/libcommon.a
	$(call LINK,)
$(foreach p,$(wildcard tests/posix/*/main.c),$(eval $(patsubst tests/posix/%/main.c,$(OUT)/tests/posix_%,$p): \
	$(patsubst %.c,$(OBJ)/%.o,$(wildcard $(dir $p)*.c))))
$(POSIX_PROGRAMS):
	$(call LINK,)
$(patsubst tests/bench/%.c,$(OUT)/tests/%,$(wildcard tests/bench/*.c)): $(OUT)/tests/%: $(OBJ)/tests/bench/%.o \
		$(OBJ)/libclient.a $(OBJ)/libcommon.a
	$(call LINK,)
$(OUT)/tests/passthrough_ll: $(PASSTHROUGH)
	@mkdir -p $(@D)
	$(Q)$(CC) -O2 -I$(dir $<) $< $(CPPFLAGS_fuse) $(LIBS_fuse) -o $@
unit-tests: $(UNIT_TESTS)

# ---- fuzzers: tests/fuzz/fuzz_COMPONENT_WHAT.c; with clang they are libFuzzer programs ----
$(OUT)/fuzz/fuzz_%: $(OBJ)/tests/fuzz/fuzz_%.o $(if $(LIBFUZZER),,$(OBJ)/tests/fuzz/driver.o) \
		$$(OBJ)/lib$$(call word2,$$@).a $(OBJ)/libcommon.a
	$(call LINK,$(LIBS_$(call word2,$@)) $(if $(LIBFUZZER),-fsanitize=fuzzer))
fuzzers: $(FUZZERS)

# ---- commands ----
deps:
	@sh tools/install-deps.sh $(PACKAGES)
test-deps: deps
	@OPTIONAL=1 sh tools/install-deps.sh $(TEST_PACKAGES)

## make run     install what is missing, build, start a cluster under run/ and mount it on run/mnt
run: deps
	@$(MAKE) -s all
	@mkdir -p run/mnt
	@$(OUT)/cairn local up run/cluster --mount $(CURDIR)/run/mnt
## make stop    stop what `make run` started; the data stays
stop:
	@if [ -d run/cluster ]; then $(OUT)/cairn local down run/cluster; fi

## make test    install what is missing, build, run every test; the last line counts them
test: test-deps
	@$(MAKE) -s all unit-tests $(OUT)/tests/sim cluster-programs
	@$(MAKE) -s fuzz-smoke-build
	@bash tests/run.sh $(OUT) deps unit sim fuzz cluster
## make test-unit, make test-cluster    parts of it; SANITIZER=address,undefined or thread for either
test-unit: unit-tests
	@bash tests/run.sh $(OUT) unit
## make test-sim    the simulation of the master's decisions: SEED, SEEDS, STEPS, SECONDS, TRACE=1
test-sim: $(OUT)/tests/sim
	@bash tests/run.sh $(OUT) sim
test-cluster: all cluster-programs
	@bash tests/run.sh $(OUT) cluster
cluster-programs: $(CLUSTER_PROGRAMS) $(FAULT_PROGRAMS) $(POSIX_PROGRAMS) $(BENCH_PROGRAMS)

## make test-faults    the fault suite, races and power losses in their long form; SEED=N and SECONDS=N (1800)
SECONDS ?= 1800
test-faults: test-deps
	@$(MAKE) -s all cluster-programs
	@BIN=$(abspath $(OUT)) FAULT_SECONDS=$(SECONDS) SEED=$(SEED) bash tests/fault/suite.sh
	@CLUSTER_TESTS="races power_parts" ROUNDS=500 KILLS=30 POWER_ROUNDS=8 bash tests/run.sh $(OUT) cluster

## make test-posix    the POSIX suite, longer random runs, real programs (PROGRAMS="git sqlite ..." to choose)
test-posix: test-deps
	@sh tools/install-deps.sh $(POSIX_PACKAGES)
	@$(MAKE) -s all cluster-programs
	@BIN=$(abspath $(OUT)) bash tests/posix/long.sh

## make bench    the table of ARCHITECTURE.md: Cairn, the disk, FUSE, MooseFS, GlusterFS; SCALE=0.1 and more to choose
bench: deps
	@OPTIONAL=1 sh tools/install-deps.sh $(BENCH_PACKAGES)
	@$(MAKE) -s all $(BENCH_PROGRAMS)
	@BIN=$(abspath $(OUT)) bash tests/bench/bench.sh

FUZZ_SANITIZER := fuzzer-no-link,address,undefined
## make fuzz    run every fuzzer for FUZZ_SECONDS (60) each, with libFuzzer; FUZZ_KEEP=1 keeps what they find
FUZZ_SECONDS ?= 60
fuzz: test-deps fuzz-smoke-build
	@$(MAKE) -s CC=clang SANITIZER=$(FUZZ_SANITIZER) LIBFUZZER=1 fuzzers
	@bash tests/fuzz/run.sh build/fuzzer-no-link-address-undefined/fuzz $(OUT)/fuzz $(FUZZ_SECONDS) $(FUZZ_KEEP)
# For `make test`: gcc's sanitizers and the seeded driver need no clang.
fuzz-smoke-build:
	@$(MAKE) -s SANITIZER=address,undefined fuzzers
	@mkdir -p $(OUT)/fuzz
	@cp build/address-undefined/fuzz/fuzz_* $(OUT)/fuzz/

## make check-deps    refuse includes that cross the components' borders
check-deps:
	@sh tools/check-deps.sh

## make install    to PREFIX (/usr/local) and, for mount(8), MOUNT_DIR (/sbin), below DESTDIR
DESTDIR ?=
# mount(8) looks for mount.cairn in /sbin only.
MOUNT_DIR ?= /sbin
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/lib/pkgconfig \
		$(DESTDIR)$(PREFIX)/include $(DESTDIR)$(MOUNT_DIR) \
		$(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/sysusers.d \
		$(DESTDIR)$(PREFIX)/share/doc/cairn $(DESTDIR)/etc/cairn
	install $(OUT)/cairn $(OUT)/cairn-mount $(DESTDIR)$(PREFIX)/bin
	install $(OUT)/cairn-master $(OUT)/cairn-chunkserver $(DESTDIR)$(PREFIX)/sbin
	ln -sf $(PREFIX)/bin/cairn-mount $(DESTDIR)$(MOUNT_DIR)/mount.cairn
	install -m 644 $(OUT)/libcairn.a $(DESTDIR)$(PREFIX)/lib
	install $(OUT)/libcairn.so $(DESTDIR)$(PREFIX)/lib/libcairn.so.0
	ln -sf libcairn.so.0 $(DESTDIR)$(PREFIX)/lib/libcairn.so
	install -m 644 $(OUT)/cairn.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 client/cairn.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(UNITS) $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 644 tools/systemd/cairn.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/cairn.conf
	install -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/cairn

clean:
	rm -rf build

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
.SECONDARY:
