/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX message queues: part "mqueue" carries the queues of the container's ipc namespace
 * and such that were unlinked and are still open; type "mqueue" the descriptors.
 *
 * There is no way to look at a message without taking it out. Everything stands still, so
 * the source takes all of them out and puts them back, in the order in which they were
 * received: priority, then age. A process that asked to be told of the next message
 * (mq_notify) is taken off for that time, by a system call of its own: a message put into
 * an empty queue would be the one it waits for.
 */
#include <dirent.h>
#include <errno.h>
#include <mqueue.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/ipc.pb-c.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/peek.h"

#define MQUEUE_MAGIC  0x19800202
#define BATCH_BYTES   (1u << 20)
#define MESSAGE_BYTES (3u << 20)

static bool is_queue(int fd, const struct stat *st)
{
	struct statfs fs;

	return S_ISREG(st->st_mode) && fstatfs(fd, &fs) == 0 && fs.f_type == MQUEUE_MAGIC;
}

static bool mqueue_claims(const struct ofd *o)
{
	return !(o->flags & O_PATH) && is_queue(o->fd, &o->st);
}

/* --- source ----------------------------------------------------------------------------- */
struct queue {
	char *name;
	bool unlinked;
	int fd; /* the engine's own, for both directions */
	struct stat st;
	int notify_how, notify_signo; /* of fdinfo's kin: what read(2) of the queue shows */
	pid_t notify_pid;	      /* here; 0: nobody */
	uint64_t notify_value;
};

struct queues {
	struct queue *q;
	size_t n;
	int mount; /* of the namespace's queues, seen by nobody */
};

static void queues_free(struct queues *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->q[i].name);
		close(l->q[i].fd);
	}
	free(l->q);
}

/* In the container's ipc namespace: its queues as a mount that is in no tree. */
static int mount_queues(void *arg)
{
	struct queues *l = arg;
	CLEANUP_CLOSE int ctx = (int)syscall(SYS_fsopen, "mqueue", FSOPEN_CLOEXEC);

	if (ctx < 0 || syscall(SYS_fsconfig, ctx, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	l->mount = (int)syscall(SYS_fsmount, ctx, FSMOUNT_CLOEXEC, 0);
	return l->mount < 0 ? -errno : 0;
}

/* Adds the queue behind fd, which is taken over. */
static void queue_add(struct queues *l, int fd, const char *name, bool unlinked)
{
	struct queue q = { .fd = fd, .unlinked = unlinked };
	char text[256];
	ssize_t n;

	if (fstat(fd, &q.st) < 0) {
		close(fd);
		return;
	}
	for (size_t i = 0; i < l->n; i++)
		if (l->q[i].st.st_ino == q.st.st_ino && l->q[i].st.st_dev == q.st.st_dev) {
			close(fd);
			return;
		}
	n = pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "QSIZE:%*u NOTIFY:%d SIGNO:%d NOTIFY_PID:%d", &q.notify_how,
		   &q.notify_signo, &q.notify_pid) != 3)
		q.notify_pid = 0;
	q.name = str_dup(name);
	l->q = mem_grow(l->q, l->n + 1, sizeof(*l->q));
	l->q[l->n++] = q;
}

static int queues_list(struct dump *d, struct queues *l, struct error *err)
{
	CLEANUP_CLOSEDIR DIR *dir = NULL;
	struct dirent *e;
	int r, list;

	*l = (struct queues){ .mount = -1 };
	if (!obj_own_ipc(d))
		return 0;
	r = dump_in_ipcns(d, mount_queues, l, NULL);
	if (r == -ENODEV) /* a kernel without POSIX message queues */
		return 0;
	if (r < 0)
		return error_sys(err, -r, "listing POSIX message queues");
	/* The mount's own descriptor is an O_PATH one. */
	list = openat(l->mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = list < 0 ? NULL : fdopendir(list);
	if (!dir) {
		r = error_sys(err, errno, "listing POSIX message queues");
		close(l->mount);
		return r;
	}
	while (dir && (e = readdir(dir))) {
		int fd = e->d_name[0] == '.'
				 ? -1
				 : openat(l->mount, e->d_name, O_RDWR | O_NONBLOCK | O_CLOEXEC);

		if (fd >= 0)
			queue_add(l, fd, e->d_name, false);
	}
	close(l->mount);
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		struct ofd *o = dump_ofd_at(d, i);
		int fd = mqueue_claims(o) ? obj_reopen(o->fd, O_RDWR | O_NONBLOCK) : -1;

		if (fd >= 0)
			queue_add(l, fd, "ferry-unlinked", true);
	}
	return 0;
}

