/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci run: create, start, wait with signals passed on, delete. */
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/str.h"
#include "runtime/oci/oci.h"

static const int forwarded[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH };

static void forwarded_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaddset(set, forwarded[i]);
}

void block_forwarded(void)
{
	sigset_t set;

	forwarded_set(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int wait_forwarding(pid_t pid)
{
	sigset_t set;
	int status;

	forwarded_set(&set);
	for (;;) {
		siginfo_t si;
		int sig;
		pid_t p = waitpid(pid, &status, WNOHANG);

		if (p == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (p < 0 && errno == ECHILD)
			return 1;
		sig = sigwaitinfo(&set, &si);
		if (sig > 0 && sig != SIGCHLD)
			process_kill(pid, sig);
	}
}

int cmd_run(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	static const struct option longs[] = { { "bundle", required_argument, 0, 'b' },
					       { "pid-file", required_argument, 0, 'p' },
					       { "console-socket", required_argument, 0, 'c' },
					       { "preserve-fds", required_argument, 0, 'f' },
					       { "detach", no_argument, 0, 'd' },
					       { "keep", no_argument, 0, 'k' },
					       { 0 } };
	static const char line[] = "run [--bundle DIR] [--pid-file FILE] [--console-socket SOCK] "
				   "[--preserve-fds N] [--detach] [--keep] ID";
	struct create_options o = { .bundle = "." };
	bool detach = false, keep = false;
	struct error ignored = { 0 };
	int64_t n = 0;
	pid_t pid;
	int c, r;

	while ((c = getopt_long(argc, argv, "b:d", longs, NULL)) != -1) {
		if (c == 'b')
			o.bundle = optarg;
		else if (c == 'p')
			o.pid_file = optarg;
		else if (c == 'c')
			o.console_socket = optarg;
		else if (c == 'f' && str_to_i64(optarg, 0, 1 << 20, &n) == 0)
			o.preserve_fds = (int)n;
		else if (c == 'd')
			detach = true;
		else if (c == 'k')
			keep = true;
		else
			return usage(err, line);
	}
	if (argc - optind != 1)
		return usage(err, line);
	o.id = argv[optind];
	if (!detach)
		block_forwarded();
	r = container_make(g, &o, &pid, err);
	if (r < 0)
		return r;
	r = container_begin(g, o.id, err);
	if (r < 0) {
		container_destroy(g, o.id, true, &ignored);
		return r;
	}
	if (detach)
		return 0;
	*status = wait_forwarding(pid);
	return keep ? 0 : container_destroy(g, o.id, true, err);
}
