/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System V semaphores and message queues of the container's ipc namespace, with their ids
 * and keys: part "ipc". Shared memory is the core's (mem_shared.c).
 *
 *   source                                     destination
 *   semctl(GETALL), undo values by BPF         semget() with sem_next_id, SETALL
 *   msgrcv(MSG_COPY): nothing is taken out     msgget() with msg_next_id, msgsnd()
 *                                              when all processes are there: semop() by each
 *                                              of them that gives it its undo values and
 *                                              changes no semaphore
 *
 * Who did the last operation and when (GETPID, sem_otime, msg_lspid …) begins anew.
 */
#include <errno.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/ipc.pb-c.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/peek.h"

#define BATCH_BYTES   (1u << 20)
#define MESSAGE_BYTES (4u << 20) /* what one message of a part holds */
#define SEM_MOST      32767	 /* SEMVMX */

/* Limits of the namespace, in an order in which they can be set. */
static const char *const limits[] = {
	"kernel/sem",
	"kernel/msgmax",
	"kernel/msgmnb",
	"kernel/msgmni",
	"kernel/shmmax",
	"kernel/shmall",
	"kernel/shmmni",
	"kernel/shm_rmid_forced",
	"fs/mqueue/msg_default",
	"fs/mqueue/msg_max",
	"fs/mqueue/msgsize_default",
	"fs/mqueue/msgsize_max",
	"fs/mqueue/queues_max",
};
#define NLIMITS (sizeof(limits) / sizeof(limits[0]))

/* --- source ----------------------------------------------------------------------------- */
/* One line of /proc/sysvipc/{sem,msg}. */
struct entry {
	Cki__IpcPerm perm;
	unsigned long n; /* semaphores, or messages */
};

struct source {
	struct dump *d;
	struct entry *sems, *msgs;
	size_t nsems, nmsgs;
	struct error *err;
};

static int table_read(const char *path, bool sem, struct entry **out, size_t *n)
{
	CLEANUP_FREE char *text = NULL;
	char *save = NULL;
	int r = file_read(path, 64 << 20, &text, NULL, NULL);

	*n = 0;
	if (r == -ENOENT) /* a kernel without System V */
		return 0;
	for (char *l = r < 0 ? NULL : strtok_r(text, "\n", &save); l;
	     l = strtok_r(NULL, "\n", &save)) {
		struct entry e = { .perm = CKI__IPC_PERM__INIT };
		Cki__IpcPerm *p = &e.perm;
		int got = sem ? sscanf(l, "%d %d %o %lu %u %u %u %u", &p->key, &p->id, &p->mode,
				       &e.n, &p->uid, &p->gid, &p->cuid, &p->cgid)
			      : sscanf(l, "%d %d %o %*u %lu %*d %*d %u %u %u %u", &p->key, &p->id,
				       &p->mode, &e.n, &p->uid, &p->gid, &p->cuid, &p->cgid);

		if (got != 8)
			continue;
		*out = mem_grow(*out, *n + 1, sizeof(**out));
		(*out)[(*n)++] = e;
	}
	return r < 0 ? r : 0;
}

/* In the container's ipc namespace. */
static int tables_read(void *arg)
{
	struct source *s = arg;
	int r = table_read("/proc/sysvipc/sem", true, &s->sems, &s->nsems);

	return r < 0 ? r : table_read("/proc/sysvipc/msg", false, &s->msgs, &s->nmsgs);
}

static void source_free(struct source *s)
{
	free(s->sems);
	free(s->msgs);
}

static int source_read(struct source *s, struct error *err)
{
	int r = dump_in_ipcns(s->d, tables_read, s, err);

	return r < 0 ? error_sys(err, -r, "listing semaphores and message queues") : 0;
}

/*
 * Names the processes that can have undo values: those with a list of their own. A fresh
 * child of fork(2) has none, as the first thread of a process made by fork(2) has none.
 */
static void undo_obstacles(struct dump *d, struct obstacles *out)
{
	pid_t without = fork();

	if (without == 0)
		for (;;)
			pause();
	for (size_t i = 0; i < dump_task_count(d); i++) {
		struct task *t = dump_task_at(d, i);

		if (without > 0 && syscall(SYS_kcmp, without, task_pid(t), KCMP_SYSVSEM, 0, 0) == 0)
			continue;
		obstacle_add(out, task_vpid(t), -1, "SysV semaphores",
			     "it may have used SEM_UNDO, and this kernel does not let its values "
			     "be read (BTF and CAP_BPF are needed)",
			     "remove the semaphores (ipcrm -s), or run a kernel with "
			     "CONFIG_DEBUG_INFO_BTF");
	}
	if (without > 0) {
		kill(without, SIGKILL);
		waitpid(without, NULL, 0);
	}
}

