/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source engine's course: connect, pre-copy rounds while the tasks run, stop, send
 * the rest, hand the tasks over to the cgroup freezer, and let go of them.
 *
 * During pre-copy the tasks are not traced: each new one is stopped for an instant, its
 * dirty tracker is put in, and it runs on.
 */
#include <string.h>
#include <sys/utsname.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/tls.h"
#include "runtime/checkpoint/control.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/lane.h"
#include "runtime/checkpoint/postcopy.h"
#include "runtime/checkpoint/restart.h"
#include "runtime/checkpoint/track.h"
#include "runtime/checkpoint/yield.h"

/* What a blackout costs beyond memory, before there is a measurement: the freeze, and
 * for each process its state on both sides. */
#define FIXED_NS      10000000ll
#define FIXED_TASK_NS 1000000ll
#define MAX_ROUNDS    200
/* So many milliseconds the container's init may take to start its program. */
#define STARTING_TRIES 200
/* So many rounds in a row that were no smaller than the one before, and post-copy begins. */
#define FLAT_ROUNDS 3
/* The longest time between two rounds. */
#define REST_NS 1000000000ll

/* --- connecting ----------------------------------------------------------------------------- */
/* *lanes (may be NULL): how many further connections the destination takes. */
static int recv_answer(struct dump *d, unsigned int *lanes, struct error *err)
{
	struct frame f;
	Ck__Reply *m;
	int r;

	if (d->save)
		return 0; /* nobody reads yet */
	r = stream_recv(d->s, &f, err);
	if (r < 0)
		return r;
	m = f.type == FRAME_REPLY ? ck__reply__unpack(NULL, f.len, f.data) : NULL;
	if (!m)
		return error_set(err, EBADMSG, "an answer of the destination was expected");
	r = m->code;
	if (r)
		error_set(err, r, "the destination: %s", m->message ? m->message : strerror(r));
	if (lanes)
		*lanes = m->lanes;
	ck__reply__free_unpacked(m, NULL);
	return -r;
}

static int recv_reply(struct dump *d, struct error *err)
{
	return recv_answer(d, NULL, err);
}

static int send_hello(struct dump *d, const char *token, unsigned int lanes, struct error *err)
{
	Ck__Hello m = CK__HELLO__INIT;
	struct utsname u;
	uint64_t mask;
	uint32_t size;
	int r;

	uname(&u);
	arch_xsave(&mask, &size);
	m.version = STREAM_VERSION;
	m.token = (char *)(uintptr_t)(token ? token : "");
	m.arch = u.machine;
	m.kernel = u.release;
	m.has_page_size = m.has_xsave_mask = m.has_xsave_bytes = m.has_vdso_hash = 1;
	m.vdso_hash = vdso_hash();
	m.page_size = PAGE;
	m.xsave_mask = mask;
	m.xsave_bytes = size;
	m.has_lanes = true;
	m.lanes = lanes;
	m.has_saved_at = d->save != NULL;
	m.saved_at = (uint64_t)time(NULL);
	r = stream_send_msg(d->s, FRAME_HELLO, &m.base, err);
	return r < 0 ? r : stream_flush(d->s, err);
}

int dump_save(struct dump *d, json_t *args, struct error *err)
{
	int fd, r;

	if (d->s)
		return error_set(err, EALREADY, "already connected");
	r = save_open(args, &d->save, &fd, err);
	if (r < 0)
		return r;
	d->s = stream_new_file(fd);
	return send_hello(d, NULL, 0, err);
}

