/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of all kinds arrives whole, whoever wrote it and whenever. */
#include <errno.h>
#include <pthread.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "tests/unit/checkpoint/harness.h"

#define MIB (1 << 20)

static char *map(size_t n, int flags)
{
	return mmap(NULL, n, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
}

/* --- private ---------------------------------------------------------------------------- */
/* Everything that a program may do to its memory between two rounds. */
static int changing(struct trial *t)
{
	char *keep = map(2 * MIB, MAP_PRIVATE), *drop = map(2 * MIB, MAP_PRIVATE);
	char *gone = map(MIB, MAP_PRIVATE), *move = map(MIB, MAP_PRIVATE), *moved;
	char *grown, *brk0 = sbrk(1 << 16);

	memset(keep, 1, 2 * MIB);
	memset(drop, 2, 2 * MIB);
	memset(gone, 3, MIB);
	memset(move, 4, MIB);
	memset(brk0, 5, 1 << 16);
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	keep[MIB] = 11;
	madvise(drop + MIB, MIB, MADV_DONTNEED);
	munmap(gone, MIB);
	moved = mremap(move, MIB, 2 * MIB, MREMAP_MAYMOVE);
	grown = map(MIB, MAP_PRIVATE);
	memset(grown, 6, MIB);
	trial_touch(t, "changed");
	trial_await(t);
	if (keep[MIB] != 11 || keep[0] != 1 || keep[2 * MIB - 1] != 1)
		return 1;
	if (drop[MIB - 1] != 2 || drop[MIB] != 0 || drop[2 * MIB - 1] != 0)
		return 2;
	for (int i = 0; i < MIB; i += 4096)
		if (moved[i] != 4 || moved[MIB + i] != 0 || grown[i] != 6)
			return 3;
	return brk0[0] == 5 && brk0[65535] == 5 && sbrk(0) == brk0 + 65536 ? 0 : 4;
}

static bool has_changed(struct trial *t)
{
	return trial_told(t, "changed");
}

/* One pre-copy, then the program does its thing, then the rest of the migration. */
static void change_between(int (*program)(struct trial *t),
			   int (*setup)(struct trial *t, bool stub))
{
	struct trial t = { .program = program, .setup = setup };
	int r, status = -1;

	if (TRIAL_SANITIZED) {
		skip();
		return;
	}
	trial_start(&t);
	trial_connect(&t);
	r = trial_precopy(&t);
	trial_touch(&t, "change");
	trial_sleep_until(has_changed, &t);
	t.no_precopy = true;
	if (r == 0)
		r = trial_migrate(&t);
	if (r == 0)
		status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

static void test_changes_between_rounds_are_not_lost(void **state)
{
	(void)state;
	change_between(changing, NULL);
}

/* --- NUMA policies ----------------------------------------------------------------------- */
/* MPOL_… of linux/mempolicy.h, which Debian 12 has in an older form. */
#define BIND	   2
#define INTERLEAVE 3
#define BY_ADDRESS 2

static int policy_of(const char *at, unsigned long nodes[16])
{
	int mode = -1;

	memset(nodes, 0, 128);
	return syscall(SYS_get_mempolicy, &mode, nodes, 1024, at, BY_ADDRESS) < 0 ? -1 : mode;
}

/* One area that has a policy before the first round, one that gets it between rounds. */
static int with_policies(struct trial *t)
{
	char *bound = map(2 * MIB, MAP_PRIVATE), *spread = map(MIB, MAP_PRIVATE);
	unsigned long nodes[16] = { 1 };

	if (syscall(SYS_mbind, bound, MIB, BIND, nodes, 1024, 0) < 0) {
		fprintf(stderr, "# no NUMA policies here: errno %d\n", errno);
		bound = NULL;
	} else {
		memset(bound, 1, 2 * MIB);
	}
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	syscall(SYS_mbind, spread, MIB, INTERLEAVE, nodes, 1024, 0);
	if (bound)
		syscall(SYS_mbind, bound, MIB / 2, 0, NULL, 0, 0);
	trial_touch(t, "changed");
	trial_await(t);
	if (!bound)
		return 0;
	if (policy_of(bound, nodes) != 0)
		return 1;
	if (policy_of(bound + MIB / 2, nodes) != BIND || nodes[0] != 1)
		return 2;
	if (policy_of(bound + MIB, nodes) != 0)
		return 3;
	return policy_of(spread, nodes) == INTERLEAVE && nodes[0] == 1 ? 0 : 4;
}

static void test_policies_of_areas_are_kept(void **state)
{
	(void)state;
	change_between(with_policies, NULL);
}

static int special(struct trial *t)
{
	char *guarded = map(16 * 4096, MAP_PRIVATE), *fork_not = map(4096, MAP_PRIVATE);
	char *locked = map(4096, MAP_PRIVATE);
	bool guards = madvise(guarded + 4096, 4096, 102 /* MADV_GUARD_INSTALL */) == 0;
	int status;
	pid_t pid;

	memset(guarded + 2 * 4096, 9, 4096);
	madvise(fork_not, 4096, MADV_DONTFORK);
	fork_not[0] = 1;
	mlock(locked, 4096);
	trial_ready(t);
	trial_await(t);
	pid = fork();
	if (pid == 0)
		_exit(guarded[4096] + 1); /* dies */
	waitpid(pid, &status, 0);
	if (guards && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV))
		return 1;
	pid = fork();
	if (pid == 0)
		_exit(fork_not[0] + 1); /* dies too */
	waitpid(pid, &status, 0);
	if (!WIFSIGNALED(status))
		return 2;
	return guarded[2 * 4096] == 9 ? 0 : 3;
}

static void test_guard_pages_and_advice_are_kept(void **state)
{
	struct trial t = { .program = special };

	(void)state;
	trial_run(&t, 0);
}

/* A child made during pre-copy from a parent that is built on the destination already
 * must not show its parent's pages where it has none. */
static int late_child(struct trial *t)
{
	char *p = map(4 * MIB, MAP_PRIVATE);
	int status;
	pid_t pid;

	memset(p, 7, 4 * MIB);
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	pid = fork();
	if (pid == 0) {
		madvise(p + MIB, MIB, MADV_DONTNEED);
		p[0] = 8;
		trial_touch(t, "changed");
		trial_await(t);
		_exit(p[0] == 8 && p[1] == 7 && p[MIB] == 0 && p[2 * MIB - 1] == 0 &&
				      p[2 * MIB] == 7
			      ? 0
			      : 1);
	}
	waitpid(pid, &status, 0);
	return p[0] == 7 && p[MIB] == 7 ? WEXITSTATUS(status) : 2;
}

static void test_child_born_in_precopy_has_its_own_memory(void **state)
{
	(void)state;
	change_between(late_child, NULL);
}

/* --- shared ------------------------------------------------------------------------------- */
static int own_tmpfs(struct trial *t, bool stub)
{
	(void)t;
	(void)stub;
	return mount("tmpfs", "/dev/shm", "tmpfs", 0, NULL) == 0 ? 0 : 77;
}

static int shared(struct trial *t)
{
	char *anon = map(4 * MIB, MAP_SHARED), *mem, *file, *sysv;
	int memfd = memfd_create("memory", 0), fd, id, status;
	pid_t pid;

	fd = open("/dev/shm/named", O_RDWR | O_CREAT, 0640);
	if (memfd < 0 || fd < 0 || ftruncate(memfd, MIB) || ftruncate(fd, MIB))
		return 1;
	mem = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	file = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	id = shmget(0x1234, MIB, IPC_CREAT | 0600);
	sysv = shmat(id, NULL, 0);
	if (sysv == (void *)-1)
		return 2;
	memset(anon, 1, 2 * MIB);
	memset(mem, 2, MIB / 2);
	memset(file, 3, MIB);
	memset(sysv, 4, MIB);
	pid = fork();
	if (pid == 0) {
		trial_await(t);
		if (anon[0] != 1 || anon[2 * MIB] != 0 || mem[0] != 2 || mem[MIB / 2] != 0)
			_exit(10);
		if (file[MIB - 1] != 3)
			_exit(11);
		if (sysv[MIB - 1] != 4)
			_exit(12);
		anon[5] = 50;
		mem[5] = 51;
		file[5] = 52;
		sysv[5] = 53;
		_exit(0);
	}
	trial_ready(t);
	trial_await(t);
	if (waitpid(pid, &status, 0) != pid || status)
		return WEXITSTATUS(status);
	/* One object still: what the child wrote we see, by every way. */
	if (anon[5] != 50 || mem[5] != 51 || file[5] != 52 || sysv[5] != 53)
		return 3;
	if (shmget(0x1234, 0, 0) != id)
		return 4;
	fd = open("/dev/shm/named", O_RDONLY);
	if (fd < 0 || pread(fd, anon, 6, 0) != 6 || anon[5] != 52)
		return 5;
	return 0;
}

static void test_shared_memory_is_one_object_again(void **state)
{
	struct trial t = { .program = shared, .setup = own_tmpfs };

	(void)state;
	trial_run(&t, 0);
}

/* --- files that were deleted while in use -------------------------------------------------- */
static void copy_file(const char *from, const char *to)
{
	char buf[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0755);
	ssize_t n;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, (size_t)n) != n)
			_exit(99);
	close(in);
	close(out);
}

