/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-shim: the requests of shim.h. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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

void shim_queue(struct client *c, int kind, const void *p, size_t n)
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

void shim_queue_json(struct client *c, json_t *j)
{
	CLEANUP_FREE char *text = json_text(j);

	shim_queue(c, SHIM_CONTROL, text, strlen(text));
	json_decref(j);
}

void shim_reply_error(struct client *c, int code, const char *msg)
{
	json_t *j = json_object();

	json_set_bool(j, "ok", false);
	json_set_int(j, "code", code);
	json_set_str(j, "error", msg);
	shim_queue_json(c, j);
}

void shim_reply_ok(struct client *c, json_t *j)
{
	if (!j)
		j = json_object();
	json_set_bool(j, "ok", true);
	shim_queue_json(c, j);
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
		shim_reply_ok(c, NULL);
		shim_queue_json(who, j);
		return;
	}
	shim_reply_ok(c, NULL);
}

static void start_exec(struct client *c, const json_t *req)
{
	struct proc *p = mem_zalloc(sizeof(*p)), **tail = &shim.procs;
	const char *argv[24] = {
		shim.oci,	"--root", shim.oci_root, "--log",     NULL,
		"--log-format", "json",	  "exec",	 "--process", json_str(req, "process", ""),
		"--pid-file",	NULL,	  "--detach"
	};
	struct error err = { 0 };
	int n = 13;

	p->id = str_dup(json_str(req, "proc", ""));
	p->tty = json_bool(req, "tty", false);
	p->open_stdin = json_bool(req, "stdin", false);
	p->stdin_once = true;
	p->console_path = str_format("c-%.16s.sock", p->id);
	argv[11] = p->pid_path = str_format("e-%.16s.pid", p->id);
	argv[4] = p->log_path = str_format("e-%.16s.log", p->id);
	if (shim_make_stdio(p, &err) == 0) {
		if (p->tty) {
			argv[n++] = "--console-socket";
			argv[n++] = p->console_path;
		}
		argv[n++] = shim.id;
		p->oci = shim_spawn(argv, p->child, &err);
	}
	if (p->oci <= 0) {
		shim_reply_error(c, err.code, err.msg);
		shim_made(p);
		shim_close(&p->in);
		shim_close(&p->out[1]);
		shim_close(&p->out[2]);
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
		shim_close(&p->child[i]);
	while (*tail)
		tail = &(*tail)->next;
	*tail = p;
}

/* ferry-oci exec has ended: the process runs, or there is an error to tell. */
void shim_exec_made(struct proc *p, int status)
{
	struct client *c = p->starter;
	struct error err = { 0 };

	p->starting = false;
	p->starter = NULL;
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		shim_oci_error(p->log_path, status, &err);
	} else {
		p->pid = shim_read_pid(p->pid_path);
		if (p->tty)
			shim_take_console(p, &err);
	}
	if (err.code) {
		p->exited = p->told = true;
		p->code = err.code == ENOENT ? 127 : 126;
		shim_close(&p->in);
		shim_close(&p->out[1]);
		shim_close(&p->out[2]);
		if (c)
			shim_reply_error(c, err.code, err.msg);
	} else if (c) {
		json_t *j = json_object();

		json_set_int(j, "pid", p->pid);
		shim_reply_ok(c, j);
		if (p->starter_attach) {
			c->proc = p;
			c->progress_ns = clock_mono_ns();
		}
	}
	shim_made(p);
	if (!p->tty && !p->starter_attach)
		shim_close(&p->in);
	for (unsigned i = 0; i < 256 && !p->exited; i++)
		if (shim.orphan[i].pid == p->pid && p->pid) {
			shim.orphan[i].pid = 0;
			shim_ended(p, shim.orphan[i].status);
		}
}

static void resize(struct client *c, struct proc *p, const json_t *req)
{
	struct winsize ws = { .ws_row = (unsigned short)json_int(req, "rows", 0),
			      .ws_col = (unsigned short)json_int(req, "cols", 0) };

	if (!p->tty || p->out[1] < 0)
		shim_reply_error(c, EINVAL, "it has no terminal");
	else if (ioctl(p->out[1], TIOCSWINSZ, &ws) < 0)
		shim_reply_error(c, errno, strerror(errno));
	else
		shim_reply_ok(c, NULL);
}

void shim_request(struct client *c, const char *text, size_t n)
{
	CLEANUP_JSON json_t *req = json_loadb(text, n, 0, NULL);
	const char *op = json_str(req, "op", "");
	struct proc *p = find_proc(json_str(req, "proc", ""));
	json_t *j;

	if (!strcmp(op, "exec")) {
		if (p)
			shim_reply_error(c, EEXIST, "this exec was started already");
		else if (shim.init.exited)
			shim_reply_error(c, ESRCH, "the container is not running");
		else
			start_exec(c, req);
	} else if (!p) {
		shim_reply_error(c, ENOENT, "no such process");
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
		json_object_set_new(
			j, "stdio",
			json_pack("[s,s,s]", shim.stdio[0], shim.stdio[1], shim.stdio[2]));
		shim_reply_ok(c, j);
	} else if (!strcmp(op, "exec-info")) {
		j = json_object();
		json_set_bool(j, "running", !p->told);
		json_set_int(j, "pid", p->pid);
		json_set_int(j, "exit_code", p->code);
		shim_reply_ok(c, j);
	} else {
		shim_reply_error(c, EINVAL, "unknown request");
	}
	shim_close(&c->passed);
}
