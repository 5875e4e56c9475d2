/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: shared memory as objects. Whatever number of tasks map it, an object's pages
 * travel once.
 *
 * What was written is found by content: a 64-bit hash of every page sent is kept, and
 * each round (the last one above all, when everything stands still) every page that is
 * there is compared. No page table is trusted here, because four kinds of writes leave
 * no trace in those of the tasks that are left: a writer that has exited, exec'ed or
 * unmapped, a mapper that came in between, write(2) and fallocate(2), and direct I/O
 * that ends after the scan (DESIGN.md, section 4).
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_huge.h"
#include "runtime/checkpoint/postcopy.h"

struct shared *shareds_by_inode(const struct shareds *l, dev_t dev, ino_t ino)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->s[i]->dev == dev && l->s[i]->ino == ino)
			return l->s[i];
	return NULL;
}

struct shared *shareds_by_id(const struct shareds *l, uint32_t id)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->s[i]->id == id)
			return l->s[i];
	return NULL;
}

struct shared *shareds_add(struct shareds *l, uint32_t id)
{
	struct shared *s = mem_zalloc(sizeof(*s));

	s->id = id;
	s->fd = -1;
	l->s = mem_grow(l->s, l->n + 1, sizeof(*l->s));
	l->s[l->n++] = s;
	return s;
}

static bool on_shmem(int fd)
{
	struct statfs f;

	return fstatfs(fd, &f) == 0 && (f.f_type == TMPFS_MAGIC || f.f_type == RAMFS_MAGIC);
}

/* Nobody has written to it since it was sent. Memory shared through it shows no times. */
static bool is_settled(const struct shared *s)
{
	struct stat st;

	return s->kind == SHARED_DELETED && !s->writable && s->settled.tv_sec &&
	       fstat(s->fd, &st) == 0 && (uint64_t)st.st_size == s->size &&
	       st.st_mtim.tv_sec == s->settled.tv_sec && st.st_mtim.tv_nsec == s->settled.tv_nsec;
}

static void settle(struct shared *s, const struct stat *before)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	s->settled = (struct timespec){ 0 };
	/* Time stamps have the kernel's tick; one that is still going on tells nothing. */
	if (s->kind == SHARED_DELETED && before->st_mtim.tv_sec + 2 < now.tv_sec &&
	    !on_shmem(s->fd))
		s->settled = before->st_mtim;
}

/*
 * In the last round all tasks stand still in their ptrace stops before any of it begins,
 * so that the time at which a page is hashed no longer matters: a thread does it while the
 * engine reads maps, page tables and private memory. It only reads; who frees or remaps an
 * object waits for it.
 */
#define HASH_UNKNOWN 2ull

struct hash_job {
	int fd;
	bool sysv, huge;
	const uint8_t *map;
	uint64_t *now;
	size_t npages;
};

struct shared_hashing {
	pthread_t thread;
	struct hash_job *jobs;
	size_t n;
};

static void hash_pages(const struct hash_job *j, uint64_t page, uint64_t end)
{
	for (; page < end && page < j->npages; page++)
		j->now[page] = page_is_zero(j->map + page * PAGE, PAGE)
				       ? 0
				       : page_hash(j->map + page * PAGE);
}

static void hash_object(const struct hash_job *j)
{
	off_t size = (off_t)(j->npages * PAGE), at = 0;

	if (j->huge) {
		huge_hash_object(j->fd, j->now, j->npages);
		return;
	}
	if (j->sysv) {
		hash_pages(j, 0, j->npages);
		return;
	}
	/* Never a hole: reading one through the mapping would fill it. */
	while (at < size) {
		off_t data = lseek(j->fd, at, SEEK_DATA);
		off_t end = data < 0 ? -1 : lseek(j->fd, data, SEEK_HOLE);

		if (end <= data)
			return;
		hash_pages(j, (uint64_t)data / PAGE, ((uint64_t)end + PAGE - 1) / PAGE);
		at = end;
	}
}