int dump_connect(struct dump *d, json_t *args, struct error *err)
{
	json_t *tls = json_object_get(args, "tls");
	const char *address = json_string_value(json_object_get(args, "address"));
	const char *token = json_string_value(json_object_get(args, "token"));
	unsigned int lanes = lanes_wanted(args), taken = 0;
	struct tls_ctx *ctx = NULL;
	struct tls *t;
	int r;

	if (d->s)
		return error_set(err, EALREADY, "already connected");
	if (json_object_get(args, "fd")) {
		d->s = stream_new_fd((int)json_integer_value(json_object_get(args, "fd")));
	} else if (!address || !tls) {
		return error_set(err, EINVAL, "connect needs address, port and tls, or fd");
	} else {
		ctx = tls_ctx_new(json_string_value(json_object_get(tls, "cert")),
				  json_string_value(json_object_get(tls, "key")),
				  json_string_value(json_object_get(tls, "ca")), err);
		if (!ctx)
			return -err->code;
		r = tls_connect(ctx, address,
				(uint16_t)json_integer_value(json_object_get(args, "port")),
				10000000000, &t, err);
		if (r == 0)
			d->s = stream_new_tls(t);
	}
	r = d->s ? send_hello(d, token, lanes, err) : -err->code;
	if (r == 0)
		r = recv_answer(d, &taken, err);
	if (r == 0)
		r = lanes_connect(d, args, ctx, taken < lanes ? taken : lanes, err);
	tls_ctx_free(ctx);
	return r;
}

void dump_lap(struct dump *d, const char *name)
{
	int64_t now = clock_mono_ns();

	if (!d->final)
		return;
	json_object_set_new(d->laps, name, json_integer(now - d->lap_ns));
	d->lap_ns = now;
}

/* --- one round ---------------------------------------------------------------------- */
/* How many of init's filters all others can have inherited: the first tree's are installed
 * before anything is made. */
static size_t common_filters(struct dump *d)
{
	size_t common = d->filters.n;

	for (size_t i = 0; i < d->tasks.n; i++)
		for (size_t k = 0; k < d->tasks.t[i]->nthreads; k++) {
			CLEANUP_FREE char *path =
				str_format("/proc/%d/task/%d/status", d->tasks.t[i]->pid,
					   d->tasks.t[i]->threads[k].tid);
			CLEANUP_FREE char *status = NULL;
			char line[32];

			if (file_read(path, 65536, &status, NULL, NULL) < 0 ||
			    !status_field(status, "Seccomp_filters", line, sizeof(line)))
				continue;
			if (strtoul(line, NULL, 10) < common)
				common = strtoul(line, NULL, 10);
		}
	return common;
}

static int send_tree(struct dump *d, struct error *err)
{
	size_t n = d->tasks.n;
	CLEANUP_FREE Ck__Process *p = mem_zalloc((n + 1) * sizeof(*p));
	CLEANUP_FREE Ck__Process **list = mem_zalloc((n + 1) * sizeof(*list));
	CLEANUP_FREE char *status_path = str_format("/proc/%d/status", d->init_pid);
	CLEANUP_FREE char *status = NULL;
	Ck__Tree m = CK__TREE__INIT;
	struct task *init;
	char line[32];

	for (size_t i = 0; i < n; i++) {
		const struct task *t = d->tasks.t[i];

		if (t->headless)
			return error_set(err, EOPNOTSUPP,
					 "the main thread of process %d has ended while others of "
					 "it run",
					 t->vpid);
		ck__process__init(&p[i]);
		p[i].vpid = (uint32_t)t->vpid;
		p[i].vppid = (uint32_t)t->vppid;
		p[i].has_vpgid = p[i].has_vsid = p[i].has_zombie = p[i].has_exit_status = 1;
		p[i].vpgid = (uint32_t)t->vpgid;
		p[i].vsid = (uint32_t)t->vsid;
		p[i].zombie = t->zombie;
		p[i].exit_status = t->exit_status;
		p[i].has_start_time = p[i].has_files = p[i].has_fs = p[i].has_exit_signal = 1;
		p[i].start_time = t->start_time;
		p[i].files = t->share[SHARE_FILES];
		p[i].fs = t->share[SHARE_FS];
		p[i].exit_signal = (uint32_t)t->exit_signal;
		list[i] = &p[i];
	}
	m.n_processes = n;
	m.processes = list;
	/* Without pre-copy they are still to be read. */
	init = tasks_by_vpid(&d->tasks, 1);
	if (!d->filters_known && init && init->nthreads && init->threads[0].stopped)
		d->filters_known = filters_read(&init->threads[0], &d->filters, NULL) == 0;
	m.n_seccomp = d->round == 1 ? common_filters(d) : 0;
	m.seccomp = d->filters.f;
	m.n_seccomp_flags = m.n_seccomp;
	m.seccomp_flags = d->filters.flags;
	m.final = d->final;
	/* The bounding set only shrinks, and children inherit it: what init has not, none has. */
	m.has_cap_bnd = ((init && init->status) ||
			 file_read(status_path, 65536, &status, NULL, NULL) == 0) &&
			status_field(status ? status : init->status, "CapBnd", line, sizeof(line));
	m.cap_bnd = m.has_cap_bnd ? strtoull(line, NULL, 16) : 0;
	return stream_send_msg(d->s, FRAME_TREE, &m.base, err);
}

