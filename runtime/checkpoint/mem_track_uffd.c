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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
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

struct question {
	uint64_t flags, inverted, mask, anyof, kinds;
};

/* Kernels before 6.15 cannot show guard pages, and refuse the question. */
static uint64_t guard_kind(void)
{
	static int answer; /* 0: not asked yet */
	struct scan_region region;
	struct scan_arg a = { .size = sizeof(a), .category_anyof_mask = SCAN_GUARD };
	CLEANUP_CLOSE int map = -1;

	if (!answer) {
		map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		a.start = (uintptr_t)&a & ~(PAGE - 1);
		a.end = a.start + PAGE;
		a.vec = (uintptr_t)&region;
		a.vec_len = 1;
		a.return_mask = SCAN_GUARD;
		answer = ioctl(map, SCAN_IOCTL, &a) >= 0 ? 1 : -1;
	}
	return answer > 0 ? SCAN_GUARD : 0;
}

static int what_is(uint64_t c)
{
	int what = c & SCAN_GUARD     ? PAGES_GUARD
		   : c & SCAN_PFNZERO ? PAGES_ZERO
		   : c & SCAN_FILE    ? PAGES_FILE
				      : PAGES_ANON;

	/* Not write-protected also means: never watched. */
	what |= c & SCAN_WRITTEN ? PAGES_WRITTEN : 0;
	what |= c & SCAN_WPALLOWED ? 0 : PAGES_UNWATCHED | PAGES_WRITTEN;
	return what | (c & SCAN_SWAPPED ? PAGES_SWAPPED : 0);
}

/*
 * One call, from a->start, which is moved on; the number of regions, or -errno. The walk goes
 * on behind the last of them and not at walk_end: the kernel (6.7 to 6.18 at least) leaves
 * that where its own buffer of 512 regions was last full, and part would be shown twice.
 */
static int regions_next(int pagemap_fd, struct scan_arg *a)
{
	const struct scan_region *v = (const struct scan_region *)(uintptr_t)a->vec;
	int n;

	do
		n = ioctl(pagemap_fd, SCAN_IOCTL, a);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	/* With room left for regions it has come to the end. */
	a->start = (uint64_t)n < a->vec_len ? a->end : v[n - 1].end;
	return n;
}

static int scan(struct task *t, uint64_t start, uint64_t end, const struct question *q,
		track_fn *fn, void *ctx)
{
	static struct scan_region regions[REGIONS];
	struct scan_arg a = {
		.size = sizeof(a),
		.flags = q->flags,
		.start = start,
		.end = end,
		.vec = (uint64_t)(uintptr_t)regions,
		.vec_len = REGIONS,
		.category_inverted = q->inverted,
		.category_mask = q->mask,
		.category_anyof_mask = q->anyof,
		.return_mask = q->kinds,
	};
	int r = 0;

	while (a.start < end && r == 0) {
		int n = regions_next(t->pagemap_fd, &a);

		r = n < 0 ? n : 0;
		for (int i = 0; i < n && r == 0; i++)
			r = fn(ctx, regions[i].start, regions[i].end,
			       what_is(regions[i].categories));
	}
	return r;
}

#define KINDS (SCAN_FILE | SCAN_PFNZERO | SCAN_WRITTEN | SCAN_WPALLOWED | SCAN_SWAPPED)
#define THERE (SCAN_PRESENT | SCAN_SWAPPED)

int pages_scan_plain(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx)
{
	struct question q = { .anyof = THERE | guard_kind(), .kinds = KINDS | guard_kind() };

	return scan(t, start, end, &q, fn, ctx);
}

static int uffd_scan(struct task *t, uint64_t start, uint64_t end, bool again, track_fn *fn,
		     void *ctx)
{
	struct question q = { .flags = SCAN_WP_MATCHING,
			      .mask = SCAN_WRITTEN,
			      .anyof = THERE,
			      .kinds = KINDS | guard_kind() };

	return again ? scan(t, start, end, &q, fn, ctx) : pages_scan_plain(t, start, end, fn, ctx);
}

/* The kernel passes by whole areas that are watched: no page of them is looked at. */
static int uffd_scan_unwatched(struct task *t, uint64_t start, uint64_t end, bool again,
			       track_fn *fn, void *ctx)
{
	struct question q = { .inverted = SCAN_WPALLOWED,
			      .mask = SCAN_WPALLOWED,
			      .anyof = THERE | guard_kind(),
			      .kinds = KINDS | guard_kind() };

	(void)again;
	return scan(t, start, end, &q, fn, ctx);
}

static int uffd_scan_watched(struct task *t, uint64_t start, uint64_t end, bool again, track_fn *fn,
			     void *ctx)
{
	struct question q = { .mask = SCAN_WPALLOWED,
			      .anyof = THERE | guard_kind(),
			      .kinds = KINDS | guard_kind() };

	(void)again;
	return scan(t, start, end, &q, fn, ctx);
}

/*
 * The one question for which the kernel has a short way: per entry of a page table it looks at
 * the mark of protection, and not at the page. Empty entries of watched areas count as
 * written (they have no mark), areas without page tables are passed by.
 */
static int uffd_find_written(int pagemap_fd, uint64_t start, uint64_t end, struct buf *out)
{
	struct scan_region regions[REGIONS / 4];
	struct scan_arg a = {
		.size = sizeof(a),
		.start = start,
		.end = end,
		.vec = (uint64_t)(uintptr_t)regions,
		.vec_len = REGIONS / 4,
		.category_mask = SCAN_WRITTEN,
		.return_mask = SCAN_WRITTEN,
	};

	while (a.start < end) {
		int n = regions_next(pagemap_fd, &a);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			buf_add(out, &regions[i], 2 * sizeof(uint64_t));
	}
	return 0;
}

/* Before 6.9 the short way looked for the mark of a present page in swap entries too, where
 * other bits are in its place. */
static bool uffd_finds_written(void)
{
	static int answer; /* 0: not asked yet */
	struct utsname u;
	int a = 0, b = 0;

	if (!answer) {
		uname(&u);
		answer = sscanf(u.release, "%d.%d", &a, &b) == 2 && (a > 6 || (a == 6 && b >= 9))
				 ? 1
				 : -1;
	}
	return answer > 0;
}

int guards_scan(struct task *t, uint64_t start, uint64_t end, track_fn *fn, void *ctx)
{
	/* What is not asked for is not looked up: no page is touched. */
	struct question q = { .anyof = guard_kind(), .kinds = guard_kind() };

	return guard_kind() ? scan(t, start, end, &q, fn, ctx) : 0;
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
	.scan_watched = uffd_scan_watched,
	.find_written = uffd_find_written,
	.finds_written = uffd_finds_written,
	.detach = uffd_detach,
};
