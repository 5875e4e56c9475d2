/* SPDX-License-Identifier: Apache-2.0 */
/* Limits and shapes of all messages of a stream; check.h says what for. */
#include "runtime/checkpoint/check.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/object.h"

#define VSYSCALL_PAGE 0xffffffffff600000ull

/* --- unpacking with a limit ------------------------------------------------------------- */
/* An empty submessage of two bytes takes some hundred bytes unpacked. */
#define BUDGET_BASE  (4u << 20)
#define BUDGET_TIMES 16u

struct budget {
	size_t left;
};

static void *take(void *data, size_t size)
{
	struct budget *b = data;

	if (size > b->left)
		return NULL;
	b->left -= size;
	return malloc(size);
}

static void give(void *data, void *p)
{
	(void)data;
	free(p);
}

void *check_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len)
{
	struct budget b = { BUDGET_BASE + len * BUDGET_TIMES };
	ProtobufCAllocator a = { take, give, &b };

	return protobuf_c_message_unpack(type, &a, len, data);
}

/* --- one function a message --------------------------------------------------------------- */
static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorts; true where one is there twice. */
static bool has_twins(uint32_t *v, size_t n)
{
	qsort(v, n, sizeof(*v), by_number);
	for (size_t i = 1; i < n; i++)
		if (v[i] == v[i - 1])
			return true;
	return false;
}

static bool is_process(const Ck__Process *p)
{
	return p->vpid && p->vpid <= CHECK_PID_MAX && p->vppid <= CHECK_PID_MAX &&
	       p->vpgid <= CHECK_PID_MAX && p->vsid <= CHECK_PID_MAX && p->vppid != p->vpid &&
	       !(p->vpid == 1 && p->zombie) && p->start_time != UINT64_MAX;
}

int check_tree(const Ck__Tree *m, struct error *err)
{
	CLEANUP_FREE uint32_t *pids = NULL;
	bool init = false;

	if (!m->n_processes || m->n_processes > CHECK_PROCESSES)
		return error_set(err, EBADMSG, "a tree of %zu processes", m->n_processes);
	pids = mem_zalloc(m->n_processes * sizeof(*pids));
	for (size_t i = 0; i < m->n_processes; i++) {
		if (!is_process(m->processes[i]))
			return error_set(err, EBADMSG, "process %u of the tree is damaged",
					 m->processes[i]->vpid);
		pids[i] = m->processes[i]->vpid;
		init |= pids[i] == 1;
	}
	if (!init || has_twins(pids, m->n_processes))
		return error_set(err, EBADMSG, "the tree has no init, or a process twice");
	return 0;
}

static bool is_huge_shift(uint32_t shift)
{
	return shift > 12 && shift < 40;
}

static bool is_vma(const Ck__Vma *m)
{
	if (m->start >= m->end || m->start % PAGE || m->end % PAGE ||
	    (m->kind > VMA_VSYSCALL && m->kind != VMA_AIO))
		return false;
	if (m->flags & MAP_HUGETLB &&
	    (!is_huge_shift(m->flags >> 26) || m->start % (1ull << (m->flags >> 26)) ||
	     m->end % (1ull << (m->flags >> 26)) || (m->kind != VMA_ANON && m->kind != VMA_SHARED)))
		return false;
	if (m->kind == VMA_VSYSCALL)
		return m->start == VSYSCALL_PAGE;
	if (m->kind == VMA_FILE && (!m->path || !m->path[0] || strlen(m->path) >= PATH_MAX))
		return false;
	return m->end <= CHECK_ADDRESS_MAX && m->pgoff <= INT64_MAX - CHECK_ADDRESS_MAX;
}

int check_layout(const Ck__Layout *m, struct error *err)
{
	bool ok = m->vpid && m->vpid <= CHECK_PID_MAX && m->n_guards % 2 == 0;

	for (size_t i = 0; i < m->n_vmas && ok; i++)
		ok = is_vma(m->vmas[i]) && (!i || m->vmas[i]->start >= m->vmas[i - 1]->end);
	for (size_t i = 0; i < m->n_guards && ok; i += 2)
		ok = m->guards[i] < m->guards[i + 1] && m->guards[i + 1] <= CHECK_ADDRESS_MAX;
	for (size_t i = 0; i < m->n_policies && ok; i++)
		ok = m->policies[i]->start < m->policies[i]->end &&
		     m->policies[i]->end <= CHECK_ADDRESS_MAX && m->policies[i]->nodes.len == 128;
	return ok ? 0
		  : error_set(err, EBADMSG, "the memory layout of process %u is damaged", m->vpid);
}

