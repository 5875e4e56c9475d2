/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferryd: opens the fabric, serves the API on a unix socket, and stops on SIGTERM or
 * SIGINT without touching containers, volumes or packets.
 *
 * Signals: nothing is blocked or ignored in a way that programs started from here would
 * inherit; a container whose init came into the world with SIGTERM blocked could not be
 * stopped. So SIGPIPE has a handler that does nothing (exec resets handlers, not
 * SIG_IGN), and the others write into a pipe that main() reads.
 */
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/config.h"
#include "api/docker/docker.h"
#include "api/ferry/ferry.h"
#include "api/server.h"
#include "api/version.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"

#define STOP_GRACE_MS 3000

static int signal_pipe[2];

static void on_signal(int signo)
{
	int saved = errno;
	unsigned char c = (unsigned char)signo;

	if (write(signal_pipe[1], &c, 1) < 0)
		c = 0; /* the pipe is full of signals: it stops anyway */
	errno = saved;
}

static void on_sigpipe(int signo)
{
	(void)signo;
}

static int catch_signals(struct error *err)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigaction pipe_sa = { .sa_handler = on_sigpipe, .sa_flags = SA_RESTART };
	sigset_t none;

	if (pipe2(signal_pipe, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe");
	fd_set_nonblock(signal_pipe[1], true);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGPIPE, &pipe_sa, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

static int wait_for_signal(void)
{
	unsigned char c = 0;
	ssize_t n;

	do
		n = read(signal_pipe[0], &c, 1);
	while (n < 0 && errno == EINTR);
	return c;
}

/*
 * One daemon a run folder: its pid file stays locked while it lives, whatever ends it.
 * The fd, which must stay open.
 */
static int take_pid_file(const char *run_dir, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/ferryd.pid", run_dir);
	CLEANUP_CLOSE int fd = -1;
	char text[32] = "";
	ssize_t n;

	if (dir_make(run_dir, 0755, err) < 0)
		return -err->code;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_sys(err, errno, "opening %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		n = read(fd, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		return error_set(err, EBUSY,
				 "another ferryd (pid %s) uses %s; stop it, or give --run-dir and "
				 "--state-dir",
				 *text ? text : "unknown", run_dir);
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return error_sys(err, errno, "writing %s", path);
	return TAKE_FD(fd);
}

static int listen_on(const char *path, struct error *err)
{
	const struct group *g = getgrnam("ferry");
	int fd = fd_unix_listen(path, 0660, err);

	if (fd >= 0 && g && chown(path, (uid_t)-1, g->gr_gid) < 0) {
		error_sys(err, errno, "giving %s to group ferry", path);
		close(fd);
		return -err->code;
	}
	return fd;
}

/* Each open stream takes a few descriptors. */
static void raise_limits(void)
{
	struct rlimit rl;

	if (!getrlimit(RLIMIT_NOFILE, &rl) && rl.rlim_cur < rl.rlim_max) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
}

static int run(const struct config *c, struct error *err)
{
	static const struct route *const tables[] = {
		docker_system_routes,	  docker_container_routes, docker_stream_routes,
		docker_exec_routes,	  docker_image_routes,	   docker_volume_routes,
		docker_network_routes,	  docker_registry_routes,  docker_archive_routes,
		docker_checkpoint_routes, docker_refused_routes,   ferry_routes,
	};
	struct server_config sc = { .tables = tables,
				    .ntables = sizeof(tables) / sizeof(tables[0]) };
	CLEANUP_CLOSE int pid_fd = take_pid_file(c->run_dir, err);
	struct server *server = NULL;
	int fd, r, signo;

	if (pid_fd < 0)
		return pid_fd;
	r = fabric_open(&c->fabric, &sc.fabric, err);
	if (r < 0)
		return r;
	fd = listen_on(c->socket, err);
	r = fd < 0 ? fd : server_start(&sc, fd, &server, err);
	if (r < 0) {
		fabric_close(sc.fabric);
		return r;
	}
	log_info("ferryd %s on host %s serves %s", FERRY_VERSION, fabric_host(sc.fabric),
		 c->socket);
	signo = wait_for_signal();
	log_info("stopping on %s; containers go on", strsignal(signo));
	unlink(c->socket);
	if (server_stop(server, STOP_GRACE_MS))
		fabric_close(sc.fabric);
	else
		log_info("requests are still at work; what they began is picked up at the next "
			 "start");
	return 0;
}

int main(int argc, char **argv)
{
	struct config c = { 0 };
	enum config_action action;
	struct error err = { 0 };
	int r;

	log_init("ferryd");
	r = config_read(&c, argc, argv, &action, &err);
	if (r < 0) {
		fprintf(stderr, "ferryd: %s\n", err.msg);
		return 2;
	}
	if (action == CONFIG_EXIT)
		return 0;
	umask(022);
	raise_limits();
	r = catch_signals(&err);
	if (!r)
		r = run(&c, &err);
	if (r < 0)
		fprintf(stderr, "ferryd: %s\n", err.msg);
	fflush(NULL);
	/* Threads may still be on their way out, with what a normal exit would take down. */
	_exit(r < 0 ? 1 : 0);
}