static void parts_begin(struct dump *d)
{
	for (size_t k = 0; k < 2; k++) {
		const struct checkpoint_part *const *p =
			k ? checkpoint_parts_sockets : checkpoint_parts_files;

		for (; *p; p++)
			if ((*p)->begin)
				(*p)->begin(d);
	}
}

static int parts_round(struct dump *d, json_t *args, struct error *err)
{
	for (size_t k = 0; k < 2; k++) {
		const struct checkpoint_part *const *p =
			k ? checkpoint_parts_sockets : checkpoint_parts_files;

		for (; *p; p++) {
			int r = d->final ? ((*p)->dump ? (*p)->dump(d, err) : 0)
					 : ((*p)->round ? (*p)->round(d, d->round, args, err) : 0);

			if (r < 0)
				return error_wrap(err, "%s", (*p)->name);
		}
	}
	return 0;
}

/* Forgets it: the next round finds it as a new one, and sends all of it. */
static void forget(struct dump *d, size_t i)
{
	task_free(d->tasks.t[i]);
	memmove(&d->tasks.t[i], &d->tasks.t[i + 1], (d->tasks.n - i - 1) * sizeof(*d->tasks.t));
	d->tasks.n--;
}

/*
 * A parent may have ended after the list was made: its children belong to another one
 * now. Where that one is not in the list, the next round has both; what is left out of a
 * round the destination forgets too. Left out as well is who runs in its parent's memory
 * (vfork): looking for changed pages in one of them would hide them from the other.
 */
static int find_parents(struct dump *d, struct error *err)
{
	for (size_t i = 0; i < d->tasks.n;) {
		struct task *t = d->tasks.t[i];
		const struct task *leader = tasks_by_vpid(&d->tasks, t->vsid);
		bool borrows = false;

		/* A session that began while the list was being made: it is in the next one. */
		if ((t->pid == d->init_pid ||
		     (t->vppid > 0 && tasks_by_vpid(&d->tasks, t->vppid)) ||
		     task_refresh_parent(&d->tasks, t)) &&
		    (d->final || !leader || leader->vsid == t->vsid) &&
		    !(borrows = task_borrows_memory(&d->tasks, t))) {
			i++;
			continue;
		}
		if (d->final && borrows)
			return error_set(err, EBUSY,
					 "process %d runs in the memory of its parent "
					 "(clone(CLONE_VM))",
					 t->vpid);
		if (d->final)
			return error_set(err, EPROTO,
					 "process %d has a parent outside of the container (an "
					 "exec session?)",
					 t->vpid);
		forget(d, i);
		i = 0;
	}
	return 0;
}

/* A program that is being started is not sent half: -ESRCH, and the next round has it. */
static int read_vmas(struct dump *d, struct task *t, struct error *err)
{
	for (int tries = 0;; tries++) {
		int r = task_read_vmas(t, d->final && d->round > 1, err);

		/* In the last round none is: who stands still has come out of the call. */
		if (r < 0 || d->final || !task_is_starting(t))
			return r;
		if (t->pid != d->init_pid)
			return -ESRCH;
		if (tries == STARTING_TRIES)
			return 0;
		clock_sleep_ns(1000000);
	}
}

