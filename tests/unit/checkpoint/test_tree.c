/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tree sync: an overlay's upper layer, changed between passes, must look the same through
 * another overlay with the same lower layer. The two mounted roots are compared entry by
 * entry. Needs root; everything happens in a mount namespace of its own, on a tmpfs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/checkpoint/objects.pb-c.h"
#include "runtime/checkpoint/tree.h"

static char base[64];
static const char *attribute = "user.x";

static char *at(const char *fmt, ...)
{
	static char paths[16][512];
	static int next;
	char *p = paths[next++ % 16];
	int n = snprintf(p, 512, "%s/", base);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p + n, (size_t)(512 - n), fmt, ap);
	va_end(ap);
	return p;
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void make(const char *path)
{
	if (mkdir(path, 0755) < 0)
		fail_msg("mkdir %s: %s", path, strerror(errno));
}

static int setup(void **state)
{
	(void)state;
	snprintf(base, sizeof(base), "/tmp/ferry-tree-XXXXXX");
	assert_non_null(mkdtemp(base));
	assert_int_equal(mount("t", base, "tmpfs", 0, NULL), 0);
	make(at("lower"));
	make(at("lower/etc"));
	put(at("lower/etc/passwd"), "root\n");
	put(at("lower/etc/gone"), "x");
	make(at("lower/opaque"));
	put(at("lower/opaque/old"), "old");
	make(at("lower/opaque/olddir"));
	make(at("lower/keep"));
	put(at("lower/keep/a"), "a");
	for (const char *side = "ab"; *side; side++) {
		CLEANUP_FREE char *o = NULL;

		make(at("upper-%c", *side));
		make(at("work-%c", *side));
		make(at("root-%c", *side));
		o = str_format("lowerdir=%s/lower,upperdir=%s/upper-%c,workdir=%s/work-%c", base,
			       base, *side, base, *side);
		assert_int_equal(mount("o", at("root-%c", *side), "overlay", 0, o), 0);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	umount2(at("root-a"), MNT_DETACH);
	umount2(at("root-b"), MNT_DETACH);
	umount2(base, MNT_DETACH);
	rmdir(base);
	return 0;
}

static int emit(void *ctx, const void *frame, size_t len, struct error *err)
{
	return tree_dest_apply(*(int *)ctx, frame, len, err);
}

static struct tree_pass pass(struct tree_source *ts, bool final)
{
	int root = open(at("root-b"), O_PATH | O_DIRECTORY);
	struct tree_pass p = { .final = final, .emit = emit, .ctx = &root };
	struct error err = { 0 };

	if (tree_source_pass(ts, &p, &err) < 0)
		fail_msg("%s", err.msg);
	close(root);
	return p;
}

/* Fails unless both folders look the same, recursively. */
static void same(const char *a, const char *b)
{
	DIR *d = opendir(a);
	struct dirent *e;
	size_t na = 0, nb = 0;

	if (!d)
		fail_msg("%s: %s", a, strerror(errno));
	while ((e = readdir(d))) {
		CLEANUP_FREE char *pa = str_format("%s/%s", a, e->d_name);
		CLEANUP_FREE char *pb = str_format("%s/%s", b, e->d_name);
		char va[200] = "", vb[200] = "";
		struct stat sa, sb;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		na++;
		assert_int_equal(lstat(pa, &sa), 0);
		if (lstat(pb, &sb) < 0)
			fail_msg("%s: %s", pb, strerror(errno));
		if (sa.st_mode != sb.st_mode || sa.st_uid != sb.st_uid || sa.st_gid != sb.st_gid)
			fail_msg("%s: mode %o %o, owner %u %u", pa, sa.st_mode, sb.st_mode,
				 sa.st_uid, sb.st_uid);
		if (!S_ISDIR(sa.st_mode) &&
		    (sa.st_nlink != sb.st_nlink || sa.st_size != sb.st_size))
			fail_msg("%s: links %zu %zu size %zu %zu", pa, (size_t)sa.st_nlink,
				 (size_t)sb.st_nlink, (size_t)sa.st_size, (size_t)sb.st_size);
		if (sa.st_mtim.tv_sec != sb.st_mtim.tv_sec ||
		    sa.st_mtim.tv_nsec != sb.st_mtim.tv_nsec)
			fail_msg("%s: another mtime", pa);
		lgetxattr(pa, attribute, va, sizeof(va) - 1);
		lgetxattr(pb, attribute, vb, sizeof(vb) - 1);
		assert_string_equal(va, vb);
		if (S_ISREG(sa.st_mode)) {
			CLEANUP_FREE char *ta = NULL;
			CLEANUP_FREE char *tb = NULL;
			size_t la, lb;

			assert_int_equal(file_read(pa, 1 << 30, &ta, &la, NULL), 0);
			assert_int_equal(file_read(pb, 1 << 30, &tb, &lb, NULL), 0);
			assert_int_equal(la, lb);
			if (memcmp(ta, tb, la) != 0)
				fail_msg("%s: another content", pa);
		} else if (S_ISLNK(sa.st_mode)) {
			assert_int_equal(readlink(pa, va, sizeof(va)),
					 readlink(pb, vb, sizeof(vb)));
			assert_string_equal(va, vb);
		} else if (S_ISDIR(sa.st_mode)) {
			same(pa, pb);
		} else {
			assert_int_equal(sa.st_rdev, sb.st_rdev);
		}
	}
	closedir(d);
	d = opendir(b);
	assert_non_null(d);
	while (readdir(d))
		nb++;
	closedir(d);
	if (na + 2 != nb)
		fail_msg("%s: %zu entries, %s: %zu", a, na, b, nb - 2);
}

static struct tree_source *source(void)
{
	struct error err = { 0 };
	struct tree_source *ts = tree_source_new(at("upper-a"), "/", &err);

	assert_non_null(ts);
	return ts;
}

static void test_all_kinds_of_entries_arrive(void **state)
{
	struct tree_source *ts = source();
	int fd;

	(void)state;
	make(at("root-a/dir"));
	put(at("root-a/dir/file"), "content");
	assert_int_equal(chmod(at("root-a/dir/file"), 04751), 0);
	assert_int_equal(chown(at("root-a/dir/file"), 12, 34), 0);
	assert_int_equal(chmod(at("root-a/dir/file"), 04751), 0);
	/* tmpfs has user attributes since Linux 6.6. */
	if (setxattr(at("root-a/dir/file"), attribute, "v", 1, 0) < 0 && errno == EOPNOTSUPP)
		attribute = "trusted.x";
	assert_int_equal(setxattr(at("root-a/dir/file"), attribute, "v", 1, 0), 0);
	assert_int_equal(symlink("/etc/passwd", at("root-a/link")), 0);
	assert_int_equal(link(at("root-a/dir/file"), at("root-a/dir/zz")), 0);
	assert_int_equal(link(at("root-a/dir/file"), at("root-a/aa")), 0);
	assert_int_equal(mkfifo(at("root-a/fifo"), 0640), 0);
	assert_int_equal(mknod(at("root-a/null"), S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(mknod(at("root-a/sock"), S_IFSOCK | 0755, 0), 0);
	assert_int_equal(unlink(at("root-a/etc/gone")), 0);
	put(at("root-a/etc/passwd"), "root\nuser\n");
	fd = open(at("root-a/sparse"), O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 300 << 20), 0);
	assert_int_equal(pwrite(fd, "end", 3, 299 << 20), 3);
	close(fd);
	pass(ts, true);
	same(at("root-a"), at("root-b"));
	{
		struct stat st;

		assert_int_equal(stat(at("root-b/sparse"), &st), 0);
		assert_true(st.st_blocks < 1024);
	}
	tree_source_free(ts);
}

static void test_opaque_folder_hides_the_image(void **state)
{
	struct tree_source *ts = source();

	(void)state;
	assert_int_equal(unlink(at("root-a/opaque/old")), 0);
	assert_int_equal(rmdir(at("root-a/opaque/olddir")), 0);
	assert_int_equal(rmdir(at("root-a/opaque")), 0);
	make(at("root-a/opaque"));
	put(at("root-a/opaque/new"), "new");
	pass(ts, true);
	same(at("root-a"), at("root-b"));
	tree_source_free(ts);
}

static void test_changes_between_passes_arrive(void **state)
{
	struct tree_source *ts = source();
	struct tree_pass p;

	(void)state;
	make(at("root-a/d"));
	make(at("root-a/d/e"));
	put(at("root-a/d/one"), "1");
	put(at("root-a/d/two"), "2");
	put(at("root-a/d/e/deep"), "deep");
	put(at("root-a/becomes-dir"), "f");
	make(at("root-a/becomes-file"));
	put(at("root-a/becomes-file/x"), "x");
	put(at("root-a/hard"), "hard");
	assert_int_equal(link(at("root-a/hard"), at("root-a/hard2")), 0);
	pass(ts, false);
	same(at("root-a"), at("root-b"));
	put(at("root-a/d/one"), "one");
	assert_int_equal(rename(at("root-a/d/two"), at("root-a/two")), 0);
	assert_int_equal(unlink(at("root-a/d/e/deep")), 0);
	assert_int_equal(rmdir(at("root-a/d/e")), 0);
	assert_int_equal(unlink(at("root-a/becomes-dir")), 0);
	make(at("root-a/becomes-dir"));
	put(at("root-a/becomes-dir/y"), "y");
	assert_int_equal(unlink(at("root-a/becomes-file/x")), 0);
	assert_int_equal(rmdir(at("root-a/becomes-file")), 0);
	put(at("root-a/becomes-file"), "now a file");
	assert_int_equal(unlink(at("root-a/hard")), 0);
	put(at("root-a/hard"), "another file");
	assert_int_equal(unlink(at("root-a/keep/a")), 0);
	pass(ts, false);
	same(at("root-a"), at("root-b"));
	p = pass(ts, true);
	assert_int_equal(p.bytes, 0);
	same(at("root-a"), at("root-b"));
	tree_source_free(ts);
}

static void test_only_changed_blocks_travel(void **state)
{
	struct tree_source *ts = source();
	CLEANUP_FREE char *big = mem_zalloc(8 << 20);
	struct tree_pass p;
	int fd = open(at("root-a/big"), O_RDWR | O_CREAT, 0600);

	(void)state;
	for (size_t i = 0; i < 8 << 20; i++)
		big[i] = (char)(i * 31 + (i >> 12) + 1);
	assert_int_equal(fd_write_all(fd, big, 8 << 20), 0);
	p = pass(ts, false);
	assert_true(p.bytes >= 8 << 20);
	assert_int_equal(pwrite(fd, "x", 1, 5 << 20), 1);
	assert_int_equal(pwrite(fd, "tail", 4, 8 << 20), 4);
	p = pass(ts, true);
	assert_true(p.bytes <= 3 * 65536);
	same(at("root-a"), at("root-b"));
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(ftruncate(fd, 200000), 0);
	pass(ts, true);
	same(at("root-a"), at("root-b"));
	close(fd);
	tree_source_free(ts);
}

static void test_store_through_a_mapping_is_not_missed(void **state)
{
	struct tree_source *ts = source();
	int fd = open(at("root-a/mapped"), O_RDWR | O_CREAT, 0600);
	char *p;

	(void)state;
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	strcpy(p + 70000, "first");
	pass(ts, false);
	usleep(100000); /* older than any clock tick */
	pass(ts, false);
	strcpy(p + 70000, "second"); /* tmpfs: leaves no time stamp */
	pass(ts, true);
	same(at("root-a"), at("root-b"));
	munmap(p, 1 << 20);
	close(fd);
	tree_source_free(ts);
}

static void test_mounts_of_the_destination_are_left_alone(void **state)
{
	struct tree_source *ts = source();

	(void)state;
	make(at("root-a/vol"));
	put(at("root-a/vol/hidden"), "hidden");
	put(at("root-a/hosts"), "");
	make(at("root-b/vol"));
	put(at("root-b/hosts"), "");
	assert_int_equal(mount("v", at("root-b/vol"), "tmpfs", 0, NULL), 0);
	put(at("root-b/vol/data"), "data");
	put(at("hosts"), "127.0.0.1");
	assert_int_equal(mount(at("hosts"), at("root-b/hosts"), NULL, MS_BIND, NULL), 0);
	pass(ts, true);
	assert_int_equal(access(at("root-b/vol/hidden"), F_OK), -1);
	assert_int_equal(access(at("root-b/vol/data"), F_OK), 0);
	{
		CLEANUP_FREE char *t = NULL;

		assert_int_equal(file_read(at("hosts"), 100, &t, NULL, NULL), 0);
		assert_string_equal(t, "127.0.0.1");
	}
	umount2(at("root-b/hosts"), MNT_DETACH);
	umount2(at("root-b/vol"), MNT_DETACH);
	tree_source_free(ts);
}

static int apply_one(Cko__TreeKind kind, const char *path, const char *target, struct error *err)
{
	Cko__TreeFrame f = CKO__TREE_FRAME__INIT;
	Cko__TreeEntry e = CKO__TREE_ENTRY__INIT, *list = &e;
	Cko__Inode i = CKO__INODE__INIT;
	CLEANUP_FREE uint8_t *packed = NULL;
	CLEANUP_CLOSE int root = open(at("root-b"), O_PATH | O_DIRECTORY);
	size_t n;

	i.mode = S_IFREG | 0644;
	e.kind = kind;
	e.path = (char *)path;
	e.target = (char *)target;
	e.inode = &i;
	f.dest = (char *)"/";
	f.entries = &list;
	f.n_entries = 1;
	n = cko__tree_frame__get_packed_size(&f);
	packed = mem_zalloc(n);
	cko__tree_frame__pack(&f, packed);
	return tree_dest_apply(root, packed, n, err);
}

static void test_frames_cannot_leave_the_root(void **state)
{
	struct error err = { 0 };

	(void)state;
	make(at("outside"));
	assert_int_equal(symlink("..", at("root-b/up")), 0);
	assert_int_equal(symlink(at("outside"), at("root-b/out")), 0);
	assert_true(apply_one(CKO__TREE_KIND__TREE_FILE, "../evil", "", &err) < 0);
	assert_true(apply_one(CKO__TREE_KIND__TREE_FILE, "/evil", "", &err) < 0);
	assert_true(apply_one(CKO__TREE_KIND__TREE_FILE, "up/evil", "", &err) < 0);
	assert_true(apply_one(CKO__TREE_KIND__TREE_FILE, "out/evil", "", &err) < 0);
	assert_true(apply_one(CKO__TREE_KIND__TREE_FILE, "etc//evil", "", &err) < 0);
	assert_true(apply_one(CKO__TREE_KIND__TREE_HARDLINK, "evil", "../lower/etc/passwd", &err) <
		    0);
	assert_int_equal(access(at("evil"), F_OK), -1);
	assert_int_equal(access(at("outside/evil"), F_OK), -1);
	/* a link in the way of a file is replaced, not followed */
	assert_int_equal(apply_one(CKO__TREE_KIND__TREE_FILE, "out", "", &err), 0);
	assert_int_equal(access(at("outside"), F_OK), 0);
	assert_true(tree_dest_apply(open(at("root-b"), O_PATH), "garbage", 7, &err) < 0);
}

static void test_read_only_root_is_no_error(void **state)
{
	struct tree_source *ts = source();

	(void)state;
	make(at("root-a/mountpoint"));
	put(at("root-a/placeholder"), "");
	make(at("root-b/mountpoint"));
	put(at("root-b/placeholder"), "");
	assert_int_equal(mount(NULL, at("root-b"), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL),
			 0);
	pass(ts, true);
	tree_source_free(ts);
}

static void test_metacopy_is_refused(void **state)
{
	struct tree_source *ts = source();
	int root = -1;
	struct tree_pass p = { .emit = emit, .ctx = &root };
	struct error err = { 0 };

	(void)state;
	put(at("upper-a/meta"), "");
	if (setxattr(at("upper-a/meta"), "trusted.overlay.metacopy", "", 0, 0) == 0) {
		assert_true(tree_source_pass(ts, &p, &err) < 0);
		assert_non_null(strstr(err.msg, "metacopy"));
	}
	tree_source_free(ts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_kinds_of_entries_arrive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_opaque_folder_hides_the_image, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_changes_between_passes_arrive, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_only_changed_blocks_travel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store_through_a_mapping_is_not_missed, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_mounts_of_the_destination_are_left_alone,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_frames_cannot_leave_the_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only_root_is_no_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_metacopy_is_refused, setup, teardown),
	};

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		perror("mount namespace");
		return 1;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
