/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AF_UNIX sockets, source: names, peers, queues.
 *
 * Who is connected to whom is told by sock_diag of the container's network namespace:
 * peer inode (0: the other end is gone, or waits in a listener's queue), the inodes that
 * wait in each listener's queue, backlog and shutdown state. Queued data is read with
 * MSG_PEEK from a moving SO_PEEK_OFF, so that nothing is taken out; descriptors in flight
 * come out as duplicates and join the checkpoint.
 *
 * Connections that wait in an accept queue are not accepted here, because they could not
 * be put back: they are made anew at the destination. What their clients have sent already
 * is read by BPF (obj_unix_peek.c), small messages without descriptors; else the dump fails
 * and the source goes on.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/obj_unix.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

const int unix_options[] = { SO_RCVTIMEO,
			     SO_SNDTIMEO,
			     SO_PASSCRED,
			     SO_PASSSEC,
			     SO_RCVLOWAT,
			     SO_PRIORITY,
			     SO_LINGER,
			     SO_TIMESTAMP,
			     SO_TIMESTAMPNS,
			     SO_OOBINLINE,
			     SO_PEEK_OFF,
			     SO_PASSPIDFD,
			     0 };

struct info {
	uint8_t state, shutdown;
	uint32_t peer, backlog, vfs_ino, vfs_dev;
	uint32_t *waiting; /* inodes of clients in the accept queue, oldest first */
	size_t nwaiting;
};

static int int_option(int fd, int name)
{
	socklen_t len = sizeof(int);
	int v = -1;

	return getsockopt(fd, SOL_SOCKET, name, &v, &len) < 0 ? -1 : v;
}

static bool is_unix(const struct ofd *o)
{
	return S_ISSOCK(o->st.st_mode) && !(o->flags & O_PATH) && str_starts(o->link, "socket:[") &&
	       int_option(o->fd, SO_DOMAIN) == AF_UNIX;
}

/* --- sock_diag ---------------------------------------------------------------------------- */
static int diag_open(void *arg)
{
	*(int *)arg = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	return *(int *)arg < 0 ? -errno : 0;
}

/* A netlink socket of the container's network namespace, kept while that is the same. */
static int diag_socket(struct dump *d, struct error *err)
{
	static int sock = -1;
	static dev_t dev;
	static ino_t ino;
	struct task *t = dump_task(d, 1);
	CLEANUP_FREE char *path = NULL;
	struct stat st = { 0 };
	int n;

	if (!t)
		t = dump_task_at(d, 0);
	path = str_format("/proc/%d/ns/net", t ? task_pid(t) : 0);
	if (t && stat(path, &st) == 0 && sock >= 0 && st.st_dev == dev && st.st_ino == ino)
		return sock;
	if (sock >= 0)
		close(sock);
	sock = -1;
	n = dump_in_netns(d, diag_open, &sock, err);
	if (n < 0)
		return error_wrap(err, "asking for unix sockets");
	dev = st.st_dev;
	ino = st.st_ino;
	return sock;
}

static void info_parse(const struct nlmsghdr *h, struct info *i)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	const char *end = (const char *)h + h->nlmsg_len;

	i->state = m->udiag_state;
	for (const char *p = (const char *)(m + 1); p + sizeof(struct nlattr) <= end;) {
		const struct nlattr *a = (const struct nlattr *)p;
		const void *v = a + 1;
		size_t len = a->nla_len - sizeof(*a);

		if (a->nla_len < sizeof(*a) || p + a->nla_len > end)
			break;
		switch (a->nla_type) {
		case UNIX_DIAG_PEER:
			memcpy(&i->peer, v, 4);
			break;
		case UNIX_DIAG_SHUTDOWN:
			memcpy(&i->shutdown, v, 1);
			break;
		case UNIX_DIAG_RQLEN:
			memcpy(&i->backlog, (const char *)v + 4, 4);
			break;
		case UNIX_DIAG_VFS:
			memcpy(&i->vfs_ino, v, 4);
			memcpy(&i->vfs_dev, (const char *)v + 4, 4);
			break;
		case UNIX_DIAG_ICONS:
			i->nwaiting = len / 4;
			i->waiting = mem_zalloc(len + 4);
			memcpy(i->waiting, v, i->nwaiting * 4);
			break;
		}
		p += (a->nla_len + 3u) & ~3u;
	}
}

