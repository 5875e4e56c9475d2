/* SPDX-License-Identifier: Apache-2.0 */
/* Processes, threads, trees, signals, timers, credentials move from end to end. */
#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/capability.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/time.h>
#include <time.h>

#include "tests/unit/checkpoint/harness.h"

static int private_memory(struct trial *t)
{
	enum { SIZE = 8 << 20 };
	unsigned char *p =
		mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *heap = malloc(100000);

	for (int i = 0; i < SIZE; i += 4096)
		memset(p + i, i / 4096 % 251, 4096);
	strcpy(heap, "on the heap");
	mprotect(p + (1 << 20), 4096, PROT_READ);
	mprotect(p + (2 << 20), 4096, PROT_NONE);
	trial_ready(t);
	trial_await(t);
	mprotect(p + (2 << 20), 4096, PROT_READ);
	for (int i = 0; i < SIZE; i += 4096)
		if (p[i] != i / 4096 % 251 || p[i + 4095] != i / 4096 % 251)
			return 1;
	return strcmp(heap, "on the heap") ? 2 : getpid() == 1 ? 0 : 3;
}

static void test_private_memory_arrives_whole(void **state)
{
	struct trial t = { .program = private_memory };

	(void)state;
	trial_run(&t, 0);
}

/* --- threads ------------------------------------------------------------------------------ */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static volatile bool stop;
static int woken;
static volatile unsigned long counters[4];

static void *waiter(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	while (!stop)
		pthread_cond_wait(&cond, &lock);
	woken++;
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* Checks in vector registers that nothing of its state is disturbed. */
static void *counter(void *arg)
{
	volatile unsigned long *n = arg;
	double d = 0;

	while (!stop) {
		d += 1.0;
		(*n)++;
		if (d != (double)*n)
			return (void *)1;
	}
	return NULL;
}

static int threads(struct trial *t)
{
	pthread_t th[4];
	void *result;

	for (int i = 0; i < 2; i++)
		pthread_create(&th[i], NULL, waiter, NULL);
	for (int i = 2; i < 4; i++)
		pthread_create(&th[i], NULL, counter, (void *)&counters[i]);
	usleep(10000);
	trial_ready(t);
	trial_await(t);
	pthread_mutex_lock(&lock);
	stop = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	for (int i = 0; i < 4; i++) {
		pthread_join(th[i], &result);
		if (result)
			return 10 + i;
	}
	return woken == 2 && counters[2] && counters[3] ? 0 : 1;
}

static void test_threads_run_on(void **state)
{
	struct trial t = { .program = threads };

	(void)state;
	trial_run(&t, 0);
}

/* --- trees, sessions, groups, zombies ------------------------------------------------------- */
static pid_t tell_pid(int fd)
{
	pid_t pid = -1;

	return read(fd, &pid, sizeof(pid)) == sizeof(pid) ? pid : -1;
}

static int tree(struct trial *t)
{
	pid_t shell, daemon_pid, zombie, grandchild;
	int status, pipes[2];
	siginfo_t si;

	if (pipe(pipes))
		return 1;
	shell = fork();
	if (shell == 0) {
		pid_t g;

		setsid();
		g = fork();
		if (g == 0) {
			setpgid(0, 0);
			trial_await(t);
			_exit(getsid(0) == getppid() && getpgid(0) == getpid() ? 7 : 8);
		}
		if (write(pipes[1], &g, sizeof(g)) != sizeof(g))
			_exit(9);
		if (waitpid(g, &status, 0) != g)
			_exit(10);
		_exit(WEXITSTATUS(status));
	}
	grandchild = tell_pid(pipes[0]);
	/* A daemon: its parent is gone, so it is ours; its session's leader is itself. */
	if (fork() == 0) {
		pid_t d = fork();

		if (d == 0) {
			setsid();
			d = fork();
			if (d > 0) {
				trial_await(t);
				_exit(waitpid(d, &status, 0) == d ? WEXITSTATUS(status) : 3);
			}
			trial_await(t);
			_exit(getppid() == getsid(0) ? 11 : 12);
		}
		if (write(pipes[1], &d, sizeof(d)) != sizeof(d))
			_exit(1);
		_exit(0);
	}
	daemon_pid = tell_pid(pipes[0]);
	wait(&status);
	zombie = fork();
	if (zombie == 0)
		_exit(23);
	while (waitid(P_PID, (id_t)zombie, &si, WEXITED | WNOWAIT) != 0)
		;
	close(pipes[0]);
	close(pipes[1]);
	trial_ready(t);
	trial_await(t);
	if (waitpid(zombie, &status, 0) != zombie || WEXITSTATUS(status) != 23)
		return 2;
	if (waitpid(shell, &status, 0) != shell || WEXITSTATUS(status) != 7)
		return 3;
	if (waitpid(daemon_pid, &status, 0) != daemon_pid || WEXITSTATUS(status) != 11)
		return 4;
	return grandchild > 0 ? 0 : 5;
}

static void test_trees_keep_parents_sessions_and_zombies(void **state)
{
	struct trial t = { .program = tree };

	(void)state;
	trial_run(&t, 0);
}

/* --- signals and timers ----------------------------------------------------------------------- */
static volatile int got_usr1, got_alrm, got_rt;
static volatile void *got_value;

static void on_signal(int sig, siginfo_t *si, void *ctx)
{
	(void)ctx;
	if (sig == SIGUSR1)
		got_usr1++;
	if (sig == SIGALRM)
		got_alrm++;
	if (sig == SIGRTMIN) {
		got_rt++;
		got_value = si->si_value.sival_ptr;
	}
}

static int signals(struct trial *t)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct itimerval it = { .it_value = { .tv_sec = 100 } };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	struct itimerspec ts = { .it_value = { .tv_nsec = 50000000 },
				 .it_interval = { .tv_sec = 50 } };
	struct itimerspec left;
	static char stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) }, now;
	union sigval v = { .sival_ptr = stack };
	sigset_t set, old;
	timer_t timer;

	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	sigaction(SIGRTMIN, &sa, NULL);
	signal(SIGHUP, SIG_IGN);
	sigaltstack(&ss, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, &old);
	kill(getpid(), SIGUSR1);
	sigqueue(getpid(), SIGRTMIN, v);
	setitimer(ITIMER_REAL, &it, NULL);
	ev.sigev_value.sival_ptr = &timer;
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) < 0)
		return 1;
	ts.it_value.tv_sec = 60;
	timer_settime(timer, 0, &ts, NULL);
	trial_ready(t);
	trial_await(t);
	if (got_usr1 || got_rt)
		return 2;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (got_usr1 != 1 || got_rt != 1 || got_value != stack)
		return 3;
	if (signal(SIGHUP, SIG_DFL) != SIG_IGN)
		return 4;
	getitimer(ITIMER_REAL, &it);
	if (it.it_value.tv_sec < 50 || it.it_value.tv_sec > 100)
		return 5;
	if (timer_gettime(timer, &left) < 0 || left.it_value.tv_sec < 20 ||
	    left.it_interval.tv_sec != 50)
		return 6;
	memset(&ts, 0, sizeof(ts));
	ts.it_value.tv_nsec = 1000000;
	timer_settime(timer, 0, &ts, NULL);
	for (int i = 0; i < 5000 && got_rt < 2; i++)
		usleep(1000);
	if (got_rt != 2 || got_value != &timer)
		return 7;
	sigaltstack(NULL, &now);
	return now.ss_sp == stack && now.ss_size == sizeof(stack) ? 0 : 8;
}