int check_shared(const Ck__Shared *m, struct error *err)
{
	if (m->kind > SHARED_DELETED || m->size > CHECK_ADDRESS_MAX ||
	    (m->name && strlen(m->name) >= PATH_MAX) ||
	    (m->kind == SHARED_FILE && (!m->name || !m->name[0])) ||
	    (m->huge_shift && (!is_huge_shift(m->huge_shift) ||
			       (m->kind != SHARED_SYSV && m->size % (1ull << m->huge_shift)))))
		return error_set(err, EBADMSG, "shared memory %u is damaged", m->id);
	return 0;
}

static bool is_thread(const Ck__Thread *m)
{
	struct __ptrace_rseq_configuration rs;

	if (!m->vtid || m->vtid > CHECK_PID_MAX || m->regs.len != sizeof(struct user_regs_struct) ||
	    !m->creds || m->creds->n_uids != 4 || m->creds->n_gids != 4)
		return false;
	for (size_t i = 0; i < m->n_pending; i++)
		if (m->pending[i].len != sizeof(siginfo_t))
			return false;
	if (!m->rseq.len)
		return true;
	if (m->rseq.len != sizeof(rs))
		return false;
	memcpy(&rs, m->rseq.data, sizeof(rs));
	return rs.rseq_abi_size <= PAGE;
}

static bool is_text(const char *s)
{
	return s && strlen(s) < PATH_MAX;
}

int check_task(const Ck__TaskState *m, struct error *err)
{
	CLEANUP_FREE uint32_t *tids = NULL;
	bool ok = m->vpid && m->vpid <= CHECK_PID_MAX && m->n_threads &&
		  m->n_threads <= CHECK_THREADS && m->threads[0]->vtid == m->vpid &&
		  is_text(m->exe) && is_text(m->cwd) && is_text(m->root);

	if (!ok)
		return error_set(err, EBADMSG, "the state of process %u is damaged", m->vpid);
	tids = mem_zalloc(m->n_threads * sizeof(*tids));
	for (size_t i = 0; i < m->n_threads && ok; i++) {
		ok = is_thread(m->threads[i]);
		tids[i] = m->threads[i]->vtid;
	}
	for (size_t i = 0; i < m->n_sigactions && ok; i++)
		ok = m->sigactions[i]->signo >= 1 && m->sigactions[i]->signo <= 64 &&
		     m->sigactions[i]->action.len == 32;
	for (size_t i = 0; i < m->n_pending && ok; i++)
		ok = m->pending[i].len == sizeof(siginfo_t);
	for (size_t i = 0; i < m->n_timers && ok; i++)
		ok = m->timers[i]->itimerspec.len == sizeof(struct itimerspec) &&
		     m->timers[i]->id <= INT_MAX;
	if (!ok || has_twins(tids, m->n_threads))
		return error_set(err, EBADMSG, "the state of process %u is damaged", m->vpid);
	return 0;
}

int check_fdtable(const Ck__FdTable *m, struct error *err)
{
	CLEANUP_FREE uint32_t *nums = mem_zalloc((m->n_fds + 1) * sizeof(*nums));
	bool ok = m->vpid && m->vpid <= CHECK_PID_MAX;

	for (size_t i = 0; i < m->n_fds && ok; i++) {
		nums[i] = m->fds[i]->num;
		ok = nums[i] < CHECK_FDS;
	}
	if (!ok || has_twins(nums, m->n_fds))
		return error_set(err, EBADMSG, "the descriptors of process %u are damaged",
				 m->vpid);
	return 0;
}

int check_object(const Ck__Object *m, struct error *err)
{
	size_t n = strlen(m->type);

	if (!m->id || !n || n > 64 ||
	    (strcmp(m->type, "external") == 0 && memchr(m->body.data, 0, m->body.len)))
		return error_set(err, EBADMSG, "object %u is damaged", m->id);
	return 0;
}

