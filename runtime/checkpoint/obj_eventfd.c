/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eventfd: its count, from fdinfo. Semaphore mode shows there since Linux 6.5; on older
 * kernels it is found by a read through the duplicate while everybody is frozen, and put
 * back.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

static bool eventfd_claims(const struct ofd *o)
{
	return strcmp(o->link, "anon_inode:[eventfd]") == 0;
}

/* A count of at least 2: a read takes all of it, or 1 in semaphore mode. */
static int eventfd_probe(int fd, uint64_t count, bool *semaphore, struct error *err)
{
	int flags = fcntl(fd, F_GETFL), rc = 0;
	uint64_t two = 2, got = 0, put;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return error_sys(err, errno, "probing an eventfd");
	if (count < 2 && write(fd, &two, sizeof(two)) != sizeof(two))
		rc = error_sys(err, errno, "probing an eventfd");
	if (rc == 0 && read(fd, &got, sizeof(got)) != sizeof(got))
		rc = error_sys(err, errno, "probing an eventfd");
	*semaphore = got == 1;
	if (rc == 0 && count < 2 && *semaphore)
		while (read(fd, &put, sizeof(put)) == sizeof(put))
			;
	put = count < 2 ? count : got;
	if (rc == 0 && put && write(fd, &put, sizeof(put)) != sizeof(put))
		rc = error_sys(err, errno, "putting an eventfd's count back");
	fcntl(fd, F_SETFL, flags);
	return rc;
}

static int eventfd_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Eventfd m = CKO__EVENTFD__INIT;
	CLEANUP_FREE char *info = fdinfo_read(0, o->fd);
	uint64_t semaphore = 0;
	bool probed = false;
	int n;

	(void)d;
	m.flags = (uint32_t)o->flags;
	if (fdinfo_u64(info, "eventfd-count", 16, &m.count) < 0)
		return error_set(err, ENOTSUP, "this kernel does not show an eventfd's count");
	if (fdinfo_u64(info, "eventfd-semaphore", 10, &semaphore) < 0) {
		n = eventfd_probe(o->fd, m.count, &probed, err);
		if (n < 0)
			return n;
		semaphore = probed;
	}
	m.semaphore = semaphore != 0;
	obj_pack(&m.base, body);
	return 0;
}

static int eventfd_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			   struct error *err)
{
	CLEANUP_MSG Cko__Eventfd *m = obj_unpack(&cko__eventfd__descriptor, body, len, err);
	CLEANUP_CLOSE int made = -1;

	(void)r;
	(void)id;
	if (!m)
		return -EBADMSG;
	made = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (m->semaphore ? EFD_SEMAPHORE : 0));
	if (made < 0)
		return error_sys(err, errno, "making an eventfd");
	if (m->count && write(made, &m->count, sizeof(m->count)) != sizeof(m->count))
		return error_sys(err, errno, "setting an eventfd's count");
	if (fcntl(made, F_SETFL, (int)m->flags & O_NONBLOCK) < 0)
		return error_sys(err, errno, "setting an eventfd's flags");
	*fd = TAKE_FD(made);
	return 0;
}

const struct object_type obj_eventfd = {
	.type = "eventfd",
	.claims = eventfd_claims,
	.dump = eventfd_dump,
	.restore = eventfd_restore,
};
