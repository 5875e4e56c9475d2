/* SPDX-License-Identifier: Apache-2.0 */
/* signalfd: nothing but a mask; the signals themselves are pending in the tasks. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

static bool signalfd_claims(const struct ofd *o)
{
	return strcmp(o->link, "anon_inode:[signalfd]") == 0;
}

static int signalfd_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Signalfd m = CKO__SIGNALFD__INIT;

	(void)d;
	m.flags = (uint32_t)o->flags;
	if (fdinfo_u64(o->fdinfo, "sigmask", 16, &m.mask) < 0)
		return error_set(err, ENOTSUP, "this kernel does not show a signalfd's mask");
	obj_pack(&m.base, body);
	return 0;
}

static int signalfd_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			    struct error *err)
{
	CLEANUP_MSG Cko__Signalfd *m = obj_unpack(&cko__signalfd__descriptor, body, len, err);
	uint64_t mask;

	(void)r;
	(void)id;
	if (!m)
		return -EBADMSG;
	mask = m->mask;
	/* SFD_* equal O_*; the raw call, because libc's takes its own sigset_t */
	*fd = (int)syscall(SYS_signalfd4, -1, &mask, sizeof(mask),
			   O_CLOEXEC | ((int)m->flags & O_NONBLOCK));
	return *fd < 0 ? error_sys(err, errno, "making a signalfd") : 0;
}

const struct object_type obj_signalfd = {
	.type = "signalfd",
	.claims = signalfd_claims,
	.dump = signalfd_dump,
	.restore = signalfd_restore,
};
