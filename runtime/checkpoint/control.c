/* SPDX-License-Identifier: Apache-2.0 */
/* JSON lines between ferryd and its engine, both ends; control.h is the contract. */
#include "runtime/checkpoint/control.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/postcopy.h"

#define PROGRESS_MS 250 /* between two events of post-copy */

/* --- the engine's end -------------------------------------------------------------------- */
struct engine {
	int sock;
	struct buf in;
	struct dump *d;
	struct restore *r;
	bool waiting; /* wait_restored was asked and not yet answered */
	json_t *arm;  /* its arguments: armed before it is answered */
	bool late;    /* wait_memory was asked and not yet answered */
	bool orphan;  /* post-copy goes on without a ferryd */
	int armed;    /* listening socket for a restarted ferryd; -1: not armed */
	bool eof;
	bool told; /* the failure has been said */
};

static void send_line(int sock, json_t *j)
{
	CLEANUP_FREE char *text = json_dumps(j, JSON_COMPACT);
	CLEANUP_FREE char *line = str_format("%s\n", text ? text : "{}");
	size_t done = 0, len = strlen(line);

	while (done < len) {
		ssize_t n = send(sock, line + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break; /* ferryd is gone: the main loop sees it */
		done += (size_t)n;
	}
	json_decref(j);
}

void control_event(int sock, json_t *event)
{
	send_line(sock, event);
}

static void answer(struct engine *e, int code, json_t *body, const struct error *err)
{
	if (code < 0) {
		json_decref(body);
		body = json_pack("{s:b,s:o,s:i}", "ok", 0, "error",
				 json_any_string(err->msg[0] ? err->msg : strerror(-code)), "errno",
				 -code);
	} else {
		if (!body)
			body = json_object();
		json_object_set_new(body, "ok", json_true());
	}
	send_line(e->sock, body);
}

static struct dump *source(struct engine *e)
{
	if (!e->d) {
		e->d = mem_zalloc(sizeof(*e->d));
		e->d->control = e->sock;
		e->d->root_fd = -1;
		e->d->page_buf = mem_zalloc(1 << 20);
	}
	return e->d;
}

static struct restore *destination(struct engine *e)
{
	if (!e->r) {
		e->r = mem_zalloc(sizeof(*e->r));
		e->r->control = e->sock;
		e->r->listen_fd = e->r->root_fd = -1;
	}
	return e->r;
}

static json_t *restored(const struct restore *r)
{
	return json_pack("{s:{s:I,s:I,s:I,s:I,s:I,s:I},s:i,s:b}", "timings", "install_ns",
			 (json_int_t)r->install_ns, "late_ns", (json_int_t)r->late_ns, "memory_ns",
			 (json_int_t)r->mem_ns, "objects_ns", (json_int_t)r->obj_ns, "tasks_ns",
			 (json_int_t)r->task_ns, "total_ns", (json_int_t)r->done_ns, "tasks",
			 (int)r->tasks.n, "verified", r->verified);
}

/* Takes the fields that name the container; needed before anything else. */
static int name_container(struct dump *d, json_t *args, struct error *err)
{
	const char *cgroup = json_string_value(json_object_get(args, "cgroup"));
	json_t *pid = json_object_get(args, "init_pid");

	if (cgroup && !d->cg.path) {
		int r = cgroup_find(cgroup, &d->cg, err);

		if (r < 0)
			return r;
	}
	if (pid)
		d->init_pid = (pid_t)json_integer_value(pid);
	if (json_object_get(args, "externals")) {
		json_decref(d->externals);
		d->externals = json_incref(json_object_get(args, "externals"));
	}
	if (json_object_get(args, "volumes")) {
		json_decref(d->volumes);
		d->volumes = json_incref(json_object_get(args, "volumes"));
	}
	if (!d->cg.path || d->init_pid <= 1)
		return error_set(err, EINVAL, "which container? cgroup and init_pid are needed");
	return 0;
}

/* From now on the end of the control socket means: wait for the next ferryd. */
static int arm(struct engine *e, json_t *args, struct error *err)
{
	const char *path = json_string_value(json_object_get(args, "socket"));

	if (!path)
		return error_set(err, EINVAL, "arm needs the path of a socket");
	if (e->armed >= 0)
		return 0;
	e->armed = fd_unix_listen(path, 0600, err);
	return e->armed < 0 ? e->armed : 0;
}

static int source_op(struct engine *e, const char *op, json_t *args, json_t **out,
		     struct error *err)
{
	struct dump *d = source(e);
	int r = name_container(d, args, err);

	if (r < 0)
		return r;
	if (strcmp(op, "check") == 0)
		return dump_check(d, out, err);
	if (strcmp(op, "connect") == 0)
		return dump_connect(d, args, err);
	if (strcmp(op, "save") == 0)
		return dump_save(d, args, err);
	if (strcmp(op, "precopy") == 0)
		return dump_precopy(d, args, out, err);
	if (strcmp(op, "freeze") == 0)
		return dump_freeze(d, out, err);
	if (strcmp(op, "dump") == 0) {
		d->postcopy = json_is_true(json_object_get(args, "postcopy")) && !d->save;
		if (d->postcopy && json_object_get(args, "socket"))
			r = arm(e, args, err);
		if (r < 0)
			return r;
		return dump_final(d, json_is_true(json_object_get(args, "verify")), out, err);
	}
	if (strcmp(op, "resume") == 0)
		return dump_resume(d, json_is_true(json_object_get(args, "discard")), out, err);
	return dump_kill(d, out, err);
}

/* Armed first where that was asked: no moment in which ferryd takes it for armed and it is not. */
static void answer_restored(struct engine *e)
{
	struct error err = e->r->failed;
	int r = -err.code;

	if (r == 0 && json_object_get(e->arm, "socket")) {
		late_set_note(e->r, json_string_value(json_object_get(e->arm, "note")));
		r = arm(e, e->arm, &err);
	}
	e->waiting = false;
	answer(e, r, r < 0 ? NULL : restored(e->r), &err);
}

/* Pages are served, or come: whoever knocks is the next ferryd. */
static bool late_runs(const struct engine *e)
{
	return late_serve_fd(e->d) >= 0 || late_wait_fd(e->r) >= 0;
}

/*
 * ferryd is gone. Between `arm` and `run` it may have committed, so what was built must
 * neither run nor die before the next ferryd has read the document and says which.
 */
static bool next_ferryd(struct engine *e)
{
	int sock;

	if (e->armed < 0 || !(late_runs(e) || (e->r && !e->r->running)))
		return false;
	do
		sock = accept4(e->armed, NULL, NULL, SOCK_CLOEXEC);
	while (sock < 0 && errno == EINTR);
	if (sock < 0)
		return false;
	close(e->sock);
	e->sock = sock;
	if (e->r)
		e->r->control = sock;
	if (e->d)
		e->d->control = sock;
	e->in.len = 0;
	e->orphan = e->late = false;
	return true;
}

/* Post-copy: how far, or that it is over. -EINPROGRESS. */
static int memory_state(struct engine *e, json_t **out, struct error *err)
{
	return e->d ? late_served(e->d, out, err) : late_arrived(e->r, out, err);
}

static void answer_memory(struct engine *e)
{
	struct error err = { 0 };
	json_t *out = NULL;
	int r = memory_state(e, &out, &err);

	if (r != -EINPROGRESS) {
		e->late = false;
		answer(e, r, out, &err);
	} else if (out) {
		json_object_set_new(out, "event", json_string("late"));
		control_event(e->sock, out);
	}
}

static void request(struct engine *e, json_t *args)
{
	static const char *const source_ops[] = { "check",  "connect", "save",	 "precopy",
						  "freeze", "dump",    "resume", "kill" };
	const char *op = json_string_value(json_object_get(args, "op"));
	struct error err = { 0 };
	json_t *out = NULL;
	int r = 1;

	for (size_t i = 0; op && i < sizeof(source_ops) / sizeof(source_ops[0]); i++)
		if (strcmp(op, source_ops[i]) == 0)
			r = source_op(e, op, args, &out, &err);
	if (r <= 0) {
		answer(e, r, out, &err);
		return;
	}
	if (op && strcmp(op, "prepare") == 0) {
		r = restore_prepare(destination(e), args, &out, &err);
	} else if (op && e->r && strcmp(op, "storage_ready") == 0) {
		e->r->storage_ready = true;
		r = 0;
	} else if (op && e->r && strcmp(op, "wait_restored") == 0) {
		json_decref(e->arm);
		e->arm = json_incref(args);
		e->waiting = !e->r->restored && !e->r->failed.code;
		if (!e->waiting)
			answer_restored(e);
		return;
	} else if (op && e->r && e->r->restored && strcmp(op, "arm") == 0) {
		late_set_note(e->r, json_string_value(json_object_get(args, "note")));
		r = arm(e, args, &err);
	} else if (op && e->r && strcmp(op, "run") == 0) {
		r = restore_run(e->r, &out, &err);
		answer(e, r, out, &err);
		restore_left(e->r);
		return;
	} else if (op && (e->d || e->r) && strcmp(op, "wait_memory") == 0) {
		e->late = true;
		answer_memory(e);
		return;
	} else if (op && e->r && strcmp(op, "abort") == 0) {
		restore_abort(e->r);
		if (e->armed >= 0)
			close(e->armed);
		e->armed = -1; /* nothing is left to decide about */
		r = 0;
	} else {
		r = error_set(&err, EINVAL, "unknown request, or out of order: %s",
			      op ? op : "(none)");
	}
	answer(e, r, out, &err);
}

/* Handles every whole line that has come. */
static void lines(struct engine *e)
{
	for (;;) {
		char *end = e->in.len ? memchr(e->in.data, '\n', e->in.len) : NULL;
		json_t *args;
		size_t n;

		if (!end)
			return;
		n = (size_t)(end - e->in.data);
		args = json_loadb(e->in.data, n, 0, NULL);
		memmove(e->in.data, end + 1, e->in.len - n - 1);
		e->in.len -= n + 1;
		if (!args)
			args = json_object();
		request(e, args);
		json_decref(args);
	}
}

static void read_control(struct engine *e)
{
	char chunk[65536];
	ssize_t n = read(e->sock, chunk, sizeof(chunk));

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		e->orphan = late_runs(e);
		e->eof = !e->orphan && !next_ferryd(e);
		return;
	}
	buf_add(&e->in, chunk, (size_t)n);
	lines(e);
}