static int deleted(struct trial *t)
{
	char *shell = str_format("%s/shell", t->dir), *lib = str_format("%s/lib", t->dir);
	char *mem = str_format("%s/mem", t->dir), link[4096] = "", *priv, *ro, *both, *other;
	struct stat st;
	int fd, keep, status;
	pid_t pid;

	copy_file("/bin/sh", shell);
	copy_file("/bin/sh", lib);
	copy_file("/bin/sh", mem);
	stat(lib, &st);
	fd = open(lib, O_RDONLY);
	ro = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	priv = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 4096);
	close(fd);
	keep = open(mem, O_RDWR);
	both = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, keep, 0);
	other = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, keep, 0);
	priv[1] = 'P';
	both[0] = 'S';
	pid = fork();
	if (pid == 0) {
		execl(shell, "shell", "-c", "trap 'exit 7' TERM; while :; do :; done", NULL);
		_exit(98);
	}
	for (;;) {
		char *exe = str_format("/proc/%d/exe", pid);
		ssize_t n = readlink(exe, link, sizeof(link) - 1);

		free(exe);
		if (n > 6 && strncmp(link + n - 6, "/shell", 6) == 0)
			break;
		usleep(1000);
	}
	usleep(50000);
	unlink(shell);
	unlink(lib);
	unlink(mem);
	/* What an upgrade puts in its place. */
	copy_file("/bin/cat", lib);
	trial_ready(t);
	trial_await(t);
	if (memcmp(ro, "\177ELF", 4) != 0 || priv[1] != 'P')
		return 1;
	fd = open("/bin/sh", O_RDONLY);
	for (off_t at = 4096; at < st.st_size; at += 4096) {
		char page[4096];
		ssize_t n = pread(fd, page, sizeof(page), at);

		if (n <= 0 || memcmp(ro + at, page, (size_t)n) != 0)
			return 2;
		if (at > 4096 && memcmp(priv + at - 4096, page, (size_t)n) != 0)
			return 3;
	}
	other[1] = 'T';
	if (pread(keep, link, 2, 0) != 2 || link[0] != 'S' || link[1] != 'T' || both[1] != 'T')
		return 4;
	kill(pid, SIGTERM);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
		return 5;
	free(shell);
	free(lib);
	free(mem);
	return 0;
}

