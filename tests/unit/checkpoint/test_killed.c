/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGKILL of the source's engine at any instant: a program whose threads compute in all
 * registers, wait in every kind of system call and watch their signal masks does not notice
 * hundreds of engines that die while they trace it. remote_guard.c is what makes it so.
 */
#include <errno.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/unit/checkpoint/harness.h"

static volatile bool stop;

/* --- threads that compute ------------------------------------------------------------------- */
static unsigned char patterns[8][32] __attribute__((aligned(32)));

#define SET_GPR(reg, value) "mov $" #value ", %%" #reg "\n"
#define IS_GPR(reg, value)  "cmp $" #value ", %%" #reg "\n jne 9f\n"
#define SET_YMM(n)	    "vmovdqa " #n "*32(%%rax), %%ymm" #n "\n"
#define IS_YMM(n)                                                                                  \
	"vxorps " #n "*32(%%rax), %%ymm" #n ", %%ymm15\n vptest %%ymm15, %%ymm15\n jnz 9f\n"
#define SET_XMM(n) "movdqa " #n "*32(%%rax), %%xmm" #n "\n"
#define IS_XMM(n)                                                                                  \
	"movdqa %%xmm" #n ", %%xmm15\n pcmpeqb " #n "*32(%%rax), %%xmm15\n"                        \
	"pmovmskb %%xmm15, %%ecx\n cmp $0xffff, %%ecx\n jne 9f\n"
#define ALL_GPRS(what)                                                                             \
	what(rbx, 0x11111101) what(rdx, 0x11111102) what(rsi, 0x11111103) what(rdi, 0x11111104)    \
		what(r8, 0x11111105) what(r9, 0x11111106) what(r10, 0x11111107)                    \
			what(r11, 0x11111108) what(r12, 0x11111109) what(r13, 0x1111110a)          \
				what(r14, 0x1111110b) what(r15, 0x1111110c)
#define ALL_VECTORS(what) what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7)
#define CLOBBERS                                                                                   \
	"rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",   \
		"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm15", "cc",     \
		"memory"

/* Some milliseconds of it; false: a register or the carry flag had another value. */
static bool compute_avx(void)
{
	bool ok = true;
	long good = (long)patterns;

	__asm__ volatile(ALL_VECTORS(SET_YMM)
				 ALL_GPRS(SET_GPR) "mov $100000, %%ecx\n"
						   "1:\n" ALL_GPRS(IS_GPR) ALL_VECTORS(
							   IS_YMM) "stc\n"
								   "nop\n nop\n nop\n nop\n"
								   "jnc 9f\n"
								   "dec %%ecx\n jnz 1b\n"
								   "jmp 8f\n"
								   "9: xor %%eax, %%eax\n"
								   "8: vzeroupper\n"
			 : "+a"(good)
			 :
			 : CLOBBERS);
	ok = good != 0;
	return ok;
}

static bool compute_sse(void)
{
	long good = (long)patterns;

	for (int i = 0; i < 2000 && good; i++)
		__asm__ volatile(
			ALL_VECTORS(SET_XMM) ALL_GPRS(
				SET_GPR) "mov $10, %%ecx\n"
					 "1: nop\n dec %%ecx\n jnz 1b\n" ALL_GPRS(IS_GPR)
						 ALL_VECTORS(IS_XMM) "stc\n nop\n nop\n jnc 9f\n"
								     "jmp 8f\n"
								     "9: xor %%eax, %%eax\n"
								     "8:\n"
			: "+a"(good)
			:
			: CLOBBERS);
	return good != 0;
}

static void *computes(void *arg)
{
	bool (*fn)(void) = __builtin_cpu_supports("avx") && arg ? compute_avx : compute_sse;

	setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
	while (!stop)
		if (!fn())
			return (void *)1;
	return NULL;
}

/* --- threads that wait ------------------------------------------------------------------------ */
static volatile int ticks;
static int bytes[2], wake;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void nothing(int sig)
{
	(void)sig;
}

static void tick(int sig)
{
	(void)sig;
	ticks++;
}

static bool mask_is(const sigset_t *want)
{
	sigset_t now;

	pthread_sigmask(SIG_SETMASK, NULL, &now);
	return memcmp(&now, want, 8) == 0;
}

/* Each with a mask of its own, and only SIGUSR2 gets through: at the end. */
static void own_mask(int odd, sigset_t *mask)
{
	sigfillset(mask);
	sigdelset(mask, SIGUSR2);
	sigdelset(mask, SIGRTMIN + odd);
	pthread_sigmask(SIG_SETMASK, mask, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, mask);
}

static void *sleeps(void *arg)
{
	struct timespec ts = { 3600, 0 };
	sigset_t mask;

	(void)arg;
	own_mask(1, &mask);
	if (nanosleep(&ts, &ts) == 0 || errno != EINTR || !stop || ts.tv_sec < 1000)
		return (void *)1;
	return mask_is(&mask) ? NULL : (void *)2;
}

