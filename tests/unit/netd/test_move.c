/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open TCP connection whose end moves from host b to host a, as a migration moves it:
 * hold, forward, block egress, dump in repair mode, restore, release. The other end plays
 * ping-pong throughout and would see a reset, a lost or a doubled byte.
 */
#include "tests/unit/netd/stage.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#define ROUNDS 200 /* answers that must come before and after each step */
#define QUEUE  4096

/* Shared by all processes of the test. */
struct board {
	volatile int stop, dumped, restored, end, ready, asked, answered;
	volatile uint32_t answers;
	int error;
	unsigned int send_len, recv_len, timestamp;
	uint32_t send_seq, recv_seq;
	char send_queue[QUEUE], recv_queue[QUEUE];
	struct tcp_info info;
	int mss;
	struct sockaddr_in local, peer;
};

static struct board *board;

static void wait_for(volatile int *flag)
{
	for (int i = 0; i < WAIT_S * 1000 && !*flag; i++)
		usleep(1000);
	if (!*flag)
		fail_msg("waited in vain");
}

static void wait_answers(void)
{
	uint32_t goal = board->answers + ROUNDS;

	for (int i = 0; i < WAIT_S * 1000 && board->answers < goal; i++)
		usleep(1000);
	if (board->answers < goal)
		fail_msg("the connection stands still");
}

/* --- the end that moves -------------------------------------------------------------- */

#define TRY(x)                                                                                     \
	do {                                                                                       \
		if ((x) < 0) {                                                                     \
			fprintf(stderr, "line %d: %m\n", __LINE__);                                \
			return -1;                                                                 \
		}                                                                                  \
	} while (0)

static int opt(int fd, int name, int value)
{
	return setsockopt(fd, IPPROTO_TCP, name, &value, sizeof(value));
}

static int queue(int fd, int which, uint32_t *seq, char *data, unsigned int *len)
{
	socklen_t size = sizeof(*seq);
	ssize_t n;

	TRY(opt(fd, TCP_REPAIR_QUEUE, which));
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, seq, &size));
	n = recv(fd, data, QUEUE, MSG_PEEK | MSG_DONTWAIT);
	*len = n > 0 ? (unsigned int)n : 0;
	*seq -= *len;
	return 0;
}

static int dump(int fd)
{
	socklen_t len = sizeof(board->local);

	TRY(getsockname(fd, (struct sockaddr *)&board->local, &len));
	TRY(getpeername(fd, (struct sockaddr *)&board->peer, &len));
	TRY(opt(fd, TCP_REPAIR, 1));
	len = sizeof(board->info);
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &board->info, &len));
	len = sizeof(board->mss);
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &board->mss, &len));
	len = sizeof(board->timestamp);
	TRY(getsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &board->timestamp, &len));
	TRY(queue(fd, TCP_SEND_QUEUE, &board->send_seq, board->send_queue, &board->send_len));
	TRY(queue(fd, TCP_RECV_QUEUE, &board->recv_seq, board->recv_queue, &board->recv_len));
	return close(fd); /* in repair mode: silently */
}

static int fill(int fd, int which, const char *data, unsigned int len)
{
	TRY(opt(fd, TCP_REPAIR_QUEUE, which));
	return len && send(fd, data, len, 0) != (ssize_t)len ? -1 : 0;
}

