/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AF_UNIX sockets, destination.
 *
 *   restore   the socket: a pair or a connection for two connected ends (made by whichever
 *             comes first; obj_unix_peers.c), or one socket, bound and listening
 *   late      datagram connections by name, clients that wait in an accept queue, queued
 *             data (written by the other end), then shutdown states
 *   finish    listen(2) once more, by the process that owns the listener, where it is not
 *             known who listened: clients to come see its credentials
 *
 * Names: a path whose inode is the socket's is bound in the container's mount namespace.
 * A name that only stays in getsockname(2) (accepted sockets, unlinked paths) is bound in
 * an empty folder that a thread calls its root for that moment: same name, no trace in
 * the container. An accepted socket with an abstract name can only come from accept(2):
 * its listener is restored first and a connection is made to it.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/obj_unix.h"

/* A socket that exists already: its id, the engine's descriptor, how far it is. */
struct end {
	uint32_t id, peer, shutdown, backlog;
	int fd;	   /* not yet given to the core: made together with its other end */
	int ghost; /* the other end of an orphan, closed once the queue is filled */
	int at;	   /* the core's descriptor, borrowed */
	bool late, listening, done;
	bool named; /* it was accepted, and has its name from that */
};
static struct end *ends;
static size_t nends;

static struct end *end_find(uint32_t id)
{
	for (size_t i = 0; id && i < nends; i++)
		if (ends[i].id == id)
			return &ends[i];
	return NULL;
}

static struct end *end_add(uint32_t id)
{
	struct end *e = end_find(id);

	if (e)
		return e;
	ends = mem_grow(ends, nends + 1, sizeof(*ends));
	ends[nends] = (struct end){ .id = id, .fd = -1, .ghost = -1, .at = -1 };
	return &ends[nends++];
}

/* --- addresses --------------------------------------------------------------------------- */
static int name_address(const ProtobufCBinaryData *name, struct sockaddr_un *un, socklen_t *len,
			struct error *err)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	if (name->len == 0 || name->len > sizeof(un->sun_path))
		return error_set(err, EBADMSG, "a unix socket's name is too long");
	memcpy(un->sun_path, name->data, name->len);
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name->len);
	if (un->sun_path[0] && name->len < sizeof(un->sun_path))
		(*len)++;
	return 0;
}

static bool is_path(const ProtobufCBinaryData *name)
{
	return name->len && name->data[0];
}

struct action {
	enum { BIND_PATH, BIND_AWAY, CONNECT, MAKE } what;
	int fd, type;
	struct sockaddr_un un;
	socklen_t len;
	const char *dir; /* of a relative name */
	const Cko__Inode *inode;
	const struct sockaddr_un *to;
	socklen_t to_len;
	char root[32]; /* BIND_AWAY: the folder that plays the root */
	int rc;
	const char *step;
};

/* In the container's mount namespace. */
static int act_bind_path(void *arg)
{
	struct action *a = arg;
	struct stat st;

	if (a->dir && *a->dir && chdir(a->dir) < 0)
		return -errno;
	/* what the tree brought is an empty shell */
	if (lstat(a->un.sun_path, &st) == 0 && S_ISSOCK(st.st_mode) && unlink(a->un.sun_path) < 0)
		return -errno;
	if (bind(a->fd, (struct sockaddr *)&a->un, a->len) < 0)
		return -errno;
	if (a->inode && (lchown(a->un.sun_path, a->inode->uid, a->inode->gid) < 0 ||
			 chmod(a->un.sun_path, a->inode->mode & 07777) < 0))
		return -errno;
	return 0;
}

static int act_connect(void *arg)
{
	struct action *a = arg;

	if (a->dir && *a->dir && chdir(a->dir) < 0)
		return -errno;
	return connect(a->fd, (const struct sockaddr *)a->to, a->to_len) < 0 ? -errno : 0;
}

void unix_make_folders(const char *name)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];

	snprintf(path, sizeof(path), "%.*s", (int)sizeof(((struct sockaddr_un *)0)->sun_path),
		 name);
	for (char *p = path + 1; *p; p++)
		if (*p == '/') {
			*p = '\0';
			mkdir(path, 0755);
			*p = '/';
		}
}

static void *act_bind_away(void *arg)
{
	struct action *a = arg;

	a->rc = unshare(CLONE_FS) < 0 || chroot(a->root) < 0 || chdir("/") < 0 ? -errno : 0;
	if (a->rc < 0)
		return NULL;
	unix_make_folders(a->un.sun_path);
	if (bind(a->fd, (struct sockaddr *)&a->un, a->len) < 0)
		a->rc = -errno;
	return NULL;
}