static int mqueue_check(struct dump *d, struct obstacles *out)
{
	struct queues l;
	struct error err = { 0 };

	if (queues_list(d, &l, &err) < 0)
		return 0;
	for (size_t i = 0; i < l.n; i++) {
		struct task *t = dump_task_by_pid(d, l.q[i].notify_pid);
		CLEANUP_FREE char *object = str_format("POSIX message queue /%s", l.q[i].name);

		if (!l.q[i].notify_pid)
			continue;
		if (l.q[i].notify_how == SIGEV_THREAD)
			obstacle_add(out, t ? task_vpid(t) : 0, -1, object,
				     "a thread is to be started for its next message "
				     "(mq_notify with SIGEV_THREAD), through a socket that the "
				     "kernel holds",
				     "let the program be told by a signal, or let it poll");
		else if (l.q[i].notify_how == SIGEV_SIGNAL && peek_load(PEEK_MQUEUE, &err) < 0)
			obstacle_add(out, t ? task_vpid(t) : 0, -1, object,
				     "a signal is to be sent for its next message (mq_notify), "
				     "whose value this kernel does not let be read (BTF and "
				     "CAP_BPF are needed)",
				     "run a kernel with CONFIG_DEBUG_INFO_BTF");
	}
	queues_free(&l);
	return 0;
}

static int mqueue_round(struct dump *d, int n, json_t *args, struct error *err)
{
	struct queues l;

	(void)args;
	(void)err;
	/* Only queues that are told about need BPF, which takes its time to load. */
	if (n != 1 || queues_list(d, &l, NULL) < 0)
		return 0;
	for (size_t i = 0; i < l.n; i++)
		if (l.q[i].notify_pid && l.q[i].notify_how == SIGEV_SIGNAL)
			peek_load(PEEK_MQUEUE, NULL);
	queues_free(&l);
	return 0;
}

static int notify_found(void *ctx, const struct peek_record *rec, const void *data)
{
	struct queues *l = ctx;

	(void)data;
	for (size_t i = 0; i < l->n; i++)
		if (l->q[i].st.st_ino == rec->a && l->q[i].notify_pid == rec->pid)
			l->q[i].notify_value = rec->c;
	return 0;
}

/* The descriptor through which `t` has this queue; -1: none. */
static int number_in(struct dump *d, const struct task *t, const struct queue *q)
{
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		struct ofd *o = dump_ofd_at(d, i);

		if (o->st.st_ino != q->st.st_ino || !mqueue_claims(o))
			continue;
		for (size_t h = 0; h < o->nholders; h++)
			if (o->holders[h].task == t)
				return o->holders[h].num;
	}
	return -1;
}

/* mq_notify() by the process itself; how < 0: no more. */
static int notify_set(struct task *t, int num, int how, int signo, uint64_t value,
		      struct error *err)
{
	unsigned long at = remote_scratch(t);
	struct sigevent ev = { .sigev_notify = how, .sigev_signo = signo };
	long n = -ENOMEM;

	ev.sigev_value.sival_ptr = (void *)(uintptr_t)value;
	if (at && how < 0)
		n = remote_syscall(t, SYS_mq_notify, (unsigned long)num, 0, 0, 0, 0, 0);
	else if (at && (n = remote_write(t, at, &ev, sizeof(ev))) == 0)
		n = remote_syscall(t, SYS_mq_notify, (unsigned long)num, at, 0, 0, 0, 0);
	return n < 0 ? error_sys(err, (int)-n, "mq_notify of process %d", task_vpid(t)) : 0;
}

static int put_back(int fd, Cki__Message *const *m, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (mq_send(fd, (const char *)m[i]->data.data, m[i]->data.len,
			    (unsigned int)m[i]->type) < 0)
			return error_sys(err, errno, "putting a message into a POSIX queue");
	return 0;
}

/* Takes out what is there, notes it, and puts it back. */
static int read_all(const struct queue *q, struct mq_attr *attr, Cki__Message ***out, size_t *n,
		    struct error *err)
{
	CLEANUP_FREE char *buf = NULL;
	int r;