/* -ENOENT: not in the container's network namespace. Free i->waiting. */
static int info_get(struct dump *d, const struct ofd *o, struct info *i, struct error *err)
{
	struct {
		struct nlmsghdr h;
		struct unix_diag_req r;
	} req = {
		.h = { .nlmsg_len = sizeof(req),
		       .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		       .nlmsg_flags = NLM_F_REQUEST },
		.r = { .sdiag_family = AF_UNIX,
		       .udiag_states = ~0u,
		       .udiag_ino = (uint32_t)o->st.st_ino,
		       .udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN |
				     UDIAG_SHOW_VFS,
		       .udiag_cookie = { ~0u, ~0u } },
	};
	CLEANUP_FREE char *buf = mem_zalloc(1 << 18);
	int sock = diag_socket(d, err);
	struct nlmsghdr *h = (struct nlmsghdr *)buf;
	ssize_t n;

	memset(i, 0, sizeof(*i));
	if (sock < 0)
		return sock;
	if (send(sock, &req, sizeof(req), 0) < 0)
		return error_sys(err, errno, "asking for a unix socket");
	n = recv(sock, buf, 1 << 18, 0);
	if (n < 0 || !NLMSG_OK(h, (size_t)n))
		return error_sys(err, n < 0 ? errno : EIO, "asking for a unix socket");
	if (h->nlmsg_type == NLMSG_ERROR) {
		int code = -((struct nlmsgerr *)NLMSG_DATA(h))->error;

		return error_sys(err, code ? code : EIO, "asking for unix socket %s", o->link);
	}
	info_parse(h, i);
	return 0;
}

/* --- names and peers ------------------------------------------------------------------------ */
/* Length of the name in sun_path; 0: none. A path comes without its final zero. */
static size_t socket_name(int fd, char *out)
{
	struct sockaddr_un un = { 0 };
	socklen_t len = sizeof(un);
	size_t n;

	if (getsockname(fd, (struct sockaddr *)&un, &len) < 0 ||
	    len <= offsetof(struct sockaddr_un, sun_path))
		return 0;
	n = len - offsetof(struct sockaddr_un, sun_path);
	if (n > sizeof(un.sun_path)) /* a path of 108 bytes is counted with its zero */
		n = sizeof(un.sun_path);
	if (un.sun_path[0])
		n = strnlen(un.sun_path, n);
	memcpy(out, un.sun_path, n);
	return n;
}

static struct ofd *ofd_by_ino(struct dump *d, uint32_t ino)
{
	for (size_t i = 0; ino && i < dump_ofd_count(d); i++) {
		struct ofd *x = dump_ofd_at(d, i);

		if ((uint32_t)x->st.st_ino == ino && is_unix(x))
			return x;
	}
	return NULL;
}

static struct ofd *ofd_by_name(struct dump *d, const char *name, size_t len, bool listening,
			       const struct ofd *not_this)
{
	char other[sizeof(((struct sockaddr_un *)0)->sun_path)];

	for (size_t i = 0; len && i < dump_ofd_count(d); i++) {
		struct ofd *x = dump_ofd_at(d, i);

		if (x == not_this || !is_unix(x) ||
		    (int_option(x->fd, SO_ACCEPTCONN) == 1) != listening)
			continue;
		if (socket_name(x->fd, other) == len && memcmp(other, name, len) == 0)
			return x;
	}
	return NULL;
}