static void test_signals_and_timers_stay_pending(void **state)
{
	struct trial t = { .program = signals };

	(void)state;
	trial_run(&t, 0);
}

/* --- credentials -------------------------------------------------------------------- */
static int child_creds(void)
{
	gid_t groups[2];
	uid_t r, e, s;
	cap_t caps = cap_get_proc();
	cap_flag_value_t chown_on = CAP_CLEAR, admin_on = CAP_SET;
	char name[16];

	getresuid(&r, &e, &s);
	cap_get_flag(caps, CAP_CHOWN, CAP_PERMITTED, &chown_on);
	cap_get_flag(caps, CAP_SYS_ADMIN, CAP_PERMITTED, &admin_on);
	cap_free(caps);
	prctl(PR_GET_NAME, name);
	if (r != 1234 || e != 1234 || s != 1234 || getgid() != 2345)
		return 1;
	if (getgroups(2, groups) != 2 || groups[0] != 77 || groups[1] != 88)
		return 2;
	if (chown_on != CAP_SET || admin_on != CAP_CLEAR)
		return 3;
	if (prctl(PR_CAPBSET_READ, CAP_SYS_BOOT) != 0 ||
	    prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) != 1 ||
	    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 4;
	if (strcmp(name, "renamed") != 0 || getpriority(PRIO_PROCESS, 0) != 5)
		return 5;
	if (umask(0) != 027)
		return 6;
	errno = 0;
	/* The filter says so: */
	if (syscall(SYS_getpgrp) != -1 || errno != EOWNERDEAD)
		return 7;
	return 0;
}

static int credentials(struct trial *t)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOWNERDEAD),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog prog = { 4, code };
		gid_t groups[] = { 77, 88 };
		cap_value_t keep = CAP_CHOWN;
		cap_t caps = cap_init();
		struct stat st;

		prctl(PR_SET_NAME, "renamed");
		prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT);
		if (setpriority(PRIO_PROCESS, 0, 5) || setgroups(2, groups) || setgid(2345))
			_exit(21);
		umask(027);
		prctl(PR_SET_KEEPCAPS, 1);
		if (setuid(1234))
			_exit(22);
		cap_set_flag(caps, CAP_PERMITTED, 1, &keep, CAP_SET);
		cap_set_flag(caps, CAP_EFFECTIVE, 1, &keep, CAP_SET);
		if (cap_set_proc(caps))
			_exit(23);
		cap_free(caps);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
			_exit(24);
		kill(getppid(), 0);
		while (stat("/proc/self", &st) == 0 && !trial_told(t, "go"))
			usleep(2000);
		_exit(child_creds());
	}
	chmod(t->dir, 0755);
	usleep(100000);
	trial_ready(t);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void test_credentials_and_filters_are_kept(void **state)
{
	struct trial t = { .program = credentials };

	(void)state;
	trial_run(&t, 0);
}

