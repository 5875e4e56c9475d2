/* SPDX-License-Identifier: Apache-2.0 */
/* Trees of processes that change during pre-copy, and those that no parent could have made. */
#include <errno.h>

#include "tests/unit/checkpoint/harness.h"

#define MIB (1 << 20)

static void wait_for(const struct trial *t, const char *name)
{
	while (!trial_told(t, name))
		usleep(1000);
}

static bool has_changed(struct trial *t)
{
	return trial_told(t, "changed");
}

/* One pre-copy, then the program does its thing, another pre-copy, the rest. */
static void change_between(int (*program)(struct trial *t))
{
	struct trial t = { .program = program };
	int r, status = -1;

	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	trial_start(&t);
	trial_connect(&t);
	r = trial_precopy(&t);
	trial_touch(&t, "change");
	trial_sleep_until(has_changed, &t);
	if (r == 0)
		r = trial_migrate(&t);
	if (r == 0)
		status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

/* --- parents that end ------------------------------------------------------------------ */
/* Its child becomes init's, in the middle of pre-copy, with all of its memory. */
static int orphaned(struct trial *t)
{
	int status, pipes[2];
	pid_t middle, child;
	char *p;

	if (pipe(pipes))
		return 1;
	middle = fork();
	if (middle == 0) {
		child = fork();
		if (child == 0) {
			p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				 -1, 0);
			memset(p, 9, 4 * MIB);
			trial_touch(t, "filled");
			trial_await(t);
			for (int i = 0; i < 4 * MIB; i++)
				if (p[i] != 9)
					_exit(11);
			_exit(getppid() == 1 ? 12 : 13);
		}
		if (write(pipes[1], &child, sizeof(child)) != sizeof(child))
			_exit(1);
		wait_for(t, "change");
		_exit(0);
	}
	if (read(pipes[0], &child, sizeof(child)) != sizeof(child))
		return 2;
	wait_for(t, "filled");
	trial_ready(t);
	if (waitpid(middle, &status, 0) != middle)
		return 3;
	trial_touch(t, "changed");
	trial_await(t);
	if (waitpid(child, &status, 0) != child)
		return 4;
	return WEXITSTATUS(status) == 12 ? 0 : WEXITSTATUS(status);
}

static void test_child_whose_parent_ends_in_precopy_keeps_its_memory(void **state)
{
	(void)state;
	change_between(orphaned);
}