static int ipc_check(struct dump *d, struct obstacles *out)
{
	struct source s = { .d = d };
	struct error err = { 0 };

	if (!obj_own_ipc(d) || source_read(&s, NULL) < 0) {
		source_free(&s);
		return 0;
	}
	if (s.nsems && peek_load(PEEK_UNDO, &err) < 0)
		undo_obstacles(d, out);
	source_free(&s);
	return 0;
}

static int send_one(struct dump *d, Cki__Ipc *m, struct error *err)
{
	CLEANUP_BUF struct buf body = { 0 };

	obj_pack(&m->base, &body);
	return dump_send_part(d, obj_ipc_part.name, body.data, body.len, err);
}

static int send_sem(struct source *s, struct entry *e)
{
	CLEANUP_FREE unsigned short *now = mem_zalloc((e->n + 1) * sizeof(*now));
	CLEANUP_FREE uint32_t *values = mem_zalloc((e->n + 1) * sizeof(*values));
	Cki__SemSet set = CKI__SEM_SET__INIT;
	Cki__Ipc m = CKI__IPC__INIT;

	if (semctl(e->perm.id, 0, GETALL, now) < 0)
		return error_sys(s->err, errno, "reading semaphores %d", e->perm.id);
	for (unsigned long i = 0; i < e->n; i++)
		values[i] = now[i];
	set.perm = &e->perm;
	set.values = values;
	set.n_values = e->n;
	m.sem = &set;
	return send_one(s->d, &m, s->err);
}

/* Messages from number `first` on, as many as fit; how many in *n. */
static int send_messages(struct source *s, struct entry *e, unsigned long first, uint64_t max_bytes,
			 size_t room, size_t *n)
{
	CLEANUP_FREE struct msgbuf *buf = mem_zalloc(sizeof(long) + room + 1);
	unsigned long most = e->n - first < 4096 ? e->n - first : 4096;
	CLEANUP_FREE Cki__Message *all = mem_zalloc((most + 1) * sizeof(*all));
	CLEANUP_FREE Cki__Message **list = mem_zalloc((most + 1) * sizeof(*list));
	Cki__MsgQueue q = CKI__MSG_QUEUE__INIT;
	Cki__Ipc m = CKI__IPC__INIT;
	size_t bytes = 0;
	int r = 0;

	for (*n = 0; *n < most && bytes < BATCH_BYTES; (*n)++) {
		ssize_t got = msgrcv(e->perm.id, buf, room, (long)(first + *n),
				     MSG_COPY | IPC_NOWAIT | MSG_NOERROR);

		if (got < 0) {
			r = error_sys(s->err, errno,
				      "reading message %lu of queue %d (MSG_COPY needs "
				      "CONFIG_CHECKPOINT_RESTORE)",
				      first + *n, e->perm.id);
			break;
		}
		if ((size_t)got > MESSAGE_BYTES - BATCH_BYTES) {
			r = error_set(s->err, E2BIG, "a message of %zd bytes in queue %d", got,
				      e->perm.id);
			break;
		}
		cki__message__init(&all[*n]);
		all[*n].type = buf->mtype;
		all[*n].data.data = mem_zalloc((size_t)got + 1);
		all[*n].data.len = (size_t)got;
		memcpy(all[*n].data.data, buf->mtext, (size_t)got);
		list[*n] = &all[*n];
		bytes += (size_t)got + 32;
	}
	q.perm = &e->perm;
	q.max_bytes = max_bytes;
	q.more = first > 0;
	q.messages = list;
	q.n_messages = *n;
	m.msg = &q;
	if (r == 0)
		r = send_one(s->d, &m, s->err);
	for (size_t i = 0; i < *n; i++)
		free(all[i].data.data);
	return r;
}

static int send_queue(struct source *s, struct entry *e)
{
	CLEANUP_FREE char *text = NULL;
	struct msqid_ds ds;
	unsigned long first = 0;
	size_t n, room = 8192;
	int r;

	if (msgctl(e->perm.id, IPC_STAT, &ds) < 0)
		return error_sys(s->err, errno, "looking at message queue %d", e->perm.id);
	if (file_read("/proc/sys/kernel/msgmax", 64, &text, NULL, NULL) == 0)
		room = strtoul(text, NULL, 10);
	/* The limit may have been lowered since: no message is larger than the queue. */
	if (room < ds.__msg_cbytes)
		room = ds.__msg_cbytes;
	room = room < MESSAGE_BYTES ? room : MESSAGE_BYTES;
	e->n = ds.msg_qnum;
	do {
		r = send_messages(s, e, first, ds.msg_qbytes, room, &n);
		first += n;
	} while (r == 0 && n && first < e->n);
	return r;
}