static void *hash_thread(void *arg)
{
	struct shared_hashing *h = arg;

	for (size_t i = 0; i < h->n; i++)
		hash_object(&h->jobs[i]);
	return NULL;
}

static void hash_wait(struct shareds *l)
{
	if (!l->hashing)
		return;
	pthread_join(l->hashing->thread, NULL);
	free(l->hashing->jobs);
	free(l->hashing);
	l->hashing = NULL;
}

void dump_shared_hash_start(struct dump *d)
{
	struct shared_hashing *h = mem_zalloc(sizeof(*h));

	hash_wait(&d->shared);
	h->jobs = mem_zalloc((d->shared.n + 1) * sizeof(*h->jobs));
	for (size_t i = 0; i < d->shared.n; i++) {
		struct shared *s = d->shared.s[i];
		uint64_t len = s->huge_shift ? s->nhash * PAGE : s->map_len;
		struct stat st;

		free(s->now);
		s->now = NULL;
		s->nnow = 0;
		if (is_settled(s))
			continue;
		/* Cut short since the last round: pages past its end cannot be read. */
		if (!len || fstat(s->fd, &st) < 0 || (uint64_t)st.st_size + PAGE <= len)
			continue;
		s->nnow = len / PAGE;
		s->now = mem_grow(NULL, s->nnow, sizeof(*s->now));
		for (size_t k = 0; k < s->nnow; k++)
			s->now[k] = HASH_UNKNOWN;
		h->jobs[h->n++] = (struct hash_job){ s->fd,	    s->kind == SHARED_SYSV,
						     s->huge_shift, s->map,
						     s->now,	    s->nnow };
	}
	d->shared.hashing = h;
	if (pthread_create(&h->thread, NULL, hash_thread, h)) {
		free(h->jobs);
		free(h);
		d->shared.hashing = NULL;
	}
}

static void shared_free(struct shared *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->map)
		munmap(s->map, s->map_len);
	pageset_free(&s->at_once);
	pageset_free(&s->late);
	pageset_free(&s->filled);
	free(s->hash);
	free(s->now);
	free(s->name);
	free(s);
}

void shareds_free(struct shareds *l)
{
	hash_wait(l);
	for (size_t i = 0; i < l->n; i++)
		shared_free(l->s[i]);
	free(l->s);
	*l = (struct shareds){ 0 };
}

/* Adds what `fd` (taken over) stands on, found under the name `link`. */
static struct shared *add(struct dump *d, int fd, const char *link)
{
	struct stat st;
	struct shared *s;
	int seals;

	if (fstat(fd, &st) < 0) {
		close(fd);
		return NULL;
	}
	s = shareds_by_inode(&d->shared, st.st_dev, st.st_ino);
	if (s) {
		close(fd);
		s->seen = true;
		return s;
	}
	s = shareds_add(&d->shared, ++d->next_id);
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->fd = fd;
	s->mode = st.st_mode & 07777;
	s->uid = st.st_uid;
	s->gid = st.st_gid;
	s->seen = true;
	s->huge_shift = huge_shift_of(fd);
	s->name = str_dup(link);
	if (str_starts(link, "/memfd:")) {
		char *end = strstr(s->name, " (deleted)");

		s->kind = SHARED_MEMFD;
		if (end)
			*end = '\0';
		memmove(s->name, s->name + 7, strlen(s->name + 7) + 1);
		seals = fcntl(fd, F_GET_SEALS);
		s->seals = seals > 0 ? (uint32_t)seals : 0;
	} else if (str_starts(link, "/SYSV")) {
		s->kind = SHARED_SYSV;
		s->key = (int)strtoul(link + 5, NULL, 16);
		s->shmid = (int)st.st_ino;
	} else if (strcmp(link, "/dev/zero (deleted)") == 0 ||
		   (s->huge_shift && strcmp(link, "/anon_hugepage (deleted)") == 0)) {
		s->kind = SHARED_ANON;
	} else {
		s->kind = str_ends(link, " (deleted)") ? SHARED_DELETED : SHARED_FILE;
	}
	return s;
}