/* --- undo --------------------------------------------------------------------------- */
static int counting(struct trial *t)
{
	volatile unsigned long n = 0;
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	trial_ready(t);
	while (!trial_told(t, "go")) {
		p[n % (1 << 20)] = (char)n;
		n++;
		usleep(500);
	}
	return n > 0 ? 0 : 1;
}

enum cut { CUT_CONNECTED, CUT_PRECOPIED, CUT_FROZEN, CUT_DUMPED };

/* Kills an engine after that step; the program must run on, on the source. */
static void cut(enum cut at, bool source)
{
	struct trial t = { .program = counting };
	struct error err = { 0 };
	int status, r = 0;

	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	trial_start(&t);
	trial_connect(&t);
	if (at >= CUT_PRECOPIED)
		r = trial_precopy(&t);
	if (at >= CUT_FROZEN && r == 0)
		r = trial_step(&t, true, "freeze", NULL, NULL);
	if (at >= CUT_DUMPED && r == 0)
		r = trial_step(&t, true, "dump", json_pack("{s:b}", "verify", 0), NULL);
	if (r == 0 && source) {
		kill(t.engine_a, SIGKILL);
		waitpid(t.engine_a, &status, 0);
		t.engine_a = 0;
		control_client_close(&t.ca);
		/* Held by the freezer, and by nothing else: a new engine takes over. */
		if (at == CUT_DUMPED) {
			t.engine_a = trial_engine(&t.ca.sock, -1, -1);
			r = control_call(&t.ca, "resume",
					 json_pack("{s:s,s:i}", "cgroup", t.cg_a, "init_pid", t.a),
					 NULL, &err);
		}
	} else if (r == 0) {
		kill(t.engine_b, SIGKILL);
		waitpid(t.engine_b, &status, 0);
		t.engine_b = 0;
		/* EXITKILL: the half-built process is gone with its engine. */
		waitpid(t.b, &status, 0);
		t.b = 0;
		r = WIFSIGNALED(status) ? 0 : -1;
		if (r == 0)
			r = trial_step(&t, true, "resume", NULL, NULL);
	}
	status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

static void test_death_of_either_engine_undoes_everything(void **state)
{
	(void)state;
	for (int at = CUT_CONNECTED; at <= CUT_DUMPED; at++) {
		cut((enum cut)at, true);
		cut((enum cut)at, false);
	}
}

static void test_a_resumed_container_can_be_migrated_again(void **state)
{
	struct trial t = { .program = counting };
	int r, status;

	(void)state;
	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	trial_start(&t);
	trial_connect(&t);
	r = trial_precopy(&t);
	if (r == 0)
		r = trial_step(&t, true, "freeze", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, true, "dump", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, true, "resume", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, false, "abort", NULL, NULL);
	control_client_close(&t.ca);
	control_client_close(&t.cb);
	waitpid(t.engine_a, &status, 0);
	waitpid(t.engine_b, &status, 0);
	waitpid(t.b, &status, 0);
	t.engine_a = t.engine_b = t.b = 0;
	if (r == 0)
		r = trial_migrate(&t);
	status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

/* --- preflight ---------------------------------------------------------------------- */
static int obstacles(struct trial *t)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);
	int status;
	pid_t child = fork();

	if (child == 0) {
		unshare(CLONE_NEWUTS);
		trial_ready(t);
		trial_await(t);
		_exit(0);
	}
	waitpid(child, &status, 0);
	return fd >= 0 ? status : 1;
}

static bool names(const json_t *list, const char *object, int pid)
{
	size_t i;
	json_t *o;

	json_array_foreach (list, i, o)
		if (strstr(json_string_value(json_object_get(o, "object")), object) &&
		    json_integer_value(json_object_get(o, "pid")) == pid &&
		    json_string_length(json_object_get(o, "why")) > 10 &&
		    json_string_length(json_object_get(o, "remedy")) > 10)
			return true;
	return false;
}

static void test_preflight_names_every_obstacle(void **state)
{
	struct trial t = { .program = obstacles };
	bool uffd, uts;
	int r, status;

	(void)state;
	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	trial_start(&t);
	r = trial_check(&t);
	uffd = names(t.obstacles, "userfaultfd", 1);
	uts = names(t.obstacles, "uts namespace", 2);
	status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_true(uffd && uts);
	assert_int_equal(status, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_private_memory_arrives_whole),
		cmocka_unit_test(test_threads_run_on),
		cmocka_unit_test(test_trees_keep_parents_sessions_and_zombies),
		cmocka_unit_test(test_signals_and_timers_stay_pending),
		cmocka_unit_test(test_credentials_and_filters_are_kept),
		cmocka_unit_test(test_death_of_either_engine_undoes_everything),
		cmocka_unit_test(test_preflight_names_every_obstacle),
		cmocka_unit_test(test_a_resumed_container_can_be_migrated_again),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
