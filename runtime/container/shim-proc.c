/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-shim: stdio of processes, running ferry-oci, and what happens when one ends. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/shim-internal.h"

extern char **environ;

void shim_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int make_pipe(int *ours, int *theirs, bool to_child)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	*ours = p[to_child ? 1 : 0];
	*theirs = p[to_child ? 0 : 1];
	return fd_set_nonblock(*ours, true);
}

/* The three descriptors a process starts with; a terminal comes later, over the socket. */
int shim_make_stdio(struct proc *p, struct error *err)
{
	int r = 0;

	p->in = p->out[1] = p->out[2] = p->console = -1;
	p->child[0] = p->child[1] = p->child[2] = -1;
	if (p->tty) {
		p->console = fd_unix_listen(p->console_path, 0600, err);
		if (p->console < 0)
			return p->console;
		for (int i = 0; i < 3; i++)
			p->child[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
		return 0;
	}
	if (p->open_stdin)
		r = make_pipe(&p->in, &p->child[0], true);
	else
		p->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int i = 1; i < 3 && !r; i++)
		r = make_pipe(&p->out[i], &p->child[i], false);
	if (r < 0 || p->child[0] < 0)
		return error_sys(err, r < 0 ? -r : errno, "making stdio pipes");
	return 0;
}

int shim_take_console(struct proc *p, struct error *err)
{
	struct pollfd pfd = { .fd = p->console, .events = POLLIN };
	CLEANUP_CLOSE int conn = -1;
	size_t nfds = 1;
	char name[256];
	int master = -1;

	if (poll(&pfd, 1, 10000) == 1)
		conn = accept4(p->console, NULL, NULL, SOCK_CLOEXEC);
	if (conn < 0 || fd_recv(conn, name, sizeof(name), &master, &nfds) <= 0 || nfds != 1)
		return error_set(err, EIO, "no terminal came from ferry-oci");
	fd_set_nonblock(master, true);
	p->in = master;
	p->out[1] = fcntl(master, F_DUPFD_CLOEXEC, 3);
	return 0;
}

void shim_made(struct proc *p)
{
	for (int i = 0; i < 3; i++)
		shim_close(&p->child[i]);
	shim_close(&p->console);
	if (p->console_path)
		unlink(p->console_path);
	if (p->pid_path)
		unlink(p->pid_path);
	if (p->log_path)
		unlink(p->log_path);
}

/* --- ferry-oci ----------------------------------------------------------------------------- */

pid_t shim_spawn(const char *const argv[], const int fds[3], struct error *err)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t at;
	sigset_t none;
	pid_t pid = -1;
	int r;

	sigemptyset(&none);
	posix_spawnattr_init(&at);
	posix_spawnattr_setsigmask(&at, &none);
	posix_spawnattr_setflags(&at, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&fa);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&fa, fds[i], i);
	r = posix_spawn(&pid, argv[0], &fa, &at, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&at);
	if (r)
		return error_sys(err, r, "starting %s", argv[0]);
	return pid;
}

/* What ferry-oci wrote last into its log, as the reason of a failure. */
int shim_oci_error(const char *log, int status, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	const char *msg = "ferry-oci failed and left no message";
	CLEANUP_JSON json_t *j = NULL;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;

	if (file_read(log, 1 << 20, &text, NULL, NULL) == 0) {
		size_t n = strlen(text);
		char *line;

		while (n && text[n - 1] == '\n')
			text[--n] = '\0';
		line = strrchr(text, '\n');
		line = line ? line + 1 : text;
		j = json_loads(line, 0, NULL);
		msg = json_str(j, "msg", msg);
	}
	return error_set(err, code == 127 ? ENOENT : code == 126 ? EACCES : EIO, "%s", msg);
}

pid_t shim_read_pid(const char *path)
{
	CLEANUP_FREE char *text = NULL;

	return file_read(path, 64, &text, NULL, NULL) == 0 ? atoi(text) : 0;
}

static void note_stdio(void)
{
	struct proc *p = &shim.init;

	for (int i = 0; i < 3; i++) {
		char path[64], link[256] = "";
		int n = 0;

		if (p->tty) {
			ioctl(p->in, TIOCGPTN, &n);
			shim.stdio[i] = str_format("/dev/pts/%d", n);
			continue;
		}
		snprintf(path, sizeof(path), "/proc/self/fd/%d", p->child[i]);
		shim.stdio[i] =
			readlink(path, link, sizeof(link) - 1) < 0 ? str_dup("") : str_dup(link);
	}
}

