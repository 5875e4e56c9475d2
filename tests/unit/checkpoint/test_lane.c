/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several connections for memory: every page arrives as it was at the freeze, over however many it
 * came; a connection that breaks or is not this migration's undoes the migration.
 */
#include <sys/utsname.h>

#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/lane.h"
#include "tests/unit/checkpoint/harness.h"

#define PAGES 3072u
#define WORDS (PAGE / 8)

/* --- a program that never stops writing ------------------------------------------------------ */
/* Page i in state n: nothing for each seventh n, else n and what follows from it. */
static void write_page(uint64_t *p, uint64_t i, uint64_t n)
{
	p[0] = n;
	for (uint64_t k = 1; k < WORDS; k++)
		p[k] = n % 7 ? n * 1000003 + i * 8191 + k : 0;
	if (n % 7 == 0)
		p[0] = 0;
}

static bool page_is_right(const uint64_t *p, uint64_t i)
{
	for (uint64_t k = 1; k < WORDS; k++)
		if (p[k] != (p[0] ? p[0] * 1000003 + i * 8191 + k : 0))
			return false;
	return true;
}

static int write_until(struct trial *t, uint64_t *pages, bool told)
{
	uint64_t n = 1;

	/* Most pages are written once, a few of them over and over. */
	for (uint64_t i = 0; i < PAGES; i++)
		write_page(pages + i * WORDS, i, i + 1);
	if (told)
		trial_ready(t);
	for (; !trial_told(t, "go"); n++, usleep(500))
		for (uint64_t i = n % 5; i < 256; i += 5)
			write_page(pages + (i * 11 % PAGES) * WORDS, i * 11 % PAGES, n + i);
	for (uint64_t i = 0; i < PAGES; i++)
		if (!page_is_right(pages + i * WORDS, i))
			return 1;
	return 0;
}

static int writing(struct trial *t)
{
	size_t len = PAGES * PAGE;
	uint64_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(write_until(t, p, false));
	if (write_until(t, p, true))
		return 1;
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 2;
}

static void move_over(int lanes)
{
	struct trial t = { .program = writing, .lanes = lanes };

	trial_run(&t, 0);
}

static void test_pages_come_whole_over_any_number_of_connections(void **state)
{
	(void)state;
	move_over(-1);
	move_over(1);
	move_over(5);
}

/* --- one that breaks ------------------------------------------------------------------------ */
static void broken(int step)
{
	struct trial t = { .program = writing, .lanes = 2, .keep_lane = true };
	int r, status, resumed;

	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	trial_start(&t);
	trial_connect(&t);
	if (step == 0) {
		shutdown(t.lane_end, SHUT_RDWR);
		r = trial_precopy(&t);
	} else {
		assert_int_equal(trial_precopy(&t), 0);
		shutdown(t.lane_end, SHUT_RDWR);
		r = trial_step(&t, true, "freeze", NULL, NULL);
		r = r ? 0 : trial_step(&t, true, "dump", json_pack("{s:b}", "verify", 0), NULL);
	}
	resumed = trial_step(&t, true, "resume", NULL, NULL);
	status = trial_finish(&t);
	trial_clean(&t);
	assert_true(r < 0);
	assert_int_equal(resumed, 0);
	assert_int_equal(status, 0);
}

static void test_a_connection_that_breaks_undoes_everything(void **state)
{
	(void)state;
	broken(0);
	broken(1);
}

/* --- a source that is not one ----------------------------------------------------------------- */
enum lie {
	WRONG_TOKEN,
	WRONG_NUMBER,
	NO_PROCESS,
	WRONG_TURN,
	OTHER_FRAME,
	ZERO_PAGES,
	SHARED_PAGES,
	NO_TURN,
	LIES
};

static void hello(struct stream *s)
{
	Ck__Hello m = CK__HELLO__INIT;
	struct utsname u;

	uname(&u);
	m.version = STREAM_VERSION;
	m.token = (char *)(uintptr_t) "t";
	m.arch = u.machine;
	m.has_page_size = m.has_lanes = 1;
	m.page_size = PAGE;
	m.lanes = 1;
	assert_int_equal(stream_send_msg(s, FRAME_HELLO, &m.base, NULL), 0);
	assert_int_equal(stream_flush(s, NULL), 0);
}