struct shared *dump_shared_add_own(struct dump *d, int fd, const char *link)
{
	return add(d, fd, link);
}

struct shared *dump_shared_add_fd(struct dump *d, int fd, const char *link)
{
	struct stat st;
	struct shared *s;
	char path[64];
	int own;

	if ((!on_shmem(fd) && !(str_starts(link, "/memfd:") && huge_shift_of(fd))) ||
	    fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	s = shareds_by_inode(&d->shared, st.st_dev, st.st_ino);
	if (s) {
		s->seen = true;
		return s;
	}
	/* Files with a name travel with their tree, unless somebody has them mapped. */
	if (st.st_nlink > 0 && !str_starts(link, "/memfd:"))
		return NULL;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_RDONLY | O_CLOEXEC);
	return own < 0 ? NULL : add(d, own, link);
}

/*
 * A file that was deleted and is still mapped (an upgraded package): its content travels as
 * that of a shared object, whether it is mapped shared or private.
 */
static bool is_deleted(int fd, const struct vma *v)
{
	struct stat st;

	return v->path && str_ends(v->path, " (deleted)") && fstat(fd, &st) == 0 &&
	       S_ISREG(st.st_mode) && st.st_nlink == 0;
}

static struct shared *add_vma(struct dump *d, struct task *t, const struct vma *v)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", t->pid,
		 (unsigned long long)v->start, (unsigned long long)v->end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (v->kind == VMA_FILE && !on_shmem(fd) && !is_deleted(fd, v)) {
		close(fd);
		return NULL;
	}
	return add(d, fd, v->path ? v->path : "");
}

int dump_shared_scan(struct dump *d, struct error *err)
{
	dev_t not_shmem[16];
	size_t nnot = 0, n = 0;
	int r;

	for (size_t i = 0; i < d->shared.n; i++)
		d->shared.s[i]->seen = d->shared.s[i]->writable = false;
	for (size_t i = 0; i < d->tasks.n; i++) {
		struct task *t = d->tasks.t[i];

		for (size_t j = 0; j < t->vmas.n; j++) {
			struct vma *v = &t->vmas.v[j];
			struct shared *s;
			bool known = false;

			bool deleted = v->path && str_ends(v->path, " (deleted)");

			if (v->kind != VMA_SHARED &&
			    !(v->kind == VMA_FILE && ((v->flags & MAP_SHARED) || deleted)))
				continue;
			for (size_t k = 0; k < nnot && v->kind == VMA_FILE && !deleted; k++)
				known |= not_shmem[k] == v->dev;
			if (known)
				continue;
			/* maps and stat agree on device and inode for shmem. */
			s = shareds_by_inode(&d->shared, v->dev, v->ino);
			if (!s)
				s = add_vma(d, t, v);
			if (!s && v->kind == VMA_FILE) {
				if (nnot < 16 && !deleted)
					not_shmem[nnot++] = v->dev;
				continue;
			}
			if (!s && d->final)
				return error_set(
					err, EACCES,
					"the shared memory at %#llx of process %d cannot be opened",
					(unsigned long long)v->start, t->vpid);
			if (!s)
				continue;
			s->seen = true;
			s->writable |= (v->flags & MAP_SHARED) != 0;
			v->kind = VMA_SHARED;
			v->shared_id = s->id;
		}
	}
	for (size_t i = 0; i < d->nofds; i++)
		if (!S_ISSOCK(d->ofds[i]->st.st_mode))
			dump_shared_add_fd(d, d->ofds[i]->fd, d->ofds[i]->link);
	r = dump_sysv_scan(d, err);
	if (r < 0)
		return r;
	/* What nobody maps any more is forgotten; what is left on the destination goes with
	 * the engine there. */
	for (size_t i = 0; i < d->shared.n; i++) {
		if (d->shared.s[i]->seen) {
			d->shared.s[n++] = d->shared.s[i];
			continue;
		}
		hash_wait(&d->shared);
		shared_free(d->shared.s[i]);
	}
	d->shared.n = n;
	return 0;
}