static int send_limits(struct source *s)
{
	Cki__IpcLimit all[NLIMITS], *list[NLIMITS];
	Cki__Ipc m = CKI__IPC__INIT;
	int r;

	for (size_t i = 0; i < NLIMITS; i++) {
		CLEANUP_FREE char *path = str_format("/proc/sys/%s", limits[i]);
		char *text = NULL;

		if (file_read(path, 256, &text, NULL, NULL) < 0)
			continue;
		text[strcspn(text, "\n")] = '\0';
		cki__ipc_limit__init(&all[m.n_limits]);
		all[m.n_limits].path = (char *)(uintptr_t)limits[i];
		all[m.n_limits].value = text;
		list[m.n_limits] = &all[m.n_limits];
		m.n_limits++;
	}
	m.limits = list;
	r = send_one(s->d, &m, s->err);
	for (size_t i = 0; i < m.n_limits; i++)
		free(all[i].value);
	return r;
}

/* In the container's ipc namespace, everything frozen. */
static int send_tables(void *arg)
{
	struct source *s = arg;
	int r = send_limits(s);

	for (size_t i = 0; i < s->nsems && r == 0; i++)
		r = send_sem(s, &s->sems[i]);
	for (size_t i = 0; i < s->nmsgs && r == 0; i++)
		r = send_queue(s, &s->msgs[i]);
	return r;
}

/* --- undo values --------------------------------------------------------------------- */
struct undo {
	struct source *s;
	struct owner {
		uint64_t list;
		pid_t pid;
	} * owners; /* whose list it is */
	size_t n;
};

static int send_undo(void *ctx, const struct peek_record *rec, const void *data)
{
	struct undo *u = ctx;
	struct task *t = dump_task_by_pid(u->s->d, rec->pid);
	Cki__SemUndo m = CKI__SEM_UNDO__INIT;
	Cki__Ipc ipc = CKI__IPC__INIT;
	int32_t adjust[64];
	int16_t now[64];
	bool any = false;

	if (!t || rec->len != sizeof(now))
		return 0;
	memcpy(now, data, sizeof(now));
	for (uint64_t i = 0; i < 64 && rec->c + i < rec->d; i++) {
		adjust[m.n_adjust++] = now[i];
		any |= now[i] != 0;
	}
	if (!any)
		return 0;
	if (rec->tid != rec->pid)
		return error_set(u->s->err, ENOTSUP,
				 "thread %d of process %d has SEM_UNDO values of its own (it was "
				 "made without CLONE_SYSVSEM)",
				 rec->tid, task_vpid(t));
	for (size_t i = 0; i < u->n; i++)
		if (u->owners[i].list == rec->a && u->owners[i].pid != rec->pid)
			return error_set(u->s->err, ENOTSUP,
					 "process %d shares its SEM_UNDO values with another one "
					 "(CLONE_SYSVSEM)",
					 task_vpid(t));
	u->owners = mem_grow(u->owners, u->n + 1, sizeof(*u->owners));
	u->owners[u->n++] = (struct owner){ rec->a, rec->pid };
	m.vpid = task_vpid(t);
	m.id = (int32_t)rec->b;
	m.first = (uint32_t)rec->c;
	m.adjust = adjust;
	ipc.undo = &m;
	return send_one(u->s->d, &ipc, u->s->err);
}

static int send_undos(struct source *s)
{
	struct undo u = { .s = s };
	int r = 0;

	if (!s->nsems)
		return 0;
	for (size_t i = 0; i < s->nsems && r == 0; i++)
		r = peek_sem_size(s->sems[i].perm.id, (uint32_t)s->sems[i].n, s->err);
	if (r == 0)
		r = peek(PEEK_UNDO, send_undo, &u, s->err);
	free(u.owners);
	return r < 0 ? error_wrap(s->err, "SEM_UNDO values") : 0;
}

static int ipc_dump(struct dump *d, struct error *err)
{
	struct source s = { .d = d, .err = err };
	int r;

	if (!obj_own_ipc(d))
		return 0;
	r = source_read(&s, err);
	if (r == 0)
		r = dump_in_ipcns(d, send_tables, &s, NULL);
	if (r == 0)
		r = send_undos(&s);
	source_free(&s);
	return r;
}

