/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libaio with direct reads in flight all the time, of a few among many buffers: whatever
 * is read while the container moves is in memory afterwards, and no request is lost.
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "object.h"

#define BLOCK	4096u
#define BLOCKS	2048u
#define BUFFERS 512u
#define DEPTH	16

static uint64_t (*buffers)[BLOCK / 8];
static uint32_t holds[BUFFERS]; /* block that was read last into each; BLOCKS: none */
static bool busy[BUFFERS];

static void check_all(void)
{
	for (uint32_t b = 0; b < BUFFERS; b++)
		for (uint32_t k = 0; k < BLOCK / 8 && !busy[b] && holds[b] < BLOCKS; k++)
			CHECK(buffers[b][k] == holds[b] * 1000ull + k,
			      "buffer %u, block %u, word %u: %lu", b, holds[b], k, buffers[b][k]);
}

int main(int argc, char **argv)
{
	struct timespec none = { 0, 0 }, second = { 1, 0 };
	aio_context_t ctx = 0;
	int fd, out, in_flight = 0;
	uint32_t seed = 1;
	bool moved = false;
	sigset_t set;

	object_init(argc, argv);
	out = open("/data", O_RDWR | O_CREAT, 0600);
	buffers = mmap(NULL, BUFFERS * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	CHECK(out >= 0 && buffers != MAP_FAILED);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		for (uint32_t k = 0; k < BLOCK / 8; k++)
			buffers[0][k] = i * 1000ull + k;
		CHECK(pwrite(out, buffers[0], BLOCK, i * BLOCK) == BLOCK);
	}
	CHECK(fsync(out) == 0 && syscall(SYS_io_setup, DEPTH, &ctx) == 0);
	fd = open("/data", O_RDONLY | O_DIRECT);
	if (fd < 0) /* a file system without it: then through the page cache */
		fd = open("/data", O_RDONLY);
	CHECK(fd >= 0);
	for (uint32_t b = 0; b < BUFFERS; b++)
		holds[b] = BLOCKS;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	for (uint32_t n = 0; !moved || in_flight; n++) {
		struct io_event e;

		while (in_flight < DEPTH && !moved) {
			uint32_t b = (seed = seed * 1664525 + 1013904223) >> 8 & (BUFFERS - 1);
			struct iocb cb = { .aio_data = b,
					   .aio_lio_opcode = IOCB_CMD_PREAD,
					   .aio_fildes = (uint32_t)fd,
					   .aio_buf = (uintptr_t)buffers[b],
					   .aio_nbytes = BLOCK };
			struct iocb *list = &cb;

			if (busy[b])
				continue;
			holds[b] = seed >> 20 & (BLOCKS - 1);
			cb.aio_offset = (int64_t)holds[b] * BLOCK;
			busy[b] = true;
			CHECK(syscall(SYS_io_submit, ctx, 1, &list) == 1);
			in_flight++;
		}
		while (syscall(SYS_io_getevents, ctx, 1, 1, &e, &second) == 1) {
			CHECK(e.res == BLOCK);
			busy[e.data] = false;
			in_flight--;
			if (in_flight < DEPTH / 2)
				break;
		}
		if (n == 2000)
			object_ready();
		if (n % 64 == 0 && n >= 2000)
			moved |= sigtimedwait(&set, NULL, &none) == SIGUSR2;
	}
	check_all();
	return 0;
}