static int announce(struct dump *d, struct shared *s, struct error *err)
{
	Ck__Shared m = CK__SHARED__INIT;
	struct stat st;

	if (fstat(s->fd, &st) < 0)
		return error_sys(err, errno, "looking at shared memory %s", s->name);
	s->size = (uint64_t)st.st_size;
	m.id = s->id;
	m.kind = s->kind;
	/* The file behind a segment of huge pages is of whole ones. */
	m.size = s->kind == SHARED_SYSV && s->segment_bytes ? s->segment_bytes : s->size;
	m.name = s->name;
	m.has_mode = m.has_uid = m.has_gid = m.has_seals = m.has_key = m.has_shmid = 1;
	m.mode = s->mode;
	m.uid = s->uid;
	m.gid = s->gid;
	m.seals = s->seals;
	m.key = s->key;
	m.shmid = s->shmid;
	m.has_creator = m.has_creator_group = m.has_removed = m.has_locked = 1;
	m.creator = s->creator;
	m.creator_group = s->creator_group;
	m.removed = s->removed;
	m.locked = s->locked;
	m.has_huge_shift = 1;
	m.huge_shift = s->huge_shift;
	return stream_send_msg(d->s, FRAME_SHARED, &m.base, err);
}

static int send_run(struct dump *d, struct shared *s, uint64_t page, uint64_t n, uint16_t flags,
		    const void *data, struct error *err)
{
	struct page_run run = { SPACE_SHARED, s->id, page * PAGE, n };

	if (!flags) {
		d->page_bytes += n * PAGE;
		d->round_page_bytes += n * PAGE;
	}
	return stream_send(d->s, FRAME_PAGES, flags, &run, sizeof(run), data, data ? n * PAGE : 0,
			   err);
}

#define BATCH 256ul

/* Compares n pages with what the destination has, and sends those that differ. */
static int compare(struct dump *d, struct shared *s, uint64_t page, uint64_t n, const uint8_t *data,
		   struct error *err)
{
	uint64_t run = 0; /* pages that differ, up to i */
	bool run_zero = false, run_late = false;
	int r = 0;

	for (uint64_t i = 0; i <= n && r == 0; i++) {
		bool differs = false, zero = false, late = false;

		if (i < n) {
			uint64_t *have = &s->hash[page + i], h = HASH_UNKNOWN;

			if (d->final && page + i < s->nnow)
				h = s->now[page + i];
			if (h == HASH_UNKNOWN)
				h = page_is_zero(data + i * PAGE, PAGE)
					    ? 0
					    : page_hash(data + i * PAGE);
			zero = h == 0;
			differs = h != *have;
			*have = h;
			late = !zero && late_shared(d, s, page + i);
		}
		if (run && run_late && (!differs || !late)) {
			r = late_announce(d, SPACE_SHARED, s->id, (page + i - run) * PAGE, run,
					  err);
			run = 0;
		} else if (run && (!differs || zero != run_zero || late != run_late)) {
			r = send_run(d, s, page + i - run, run, run_zero ? FRAME_ZERO : 0,
				     run_zero ? NULL : data + (i - run) * PAGE, err);
			run = 0;
		}
		if (differs) {
			run++;
			run_zero = zero;
			run_late = late;
		}
	}
	return r;
}

