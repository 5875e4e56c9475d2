# SPDX-License-Identifier: Apache-2.0
# Fuzz targets: each tests/fuzz/NAME.c defines LLVMFuzzerTestOneInput and has a corpus in
# tests/fuzz/corpus/NAME. `make fuzz` builds each with replay.c, under ASan and UBSan, and
# runs it over its corpus. Included by the lead; needs B, WARN, SAN_asan of the Makefile.
FUZZ	:= $(filter-out replay,$(basename $(notdir $(wildcard tests/fuzz/*.c))))
FUZZ_BIN := $(addprefix $(B)/tests/fuzz/,$(FUZZ))
# What a target is made from, besides base: FUZZ_SRC_NAME.
FUZZ_SRC_image_manifest := $(addprefix runtime/image/,manifest.c ref.c digest.c)

$(FUZZ_BIN): $(B)/tests/fuzz/%: tests/fuzz/%.c tests/fuzz/replay.c $(wildcard base/*.c base/*.h) \
		$(wildcard runtime/image/*.c runtime/image/*.h)
	@mkdir -p $(@D)
	$(CC) $(WARN) -O1 -g -pthread -D_GNU_SOURCE -I. $(SAN_asan) -o $@ $< tests/fuzz/replay.c \
		$(FUZZ_SRC_$*) $(addprefix base/,error.c fd.c str.c json.c log.c) \
		-ljansson -lcrypto $(FUZZ_LIBS_$*)

fuzz: $(FUZZ_BIN)
	@for f in $(FUZZ); do echo "# $$f"; $(B)/tests/fuzz/$$f tests/fuzz/corpus/$$f || exit 1; done
.PHONY: fuzz
