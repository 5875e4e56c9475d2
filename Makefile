# SPDX-License-Identifier: Apache-2.0
# ferry's build. Sources are found by folder, so a new
# file is built without being listed. B is the build folder (several may live side by
# side: make B=build-volumes), S=asan or S=tsan picks a sanitizer.
B	?= build$(if $(S),-$(S))
CC	?= gcc
Q	:= $(if $(V),,@)
CFLAGS	?= -O2 -g
WARN	:= -std=gnu17 -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror
PKGS	:= jansson openssl libcap libseccomp libarchive libzstd zlib fuse3 libnl-3.0 \
	   libnl-route-3.0 libbpf sqlite3 libcurl libmicrohttpd libprotobuf-c liburing yaml-0.1
SAN_asan := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN_tsan := -fsanitize=thread
ALL_CFLAGS := $(WARN) $(CFLAGS) $(SAN_$(S)) -pthread -D_GNU_SOURCE -I. -I$(B) -MMD -MP \
	   $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
ALL_LDFLAGS := $(LDFLAGS) $(SAN_$(S)) -pthread

# --- libraries, one archive a part -------------------------------------------------
PARTS	:= base oci image checkpoint container volumes netd fabric
DIR_base := base
DIR_oci := runtime/oci
DIR_image := runtime/image
DIR_checkpoint := runtime/checkpoint runtime/checkpoint/arch/x86_64
DIR_container := runtime/container
DIR_volumes := volumes volumes/vold
DIR_netd := netd
DIR_fabric := fabric
# Files named main.c, or *-main.c, hold a program's main() and stay out of the archives.
part_src = $(filter-out %main.c,$(wildcard $(addsuffix /*.c,$(DIR_$(1)))))
part_obj = $(patsubst %.c,$(B)/%.o,$(call part_src,$(1)))
PROTO	:= $(patsubst %.proto,$(B)/%.pb-c.o,$(wildcard runtime/checkpoint/*.proto))
BPF	:= $(patsubst %.bpf.c,$(B)/%.skel.h,$(wildcard netd/bpf/*.bpf.c runtime/checkpoint/bpf/*.bpf.c))

# --- programs: name, main file, archives, libraries --------------------------------
PROGRAMS :=
define program # name, sources, parts, libs
ifneq ($(wildcard $(firstword $(2))),)
PROGRAMS += $(B)/$(1)
$(B)/$(1): $(patsubst %.c,$(B)/%.o,$(2)) $(addprefix $(B)/lib,$(addsuffix .a,$(3)))
	@mkdir -p $$(@D)
	$$(Q)echo '  LINK	$$@'; $$(CC) -o $$@ $(patsubst %.c,$(B)/%.o,$(2)) -Wl,--start-group $(addprefix $(B)/lib,$(addsuffix .a,$(3))) -Wl,--end-group $$(ALL_LDFLAGS) $(4)
endif
endef
all_libs := -ljansson -lssl -lcrypto -lcap -lseccomp -larchive -lzstd -lz -lnl-route-3 -lnl-3 -lbpf -lsqlite3 -lcurl -lmicrohttpd -lprotobuf-c -lrados -lrbd -lldns -lyaml
$(eval $(call program,ferry-oci,runtime/oci/main.c,oci base,-ljansson -lcap -lseccomp))
$(eval $(call program,ferry-shim,runtime/container/shim-main.c,container base,-ljansson))
$(eval $(call program,ferry-checkpoint,runtime/checkpoint/main.c,checkpoint base,-ljansson -lssl -lcrypto -lprotobuf-c -lbpf -lzstd -lcap -lnl-3))
$(eval $(call program,ferry-vold,volumes/vold/main.c,volumes base,-ljansson -lrados -lrbd -lfuse3 -luring))
$(eval $(call program,ferryd,api/main.c $(filter-out api/main.c,$(wildcard api/*.c api/docker/*.c api/ferry/*.c api/plugin/*.c)),fabric container oci image volumes netd checkpoint base,$(all_libs)))
$(eval $(call program,ferry,api/cli/main.c $(filter-out api/cli/main.c,$(wildcard api/cli/*.c)),base,-ljansson -lcurl -lssl -lcrypto))

# Programs of the tests and benchmarks: built by all, not installed.
$(eval $(call program,tests/volctl,tests/lab/volctl.c,volumes base,-ljansson -lrados -lrbd -lfuse3))
$(eval $(call program,tests/tlscopy,tests/bench/tlscopy.c,base,-ljansson -lssl -lcrypto))
$(eval $(call program,tests/subject,tests/bench/subject.c,,))
$(eval $(call program,tests/load,tests/lab/load.c,base,-ljansson -lcurl -lhiredis))
$(eval $(call program,tests/dirty,tests/lab/dirty.c,,))
$(eval $(call program,tests/tally,tests/lab/tally.c,base,-ljansson))

all: $(PROGRAMS)
PROGRAMS := $(filter-out $(B)/tests/%,$(PROGRAMS))
.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:

define archive
$(B)/lib$(1).a: $(call part_obj,$(1)) $(if $(filter checkpoint,$(1)),$(PROTO))
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$^
endef
$(foreach p,$(PARTS),$(eval $(call archive,$(p))))

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)echo '  CC	$<'; $(CC) $(ALL_CFLAGS) -c -o $@ $<
$(B)/%.pb-c.c $(B)/%.pb-c.h: %.proto
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=. --c_out=$(B) $<
$(B)/%.pb-c.o: $(B)/%.pb-c.c
	$(Q)$(CC) $(filter-out -Werror,$(ALL_CFLAGS)) -w -c -o $@ $<
$(call part_obj,checkpoint): $(PROTO:.o=.h) $(filter $(B)/runtime/%,$(BPF))
$(call part_obj,netd): $(filter $(B)/netd/%,$(BPF))

$(B)/api/ferry/openapi.o: docs/api/openapi.json

# --- BPF: object by clang, skeleton by bpftool; types from the running kernel --------
BPFTOOL := $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool) bpftool)
$(B)/bpf/vmlinux.h:
	@mkdir -p $(@D)
	$(Q)$(BPFTOOL) btf dump file /sys/kernel/btf/vmlinux format c >$@
$(B)/%.bpf.o: %.bpf.c $(B)/bpf/vmlinux.h $(wildcard netd/bpf/*.h runtime/checkpoint/bpf/*.h)
	@mkdir -p $(@D)
	$(Q)echo '  BPF	$<'; clang -O2 -g -target bpf -D__TARGET_ARCH_x86 -I. -I$(B)/bpf -Wall -Werror -c -o $@ $<
$(B)/%.skel.h: $(B)/%.bpf.o
	$(Q)(echo '/* NOLINTBEGIN: generated */' && $(BPFTOOL) gen skeleton $< && echo '/* NOLINTEND */') >$@

# --- tests ---------------------------------------------------------------------------
# tests/unit/PART/test_x.c: one cmocka program each, linked with every part it may use.
UNIT	:= $(patsubst %.c,$(B)/%,$(wildcard tests/unit/*/test_*.c))
unit_parts = $(if $(filter fabric,$(1)),fabric container oci image volumes netd checkpoint base,$(if $(filter base,$(1)),base,$(1) base))
.SECONDEXPANSION:
$(UNIT): $(B)/tests/unit/%: $(B)/tests/unit/%.o $$(addprefix $(B)/lib,$$(addsuffix .a,$$(call unit_parts,$$(firstword $$(subst /, ,$$*)))))
	$(Q)echo '  LINK	$@'; $(CC) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(ALL_LDFLAGS) -lcmocka $(all_libs) -lfuse3 -luring

$(filter $(B)/tests/unit/oci/% $(B)/tests/unit/container/%,$(UNIT)): | $(B)/ferry-oci $(B)/ferry-shim

unit: $(UNIT)

# tests/lab/objects/: one small program for each kernel object that must travel; run by 65-objects.t.
OBJECTS := $(patsubst tests/lab/objects/%.c,$(B)/tests/objects/%,$(wildcard tests/lab/objects/*.c))
$(OBJECTS): $(B)/tests/objects/%: tests/lab/objects/%.c $(wildcard tests/lab/objects/*.h)
	@mkdir -p $(@D)
	$(Q)$(CC) $(WARN) -O1 -pthread -D_GNU_SOURCE -o $@ $<
objects: $(OBJECTS)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
-include tests/targets.mk

clean:
	rm -rf build build-asan build-tsan
.PHONY: all unit objects clean