static void test_deleted_programs_and_mapped_files_travel(void **state)
{
	struct trial t = { .program = deleted };

	(void)state;
	trial_run(&t, 0);
}

/* --- what a dirty bit does not see ----------------------------------------------------------- */
/* 1: the writer's page table is gone before anybody looks. */
static int writer_gone(struct trial *t)
{
	char *p = map(MIB, MAP_SHARED);
	int status;

	memset(p, 1, MIB);
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	if (fork() == 0) {
		p[MIB / 2] = 77;
		_exit(0);
	}
	wait(&status);
	trial_touch(t, "changed");
	trial_await(t);
	return p[MIB / 2] == 77 && p[0] == 1 ? 0 : 1;
}

static void test_write_of_a_writer_that_has_gone_is_not_lost(void **state)
{
	(void)state;
	change_between(writer_gone, NULL);
}

/* 2: a mapping that no tracker was told of. */
static int mapped_anew(struct trial *t)
{
	int fd = memfd_create("m", 0), status;
	char *p, *again;

	if (ftruncate(fd, MIB))
		return 2;
	p = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(p, 1, MIB);
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	again = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	again[MIB / 2] = 77;
	munmap(again, MIB);
	if (fork() == 0) {
		again = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		again[MIB / 4] = 78;
		munmap(again, MIB);
		_exit(0);
	}
	wait(&status);
	trial_touch(t, "changed");
	trial_await(t);
	return p[MIB / 2] == 77 && p[MIB / 4] == 78 ? 0 : 1;
}

static void test_write_through_a_new_mapping_is_not_lost(void **state)
{
	(void)state;
	change_between(mapped_anew, NULL);
}

