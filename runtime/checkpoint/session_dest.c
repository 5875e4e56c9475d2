/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination engine's course: take over the stub, build tree and memory as they
 * come in, make the rest when everything has come and storage is there, stand still
 * until `run`. The stubs are traced with EXITKILL: they die with this process.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/tls.h"
#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/control.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/lane.h"
#include "runtime/checkpoint/postcopy.h"
#include "runtime/checkpoint/sock_addresses.h"
#include "runtime/checkpoint/yield.h"

static int reply_lanes(struct restore *r, const struct error *e, uint32_t round, unsigned int lanes)
{
	Ck__Reply m = CK__REPLY__INIT;
	int n;

	if (!r->s || r->load)
		return 0;
	m.code = e ? e->code : 0;
	m.message = e ? (char *)(uintptr_t)e->msg : NULL;
	m.has_round = 1;
	m.round = round;
	m.has_lanes = true;
	m.lanes = lanes;
	n = stream_send_msg(r->s, FRAME_REPLY, &m.base, NULL);
	return n < 0 ? n : stream_flush(r->s, NULL);
}

static int reply(struct restore *r, const struct error *e, uint32_t round)
{
	return reply_lanes(r, e, round, 0);
}

/* Descriptors that the container's init shares with the outside: kept by the engine. */
static int take_externals(struct restore *r, struct error *err)
{
	struct task *init = r->tasks.t[0];
	size_t i;
	json_t *e;

	json_array_foreach (r->externals, i, e) {
		int num = (int)json_integer_value(json_object_get(e, "fd_of_stub"));
		int fd = (int)syscall(SYS_pidfd_getfd, init->pidfd, num, 0);

		if (fd < 0)
			return error_sys(err, errno, "descriptor %d of the stub", num);
		json_object_set_new(e, "fd", json_integer(fd));
	}
	return 0;
}

int restore_prepare(struct restore *r, json_t *args, json_t **answer, struct error *err)
{
	const char *cgroup = json_string_value(json_object_get(args, "cgroup"));
	const char *token = json_string_value(json_object_get(args, "token"));
	const char *listen_on = json_string_value(json_object_get(args, "listen"));
	json_t *tls = json_object_get(args, "tls"), *load = json_object_get(args, "load");
	uint16_t port = 0;
	uint64_t mask;
	uint32_t size;
	int e;

	r->init_pid = (pid_t)json_integer_value(json_object_get(args, "init_pid"));
	r->token = str_dup(token ? token : "");
	pthread_mutex_init(&r->pages_got, NULL);
	json_decref(r->externals);
	r->externals = json_deep_copy(json_object_get(args, "externals"));
	if (!r->externals)
		r->externals = json_array();
	if (r->init_pid <= 1)
		return error_set(err, EINVAL, "prepare needs init_pid");
	e = sock_addresses_parse(args, &r->addresses, err);
	if (e < 0)
		return e;
	if (load) {
		e = load_open(load, &r->load, err);
		if (e < 0)
			return e;
	}
	if (cgroup) {
		e = cgroup_find(cgroup, &r->cg, err);
		if (e < 0)
			return e;
	}
	e = restore_seize_init(r, err);
	if (e == 0)
		e = take_externals(r, err);
	if (e < 0)
		return e;
	if (r->load) {
		if (load_ready(r->load) && !(r->s = load_stream(r->load, err)))
			return -err->code;
	} else if (json_object_get(args, "fd")) {
		r->s = stream_new_fd((int)json_integer_value(json_object_get(args, "fd")));
		r->lane_fds = json_incref(json_object_get(args, "lane_fds"));
	} else {
		if (!tls)
			return error_set(err, EINVAL, "prepare needs listen and tls, or fd");
		r->tls = tls_ctx_new(json_string_value(json_object_get(tls, "cert")),
				     json_string_value(json_object_get(tls, "key")),
				     json_string_value(json_object_get(tls, "ca")), err);
		if (!r->tls)
			return -err->code;
		r->listen_fd = tls_listen(listen_on, 0, &port, err);
		if (r->listen_fd < 0)
			return r->listen_fd;
	}
	arch_xsave(&mask, &size);
	*answer = json_pack("{s:i,s:I,s:i}", "port", (int)port, "xsave_mask", (json_int_t)mask,
			    "xsave_bytes", (int)size);
	if (r->load) {
		const struct load_info *info = load_info(r->load);

		json_object_set_new(*answer, "signed_by",
				    info->signed_by ? json_string(info->signed_by) : json_null());
		json_object_set_new(*answer, "saved_at",
				    info->saved_at_s ? json_integer(info->saved_at_s)
						     : json_null());
	}
	return 0;
}

