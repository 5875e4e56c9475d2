/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a checkpoint in a file, looked into as `ferry-checkpoint --inspect` and
 * `prepare … load` do before anything is built. Checksums are set right first, or no
 * mutation would get past the frames; every other input is taken as it is.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/str.h"
#include "runtime/checkpoint/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct header {
	uint32_t len;
	uint16_t type, flags;
	uint32_t crc;
};

static void mend(uint8_t *data, size_t size)
{
	for (size_t at = 0; at + sizeof(struct header) <= size;) {
		struct header h;

		memcpy(&h, data + at, sizeof(h));
		if (h.len > size - at - sizeof(h))
			h.len = (uint32_t)(size - at - sizeof(h));
		h.crc = crc32c(0, data + at + sizeof(h), h.len);
		memcpy(data + at, &h, sizeof(h));
		at += sizeof(h) + h.len;
	}
}

/* All of it by another way: the passes must agree. */
static int by_pipe(int fd, size_t size, struct error *err)
{
	json_t *args = json_pack("{s:b,s:s}", "allow_unsigned", 1, "spool", "/tmp");
	struct load *l = NULL;
	int fds[2], r;

	/* one that fits is enough: nobody reads while it is written */
	if (size > 60000 || pipe(fds) < 0) {
		json_decref(args);
		return 1;
	}
	for (uint8_t buf[4096];;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n <= 0)
			break;
		fd_write_all(fds[1], buf, (size_t)n);
	}
	close(fds[1]);
	json_object_set_new(args, "fd", json_integer(fds[0]));
	r = load_open(args, &l, err);
	json_decref(args);
	if (r < 0)
		return r;
	while (r == 0 && !load_ready(l))
		r = load_pump(l, err);
	load_free(l);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("checkpoint", MFD_CLOEXEC), r, piped;
	uint8_t *copy = malloc(size + 1);
	struct error err = { 0 }, second = { 0 };
	json_t *out = NULL;
	char path[64];

	if (fd < 0 || !copy)
		abort();
	memcpy(copy, data, size);
	if (size && data[size - 1] != 0xff)
		mend(copy, size);
	if (fd_write_all(fd, copy, size) < 0)
		abort();
	free(copy);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = file_inspect(path, NULL, &out, &err);
	if (r < 0 ? !err.code : !out || !json_is_array(json_object_get(out, "processes")))
		abort(); /* a refusal has a reason, anything else a report */
	json_decref(out);
	lseek(fd, 0, SEEK_SET);
	piped = by_pipe(fd, size, &second);
	/* a pipe may go on behind the signature, a file may not */
	if (r == 0 && piped < 0)
		abort();
	close(fd);
	return 0;
}