static void dest_failed(struct engine *e, const struct error *err)
{
	e->r->failed = *err;
	if (!e->r->failed.code)
		e->r->failed.code = EIO;
	if (e->waiting) {
		answer_restored(e);
	} else {
		control_event(e->sock,
			      json_pack("{s:s,s:o,s:i}", "event", "failed", "error",
					json_any_string(err->msg), "errno", e->r->failed.code));
	}
}

/* Whatever the destination can do by itself now. */
static void dest_step(struct engine *e, bool readable)
{
	struct restore *r = e->r;
	struct error err = { 0 };

	if (!r || r->failed.code || r->running || r->restored)
		return;
	if (readable && !r->received && restore_pump(r, &err) < 0) {
		dest_failed(e, &err);
		return;
	}
	if (r->received && r->storage_ready && !r->restored) {
		if (restore_build(r, &err) < 0) {
			dest_failed(e, &err);
			return;
		}
		if (e->waiting)
			answer_restored(e);
	}
}

int control_serve(int sock)
{
	struct engine e = { .sock = sock, .armed = -1 };
	int status = 0;

	signal(SIGPIPE, SIG_IGN);
	while (!e.eof) {
		/* The last one: post-copy has come to its end. */
		struct pollfd p[4] = { { .fd = e.orphan ? -1 : e.sock, .events = POLLIN },
				       { .fd = -1, .events = POLLIN },
				       { .fd = late_runs(&e) ? e.armed : -1, .events = POLLIN },
				       { .fd = -1, .events = POLLIN } };
		bool ready = false;

		if (e.r && !e.r->received && !e.r->failed.code)
			p[1].fd = restore_poll_fd(e.r, &ready);
		if (e.late || e.orphan)
			p[3].fd = e.d ? late_serve_fd(e.d) : late_wait_fd(e.r);
		if (poll(p, 4, ready ? 0 : e.late ? PROGRESS_MS : -1) < 0 && errno != EINTR)
			break;
		if (p[2].revents)
			next_ferryd(&e);
		else if (e.orphan && p[3].revents)
			break;
		if (p[0].revents)
			read_control(&e);
		dest_step(&e, ready || p[1].revents);
		if (e.late && !e.orphan)
			answer_memory(&e);
	}
	if (e.d) {
		struct error err = { 0 };
		json_t *unused = NULL;

		/* What the freezer holds, the restarted ferryd decides about. */
		if (!e.d->frozen && e.d->cg.path && (e.d->seized || e.d->s))
			status = dump_resume(e.d, true, &unused, &err) < 0;
		json_decref(unused);
		dump_free(e.d);
	}
	if (e.r)
		restore_free(e.r);
	buf_free(&e.in);
	json_decref(e.arm);
	return status;
}

