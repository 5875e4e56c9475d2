/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libaio: contexts keep their addresses, events that were not fetched, and their place in
 * the ring; requests in flight at the move end before it.
 */
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>

#include "object.h"

static int file;
static char buf[8][4096] __attribute__((aligned(4096)));

static void submit(aio_context_t ctx, int n, uint64_t data, int eventfd)
{
	struct iocb cb = { .aio_data = data,
			   .aio_lio_opcode = IOCB_CMD_PREAD,
			   .aio_fildes = (uint32_t)file,
			   .aio_buf = (uintptr_t)buf[n % 8],
			   .aio_nbytes = (uint64_t)(100 + n),
			   .aio_offset = n * 100,
			   .aio_flags = eventfd >= 0 ? IOCB_FLAG_RESFD : 0,
			   .aio_resfd = (uint32_t)eventfd };
	struct iocb *list = &cb;

	CHECK(syscall(SYS_io_submit, ctx, 1, &list) == 1);
}

static struct io_event fetch(aio_context_t ctx)
{
	struct timespec second = { 1, 0 };
	struct io_event e = { 0 };

	CHECK(syscall(SYS_io_getevents, ctx, 1, 1, &e, &second) == 1);
	return e;
}

int main(int argc, char **argv)
{
	aio_context_t small = 0, large = 0, gone = 0;
	struct timespec now = { 0, 0 };
	struct io_event e;
	int told = eventfd(0, EFD_NONBLOCK);
	uint64_t count;

	object_init(argc, argv);
	file = open("/tmp/data", O_RDWR | O_CREAT, 0600);
	CHECK(file >= 0 && ftruncate(file, 100000) == 0);
	for (int i = 0; i < 1000; i++)
		CHECK(pwrite(file, &i, sizeof(i), i * 100) == sizeof(i));
	CHECK(syscall(SYS_io_setup, 10, &gone) == 0 && syscall(SYS_io_setup, 500, &large) == 0);
	CHECK(syscall(SYS_io_setup, 64, &small) == 0 && syscall(SYS_io_destroy, gone) == 0);
	/* 300 through the large one, so that its ends are somewhere in the ring */
	for (int i = 0; i < 300; i++) {
		submit(large, i, (uint64_t)i, -1);
		if (i < 293)
			CHECK(fetch(large).data == (uint64_t)i);
	}
	submit(small, 5, 0xabcdef0123456789, told);
	object_move();
	for (int i = 293; i < 300; i++) {
		e = fetch(large);
		CHECK(e.data == (uint64_t)i && e.res == 100 + i, "event %d: %llu %lld", i, e.data,
		      e.res);
	}
	e = fetch(small);
	CHECK(e.data == 0xabcdef0123456789 && e.res == 105);
	CHECK(read(told, &count, 8) == 8 && count == 1);
	CHECK(syscall(SYS_io_getevents, small, 0, 1, &e, &now) == 0);
	/* both go on, all the way round */
	for (int i = 0; i < 3000; i++) {
		aio_context_t ctx = i % 2 ? large : small;

		submit(ctx, i % 500, (uint64_t)i, told);
		e = fetch(ctx);
		CHECK(e.data == (uint64_t)i && e.res == 100 + i % 500 &&
		      *(int *)(void *)buf[i % 500 % 8] == i % 500);
	}
	CHECK(read(told, &count, 8) == 8 && count == 3000);
	CHECK(syscall(SYS_io_destroy, small) == 0 && syscall(SYS_io_destroy, large) == 0);
	return 0;
}