/* Binds where no one sees it. */
static int bind_away(int fd, const ProtobufCBinaryData *name, struct error *err)
{
	struct action a = { .fd = fd, .root = "/tmp/ferry-unix-XXXXXX" };
	pthread_t t;
	int n = name_address(name, &a.un, &a.len, err);

	if (n < 0)
		return n;
	if (!is_path(name)) {
		if (bind(fd, (struct sockaddr *)&a.un, a.len) < 0)
			return error_sys(err, errno, "binding an abstract name");
		return 0;
	}
	if (!mkdtemp(a.root))
		return error_sys(err, errno, "making a folder in /tmp");
	n = pthread_create(&t, NULL, act_bind_away, &a);
	if (n == 0) {
		pthread_join(t, NULL);
		n = -a.rc;
	}
	dir_remove(a.root, NULL);
	return n ? error_sys(err, n, "giving a unix socket its old name") : 0;
}

static int bind_in_container(struct restore *r, int fd, const Cko__Unix *m, struct error *err)
{
	struct action a = { .fd = fd, .dir = m->dir, .inode = m->inode };
	int n = name_address(&m->name, &a.un, &a.len, err);

	if (n < 0)
		return n;
	n = restore_in_mntns(r, act_bind_path, &a, err);
	if (n < 0)
		return error_sys(err, -n, "binding a unix socket to %.108s", a.un.sun_path);
	return 0;
}

static int bind_name(struct restore *r, int fd, const Cko__Unix *m, struct error *err)
{
	if (!m->name.len)
		return 0;
	return m->bound_path ? bind_in_container(r, fd, m, err) : bind_away(fd, &m->name, err);
}

/* Connects to a name of the container's. */
static int connect_name(struct restore *r, int fd, const ProtobufCBinaryData *name, const char *dir,
			struct error *err)
{
	struct action a = { .fd = fd, .dir = dir };
	int n = name_address(name, &a.un, &a.len, err);

	if (n < 0)
		return n;
	a.to = &a.un;
	a.to_len = a.len;
	n = restore_in_mntns(r, act_connect, &a, err);
	if (n < 0)
		return error_sys(err, -n, "connecting to unix socket %s%.107s",
				 is_path(name) ? "" : "@",
				 is_path(name) ? a.un.sun_path : a.un.sun_path + 1);
	return 0;
}

/* --- making ---------------------------------------------------------------------------------- */
struct maker {
	int type, fds[2];
	bool pair, creds;
	uint32_t uid, gid;
	const uint32_t *groups;
	size_t ngroups;
};

/* A thread of the container's network namespace; its credentials end with it. */
static int act_make(void *arg)
{
	struct maker *k = arg;
	int n;

	/* what the other end will see as SO_PEERCRED; of this thread alone: no libc */
	if (k->creds && (syscall(SYS_setgroups, k->ngroups, k->groups) < 0 ||
			 syscall(SYS_setresgid, -1, k->gid, -1) < 0 ||
			 syscall(SYS_setresuid, -1, k->uid, -1) < 0))
		return -errno;
	if (k->pair) {
		n = socketpair(AF_UNIX, k->type | SOCK_CLOEXEC, 0, k->fds);
	} else {
		n = k->fds[0] = socket(AF_UNIX, k->type | SOCK_CLOEXEC, 0);
	}
	if (n < 0)
		n = -errno;
	if (k->creds) {
		syscall(SYS_setresuid, -1, 0, -1);
		syscall(SYS_setresgid, -1, 0, -1);
	}
	return n < 0 ? n : 0;
}

int unix_make_one(struct restore *r, int type, struct error *err)
{
	struct maker k = { .type = type, .fds = { -1, -1 } };
	int n = restore_in_netns(r, act_make, &k, err);

	return n < 0 ? error_sys(err, -n, "making a unix socket") : k.fds[0];
}

static int make_one(struct restore *r, uint32_t type, int *fd, struct error *err)
{
	int n = unix_make_one(r, (int)type, err);

	*fd = n < 0 ? -1 : n;
	return n < 0 ? n : 0;
}

/*
 * By the process that made it, so that both ends see it as their peer. 0, or -errno: then
 * the engine makes it.
 */