int shim_create(struct error *err)
{
	struct proc *p = &shim.init;
	const char *argv[24] = { shim.oci,   "--root",	     shim.oci_root, "--log",
				 "oci.log",  "--log-format", "json",	    "create",
				 "--bundle", shim.bundle,    "--pid-file",  "init.pid" };
	int n = 12, status, r;
	pid_t pid;

	p->console_path = str_dup("console.sock");
	unlink("oci.log");
	r = shim_make_stdio(p, err);
	if (r < 0)
		return r;
	if (shim.stub)
		argv[n++] = "--stub";
	if (p->tty) {
		argv[n++] = "--console-socket";
		argv[n++] = p->console_path;
	}
	argv[n++] = shim.id;
	pid = shim_spawn(argv, p->child, err);
	if (pid < 0)
		return pid;
	r = process_wait(pid, &status);
	if (r < 0)
		return error_sys(err, -r, "waiting for ferry-oci");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return shim_oci_error("oci.log", status, err);
	p->pid = shim_read_pid("init.pid");
	if (p->pid <= 0)
		return error_set(err, EIO, "ferry-oci wrote no pid");
	if (p->tty && (r = shim_take_console(p, err)) < 0)
		return r;
	process_start_time(p->pid, &shim.start);
	note_stdio();
	free(p->console_path);
	p->console_path = NULL;
	shim_made(p);
	unlink("console.sock");
	return 0;
}

/* --- processes that end ---------------------------------------------------------------------- */

static bool oom_happened(void)
{
	CLEANUP_FREE char *text = NULL;
	const char *p;

	if (!shim.oom_file || file_read(shim.oom_file, 65536, &text, NULL, NULL) < 0)
		return false;
	p = strstr(text, "oom_kill ");
	return p && atoll(p + 9) > 0;
}

static void write_exit(const struct proc *p)
{
	CLEANUP_FREE char *path = str_format("%s/exit.json", shim.state), *text = NULL;
	CLEANUP_FREE char *when = time_format(clock_real_ns());
	CLEANUP_JSON json_t *j = json_object();
	struct error err = { 0 };

	json_set_int(j, "exit_code", p->code);
	json_set_int(j, "signal", p->signal);
	json_set_bool(j, "oom", shim.oom);
	json_set_str(j, "finished_at", when);
	text = json_text(j);
	if (file_write_atomic(path, text, strlen(text), 0600, &err) < 0)
		log_error("%s", err.msg);
}

void shim_ended(struct proc *p, int status)
{
	p->exited = true;
	p->exited_ns = clock_mono_ns();
	p->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	p->code = p->signal ? 128 + p->signal : WEXITSTATUS(status);
	shim_close(&p->in);
	if (p == &shim.init)
		shim.oom = oom_happened();
}

void shim_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct proc *p;

		for (p = shim.procs; p; p = p->next)
			if (p->oci == pid || (p->pid == pid && !p->exited))
				break;
		if (p && p->oci == pid) {
			p->oci = 0;
			shim_exec_made(p, status);
		} else if (p) {
			shim_ended(p, status);
		} else {
			shim.orphan[shim.norphan % 256].pid = pid;
			shim.orphan[shim.norphan++ % 256].status = status;
		}
	}
}

bool shim_outputs_open(const struct proc *p)
{
	return p->out[1] >= 0 || p->out[2] >= 0;
}

/* All output is delivered: tell the clients, once. */
void shim_finish(struct proc *p)
{
	p->told = true;
	buf_free(&p->inq);
	if (p == &shim.init) {
		jsonlog_flush(&shim.log, 1);
		jsonlog_flush(&shim.log, 2);
		write_exit(p);
	}
	for (struct client *c = shim.clients; c; c = c->next) {
		json_t *j;

		if (c->proc != p && !(c->waiting && p == &shim.init))
			continue;
		j = json_object();
		json_set_int(j, "exit_code", p->code);
		if (c->waiting)
			shim_reply_ok(c, j);
		else
			shim_queue_json(c, j);
		c->finished = true;
		c->proc = NULL;
	}
}