/* The parent is a zombie for the rest of the migration; the child a subreaper's. */
static int reparented_to_subreaper(struct trial *t)
{
	int status;
	pid_t reaper = fork();

	if (reaper == 0) {
		pid_t middle;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		middle = fork();
		if (middle == 0) {
			if (fork() == 0) {
				volatile char filled[MIB];

				memset((char *)filled, 5, sizeof(filled));
				trial_touch(t, "filled");
				trial_await(t);
				for (int i = 0; i < MIB; i++)
					if (filled[i] != 5)
						_exit(21);
				_exit(getppid() == 2 ? 22 : 23);
			}
			wait_for(t, "change");
			_exit(7);
		}
		wait_for(t, "change");
		waitid(P_PID, (id_t)middle, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
		trial_touch(t, "changed");
		trial_await(t);
		if (waitpid(middle, &status, 0) != middle || WEXITSTATUS(status) != 7)
			_exit(24);
		_exit(wait(&status) > 0 ? WEXITSTATUS(status) : 25);
	}
	wait_for(t, "filled");
	trial_ready(t);
	trial_await(t);
	if (reaper != 2 || waitpid(reaper, &status, 0) != reaper)
		return 1;
	return WEXITSTATUS(status) == 22 ? 0 : WEXITSTATUS(status);
}

static void test_child_of_a_zombie_goes_to_the_subreaper(void **state)
{
	(void)state;
	change_between(reparented_to_subreaper);
}

/* --- sessions and groups ----------------------------------------------------------------- */
static pid_t told_pid(int fd)
{
	pid_t pid = -1;

	return read(fd, &pid, sizeof(pid)) == sizeof(pid) ? pid : -1;
}

/* The usual daemon: fork, setsid, fork; and a group whose leader has ended inside of it. */
static int daemonized(struct trial *t)
{
	int status, p[2];
	pid_t first, second;

	alarm(60);
	if (pipe(p))
		return 1;
	if (fork() == 0) {
		pid_t pid = fork(), leader, tell[2];

		if (pid > 0)
			_exit(0);
		setsid();
		leader = getpid();
		pid = fork();
		if (pid > 0)
			_exit(0);
		pid = fork();
		if (pid == 0) {
			/* A group of its own, whose leader ends as well. */
			setpgid(0, 0);
			leader = getpid();
			pid = fork();
			if (pid > 0)
				_exit(0);
			while (getppid() != 1)
				usleep(1000);
			trial_touch(t, "grouped");
			trial_await(t);
			_exit(getpgid(0) == leader && getsid(0) != leader && getppid() == 1 ? 31
											    : 32);
		}
		while (getppid() != 1)
			usleep(1000);
		wait(NULL);
		wait_for(t, "grouped");
		tell[0] = getpid();
		tell[1] = leader;
		if (write(p[1], tell, sizeof(tell)) != sizeof(tell))
			_exit(1);
		trial_await(t);
		_exit(getsid(0) == leader && getpgid(0) == leader && getppid() == 1 ? 33 : 34);
	}
	second = told_pid(p[0]);
	first = told_pid(p[0]);
	while (kill(first, 0) == 0)
		while (waitpid(-1, &status, WNOHANG) > 0)
			;
	close(p[0]);
	close(p[1]);
	trial_ready(t);
	trial_await(t);
	/* The session's number is taken for as long as the session has members. */
	for (int i = 0; i < 400; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		waitpid(pid, &status, 0);
		if (pid == first)
			return 5;
	}
	if (waitpid(second, &status, 0) != second || WEXITSTATUS(status) != 33)
		return 2;
	return wait(&status) > 0 && WEXITSTATUS(status) == 31 ? 0 : 3;
}

static void test_session_and_group_of_an_ended_leader(void **state)
{
	struct trial t = { .program = daemonized };

	(void)state;
	trial_run(&t, 0);
}

/* What was made in its parent's old session; and a process that leads one since pre-copy. */
static int leads_later(struct trial *t)
{
	int status;
	pid_t parent = fork(), other;

	if (parent == 0) {
		pid_t child = fork(), inner;

		if (child == 0) {
			trial_await(t);
			_exit(getsid(0) == 1 ? 41 : 42);
		}
		setsid();
		inner = fork();
		if (inner == 0) {
			trial_await(t);
			_exit(getsid(0) == getppid() ? 43 : 44);
		}
		trial_touch(t, "led");
		trial_await(t);
		if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 41)
			_exit(45);
		if (waitpid(inner, &status, 0) != inner || WEXITSTATUS(status) != 43)
			_exit(46);
		_exit(0);
	}
	other = fork();
	if (other == 0) {
		pid_t pid;

		wait_for(t, "change");
		setsid();
		pid = fork();
		if (pid == 0) {
			setpgid(0, 0);
			trial_touch(t, "changed");
			trial_await(t);
			_exit(getsid(0) == getppid() && getpgid(0) == getpid() ? 0 : 47);
		}
		trial_await(t);
		_exit(waitpid(pid, &status, 0) == pid && getsid(0) == getpid() ? WEXITSTATUS(status)
									       : 48);
	}
	wait_for(t, "led");
	trial_ready(t);
	trial_await(t);
	if (waitpid(parent, &status, 0) != parent || status)
		return WEXITSTATUS(status);
	return waitpid(other, &status, 0) == other ? WEXITSTATUS(status) : 1;
}

static void test_sessions_made_late_or_left_behind(void **state)
{
	(void)state;
	change_between(leads_later);
}

/* --- shared tables ------------------------------------------------------------------------- */
static long clone_sharing(unsigned long flags)
{
	return syscall(SYS_clone, flags, 0, 0, 0, 0);
}

/* init, its child and a grandchild whose parent has ended share one table. */
static int one_table(struct trial *t)
{
	int p[2], q[2], status, fd;
	char name[16];
	pid_t child, alone;

	if (pipe(p) || pipe(q))
		return 1;
	alone = fork();
	if (alone == 0) {
		wait_for(t, "opened");
		_exit(fcntl(100, F_GETFD) < 0 ? 0 : 51);
	}
	child = (pid_t)clone_sharing(CLONE_FILES | CLONE_FS | SIGCHLD);
	if (child == 0) {
		if (clone_sharing(CLONE_FILES | CLONE_FS | SIGCHLD) > 0)
			syscall(SYS_exit, 0);
		while (getppid() != 1)
			usleep(1000);
		trial_ready(t);
		/* The pipe was moved to 101 by init, in the one table there is. */
		if (read(p[0], name, 2) != 2 || dup2(p[0], 100) != 100 || chdir("/proc"))
			_exit(52);
		trial_touch(t, "opened");
		_exit(0);
	}
	if (waitpid(child, &status, 0) != child || status)
		return 2;
	trial_await(t);
	fd = dup2(p[1], 101);
	if (write(fd, "go", 2) != 2)
		return 3;
	wait_for(t, "opened");
	if (fcntl(100, F_GETFD) < 0)
		return 4;
	if (access("self", F_OK))
		return 5;
	if (waitpid(alone, &status, 0) != alone || status)
		return WEXITSTATUS(status);
	return wait(&status) > 0 ? WEXITSTATUS(status) : 6;
}

