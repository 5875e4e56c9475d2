/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-shim: parent of one container's processes. It owns their stdio, writes the log,
 * keeps the exit status, and serves clients as shim.h says. It knows nothing of Docker, the
 * network or volumes, and does not care whether ferryd lives.
 *
 * One thread, one poll loop. `struct proc` is the container's init or an exec; `struct
 * client` is a connection. Backpressure: while a client's queue is full, the output of its
 * process is not read.
 */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/jsonlog.h"
#include "runtime/container/shim.h"

#define QUEUE_FULL  (1u << 20)
#define STALL_NS    60000000000
#define LINGER_NS   2000000000 /* output of a dead init, if somebody still holds the pipe */

extern char **environ;

struct client {
	struct client *next;
	int fd;
	struct proc *proc; /* attached to; NULL: still asking */
	bool in, out, err, waiting, dead, finished;
	struct buf inq, outq;
	size_t out_done;
	int passed; /* descriptor that came with the request, or -1 */
	int64_t progress_ns;
};

struct proc {
	struct proc *next;
	char *id;
	bool tty, open_stdin, stdin_once, starting, exited, told;
	pid_t pid, oci;
	int code, signal;
	int in, out[3]; /* in: pipe to stdin or the pty master; out[1], out[2] */
	int child[3];	/* the process's ends while it is being made */
	struct buf inq;
	bool in_eof;
	int console; /* listening console socket while it is being made */
	char *console_path, *pid_path, *log_path;
	struct client *starter; /* who asked for this exec */
	bool starter_attach;
	int64_t exited_ns;
};

static struct {
	const char *id, *dir, *state, *oci, *oci_root, *bundle, *oom_file;
	bool stub;
	struct proc init;
	struct proc *procs; /* init first */
	struct client *clients;
	struct jsonlog log;
	char *stdio[3];
	uint64_t start;
	bool oom;
	struct {
		pid_t pid;
		int status;
	} orphan[256]; /* ends of children nobody has claimed yet */
	unsigned norphan;
} shim;

/* --- clients: queueing ----------------------------------------------------------------- */

static void queue(struct client *c, int kind, const void *p, size_t n)
{
	unsigned char h[SHIM_HEADER];

	if (c->dead)
		return;
	if (c->outq.len == c->out_done)
		c->progress_ns = clock_mono_ns();
	shim_header(h, kind, (uint32_t)n);
	buf_add(&c->outq, h, sizeof(h));
	buf_add(&c->outq, p, n);
}

static void queue_json(struct client *c, json_t *j)
{
	CLEANUP_FREE char *text = json_text(j);

	queue(c, SHIM_CONTROL, text, strlen(text));
	json_decref(j);
}

static void reply_error(struct client *c, int code, const char *msg)
{
	json_t *j = json_object();

	json_set_bool(j, "ok", false);
	json_set_int(j, "code", code);
	json_set_str(j, "error", msg);
	queue_json(c, j);
}

static void reply_ok(struct client *c, json_t *j)
{
	if (!j)
		j = json_object();
	json_set_bool(j, "ok", true);
	queue_json(c, j);
}

/* --- stdio ------------------------------------------------------------------------------- */

static void close_fd(int *fd)
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
static int make_stdio(struct proc *p, struct error *err)
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

static int take_console(struct proc *p, struct error *err)
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

static void made(struct proc *p)
{
	for (int i = 0; i < 3; i++)
		close_fd(&p->child[i]);
	close_fd(&p->console);
	if (p->console_path)
		unlink(p->console_path);
	if (p->pid_path)
		unlink(p->pid_path);
	if (p->log_path)
		unlink(p->log_path);
}

/* --- ferry-oci ----------------------------------------------------------------------------- */

static pid_t spawn(const char *const argv[], const int fds[3], struct error *err)
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
static int oci_error(const char *log, int status, struct error *err)
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

static pid_t read_pid(const char *path)
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
		shim.stdio[i] = readlink(path, link, sizeof(link) - 1) < 0 ? str_dup("") :
									     str_dup(link);
	}
}

static int create(struct error *err)
{
	struct proc *p = &shim.init;
	const char *argv[24] = { shim.oci,	"--root",      shim.oci_root, "--log", "oci.log",
				 "--log-format", "json",	"create",      "--bundle",
				 shim.bundle,	"--pid-file", "init.pid" };
	int n = 12, status, r;
	pid_t pid;

	p->console_path = str_dup("console.sock");
	unlink("oci.log");
	r = make_stdio(p, err);
	if (r < 0)
		return r;
	if (shim.stub)
		argv[n++] = "--stub";
	if (p->tty) {
		argv[n++] = "--console-socket";
		argv[n++] = p->console_path;
	}
	argv[n++] = shim.id;
	pid = spawn(argv, p->child, err);
	if (pid < 0)
		return pid;
	r = process_wait(pid, &status);
	if (r < 0)
		return error_sys(err, -r, "waiting for ferry-oci");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return oci_error("oci.log", status, err);
	p->pid = read_pid("init.pid");
	if (p->pid <= 0)
		return error_set(err, EIO, "ferry-oci wrote no pid");
	if (p->tty && (r = take_console(p, err)) < 0)
		return r;
	process_start_time(p->pid, &shim.start);
	note_stdio();
	free(p->console_path);
	p->console_path = NULL;
	made(p);
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

static void ended(struct proc *p, int status)
{
	p->exited = true;
	p->exited_ns = clock_mono_ns();
	p->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	p->code = p->signal ? 128 + p->signal : WEXITSTATUS(status);
	close_fd(&p->in);
	if (p == &shim.init)
		shim.oom = oom_happened();
}

static void exec_made(struct proc *p, int status);

static void reap(void)
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
			exec_made(p, status);
		} else if (p) {
			ended(p, status);
		} else {
			shim.orphan[shim.norphan % 256].pid = pid;
			shim.orphan[shim.norphan++ % 256].status = status;
		}
	}
}

static bool outputs_open(const struct proc *p)
{
	return p->out[1] >= 0 || p->out[2] >= 0;
}

/* All output is delivered: tell the clients, once. */
static void finish(struct proc *p)
{
	p->told = true;
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
			reply_ok(c, j);
		else
			queue_json(c, j);
		c->finished = true;
		c->proc = NULL;
	}
}

/* --- requests --------------------------------------------------------------------------------- */

static struct proc *find_proc(const char *id)
{
	for (struct proc *p = shim.procs; p; p = p->next)
		if (!strcmp(p->id, id))
			return p;
	return NULL;
}

static void attach(struct client *c, struct proc *p, const json_t *req)
{
	struct client *who = c;

	if (c->passed >= 0) {
		who = mem_zalloc(sizeof(*who));
		who->fd = TAKE_FD(c->passed);
		who->passed = -1;
		fd_set_nonblock(who->fd, true);
		who->next = shim.clients;
		shim.clients = who;
	}
	who->in = json_bool(req, "stdin", false);
	who->out = json_bool(req, "stdout", false);
	who->err = json_bool(req, "stderr", false);
	who->proc = p;
	who->progress_ns = clock_mono_ns();
	if (p->told) {
		json_t *j = json_object();

		json_set_int(j, "exit_code", p->code);
		who->finished = true;
		who->proc = NULL;
		reply_ok(c, NULL);
		queue_json(who, j);
		return;
	}
	reply_ok(c, NULL);
}

static void start_exec(struct client *c, const json_t *req)
{
	struct proc *p = mem_zalloc(sizeof(*p)), **tail = &shim.procs;
	const char *argv[24] = { shim.oci, "--root", shim.oci_root, "--log", NULL, "--log-format",
				 "json", "exec", "--process", json_str(req, "process", ""),
				 "--pid-file", NULL, "--detach" };
	struct error err = { 0 };
	int n = 13;

	p->id = str_dup(json_str(req, "proc", ""));
	p->tty = json_bool(req, "tty", false);
	p->open_stdin = json_bool(req, "stdin", false);
	p->stdin_once = true;
	p->console_path = str_format("c-%.16s.sock", p->id);
	argv[11] = p->pid_path = str_format("e-%.16s.pid", p->id);
	argv[4] = p->log_path = str_format("e-%.16s.log", p->id);
	if (make_stdio(p, &err) == 0) {
		if (p->tty) {
			argv[n++] = "--console-socket";
			argv[n++] = p->console_path;
		}
		argv[n++] = shim.id;
		p->oci = spawn(argv, p->child, &err);
	}
	if (p->oci <= 0) {
		reply_error(c, err.code, err.msg);
		made(p);
		close_fd(&p->in);
		close_fd(&p->out[1]);
		close_fd(&p->out[2]);
		free(p->id);
		free(p);
		return;
	}
	p->starting = true;
	p->starter = c;
	p->starter_attach = json_bool(req, "attach", false);
	c->in = json_bool(req, "stdin", false);
	c->out = json_bool(req, "stdout", false);
	c->err = json_bool(req, "stderr", false);
	for (int i = 0; i < 3; i++)
		close_fd(&p->child[i]);
	while (*tail)
		tail = &(*tail)->next;
	*tail = p;
}

/* ferry-oci exec has ended: the process runs, or there is an error to tell. */
static void exec_made(struct proc *p, int status)
{
	struct client *c = p->starter;
	struct error err = { 0 };

	p->starting = false;
	p->starter = NULL;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		oci_error(p->log_path, status, &err);
	} else {
		p->pid = read_pid(p->pid_path);
		if (p->tty)
			take_console(p, &err);
	}
	if (err.code) {
		p->exited = p->told = true;
		p->code = err.code == ENOENT ? 127 : 126;
		close_fd(&p->in);
		close_fd(&p->out[1]);
		close_fd(&p->out[2]);
		if (c)
			reply_error(c, err.code, err.msg);
	} else if (c) {
		json_t *j = json_object();

		json_set_int(j, "pid", p->pid);
		reply_ok(c, j);
		if (p->starter_attach) {
			c->proc = p;
			c->progress_ns = clock_mono_ns();
		}
	}
	made(p);
	if (!p->tty && !p->starter_attach)
		close_fd(&p->in);
	for (unsigned i = 0; i < 256 && !p->exited; i++)
		if (shim.orphan[i].pid == p->pid && p->pid) {
			shim.orphan[i].pid = 0;
			ended(p, shim.orphan[i].status);
		}
}

static void resize(struct client *c, struct proc *p, const json_t *req)
{
	struct winsize ws = { .ws_row = (unsigned short)json_int(req, "rows", 0),
			      .ws_col = (unsigned short)json_int(req, "cols", 0) };

	if (!p->tty || p->out[1] < 0)
		reply_error(c, EINVAL, "it has no terminal");
	else if (ioctl(p->out[1], TIOCSWINSZ, &ws) < 0)
		reply_error(c, errno, strerror(errno));
	else
		reply_ok(c, NULL);
}

static void request(struct client *c, const char *text, size_t n)
{
	CLEANUP_JSON json_t *req = json_loadb(text, n, 0, NULL);
	const char *op = json_str(req, "op", "");
	struct proc *p = find_proc(json_str(req, "proc", ""));
	json_t *j;

	if (!strcmp(op, "exec")) {
		if (p)
			reply_error(c, EEXIST, "this exec was started already");
		else if (shim.init.exited)
			reply_error(c, ESRCH, "the container is not running");
		else
			start_exec(c, req);
	} else if (!p) {
		reply_error(c, ENOENT, "no such process");
	} else if (!strcmp(op, "attach")) {
		attach(c, p, req);
	} else if (!strcmp(op, "resize")) {
		resize(c, p, req);
	} else if (!strcmp(op, "wait")) {
		c->waiting = true;
	} else if (!strcmp(op, "info")) {
		j = json_object();
		json_set_int(j, "pid", shim.init.pid);
		json_set_int(j, "start", (int64_t)shim.start);
		json_object_set_new(j, "stdio", json_pack("[s,s,s]", shim.stdio[0], shim.stdio[1],
							  shim.stdio[2]));
		reply_ok(c, j);
	} else if (!strcmp(op, "exec-info")) {
		j = json_object();
		json_set_bool(j, "running", !p->told);
		json_set_int(j, "pid", p->pid);
		json_set_int(j, "exit_code", p->code);
		reply_ok(c, j);
	} else {
		reply_error(c, EINVAL, "unknown request");
	}
	close_fd(&c->passed);
}

/* --- moving bytes -------------------------------------------------------------------------------- */

static void client_gone(struct client *c)
{
	struct proc *p = c->proc;

	c->dead = true;
	if (p && c->in && p->stdin_once)
		p->in_eof = true;
	for (p = shim.procs; p; p = p->next)
		if (p->starter == c)
			p->starter = NULL;
}

static void frame(struct client *c, int kind, const char *p, size_t n)
{
	if (kind == SHIM_CONTROL && !c->proc && !c->waiting && !c->finished) {
		request(c, p, n);
	} else if (kind == SHIM_STDIN && c->proc && c->in && c->proc->in >= 0) {
		if (n)
			buf_add(&c->proc->inq, p, n);
		else if (c->proc->stdin_once)
			c->proc->in_eof = true;
	}
}

static void read_client(struct client *c)
{
	char chunk[65536];
	int fds[4];
	size_t nfds = 4, used = 0;
	ssize_t n = fd_recv(c->fd, chunk, sizeof(chunk), fds, &nfds);

	for (size_t i = 0; n > 0 && i < nfds; i++) {
		if (c->passed < 0)
			c->passed = fds[i];
		else
			close(fds[i]);
	}
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		client_gone(c);
		return;
	}
	buf_add(&c->inq, chunk, (size_t)n);
	while (c->inq.len - used >= SHIM_HEADER) {
		const unsigned char *h = (const unsigned char *)c->inq.data + used;
		uint32_t len = shim_length(h);

		if (len > SHIM_FRAME_MAX) {
			client_gone(c);
			return;
		}
		if (c->inq.len - used < SHIM_HEADER + len)
			break;
		frame(c, h[0], (const char *)h + SHIM_HEADER, len);
		used += SHIM_HEADER + len;
	}
	if (used) {
		memmove(c->inq.data, c->inq.data + used, c->inq.len - used);
		c->inq.len -= used;
	}
}

static void write_client(struct client *c)
{
	while (c->out_done < c->outq.len) {
		ssize_t n = send(c->fd, c->outq.data + c->out_done, c->outq.len - c->out_done,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				client_gone(c);
			return;
		}
		c->out_done += (size_t)n;
		c->progress_ns = clock_mono_ns();
	}
	c->outq.len = c->out_done = 0;
	if (c->outq.cap > 4 * QUEUE_FULL / 16)
		buf_free(&c->outq);
}

static void read_output(struct proc *p, int stream)
{
	char chunk[65536];
	ssize_t n = read(p->out[stream], chunk, sizeof(chunk));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* a terminal without a process gives EIO */
		if (n < 0 && errno == EIO && p->tty && !p->exited)
			return; /* all of it closed the terminal, but it may be opened again */
		if (p == &shim.init)
			jsonlog_flush(&shim.log, stream);
		close_fd(&p->out[stream]);
		return;
	}
	if (p == &shim.init)
		jsonlog_add(&shim.log, stream, chunk, (size_t)n);
	for (struct client *c = shim.clients; c; c = c->next)
		if (c->proc == p && (stream == 1 ? c->out : c->err))
			queue(c, stream, chunk, (size_t)n);
}

static void write_input(struct proc *p)
{
	ssize_t n = p->inq.len ? write(p->in, p->inq.data, p->inq.len) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		close_fd(&p->in);
		p->inq.len = 0;
		return;
	}
	if (n > 0) {
		memmove(p->inq.data, p->inq.data + n, p->inq.len - (size_t)n);
		p->inq.len -= (size_t)n;
	}
	if (!p->inq.len && p->in_eof && !p->tty)
		close_fd(&p->in);
}

/* A process must wait while one of its clients is full; see who has had its time. */
static bool must_wait(const struct proc *p)
{
	bool wait = false;

	for (struct client *c = shim.clients; c; c = c->next) {
		if (c->proc != p || c->dead || c->outq.len - c->out_done < QUEUE_FULL)
			continue;
		if (p == &shim.init && clock_mono_ns() - c->progress_ns > STALL_NS)
			client_gone(c);
		else
			wait = true;
	}
	return wait;
}

static void drop_clients(void)
{
	for (struct client **at = &shim.clients; *at;) {
		struct client *c = *at;

		if (!c->dead && !(c->finished && c->out_done == c->outq.len)) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		close(c->fd);
		close_fd(&c->passed);
		buf_free(&c->inq);
		buf_free(&c->outq);
		free(c);
	}
}

static void accept_client(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c;

	if (fd < 0)
		return;
	c = mem_zalloc(sizeof(*c));
	c->fd = fd;
	c->passed = -1;
	c->next = shim.clients;
	shim.clients = c;
}

struct slot {
	enum { SLOT_LISTEN, SLOT_SIGNAL, SLOT_CLIENT, SLOT_OUT, SLOT_IN } kind;
	struct client *client;
	struct proc *proc;
	int stream;
};

static struct pollfd *pfds;
static struct slot *slots;
static size_t nslots, slots_cap;

static void watch(int fd, short events, struct slot slot)
{
	if (nslots == slots_cap) {
		slots_cap = slots_cap ? slots_cap * 2 : 32;
		pfds = mem_grow(pfds, slots_cap, sizeof(*pfds));
		slots = mem_grow(slots, slots_cap, sizeof(*slots));
	}
	pfds[nslots] = (struct pollfd){ .fd = fd, .events = events };
	slots[nslots++] = slot;
}

/* Fills the poll set; returns the timeout in milliseconds. */
static int arrange(int listener, int sigfd)
{
	int timeout = -1;

	nslots = 0;
	watch(listener, POLLIN, (struct slot){ .kind = SLOT_LISTEN });
	watch(sigfd, POLLIN, (struct slot){ .kind = SLOT_SIGNAL });
	for (struct proc *p = shim.procs; p; p = p->next) {
		bool wait = must_wait(p);

		if (p->exited && !p->told)
			timeout = 50;
		if (wait)
			timeout = 1000;
		for (int i = 1; i < 3 && !wait && !p->starting; i++)
			if (p->out[i] >= 0)
				watch(p->out[i], POLLIN, (struct slot){ SLOT_OUT, NULL, p, i });
		if (p->in >= 0 && !p->starting && (p->inq.len || (p->in_eof && !p->tty)))
			watch(p->in, POLLOUT, (struct slot){ SLOT_IN, NULL, p, 0 });
	}
	for (struct client *c = shim.clients; c; c = c->next) {
		bool full = c->proc && c->proc->inq.len > QUEUE_FULL;
		short ev = (short)((full ? 0 : POLLIN) | (c->outq.len > c->out_done ? POLLOUT : 0));

		watch(c->fd, ev, (struct slot){ SLOT_CLIENT, c, NULL, 0 });
	}
	return timeout;
}

/* A hung-up terminal or pipe polls readable for ever: give the processor away. */
static bool quiet_hangup(const struct slot *s, short revents)
{
	return s->kind == SLOT_OUT && s->proc->tty && !s->proc->exited && !(revents & POLLIN);
}

static void serve(int listener, int sigfd)
{
	for (;;) {
		int timeout = arrange(listener, sigfd);
		struct signalfd_siginfo si;
		bool idle = true;

		if (poll(pfds, nslots, timeout) < 0 && errno != EINTR)
			return;
		for (size_t i = 0; i < nslots; i++) {
			struct slot *s = &slots[i];
			short ev = pfds[i].revents;

			if (!ev)
				continue;
			if (quiet_hangup(s, ev))
				continue;
			idle = false;
			if (s->kind == SLOT_LISTEN)
				accept_client(listener);
			else if (s->kind == SLOT_SIGNAL)
				while (read(sigfd, &si, sizeof(si)) > 0)
					;
			else if (s->kind == SLOT_OUT && s->proc->out[s->stream] >= 0)
				read_output(s->proc, s->stream);
			else if (s->kind == SLOT_IN && s->proc->in >= 0)
				write_input(s->proc);
			else if (s->kind == SLOT_CLIENT && !s->client->dead) {
				if (ev & (POLLIN | POLLHUP | POLLERR))
					read_client(s->client);
				if (!s->client->dead)
					write_client(s->client);
			}
		}
		reap();
		if (idle && timeout < 0)
			clock_sleep_ns(20000000);
		for (struct proc *p = shim.procs; p; p = p->next) {
			if (!p->exited || p->told)
				continue;
			if (outputs_open(p) && clock_mono_ns() - p->exited_ns > LINGER_NS &&
			    !must_wait(p)) {
				close_fd(&p->out[1]);
				close_fd(&p->out[2]);
			}
			if (!outputs_open(p))
				finish(p);
		}
		for (struct client *c = shim.clients; c; c = c->next)
			if (!c->dead && c->outq.len > c->out_done)
				write_client(c);
		drop_clients();
		/* Init's end is the container's end; clients that read get their rest. */
		if (shim.init.told) {
			bool busy = false;

			for (struct client *c = shim.clients; c; c = c->next)
				busy |= c->outq.len > c->out_done &&
					clock_mono_ns() - c->progress_ns < STALL_NS;
			for (struct proc *p = shim.procs; p; p = p->next)
				busy |= !p->told && !p->starting &&
					clock_mono_ns() - shim.init.exited_ns < STALL_NS;
			if (!busy)
				return;
		}
	}
}

/* --- start ---------------------------------------------------------------------------------------- */

static void report(int fd, const struct error *err)
{
	CLEANUP_JSON json_t *j = json_object();
	CLEANUP_FREE char *text = NULL;

	json_set_bool(j, "ok", !err);
	if (err) {
		json_set_int(j, "code", err->code);
		json_set_str(j, "error", err->msg);
	} else {
		json_set_int(j, "pid", shim.init.pid);
	}
	text = json_text(j);
	/* Whoever asked for it is gone: nobody will ever start this container. */
	if (fd_write_all(fd, text, strlen(text)) < 0 && !err)
		process_kill(shim.init.pid, SIGKILL);
	close(fd);
}

static int options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "id", 1, 0, 'i' },	    { "dir", 1, 0, 'd' },	 { "state", 1, 0, 's' },
		{ "oci", 1, 0, 'o' },	    { "oci-root", 1, 0, 'r' }, { "bundle", 1, 0, 'b' },
		{ "oom-file", 1, 0, 'm' }, { "stub", 0, 0, 'S' },	 { "tty", 0, 0, 't' },
		{ "open-stdin", 0, 0, 'I' }, { "stdin-once", 0, 0, 'O' }, { 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'i':
			shim.id = optarg;
			break;
		case 'd':
			shim.dir = optarg;
			break;
		case 's':
			shim.state = optarg;
			break;
		case 'o':
			shim.oci = optarg;
			break;
		case 'r':
			shim.oci_root = optarg;
			break;
		case 'b':
			shim.bundle = optarg;
			break;
		case 'm':
			shim.oom_file = optarg;
			break;
		case 'S':
			shim.stub = true;
			break;
		case 't':
			shim.init.tty = true;
			break;
		case 'I':
			shim.init.open_stdin = true;
			break;
		case 'O':
			shim.init.stdin_once = true;
			break;
		default:
			return -EINVAL;
		}
	}
	return shim.id && shim.dir && shim.state && shim.oci && shim.oci_root && shim.bundle ?
		       0 :
		       -EINVAL;
}

/* Reports on fd 3 of its caller: {"ok":true,"pid":N} or {"ok":false,"code","error"}. */
int main(int argc, char **argv)
{
	CLEANUP_FREE char *log = NULL;
	struct error err = { 0 };
	int listener = -1, sigfd, null, errlog, r;
	sigset_t set;

	log_init("ferry-shim");
	if (options(argc, argv) < 0) {
		fprintf(stderr, "usage: ferry-shim --id ID --dir DIR --state DIR --oci PROGRAM "
				"--oci-root DIR --bundle DIR [--oom-file FILE] [--stub] [--tty] "
				"[--open-stdin] [--stdin-once]   (reports on fd 3)\n");
		return 2;
	}
	r = fork();
	if (r < 0)
		return 1;
	if (r > 0)
		_exit(0);
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fd_set_cloexec(3, true);
	close_range(4, ~0u, 0); /* nothing of ferryd's may live on in here */
	shim.init.id = str_dup("");
	shim.init.in = shim.init.out[1] = shim.init.out[2] = -1;
	shim.procs = &shim.init;
	if (chdir(shim.dir) < 0)
		error_sys(&err, errno, "entering %s", shim.dir);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	errlog = open("shim.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	dup2(null, 0);
	dup2(null, 1);
	dup2(errlog >= 0 ? errlog : null, 2);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	log = str_format("%s/%s-json.log", shim.state, shim.id);
	shim.log.fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (!err.code && shim.log.fd < 0)
		error_sys(&err, errno, "opening %s", log);
	if (!err.code)
		listener = fd_unix_listen("shim.sock", 0600, &err);
	if (!err.code)
		create(&err);
	if (err.code) {
		unlink("shim.sock");
		report(3, &err);
		return 1;
	}
	report(3, NULL);
	serve(listener, sigfd);
	unlink("shim.sock");
	return 0;
}