static void *polls(void *arg)
{
	sigset_t mask;

	(void)arg;
	own_mask(2, &mask);
	if (poll(NULL, 0, 3600000) >= 0 || errno != EINTR || !stop)
		return (void *)1;
	return mask_is(&mask) ? NULL : (void *)2;
}

static void *ppolls(void *arg)
{
	sigset_t mask, inside;

	(void)arg;
	own_mask(3, &mask);
	pthread_sigmask(SIG_BLOCK, &(sigset_t){ { 1ul << (SIGUSR2 - 1) } }, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	sigfillset(&inside);
	sigdelset(&inside, SIGUSR2);
	if (ppoll(NULL, 0, NULL, &inside) >= 0 || errno != EINTR || !stop)
		return (void *)1;
	return mask_is(&mask) ? NULL : (void *)2;
}

static void *suspends(void *arg)
{
	sigset_t mask, inside;

	(void)arg;
	own_mask(4, &mask);
	pthread_sigmask(SIG_BLOCK, &(sigset_t){ { 1ul << (SIGUSR2 - 1) } }, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	sigfillset(&inside);
	sigdelset(&inside, SIGUSR2);
	if (sigsuspend(&inside) >= 0 || errno != EINTR || !stop)
		return (void *)1;
	return mask_is(&mask) ? NULL : (void *)2;
}

static void *waits_for_signal(void *arg)
{
	sigset_t mask, set;
	int n;

	(void)arg;
	own_mask(5, &mask);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 6);
	/* The kernel ends this call and epoll_wait() with EINTR where a thread is stopped. An
	 * engine hides that, if it lives long enough (signal(7)). */
	do
		n = sigwaitinfo(&set, NULL);
	while (n < 0 && errno == EINTR);
	if (n != SIGRTMIN + 6 || !stop)
		return (void *)1;
	return mask_is(&mask) ? NULL : (void *)2;
}

static void *reads(void *arg)
{
	sigset_t mask;
	char byte = 0;

	(void)arg;
	own_mask(7, &mask);
	if (read(bytes[0], &byte, 1) != 1 || byte != 'x' || !stop)
		return (void *)1;
	return mask_is(&mask) ? NULL : (void *)2;
}

static void *waits_for_events(void *arg)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0), n;
	sigset_t mask;

	(void)arg;
	own_mask(8, &mask);
	epoll_ctl(ep, EPOLL_CTL_ADD, wake, &ev);
	do
		n = epoll_wait(ep, &ev, 1, -1);
	while (n < 0 && errno == EINTR);
	close(ep);
	if (n != 1 || !stop)
		return (void *)1;
	return mask_is(&mask) ? NULL : (void *)2;
}

static void *waits_for_condition(void *arg)
{
	sigset_t mask;

	(void)arg;
	own_mask(9, &mask);
	pthread_mutex_lock(&lock);
	while (!stop)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	return mask_is(&mask) ? NULL : (void *)2;
}

/* pause() returns only after a handler, and after each. */
static void *pauses(void *arg)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
	struct itimerspec it = { { 0, 3000000 }, { 0, 3000000 } };
	timer_t timer;
	sigset_t mask;

	(void)arg;
	sigfillset(&mask);
	sigdelset(&mask, SIGALRM);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	ev._sigev_un._tid = gettid();
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) || timer_settime(timer, 0, &it, NULL))
		return (void *)3;
	while (!stop) {
		int before = ticks;

		if (pause() != -1 || errno != EINTR || ticks == before)
			return (void *)1;
		if (!mask_is(&mask))
			return (void *)2;
	}
	timer_delete(timer);
	return NULL;
}

/* What stops a thread for the engine is SIGURG; one that waits here is not touched. */
static void *keeps_pending(void *arg)
{
	sigset_t all, pending;

	(void)arg;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_kill(pthread_self(), SIGURG);
	while (!stop) {
		usleep(1000);
		sigpending(&pending);
		if (!sigismember(&pending, SIGURG) || sigismember(&pending, SIGWINCH) ||
		    sigismember(&pending, SIGTRAP))
			return (void *)1;
	}
	return NULL;
}

/* --- the program --------------------------------------------------------------------------------
 */
static int descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

/* The engine's scratch area is below everything else. */
static bool scratch_left(void)
{
	CLEANUP_FREE char *maps = NULL;

	return file_read("/proc/self/maps", 1 << 20, &maps, NULL, NULL) < 0 ||
	       strtoul(maps, NULL, 16) < 0x400000;
}