/* Tree, shared objects, layouts, pages: in this order, because each needs the one before. */
static int send_memory(struct dump *d, struct error *err)
{
	int r = find_parents(d, err), gone = 0;

	for (size_t i = 0; i < d->tasks.n && r == 0;) {
		struct task *t = d->tasks.t[i];
		struct error one = { 0 };

		r = t->zombie ? 0 : read_vmas(d, t, &one);
		if (r == -ESRCH && !d->final && t->pid != d->init_pid) {
			forget(d, i); /* it ended after the list was made */
			r = 0;
			continue;
		}
		if (r < 0) {
			*err = one;
			return r;
		}
		if (!d->final)
			dump_give_tracker(d, t);
		i++;
	}
	if (r < 0)
		return r;
	dump_lap(d, "maps_ns");
	if (!d->final)
		r = find_parents(d, err);
	if (r == 0)
		r = dump_shared_scan(d, err);
	if (r == 0)
		r = dump_scan_all(d, err);
	last_look_end(d);
	if (r == 0 && d->final && d->postcopy)
		r = late_choose(d, err);
	/* They map it while we send. Not earlier: whoever runs has the page of its rseq area
	 * written. */
	for (size_t i = 0; i < d->tasks.n && r == 0 && d->final; i++)
		task_ask_scratch(d->tasks.t[i]);
	dump_lap(d, "scan_ns");
	if (r == 0)
		r = send_tree(d, err);
	if (r == 0)
		r = dump_shared_announce(d, err);
	for (size_t i = 0; i < d->tasks.n && r == 0; i++)
		r = dump_task_layout(d, d->tasks.t[i], err);
	if (r == 0)
		r = gone = lanes_send(d, err);
	for (size_t i = 0; i < d->tasks.n && r >= 0; i++)
		r = dump_task_memory(d, d->tasks.t[i], gone, err);
	dump_lap(d, "private_ns");
	if (r == 0)
		r = dump_shared_memory(d, err);
	dump_lap(d, "shared_ns");
	return r;
}

static int end_round(struct dump *d, struct error *err)
{
	Ck__RoundEnd m = CK__ROUND_END__INIT;
	int r;

	m.round = (uint32_t)d->round;
	m.final = d->final;
	r = stream_send_msg(d->s, FRAME_ROUND_END, &m.base, err);
	return r < 0 ? r : stream_flush(d->s, err);
}

/* --- pre-copy ----------------------------------------------------------------------- */
static int64_t transfer_ns(const struct dump *d, double bytes)
{
	return d->rate > 0 ? (int64_t)(bytes * 1e9 / d->rate) : 0;
}

static int64_t predict(const struct dump *d, double bytes)
{
	return FIXED_NS + FIXED_TASK_NS * (int64_t)d->tasks.n + transfer_ns(d, bytes);
}

/* A destination that gives up says why, and closes: its words tell more than EPIPE. */
static int reason(struct dump *d, int r, struct error *err)
{
	struct error why = { 0 };

	if ((r == -EPIPE || r == -ECONNRESET) && d->s && !d->save && recv_reply(d, &why) < 0 &&
	    why.code != EPIPE && why.code != ECONNRESET) {
		*err = why;
		return -why.code;
	}
	return r;
}

static int round_once(struct dump *d, json_t *args, struct error *err)
{
	int r;

	d->round++;
	d->round_page_bytes = d->left_bytes = 0;
	r = tasks_scan(&d->tasks, &d->cg, d->init_pid, err);
	if (r == 0)
		tasks_find_shares(&d->tasks);
	if (r == 0)
		r = parts_round(d, args, err);
	if (r == 0)
		r = send_memory(d, err);
	if (r == 0)
		r = end_round(d, err);
	return r < 0 ? r : recv_reply(d, err);
}

/*
 * Rounds that do not shrink and need not: the container is not slowed down, what it works on is
 * written again as soon as it was sent. Every look costs it a fault for each page, every round a
 * processor and the link, and gains nothing: the next one waits, longer each time.
 */
static int64_t rest(int flat, int64_t took, int64_t left)
{
	int64_t ns = flat < 1 ? 0 : took << (flat < 4 ? flat - 1 : 3);

	ns = ns < REST_NS ? ns : REST_NS;
	return ns < left ? ns : left;
}