/* The listener in whose queue the other end of this client waits, and where in it. */
static struct ofd *pending_in(struct dump *d, const struct ofd *o, uint32_t *slot)
{
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		struct ofd *x = dump_ofd_at(d, i);
		struct info info;
		bool found = false;

		if (!is_unix(x) || int_option(x->fd, SO_ACCEPTCONN) != 1 ||
		    info_get(d, x, &info, NULL) < 0)
			continue;
		for (size_t k = 0; k < info.nwaiting && !found; k++)
			if (info.waiting[k] == (uint32_t)o->st.st_ino) {
				found = true;
				*slot = (uint32_t)k;
			}
		free(info.waiting);
		if (found)
			return x;
	}
	return NULL;
}

/*
 * Whether the name is a path that leads to this socket's inode. *dir: for a relative
 * name, the folder (container's path) from which it leads there; caller frees.
 */
static bool name_leads_here(struct dump *d, const struct ofd *o, const char *name,
			    const struct info *info, struct stat *st, char **dir)
{
	int root = dump_root_fd(d);

	*dir = NULL;
	for (size_t i = 0; i <= o->nholders; i++) {
		CLEANUP_CLOSE int fd = -1;

		if (name[0] == '/') {
			fd = obj_open_in_root(root, name, O_PATH | O_NOFOLLOW, 0, 0);
		} else if (i < o->nholders) {
			CLEANUP_FREE char *cwd =
				str_format("/proc/%d/cwd", task_pid(o->holders[i].task));
			char at[4096];
			CLEANUP_CLOSE int c = open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
			ssize_t n = readlink(cwd, at, sizeof(at) - 1);

			if (c < 0 || n <= 0)
				continue;
			at[n] = '\0';
			fd = openat(c, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
			free(*dir);
			*dir = str_dup(at);
		}
		/* st_dev of an overlay is not the one sock_diag shows: the inode decides */
		if (fd >= 0 && fstat(fd, st) == 0 && S_ISSOCK(st->st_mode) &&
		    (uint32_t)st->st_ino == info->vfs_ino)
			return true;
		if (name[0] == '/')
			break;
	}
	return false;
}

/* A peer that no task holds may be in flight inside another socket. */
static bool peer_outside(struct dump *d, uint32_t ino)
{
	CLEANUP_FREE char *link = str_format("socket:[%u]", ino);

	return obj_held_outside(d, link);
}

/* --- preflight ---------------------------------------------------------------------- */
static int unix_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	int type = int_option(o->fd, SO_TYPE);
	struct error err = { 0 };
	struct info info;
	uint32_t slot;

	if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) {
		obj_obstacle(out, o, "unix socket", "its type is unknown", "close it");
		return 0;
	}
	if (info_get(d, o, &info, &err) < 0) {
		obj_obstacle(out, o, "unix socket",
			     err.code == ENOENT ? "it belongs to another network namespace"
						: err.msg,
			     "close it, or restart the program inside of the container");
		return 0;
	}
	if (info.state == TCP_LISTEN) {
		for (size_t i = 0; i < info.nwaiting; i++)
			if (!ofd_by_ino(d, info.waiting[i]))
				obj_obstacle(
					out, o, "unix socket (listening)",
					"a client outside of the container waits to be accepted",
					"try again when it was accepted and has disconnected");
	} else if (info.peer && !ofd_by_ino(d, info.peer) && peer_outside(d, info.peer)) {
		obj_obstacle(out, o, "unix socket",
			     "it is connected to a process outside of the container",
			     "disconnect it, and do not mount host sockets into containers that "
			     "are to migrate");
	} else if (info.state == TCP_ESTABLISHED && !info.peer && info.shutdown != 3 &&
		   type != SOCK_DGRAM && !pending_in(d, o, &slot)) {
		/* tasks run: it may have been accepted between the two questions */
		struct info again;

		if (info_get(d, o, &again, NULL) == 0) {
			if (!again.peer && again.shutdown != 3)
				obj_obstacle(out, o, "unix socket",
					     "it waits to be accepted outside of the container",
					     "disconnect it, and do not mount host sockets into "
					     "containers that are to migrate");
			free(again.waiting);
		}
	}
	free(info.waiting);
	obj_owner_check(d, o, out);
	return 0;
}

