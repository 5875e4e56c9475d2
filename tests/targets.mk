# SPDX-License-Identifier: Apache-2.0
# Everything but building: dependencies, tests, checks, installation, demo, benchmarks. Included by the
# root Makefile. Targets that need packages first install what is missing (tests/packages) and then call
# make anew, because pkg-config was asked when the Makefile was read.
JOBS	?= $(shell nproc)
PREFIX	?= /usr/local
REMAKE	= +@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))
PROVE	:= prove --timer --failures --comments
BINDIR	:= $(abspath $(B))

# `make` on a bare machine says what is missing instead of a page of compiler errors.
ifneq ($(filter all unit install,$(or $(MAKECMDGOALS),all)),)
MISSING := $(shell tests/deps --missing build)
ifneq ($(MISSING),)
$(error ferry needs these Debian packages, which "make deps" installs: $(MISSING))
endif
endif

deps:
	@tests/deps build test

# --- tests ---------------------------------------------------------------------------
# The whole of it, as CI runs it.
test:
	$(REMAKE) deps
	$(REMAKE) all
	$(REMAKE) test-unit
	$(REMAKE) test-asan
	$(REMAKE) test-lab

test-unit: unit
	@echo "== unit tests"
	$(if $(UNIT),@CMOCKA_MESSAGE_OUTPUT=TAP $(PROVE) --exec 'timeout -k 10 300' $(UNIT))

# Unit tests and fuzz corpora with AddressSanitizer and UndefinedBehaviorSanitizer.
test-asan:
	$(REMAKE) S=asan B=$(B)-asan unit fuzz
	$(REMAKE) S=asan B=$(B)-asan prove-asan
prove-asan:
	@echo "== unit tests under ASan and UBSan"
	$(if $(UNIT),@CMOCKA_MESSAGE_OUTPUT=TAP ASAN_OPTIONS=$(ASAN_OPTIONS) UBSAN_OPTIONS=print_stacktrace=1 \
		$(PROVE) --exec 'timeout -k 10 600' $(UNIT))
	$(if $(FUZZ),@echo "== fuzz corpora")
	@for f in $(FUZZ); do \
		n=$$(basename $$f); \
		[ ! -d tests/fuzz/corpus/$$n ] || ASAN_OPTIONS=$(ASAN_OPTIONS) timeout -k 10 300 $$f tests/fuzz/corpus/$$n/* || exit 1; \
		echo "ok - $$n"; \
	done
ASAN_OPTIONS ?= detect_leaks=1:halt_on_error=1:strict_string_checks=1:detect_stack_use_after_return=0

# tests/fuzz/X.c defines LLVMFuzzerTestOneInput; replay.c feeds it the files of tests/fuzz/corpus/X.
FUZZ	:= $(patsubst %.c,$(B)/%,$(filter-out tests/fuzz/replay.c,$(wildcard tests/fuzz/*.c)))
fuzz: $(FUZZ)
$(B)/tests/fuzz/api_request: $(addprefix $(B)/api/,route.o query.o frames.o)
$(FUZZ): $(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/tests/fuzz/replay.o $(addprefix $(B)/lib,$(addsuffix .a,$(PARTS)))
	$(CC) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(ALL_LDFLAGS) $(all_libs) -lfuse3 -luring

# Whole-system tests: LAB=tests/lab/10-x.t picks some. A hanging one is ended (and cleans up) after 15 minutes.
LAB	?= $(sort $(wildcard tests/lab/*.t))
test-lab: all objects
	@echo "== whole-system tests"
	@FERRY_BIN=$(BINDIR) $(PROVE) --exec 'timeout -k 60 900' $(LAB)

# Unit tests on Debian's kernels 6.1 and 6.12 with cgroup v2 alone, in QEMU without KVM: half an hour and more.
# KERNELS=tests/kernels/linux-6.1.t picks one, KERNEL_TESTS="checkpoint/test_mem" what runs there.
KERNELS	?= $(sort $(wildcard tests/kernels/*.t))
test-kernels:
	@tests/deps build test kernels
	$(REMAKE) all unit
	@echo "== unit tests on other kernels"
	@FERRY_BIN=$(BINDIR) $(PROVE) --exec 'timeout -k 60 10800' $(KERNELS)

# --- checks --------------------------------------------------------------------------
# What protoc-c and bpftool write into $(B) is not checked (PROTOBUF_C_* keep cppcheck from stopping at
# their version checks).
SOURCES	= $(shell git ls-files '*.c' '*.h' 2>/dev/null | grep -v '\.bpf\.c$$')
check:
	@tests/deps build check
	$(REMAKE) all
	$(REMAKE) -k check-layers check-format check-cppcheck check-tidy
check-layers:
	@tests/check-layers && echo "ok - layers"
check-format:
	@clang-format --dry-run -Werror $(SOURCES) && echo "ok - format"
check-cppcheck:
	@cppcheck -q --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 -I. -I$(B) \
		-D_GNU_SOURCE -DPROTOBUF_C_VERSION_NUMBER=1999999 -DPROTOBUF_C_MIN_COMPILER_VERSION=0 \
		'--suppress=*:$(B)/*' --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=normalCheckLevelMaxBranches \
		-i tests/fuzz $(filter-out tests/%,$(filter %.c,$(SOURCES))) && echo "ok - cppcheck"
check-tidy:
	@printf '%s\n' $(filter-out tests/%,$(filter %.c,$(SOURCES))) | xargs -P $(JOBS) -n 4 sh -c \
		'clang-tidy --quiet "$$@" -- $(filter-out -MMD -MP -Werror,$(ALL_CFLAGS)) 2>/dev/null' sh && echo "ok - clang-tidy"

# --- installation, demo, benchmarks ----------------------------------------------------
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/ferry
	install $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(wildcard README.md LICENSE docs/*.md) $(DESTDIR)$(PREFIX)/share/doc/ferry

# From a bare machine to the report: the lab, PostgreSQL under load, live migrations.
demo:
	$(REMAKE) deps
	$(REMAKE) all
	@FERRY_BIN=$(BINDIR) tests/lab/demo

# BENCH=name picks one.
bench:
	$(REMAKE) deps
	$(REMAKE) all
	@FERRY_BIN=$(BINDIR) tests/bench/run $(BENCH)

.PHONY: deps test test-unit test-asan prove-asan fuzz test-lab test-kernels check check-layers check-format check-cppcheck check-tidy install demo bench