/* 3: writes that pass no page table. */
static int by_call(struct trial *t)
{
	int fd = memfd_create("m", 0);
	char *p;

	if (ftruncate(fd, 2 * MIB))
		return 2;
	p = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(p, 1, 2 * MIB);
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	if (pwrite(fd, "written", 7, MIB / 2) != 7 ||
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, MIB, 8192) ||
	    ftruncate(fd, MIB + MIB / 2))
		return 3;
	trial_touch(t, "changed");
	trial_await(t);
	if (lseek(fd, 0, SEEK_END) != MIB + MIB / 2)
		return 4;
	return memcmp(p + MIB / 2, "written", 7) == 0 && p[MIB] == 0 && p[MIB + 8191] == 0 &&
			       p[MIB + 8192] == 1
		       ? 0
		       : 1;
}

static void test_write_by_system_call_is_not_lost(void **state)
{
	(void)state;
	change_between(by_call, NULL);
}

/* 4: a direct read in flight, whose pages are pinned: it lands after the scan. */
enum { DIRECT = 256 << 10 };
static char *direct_buf;
static volatile ssize_t direct_got = -1;

static void *direct_reader(void *arg)
{
	direct_got = pread(*(int *)arg, direct_buf, DIRECT, 0);
	return NULL;
}

static int direct(struct trial *t)
{
	char *path = str_format("%s/direct", t->dir);
	int fd = open(path, O_RDONLY | O_DIRECT);
	pthread_t th;

	direct_buf = map(DIRECT, MAP_PRIVATE);
	memset(direct_buf, 1, DIRECT);
	trial_ready(t);
	while (!trial_told(t, "change"))
		usleep(1000);
	pthread_create(&th, NULL, direct_reader, &fd);
	usleep(50000);
	trial_touch(t, "changed");
	trial_await(t);
	pthread_join(th, NULL);
	if (direct_got != DIRECT)
		return 2;
	for (int i = 0; i < DIRECT; i++)
		if (direct_buf[i] != 'x')
			return 1;
	return 0;
}

/* Slows reads of the disk under `path` down, for this process; false: not possible here. */
static bool slow_disk(const char *path, char *cg, size_t len, pid_t pid)
{
	char file[256], value[64];
	struct stat st;

	snprintf(cg, len, "/sys/fs/cgroup/blkio/fckpt-%d", getpid());
	if (stat(path, &st) < 0 || mkdir(cg, 0755) < 0)
		return false;
	snprintf(file, sizeof(file), "%s/blkio.throttle.read_bps_device", cg);
	snprintf(value, sizeof(value), "%u:%u 131072", major(st.st_dev), minor(st.st_dev));
	if (file_write_str(file, value, NULL) < 0)
		return false;
	snprintf(file, sizeof(file), "%s/cgroup.procs", cg);
	snprintf(value, sizeof(value), "%d", pid);
	return file_write_str(file, value, NULL) == 0;
}

static void test_direct_read_in_flight_is_not_lost(void **state)
{
	struct trial t = { .program = direct };
	char *content = test_malloc(DIRECT), *path, cg[64];
	int r = 0, status = -1;
	bool slow;

	(void)state;
	if (TRIAL_SANITIZED) {
		test_free(content);
		skip();
		return;
	}
	memset(content, 'x', DIRECT);
	trial_prepare(&t);
	path = str_format("%s/direct", t.dir);
	assert_int_equal(file_write_atomic(path, content, DIRECT, 0644, NULL), 0);
	test_free(content);
	trial_start(&t);
	slow = slow_disk(path, cg, sizeof(cg), t.a);
	free(path);
	if (slow) {
		trial_connect(&t);
		trial_touch(&t, "change");
		trial_sleep_until(has_changed, &t);
		r = trial_migrate(&t);
		if (r == 0)
			status = trial_finish(&t);
	}
	trial_clean(&t);
	for (int i = 0; i < 2000 && rmdir(cg) < 0 && errno == EBUSY; i++)
		usleep(1000);
	if (!slow) {
		print_message("# the disk cannot be slowed down here: no cgroup blkio\n");
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_between_rounds_are_not_lost),
		cmocka_unit_test(test_guard_pages_and_advice_are_kept),
		cmocka_unit_test(test_policies_of_areas_are_kept),
		cmocka_unit_test(test_child_born_in_precopy_has_its_own_memory),
		cmocka_unit_test(test_shared_memory_is_one_object_again),
		cmocka_unit_test(test_deleted_programs_and_mapped_files_travel),
		cmocka_unit_test(test_write_of_a_writer_that_has_gone_is_not_lost),
		cmocka_unit_test(test_write_through_a_new_mapping_is_not_lost),
		cmocka_unit_test(test_write_by_system_call_is_not_lost),
		cmocka_unit_test(test_direct_read_in_flight_is_not_lost),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
