/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pidfd: of a process or thread of the container, or of one that has ended and was reaped.
 * For the latter a process is started and ended at the destination, with the same status,
 * because the descriptor still tells it (PIDFD_GET_INFO, Linux 6.15).
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#define REAPED (-1) /* instead of a vpid */

/* struct pidfd_info as first published (Linux 6.13), 64 bytes. */
struct info {
	uint64_t mask, cgroup;
	uint32_t ids[11];
	int32_t exit_code;
};
#define INFO_EXIT (1u << 3)
#define GET_INFO  _IOWR(0xff, 11, struct info)

static bool pidfd_claims(const struct ofd *o)
{
	return strcmp(o->link, "anon_inode:[pidfd]") == 0 || str_starts(o->link, "pidfd:[");
}

/* The container's number of what it stands for; REAPED, or 0: not the container's. */
static pid_t pidfd_number(struct dump *d, const struct ofd *o)
{
	CLEANUP_FREE char *info = fdinfo_read(0, o->fd);
	const char *v = fdinfo_value(info, "Pid");
	long pid = v ? strtol(v, NULL, 10) : 0;
	struct task *t;

	if (pid == -1)
		return REAPED;
	if (pid <= 0)
		return 0;
	if (o->flags & PIDFD_THREAD)
		return dump_vtid(d, (pid_t)pid);
	t = dump_task_by_pid(d, (pid_t)pid);
	return t ? task_vpid(t) : 0;
}

static int pidfd_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	if (pidfd_number(d, o) == 0)
		obj_obstacle(out, o, "pidfd", "its process is outside of the container",
			     "close the descriptor");
	return 0;
}

static int pidfd_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Pidfd m = CKO__PIDFD__INIT;
	struct info info = { .mask = INFO_EXIT };

	m.flags = (uint32_t)o->flags;
	m.vpid = pidfd_number(d, o);
	if (m.vpid == 0)
		return error_set(err, ENOTSUP, "the process of a pidfd is not the container's");
	if (m.vpid == REAPED && ioctl(o->fd, GET_INFO, &info) == 0 && (info.mask & INFO_EXIT))
		m.status = info.exit_code;
	obj_pack(&m.base, body);
	return 0;
}

/* The process that comes and goes: ends when `go` does. */
static void __attribute__((noreturn)) transient(int go, int status)
{
	struct rlimit none = { 0, 0 };
	char byte;

	setrlimit(RLIMIT_CORE, &none);
	while (read(go, &byte, 1) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		kill(getpid(), WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}

/* Its parent, outside of the container: makes it inside, and keeps a pidfd until told. */
static void __attribute__((noreturn))
parent(pid_t init, int status, unsigned int flags, int answer, int until)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/ns/pid", init);
	int ns = open(path, O_RDONLY | O_CLOEXEC), go[2] = { -1, -1 }, fd = -1;
	char byte;
	pid_t pid;

	if (ns < 0 || setns(ns, CLONE_NEWPID) < 0 || pipe2(go, O_CLOEXEC) < 0)
		_exit(1);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		transient(go[0], status);
	}
	if (pid > 0)
		fd = (int)syscall(SYS_pidfd_open, pid, flags);
	if (fd < 0 || write(answer, &fd, sizeof(fd)) != sizeof(fd))
		_exit(1);
	while (read(until, &byte, 1) < 0 && errno == EINTR)
		;
	close(go[0]);
	close(go[1]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	_exit(0);
}

/* A descriptor of a process of the container that has come and gone. */
static int pidfd_of_reaped(pid_t init, int status, unsigned int flags, struct error *err)
{
	CLEANUP_CLOSE int helper_fd = -1;
	int answer[2], until[2], fd = -1, num = -1, n;
	pid_t helper;

	if (pipe2(answer, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe");
	if (pipe2(until, O_CLOEXEC) < 0) {
		close(answer[0]);
		close(answer[1]);
		return error_sys(err, errno, "making a pipe");
	}
	helper = fork();
	if (helper == 0) {
		close(until[1]);
		parent(init, status, flags, answer[1], until[0]);
	}
	close(answer[1]);
	close(until[0]);
	helper_fd = helper > 0 ? (int)syscall(SYS_pidfd_open, helper, 0) : -1;
	if (helper_fd >= 0 && read(answer[0], &num, sizeof(num)) == sizeof(num))
		fd = (int)syscall(SYS_pidfd_getfd, helper_fd, num, 0);
	n = errno;
	close(answer[0]);
	close(until[1]);
	while (helper > 0 && waitpid(helper, NULL, 0) < 0 && errno == EINTR)
		;
	return fd < 0 ? error_sys(err, n ? n : EIO, "making a pidfd of a process that has ended")
		      : fd;
}

static int pidfd_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			 struct error *err)
{
	CLEANUP_MSG Cko__Pidfd *m = obj_unpack(&cko__pidfd__descriptor, body, len, err);
	bool thread = m && (m->flags & PIDFD_THREAD);
	struct task *t;
	pid_t pid;

	(void)id;
	if (!m)
		return -EBADMSG;
	/* PIDFD_NONBLOCK equals O_NONBLOCK */
	m->flags &= O_NONBLOCK | PIDFD_THREAD;
	if (m->vpid == REAPED) {
		t = restore_task(r, 1);
		*fd = pidfd_of_reaped(t ? task_pid(t) : 0, m->status, m->flags & O_NONBLOCK, err);
		return *fd < 0 ? *fd : 0;
	}
	t = restore_task(r, m->vpid);
	pid = thread ? restore_tid(r, m->vpid) : t ? task_pid(t) : 0;
	if (!pid)
		return error_set(err, ESRCH, "%s %d of a pidfd is not there",
				 thread ? "thread" : "process", m->vpid);
	*fd = (int)syscall(SYS_pidfd_open, pid, m->flags);
	return *fd < 0 ? error_sys(err, errno, "opening process %d", m->vpid) : 0;
}

const struct object_type obj_pidfd = {
	.type = "pidfd",
	.claims = pidfd_claims,
	.check = pidfd_check,
	.dump = pidfd_dump,
	.restore = pidfd_restore,
};