int check_hash(const Ck__Hash *m, struct error *err)
{
	if (m->space > SPACE_SHARED || m->n_pages > CHECK_HASHES || m->start % PAGE ||
	    m->start > CHECK_ADDRESS_MAX)
		return error_set(err, EBADMSG, "hashes of pages are damaged");
	return 0;
}

int check_pages(const struct frame *f, struct page_run *run, struct error *err)
{
	bool bare = f->flags & (FRAME_ZERO | FRAME_DROP);

	if (f->len < sizeof(*run))
		return error_set(err, EBADMSG, "a damaged frame of pages");
	memcpy(run, f->data, sizeof(*run));
	if (run->space > SPACE_SHARED || !run->npages || run->start % PAGE ||
	    run->start > CHECK_ADDRESS_MAX || f->flags & ~(FRAME_ZERO | FRAME_DROP) ||
	    run->npages > (!bare			 ? STREAM_FRAME_MAX / PAGE
			   : run->space == SPACE_PRIVATE ? CHECK_PAGES
							 : CHECK_ADDRESS_MAX / PAGE) ||
	    run->start + run->npages * PAGE > CHECK_ADDRESS_MAX ||
	    f->len != sizeof(*run) + (bare ? 0 : run->npages * PAGE))
		return error_set(err, EBADMSG, "a damaged frame of pages");
	return 0;
}

/* --- a whole frame --------------------------------------------------------------------------- */
static int always(const ProtobufCMessage *m, struct error *err)
{
	(void)m;
	(void)err;
	return 0;
}

typedef int (*check_fn)(const ProtobufCMessage *m, struct error *err);

#define CHECKED(name, kind)                                                                        \
	static int name##_checked(const ProtobufCMessage *m, struct error *err)                    \
	{                                                                                          \
		return check_##name((const kind *)m, err);                                         \
	}
CHECKED(tree, Ck__Tree)
CHECKED(layout, Ck__Layout)
CHECKED(shared, Ck__Shared)
CHECKED(task, Ck__TaskState)
CHECKED(fdtable, Ck__FdTable)
CHECKED(object, Ck__Object)
CHECKED(hash, Ck__Hash)

/* Lane, LaneGo and LaneEnd are not among them: a file has one connection. */
static const struct {
	uint16_t frame;
	const ProtobufCMessageDescriptor *type;
	check_fn check;
} messages[] = {
	{ FRAME_HELLO, &ck__hello__descriptor, always },
	{ FRAME_TREE, &ck__tree__descriptor, tree_checked },
	{ FRAME_LAYOUT, &ck__layout__descriptor, layout_checked },
	{ FRAME_SHARED, &ck__shared__descriptor, shared_checked },
	{ FRAME_ROUND_END, &ck__round_end__descriptor, always },
	{ FRAME_TASK, &ck__task_state__descriptor, task_checked },
	{ FRAME_OBJECT, &ck__object__descriptor, object_checked },
	{ FRAME_FDTABLE, &ck__fd_table__descriptor, fdtable_checked },
	{ FRAME_PART, &ck__part__descriptor, always },
	{ FRAME_HASH, &ck__hash__descriptor, hash_checked },
	{ FRAME_DONE, &ck__done__descriptor, always },
	{ FRAME_SIGNATURE, &ck__signature__descriptor, always },
};

int check_frame(const struct frame *f, struct error *err)
{
	struct page_run run;

	if (f->type == FRAME_PAGES)
		return check_pages(f, &run, err);
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		ProtobufCMessage *m;
		int r;

		if (messages[i].frame != f->type)
			continue;
		m = check_unpack(messages[i].type, f->data, f->len);
		if (!m || f->flags) {
			protobuf_c_message_free_unpacked(m, NULL);
			return error_set(err, EBADMSG, "a damaged frame of type %u", f->type);
		}
		r = messages[i].check(m, err);
		protobuf_c_message_free_unpacked(m, NULL);
		return r;
	}
	return error_set(err, EBADMSG, "a frame of unknown type %u", f->type);
}