/* Made known while the tasks run, so that the freeze need not wait for BPF to be loaded. */
static int ipc_round(struct dump *d, int n, json_t *args, struct error *err)
{
	struct source s = { .d = d };

	(void)args;
	(void)err;
	if (n == 1 && obj_own_ipc(d) && source_read(&s, NULL) == 0 && s.nsems)
		peek_load(PEEK_UNDO, NULL);
	source_free(&s);
	return 0;
}

/* --- destination ------------------------------------------------------------------------ */
static Cki__Ipc **undos; /* for when all processes are there */
static size_t nundos;

struct maker {
	const Cki__Ipc *m;
	struct error *err;
};

/* Runs the call that makes an object as its creator, in this thread alone: no libc. */
static int make_as(const Cki__IpcPerm *p, const char *next_id, int (*get)(const Cki__Ipc *m),
		   const struct maker *k)
{
	CLEANUP_FREE char *path = str_format("/proc/sys/kernel/%s", next_id);
	char num[16];
	int id, n = 0;

	snprintf(num, sizeof(num), "%d", p->id);
	if (file_write_str(path, num, NULL) < 0)
		return error_set(k->err, EOPNOTSUPP,
				 "this kernel cannot give %s (CONFIG_CHECKPOINT_RESTORE)", next_id);
	if ((p->cgid && syscall(SYS_setresgid, -1, p->cgid, -1) < 0) ||
	    (p->cuid && syscall(SYS_setresuid, -1, p->cuid, -1) < 0))
		n = errno;
	id = n ? -1 : get(k->m);
	if (id < 0 && !n)
		n = errno;
	if (p->cuid)
		syscall(SYS_setresuid, -1, 0, -1);
	if (p->cgid)
		syscall(SYS_setresgid, -1, 0, -1);
	if (id >= 0 && id != p->id)
		n = EEXIST;
	return n ? error_sys(k->err, n, "making IPC object %d (key %#x) again", p->id,
			     (unsigned)p->key)
		 : id;
}

static int get_sem(const Cki__Ipc *m)
{
	return semget(m->sem->perm->key, (int)m->sem->n_values,
		      IPC_CREAT | IPC_EXCL | (int)(m->sem->perm->mode & 0777));
}

static int get_msg(const Cki__Ipc *m)
{
	return msgget(m->msg->perm->key, IPC_CREAT | IPC_EXCL | (int)(m->msg->perm->mode & 0777));
}

static int make_sem(struct maker *k)
{
	const Cki__SemSet *s = k->m->sem;
	CLEANUP_FREE unsigned short *values = mem_zalloc((s->n_values + 1) * sizeof(*values));
	struct semid_ds ds;
	int id = make_as(s->perm, "sem_next_id", get_sem, k);

	if (id < 0)
		return id;
	for (size_t i = 0; i < s->n_values; i++)
		values[i] = (unsigned short)s->values[i];
	if (semctl(id, 0, SETALL, values) < 0 || semctl(id, 0, IPC_STAT, &ds) < 0)
		return error_sys(k->err, errno, "setting semaphores %d", id);
	ds.sem_perm.uid = s->perm->uid;
	ds.sem_perm.gid = s->perm->gid;
	ds.sem_perm.mode = (unsigned short)(s->perm->mode & 0777);
	if (semctl(id, 0, IPC_SET, &ds) < 0)
		return error_sys(k->err, errno, "giving semaphores %d to their owner", id);
	return 0;
}

static int fill_queue(int id, const Cki__MsgQueue *q, struct error *err)
{
	for (size_t i = 0; i < q->n_messages; i++) {
		const Cki__Message *m = q->messages[i];
		CLEANUP_FREE struct msgbuf *b = mem_zalloc(sizeof(long) + m->data.len + 1);

		b->mtype = m->type;
		memcpy(b->mtext, m->data.data, m->data.len);
		if (msgsnd(id, b, m->data.len, IPC_NOWAIT) < 0)
			return error_sys(err, errno, "putting a message back into queue %d", id);
	}
	return 0;
}

static int make_msg(struct maker *k)
{
	const Cki__MsgQueue *q = k->m->msg;
	struct msqid_ds ds;
	int id = q->perm->id;

	if (q->more)
		return fill_queue(id, q, k->err);
	id = make_as(q->perm, "msg_next_id", get_msg, k);
	if (id < 0)
		return id;
	if (msgctl(id, IPC_STAT, &ds) < 0)
		return error_sys(k->err, errno, "looking at message queue %d", id);
	ds.msg_perm.uid = q->perm->uid;
	ds.msg_perm.gid = q->perm->gid;
	ds.msg_perm.mode = (unsigned short)(q->perm->mode & 0777);
	ds.msg_qbytes = q->max_bytes;
	if (msgctl(id, IPC_SET, &ds) < 0)
		return error_sys(k->err, errno,
				 "giving message queue %d to its owner, with room for %llu bytes",
				 id, (unsigned long long)q->max_bytes);
	return fill_queue(id, q, k->err);
}

