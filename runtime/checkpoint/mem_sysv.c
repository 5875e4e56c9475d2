/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System V shared memory: segments as the container's ipc namespace lists them, attached
 * or not. Content travels like that of other shared memory (mem_shared.c).
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/mem_huge.h"

#define SHM_LOCKED_ 02000 /* linux/shm.h */
#define SHM_DEST_   01000

struct scan {
	struct dump *d;
	int failed; /* a segment that could not be opened */
};

/* A descriptor of a segment that nobody has attached: it is attached for that, an instant. */
static int open_segment(int id, size_t size)
{
	static const uint64_t pages[] = { PAGE, 2ul << 20, 1ul << 30 }; /* SHM_HUGETLB */
	void *p = shmat(id, NULL, SHM_RDONLY);
	int fd = -ENOENT;

	if (p == (void *)-1)
		return -errno;
	for (size_t i = 0; fd == -ENOENT && i < sizeof(pages) / sizeof(pages[0]); i++) {
		size_t len = (size + pages[i] - 1) / pages[i] * pages[i];
		CLEANUP_FREE char *path =
			str_format("/proc/self/map_files/%lx-%lx", (unsigned long)(uintptr_t)p,
				   (unsigned long)((uintptr_t)p + len));

		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	shmdt(p);
	return fd;
}

static void segment(struct scan *x, const char *line)
{
	/* key shmid perms size cpid lpid nattch uid gid cuid cgid … (proc(5)) */
	unsigned int mode, uid, gid, cuid, cgid;
	unsigned long size;
	struct shared *s = NULL;
	long key;
	int id;

	if (sscanf(line, "%ld %d %o %lu %*u %*u %*u %u %u %u %u", &key, &id, &mode, &size, &uid,
		   &gid, &cuid, &cgid) != 8)
		return;
	for (size_t i = 0; i < x->d->shared.n && !s; i++)
		if (x->d->shared.s[i]->kind == SHARED_SYSV && x->d->shared.s[i]->shmid == id)
			s = x->d->shared.s[i];
	if (!s) {
		CLEANUP_FREE char *name = str_format("/SYSV%08x (deleted)", (unsigned int)key);
		int fd = open_segment(id, size);

		/* Removed meanwhile: it is in the list no more. */
		if (fd < 0) {
			x->failed = fd == -EINVAL || fd == -EIDRM ? x->failed : fd;
			return;
		}
		s = dump_shared_add_own(x->d, fd, name);
		if (!s)
			return;
	}
	s->seen = true;
	s->segment_bytes = size;
	s->mode = mode & 0777;
	s->uid = uid;
	s->gid = gid;
	s->creator = cuid;
	s->creator_group = cgid;
	s->removed = mode & SHM_DEST_;
	s->locked = mode & SHM_LOCKED_;
}

static int list(void *arg)
{
	struct scan *x = arg;
	CLEANUP_FREE char *text = NULL;
	char *save = NULL;

	if (file_read("/proc/sysvipc/shm", 16 << 20, &text, NULL, NULL) < 0)
		return 0;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		segment(x, l);
	return 0;
}

int dump_sysv_scan(struct dump *d, struct error *err)
{
	struct scan x = { .d = d };
	int r = run_in_ns(d->init_pid, "ipc", list, &x, err);

	if (r < 0)
		return error_wrap(err, "listing System V segments");
	return x.failed < 0 && d->final
		       ? error_sys(err, -x.failed, "a System V segment that nobody has attached")
		       : 0;
}

/* --- destination, inside of the container's ipc namespace ------------------------------ */
/* Who has made it may do with it what its owner may; only this thread's are changed. */
static void act_as(uint32_t uid, uint32_t gid)
{
	if (gid)
		syscall(SYS_setresgid, -1, gid, -1);
	if (uid)
		syscall(SYS_setresuid, -1, uid, -1);
}

static void act_as_root(uint32_t uid, uint32_t gid)
{
	if (uid)
		syscall(SYS_setresuid, -1, 0, -1);
	if (gid)
		syscall(SYS_setresgid, -1, 0, -1);
}

/* Another user has no effective capabilities; huge pages want this one. */
static void may_lock(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct c[2];

	if (syscall(SYS_capget, &h, c) < 0)
		return;
	c[0].effective |= 1u << CAP_IPC_LOCK;
	syscall(SYS_capset, &h, c);
}

static int make(void *arg)
{
	struct shared *s = arg;
	struct shmid_ds ds;
	char num[16];
	int id, code, huge = 0;

	snprintf(num, sizeof(num), "%d", s->shmid);
	if (file_write_str("/proc/sys/kernel/shm_next_id", num, NULL) < 0)
		return -ENOSYS;
	if (s->huge_shift)
		huge = SHM_HUGETLB | (int)(s->huge_shift << 26);
	act_as(s->creator, s->creator_group);
	if (s->huge_shift && s->creator)
		may_lock();
	id = shmget(s->key, s->size, IPC_CREAT | IPC_EXCL | huge | (int)(s->mode & 0777));
	code = errno;
	act_as_root(s->creator, s->creator_group);
	if (id < 0)
		return -code;
	if (id != s->shmid) {
		shmctl(id, IPC_RMID, NULL);
		return -EEXIST;
	}
	if (shmctl(id, IPC_STAT, &ds) < 0)
		return -errno;
	ds.shm_perm.uid = s->uid;
	ds.shm_perm.gid = s->gid;
	ds.shm_perm.mode = (unsigned short)(s->mode & 0777);
	if (shmctl(id, IPC_SET, &ds) < 0)
		return -errno;
	s->map = shmat(id, NULL, 0);
	if (s->map == (void *)-1) {
		s->map = NULL;
		return -errno;
	}
	return 0;
}

int restore_sysv(struct restore *r, struct shared *s, struct error *err)
{
	int e = restore_in_ns(r, "ipc", make, s, err);

	if (e == -ENOMEM && s->huge_shift)
		return huge_lacks(ENOMEM, s->huge_shift, s->size + (1ull << s->huge_shift) - 1,
				  "a System V segment", err);
	return e < 0 ? error_sys(err, -e, "making SysV segment %d (key %#x)", s->shmid,
				 (unsigned)s->key)
		     : 0;
}

static int finish(void *arg)
{
	struct shared *s = arg;

	if (s->locked && shmctl(s->shmid, SHM_LOCK, NULL) < 0)
		return -errno;
	/* Everybody who has it attached does by now; with the last of them it goes. */
	return s->removed && shmctl(s->shmid, IPC_RMID, NULL) < 0 ? -errno : 0;
}

int restore_sysv_finish(struct restore *r, struct shared *s, struct error *err)
{
	int e = s->locked || s->removed ? restore_in_ns(r, "ipc", finish, s, err) : 0;

	return e < 0 ? error_sys(err, -e, "locking or removing SysV segment %d", s->shmid) : 0;
}
