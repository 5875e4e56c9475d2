/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: shared memory objects are made by the engine, which writes their pages;
 * tasks get descriptors of them, or attach (System V).
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_huge.h"

#define MFD_EXEC_ 0x10u

/* The file behind one of the engine's own mappings. */
static int map_file(const void *map, size_t len)
{
	char path[96];

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)map,
		 (unsigned long)((uintptr_t)map + len));
	return open(path, O_RDWR | O_CLOEXEC);
}

static int make_anon(struct shared *s, struct error *err)
{
	size_t len = (s->size + PAGE - 1) / PAGE * PAGE;
	int huge = s->huge_shift ? MAP_HUGETLB | (int)(s->huge_shift << 26) : 0;
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | huge, -1, 0);

	if (p == MAP_FAILED)
		return error_sys(err, errno, "making %zu bytes of shared memory", len);
	s->fd = map_file(p, len);
	munmap(p, len);
	return s->fd < 0 ? error_sys(err, errno, "opening shared memory") : 0;
}

static int make_memfd(struct shared *s, struct error *err)
{
	CLEANUP_FREE char *name = str_dup(s->name);
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

	if (s->huge_shift)
		flags |= MFD_HUGETLB | s->huge_shift << 26;
	/* A deleted file goes by the last part of its name. */
	if (s->kind == SHARED_DELETED && str_ends(name, " (deleted)"))
		name[strlen(name) - strlen(" (deleted)")] = '\0';
	if (s->kind == SHARED_DELETED && strrchr(name, '/'))
		memmove(name, strrchr(name, '/') + 1, strlen(strrchr(name, '/')));
	s->fd = memfd_create(name, flags | MFD_EXEC_);
	if (s->fd < 0 && errno == EINVAL) /* before Linux 6.3 all are */
		s->fd = memfd_create(name, flags);
	if (s->fd < 0)
		return error_sys(err, errno, "making memfd %s", s->name);
	fchmod(s->fd, s->mode);
	if (fchown(s->fd, s->uid, s->gid) < 0)
		return error_sys(err, errno, "giving memfd %s to its owner", s->name);
	return 0;
}

static int make_file(struct restore *r, struct shared *s, struct error *err)
{
	struct open_how how = { .flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
				.mode = s->mode & 07777,
				.resolve = RESOLVE_IN_ROOT };

	s->fd = (int)syscall(SYS_openat2, restore_root_fd(r), s->name, &how, sizeof(how));
	if (s->fd < 0)
		return error_sys(err, errno, "making shared memory file %s", s->name);
	fchmod(s->fd, s->mode);
	if (fchown(s->fd, s->uid, s->gid) < 0)
		return error_sys(err, errno, "giving %s to its owner", s->name);
	return 0;
}

int restore_shared(struct restore *r, const Ck__Shared *m, struct error *err)
{
	struct shared *s = shareds_by_id(&r->shared, m->id);
	int e = 0;

	if (!s) {
		s = shareds_add(&r->shared, m->id);
		s->kind = m->kind;
		s->size = m->size;
		s->name = str_dup(m->name ? m->name : "");
		s->mode = m->mode;
		s->uid = m->uid;
		s->gid = m->gid;
		s->key = m->key;
		s->shmid = m->shmid;
		s->creator = m->creator;
		s->creator_group = m->creator_group;
		s->huge_shift = m->huge_shift;
		switch (s->kind) {
		case SHARED_ANON:
			e = make_anon(s, err);
			break;
		case SHARED_MEMFD:
		case SHARED_DELETED:
			e = make_memfd(s, err);
			break;
		case SHARED_FILE:
			e = make_file(r, s, err);
			break;
		case SHARED_SYSV:
			e = restore_sysv(r, s, err);
			break;
		default:
			e = error_set(err, EBADMSG, "shared memory of unknown kind %u", s->kind);
		}
		if (e < 0)
			return e;
	}
	/* What is mapped with its size keeps it. */
	if ((s->kind == SHARED_SYSV || s->kind == SHARED_ANON) && s->size != m->size)
		return error_set(err, EBADMSG, "shared memory %u changed its size", m->id);
	if (s->fd < 0 && !s->map)
		return error_set(err, EBADMSG, "shared memory %u was not made", m->id);
	if (s->huge_shift && s->kind != SHARED_SYSV && s->size != m->size)
		huge_shared_unmap(s, m->size);
	s->seals = m->seals;
	s->removed = m->removed;
	s->locked = m->locked;
	s->size = m->size;
	if (s->kind != SHARED_SYSV && s->kind != SHARED_ANON &&
	    ftruncate(s->fd, (off_t)s->size) < 0)
		return error_sys(err, errno, "sizing shared memory %s", s->name);
	return 0;
}

int restore_shared_pages(struct restore *r, const struct page_run *run, uint16_t flags,
			 const void *data, struct error *err)
{
	struct shared *s = shareds_by_id(&r->shared, run->id);
	size_t len = run->npages * PAGE, unit = s && s->huge_shift ? 1ul << s->huge_shift : PAGE;
	uint64_t whole = s ? (s->size + unit - 1) / unit * unit : 0;

	if (!s || run->start > whole || len > whole - run->start)
		return error_set(err, EBADMSG, "pages outside of shared memory %u", run->id);
	/* Pages past a size that is no multiple of 4,096 read as zero, and stay so. */
	if (s->kind == SHARED_SYSV) {
		if (flags)
			memset(s->map + run->start, 0, len);
		else
			memcpy(s->map + run->start, data, len);
		return 0;
	}
	if (s->huge_shift)
		return huge_shared_pages(s, run, flags, data, err);
	if (flags) {
		if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)run->start,
			      (off_t)len) < 0)
			return error_sys(err, errno, "clearing shared memory %s", s->name);
		return 0;
	}
	if (run->start + len > s->size)
		len = s->size - run->start;
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(s->fd, (const char *)data + done, len - done,
				   (off_t)(run->start + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_sys(err, n < 0 ? errno : EIO, "writing shared memory %s",
					 s->name);
		done += (size_t)n;
	}
	return 0;
}

int restore_shared_fd(struct restore *r, uint32_t shared_id, int flags, struct error *err)
{
	struct shared *s = shareds_by_id(&r->shared, shared_id);
	char path[64];
	int fd;

	if (!s || s->fd < 0)
		return error_set(err, ENOENT, "shared memory %u is unknown", shared_id);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
	fd = open(path, (flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW)) | O_CLOEXEC);
	return fd < 0 ? error_sys(err, errno, "opening shared memory %s", s->name) : fd;
}

int restore_shared_finish(struct restore *r, struct error *err)
{
	for (size_t i = 0; i < r->shared.n; i++) {
		struct shared *s = r->shared.s[i];

		if (s->kind == SHARED_SYSV) {
			int e = restore_sysv_finish(r, s, err);

			if (e < 0)
				return e;
		}
		if (s->kind == SHARED_SYSV && s->map) {
			shmdt(s->map);
			s->map = NULL;
		} else if (s->huge_shift)
			huge_shared_unmap(s, s->size);
		if (s->kind == SHARED_MEMFD && s->seals &&
		    fcntl(s->fd, F_ADD_SEALS, (int)s->seals) < 0)
			return error_sys(err, errno, "sealing memfd %s", s->name);
		/* No program can be started from a file that somebody may write to. */
		if (s->kind == SHARED_DELETED) {
			int fd = restore_shared_fd(r, s->id, O_RDONLY, err);

			if (fd < 0)
				return fd;
			close(s->fd);
			s->fd = fd;
		}
	}
	return 0;
}