/* --- the client's end --------------------------------------------------------------------- */
static int next_line(struct control_client *c, json_t **out, struct error *err)
{
	for (;;) {
		char *end = c->len ? memchr(c->buf, '\n', c->len) : NULL;
		ssize_t n;

		if (end) {
			size_t len = (size_t)(end - c->buf);

			*out = json_loadb(c->buf, len, 0, NULL);
			memmove(c->buf, end + 1, c->len - len - 1);
			c->len -= len + 1;
			return *out ? 0 : error_set(err, EBADMSG, "the engine answers no JSON");
		}
		if (c->len == c->cap) {
			c->cap = c->cap ? c->cap * 2 : 4096;
			c->buf = mem_grow(c->buf, c->cap, 1);
		}
		n = read(c->sock, c->buf + c->len, c->cap - c->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, EPIPE, "the checkpoint engine is gone");
		c->len += (size_t)n;
	}
}

int control_send(struct control_client *c, const char *op, json_t *args, struct error *err)
{
	CLEANUP_FREE char *text = NULL, *line = NULL;

	if (!args)
		args = json_object();
	json_object_set_new(args, "op", json_string(op));
	text = json_dumps(args, JSON_COMPACT);
	json_decref(args);
	line = str_format("%s\n", text ? text : "{}");
	for (size_t done = 0, len = strlen(line); done < len;) {
		ssize_t n = send(c->sock, line + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, EPIPE, "the checkpoint engine is gone");
		done += (size_t)n;
	}
	return 0;
}

int control_receive(struct control_client *c, json_t **out, struct error *err)
{
	json_t *j = NULL;
	int r;

	for (;;) {
		r = next_line(c, &j, err);
		if (r < 0)
			return r;
		if (json_object_get(j, "event")) {
			if (c->on_event)
				c->on_event(c->ctx, j);
			json_decref(j);
			continue;
		}
		break;
	}
	if (!json_is_true(json_object_get(j, "ok"))) {
		const char *msg = json_string_value(json_object_get(j, "error"));
		int code = (int)json_integer_value(json_object_get(j, "errno"));

		r = error_set(err, code > 0 ? code : EIO, "%s", msg ? msg : "the engine failed");
		json_decref(j);
		return r;
	}
	if (out)
		*out = j;
	else
		json_decref(j);
	return 0;
}

int control_call(struct control_client *c, const char *op, json_t *args, json_t **out,
		 struct error *err)
{
	int r = control_send(c, op, args, err);

	return r < 0 ? r : control_receive(c, out, err);
}

void control_client_close(struct control_client *c)
{
	if (c->sock >= 0)
		close(c->sock);
	c->sock = -1;
	free(c->buf);
	c->buf = NULL;
	c->len = c->cap = 0;
}