static Ck__Reply *reply(struct stream *s)
{
	Ck__Reply *m;
	struct frame f;

	assert_int_equal(stream_recv(s, &f, NULL), 0);
	assert_int_equal(f.type, FRAME_REPLY);
	m = ck__reply__unpack(NULL, f.len, f.data);
	assert_non_null(m);
	return m;
}

static void turn(struct stream *s, uint16_t type, uint32_t n)
{
	Ck__RoundEnd m = CK__ROUND_END__INIT;

	m.round = n;
	stream_send_msg(s, type, &m.base, NULL);
	stream_flush(s, NULL);
}

static void lie_on_a_lane(struct stream *s, enum lie lie)
{
	static uint8_t page[PAGE];
	struct page_run run = { lie == SHARED_PAGES ? SPACE_SHARED : SPACE_PRIVATE,
				lie == NO_PROCESS ? 4711 : 1, 0x10000, 1 };
	bool zero = lie == ZERO_PAGES;
	Ck__Lane m = CK__LANE__INIT;

	m.token = (char *)(uintptr_t)(lie == WRONG_TOKEN ? "x" : "t");
	m.index = lie == WRONG_NUMBER ? 1 : 0;
	stream_send_msg(s, FRAME_LANE, &m.base, NULL);
	if (lie == NO_PROCESS || lie == ZERO_PAGES || lie == SHARED_PAGES)
		stream_send(s, FRAME_PAGES, zero ? FRAME_ZERO : 0, &run, sizeof(run),
			    zero ? NULL : page, zero ? 0 : sizeof(page), NULL);
	if (lie == OTHER_FRAME)
		turn(s, FRAME_ROUND_END, 1);
	turn(s, FRAME_LANE_END, lie == WRONG_TURN ? 2 : 1);
}

static int waiting(struct trial *t)
{
	trial_ready(t);
	trial_await(t);
	return 0;
}

static void tell(enum lie lie)
{
	struct trial t = { .program = waiting };
	struct stream *s, *lane;
	int pair[2][2], status;
	Ck__Reply *m;

	trial_start(&t);
	trial_stub(&t);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair[i]), 0);
		trial_foreign[i] = pair[i][0];
	}
	trial_nforeign = 2;
	t.engine_b = trial_engine(&t.cb.sock, pair[0][1], -1);
	trial_nforeign = 0;
	assert_int_equal(
		control_call(&t.cb, "prepare",
			     json_pack("{s:i,s:s,s:i,s:[i],s:s}", "init_pid", t.b, "cgroup", t.cg_b,
				       "fd", pair[0][1], "lane_fds", pair[1][1], "token", "t"),
			     NULL, &t.err),
		0);
	close(pair[0][1]);
	close(pair[1][1]);
	s = stream_new_fd(pair[0][0]);
	lane = stream_new_fd(pair[1][0]);
	hello(s);
	m = reply(s);
	assert_int_equal(m->code, 0);
	assert_int_equal(m->lanes, 1);
	ck__reply__free_unpacked(m, NULL);
	lie_on_a_lane(lane, lie);
	turn(s, FRAME_LANE_GO, lie == NO_TURN ? 2 : 1);
	turn(s, FRAME_ROUND_END, 1);
	m = reply(s);
	assert_int_not_equal(m->code, 0);
	ck__reply__free_unpacked(m, NULL);
	stream_close(s);
	stream_close(lane);
	trial_touch(&t, "go");
	waitpid(t.a, &status, 0);
	t.a = 0;
	trial_clean(&t);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_only_this_migrations_pages_are_taken_in_their_turn(void **state)
{
	(void)state;
	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	for (enum lie lie = 0; lie < LIES; lie++)
		tell(lie);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_come_whole_over_any_number_of_connections),
		cmocka_unit_test(test_a_connection_that_breaks_undoes_everything),
		cmocka_unit_test(test_only_this_migrations_pages_are_taken_in_their_turn),
	};

	TRIAL_UNSANITIZED();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