	*out = NULL;
	*n = 0;
	if (mq_getattr(q->fd, attr) < 0)
		return error_sys(err, errno, "looking at POSIX queue /%s", q->name);
	if (attr->mq_curmsgs && (size_t)attr->mq_msgsize > MESSAGE_BYTES)
		return error_set(err, E2BIG, "POSIX queue /%s has messages of %ld bytes", q->name,
				 attr->mq_msgsize);
	buf = mem_zalloc((size_t)attr->mq_msgsize + 1);
	while ((long)*n < attr->mq_curmsgs) {
		unsigned int prio = 0;
		ssize_t got = mq_receive(q->fd, buf, (size_t)attr->mq_msgsize, &prio);
		Cki__Message *m;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			break;
		m = mem_zalloc(sizeof(*m));
		cki__message__init(m);
		m->type = prio;
		m->data.data = mem_zalloc((size_t)got + 1);
		m->data.len = (size_t)got;
		memcpy(m->data.data, buf, (size_t)got);
		*out = mem_grow(*out, *n + 1, sizeof(Cki__Message *));
		(*out)[(*n)++] = m;
	}
	r = put_back(q->fd, *out, *n, err);
	if (r == 0 && (long)*n != attr->mq_curmsgs)
		r = error_set(err, EAGAIN, "POSIX queue /%s was read while it was looked at",
			      q->name);
	return r;
}

static int send_queue(struct dump *d, Cki__PosixQueue *m, struct error *err)
{
	CLEANUP_BUF struct buf body = { 0 };

	obj_pack(&m->base, &body);
	return dump_send_part(d, obj_mqueue_part.name, body.data, body.len, err);
}

static int one_queue(struct dump *d, struct queue *q, struct error *err)
{
	struct task *told = dump_task_by_pid(d, q->notify_pid);
	int num = told ? number_in(d, told, q) : -1, r = 0;
	Cki__PosixQueue m = CKI__POSIX_QUEUE__INIT;
	Cki__Message **all = NULL;
	struct mq_attr attr;
	size_t n = 0, at = 0;

	if (q->notify_pid && (num < 0 || q->notify_how == SIGEV_THREAD))
		return error_set(err, ENOTSUP,
				 "whoever is to be told of messages of POSIX queue /%s cannot be "
				 "told on another host",
				 q->name);
	if (told)
		r = notify_set(told, num, -1, 0, 0, err);
	if (r == 0)
		r = read_all(q, &attr, &all, &n, err);
	if (told) {
		int k = notify_set(told, num, q->notify_how, q->notify_signo, q->notify_value,
				   r < 0 ? NULL : err);

		r = r < 0 ? r : k;
	}
	m.key = q->st.st_ino;
	m.name = q->name;
	m.unlinked = q->unlinked;
	m.mode = q->st.st_mode;
	m.uid = q->st.st_uid;
	m.gid = q->st.st_gid;
	if (told) {
		m.notify_vpid = task_vpid(told);
		m.notify_how = q->notify_how;
		m.notify_signo = q->notify_signo;
		m.notify_value = q->notify_value;
	}
	while (r == 0 && (at < n || !m.more)) {
		size_t bytes = 0, first = at;

		m.max_messages = (uint64_t)attr.mq_maxmsg;
		m.message_size = (uint64_t)attr.mq_msgsize;
		for (; at < n && bytes < BATCH_BYTES; at++)
			bytes += all[at]->data.len + 32;
		m.messages = all + first;
		m.n_messages = at - first;
		r = send_queue(d, &m, err);
		m.more = true;
	}
	for (size_t i = 0; i < n; i++) {
		free(all[i]->data.data);
		free(all[i]);
	}
	free(all);
	return r;
}

static int mqueue_dump(struct dump *d, struct error *err)
{
	struct queues l;
	bool signals = false;
	int r = queues_list(d, &l, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < l.n; i++)
		signals |= l.q[i].notify_pid && l.q[i].notify_how == SIGEV_SIGNAL;
	if (signals)
		r = peek(PEEK_MQUEUE, notify_found, &l, err);
	for (size_t i = 0; i < l.n && r == 0; i++)
		r = one_queue(d, &l.q[i], err);
	queues_free(&l);
	return r;
}

static int fd_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cki__PosixQueueFd m = CKI__POSIX_QUEUE_FD__INIT;
	off_t pos = lseek(o->fd, 0, SEEK_CUR);

	(void)err;
	(void)d;
	m.key = o->st.st_ino;
	m.flags = (uint32_t)o->flags;
	m.pos = pos > 0 ? (uint64_t)pos : 0;
	obj_pack(&m.base, body);
	return 0;
}

/* --- destination ------------------------------------------------------------------------ */
static struct made {
	uint64_t key;
	int fd;
	int vpid, how, signo; /* to be told */
	uint64_t value;
} * made;
static size_t nmade;