/* --- queues ------------------------------------------------------------------------- */
struct queue {
	struct dump *d;
	Cko__Unix *m;
	bool only_fds; /* descriptors in flight are wanted, not the data */
	int sender;    /* of a stream: the other end, -1: none */
	uint32_t ino;
};
#define ONE_PIECE 512 /* up to here two pieces always cost more than one */

static int queue_fds(struct queue *q, struct msghdr *h, Cko__UnixMessage *msg, struct error *err)
{
	int n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_CREDENTIALS) {
			struct ucred u;
			struct task *t;

			memcpy(&u, CMSG_DATA(c), sizeof(u));
			t = dump_task_by_pid(q->d, u.pid);
			msg->creds = t != NULL;
			msg->vpid = t ? task_vpid(t) : 0;
			msg->uid = u.uid;
			msg->gid = u.gid;
		}
		if (c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			struct ofd *o;
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n < 0) {
				close(fd);
				continue;
			}
			o = dump_add_fd(q->d, fd, err);
			if (!o) {
				n = error_wrap(err, "a descriptor in flight");
				continue;
			}
			msg->fds = mem_grow(msg->fds, msg->n_fds + 1, sizeof(*msg->fds));
			msg->fds[msg->n_fds++] = o->id;
		}
	}
	return n;
}

static void drop_fds(struct msghdr *h)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			close(fd);
		}
	}
}

/* What a message of n bytes costs its sender until it is read: SIOCOUTQ of a fresh pair. */
static int cost_of(size_t n)
{
	int p[2], cost = -1;
	char data[ONE_PIECE] = "";

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
		return -1;
	if (send(p[0], data, n, MSG_DONTWAIT) == (ssize_t)n)
		ioctl(p[0], SIOCOUTQ, &cost);
	close(p[0]);
	close(p[1]);
	return cost;
}

/*
 * A read of a stream runs on into the first piece that carries descriptors and ends with
 * it, and a peek always does: with which byte they came does not show. It is the first
 * one where the sender's memory is that of whole, single pieces: two small pieces cost
 * more than one of their sum. Else the dump fails; a moment later they have been read.
 */
static int fds_placed(const struct queue *q, struct error *err)
{
	bool any = false;
	int now = -1, sum = 0;

	for (size_t i = 0; i < q->m->n_queue; i++) {
		const Cko__UnixMessage *msg = q->m->queue[i];
		int cost = msg->data.len <= ONE_PIECE ? cost_of(msg->data.len) : -1;

		any |= msg->n_fds && msg->data.len > 1;
		sum = sum < 0 || cost < 0 ? -1 : sum + cost;
	}
	if (!any)
		return 0;
	if (q->sender >= 0 && ioctl(q->sender, SIOCOUTQ, &now) == 0 && now == sum)
		return 0;
	if (unix_messages_place(q->d, q->ino, q->m) == 0)
		return 0;
	return error_set(err, EAGAIN,
			 "descriptors are in flight behind other data in a unix "
			 "stream; try again when they have been received");
}

static int queue_add(struct queue *q, int type, char *data, size_t len, struct msghdr *h,
		     struct error *err)
{
	Cko__UnixMessage *msg = mem_zalloc(sizeof(*msg));
	const struct sockaddr_un *from = h->msg_name;
	int n;