static int make_pair_in(struct restore *r, const Cko__Unix *m, int fds[2])
{
	struct task *t = restore_task(r, m->peer_vpid);
	struct unix_who who = unix_peer_of(m);
	unsigned long at = t ? remote_scratch(t) : 0;
	int nums[2];
	long n = at ? 0 : -ESRCH;

	if (n == 0)
		n = unix_act_as(t, &who, SYS_socketpair, AF_UNIX, m->type | SOCK_CLOEXEC, 0, at);
	if (n == 0)
		n = remote_read(t, at, nums, sizeof(nums));
	for (int i = 0; i < 2 && n == 0; i++) {
		fds[i] = (int)syscall(SYS_pidfd_getfd, task_pidfd(t), nums[i], 0);
		remote_syscall(t, SYS_close, (unsigned long)nums[i], 0, 0, 0, 0, 0);
	}
	if (n == 0 && fds[0] >= 0 && fds[1] >= 0)
		return 0;
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(TAKE_FD(fds[i]));
	return -ESRCH;
}

/* fds[0]: this end, fds[1]: the other. */
static int make_pair(struct restore *r, const Cko__Unix *m, int fds[2], struct error *err)
{
	struct maker k = { .type = (int)m->type, .pair = true, .fds = { -1, -1 } };
	int n;

	/* both ends of a socketpair(2) see the same: kept where they saw the same before */
	k.creds = m->peer_cred &&
		  (m->orphan || (m->peer_uid == m->own_uid && m->peer_gid == m->own_gid));
	if (k.creds && m->peer_vpid && (m->orphan || m->peer_vpid == m->own_vpid) &&
	    make_pair_in(r, m, fds) == 0)
		return 0;
	k.uid = m->peer_uid;
	k.gid = m->peer_gid;
	k.groups = m->peer_groups;
	k.ngroups = m->n_peer_groups;
	n = restore_in_netns(r, act_make, &k, err);
	if (n < 0)
		return error_sys(err, -n, "making a pair of unix sockets");
	fds[0] = k.fds[0];
	fds[1] = k.fds[1];
	return 0;
}

/* A connection through the listener, whose abstract name the accepted end then bears. */
static int make_accepted(struct restore *r, uint32_t listener, uint32_t type,
			 const ProtobufCBinaryData *name, const struct unix_who *who, int *client,
			 int *server, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	int l = restore_fd(r, listener, err), flags, n;
	struct sockaddr_un un;
	socklen_t len;

	if (l < 0)
		return l;
	n = make_one(r, type, &fd, err);
	if (n == 0)
		n = name_address(name, &un, &len, err);
	if (n < 0)
		return n;
	if (unix_connect_fd_as(r, fd, &un, len, who) < 0)
		n = connect_name(r, fd, name, NULL, err);
	if (n < 0)
		return n;
	flags = fcntl(l, F_GETFL);
	if (flags < 0 || fcntl(l, F_SETFL, flags | O_NONBLOCK) < 0)
		return error_sys(err, errno, "accepting a connection");
	*server = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	n = *server < 0 ? errno : 0;
	fcntl(l, F_SETFL, flags);
	if (n)
		return error_sys(err, n, "accepting a connection");
	*client = TAKE_FD(fd);
	return 0;
}

/*
 * Both ends of a connection that see different processes; fds[0]: this one. 0, or -errno:
 * then they are made as a pair.
 */
static int make_between(struct restore *r, const Cko__Unix *m, int fds[2], bool *accepted)
{
	struct unix_who peer = unix_peer_of(m), own = unix_own_of(m);
	const ProtobufCBinaryData *name = NULL;
	struct sockaddr_un un;
	socklen_t len;

	if (m->orphan || m->type == SOCK_DGRAM || !m->peer_cred || unix_who_same(&peer, &own))
		return -ENOENT;
	/* a client that has a name of its own has bound it: a path is there then */
	if (m->name.len && !m->bound_path && (!m->peer_name.len || is_path(&m->name)))
		name = &m->name;
	else if (m->peer_name.len)
		name = &m->peer_name;
	if (!name || name_address(name, &un, &len, NULL) < 0)
		return -ENOENT;
	*accepted = name == &m->name;
	return *accepted
		       ? unix_connect_as(r, (int)m->type, &un, len, &own, &peer, &fds[1], &fds[0])
		       : unix_connect_as(r, (int)m->type, &un, len, &peer, &own, &fds[0], &fds[1]);
}