static struct made *made_find(uint64_t key)
{
	for (size_t i = 0; i < nmade; i++)
		if (made[i].key == key)
			return &made[i];
	return NULL;
}

struct maker {
	const Cki__PosixQueue *m;
	int fd;
};

/* In the container's ipc namespace. The system call's names have no slash. */
static int make(void *arg)
{
	struct maker *k = arg;
	struct mq_attr attr = { .mq_maxmsg = (long)k->m->max_messages,
				.mq_msgsize = (long)k->m->message_size };

	k->fd = (int)syscall(SYS_mq_open, k->m->name,
			     O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK | O_CLOEXEC, 0600, &attr);
	if (k->fd < 0)
		return -errno;
	if (k->m->unlinked && syscall(SYS_mq_unlink, k->m->name) < 0)
		return -errno;
	if (fchown(k->fd, k->m->uid, k->m->gid) < 0 || fchmod(k->fd, k->m->mode & 07777) < 0)
		return -errno;
	return 0;
}

static int mqueue_receive(struct restore *r, const void *body, size_t len, struct error *err)
{
	Cki__PosixQueue *m = obj_unpack(&cki__posix_queue__descriptor, body, len, err);
	struct maker k = { .m = m, .fd = -1 };
	struct made *q;
	int n = 0;

	if (!m)
		return -EBADMSG;
	q = made_find(m->key);
	if (!q) {
		n = restore_in_ipcns(r, make, &k, NULL);
		made = mem_grow(made, nmade + 1, sizeof(*made));
		q = &made[nmade++];
		*q = (struct made){ .key = m->key,
				    .fd = k.fd,
				    .vpid = m->notify_vpid,
				    .how = m->notify_how,
				    .signo = m->notify_signo,
				    .value = m->notify_value };
	}
	if (n < 0)
		error_sys(err, -n,
			  "making POSIX queue /%s for %llu messages of %llu bytes (limits: "
			  "/proc/sys/fs/mqueue, RLIMIT_MSGQUEUE of ferryd)",
			  m->name, (unsigned long long)m->max_messages,
			  (unsigned long long)m->message_size);
	else
		n = put_back(q->fd, m->messages, m->n_messages, err);
	cki__posix_queue__free_unpacked(m, NULL);
	return n;
}

static int fd_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		      struct error *err)
{
	Cki__PosixQueueFd *m = obj_unpack(&cki__posix_queue_fd__descriptor, body, len, err);
	struct made *q = m ? made_find(m->key) : NULL;

	(void)r;
	(void)id;
	if (!q)
		*fd = error_set(err, EBADMSG, "a POSIX message queue did not come");
	else
		*fd = obj_reopen(q->fd, (int)m->flags & (O_ACCMODE | O_NONBLOCK));
	if (q && *fd < 0)
		error_sys(err, -*fd, "opening a POSIX message queue");
	if (*fd >= 0 && m->pos)
		lseek(*fd, (off_t)m->pos, SEEK_SET);
	if (m)
		cki__posix_queue_fd__free_unpacked(m, NULL);
	return *fd < 0 ? *fd : 0;
}

/* Who is to be told says so itself, through the first of its descriptors. */
static int fd_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
		   struct error *err)
{
	Cki__PosixQueueFd *m = obj_unpack(&cki__posix_queue_fd__descriptor, body, len, err);
	struct made *q = m ? made_find(m->key) : NULL;
	struct task *t;
	int num, n = 0;

	(void)fd;
	if (m)
		cki__posix_queue_fd__free_unpacked(m, NULL);
	for (size_t i = 0; q && q->vpid && n == 0 && restore_holder(r, id, i, &t, &num); i++)
		if (task_vpid(t) == q->vpid) {
			n = notify_set(t, num, q->how, q->signo, q->value, err);
			q->vpid = 0;
		}
	return n;
}

static int fd_finish(struct restore *r, uint32_t id, int fd, struct error *err)
{
	(void)r;
	(void)id;
	(void)fd;
	(void)err;
	for (size_t i = 0; i < nmade; i++)
		close(made[i].fd);
	free(made);
	made = NULL;
	nmade = 0;
	return 0;
}

const struct object_type obj_mqueue = {
	.type = "mqueue",
	.claims = mqueue_claims,
	.dump = fd_dump,
	.restore = fd_restore,
	.late = fd_late,
	.finish = fd_finish,
};

const struct checkpoint_part obj_mqueue_part = {
	.name = "mqueue",
	.check = mqueue_check,
	.round = mqueue_round,
	.dump = mqueue_dump,
	.receive = mqueue_receive,
};
