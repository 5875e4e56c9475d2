/* SPDX-License-Identifier: Apache-2.0 */
/* A session with a pty as its controlling terminal: foreground group, job control, hang-up. */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "object.h"

int main(int argc, char **argv)
{
	int m = posix_openpt(O_RDWR | O_NOCTTY), status, job_ready[2], n;
	char name[64], buf[8];
	pid_t shell, job;

	object_init(argc, argv);
	CHECK(m >= 0 && unlockpt(m) == 0 && ptsname_r(m, name, 64) == 0 && pipe(job_ready) == 0);
	shell = fork();
	if (shell == 0) {
		int t;

		close(m);
		setsid();
		t = open(name, O_RDWR);
		CHECK(t >= 0 && ioctl(t, TIOCSCTTY, 0) == 0);
		signal(SIGTTOU, SIG_IGN);
		job = fork();
		if (job == 0) {
			signal(SIGTTOU, SIG_DFL);
			signal(SIGINT, SIG_DFL);
			setpgid(0, 0);
			while (tcgetpgrp(t) != getpid())
				usleep(1000);
			CHECK(write(job_ready[1], "j", 1) == 1);
			pause();
			_exit(9);
		}
		setpgid(job, job);
		CHECK(tcsetpgrp(t, job) == 0);
		object_wait();
		/* still the job's: what is typed goes to it, and reading here stops us */
		CHECK(tcgetpgrp(t) == job && tcgetsid(t) == getpid());
		CHECK(write(job_ready[1], "s", 1) == 1);
		CHECK(waitpid(job, &status, 0) == job && WIFSIGNALED(status) &&
		      WTERMSIG(status) == SIGINT);
		CHECK(tcsetpgrp(t, getpid()) == 0);
		n = open("/dev/tty", O_RDWR);
		CHECK(n >= 0 && write(job_ready[1], "r", 1) == 1);
		CHECK(read(n, buf, 8) == 3 && memcmp(buf, "ok\n", 3) == 0);
		pause(); /* until the terminal hangs up */
		_exit(8);
	}
	CHECK(read(job_ready[0], buf, 1) == 1 && buf[0] == 'j');
	object_move();
	kill(shell, SIGUSR2);
	CHECK(read(job_ready[0], buf, 1) == 1 && buf[0] == 's');
	CHECK(write(m, "\x03", 1) == 1); /* Ctrl-C */
	CHECK(read(job_ready[0], buf, 1) == 1 && buf[0] == 'r' && write(m, "ok\n", 3) == 3);
	usleep(100000);
	close(m);
	CHECK(waitpid(shell, &status, 0) == shell && WIFSIGNALED(status) &&
		      WTERMSIG(status) == SIGHUP,
	      "%x", status);
	return 0;
}