static int precopy(struct dump *d, json_t *args, json_t **answer, struct error *err)
{
	int64_t budget = json_integer_value(json_object_get(args, "downtime_ns"));
	int64_t timeout = json_integer_value(json_object_get(args, "timeout_ns"));
	const char *then = json_string_value(json_object_get(args, "on_timeout"));
	bool throttle = json_is_true(json_object_get(args, "auto_converge"));
	/* After the first round, or when rounds do not help. */
	bool at_once = json_is_true(json_object_get(args, "postcopy"));
	bool late = then && strcmp(then, "postcopy") == 0, over = false;
	int64_t begin = clock_mono_ns(), predicted = 0, prev_end = 0, rested = 0;
	uint64_t prev = 0;
	bool converged = false;
	int flat = 0;

	if (!d->s)
		return error_set(err, ENOTCONN, "precopy before connect");
	if (d->save && (at_once || late))
		return error_set(err, EINVAL, "a file cannot be asked for pages: no post-copy");
	if (tracker_choose(json_string_value(json_object_get(args, "tracker")), err) < 0)
		return -err->code;
	budget = budget > 0 ? budget : 50000000;
	timeout = timeout > 0 ? timeout : 120000000000;
	throttle_begin(d);
	restart_prepare();
	while (!converged) {
		int64_t t0 = clock_mono_ns(), took, worked = yield_waited_ns();
		uint64_t sent0 = lanes_bytes(d, false), plain0 = lanes_bytes(d, true), sent, plain;
		double dirty_rate = 0, dirty;
		int r = round_once(d, args, err);

		if (r < 0)
			return reason(d, r, err);
		took = clock_mono_ns() - t0;
		sent = lanes_bytes(d, false) - sent0;
		/* What counts is how soon pages are there, packed or not. */
		plain = lanes_bytes(d, true) - plain0;
		/* In the pause nobody takes the processor from us. */
		worked = took - (yield_waited_ns() - worked);
		worked = worked > took / 8 ? worked : took / 8 + 1;
		/* Small rounds tell more about looking than about sending. */
		if (plain > (16 << 20) || (double)plain * 1e9 / (double)worked > d->rate)
			d->rate = (double)plain * 1e9 / (double)worked;
		/* What this round sent was dirtied since the one before began to look. */
		if (prev_end && t0 > prev_end - 1)
			dirty_rate = (double)d->round_page_bytes * 1e9 /
				     (double)(clock_mono_ns() - prev_end);
		dirty = d->round == 1 ? (double)d->round_page_bytes * 0.1
				      : dirty_rate * (double)took / 1e9;
		/* Over a longer time the same pages look like a lower rate. */
		if (rested && dirty < (double)d->round_page_bytes)
			dirty = (double)d->round_page_bytes;
		/* Nothing tells what is written meanwhile: all of it is left for the pause. */
		if (!tracker_chosen()) {
			dirty = (double)d->left_bytes;
			converged = true;
		}
		predicted = predict(d, dirty);
		prev_end = clock_mono_ns();
		control_event(d->control,
			      json_pack("{s:s,s:i,s:I,s:I,s:I,s:I,s:I}", "event", "round", "n",
					d->round, "sent_bytes", (json_int_t)sent, "rate_bps",
					(json_int_t)d->rate, "dirty_bytes", (json_int_t)dirty,
					"dirty_rate_bps", (json_int_t)dirty_rate, "predicted_ns",
					(json_int_t)predicted));
		if (d->round >= 2 && tracker_chosen())
			converged = predicted <= budget;
		/* Rounds no longer shrink: what another one would leave is no less. */
		flat = d->round > 2 && (double)d->round_page_bytes >= 0.9 * (double)prev ? flat + 1
											 : 0;
		prev = d->round_page_bytes;
		if (!converged && (flat >= 2 || d->round >= MAX_ROUNDS) &&
		    transfer_ns(d, dirty) <= budget)
			converged = true;
		over = at_once || clock_mono_ns() - begin > timeout || d->round >= MAX_ROUNDS;
		if (!converged && (at_once || (late && (flat >= FLAT_ROUNDS || over))))
			break;
		if (!converged && flat >= 2 && throttle && !late) {
			throttle_step(d);
			flat = 0;
		}
		if (!converged && over) {
			if (!then || strcmp(then, "go") != 0)
				return error_set(
					err, ETIMEDOUT,
					"memory changes faster than it can be sent: after "
					"%d rounds the pause would still be %lld ms; allow "
					"a longer --downtime, or --on-timeout postcopy or "
					"force",
					d->round, (long long)predicted / 1000000);
			break;
		}
		rested = converged || throttle ? 0 : rest(flat, took, begin + timeout - prev_end);
		if (rested > 0)
			clock_sleep_ns(rested);
	}
	/* What cannot be tracked is all left: post-copy suits that too. */
	late = (!converged || !tracker_chosen()) && (at_once || late);
	*answer = json_pack("{s:i,s:I,s:I,s:b,s:b,s:s}", "rounds", d->round, "bytes",
			    (json_int_t)lanes_bytes(d, false), "predicted_ns",
			    (json_int_t)predicted, "converged", converged, "postcopy", late,
			    "tracker", tracker_chosen() ? tracker_chosen()->name : "none");
	return 0;
}

