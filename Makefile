# Cairn. `make run` and `make test` are the two commands to know; `make help` lists the others.

MAKEFLAGS += --no-builtin-rules
SANITIZER ?=
comma := ,
CC := gcc
OUT := build$(if $(SANITIZER),/$(subst $(comma),-,$(SANITIZER)))
OBJ := $(OUT)/obj

PACKAGES := gcc make pkg-config libc6-dev libfuse3-dev fuse3 libssl-dev libleveldb-dev \
	libcmocka-dev libraft-dev libuv1-dev libisal-dev libjansson-dev libinih-dev uthash-dev \
	attr iproute2 procps diffutils util-linux e2fsprogs
TEST_PACKAGES := clang libclang-rt-dev nftables

VERSION := 0.1.0
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -DCAIRN_VERSION='"$(VERSION)"' -MMD -MP
CFLAGS ?= -O2 -g
CFLAGS += -std=gnu11 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wno-unused-parameter -fno-strict-aliasing -fstack-protector-strong -fPIC -pthread
LDFLAGS += -pthread
ifneq ($(SANITIZER),)
CFLAGS += -fsanitize=$(SANITIZER) -fno-omit-frame-pointer -O1
LDFLAGS += -fsanitize=$(SANITIZER)
endif
V ?=
Q := $(if $(V),,@)

LIBS_common := -lisal -lcrypto -linih
LIBS_master := -lraft -luv -lleveldb -ljansson
LIBS_chunkserver :=
LIBS_client :=
LIBS_fuse = $(shell pkg-config --libs fuse3)
LIBS_tools := -ljansson
CPPFLAGS_fuse = $(shell pkg-config --cflags fuse3)

COMPONENTS := common master chunkserver client fuse tools
$(foreach c,$(COMPONENTS),$(eval SRC_$(c) := $(wildcard $(c)/*.c)))
$(foreach c,$(COMPONENTS),$(eval OBJ_$(c) := $(patsubst %.c,$(OBJ)/%.o,$(filter-out $(c)/main.c,$(SRC_$(c))))))

# The fault suite's checker, without its main: tests/unit/test_checker_*.c are linked with it.
OBJ_checker := $(patsubst %.c,$(OBJ)/%.o,$(filter-out %/main.c,$(wildcard tests/fault/checker/*.c)))

PROGRAMS := $(OUT)/cairn-master $(OUT)/cairn-chunkserver $(OUT)/cairn-mount $(OUT)/cairn
LIBRARIES := $(OUT)/libcairn.a $(OUT)/libcairn.so $(OUT)/cairn.pc
UNIT_TESTS := $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(wildcard tests/unit/test_*.c))
CLUSTER_PROGRAMS := $(patsubst tests/cluster/%.c,$(OUT)/tests/%,$(wildcard tests/cluster/*.c))
FAULT_PROGRAMS := $(OUT)/tests/checker \
	$(patsubst tests/fault/%.c,$(OUT)/tests/%,$(wildcard tests/fault/*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(OUT)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all help run stop deps test-deps test test-unit test-sim test-cluster unit-tests cluster-programs \
	fuzzers fuzz fuzz-smoke-build test-faults check-deps install clean
all: $(PROGRAMS) $(LIBRARIES)
help:
	@sed -n 's/^## //p' Makefile

# ---- objects ----
$(OBJ)/%.o: %.c
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
$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(1) $(LIBS_common)
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
$(OUT)/cairn.pc: client/cairn.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' $< > $@

# ---- tests: tests/unit/test_COMPONENT_MODULE.c is linked with that component ----
word2 = $(word 2,$(subst _, ,$(notdir $(1))))
.SECONDEXPANSION:
$(OUT)/tests/test_%: $(OBJ)/tests/unit/test_%.o $$(OBJ)/lib$$(call word2,$$@).a $(OBJ)/libcommon.a
	$(call LINK,$(LIBS_$(call word2,$@)) -lcmocka)
$(OUT)/tests/test_master_raise $(OUT)/tests/test_master_repair $(OUT)/tests/test_master_compare \
		$(OUT)/tests/test_master_hold: $(OBJ)/tests/lib/fake_master.o
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
cluster-programs: $(CLUSTER_PROGRAMS) $(FAULT_PROGRAMS)

## make test-faults    the fault suite in its long form; SEED=N and SECONDS=N (1800) to choose
SECONDS ?= 1800
test-faults: test-deps
	@$(MAKE) -s all cluster-programs
	@BIN=$(abspath $(OUT)) FAULT_SECONDS=$(SECONDS) SEED=$(SEED) bash tests/fault/suite.sh

FUZZ_SANITIZER := fuzzer-no-link,address,undefined
## make fuzz    run every fuzzer for FUZZ_SECONDS (60) each, with libFuzzer
FUZZ_SECONDS ?= 60
fuzz: test-deps
	@$(MAKE) -s CC=clang SANITIZER=$(FUZZ_SANITIZER) LIBFUZZER=1 fuzzers
	@FUZZ_ARGS="-max_total_time=$(FUZZ_SECONDS)" bash tests/run.sh build/fuzzer-no-link-address-undefined fuzz
# For `make test`: gcc's sanitizers and the seeded driver need no clang.
fuzz-smoke-build:
	@$(MAKE) -s SANITIZER=address,undefined fuzzers
	@mkdir -p $(OUT)/fuzz
	@cp build/address-undefined/fuzz/fuzz_* $(OUT)/fuzz/

## make check-deps    refuse includes that cross the components' borders
check-deps:
	@sh tools/check-deps.sh

## make install    to PREFIX (/usr/local), below DESTDIR
DESTDIR ?=
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/lib/pkgconfig \
		$(DESTDIR)$(PREFIX)/include
	install $(OUT)/cairn $(OUT)/cairn-mount $(DESTDIR)$(PREFIX)/bin
	install $(OUT)/cairn-master $(OUT)/cairn-chunkserver $(DESTDIR)$(PREFIX)/sbin
	ln -sf ../bin/cairn-mount $(DESTDIR)$(PREFIX)/sbin/mount.cairn
	install -m 644 $(OUT)/libcairn.a $(DESTDIR)$(PREFIX)/lib
	install $(OUT)/libcairn.so $(DESTDIR)$(PREFIX)/lib/libcairn.so.0
	ln -sf libcairn.so.0 $(DESTDIR)$(PREFIX)/lib/libcairn.so
	install -m 644 $(OUT)/cairn.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 client/cairn.h $(DESTDIR)$(PREFIX)/include

clean:
	rm -rf build

-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
.SECONDARY:
