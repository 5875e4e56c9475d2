/* SPDX-License-Identifier: Apache-2.0 */
/* System V semaphores and messages, POSIX message queues keep their state over a move. */
#include <errno.h>
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

#include "tests/unit/checkpoint/harness.h"

#define WANT(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "# %s:%d: %s: %s\n", __func__, __LINE__, #x,               \
				strerror(errno));                                                  \
			return __LINE__ % 100 + 1;                                                 \
		}                                                                                  \
	} while (0)

static void *nothing(void *arg)
{
	return arg;
}

static int take(int set, unsigned short num, short op, short flags)
{
	struct sembuf b = { .sem_num = num, .sem_op = op, .sem_flg = flags };

	return semop(set, &b, 1);
}

static int semaphores(struct trial *t)
{
	int gone = semget(IPC_PRIVATE, 1, 0600), set = semget(0x1234, 100, IPC_CREAT | 0640);
	int anonymous = semget(IPC_PRIVATE, 2, 0600), status;
	struct semid_ds ds;
	pthread_t th;
	pid_t child;

	WANT(gone >= 0 && set >= 0 && anonymous >= 0 && semctl(gone, 0, IPC_RMID) == 0);
	for (int i = 0; i < 100; i++)
		WANT(semctl(set, i, SETVAL, i * 7) == 0);
	child = fork();
	if (child == 0) {
		/* two of its own to be taken back, one of them beyond the first 64 */
		if (take(set, 3, -5, SEM_UNDO) || take(set, 99, 10, SEM_UNDO) ||
		    pthread_create(&th, NULL, nothing, NULL) || take(set, 0, 2, SEM_UNDO) ||
		    pthread_join(th, NULL))
			_exit(1);
		trial_ready(t);
		trial_await(t);
		_exit(0);
	}
	WANT(take(anonymous, 1, 32767, SEM_UNDO) == 0);
	trial_await(t);
	WANT(waitpid(child, &status, 0) == child && status == 0);
	WANT(semget(0x1234, 100, 0) == set);
	WANT(semctl(set, 0, GETVAL) == 0 && semctl(set, 3, GETVAL) == 21);
	WANT(semctl(set, 99, GETVAL) == 693 && semctl(set, 98, GETVAL) == 686);
	WANT(semctl(anonymous, 1, GETVAL) == 32767);
	WANT(semctl(set, 0, IPC_STAT, &ds) == 0 && (ds.sem_perm.mode & 0777) == 0640);
	return 0;
}

static void test_semaphores_and_what_ends_with_a_process(void **state)
{
	struct trial t = { .program = semaphores };

	(void)state;
	trial_run(&t, 0);
}

static int messages(struct trial *t)
{
	struct {
		long type;
		char text[2000];
	} m = { .type = 3 };
	int gone = msgget(IPC_PRIVATE, 0600), q = msgget(77, IPC_CREAT | 0622), lots;
	struct msqid_ds ds;

	WANT(msgctl(gone, IPC_RMID, NULL) == 0);
	lots = msgget(IPC_PRIVATE, 0600);
	for (int i = 0; i < 7; i++) {
		snprintf(m.text, sizeof(m.text), "message %d", i);
		m.type = i % 3 + 1;
		WANT(msgsnd(q, &m, (size_t)(10 + i), 0) == 0);
	}
	m.type = 9;
	WANT(msgsnd(q, &m, 0, 0) == 0);
	for (int i = 0; i < 1000; i++)
		WANT(msgsnd(lots, &m, (size_t)i % 16, 0) == 0);
	WANT(msgctl(q, IPC_STAT, &ds) == 0);
	ds.msg_qbytes = 9000;
	WANT(msgctl(q, IPC_SET, &ds) == 0);
	trial_ready(t);
	trial_await(t);
	WANT(msgget(77, 0) == q && msgctl(q, IPC_STAT, &ds) == 0);
	WANT(ds.msg_qnum == 8 && ds.msg_qbytes == 9000 && (ds.msg_perm.mode & 0777) == 0622);
	WANT(msgrcv(q, &m, sizeof(m.text), 2, 0) == 11 && memcmp(m.text, "message 1", 9) == 0);
	WANT(msgrcv(q, &m, sizeof(m.text), 0, 0) == 10 && memcmp(m.text, "message 0", 9) == 0);
	WANT(msgrcv(q, &m, sizeof(m.text), 9, 0) == 0);
	for (int i = 0; i < 1000; i++)
		WANT(msgrcv(lots, &m, sizeof(m.text), 0, IPC_NOWAIT) == i % 16);
	WANT(msgrcv(lots, &m, sizeof(m.text), 0, IPC_NOWAIT) < 0 && errno == ENOMSG);
	return 0;
}

static void test_message_queues(void **state)
{
	struct trial t = { .program = messages };

	(void)state;
	trial_run(&t, 0);
}

static int posix_queues(struct trial *t)
{
	struct mq_attr a = { .mq_maxmsg = 7, .mq_msgsize = 300 }, now;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	mqd_t w = mq_open("/jobs", O_CREAT | O_WRONLY | O_NONBLOCK, 0620, &a), r, dead, empty;
	struct timespec second = { 1, 0 };
	unsigned int prio;
	siginfo_t si;
	sigset_t set;
	char buf[300];

	r = mq_open("/jobs", O_RDONLY);
	dead = mq_open("/dead", O_CREAT | O_RDWR, 0600, &a);
	empty = mq_open("/empty", O_CREAT | O_RDWR, 0600, &a);
	WANT(w >= 0 && r >= 0 && dead >= 0 && empty >= 0 && mq_unlink("/dead") == 0);
	WANT(mq_send(w, "low", 3, 0) == 0 && mq_send(w, "high", 4, 9) == 0);
	WANT(mq_send(w, "", 0, 9) == 0 && mq_send(w, "last", 4, 0) == 0);
	WANT(mq_send(dead, "unlinked", 8, 1) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ev.sigev_value.sival_ptr = (void *)0x1122334455667788;
	WANT(mq_notify(r, &ev) == 0);
	ev.sigev_value.sival_ptr = (void *)0x99;
	WANT(mq_notify(empty, &ev) == 0);
	trial_ready(t);
	trial_await(t);
	WANT(mq_getattr(w, &now) == 0 && now.mq_curmsgs == 4 && now.mq_maxmsg == 7 &&
	     now.mq_msgsize == 300 && now.mq_flags == O_NONBLOCK);
	WANT(mq_getattr(r, &now) == 0 && now.mq_flags == 0);
	WANT(mq_receive(r, buf, sizeof(buf), &prio) == 4 && prio == 9 && buf[0] == 'h');
	WANT(mq_receive(r, buf, sizeof(buf), &prio) == 0 && prio == 9);
	WANT(mq_receive(r, buf, sizeof(buf), &prio) == 3 && prio == 0 && buf[1] == 'o');
	WANT(mq_receive(r, buf, sizeof(buf), &prio) == 4 && prio == 0 && buf[1] == 'a');
	/* nobody was told by the move itself; the registrations stand */
	sigpending(&set);
	WANT(!sigismember(&set, SIGRTMIN));
	WANT(mq_send(w, "x", 1, 0) == 0 && sigtimedwait(&set, &si, &second) < 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	WANT(sigtimedwait(&set, &si, &second) == SIGRTMIN && si.si_code == SI_MESGQ &&
	     si.si_value.sival_ptr == (void *)0x1122334455667788);
	WANT(mq_send(empty, "y", 1, 0) == 0 && sigtimedwait(&set, &si, &second) == SIGRTMIN &&
	     si.si_value.sival_ptr == (void *)0x99);
	WANT(mq_receive(dead, buf, sizeof(buf), &prio) == 8 && prio == 1);
	WANT(mq_open("/dead", O_RDONLY) < 0 && errno == ENOENT);
	return 0;
}

static void test_posix_message_queues(void **state)
{
	struct trial t = { .program = posix_queues };

	(void)state;
	trial_run(&t, 0);
}

/* A request that waits for a pipe, and so never ends by itself. */
static int waiting_request(struct trial *t)
{
	aio_context_t ctx = 0;
	int p[2];
	struct iocb cb = { .aio_data = 7, .aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN };
	struct iocb *list = &cb;
	struct io_event e;

	WANT(pipe(p) == 0 && syscall(SYS_io_setup, 4, &ctx) == 0);
	cb.aio_fildes = (uint32_t)p[0];
	WANT(syscall(SYS_io_submit, ctx, 1, &list) == 1);
	trial_ready(t);
	trial_await(t);
	WANT(write(p[1], "x", 1) == 1);
	WANT(syscall(SYS_io_getevents, ctx, 1, 1, &e, NULL) == 1 && e.data == 7);
	return 0;
}

static void test_requests_in_flight_are_waited_for_and_then_the_source_goes_on(void **state)
{
	struct trial t = { .program = waiting_request };
	int r, resumed;

	(void)state;
	trial_start(&t);
	trial_connect(&t);
	r = trial_precopy(&t);
	if (r == 0)
		r = trial_step(&t, true, "freeze", NULL, NULL);
	resumed = trial_step(&t, true, "resume", NULL, NULL);
	assert_int_equal(trial_finish(&t), 0);
	trial_clean(&t);
	assert_int_equal(r, -EAGAIN);
	assert_int_equal(resumed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_semaphores_and_what_ends_with_a_process),
		cmocka_unit_test(test_message_queues),
		cmocka_unit_test(test_posix_message_queues),
		cmocka_unit_test(
			test_requests_in_flight_are_waited_for_and_then_the_source_goes_on),
	};

	TRIAL_UNSANITIZED();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
