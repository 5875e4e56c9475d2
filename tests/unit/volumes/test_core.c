// SPDX-License-Identifier: Apache-2.0
/*
 * The gate of a vold over a file image: which requests reach the image in which mode, and
 * that none does after a demote. Two cores on one file play two hosts.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "volumes/vold/core.h"

#define SIZE (4u << 20)

struct fixture {
	char dir[64];
	char *path, *image;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	strcpy(f->dir, "/tmp/ferry-vol-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->path = str_format("%s/image", f->dir);
	f->image = str_format("file:%s", f->path);
	fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	dir_remove(f->dir, NULL);
	free(f->path);
	free(f->image);
	free(f);
	return 0;
}

static struct core *open_core(struct fixture *f, const char *mode)
{
	struct vold_options o = {
		.name = "v", .host = "a", .image = f->image, .mode = mode, .overlay_bytes = 1 << 20
	};
	struct error err = { 0 };
	struct core *c = NULL;

	if (core_open(&o, &c, &err))
		fail_msg("%s", err.msg);
	return c;
}

/* --- a request that is waited for ----------------------------------------------------------- */

struct call {
	struct vold_io io; /* first */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int res;
};

static void call_done(struct vold_io *io, int res)
{
	struct call *c = (struct call *)io;

	pthread_mutex_lock(&c->lock);
	c->done = true;
	c->res = res;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static void call_start(struct core *core, struct call *c, enum vold_op op, uint64_t off, size_t len,
		       void *buf)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->cond, NULL);
	c->io.op = op;
	c->io.offset = off;
	c->io.length = len;
	c->io.buf = buf;
	c->io.done = call_done;
	core_submit(core, &c->io);
}

static int call_wait(struct call *c)
{
	pthread_mutex_lock(&c->lock);
	while (!c->done)
		pthread_cond_wait(&c->cond, &c->lock);
	pthread_mutex_unlock(&c->lock);
	return c->res;
}

static int io(struct core *core, enum vold_op op, uint64_t off, size_t len, void *buf)
{
	struct call c;

	call_start(core, &c, op, off, len, buf);
	return call_wait(&c);
}

static int put(struct core *core, uint64_t block, char fill)
{
	char buf[VOLD_BLOCK];

	memset(buf, fill, sizeof(buf));
	return io(core, VOLD_WRITE, block * VOLD_BLOCK, sizeof(buf), buf);
}

static int get(struct core *core, uint64_t block)
{
	char buf[VOLD_BLOCK];
	int rc = io(core, VOLD_READ, block * VOLD_BLOCK, sizeof(buf), buf);

	return rc ? rc : buf[17];
}

/* What the image itself holds. */
static int raw(struct fixture *f, uint64_t block)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);
	char c = 0;

	assert_int_equal(pread(fd, &c, 1, (off_t)(block * VOLD_BLOCK) + 17), 1);
	close(fd);
	return c;
}

static const char *mode(struct core *c, char out[32])
{
	CLEANUP_JSON json_t *st = core_status(c);

	snprintf(out, 32, "%s", json_str(st, "mode", "?"));
	return out;
}

#define assert_mode(c, m)                                                                          \
	do {                                                                                       \
		char _m[32];                                                                       \
		assert_string_equal(mode((c), _m), (m));                                           \
	} while (0)

/* --- the promises --------------------------------------------------------------------------- */

static void test_rw_writes_and_reads_the_image(void **state)
{
	struct core *c = open_core(*state, "rw");

	assert_mode(c, "rw");
	assert_int_equal(put(c, 3, 'a'), 0);
	assert_int_equal(get(c, 3), 'a');
	assert_int_equal(raw(*state, 3), 'a');
	assert_int_equal(io(c, VOLD_ZERO, 3 * VOLD_BLOCK, VOLD_BLOCK, NULL), 0);
	assert_int_equal(raw(*state, 3), 0);
	assert_int_equal(io(c, VOLD_FLUSH, 0, 0, NULL), 0);
	core_close(c);
}