/* Both ends of a connection: this one in *fd, the other kept for its own restore(). */
static int make_connection(struct restore *r, uint32_t id, const Cko__Unix *m, int *fd,
			   struct error *err)
{
	int fds[2] = { -1, -1 }, n;
	struct unix_who peer = unix_peer_of(m), own = unix_own_of(m);
	bool between = false, accepted = false;
	struct end *e;

	if (m->listener && m->peer_listener)
		return error_set(err, ENOTSUP, "both ends of a unix connection were accepted");
	if (m->listener)
		n = make_accepted(r, m->listener, m->type, &m->name, &peer, &fds[1], &fds[0], err);
	else if (m->peer_listener)
		n = make_accepted(r, m->peer_listener, m->type, &m->peer_name, &own, &fds[0],
				  &fds[1], err);
	else if (!(between = make_between(r, m, fds, &accepted) == 0))
		n = make_pair(r, m, fds, err);
	else
		n = 0;
	if (n < 0)
		return n;
	e = end_add(id);
	e->peer = m->peer;
	e->named = between && accepted;
	*fd = fds[0];
	if (m->orphan) {
		end_find(id)->ghost = fds[1];
		return 0;
	}
	e = end_add(m->peer);
	e->peer = id;
	e->fd = fds[1];
	e->named = between && !accepted;
	return 0;
}

static int options_set(int fd, const Cko__Unix *m, struct error *err)
{
	for (size_t i = 0; i < m->n_options; i++) {
		const Cko__SockOption *s = m->options[i];
		int v = 0, now = 0, name = s->name;
		socklen_t len = sizeof(now);

		if (s->name != SO_SNDBUF && s->name != SO_RCVBUF) {
			uint8_t have[64];

			len = sizeof(have);
			if (getsockopt(fd, s->level, name, have, &len) == 0 &&
			    len == s->value.len && memcmp(have, s->value.data, len) == 0)
				continue;
			if (setsockopt(fd, s->level, name, s->value.data, (socklen_t)s->value.len) <
			    0)
				return error_sys(err, errno, "setting option %d of a unix socket",
						 name);
			continue;
		}
		/* the kernel doubles what is set (socket(7)); FORCE goes beyond wmem_max */
		if (s->value.len != sizeof(v))
			return error_set(err, EBADMSG, "a socket option has a bad size");
		memcpy(&v, s->value.data, sizeof(v));
		if (getsockopt(fd, SOL_SOCKET, name, &now, &len) == 0 && now == v)
			continue;
		v /= 2;
		if (setsockopt(fd, SOL_SOCKET, name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE,
			       &v, sizeof(v)) < 0 &&
		    setsockopt(fd, SOL_SOCKET, name, &v, sizeof(v)) < 0)
			return error_sys(err, errno, "setting a buffer of a unix socket");
	}
	return 0;
}

int unix_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
		 struct error *err)
{
	CLEANUP_MSG Cko__Unix *m = obj_unpack(&cko__unix__descriptor, body, len, err);
	CLEANUP_CLOSE int made = -1;
	bool listens = false;
	struct end *e;
	int n;

	if (!m)
		return -EBADMSG;
	if (m->type != SOCK_STREAM && m->type != SOCK_DGRAM && m->type != SOCK_SEQPACKET)
		return error_set(err, EBADMSG, "unix socket of unknown type %u", m->type);
	e = end_find(id);
	if (e && e->fd >= 0)
		made = TAKE_FD(e->fd);
	else if (m->type != SOCK_DGRAM
			 ? (m->peer || m->orphan)
			 : (m->peer && m->mutual && !m->peer_name.len && !m->name.len))
		n = make_connection(r, id, m, &made, err);
	else
		n = make_one(r, m->type, &made, err);
	if (made < 0)
		return n;
	e = end_find(id);
	if (!m->listener && !(e && e->named)) {
		n = bind_name(r, made, m, err);
		if (n < 0)
			return n;
	}
	n = options_set(made, m, err);
	if (n < 0)
		return n;
	if (m->state == TCP_LISTEN && m->listen_cred) {
		struct unix_who who = unix_peer_of(m);

		listens = unix_listen_as(r, made, (int)m->backlog, &who) == 0;
	}
	if (m->state == TCP_LISTEN && !listens && listen(made, (int)m->backlog) < 0)
		return error_sys(err, errno, "listening on a unix socket");
	if (fcntl(made, F_SETFL, (int)m->flags & O_NONBLOCK) < 0)
		return error_sys(err, errno, "setting the flags of a unix socket");
	e = end_add(id);
	e->peer = m->peer;
	e->shutdown = m->shutdown;
	e->listening = m->state == TCP_LISTEN && !listens;
	e->backlog = m->backlog;
	e->at = made;
	*fd = TAKE_FD(made);
	return 0;
}

