/* SPDX-License-Identifier: Apache-2.0 */
/* Packing, fdinfo, paths of the container, signal owners, inode attributes. */
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/obj_types.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

void obj_pack(const ProtobufCMessage *m, struct buf *body)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	CLEANUP_FREE uint8_t *p = mem_zalloc(n + 1);

	protobuf_c_message_pack(m, p);
	buf_add(body, p, n);
}

void *obj_unpack(const ProtobufCMessageDescriptor *desc, const void *body, size_t len,
		 struct error *err)
{
	ProtobufCMessage *m = check_unpack(desc, body, len);

	if (!m)
		error_set(err, EBADMSG, "a %s of the checkpoint is damaged", desc->short_name);
	return m;
}

void obj_message_free(void *m)
{
	protobuf_c_message_free_unpacked(*(ProtobufCMessage **)m, NULL);
}

const char *fdinfo_value(const char *fdinfo, const char *key)
{
	size_t n = strlen(key);

	for (const char *p = fdinfo; p && *p;) {
		if (strncmp(p, key, n) == 0 && p[n] == ':') {
			p += n + 1;
			return p + strspn(p, " \t");
		}
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	return NULL;
}

int fdinfo_u64(const char *fdinfo, const char *key, int base, uint64_t *out)
{
	const char *v = fdinfo_value(fdinfo, key);
	char *end;

	if (!v)
		return -ENOENT;
	errno = 0;
	*out = strtoull(v, &end, base);
	return end == v || errno ? -ENOENT : 0;
}

char *fdinfo_read(pid_t pid, int fd)
{
	CLEANUP_FREE char *path = pid ? str_format("/proc/%d/fdinfo/%d", pid, fd)
				      : str_format("/proc/self/fdinfo/%d", fd);
	char *text = NULL;

	if (file_read(path, 256 << 20, &text, NULL, NULL) < 0)
		return str_dup("");
	return text;
}

int obj_open_in_root(int root_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC),
				.mode = mode,
				.resolve = RESOLVE_IN_ROOT | resolve };
	int fd;

	while (*path == '/' && path[1] == '/')
		path++;
	/* EAGAIN: a rename elsewhere raced with the scoped walk (openat2(2)) */
	for (int tries = 0; tries < 100; tries++) {
		fd = (int)syscall(SYS_openat2, root_fd, *path ? path : "/", &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : fd;
}

int obj_reopen(int fd, int flags)
{
	char path[40];
	int n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = open(path, flags | O_CLOEXEC | O_NOCTTY);
	return n < 0 ? -errno : n;
}

int obj_own_tmpfs(struct error *err)
{
	CLEANUP_CLOSE int ctx = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (ctx < 0 || syscall(SYS_fsconfig, ctx, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_sys(err, errno, "making a tmpfs of the engine's own");
	fd = (int)syscall(SYS_fsmount, ctx, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? error_sys(err, errno, "mounting a tmpfs of the engine's own") : fd;
}

pid_t obj_vpid(const struct ofd *o)
{
	return o->task ? task_vpid(o->task) : 0;
}

void obj_obstacle(struct obstacles *out, const struct ofd *o, const char *object, const char *why,
		  const char *remedy)
{
	obstacle_add(out, obj_vpid(o), o->task ? o->num : -1, object, why, remedy);
}

static bool process_holds(pid_t pid, const char *link)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/fd", pid);
	CLEANUP_CLOSEDIR DIR *dir = opendir(path);
	size_t len = strlen(link);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		char to[64];
		ssize_t n = readlinkat(dirfd(dir), e->d_name, to, sizeof(to));

		if (n == (ssize_t)len && memcmp(to, link, len) == 0)
			return true;
	}
	return false;
}

bool obj_held_outside(struct dump *d, const char *link)
{
	CLEANUP_CLOSEDIR DIR *proc = opendir("/proc");
	struct dirent *e;

	while (proc && (e = readdir(proc))) {
		pid_t pid = atoi(e->d_name);

		if (pid > 0 && pid != getpid() && !dump_task_by_pid(d, pid) &&
		    process_holds(pid, link))
			return true;
	}
	return false;
}

/* --- signal owner -------------------------------------------------------------------- */
/* 0: none set; 1: *type and *vpid; -ESRCH: set to something that has no name there. */
static int owner_find(struct dump *d, const struct ofd *o, int *type, pid_t *vpid)
{
	struct f_owner_ex ex = { 0 };
	struct task *t;

	if (o->flags & O_PATH)
		return 0;
	if (fcntl(o->fd, F_GETOWN_EX, &ex) < 0 || ex.pid == 0)
		return 0;
	t = dump_task_by_pid(d, ex.pid);
	*type = ex.type;
	*vpid = ex.type == F_OWNER_TID	  ? dump_vtid(d, ex.pid)
		: ex.type == F_OWNER_PGRP ? dump_vpgid(d, ex.pid)
		: t			  ? task_vpid(t)
					  : 0;
	return *vpid > 0 ? 1 : -ESRCH;
}

void obj_owner_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	int type;
	pid_t vpid;

	if (owner_find(d, o, &type, &vpid) < 0)
		obj_obstacle(out, o, o->link,
			     "its signals (F_SETOWN) go to a process or group outside of the "
			     "container",
			     "let the program name a process with fcntl(F_SETOWN)");
}

int obj_owner_dump(struct dump *d, const struct ofd *o, Cko__Owner **out, struct error *err)
{
	int type = 0, n, sig;
	pid_t vpid = 0;

	*out = NULL;
	n = owner_find(d, o, &type, &vpid);
	if (n < 0)
		return error_set(err, ENOTSUP, "signals of %s go to a process that does not travel",
				 o->link);
	sig = o->flags & O_PATH ? 0 : fcntl(o->fd, F_GETSIG);
	if (n == 0 && sig <= 0 && !(o->flags & O_ASYNC))
		return 0;
	*out = mem_zalloc(sizeof(**out));
	cko__owner__init(*out);
	(*out)->type = type;
	(*out)->vpid = vpid;
	(*out)->signo = sig > 0 ? sig : 0;
	(*out)->async = (o->flags & O_ASYNC) != 0;
	return 0;
}

int obj_owner_late(struct restore *r, uint32_t id, const Cko__Owner *w, struct error *err)
{
	struct task *t;
	int num;
	long n;

	if (!w || !restore_holder(r, id, 0, &t, &num))
		return 0;
	if (w->signo) {
		n = remote_syscall(t, SYS_fcntl, (unsigned long)num, F_SETSIG,
				   (unsigned long)w->signo, 0, 0, 0);
		if (n < 0)
			return error_sys(err, (int)-n, "setting signal %d of descriptor %d",
					 w->signo, num);
	}
	if (w->vpid) {
		struct f_owner_ex ex = { .type = w->type, .pid = w->vpid };
		unsigned long at = remote_scratch(t);

		if (!at || remote_write(t, at, &ex, sizeof(ex)) < 0)
			return error_set(err, EFAULT, "no scratch memory in process %d",
					 task_vpid(t));
		n = remote_syscall(t, SYS_fcntl, (unsigned long)num, F_SETOWN_EX, at, 0, 0, 0);
		if (n < 0)
			return error_sys(err, (int)-n, "setting the signal owner of descriptor %d",
					 num);
	}
	if (w->async) {
		long fl = remote_syscall(t, SYS_fcntl, (unsigned long)num, F_GETFL, 0, 0, 0, 0);

		n = fl < 0 ? fl
			   : remote_syscall(t, SYS_fcntl, (unsigned long)num, F_SETFL,
					    (unsigned long)fl | O_ASYNC, 0, 0, 0);
		if (n < 0)
			return error_sys(err, (int)-n, "setting O_ASYNC on descriptor %d", num);
	}
	return 0;
}

/* --- inodes ---------------------------------------------------------------------------- */
static bool xattr_travels(const char *name)
{
	/* the overlay's own marks are made anew by the overlay at the destination */
	return !str_starts(name, "trusted.overlay.") && !str_starts(name, "user.overlay.");
}

static void xattrs_dump(int fd, Cko__Inode *i)
{
	char path[40], names[65536];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = listxattr(path, names, sizeof(names));
	for (char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
		CLEANUP_FREE char *value = NULL;
		Cko__Xattr *x;
		ssize_t len;

		if (!xattr_travels(p))
			continue;
		len = getxattr(path, p, NULL, 0);
		if (len < 0)
			continue;
		value = mem_zalloc((size_t)len + 1);
		len = getxattr(path, p, value, (size_t)len);
		if (len < 0)
			continue;
		x = mem_zalloc(sizeof(*x));
		cko__xattr__init(x);
		x->name = str_dup(p);
		x->value.data = (uint8_t *)TAKE_PTR(value);
		x->value.len = (size_t)len;
		i->xattrs = mem_grow(i->xattrs, i->n_xattrs + 1, sizeof(Cko__Xattr *));
		i->xattrs[i->n_xattrs++] = x;
	}
}

static int64_t ts_ns(const struct timespec *t)
{
	return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

Cko__Inode *obj_inode_dump(int fd, const struct stat *st, bool xattrs)
{
	Cko__Inode *i = mem_zalloc(sizeof(*i));

	cko__inode__init(i);
	i->mode = st->st_mode;
	i->uid = st->st_uid;
	i->gid = st->st_gid;
	i->size = (uint64_t)st->st_size;
	i->mtime_ns = ts_ns(&st->st_mtim);
	i->atime_ns = ts_ns(&st->st_atim);
	if (xattrs && fd >= 0)
		xattrs_dump(fd, i);
	return i;
}

void obj_inode_free(Cko__Inode *i)
{
	if (!i)
		return;
	for (size_t n = 0; n < i->n_xattrs; n++) {
		free(i->xattrs[n]->name);
		free(i->xattrs[n]->value.data);
		free(i->xattrs[n]);
	}
	free(i->xattrs);
	free(i);
}

static struct timespec ns_ts(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	if (t.tv_nsec < 0) {
		t.tv_nsec += 1000000000;
		t.tv_sec--;
	}
	return t;
}

int obj_inode_apply(int fd, const Cko__Inode *i, struct error *err)
{
	struct timespec times[2] = { ns_ts(i->atime_ns), ns_ts(i->mtime_ns) };
	bool link = S_ISLNK(i->mode);
	char path[40], old[65536];
	ssize_t n;

	/* through /proc/self/fd, so that O_PATH descriptors do as well; a symlink's own
	 * attributes need AT_EMPTY_PATH instead */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fchownat(fd, "", i->uid, i->gid, AT_EMPTY_PATH) < 0)
		return error_sys(err, errno, "setting owner %u:%u", i->uid, i->gid);
	/* after chown, which clears the set-id bits */
	if (!link && chmod(path, i->mode & 07777) < 0)
		return error_sys(err, errno, "setting mode %o", i->mode & 07777);
	n = link ? 0 : listxattr(path, old, sizeof(old));
	for (char *p = old; n > 0 && p < old + n; p += strlen(p) + 1) {
		bool keep = !xattr_travels(p);

		for (size_t k = 0; k < i->n_xattrs && !keep; k++)
			keep = strcmp(i->xattrs[k]->name, p) == 0;
		if (!keep)
			removexattr(path, p);
	}
	for (size_t k = 0; k < i->n_xattrs && !link; k++)
		if (setxattr(path, i->xattrs[k]->name, i->xattrs[k]->value.data,
			     i->xattrs[k]->value.len, 0) < 0)
			return error_sys(err, errno, "setting attribute %s", i->xattrs[k]->name);
	if (link ? utimensat(fd, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 &&
			    errno != EINVAL && errno != ENOENT
		 : utimensat(AT_FDCWD, path, times, 0) < 0)
		return error_sys(err, errno, "setting times");
	return 0;
}

bool obj_own_ipc(struct dump *d)
{
	struct task *init = dump_task(d, 1);
	CLEANUP_FREE char *path = str_format("/proc/%d/ns/ipc", init ? task_pid(init) : 0);
	struct stat a, b;

	return init && stat(path, &a) == 0 && stat("/proc/self/ns/ipc", &b) == 0 &&
	       (a.st_ino != b.st_ino || a.st_dev != b.st_dev);
}
