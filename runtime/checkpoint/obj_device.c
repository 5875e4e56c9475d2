/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Character devices without state of their own: null, zero, full, random, urandom. The
 * device number is the identity; at the destination the container's node of the same
 * path must bear the same number. Every other device is refused elsewhere.
 */
#include <errno.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

static bool device_is_safe(dev_t rdev)
{
	if (major(rdev) != 1) /* Documentation/admin-guide/devices.txt: memory devices */
		return false;
	switch (minor(rdev)) {
	case 3: /* null */
	case 5: /* zero */
	case 7: /* full */
	case 8: /* random */
	case 9: /* urandom */
		return true;
	default:
		return false;
	}
}

static bool device_claims(const struct ofd *o)
{
	return S_ISCHR(o->st.st_mode) && device_is_safe(o->st.st_rdev);
}

/* Path, or the usual one where the node was deleted or is the host's. */
static const char *device_path(const struct ofd *o)
{
	static const char *const usual[] = { [3] = "/dev/null",
					     [5] = "/dev/zero",
					     [7] = "/dev/full",
					     [8] = "/dev/random",
					     [9] = "/dev/urandom" };

	return usual[minor(o->st.st_rdev)];
}

static int device_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__File m = CKO__FILE__INIT;
	struct stat st;
	CLEANUP_CLOSE int node = obj_open_in_root(dump_root_fd(d), o->link, O_PATH, 0, 0);

	(void)err;
	m.path = (char *)device_path(o);
	if (node >= 0 && fstat(node, &st) == 0 && S_ISCHR(st.st_mode) &&
	    st.st_rdev == o->st.st_rdev)
		m.path = o->link;
	m.flags = (uint32_t)o->flags;
	m.format = S_IFCHR;
	m.rdev = o->st.st_rdev;
	obj_pack(&m.base, body);
	return 0;
}

static int device_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			  struct error *err)
{
	CLEANUP_MSG Cko__File *m = obj_unpack(&cko__file__descriptor, body, len, err);
	CLEANUP_CLOSE int made = -1;
	struct stat st;

	(void)id;
	if (!m)
		return -EBADMSG;
	if (!device_is_safe(m->rdev))
		return error_set(err, ENOTSUP, "device %s does not travel", m->path);
	made = obj_open_in_root(restore_root_fd(r), m->path,
				(int)(m->flags & OBJ_OPEN_FLAGS) | O_NOCTTY, 0, 0);
	if (made < 0)
		return error_sys(err, -made, "opening device %s in the container", m->path);
	if (fstat(made, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != m->rdev)
		return error_set(err, EBUSY, "%s is another device here", m->path);
	*fd = TAKE_FD(made);
	return 0;
}

const struct object_type obj_device = {
	.type = "device",
	.claims = device_claims,
	.dump = device_dump,
	.restore = device_restore,
};