/* A hole: what the destination has there goes away. */
static int hole(struct dump *d, struct shared *s, uint64_t page, uint64_t end, struct error *err)
{
	for (uint64_t i = page, j; i < end; i = j) {
		int r;

		j = i + 1;
		if (!s->hash[i])
			continue;
		while (j < end && s->hash[j])
			j++;
		memset(s->hash + i, 0, (j - i) * sizeof(*s->hash));
		r = send_run(d, s, i, j - i, FRAME_DROP, NULL, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int data_range(struct dump *d, struct shared *s, uint64_t page, uint64_t end,
		      struct error *err)
{
	for (; page < end; page += BATCH) {
		uint64_t n = end - page < BATCH ? end - page : BATCH;
		const uint8_t *data = d->page_buf;
		int r;

		if (d->final && s->huge_shift && page + n <= s->nnow &&
		    memcmp(s->now + page, s->hash + page, n * sizeof(*s->now)) == 0)
			continue;
		if (d->final && s->map && (page + n) * PAGE <= s->map_len) {
			/* Nobody runs who could cut the object short under the mapping. */
			data = s->map + page * PAGE;
		} else if (s->kind == SHARED_SYSV && !s->huge_shift) {
			/* No read(2) on System V segments; their size never changes. */
			data = s->map + page * PAGE;
		} else {
			ssize_t got = pread(s->fd, d->page_buf, n * PAGE, (off_t)(page * PAGE));

			if (got < 0)
				return error_sys(err, errno, "reading shared memory %s", s->name);
			memset(d->page_buf + got, 0, n * PAGE - (size_t)got);
			/* So that the last round finds the pages mapped already. */
			if (s->map && (page + n) * PAGE <= s->map_len)
				madvise(s->map + page * PAGE, n * PAGE, 22 /* POPULATE_READ */);
		}
		r = compare(d, s, page, n, data, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int send_object(struct dump *d, struct shared *s, struct error *err)
{
	uint64_t npages = (s->size + PAGE - 1) / PAGE;
	struct stat before;
	int r = 0;

	if (is_settled(s))
		return 0;
	if (fstat(s->fd, &before) < 0)
		return error_sys(err, errno, "looking at shared memory %s", s->name);
	if (npages > s->nhash) {
		s->hash = mem_grow(s->hash, npages, sizeof(*s->hash));
		memset(s->hash + s->nhash, 0, (npages - s->nhash) * sizeof(*s->hash));
		s->nhash = npages;
	} else if (npages < s->nhash) {
		s->nhash = npages;
	}
	/* Reading a hole of huge pages through a mapping would take one from the pool. */
	if (s->map_len != npages * PAGE && !s->huge_shift) {
		if (s->map)
			munmap(s->map, s->map_len);
		s->map = npages ? mmap(NULL, npages * PAGE, PROT_READ, MAP_SHARED, s->fd, 0) : NULL;
		s->map = s->map == MAP_FAILED ? NULL : s->map;
		s->map_len = s->map ? npages * PAGE : 0;
	}
	if (s->kind == SHARED_SYSV && !s->map && !s->huge_shift)
		return error_set(err, ENOMEM, "SysV segment %d cannot be mapped", s->shmid);
	for (uint64_t at = 0; at < npages * PAGE && r == 0;) {
		off_t data = lseek(s->fd, (off_t)at, SEEK_DATA);
		off_t end;

		if (data < 0 && errno != ENXIO) {
			/* No holes known (System V): all of it. */
			r = data_range(d, s, at / PAGE, npages, err);
			break;
		}
		if (data < 0) {
			r = hole(d, s, at / PAGE, npages, err);
			break;
		}
		r = hole(d, s, at / PAGE, (uint64_t)data / PAGE, err);
		end = lseek(s->fd, data, SEEK_HOLE);
		if (end < 0 || (uint64_t)end > npages * PAGE)
			end = (off_t)(npages * PAGE);
		if (end <= data)
			end = data + (off_t)PAGE;
		at = ((uint64_t)end + PAGE - 1) / PAGE * PAGE;
		at = at < npages * PAGE ? at : npages * PAGE;
		if (r == 0)
			r = data_range(d, s, (uint64_t)data / PAGE, at / PAGE, err);
	}
	settle(s, &before);
	return r;
}

int dump_shared_announce(struct dump *d, struct error *err)
{
	for (size_t i = 0; i < d->shared.n; i++) {
		int r = announce(d, d->shared.s[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

int dump_shared_memory(struct dump *d, struct error *err)
{
	hash_wait(&d->shared);
	for (size_t i = 0; i < d->shared.n; i++) {
		int r = send_object(d, d->shared.s[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

uint32_t dump_shared_id(struct dump *d, dev_t dev, ino_t ino)
{
	struct shared *s = shareds_by_inode(&d->shared, dev, ino);

	return s ? s->id : 0;
}