static int busy(struct trial *t)
{
	static void *(*const all[])(void *) = {
		computes,	  computes,
		sleeps,		  polls,
		ppolls,		  suspends,
		waits_for_signal, reads,
		waits_for_events, waits_for_condition,
		pauses,		  keeps_pending,
	};
	enum { N = sizeof(all) / sizeof(all[0]) };
	pthread_t th[N];
	uint64_t one = 1;
	int before, bad = 0;

	for (int i = 0; i < 8; i++)
		memset(patterns[i], 17 * i + 3, sizeof(patterns[i]));
	signal(SIGUSR2, nothing);
	signal(SIGALRM, tick);
	wake = eventfd(0, 0);
	if (pipe(bytes))
		return 1;
	for (size_t i = 0; i < N; i++)
		pthread_create(&th[i], NULL, all[i], (void *)(long)!i);
	usleep(50000);
	before = descriptors();
	trial_ready(t);
	trial_await(t);
	if (scratch_left())
		bad = 90;
	if (descriptors() != before)
		bad = 91;
	pthread_mutex_lock(&lock);
	stop = true;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
	if (write(bytes[1], "x", 1) != 1 || write(wake, &one, sizeof(one)) != sizeof(one))
		bad = 92;
	for (int i = 2; i < 6; i++)
		pthread_kill(th[i], SIGUSR2);
	pthread_kill(th[6], SIGRTMIN + 6);
	for (int i = 0; i < N; i++) {
		void *result = NULL;

		pthread_join(th[i], &result);
		if (result) {
			fprintf(stderr, "# thread %d: %ld\n", i, (long)result);
			bad = 10 + i;
		}
	}
	return bad;
}

/* --- the killer
 * ----------------------------------------------------------------------------------- */
static void ask(struct trial *t, const char *line)
{
	assert_int_equal(send(t->ca.sock, line, strlen(line), MSG_NOSIGNAL), strlen(line));
}

static void kill_engine(struct trial *t)
{
	int status;

	kill(t->engine_a, SIGKILL);
	waitpid(t->engine_a, &status, 0);
	t->engine_a = 0;
	control_client_close(&t->ca);
	t->ca = (struct control_client){ .sock = -1 };
}

/* As ferryd does after an engine has died. */
static int resume(struct trial *t)
{
	int status, r;

	t->engine_a = trial_engine(&t->ca.sock, -1, -1);
	r = trial_step(t, true, "resume",
		       json_pack("{s:s,s:i}", "cgroup", t->cg_a, "init_pid", t->a), NULL);
	control_client_close(&t->ca);
	waitpid(t->engine_a, &status, 0);
	t->engine_a = 0;
	t->ca = (struct control_client){ .sock = -1 };
	return r;
}

static int64_t whole_ns(struct trial *t, bool precopy)
{
	int64_t t0;

	assert_int_equal(trial_save_begin(t), 0);
	t0 = clock_mono_ns();
	if (precopy)
		assert_int_equal(trial_precopy(t), 0);
	assert_int_equal(trial_step(t, true, "freeze", NULL, NULL), 0);
	assert_int_equal(trial_step(t, true, "dump", NULL, NULL), 0);
	t0 = clock_mono_ns() - t0;
	assert_int_equal(trial_step(t, true, "resume", json_pack("{s:b}", "discard", 1), NULL), 0);
	kill_engine(t);
	return t0;
}

static void killed(bool precopy, int tries)
{
	struct trial t = { .program = busy };
	int64_t longest, end;
	int alive = 0, status = -1, i;

	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	trial_start(&t);
	longest = whole_ns(&t, precopy);
	srand(4711);
	end = clock_mono_ns() + 8000000000; /* a slow machine kills fewer */
	for (i = 0; i < tries && alive == 0 && clock_mono_ns() < end; i++) {
		assert_int_equal(trial_save_begin(&t), 0);
		if (precopy)
			ask(&t, "{\"op\":\"precopy\",\"downtime_ns\":200000000,"
				"\"timeout_ns\":10000000000,\"on_timeout\":\"go\"}\n");
		ask(&t, "{\"op\":\"freeze\"}\n{\"op\":\"dump\"}\n");
		clock_sleep_ns((int64_t)((double)longest * rand() / RAND_MAX));
		kill_engine(&t);
		/* Sometimes it runs on for a while before anybody comes. */
		if (i % 3 == 0)
			clock_sleep_ns(2000000);
		assert_int_equal(resume(&t), 0);
		alive = waitpid(t.a, &status, WNOHANG);
	}
	if (alive) {
		fprintf(stderr, "# it ended with %#x after %d engines\n", status, i);
		t.a = 0;
	}
	status = alive ? -1 : trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(status, 0);
}

static void test_killed_between_freeze_and_end_of_dump(void **state)
{
	(void)state;
	killed(false, 300);
}

static void test_killed_in_precopy(void **state)
{
	(void)state;
	killed(true, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_between_freeze_and_end_of_dump),
		cmocka_unit_test(test_killed_in_precopy),
	};

	TRIAL_UNSANITIZED();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