	cko__unix_message__init(msg);
	n = queue_fds(q, h, msg, err);
	if (n < 0 || q->only_fds) {
		unix_message_free(msg);
		return n;
	}
	msg->data.data = mem_zalloc(len + 1);
	memcpy(msg->data.data, data, len);
	msg->data.len = len;
	if (type == SOCK_DGRAM && h->msg_namelen > offsetof(struct sockaddr_un, sun_path)) {
		size_t nlen = h->msg_namelen - offsetof(struct sockaddr_un, sun_path);
		struct ofd *sender;

		if (nlen > sizeof(from->sun_path))
			nlen = sizeof(from->sun_path);
		if (from->sun_path[0])
			nlen = strnlen(from->sun_path, nlen);
		sender = ofd_by_name(q->d, from->sun_path, nlen, false, NULL);
		if (sender) {
			msg->sender = sender->id;
		} else {
			msg->name.data = mem_zalloc(nlen + 1);
			memcpy(msg->name.data, from->sun_path, nlen);
			msg->name.len = nlen;
		}
	}
	q->m->queue = mem_grow(q->m->queue, q->m->n_queue + 1, sizeof(Cko__UnixMessage *));
	q->m->queue[q->m->n_queue++] = msg;
	return 0;
}

/* Everything in the receive queue, nothing taken out. */
static int queue_peek(struct queue *q, int fd, struct error *err)
{
	int type = int_option(fd, SO_TYPE), zero = 0, saved = int_option(fd, SO_PEEK_OFF), rc = 0;
	size_t cap = 4 << 20;
	CLEANUP_FREE char *data = NULL;

	if (int_option(fd, SO_ACCEPTCONN) == 1)
		return 0;
	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)) < 0)
		return error_sys(err, errno, "peeking into a unix socket");
	data = malloc(cap); /* not zeroed: pages are touched only as far as data reaches */
	while (data && rc == 0) {
		char control[CMSG_SPACE(253 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)) +
			     512];
		struct sockaddr_un from = { 0 };
		struct iovec iov = { data, cap };
		struct msghdr h = { .msg_name = &from,
				    .msg_namelen = sizeof(from),
				    .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = control,
				    .msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(fd, &h, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			/* EINVAL, ENOTCONN: not connected, nothing can be queued */
			if (errno != EAGAIN && errno != EINVAL && errno != ENOTCONN)
				rc = error_sys(err, errno, "peeking into a unix socket");
			break;
		}
		if (n == 0 && type != SOCK_DGRAM && h.msg_controllen == 0)
			break;
		if (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
			rc = error_set(err, E2BIG, "a message in a unix socket is too large");
			drop_fds(&h);
			break;
		}
		rc = queue_add(q, type, data, (size_t)n, &h, err);
	}
	setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &saved, sizeof(saved));
	if (rc == 0 && type == SOCK_STREAM && !q->only_fds)
		rc = fds_placed(q, err);
	return rc;
}

/* Descriptors in flight anywhere, also inside of sockets in flight, join the checkpoint. */
int unix_gather_in_flight(struct dump *d, struct error *err)
{
	/* the count grows while this runs */
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		struct ofd *x = dump_ofd_at(d, i);
		struct queue q = { .d = d, .only_fds = true, .sender = -1 };
		int n = is_unix(x) ? queue_peek(&q, x->fd, err) : 0;

		if (n < 0)
			return n;
	}
	return 0;
}

/* --- dump --------------------------------------------------------------------------- */
static void options_dump(int fd, Cko__Unix *m)
{
	static const int sizes[] = { SO_SNDBUF, SO_RCVBUF, 0 };
	const int *const lists[] = { unix_options, sizes };

	for (size_t l = 0; l < 2; l++) {
		for (const int *name = lists[l]; *name; name++) {
			uint8_t value[64];
			socklen_t len = sizeof(value);
			Cko__SockOption *s;

			if (getsockopt(fd, SOL_SOCKET, *name, value, &len) < 0)
				continue;
			s = mem_zalloc(sizeof(*s));
			cko__sock_option__init(s);
			s->level = SOL_SOCKET;
			s->name = *name;
			s->value.data = mem_zalloc(len + 1);
			s->value.len = len;
			memcpy(s->value.data, value, len);
			m->options =
				mem_grow(m->options, m->n_options + 1, sizeof(Cko__SockOption *));
			m->options[m->n_options++] = s;
		}
	}
}