static void test_processes_share_one_descriptor_table(void **state)
{
	struct trial t = { .program = one_table };

	(void)state;
	trial_run(&t, 0);
}

/* The table was shared in the first round, and is not any more. */
static int unshared_later(struct trial *t)
{
	int status;
	pid_t child = (pid_t)clone_sharing(CLONE_FILES | SIGCHLD);

	if (child == 0) {
		wait_for(t, "change");
		unshare(CLONE_FILES);
		dup2(0, 77);
		trial_touch(t, "changed");
		trial_await(t);
		_exit(fcntl(77, F_GETFD) < 0 || fcntl(78, F_GETFD) >= 0);
	}
	trial_ready(t);
	wait_for(t, "changed");
	dup2(0, 78);
	trial_await(t);
	if (fcntl(77, F_GETFD) >= 0 || fcntl(78, F_GETFD) < 0)
		return 1;
	return waitpid(child, &status, 0) == child && status == 0 ? 0 : 2;
}

static void test_table_shared_no_more(void **state)
{
	(void)state;
	change_between(unshared_later);
}

/* A child that tells its end by another signal, and one that does not at all. */
static int exit_signals(struct trial *t)
{
	pid_t loud = (pid_t)clone_sharing(SIGUSR1), quiet;
	sigset_t set;
	siginfo_t si;

	if (loud == 0) {
		trial_await(t);
		_exit(3);
	}
	quiet = (pid_t)clone_sharing(0);
	if (quiet == 0) {
		trial_await(t);
		_exit(4);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	trial_ready(t);
	if (sigwaitinfo(&set, &si) != SIGUSR1 || si.si_pid != loud)
		return 1;
	if (waitpid(loud, NULL, __WCLONE) != loud || waitpid(quiet, NULL, __WALL) != quiet)
		return 2;
	sigpending(&set);
	return sigismember(&set, SIGCHLD) ? 3 : 0;
}

static void test_exit_signal_of_a_clone(void **state)
{
	struct trial t = { .program = exit_signals };

	(void)state;
	trial_run(&t, 0);
}

/* --- programs that are started --------------------------------------------------------- */
/* A known process is another program by now; and one starts others without a pause. */
static int starts_programs(struct trial *t)
{
	char script[256];
	pid_t later, always;
	int status;

	later = fork();
	if (later == 0) {
		wait_for(t, "change");
		snprintf(script, sizeof(script),
			 "touch %s/changed; until [ -e %s/go ]; do sleep 0.01; done; exit 5",
			 t->dir, t->dir);
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(1);
	}
	always = fork();
	if (always == 0) {
		snprintf(script, sizeof(script), "until [ -e %s/go ]; do /bin/true; done; exit 6",
			 t->dir);
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(1);
	}
	trial_ready(t);
	if (waitpid(later, &status, 0) != later || WEXITSTATUS(status) != 5)
		return 1;
	if (waitpid(always, &status, 0) != always || WEXITSTATUS(status) != 6)
		return 2;
	return 0;
}

static void test_programs_started_in_precopy(void **state)
{
	(void)state;
	change_between(starts_programs);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_child_whose_parent_ends_in_precopy_keeps_its_memory),
		cmocka_unit_test(test_child_of_a_zombie_goes_to_the_subreaper),
		cmocka_unit_test(test_session_and_group_of_an_ended_leader),
		cmocka_unit_test(test_sessions_made_late_or_left_behind),
		cmocka_unit_test(test_processes_share_one_descriptor_table),
		cmocka_unit_test(test_table_shared_no_more),
		cmocka_unit_test(test_exit_signal_of_a_clone),
		cmocka_unit_test(test_programs_started_in_precopy),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