static int make(void *arg)
{
	struct maker *k = arg;
	int r = 0;

	for (size_t i = 0; i < k->m->n_limits; i++) {
		const Cki__IpcLimit *l = k->m->limits[i];
		CLEANUP_FREE char *path = NULL;
		CLEANUP_FREE char *now = NULL;
		bool known = false;

		for (size_t n = 0; n < NLIMITS; n++)
			known |= strcmp(limits[n], l->path) == 0;
		if (!known)
			return error_set(k->err, EBADMSG, "unknown limit %s", l->path);
		path = str_format("/proc/sys/%s", l->path);
		if (file_read(path, 256, &now, NULL, NULL) < 0)
			continue;
		now[strcspn(now, "\n")] = '\0';
		/* What cannot be set here shows when something does not fit. */
		if (strcmp(now, l->value) != 0)
			file_write_str(path, l->value, NULL);
	}
	if (k->m->sem && k->m->sem->perm)
		r = make_sem(k);
	if (r == 0 && k->m->msg && k->m->msg->perm)
		r = make_msg(k);
	return r;
}

static int ipc_receive(struct restore *r, const void *body, size_t len, struct error *err)
{
	Cki__Ipc *m = obj_unpack(&cki__ipc__descriptor, body, len, err);
	struct maker k = { m, err };
	int n;

	if (!m)
		return -EBADMSG;
	if (m->undo) {
		undos = mem_grow(undos, nundos + 1, sizeof(*undos));
		undos[nundos++] = m;
		return 0;
	}
	n = restore_in_ipcns(r, make, &k, NULL);
	cki__ipc__free_unpacked(m, NULL);
	return n < 0 ? (err->code ? n : error_sys(err, -n, "entering the ipc namespace")) : 0;
}

/*
 * Two operations in one call, of which only one is noted for undoing: the semaphore keeps
 * its value. Up first, unless that would leave the range.
 */
static int undo_one(struct task *t, const Cki__SemUndo *u, uint32_t num, int adjust,
		    struct error *err)
{
	unsigned long at = remote_scratch(t);
	struct sembuf noted = { .sem_num = (unsigned short)num,
				.sem_op = (short)-adjust,
				.sem_flg = SEM_UNDO | IPC_NOWAIT };
	struct sembuf back = { .sem_num = (unsigned short)num,
			       .sem_op = (short)adjust,
			       .sem_flg = IPC_NOWAIT };
	long n = -ENOMEM;

	for (int down = 0; at && down < 2; down++) {
		struct sembuf ops[2] = { adjust < 0 ? noted : back, adjust < 0 ? back : noted };

		if (down) {
			struct sembuf first = ops[0];

			ops[0] = ops[1];
			ops[1] = first;
		}
		n = remote_write(t, at, ops, sizeof(ops));
		if (n == 0)
			n = remote_syscall(t, SYS_semop, (unsigned long)u->id, at, 2, 0, 0, 0);
		if (n != -ERANGE)
			break;
	}
	return n < 0 ? error_sys(err, (int)-n, "giving process %d its SEM_UNDO values of set %d",
				 task_vpid(t), u->id)
		     : 0;
}

static int ipc_complete(struct restore *r, struct error *err)
{
	int n = 0;

	for (size_t i = 0; i < nundos; i++) {
		const Cki__SemUndo *u = undos[i]->undo;
		struct task *t = restore_task(r, u->vpid);

		if (!t && n == 0)
			n = error_set(err, ESRCH,
				      "process %d, which has SEM_UNDO values, is not here",
				      u->vpid);
		for (size_t k = 0; k < u->n_adjust && n == 0; k++) {
			if (abs(u->adjust[k]) > SEM_MOST)
				n = error_set(err, EBADMSG, "a SEM_UNDO value out of range");
			else if (u->adjust[k])
				n = undo_one(t, u, u->first + (uint32_t)k, u->adjust[k], err);
		}
		cki__ipc__free_unpacked(undos[i], NULL);
	}
	free(undos);
	undos = NULL;
	nundos = 0;
	return n;
}

const struct checkpoint_part obj_ipc_part = {
	.name = "ipc",
	.check = ipc_check,
	.round = ipc_round,
	.dump = ipc_dump,
	.receive = ipc_receive,
	.complete = ipc_complete,
};
