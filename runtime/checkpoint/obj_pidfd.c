/* SPDX-License-Identifier: Apache-2.0 */
/* pidfd: of a process of the container. Of a thread, or of one that was reaped: refused. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

static bool pidfd_claims(const struct ofd *o)
{
	return strcmp(o->link, "anon_inode:[pidfd]") == 0 || str_starts(o->link, "pidfd:[");
}

static struct task *pidfd_task(struct dump *d, const struct ofd *o)
{
	uint64_t pid;

	if (fdinfo_u64(o->fdinfo, "Pid", 10, &pid) < 0 || pid == 0 || pid > INT32_MAX)
		return NULL;
	return dump_task_by_pid(d, (pid_t)pid);
}

static int pidfd_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	if (o->flags & PIDFD_THREAD)
		obj_obstacle(out, o, "pidfd", "it stands for a thread (PIDFD_THREAD)",
			     "let the program use a pidfd of the process");
	else if (!pidfd_task(d, o))
		obj_obstacle(out, o, "pidfd", "its process is gone, or outside of the container",
			     "close the descriptor");
	return 0;
}

static int pidfd_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Pidfd m = CKO__PIDFD__INIT;
	struct task *t = pidfd_task(d, o);

	if (!t || (o->flags & PIDFD_THREAD))
		return error_set(err, ENOTSUP, "the process of a pidfd is gone");
	m.flags = (uint32_t)o->flags;
	m.vpid = task_vpid(t);
	obj_pack(&m.base, body);
	return 0;
}

static int pidfd_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			 struct error *err)
{
	CLEANUP_MSG Cko__Pidfd *m = obj_unpack(&cko__pidfd__descriptor, body, len, err);
	struct task *t;

	(void)id;
	if (!m)
		return -EBADMSG;
	t = restore_task(r, m->vpid);
	if (!t)
		return error_set(err, ESRCH, "process %d of a pidfd is not there", m->vpid);
	/* PIDFD_NONBLOCK equals O_NONBLOCK */
	*fd = (int)syscall(SYS_pidfd_open, task_pid(t), (int)m->flags & O_NONBLOCK);
	return *fd < 0 ? error_sys(err, errno, "opening process %d", m->vpid) : 0;
}

const struct object_type obj_pidfd = {
	.type = "pidfd",
	.claims = pidfd_claims,
	.check = pidfd_check,
	.dump = pidfd_dump,
	.restore = pidfd_restore,
};
