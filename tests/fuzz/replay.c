// SPDX-License-Identifier: Apache-2.0
/*
 * Replays a fuzz corpus without a fuzzer: feeds every file named on the command line to the
 * target's LLVMFuzzerTestOneInput(), so that inputs which once broke a parser stay tested in `make
 * test` (built with gcc and the sanitizers; clang's libFuzzer brings its own main for hunting new
 * ones).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
	FILE *f = fopen(path, "re");
	uint8_t *data = NULL;
	size_t size = 0, capacity = 0, n;

	if (!f) {
		perror(path);
		return 1;
	}
	do {
		if (size == capacity) {
			uint8_t *more = realloc(data, capacity = capacity ? capacity * 2 : 65536);

			if (!more)
				abort();
			data = more;
		}
		n = fread(data + size, 1, capacity - size, f);
		size += n;
	} while (n > 0);
	fclose(f);
	/* An exact-size copy, so that reading past the input's end is seen by ASan. */
	data = realloc(data, size ? size : 1);
	if (!data)
		abort();
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= replay(argv[i]);
	return failed;
}