int dump_precopy(struct dump *d, json_t *args, json_t **answer, struct error *err)
{
	int r;

	yield_set(&d->yield, YIELD_TO_ALL);
	r = precopy(d, args, answer, err);
	yield_set(&d->yield, YIELD_TO_NONE);
	return r;
}

/* --- the rest ----------------------------------------------------------------------- */
int dump_final(struct dump *d, bool verify, json_t **answer, struct error *err)
{
	int64_t t0 = clock_mono_ns(), t1, t2, t3;
	struct timespec cpu0, cpu1;
	uint64_t bytes = lanes_bytes(d, false);
	Ck__Done m = CK__DONE__INIT;
	int r;

	if (!d->s || !d->seized)
		return error_set(err, EINVAL, "dump before connect and freeze");
	d->final = true;
	lanes_patience(d, STREAM_PATIENCE_STILL_S);
	d->verify = verify;
	d->round++;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu0);
	json_decref(d->laps);
	d->laps = json_object();
	d->lap_ns = t0;
	parts_begin(d);
	dump_shared_hash_start(d);
	restart_look(d);
	last_look_begin(d);
	r = dump_collect_fds(d, err);
	dump_lap(d, "fds_ns");
	if (r == 0)
		r = parts_round(d, NULL, err);
	dump_lap(d, "parts_ns");
	if (r == 0)
		r = send_memory(d, err);
	if (r == 0)
		r = stream_flush(d->s, err);
	t1 = clock_mono_ns();
	if (r == 0)
		r = dump_task_states(d, err);
	t2 = clock_mono_ns();
	if (r == 0)
		r = dump_objects(d, err);
	if (r == 0 && verify)
		r = dump_verify(d, err);
	if (r == 0)
		r = end_round(d, err);
	m.verify = verify;
	if (r == 0)
		r = stream_send_msg(d->s, FRAME_DONE, &m.base, err);
	if (r == 0)
		r = d->save ? save_seal(d->save, d->s, err) : stream_flush(d->s, err);
	t3 = clock_mono_ns();
	/* From here on the freezer holds them, whatever becomes of this process. A thread in
	 * a ptrace stop counts as frozen, and stays frozen when it is detached. */
	for (size_t i = 0; i < d->tasks.n && r == 0; i++)
		task_drop_scratch(d->tasks.t[i]);
	for (size_t i = 0; i < d->tasks.n && r == 0; i++) {
		for (size_t k = 0; k < d->tasks.t[i]->nthreads; k++)
			thread_put_back(&d->tasks.t[i]->threads[k]);
	}
	if (r == 0)
		r = cgroup_freeze(&d->cg, true, err);
	if (r < 0)
		return reason(d, r, err);
	d->frozen = true;
	dump_let_go(d);
	r = late_serve(d, err);
	if (r < 0)
		return r;
	if (late_serve_fd(d) >= 0)
		yield_set(&d->yield, YIELD_TO_NONE);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu1);
	json_object_set_new(d->laps, "cpu_ns",
			    json_integer((cpu1.tv_sec - cpu0.tv_sec) * 1000000000ll + cpu1.tv_nsec -
					 cpu0.tv_nsec));
	*answer = json_pack("{s:b,s:{s:O,s:I,s:I,s:I,s:I,s:I},s:I}", "postcopy",
			    late_serve_fd(d) >= 0, "timings", "parts", d->laps, "memory_ns",
			    (json_int_t)(t1 - t0), "tasks_ns", (json_int_t)(t2 - t1), "objects_ns",
			    (json_int_t)(t3 - t2), "hold_ns", (json_int_t)(clock_mono_ns() - t3),
			    "total_ns", (json_int_t)(clock_mono_ns() - t0), "bytes",
			    (json_int_t)(lanes_bytes(d, false) - bytes));
	return 0;
}
