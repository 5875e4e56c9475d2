/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the checkpoint stream: whole, in order, and never taken when damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "runtime/checkpoint/core.h"

static void pair(struct stream **a, struct stream **b)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	*a = stream_new_fd(fds[0]);
	*b = stream_new_fd(fds[1]);
}

static void test_frames_arrive_whole_and_in_order(void **state)
{
	static uint8_t page[16 * 4096];
	struct page_run run = { SPACE_PRIVATE, 7, 0x1000, 16 };
	struct error err = { 0 };
	struct stream *a, *b;
	struct frame f;

	(void)state;
	pair(&a, &b);
	for (size_t i = 0; i < sizeof(page); i++)
		page[i] = (uint8_t)(i * 7);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(
			stream_send(a, FRAME_PAGES, 0, &run, sizeof(run), page, sizeof(page), &err),
			0);
		assert_int_equal(
			stream_send(a, FRAME_PAGES, FRAME_ZERO, &run, sizeof(run), NULL, 0, &err),
			0);
		assert_int_equal(stream_flush(a, &err), 0);
		assert_int_equal(stream_recv(b, &f, &err), 0);
		assert_int_equal(f.len, sizeof(run) + sizeof(page));
		assert_memory_equal(f.data, &run, sizeof(run));
		assert_memory_equal(f.data + sizeof(run), page, sizeof(page));
		assert_int_equal(stream_recv(b, &f, &err), 0);
		assert_int_equal(f.flags, FRAME_ZERO);
		assert_int_equal(f.len, sizeof(run));
	}
	assert_int_equal(stream_bytes(a), stream_bytes(b));
	stream_close(a);
	assert_int_equal(stream_recv(b, &f, &err), -EPIPE);
	stream_close(b);
}

static void test_packed_pages_arrive_as_they_were(void **state)
{
	static uint8_t page[64 * 4096];
	struct page_run run = { SPACE_PRIVATE, 7, 0x1000, 64 };
	struct error err = { 0 };
	struct stream *a, *b;
	struct frame f;

	(void)state;
	pair(&a, &b);
	stream_pack(a, STREAM_PACK_ALWAYS);
	/* The second cannot be packed, and goes as it is. */
	for (int random = 0; random < 2; random++) {
		uint64_t x = 88172645463325252ull;

		for (size_t i = 0; i < sizeof(page); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			page[i] = random ? (uint8_t)x : (uint8_t)(i / 100);
		}
		assert_int_equal(
			stream_send(a, FRAME_PAGES, 0, &run, sizeof(run), page, sizeof(page), &err),
			0);
		assert_int_equal(stream_flush(a, &err), 0);
		assert_int_equal(stream_recv(b, &f, &err), 0);
		assert_int_equal(f.type, FRAME_PAGES);
		assert_int_equal(f.flags, 0);
		assert_int_equal(f.len, sizeof(run) + sizeof(page));
		assert_memory_equal(f.data, &run, sizeof(run));
		assert_memory_equal(f.data + sizeof(run), page, sizeof(page));
	}
	assert_int_equal(stream_bytes(a), stream_bytes(b));
	assert_int_equal(stream_plain_bytes(a), stream_plain_bytes(b));
	assert_true(stream_plain_bytes(a) > 2 * sizeof(page));
	assert_true(stream_bytes(a) < sizeof(page) + sizeof(page) / 8);
	stream_close(a);
	stream_close(b);
}

static void test_packed_pages_that_lie_are_refused(void **state)
{
	struct {
		uint32_t len;
		uint16_t type, flags;
		uint32_t crc;
		struct page_run run;
		uint8_t data[64];
	} frame = { sizeof(struct page_run) + 64, FRAME_PAGES, FRAME_ZSTD, 0, { 0 }, { 0 } };
	struct error err = { 0 };
	struct stream *a, *b;
	struct frame f;

	(void)state;
	/* Not zstd; a size of 2^64 - 1; a size that the content has not. */
	static const uint8_t heads[3][14] = {
		{ 1, 2, 3 },
		{ 0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		{ 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0x00, 0x10, 0x00, 0x00, 0x01 },
	};
	for (size_t i = 0; i < 3; i++) {
		pair(&a, &b);
		memcpy(frame.data, heads[i], sizeof(heads[i]));
		frame.crc = crc32c(0, &frame.run, frame.len);
		assert_int_equal(fd_write_all(stream_fd(a), &frame, 12 + frame.len), 0);
		assert_int_equal(stream_recv(b, &f, &err), -EBADMSG);
		stream_close(a);
		stream_close(b);
	}
}

static void test_damaged_frames_are_refused(void **state)
{
	struct {
		uint32_t len;
		uint16_t type, flags;
		uint32_t crc;
		char data[8];
	} frame = { 8, FRAME_TREE, 0, 0, "content" };
	struct error err = { 0 };
	struct stream *a, *b;
	struct frame f;

	(void)state;
	frame.crc = crc32c(0, frame.data, 8);
	for (int damage = 0; damage < 3; damage++) {
		pair(&a, &b);
		frame.data[3] = damage == 1 ? 'X' : 't';
		frame.len = damage == 2 ? ~0u : 8;
		assert_int_equal(fd_write_all(stream_fd(a), &frame, 20), 0);
		assert_int_equal(stream_recv(b, &f, &err), damage ? -EBADMSG : 0);
		stream_close(a);
		stream_close(b);
	}
}

static void test_hashes_and_checksums_tell_every_bit(void **state)
{
	static uint8_t page[4096];
	uint64_t zero = page_hash(page);

	(void)state;
	/* RFC 3720, B.4: 32 bytes of zeros. */
	assert_int_equal(crc32c(0, page, 32), 0x8a9136aa);
	assert_true(page_is_zero(page, 4096));
	for (size_t bit = 0; bit < 4096 * 8; bit++) {
		page[bit / 8] = (uint8_t)(1u << (bit % 8));
		assert_true(page_hash(page) != zero && !page_is_zero(page, 4096));
		page[bit / 8] = 0;
	}
}

static void test_sets_of_pages(void **state)
{
	struct pageset s = { 0 };

	(void)state;
	pageset_set(&s, 0x7f0000001000, 5000, true);
	pageset_set(&s, 0x7f0000001000 + 100 * PAGE, 700, false);
	for (uint64_t i = 0; i < 6000; i++)
		assert_int_equal(pageset_has(&s, 0x7f0000001000 + i * PAGE),
				 i < 100 || (i >= 800 && i < 5000));
	assert_false(pageset_has(&s, 0x7f0000000000));
	assert_false(pageset_any(&s, 0x7f0000001000 + 100 * PAGE, 700));
	assert_true(pageset_any(&s, 0x7f0000001000 + 100 * PAGE, 701));
	pageset_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_arrive_whole_and_in_order),
		cmocka_unit_test(test_packed_pages_arrive_as_they_were),
		cmocka_unit_test(test_packed_pages_that_lie_are_refused),
		cmocka_unit_test(test_damaged_frames_are_refused),
		cmocka_unit_test(test_hashes_and_checksums_tell_every_bit),
		cmocka_unit_test(test_sets_of_pages),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