static void test_lock_is_exclusive(void **state)
{
	struct fixture *f = *state;
	struct vold_options o = {
		.name = "v", .host = "b", .image = f->image, .mode = "rw", .overlay_bytes = 1 << 20
	};
	struct core *a = open_core(f, "rw"), *b = NULL;
	struct error err = { 0 };

	assert_int_equal(core_open(&o, &b, &err), -EBUSY);
	b = open_core(f, "standby");
	assert_int_equal(core_promote(b, false, false, &err), -EBUSY);
	assert_mode(b, "standby");
	core_close(a);
	assert_int_equal(core_promote(b, false, false, &err), 0);
	core_close(b);
}

static void test_standby_and_ro_cannot_write(void **state)
{
	struct core *a = open_core(*state, "standby"), *b = open_core(*state, "ro");

	assert_int_equal(put(a, 1, 'x'), -EROFS);
	assert_int_equal(io(a, VOLD_ZERO, 0, VOLD_BLOCK, NULL), -EROFS);
	assert_int_equal(put(b, 1, 'x'), -EROFS);
	assert_int_equal(get(a, 1), 0);
	assert_int_equal(raw(*state, 1), 0);
	assert_true(core_read_only(b));
	core_close(a);
	core_close(b);
}

static void test_demoted_cannot_write_until_retaken(void **state)
{
	struct core *c = open_core(*state, "rw");
	struct error err = { 0 };

	assert_int_equal(put(c, 0, 'a'), 0);
	assert_int_equal(core_demote(c, 1000000000, false, &err), 0);
	assert_mode(c, "demoted");
	assert_int_equal(put(c, 0, 'b'), -EIO);
	assert_int_equal(io(c, VOLD_FLUSH, 0, 0, NULL), -EIO);
	assert_int_equal(get(c, 0), 'a');
	assert_int_equal(core_demote(c, 1000000000, false, &err), 0); /* again */
	assert_int_equal(core_retake(c, &err), 0);
	assert_int_equal(core_retake(c, &err), 0);
	assert_int_equal(put(c, 0, 'c'), 0);
	assert_int_equal(raw(*state, 0), 'c');
	core_close(c);
}

static void test_retake_is_refused_after_another_wrote(void **state)
{
	struct core *a = open_core(*state, "rw"), *b = open_core(*state, "standby");
	struct error err = { 0 };

	assert_int_equal(core_demote(a, 1000000000, false, &err), 0);
	assert_int_equal(core_promote(b, false, false, &err), 0);
	assert_int_equal(core_retake(a, &err), -EBUSY);
	core_close(b);
	assert_int_equal(core_retake(a, &err), -ESTALE);
	assert_mode(a, "demoted");
	assert_int_equal(put(a, 0, 'x'), -EIO);
	core_close(a);
}