/* --- frames ------------------------------------------------------------------------------ */
static int hello(struct restore *r, const struct frame *f, struct error *err)
{
	Ck__Hello *m = check_unpack(&ck__hello__descriptor, f->data, f->len);
	unsigned int lanes;
	struct utsname u;
	uint64_t mask;
	uint32_t size;
	int e = 0;

	uname(&u);
	arch_xsave(&mask, &size);
	if (!m)
		return error_set(err, EBADMSG, "a damaged greeting");
	lanes = m->lanes;
	if (m->version != STREAM_VERSION)
		e = error_set(err, EPROTO,
			      "the source speaks version %u of the stream, this host %u: "
			      "run the same ferry on both",
			      m->version, STREAM_VERSION);
	else if (!r->load && strcmp(m->token ? m->token : "", r->token) != 0)
		e = error_set(err, EACCES, "the source named another migration");
	else if (!m->arch || strcmp(m->arch, u.machine) != 0)
		e = error_set(err, EOPNOTSUPP, "the source is %s, this host %s",
			      m->arch ? m->arch : "unknown", u.machine);
	else if (m->page_size != PAGE)
		e = error_set(err, EOPNOTSUPP, "the source has pages of %u bytes", m->page_size);
	else if (m->xsave_mask & ~mask)
		e = error_set(
			err, EOPNOTSUPP,
			"the source's processor has features that this one lacks (xsave %#llx, "
			"here %#llx)",
			(unsigned long long)m->xsave_mask, (unsigned long long)mask);
	else
		e = vdso_check(m, u.release, err);
	ck__hello__free_unpacked(m, NULL);
	if (e == 0) {
		control_event(r->control, json_pack("{s:s}", "event", "connected"));
		lanes = lanes_expect(r, lanes);
		/* Nobody else is waited for. */
		if (r->listen_fd >= 0)
			close(TAKE_FD(r->listen_fd));
		reply_lanes(r, NULL, 0, lanes);
	}
	return e;
}

static int task_message(struct restore *r, const struct frame *f, struct error *err)
{
	Ck__TaskState *m = check_unpack(&ck__task_state__descriptor, f->data, f->len);
	struct task *t = m ? tasks_by_vpid(&r->tasks, (pid_t)m->vpid) : NULL;

	/* Threads of a zombie would keep it from ending. */
	if (!t || t->state || t->to_be_zombie || check_task(m, err) < 0) {
		if (m)
			ck__task_state__free_unpacked(m, NULL);
		return error_set(err, EBADMSG, "a damaged process state");
	}
	t->state = m;
	return restore_ahead(r, t, err);
}

static int fd_message(struct restore *r, const struct frame *f, struct error *err)
{
	Ck__FdTable *m = check_unpack(&ck__fd_table__descriptor, f->data, f->len);
	struct task *t = m ? tasks_by_vpid(&r->tasks, (pid_t)m->vpid) : NULL;

	if (!t || t->fds || check_fdtable(m, err) < 0) {
		if (m)
			ck__fd_table__free_unpacked(m, NULL);
		return error_set(err, EBADMSG, "a damaged descriptor table");
	}
	t->fds = m;
	return 0;
}

