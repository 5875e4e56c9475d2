/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty tracking by userfaultfd's asynchronous write protection and PAGEMAP_SCAN
 * (Linux 6.7, Documentation/admin-guide/mm/pagemap.rst). The descriptor is made inside
 * the task by a remote call, taken out, and used from here.
 *
 * Memory that is not registered (new, moved, forked, of a new program) is shown by the
 * scan as not WPALLOWED: all of it counts as written, and it is registered for the next
 * round. Registering comes before the scan that reads, so that nothing slips between.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/track.h"

/* Kernel 6.18's; Debian 12's headers are older than all of this. */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define SCAN_WPALLOWED	 (1 << 0)
#define SCAN_WRITTEN	 (1 << 1)
#define SCAN_FILE	 (1 << 2)
#define SCAN_PRESENT	 (1 << 3)
#define SCAN_SWAPPED	 (1 << 4)
#define SCAN_PFNZERO	 (1 << 5)
#define SCAN_GUARD	 (1 << 8)
#define SCAN_WP_MATCHING (1 << 0)

struct scan_region {
	uint64_t start, end, categories;
};
struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
		category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)

#define REGIONS 1024

static int scan_inverted(struct task *t, uint64_t start, uint64_t end, uint64_t flags,
			 uint64_t inverted, uint64_t mask, uint64_t anyof, track_fn *fn, void *ctx)
{
	/* What is not asked for is not looked up: with guards alone no page is touched. */
	uint64_t kinds =
		anyof == SCAN_GUARD ? 0 : SCAN_FILE | SCAN_PFNZERO | SCAN_WRITTEN | SCAN_WPALLOWED;
	static struct scan_region regions[REGIONS];

	while (start < end) {
		struct scan_arg a = {
			.size = sizeof(a),
			.flags = flags,
			.start = start,
			.end = end,
			.vec = (uint64_t)(uintptr_t)regions,
			.vec_len = REGIONS,
			.category_inverted = inverted,
			.category_mask = mask,
			.category_anyof_mask = anyof,
			.return_mask = kinds | (anyof & SCAN_GUARD),
		};
		int n = ioctl(t->pagemap_fd, SCAN_IOCTL, &a);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (int i = 0; i < n; i++) {
			uint64_t c = regions[i].categories;
			int what = c & SCAN_GUARD     ? PAGES_GUARD
				   : c & SCAN_PFNZERO ? PAGES_ZERO
				   : c & SCAN_FILE    ? PAGES_FILE
						      : PAGES_ANON;
			int r;

			/* Not write-protected also means: never watched. */
			what |= c & SCAN_WRITTEN ? PAGES_WRITTEN : 0;
			what |= c & SCAN_WPALLOWED ? 0 : PAGES_UNWATCHED | PAGES_WRITTEN;
			r = fn(ctx, regions[i].start, regions[i].end, what);
			if (r < 0)
				return r;
		}
		/*
		 * With room left for regions the walk has come to the end, whatever walk_end
		 * says: the kernel (6.7 to 6.18 at least) leaves it where its own buffer of 512
		 * regions was last full. To go on from there would scan the rest twice.
		 */
		if (n < REGIONS || a.walk_end <= start)
			break;
		start = a.walk_end;
	}
	return 0;
}

static int scan(struct task *t, uint64_t start, uint64_t end, uint64_t flags, uint64_t mask,
		uint64_t anyof, track_fn *fn, void *ctx)
{
	return scan_inverted(t, start, end, flags, 0, mask, anyof, fn, ctx);
}

int pages_scan_plain(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx)
{
	/* A kernel before 6.15 cannot show guard pages. */
	int r = scan(t, start, end, 0, 0, SCAN_PRESENT | SCAN_SWAPPED | SCAN_GUARD, fn, ctx);

	return r == -EINVAL ? scan(t, start, end, 0, 0, SCAN_PRESENT | SCAN_SWAPPED, fn, ctx) : r;
}

static int uffd_scan(struct task *t, uint64_t start, uint64_t end, bool again, track_fn *fn,
		     void *ctx)
{
	if (again)
		return scan(t, start, end, SCAN_WP_MATCHING, SCAN_WRITTEN,
			    SCAN_PRESENT | SCAN_SWAPPED, fn, ctx);
	return pages_scan_plain(t, start, end, fn, ctx);
}

/* The kernel passes by whole areas that are watched: no page of them is looked at. */
static int uffd_scan_unwatched(struct task *t, uint64_t start, uint64_t end, bool again,
			       track_fn *fn, void *ctx)
{
	(void)again;
	return scan_inverted(t, start, end, 0, SCAN_WPALLOWED, SCAN_WPALLOWED,
			     SCAN_PRESENT | SCAN_SWAPPED, fn, ctx);
}

int guards_scan(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx)
{
	int r = scan(t, start, end, 0, 0, SCAN_GUARD, fn, ctx);

	/* A kernel without this has no guard pages, or cannot show them (6.13, 6.14). */
	return r == -EINVAL || r == -ENOTTY ? 0 : r;
}

static bool uffd_available(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };
	struct scan_arg a = { .size = sizeof(a), .return_mask = SCAN_PRESENT };
	struct scan_region region;
	CLEANUP_CLOSE int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	CLEANUP_CLOSE int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	a.start = (uintptr_t)&a & ~(PAGE - 1);
	a.end = a.start + PAGE;
	a.vec = (uintptr_t)&region;
	a.vec_len = 1;
	a.category_anyof_mask = SCAN_PRESENT;
	return fd >= 0 && map >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 &&
	       ioctl(map, SCAN_IOCTL, &a) >= 0;
}

static int uffd_attach(struct task *t)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC };
	long num;
	int fd, code;

	/* User mode only: unprivileged tasks may have no other; asynchronous protection is
	 * lifted by the kernel itself for its own accesses too. */
	num = remote_syscall(t, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY, 0, 0,
			     0, 0, 0);
	if (num < 0)
		return (int)num;
	fd = (int)syscall(SYS_pidfd_getfd, t->pidfd, (int)num, 0);
	code = errno;
	remote_syscall(t, SYS_close, (unsigned long)num, 0, 0, 0, 0, 0);
	if (fd < 0)
		return -code;
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		close(fd);
		return -EOPNOTSUPP;
	}
	t->tracker = mem_zalloc(sizeof(*t->tracker));
	*t->tracker = (struct tracker){ &tracker_uffd, fd, NULL };
	return 0;
}

static int uffd_watch(struct task *t, uint64_t start, uint64_t end)
{
	struct uffdio_register reg = { .range = { start, end - start },
				       .mode = UFFDIO_REGISTER_MODE_WP };

	return ioctl(t->tracker->fd, UFFDIO_REGISTER, &reg) < 0 ? -errno : 0;
}

static void uffd_detach(struct task *t)
{
	close(t->tracker->fd); /* the kernel unregisters everything */
}

const struct tracker_ops tracker_uffd = {
	.name = "uffd",
	.available = uffd_available,
	.attach = uffd_attach,
	.watch = uffd_watch,
	.scan = uffd_scan,
	.scan_unwatched = uffd_scan_unwatched,
	.detach = uffd_detach,
};