static void test_tentative_writes_stay_off_the_image(void **state)
{
	struct core *a = open_core(*state, "rw"), *b = open_core(*state, "standby");
	struct error err = { 0 };

	assert_int_equal(put(a, 1, 'a'), 0);
	assert_int_equal(core_demote(a, 1000000000, false, &err), 0);
	assert_int_equal(core_promote(b, true, false, &err), 0);
	assert_mode(b, "tentative");
	assert_int_equal(put(b, 1, 'b'), 0);
	assert_int_equal(io(b, VOLD_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(get(b, 1), 'b');
	assert_int_equal(raw(*state, 1), 'a');
	assert_int_equal(core_demote(b, 1000000000, false, &err), -EINVAL);
	assert_int_equal(core_abandon(b, &err), 0);
	assert_mode(b, "standby");
	assert_int_equal(get(b, 1), 'a');
	assert_int_equal(put(b, 1, 'c'), -EROFS);
	/* The old owner goes on as if nothing had happened. */
	assert_int_equal(core_retake(a, &err), 0);
	assert_int_equal(raw(*state, 1), 'a');
	core_close(a);
	core_close(b);
}

/* The lock changes hands while the new owner works already; each side may still go back. */
static void test_nothing_lands_before_the_lock_is_claimed(void **state)
{
	struct core *a = open_core(*state, "rw"), *b = open_core(*state, "standby");
	struct error err = { 0 };

	assert_int_equal(put(a, 1, 'a'), 0);
	assert_int_equal(core_promote(b, false, true, &err), -EINVAL);
	assert_int_equal(core_demote(a, 1000000000, true, &err), 0);
	assert_mode(a, "demoted");
	assert_int_equal(put(a, 1, 'x'), -EIO);
	assert_int_equal(core_promote(b, true, true, &err), 0);
	assert_mode(b, "tentative");
	assert_int_equal(put(b, 1, 'b'), 0);
	assert_int_equal(core_claim(b, &err), -EBUSY); /* a has it still */
	assert_int_equal(core_settle(b, &err), -EBUSY);
	assert_int_equal(raw(*state, 1), 'a');
	/* Back: a never gave it away, b has nothing to give. */
	assert_int_equal(core_abandon(b, &err), 0);
	assert_int_equal(core_retake(a, &err), 0);
	assert_int_equal(put(a, 2, 'a'), 0);
	/* Forward. */
	assert_int_equal(core_demote(a, 1000000000, true, &err), 0);
	assert_int_equal(core_promote(b, true, true, &err), 0);
	assert_int_equal(put(b, 1, 'b'), 0);
	assert_int_equal(core_demote(a, 1000000000, false, &err), 0);
	assert_int_equal(core_claim(b, &err), 0);
	assert_int_equal(core_claim(b, &err), 0); /* again */
	assert_int_equal(core_retake(a, &err), -EBUSY);
	assert_int_equal(raw(*state, 1), 'a');
	assert_int_equal(core_settle(b, &err), 0);
	assert_int_equal(raw(*state, 1), 'b');
	assert_int_equal(raw(*state, 2), 'a');
	core_close(a);
	core_close(b);
}

static void test_reads_mix_overlay_and_image(void **state)
{
	struct core *c = open_core(*state, "standby");
	struct error err = { 0 };
	char buf[3 * VOLD_BLOCK];

	assert_int_equal(core_promote(c, false, false, &err), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(put(c, i, (char)('a' + i)), 0);
	core_close(c);
	c = open_core(*state, "standby");
	assert_int_equal(core_promote(c, true, false, &err), 0);
	assert_int_equal(put(c, 1, 'X'), 0);
	assert_int_equal(io(c, VOLD_READ, 0, sizeof(buf), buf), 0);
	assert_int_equal(buf[0], 'a');
	assert_int_equal(buf[VOLD_BLOCK], 'X');
	assert_int_equal(buf[2 * VOLD_BLOCK], 'c');
	core_close(c);
	assert_int_equal(raw(*state, 1), 'b'); /* ended without settle: dropped */
}

static void test_settle_lands_everything(void **state)
{
	struct core *c = open_core(*state, "standby");
	struct error err = { 0 };

	assert_int_equal(core_promote(c, true, false, &err), 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(put(c, i, (char)(i + 1)), 0);
		if (i % 10 == 0)
			assert_int_equal(io(c, VOLD_FLUSH, 0, 0, NULL), 0);
	}
	assert_int_equal(put(c, 5, 'z'), 0);
	assert_int_equal(core_settle(c, &err), 0);
	assert_int_equal(core_settle(c, &err), 0);
	assert_mode(c, "rw");
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(raw(*state, i), i == 5 ? 'z' : (int)(i + 1));
	assert_int_equal(put(c, 6, 'y'), 0);
	assert_int_equal(raw(*state, 6), 'y');
	core_close(c);
}

static void test_writes_past_the_bound_wait_for_settle(void **state)
{
	struct core *c = open_core(*state, "standby");
	struct error err = { 0 };
	static char big[VOLD_MAX_IO], more[VOLD_BLOCK];
	struct call write, flush;

	memset(big, 'B', sizeof(big));
	memset(more, 'M', sizeof(more));
	assert_int_equal(core_promote(c, true, false, &err), 0);
	assert_int_equal(io(c, VOLD_WRITE, 0, sizeof(big), big), 0); /* fills the overlay */
	call_start(c, &write, VOLD_WRITE, VOLD_MAX_IO, sizeof(more), more);
	call_start(c, &flush, VOLD_FLUSH, 0, 0, NULL);
	assert_false(write.done);
	assert_false(flush.done); /* it must not overtake the write */
	assert_int_equal(core_settle(c, &err), 0);
	assert_int_equal(call_wait(&write), 0);
	assert_int_equal(call_wait(&flush), 0);
	assert_int_equal(raw(*state, 0), 'B');
	assert_int_equal(raw(*state, VOLD_MAX_IO / VOLD_BLOCK), 'M');
	core_close(c);
}

static void test_waiting_writes_fail_when_abandoned(void **state)
{
	struct core *c = open_core(*state, "standby");
	struct error err = { 0 };
	static char big[VOLD_MAX_IO];
	struct call write;

	assert_int_equal(core_promote(c, true, false, &err), 0);
	memset(big, 'B', sizeof(big));
	assert_int_equal(io(c, VOLD_WRITE, 0, sizeof(big), big), 0);
	call_start(c, &write, VOLD_WRITE, VOLD_MAX_IO, VOLD_BLOCK, big);
	assert_int_equal(core_abandon(c, &err), 0);
	assert_int_equal(call_wait(&write), -EIO);
	assert_int_equal(raw(*state, 0), 0);
	core_close(c);
}

static void test_shut_core_answers_eio(void **state)
{
	struct core *c = open_core(*state, "rw");
	struct error err = { 0 };

	core_shut(c, "because");
	assert_mode(c, "failed");
	assert_int_equal(put(c, 0, 'x'), -EIO);
	assert_int_equal(get(c, 0), -EIO);
	assert_int_equal(core_demote(c, 0, false, &err), -EIO);
	assert_non_null(strstr(err.msg, "because"));
	assert_int_equal(raw(*state, 0), 0);
	core_close(c);
}

struct writer {
	struct core *core;
	_Atomic int stop;
	_Atomic unsigned landed; /* highest number acknowledged */
};

static void *write_on(void *arg)
{
	struct writer *w = arg;

	for (unsigned i = 1; !w->stop && i < 100000; i++) {
		char buf[VOLD_BLOCK];

		memset(buf, 0, sizeof(buf));
		memcpy(buf, &i, sizeof(i));
		if (io(w->core, VOLD_WRITE, 0, sizeof(buf), buf))
			break;
		w->landed = i;
	}
	return NULL;
}

static void test_no_write_lands_after_demote_returned(void **state)
{
	struct fixture *f = *state;

	for (int round = 0; round < 20; round++) {
		struct writer w = { .core = open_core(f, "rw") };
		struct error err = { 0 };
		unsigned now = 0, later = 0;
		pthread_t thread;
		int fd = open(f->path, O_RDONLY | O_CLOEXEC);

		pthread_create(&thread, NULL, write_on, &w);
		while (!w.landed)
			clock_sleep_ns(100000);
		assert_int_equal(core_demote(w.core, 10000000000, false, &err), 0);
		assert_int_equal(pread(fd, &now, sizeof(now), 0), sizeof(now));
		clock_sleep_ns(2000000);
		w.stop = 1;
		pthread_join(thread, NULL);
		assert_int_equal(pread(fd, &later, sizeof(later), 0), sizeof(later));
		assert_int_equal(now, later);
		assert_int_equal(later, w.landed);
		close(fd);
		core_close(w.core);
	}
}

static void test_bad_options_are_refused(void **state)
{
	struct fixture *f = *state;
	struct vold_options o = { .name = "v", .host = "a", .image = "tape:x", .mode = "rw" };
	struct error err = { 0 };
	struct core *c = NULL;

	assert_int_equal(core_open(&o, &c, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "tape:x"));
	o.image = f->image;
	o.mode = "sideways";
	assert_int_equal(core_open(&o, &c, &err), -EINVAL);
	o.image = "file:/nonexistent/image";
	o.mode = "rw";
	assert_int_equal(core_open(&o, &c, &err), -ENOENT);
	o.image = "rbd:nopool";
	assert_int_equal(core_open(&o, &c, &err), -EINVAL);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_rw_writes_and_reads_the_image),
		T(test_lock_is_exclusive),
		T(test_standby_and_ro_cannot_write),
		T(test_demoted_cannot_write_until_retaken),
		T(test_retake_is_refused_after_another_wrote),
		T(test_tentative_writes_stay_off_the_image),
		T(test_nothing_lands_before_the_lock_is_claimed),
		T(test_reads_mix_overlay_and_image),
		T(test_settle_lands_everything),
		T(test_writes_past_the_bound_wait_for_settle),
		T(test_waiting_writes_fail_when_abandoned),
		T(test_shut_core_answers_eio),
		T(test_no_write_lands_after_demote_returned),
		T(test_bad_options_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