/* --- late --------------------------------------------------------------------------- */
/* One queued message, written by `from`; `to`: where an unconnected sender sends it. */
static int send_message(struct restore *r, int from, const Cko__UnixMessage *msg,
			const struct sockaddr_un *to, socklen_t to_len, struct error *err)
{
	CLEANUP_FREE char *control =
		mem_zalloc(CMSG_SPACE(253 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred)));
	struct iovec iov = { msg->data.data, msg->data.len };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control };
	struct cmsghdr *c = (struct cmsghdr *)control;
	ssize_t n;

	h.msg_name = (void *)(uintptr_t)to;
	h.msg_namelen = to ? to_len : 0;
	if (msg->n_fds > 253)
		return error_set(err, EBADMSG, "too many descriptors in flight");
	if (msg->n_fds) {
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(msg->n_fds * sizeof(int));
		for (size_t i = 0; i < msg->n_fds; i++) {
			int fd = restore_fd(r, msg->fds[i], err);

			if (fd < 0)
				return error_wrap(err, "a descriptor in flight");
			memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
		}
		h.msg_controllen += CMSG_SPACE(msg->n_fds * sizeof(int));
		c = (struct cmsghdr *)(control + h.msg_controllen);
	}
	if (msg->creds) {
		struct task *t = restore_task(r, msg->vpid);
		struct ucred u = { .uid = msg->uid, .gid = msg->gid };

		u.pid = t ? task_pid(t) : getpid();
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_CREDENTIALS;
		c->cmsg_len = CMSG_LEN(sizeof(u));
		memcpy(CMSG_DATA(c), &u, sizeof(u));
		h.msg_controllen += CMSG_SPACE(sizeof(u));
	}
	if (!h.msg_controllen)
		h.msg_control = NULL;
	do
		n = sendmsg(from, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)msg->data.len)
		return error_sys(err, n < 0 ? errno : EMSGSIZE, "filling a unix socket");
	return 0;
}

/* In the container's mount namespace: a path must be found. */
struct sender {
	struct restore *r;
	int from;
	const Cko__UnixMessage *msg;
	const struct sockaddr_un *to;
	socklen_t to_len;
	struct error *err;
};

static int act_send(void *arg)
{
	struct sender *s = arg;

	return send_message(s->r, s->from, s->msg, s->to, s->to_len, s->err);
}

/* A datagram from someone other than the peer. */
static int send_datagram(struct restore *r, const Cko__Unix *m, const Cko__UnixMessage *msg,
			 struct error *err)
{
	struct sender s = { .r = r, .msg = msg, .err = err };
	CLEANUP_CLOSE int temp = -1;
	struct sockaddr_un un;
	int n;

	for (size_t i = 0; i < msg->n_fds; i++)
		if (restore_fd(r, msg->fds[i], err) < 0)
			return error_wrap(err, "a descriptor in flight");
	if (!m->name.len || (is_path(&m->name) && !m->bound_path))
		return error_set(err, ENOTSUP, "a datagram waits in a socket without an address");
	n = name_address(&m->name, &un, &s.to_len, err);
	if (n < 0)
		return n;
	s.to = &un;
	if (msg->sender) {
		s.from = restore_fd(r, msg->sender, err);
		if (s.from < 0)
			return s.from;
	} else {
		n = make_one(r, SOCK_DGRAM, &temp, err);
		if (n == 0 && msg->name.len)
			n = bind_away(temp, &msg->name, err);
		if (n < 0)
			return n;
		s.from = temp;
	}
	return restore_in_mntns(r, act_send, &s, err);
}