/* Fresh groups (NULL: none). */
static void peercred(struct dump *d, int fd, uint32_t *uid, uint32_t *gid, int32_t *vpid,
		     uint32_t **groups, size_t *ngroups)
{
	struct ucred u = { .pid = 0, .uid = 0, .gid = 0 };
	socklen_t len = sizeof(u);
	struct task *t;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) < 0)
		return;
	t = u.pid > 0 ? dump_task_by_pid(d, u.pid) : NULL;
	*vpid = t ? task_vpid(t) : 0;
	*uid = u.uid == (uid_t)-1 ? 0 : u.uid;
	*gid = u.gid == (gid_t)-1 ? 0 : u.gid;
	len = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0 || errno != ERANGE || !len)
		return;
	*groups = mem_zalloc(len);
	*ngroups = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, *groups, &len) < 0
			   ? 0
			   : len / sizeof(**groups);
}

/* The listener from which a connected socket with this abstract name came; 0: none. */
static uint32_t accepted_from(struct dump *d, const struct ofd *o, const char *name, size_t len)
{
	struct ofd *l = len && !name[0] ? ofd_by_name(d, name, len, true, o) : NULL;

	return l ? l->id : 0;
}

/* Of a connection that was not accepted only the kernel knows who made it: who has it. */
static void holder_creds(const struct ofd *o, Cko__Unix *m)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/status", o->task ? task_pid(o->task) : 0);
	CLEANUP_FREE char *text = NULL;
	const char *uid, *gid, *groups;
	char *end;

	if (!o->task || file_read(path, 1 << 20, &text, NULL, NULL) < 0)
		return;
	uid = fdinfo_value(text, "Uid");
	gid = fdinfo_value(text, "Gid");
	groups = fdinfo_value(text, "Groups");
	if (!uid || !gid || !groups || sscanf(uid, "%*u %u", &m->own_uid) != 1 ||
	    sscanf(gid, "%*u %u", &m->own_gid) != 1)
		return;
	m->own_vpid = task_vpid(o->task);
	while (*groups && *groups != '\n') {
		unsigned long g = strtoul(groups, &end, 10);

		if (end == groups)
			break;
		m->own_groups =
			mem_grow(m->own_groups, m->n_own_groups + 1, sizeof(*m->own_groups));
		m->own_groups[m->n_own_groups++] = (uint32_t)g;
		groups = end + strspn(end, " ");
	}
}

static int connection_dump(struct dump *d, struct ofd *o, const struct info *info, Cko__Unix *m,
			   char *peer_name, struct error *err)
{
	struct ofd *peer = ofd_by_ino(d, info->peer);
	struct info other;
	int queued = 0;

	if (info->peer && !peer) {
		int n = unix_gather_in_flight(d, err);

		if (n < 0)
			return n;
		peer = ofd_by_ino(d, info->peer);
		if (!peer)
			return error_set(err, ENOTSUP, "its other end is outside of the container");
	}
	peercred(d, o->fd, &m->peer_uid, &m->peer_gid, &m->peer_vpid, &m->peer_groups,
		 &m->n_peer_groups);
	m->peer_cred = true;
	if (peer) {
		m->peer = peer->id;
		if (info_get(d, peer, &other, err) < 0)
			return -EIO;
		free(other.waiting);
		m->mutual = other.peer == (uint32_t)o->st.st_ino;
		m->peer_name.data = (uint8_t *)peer_name;
		m->peer_name.len = socket_name(peer->fd, peer_name);
		m->peer_listener =
			m->mutual ? accepted_from(d, peer, peer_name, m->peer_name.len) : 0;
		peercred(d, peer->fd, &m->own_uid, &m->own_gid, &m->own_vpid, &m->own_groups,
			 &m->n_own_groups);
		return 0;
	}
	if (info->shutdown == 3 || m->type == SOCK_DGRAM) {
		m->orphan = true;
		return 0;
	}
	peer = pending_in(d, o, &m->slot);
	if (!peer)
		return error_set(err, ENOTSUP, "it waits to be accepted outside of the container");
	if ((ioctl(o->fd, SIOCOUTQ, &queued) < 0 || queued) &&
	    unix_sent_peek(d, (uint32_t)o->st.st_ino, m, err) < 0)
		return error_set(err, EAGAIN,
				 "its connection was not accepted yet and it has sent something "
				 "already, which cannot be read; try again");
	m->pending = peer->id;
	holder_creds(o, m);
	return 0;
}