static int restore(void)
{
	struct tcp_repair_opt opts[4];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, n = 0;

	TRY(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	TRY(opt(fd, TCP_REPAIR, 1));
	TRY(opt(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE));
	TRY(opt(fd, TCP_QUEUE_SEQ, (int)board->send_seq));
	TRY(opt(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE));
	TRY(opt(fd, TCP_QUEUE_SEQ, (int)board->recv_seq));
	TRY(bind(fd, (struct sockaddr *)&board->local, sizeof(board->local)));
	TRY(connect(fd, (struct sockaddr *)&board->peer, sizeof(board->peer)));
	opts[n++] = (struct tcp_repair_opt){ 2 /* MSS */, (uint32_t)board->mss };
	if (board->info.tcpi_options & TCPI_OPT_WSCALE)
		opts[n++] = (struct tcp_repair_opt){
			3, board->info.tcpi_snd_wscale | (uint32_t)board->info.tcpi_rcv_wscale << 16
		};
	if (board->info.tcpi_options & TCPI_OPT_SACK)
		opts[n++] = (struct tcp_repair_opt){ 4, 0 };
	if (board->info.tcpi_options & TCPI_OPT_TIMESTAMPS)
		opts[n++] = (struct tcp_repair_opt){ 8, 0 };
	TRY(setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, opts, (socklen_t)n * sizeof(*opts)));
	TRY(opt(fd, TCP_TIMESTAMP, (int)board->timestamp));
	TRY(fill(fd, TCP_RECV_QUEUE, board->recv_queue, board->recv_len));
	TRY(fill(fd, TCP_SEND_QUEUE, board->send_queue, board->send_len));
	TRY(opt(fd, TCP_REPAIR, 0));
	return fd;
}

/* Answers each number with itself until told to stop. */
static int answer(int fd)
{
	uint32_t n;

	while (!board->stop) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (poll(&p, 1, 5) <= 0)
			continue;
		if (fd_read_all(fd, &n, sizeof(n)))
			return 1; /* closed */
		if (fd_write_all(fd, &n, sizeof(n)))
			return 2;
	}
	return 0;
}

static int source(void *arg)
{
	struct job *j = arg;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct sockaddr_in at = address(j);

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (j->expect) { /* connects to the outside */
		while (connect(fd, (struct sockaddr *)&at, sizeof(at)))
			usleep(10000);
	} else {
		at.sin_addr.s_addr = 0;
		if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1))
			return 60;
		board->ready = 1;
		fd = accept(fd, NULL, NULL);
	}
	if (answer(fd) || dump(fd))
		return 61;
	board->dumped = 1;
	return 0;
}

static int destination(void *arg)
{
	int fd = restore();

	(void)arg;
	if (fd < 0)
		return 62;
	board->stop = 0;
	board->restored = 1;
	fd = answer(fd);
	board->answered = 1;
	return fd == 1 ? 0 : 63;
}

static int do_source(struct host *h, void *arg, struct error *err)
{
	(void)h;
	(void)err;
	return container_start(((struct job *)arg)->id, source, arg) > 0 ? 0 : -EIO;
}

static int do_destination(struct host *h, void *arg, struct error *err)
{
	(void)h;
	(void)err;
	return container_start(((struct job *)arg)->id, destination, arg) > 0 ? 0 : -EIO;
}

/* --- the end that stays --------------------------------------------------------------- */

static int ping_pong(void *arg)
{
	struct job *j = arg;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct timeval tv = { .tv_sec = WAIT_S };
	struct sockaddr_in at = address(j);

	if (j->expect) { /* the moving end connects to here */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1))
			return 70;
		fd = accept(fd, NULL, NULL);
	} else if (connect(fd, (struct sockaddr *)&at, sizeof(at))) {
		return 71;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	for (uint32_t i = 0, n; !board->end; i++) {
		if (fd_write_all(fd, &i, sizeof(i)) || fd_read_all(fd, &n, sizeof(n)) || n != i) {
			fprintf(stderr, "question %u was not answered: %m\n", i);
			board->error = 1;
			break;
		}
		board->answers++;
		usleep(200);
	}
	close(fd);
	board->asked = 1;
	return board->error;
}

static int do_ping_pong(struct host *h, void *arg, struct error *err)
{
	(void)h;
	(void)err;
	return container_start(((struct job *)arg)->id, ping_pong, arg) > 0 ? 0 : -EIO;
}

/* --- the move ------------------------------------------------------------------------- */