/* Everything that was in the receive queue. */
static int fill(struct restore *r, uint32_t id, const Cko__Unix *m, struct error *err)
{
	struct end *e = end_find(id);
	int from = -1, saved = 0, big = 4 << 20, n = 0;
	socklen_t len = sizeof(saved);

	if (!m->n_queue)
		return 0;
	if (m->peer) {
		from = restore_fd(r, m->peer, err);
		if (from < 0)
			return from;
	} else if (e && e->ghost >= 0) {
		from = e->ghost;
	}
	if (from >= 0) {
		getsockopt(from, SOL_SOCKET, SO_SNDBUF, &saved, &len);
		setsockopt(from, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
	}
	for (size_t i = 0; i < m->n_queue && n == 0; i++) {
		const Cko__UnixMessage *msg = m->queue[i];
		bool peers = from >= 0 && (m->type != SOCK_DGRAM || msg->sender == m->peer ||
					   (!msg->sender && !msg->name.len && m->mutual));

		n = peers ? send_message(r, from, msg, NULL, 0, err)
			  : send_datagram(r, m, msg, err);
	}
	if (from >= 0) {
		saved /= 2;
		setsockopt(from, SOL_SOCKET, SO_SNDBUFFORCE, &saved, sizeof(saved));
	}
	return n;
}

/* Shutdown says "no more": only when both ends have what was sent before. */
static int shut(struct end *e, struct error *err)
{
	int how = e->shutdown == 3 ? SHUT_RDWR : e->shutdown == 2 ? SHUT_WR : SHUT_RD;

	if (e->ghost >= 0) {
		close(TAKE_FD(e->ghost));
		return 0;
	}
	if (e->done || !e->shutdown || e->at < 0)
		return 0;
	e->done = true;
	if (shutdown(e->at, how) < 0 && errno != ENOTCONN)
		return error_sys(err, errno, "shutting a unix socket down");
	return 0;
}

/* A client that waits to be accepted connects itself: the server sees who it is. */
static bool connect_by_holder(struct restore *r, uint32_t id, const Cko__Unix *m,
			      const struct sockaddr_un *un, socklen_t len)
{
	struct unix_who who = unix_own_of(m);
	unsigned long at;
	struct task *t;
	int num;

	if ((m->dir && *m->dir) || !who.vpid || !restore_holder(r, id, 0, &t, &num) ||
	    task_vpid(t) != who.vpid || !(at = remote_scratch(t)) ||
	    remote_write(t, at, un, sizeof(*un)) < 0)
		return false;
	return unix_act_as(t, &who, SYS_connect, (unsigned long)num, at, len, 0) == 0;
}

int unix_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
	      struct error *err)
{
	CLEANUP_MSG Cko__Unix *m = obj_unpack(&cko__unix__descriptor, body, len, err);
	struct end *e, *peer;
	int n = 0;

	if (!m)
		return -EBADMSG;
	unix_doors_close();
	if (m->pending) {
		/* the listener's message is not at hand, but getsockname(2) is */
		struct sockaddr_un un = { 0 };
		socklen_t ulen = sizeof(un);
		int l = restore_fd(r, m->pending, err);
		ProtobufCBinaryData name;

		if (l < 0)
			return l;
		if (getsockname(l, (struct sockaddr *)&un, &ulen) < 0)
			return error_sys(err, errno, "asking a listener's name");
		name.data = (uint8_t *)un.sun_path;
		name.len = ulen - offsetof(struct sockaddr_un, sun_path);
		if (name.len && un.sun_path[0])
			name.len = strnlen(un.sun_path, name.len);
		n = connect_by_holder(r, id, m, &un, ulen)
			    ? 0
			    : connect_name(r, fd, &name, m->dir, err);
		for (size_t i = 0; i < m->n_sent && n == 0; i++)
			n = send_message(r, fd, m->sent[i], NULL, 0, err);
	} else if (m->type == SOCK_DGRAM && m->peer && m->peer_name.len) {
		n = connect_name(r, fd, &m->peer_name, m->dir, err);
	}
	if (n == 0)
		n = fill(r, id, m, err);
	if (n == 0)
		n = obj_owner_late(r, id, m->owner, err);
	if (n < 0)
		return n;
	e = end_find(id);
	peer = end_find(m->peer);
	e->late = true;
	if (!m->peer)
		return shut(e, err);
	if (peer && peer->late && (n = shut(e, err)) == 0)
		n = shut(peer, err);
	return n;
}

int unix_finish(struct restore *r, uint32_t id, int fd, struct error *err)
{
	struct end *e = end_find(id);
	struct task *t;
	int num;

	(void)fd;
	(void)err;
	if (!e || !e->listening || !restore_holder(r, id, 0, &t, &num))
		return 0;
	/* only SO_PEERCRED depends on it: a failure is no reason to lose the container */
	remote_syscall(t, SYS_listen, (unsigned long)num, e->backlog, 0, 0, 0, 0);
	return 0;
}