static int unix_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	char name[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char peer_name[sizeof(name)];
	CLEANUP_FREE char *dir = NULL;
	Cko__Unix m = CKO__UNIX__INIT;
	struct queue q = { .d = d, .m = &m, .sender = -1, .ino = (uint32_t)o->st.st_ino };
	struct ofd *peer;
	char text[sizeof(name) + 1] = "";
	struct info info;
	struct stat st;
	int n;

	n = info_get(d, o, &info, err);
	if (n < 0)
		return n;
	m.flags = (uint32_t)o->flags;
	m.type = (uint32_t)int_option(o->fd, SO_TYPE);
	m.state = info.state;
	m.shutdown = info.shutdown;
	m.backlog = info.backlog;
	m.name.data = (uint8_t *)name;
	m.name.len = socket_name(o->fd, name);
	if (m.name.len && name[0]) {
		bool accepted = info.state == TCP_ESTABLISHED && m.type != SOCK_DGRAM &&
				ofd_by_name(d, name, m.name.len, true, o);

		memcpy(text, name, m.name.len);
		m.bound_path = !accepted && name_leads_here(d, o, text, &info, &st, &dir);
		if (m.bound_path)
			m.inode = obj_inode_dump(-1, &st, false);
	} else if (m.name.len && info.state == TCP_ESTABLISHED && m.type != SOCK_DGRAM) {
		m.listener = accepted_from(d, o, name, m.name.len);
	}
	if (dir)
		m.dir = dir;
	options_dump(o->fd, &m);
	if (info.state == TCP_ESTABLISHED)
		n = connection_dump(d, o, &info, &m, peer_name, err);
	if (info.state == TCP_LISTEN) {
		peercred(d, o->fd, &m.peer_uid, &m.peer_gid, &m.peer_vpid, &m.peer_groups,
			 &m.n_peer_groups);
		m.listen_cred = true;
	}
	peer = dump_ofd_by_id(d, m.peer);
	if (peer)
		q.sender = peer->fd;
	if (n == 0)
		n = queue_peek(&q, o->fd, err);
	if (n == 0)
		n = obj_owner_dump(d, o, &m.owner, err);
	if (n == 0)
		obj_pack(&m.base, body);
	for (size_t i = 0; i < m.n_options; i++) {
		free(m.options[i]->value.data);
		free(m.options[i]);
	}
	free(m.options);
	for (size_t i = 0; i < m.n_queue; i++)
		unix_message_free(m.queue[i]);
	for (size_t i = 0; i < m.n_sent; i++)
		unix_message_free(m.sent[i]);
	free(m.sent);
	free(m.queue);
	free(m.owner);
	free(m.peer_groups);
	free(m.own_groups);
	obj_inode_free(m.inode);
	free(info.waiting);
	return n;
}

const struct object_type obj_unix = {
	.type = "unix",
	.claims = is_unix,
	.check = unix_check,
	.dump = unix_dump,
	.restore = unix_restore,
	.late = unix_late,
	.finish = unix_finish,
};