/* Container m with address 10.88.1.N: from b to a, under traffic. */
static void move(const char *id, const char *ip)
{
	struct params p = P(id, "n1", 101, ip, "");
	struct job j = { 0 };
	char flows[8192], import[8192];

	snprintf(j.id, sizeof(j.id), "%s", id);
	wait_answers();
	p.hold = true;
	host_do(HOST_A, do_add, &p, sizeof(p));
	wait_answers(); /* prepared, and clients notice nothing */

	DO(HOST_A, do_hold, id, "", 0, "", "");
	DO(HOST_B, do_forward, id, "", 0, "", "10.1.1.2");
	p.on = true;
	host_do(HOST_B, do_block, &p, sizeof(p));
	board->stop = 1;
	wait_for(&board->dumped);
	snprintf(flows, sizeof(flows), "%s", id);
	host_do(HOST_B, do_flows, flows, sizeof(flows));
	memset(import, 0, sizeof(import));
	snprintf(import, 64, "%s", id);
	memcpy(import + 64, flows, sizeof(import) - 64);
	host_do(HOST_A, do_import, import, sizeof(import));
	host_do(HOST_A, do_destination, &j, sizeof(j));
	wait_for(&board->restored);
	DO(HOST_A, do_release, id, "", 0, "", "");
	wait_answers();

	DO(HOST_B, do_remove, id, "", 0, "", "");
	wait_answers();
	board->end = 1;
	wait_for(&board->asked);
	wait_for(&board->answered);
	assert_int_equal(board->error, 0);
}

static struct job begin(const char *id, const char *ip, unsigned int port)
{
	struct params p = P(id, "n1", 101, ip, "10.1.2.2");
	struct job j = { .port = port };

	memset(board, 0, sizeof(*board));
	snprintf(j.id, sizeof(j.id), "%s", id);
	snprintf(j.ip, sizeof(j.ip), "%s", ip);
	host_do(HOST_B, do_add, &p, sizeof(p));
	host_do(HOST_A, do_remote, &p, sizeof(p));
	return j;
}

static void test_connection_inside_the_overlay_survives_the_move(void **state)
{
	struct job j = begin("m1", "10.88.1.51", 7200);

	(void)state;
	host_do(HOST_B, do_source, &j, sizeof(j));
	wait_for(&board->ready);
	snprintf(j.id, sizeof(j.id), "a1");
	host_do(HOST_A, do_ping_pong, &j, sizeof(j));
	move("m1", "10.88.1.51");
}

static pid_t outside(struct job *j)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(ping_pong(j));
	}
	return pid;
}

static void finish(pid_t pid)
{
	int status;

	assert_int_equal(process_wait(pid, &status), 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_connection_to_a_published_port_survives_the_move(void **state)
{
	struct job j = begin("m2", "10.88.1.52", 7201);
	struct params p = P("m2", "", 0, "", "");
	pid_t client;

	(void)state;
	host_do(HOST_B, do_source, &j, sizeof(j));
	wait_for(&board->ready);
	snprintf(p.proto, sizeof(p.proto), "tcp");
	p.port = 7201;
	host_do(HOST_B, do_publish, &p, sizeof(p));
	snprintf(j.ip, sizeof(j.ip), "10.1.2.2");
	j.port = p.host_port;
	client = outside(&j);
	move("m2", "10.88.1.52");
	finish(client);
}

static void test_connection_to_the_outside_survives_the_move(void **state)
{
	struct job j = begin("m3", "10.88.1.53", 7202);
	pid_t server;

	(void)state;
	j.expect = 1;
	snprintf(j.ip, sizeof(j.ip), "203.0.113.1");
	server = outside(&j);
	host_do(HOST_B, do_source, &j, sizeof(j));
	move("m3", "10.88.1.53");
	finish(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connection_inside_the_overlay_survives_the_move),
		cmocka_unit_test(test_connection_to_a_published_port_survives_the_move),
		cmocka_unit_test(test_connection_to_the_outside_survives_the_move),
	};

	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	if (board == MAP_FAILED)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