static const struct checkpoint_part *part_named(const char *name)
{
	for (size_t k = 0; k < 2; k++) {
		const struct checkpoint_part *const *p =
			k ? checkpoint_parts_sockets : checkpoint_parts_files;

		for (; *p; p++)
			if (strcmp((*p)->name, name) == 0)
				return *p;
	}
	return NULL;
}

static int part_message(struct restore *r, const struct frame *f, struct error *err)
{
	Ck__Part *m = check_unpack(&ck__part__descriptor, f->data, f->len);
	const struct checkpoint_part *p = m ? part_named(m->name) : NULL;
	int e;

	if (!p || !p->receive)
		e = error_set(err, EPROTO,
			      "the source sent a part that this host does not know: %s",
			      m ? m->name : "damaged");
	else
		e = p->receive(r, m->body.data, m->body.len, err);
	if (m)
		ck__part__free_unpacked(m, NULL);
	return e;
}

#define MESSAGE(kind_, name_, check, call)                                                         \
	do {                                                                                       \
		kind_ *m = check_unpack(&ck__##name_##__descriptor, f->data, f->len);              \
		if (!m)                                                                            \
			return error_set(err, EBADMSG, "a damaged frame of type %u", f->type);     \
		e = check(m, err);                                                                 \
		if (e == 0)                                                                        \
			e = call(r, m, err);                                                       \
		ck__##name_##__free_unpacked(m, NULL);                                             \
	} while (0)

static int no_check(const void *m, struct error *err)
{
	(void)m;
	(void)err;
	return 0;
}

static int round_end(struct restore *r, const Ck__RoundEnd *m, struct error *err)
{
	(void)err;
	/* The source may stop its tasks now; nothing is left to be done here if it does not. */
	if (!m->final)
		yield_set(&r->yield, YIELD_TO_NONE);
	if (!m->final)
		reply(r, NULL, m->round);
	return 0;
}

/* A file must be what its signature was checked over, before anything of it counts. */
static int done(struct restore *r, const Ck__Done *m, struct error *err)
{
	int e = r->load ? load_end(r->load, r->s, err) : 0;

	if (e < 0)
		return e;
	r->verify = m->verify;
	r->received = true;
	r->received_ns = clock_mono_ns();
	control_event(r->control, json_pack("{s:s}", "event", "received"));
	return 0;
}

static int one_frame(struct restore *r, const struct frame *f, struct error *err)
{
	int e = f->type == FRAME_PAGES ? 0 : lanes_wait(r, err);

	if (e < 0)
		return e;
	switch (f->type) {
	case FRAME_HELLO:
		return hello(r, f, err);
	case FRAME_TREE:
		MESSAGE(Ck__Tree, tree, check_tree, restore_tree);
		return e;
	case FRAME_LAYOUT:
		MESSAGE(Ck__Layout, layout, check_layout, restore_layout);
		return e;
	case FRAME_SHARED:
		MESSAGE(Ck__Shared, shared, check_shared, restore_shared);
		return e;
	case FRAME_OBJECT:
		MESSAGE(Ck__Object, object, check_object, restore_add_object);
		return e;
	case FRAME_PAGES:
		return restore_pages(r, f, err);
	case FRAME_LATE:
		return late_receive(r, f, err);
	case FRAME_TASK:
		return task_message(r, f, err);
	case FRAME_FDTABLE:
		return fd_message(r, f, err);
	case FRAME_PART:
		return part_message(r, f, err);
	case FRAME_HASH:
		if (r->hashes.len + f->len > CHECK_HASHES_TOTAL)
			return error_set(err, EBADMSG, "more hashes of pages than there can be");
		buf_add(&r->hashes, &f->len, sizeof(f->len));
		buf_add(&r->hashes, f->data, f->len);
		return 0;
	case FRAME_LANE_GO:
		MESSAGE(Ck__RoundEnd, round_end, no_check, lanes_go);
		return e;
	case FRAME_ROUND_END:
		MESSAGE(Ck__RoundEnd, round_end, no_check, round_end);
		return e;
	case FRAME_DONE:
		MESSAGE(Ck__Done, done, no_check, done);
		return e;
	}
	return error_set(err, EBADMSG, "a frame of unknown type %u", f->type);
}

int restore_poll_fd(const struct restore *r, bool *ready)
{
	*ready = r->s && stream_buffered(r->s);
	if (r->s)
		return stream_fd(r->s);
	return r->load ? load_fd(r->load) : r->listen_fd;
}

int restore_pump(struct restore *r, struct error *err)
{
	struct frame f;
	int e;

	if (r->load && !load_ready(r->load)) {
		e = load_pump(r->load, err);
		if (e == 0 && load_ready(r->load) && !(r->s = load_stream(r->load, err)))
			return -err->code;
		return e;
	}
	if (!r->s && r->listen_fd >= 0) {
		int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		struct tls *t;

		if (fd < 0)
			return 0;
		/* A stranger who knocks is not the source: wait on. */
		if (tls_accept(r->tls, fd, false, 10000000000, &t, NULL) < 0)
			return 0;
		r->s = stream_new_tls(t);
		return 0;
	}
	e = stream_recv(r->s, &f, err);
	if (e == 0)
		e = one_frame(r, &f, err);
	if (e < 0 && !r->received) {
		/* The source hears why, instead of a broken pipe. */
		reply(r, err, 0);
		lanes_in_free(r);
		stream_close(r->s);
		r->s = NULL;
	}
	return e;
}

/* --- the end --------------------------------------------------------------------------------- */
int restore_build(struct restore *r, struct error *err)
{
	int e = restore_rest(r, err);

	r->restored = e == 0;
	reply(r, e < 0 ? err : NULL, 0);
	return e;
}

int restore_run(struct restore *r, json_t **answer, struct error *err)
{
	int64_t t0 = clock_mono_ns();
	struct error finish = { 0 };
	int e = 0;

	if (!r->restored)
		return error_set(err, EINVAL, "nothing is restored yet");
	/* A restarted ferryd does not know how far the one before it came. */
	if (r->running) {
		*answer = json_pack("{s:i,s:b}", "run_ns", 0, "postcopy", r->late != NULL);
		return 0;
	}
	restore_objects_finish(r, &finish);
	for (size_t i = 0; i < r->tasks.n; i++) {
		struct task *t = r->tasks.t[i];

		if (t->zombie)
			continue;
		task_drop_sock(t);
		task_drop_scratch(t);
	}
	for (size_t i = 0; i < r->tasks.n; i++) {
		struct task *t = r->tasks.t[i];

		if (t->zombie || !t->state->stop_signal)
			continue;
		thread_settle(&t->threads[0]);
		process_kill(t->pid, SIGSTOP);
	}
	e = late_begin(r, err);
	if (e < 0)
		return e;
	/* The freezer first, if ferryd wants to start it frozen; parents last, so that a
	 * child is there when its parent looks. */
	for (size_t i = r->tasks.n; i-- > 0;)
		for (size_t k = 0; k < r->tasks.t[i]->nthreads; k++)
			thread_detach(&r->tasks.t[i]->threads[k]);
	r->running = true;
	/* Memory that comes late must not come before those who wait for it. */
	yield_set(&r->yield, YIELD_TO_NONE);
	*answer = json_pack("{s:I,s:b}", "run_ns", (json_int_t)(clock_mono_ns() - t0), "postcopy",
			    r->late != NULL);
	if (finish.code)
		json_object_set_new(*answer, "warning", json_string(finish.msg));
	return e;
}

void restore_left(struct restore *r)
{
	if (!r->running || r->left)
		return;
	r->left = true;
	for (size_t k = 0; k < 2; k++) {
		const struct checkpoint_part *const *p =
			k ? checkpoint_parts_sockets : checkpoint_parts_files;

		for (; *p; p++)
			if ((*p)->leave)
				(*p)->leave(r);
	}
	ns_leave();
	if (!r->late) {
		stream_close(r->s);
		r->s = NULL;
	}
}

void restore_abort(struct restore *r)
{
	int status;

	if (r->running)
		return;
	lanes_in_free(r);
	ns_leave();
	/* Killing a namespace's init kills all of it. */
	for (size_t i = 0; i < r->tasks.n; i++)
		if (r->tasks.t[i]->vpid == 1)
			process_kill(r->tasks.t[i]->pid, SIGKILL);
	/*
	 * In whatever order they end: the last thread of init waits in the kernel
	 * (zap_pid_ns_processes()) until all others are reaped, and it need not be the one
	 * that would be waited for first.
	 */
	while (waitpid(-1, &status, __WALL) > 0 || errno == EINTR)
		;
	for (size_t i = r->tasks.n; i-- > 0;)
		for (size_t k = r->tasks.t[i]->nthreads; k-- > 0;)
			r->tasks.t[i]->threads[k].traced = r->tasks.t[i]->threads[k].stopped =
				false;
	tasks_free(&r->tasks);
}

void restore_free(struct restore *r)
{
	size_t i;
	json_t *e;

	lanes_in_free(r);
	restore_abort(r);
	late_free(r);
	tasks_free(&r->tasks);
	shareds_free(&r->shared);
	for (size_t k = 0; k < r->nobjects; k++) {
		if (r->objects[k].fd >= 0)
			close(r->objects[k].fd);
		free(r->objects[k].type);
		free(r->objects[k].body);
	}
	free(r->objects);
	free(r->by_id);
	json_array_foreach (r->externals, i, e)
		if (json_object_get(e, "fd"))
			close((int)json_integer_value(json_object_get(e, "fd")));
	json_decref(r->externals);
	json_decref(r->lane_fds);
	pthread_mutex_destroy(&r->pages_got);
	stream_close(r->s);
	load_free(r->load);
	sock_addresses_free(r->addresses);
	yield_free(r->yield);
	if (r->listen_fd >= 0)
		close(r->listen_fd);
	if (r->root_fd >= 0)
		close(r->root_fd);
	if (r->tls)
		tls_ctx_free(r->tls);
	cgroup_free(&r->cg);
	buf_free(&r->hashes);
	filters_free(&r->filters);
	free(r->token);
	free(r);
}

/* --- object.h ----------------------------------------------------------------------- */
size_t restore_task_count(const struct restore *r)
{
	return r->tasks.n;
}

struct task *restore_task_at(struct restore *r, size_t i)
{
	return i < r->tasks.n ? r->tasks.t[i] : NULL;
}

struct task *restore_task(struct restore *r, pid_t vpid)
{
	return tasks_by_vpid(&r->tasks, vpid);
}

pid_t restore_tid(struct restore *r, pid_t vtid)
{
	for (size_t i = 0; i < r->tasks.n; i++)
		for (size_t k = 0; k < r->tasks.t[i]->nthreads; k++)
			if (r->tasks.t[i]->threads[k].vtid == vtid)
				return r->tasks.t[i]->threads[k].tid;
	return 0;
}

int restore_in_ns(struct restore *r, const char *ns, int (*fn)(void *arg), void *arg,
		  struct error *err)
{
	return run_in_ns(r->init_pid, ns, fn, arg, err);
}

int restore_in_netns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err)
{
	return run_in_ns(r->init_pid, "net", fn, arg, err);
}

int restore_in_mntns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err)
{
	return run_in_ns(r->init_pid, "mnt", fn, arg, err);
}

int restore_in_ipcns(struct restore *r, int (*fn)(void *arg), void *arg, struct error *err)
{
	return run_in_ns(r->init_pid, "ipc", fn, arg, err);
}

int restore_root_fd(struct restore *r)
{
	char path[64];

	if (r->root_fd < 0) {
		snprintf(path, sizeof(path), "/proc/%d/root", r->init_pid);
		r->root_fd = open(path, O_PATH | O_CLOEXEC | O_DIRECTORY);
	}
	return r->root_fd;
}
