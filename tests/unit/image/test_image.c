/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image store (runtime/image/image.h). Archives are built here with libarchive, in
 * memory; each test has a store of its own in a temporary folder.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/image/digest.h"
#include "runtime/image/image.h"
#include "runtime/image/ref.h"

struct fixture {
	char dir[64];
	char *root;
	struct image_store *s;
};

static int setup(void **state)
{
	struct fixture *f = mem_zalloc(sizeof(*f));
	struct error err = { 0 };

	strcpy(f->dir, "/tmp/ferry-image-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	f->root = str_format("%s/store", f->dir);
	*state = f;
	return image_store_open(f->root, &f->s, &err);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	image_store_close(f->s);
	dir_remove(f->dir, NULL);
	free(f->root);
	free(f);
	return 0;
}

/* --- building archives --------------------------------------------------------------- */

struct tar {
	struct archive *a;
	struct archive_entry *e;
	char *mem;
	size_t used;
};
enum packing { PLAIN, GZIP, ZSTD };
#define TAR_MAX (4u << 20)

static void tar_begin(struct tar *t, enum packing p)
{
	t->a = archive_write_new();
	t->mem = mem_zalloc(TAR_MAX);
	archive_write_set_format_pax(t->a);
	archive_write_set_options(t->a, "hdrcharset=BINARY");
	if (p == GZIP)
		archive_write_add_filter_gzip(t->a);
	else if (p == ZSTD)
		archive_write_add_filter_zstd(t->a);
	assert_int_equal(archive_write_open_memory(t->a, t->mem, TAR_MAX, &t->used), ARCHIVE_OK);
	t->e = archive_entry_new();
}

/* A fresh entry to adjust; tar_put() writes it. */
static struct archive_entry *tar_entry(struct tar *t, const char *path, mode_t type, mode_t perm)
{
	archive_entry_clear(t->e);
	archive_entry_set_pathname(t->e, path);
	archive_entry_set_filetype(t->e, type);
	archive_entry_set_perm(t->e, perm);
	archive_entry_set_mtime(t->e, 1600000000, 0);
	archive_entry_set_size(t->e, 0);
	return t->e;
}

static void tar_put(struct tar *t, const void *p, size_t n)
{
	archive_entry_set_size(t->e, (la_int64_t)n);
	assert_int_equal(archive_write_header(t->a, t->e), ARCHIVE_OK);
	if (n)
		assert_int_equal(archive_write_data(t->a, p, n), n);
}

static void tar_file(struct tar *t, const char *path, const void *p, size_t n)
{
	tar_entry(t, path, AE_IFREG, 0644);
	tar_put(t, p, n);
}

static void tar_text(struct tar *t, const char *path, const char *text)
{
	tar_file(t, path, text, strlen(text));
}

static void tar_dir(struct tar *t, const char *path)
{
	tar_entry(t, path, AE_IFDIR, 0755);
	tar_put(t, NULL, 0);
}

static void tar_link(struct tar *t, const char *path, const char *target, bool hard)
{
	struct archive_entry *e = tar_entry(t, path, hard ? AE_IFREG : AE_IFLNK, 0777);

	if (hard)
		archive_entry_set_hardlink(e, target);
	else
		archive_entry_set_symlink(e, target);
	tar_put(t, NULL, 0);
}

static void tar_end(struct tar *t)
{
	assert_int_equal(archive_write_close(t->a), ARCHIVE_OK);
	archive_write_free(t->a);
	archive_entry_free(t->e);
}

static void tar_free(struct tar *t)
{
	free(t->mem);
}

static char *digest_of(const void *p, size_t n)
{
	char hex[IMAGE_HEX_LEN + 1];

	image_hash_of(p, n, hex);
	return str_dup(hex);
}

/* A config over plain layers. */
static char *config_for(struct tar *layers, size_t n, const char *cmd)
{
	CLEANUP_BUF struct buf b = { 0 };

	buf_addf(&b,
		 "{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":"
		 "\"2026-01-02T03:04:05.5Z\",\"config\":{\"Cmd\":[\"%s\"],\"Env\":[\"A=b\"]},"
		 "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[",
		 cmd);
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *hex = digest_of(layers[i].mem, layers[i].used);

		buf_addf(&b, "%s\"sha256:%s\"", i ? "," : "", hex);
	}
	buf_addf(&b, "]},\"history\":[{\"created_by\":\"ENV A=b\",\"empty_layer\":true}");
	for (size_t i = 0; i < n; i++)
		buf_addf(&b, ",{\"created_by\":\"COPY %zu\"}", i);
	buf_addf(&b, "]}");
	return TAKE_PTR(b.data);
}

static int load_bytes(struct image_store *s, const void *p, size_t n, json_t **names,
		      struct error *err)
{
	CLEANUP_CLOSE int fd = memfd_create("archive", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, p, n), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return image_load(s, fd, names, err);
}

/* One docker-archive image of these (plain) layers. */
static void docker_archive(struct tar *t, enum packing p, struct tar *layers, size_t n,
			   const char *tag, const char *cmd)
{
	CLEANUP_FREE char *config = config_for(layers, n, cmd);
	CLEANUP_BUF struct buf m = { 0 };

	tar_begin(t, p);
	buf_addf(&m, "[{\"Config\":\"c.json\",\"RepoTags\":[%s%s%s],\"Layers\":[", tag ? "\"" : "",
		 tag ? tag : "", tag ? "\"" : "");
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *path = str_format("l%zu/layer.tar", i);

		tar_file(t, path, layers[i].mem, layers[i].used);
		buf_addf(&m, "%s\"%s\"", i ? "," : "", path);
	}
	buf_addf(&m, "]}]");
	tar_text(t, "c.json", config);
	tar_text(t, "manifest.json", m.data);
	tar_end(t);
}

static void simple_layer(struct tar *t, const char *name, const char *text)
{
	tar_begin(t, PLAIN);
	tar_text(t, name, text);
	tar_end(t);
}

static void load_simple(struct image_store *s, const char *tag, const char *text)
{
	struct tar layer, t;
	struct error err = { 0 };
	json_t *names;
	int r;

	simple_layer(&layer, "hello", text);
	docker_archive(&t, PLAIN, &layer, 1, tag, "sh");
	r = load_bytes(s, t.mem, t.used, &names, &err);
	if (r < 0)
		fail_msg("%s", err.msg);
	json_decref(names);
	tar_free(&layer);
	tar_free(&t);
}

static char *id_of(struct image_store *s, const char *ref)
{
	struct error err = { 0 };
	CLEANUP_JSON json_t *j = NULL;

	if (image_get(s, ref, &j, &err) < 0)
		fail_msg("%s", err.msg);
	return str_dup(json_str(j, "Id", NULL));
}

static int count(const char *root, const char *folder)
{
	CLEANUP_FREE char *path = str_format("%s/%s", root, folder);
	CLEANUP_CLOSEDIR DIR *d = opendir(path);
	const struct dirent *e;
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	return n;
}

static void assert_empty(struct fixture *f)
{
	assert_int_equal(count(f->root, "blobs/sha256"), 0);
	assert_int_equal(count(f->root, "layers"), 0);
	assert_int_equal(count(f->root, "tmp"), 0);
}

/* Loads one layer; where it works, *fs is its folder. */
static int load_layer(struct fixture *f, struct tar *layer, char **fs, struct error *err)
{
	struct tar t;
	json_t *names = NULL;
	char **dirs;
	size_t n;
	int r;

	docker_archive(&t, PLAIN, layer, 1, "x", "sh");
	r = load_bytes(f->s, t.mem, t.used, &names, err);
	json_decref(names);
	tar_free(&t);
	tar_free(layer);
	if (r < 0)
		return r;
	assert_int_equal(image_lower_dirs(f->s, "x", &dirs, &n, err), 0);
	assert_int_equal(n, 1);
	if (fs)
		*fs = str_dup(dirs[0]);
	image_dirs_free(dirs, n);
	return 0;
}

static struct stat stat_in(const char *fs, const char *name)
{
	CLEANUP_FREE char *path = str_format("%s/%s", fs, name);
	struct stat st;

	if (lstat(path, &st) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

/* --- formats -------------------------------------------------------------------------- */

static void test_docker_archive_loads_plain_and_compressed(void **state)
{
	struct fixture *f = *state;

	for (int p = PLAIN; p <= ZSTD; p++) {
		CLEANUP_JSON json_t *names = NULL, *j = NULL, *h = NULL;
		CLEANUP_FREE char *tag = str_format("redis:%d", p);
		CLEANUP_FREE char *cmd = str_format("cmd%d", p);
		struct error err = { 0 };
		struct tar layers[2], t;

		simple_layer(&layers[0], "a", "lower");
		simple_layer(&layers[1], "b", "upper!");
		docker_archive(&t, p, layers, 2, tag, cmd);
		if (load_bytes(f->s, t.mem, t.used, &names, &err) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(json_array_size(names), 1);
		assert_string_equal(json_string_value(json_array_get(names, 0)), tag);
		assert_int_equal(image_get(f->s, tag, &j, &err), 0);
		assert_string_equal(json_str(j, "Architecture", ""), "amd64");
		assert_string_equal(json_str(j, "Os", ""), "linux");
		assert_int_equal(json_int(j, "Size", 0), 11);
		assert_int_equal(json_array_size(json_at(j, "RootFS.Layers")), 2);
		assert_string_equal(json_string_value(json_array_get(json_at(j, "Config.Cmd"), 0)),
				    cmd);
		assert_int_equal(image_history(f->s, tag, &h, &err), 0);
		assert_int_equal(json_array_size(h), 3);
		assert_int_equal(json_int(json_array_get(h, 0), "Size", 0), 6);
		assert_int_equal(json_int(json_array_get(h, 2), "Size", -1), 0);
		assert_string_equal(json_str(json_array_get(h, 0), "Id", ""),
				    json_str(j, "Id", "?"));
		for (int i = 0; i < 2; i++)
			tar_free(&layers[i]);
		tar_free(&t);
	}
	/* three images, the same two layers */
	assert_int_equal(count(f->root, "layers"), 2);
}

static void test_several_images_and_legacy_links_load_from_one_archive(void **state)
{
	struct fixture *f = *state;
	CLEANUP_JSON json_t *names = NULL, *list = NULL;
	struct error err = { 0 };
	struct tar layer, t;
	CLEANUP_FREE char *one = NULL;
	CLEANUP_FREE char *two = NULL;

	simple_layer(&layer, "a", "x");
	one = config_for(&layer, 1, "one");
	two = config_for(&layer, 1, "two");
	tar_begin(&t, PLAIN);
	tar_text(&t, "manifest.json",
		 "[{\"Config\":\"1.json\",\"RepoTags\":[\"a:1\",\"b.io/c\"],\"Layers\":[\"l/"
		 "layer.tar\"]},"
		 "{\"Config\":\"2.json\",\"RepoTags\":null,\"Layers\":[\"m/layer.tar\"]}]");
	tar_text(&t, "1.json", one);
	tar_text(&t, "2.json", two);
	tar_dir(&t, "m/");
	tar_link(&t, "m/layer.tar", "../l/layer.tar", false);
	tar_file(&t, "l/layer.tar", layer.mem, layer.used);
	tar_end(&t);
	if (load_bytes(f->s, t.mem, t.used, &names, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(json_array_size(names), 3);
	assert_string_equal(json_string_value(json_array_get(names, 1)), "b.io/c:latest");
	assert_true(str_starts(json_string_value(json_array_get(names, 2)), "sha256:"));
	assert_int_equal(image_list(f->s, &list, &err), 0);
	assert_int_equal(json_array_size(list), 2);
	assert_int_equal(json_int(json_array_get(list, 0), "Created", 0), 1767323045);
	tar_free(&layer);
	tar_free(&t);
}

static char *blob(struct tar *t, const void *p, size_t n)
{
	char *hex = digest_of(p, n);
	CLEANUP_FREE char *path = str_format("blobs/sha256/%s", hex);

	tar_file(t, path, p, n);
	return hex;
}

/* An OCI archive with a nested index: arm64, attestation, amd64; a packed layer. */
static void oci_archive(struct tar *t, enum packing p, bool amd64)
{
	struct tar layer, packed;
	CLEANUP_FREE char *config = NULL;
	CLEANUP_FREE char *chex = NULL;
	CLEANUP_FREE char *lhex = NULL;
	CLEANUP_FREE char *mhex = NULL;
	CLEANUP_FREE char *ihex = NULL;
	CLEANUP_FREE char *manifest = NULL;
	CLEANUP_FREE char *index = NULL;
	CLEANUP_FREE char *top = NULL;

	simple_layer(&layer, "a", "oci");
	config = config_for(&layer, 1, "oci");
	tar_begin(&packed, p);
	tar_text(&packed, "a", "oci");
	tar_end(&packed);
	tar_begin(t, p);
	chex = blob(t, config, strlen(config));
	lhex = blob(t, packed.mem, packed.used);
	manifest = str_format("{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:%s\"},"
			      "\"layers\":[{\"digest\":\"sha256:%s\"}]}",
			      chex, lhex);
	mhex = blob(t, manifest, strlen(manifest));
	index = str_format("{\"schemaVersion\":2,\"manifests\":["
			   "{\"digest\":\"sha256:%064d\",\"platform\":{\"os\":\"linux\","
			   "\"architecture\":\"s390x\"}},"
			   "{\"digest\":\"sha256:%064d\",\"platform\":{\"os\":\"unknown\","
			   "\"architecture\":\"unknown\"}},"
			   "{\"digest\":\"sha256:%s\",\"platform\":{\"os\":\"linux\","
			   "\"architecture\":\"%s\"}}]}",
			   0, 1, mhex,
#if defined(__aarch64__)
			   amd64 ? "arm64" : "amd64"
#else
			   amd64 ? "amd64" : "arm64"
#endif
	);
	ihex = blob(t, index, strlen(index));
	top = str_format("{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:%s\","
			 "\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/o:1\","
			 "\"org.opencontainers.image.ref.name\":\"1\"}}]}",
			 ihex);
	tar_text(t, "index.json", top);
	tar_text(t, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
	tar_end(t);
	tar_free(&layer);
	tar_free(&packed);
}

static void test_oci_archive_loads_the_platform_of_this_host(void **state)
{
	struct fixture *f = *state;

	for (int p = PLAIN; p <= ZSTD; p++) {
		CLEANUP_JSON json_t *names = NULL, *j = NULL;
		struct error err = { 0 };
		struct tar t;

		oci_archive(&t, p, true);
		if (load_bytes(f->s, t.mem, t.used, &names, &err) < 0)
			fail_msg("%s", err.msg);
		assert_string_equal(json_string_value(json_array_get(names, 0)), "o:1");
		assert_int_equal(image_get(f->s, "docker.io/library/o:1", &j, &err), 0);
		tar_free(&t);
	}
	assert_int_equal(count(f->root, "layers"), 1);
}

static void test_oci_archive_of_another_platform_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = { 0 };
	json_t *names;
	struct tar t;

	oci_archive(&t, GZIP, false);
	assert_int_equal(load_bytes(f->s, t.mem, t.used, &names, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "s390x"));
	assert_empty(f);
	tar_free(&t);
}

/* --- layers --------------------------------------------------------------------------- */

static void test_whiteouts_become_what_overlayfs_means_by_them(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *fs = NULL;
	CLEANUP_FREE char *opaque = NULL;
	CLEANUP_FREE char *remade = NULL;
	struct error err = { 0 };
	struct tar t;
	char v[8];

	tar_begin(&t, PLAIN);
	tar_dir(&t, "d/");
	tar_text(&t, "d/.wh..wh..opq", "");
	tar_text(&t, "d/kept", "k");
	tar_text(&t, ".wh.gone", "");
	tar_text(&t, ".wh.remade", "");
	tar_dir(&t, "remade/");
	tar_text(&t, "stays", "s");
	tar_text(&t, ".wh.stays", "");
	tar_text(&t, ".wh..wh.aufs", "");
	tar_end(&t);
	if (load_layer(f, &t, &fs, &err) < 0)
		fail_msg("%s", err.msg);
	opaque = str_format("%s/d", fs);
	remade = str_format("%s/remade", fs);
	assert_true(S_ISCHR(stat_in(fs, "gone").st_mode));
	assert_int_equal(stat_in(fs, "gone").st_rdev, makedev(0, 0));
	assert_int_equal(lgetxattr(opaque, "trusted.overlay.opaque", v, sizeof(v)), 1);
	assert_int_equal(v[0], 'y');
	assert_int_equal(lgetxattr(remade, "trusted.overlay.opaque", v, sizeof(v)), 1);
	assert_int_equal(stat_in(fs, "stays").st_size, 1);
	assert_int_equal(stat_in(fs, "d/kept").st_size, 1);
	assert_int_equal(stat_in(fs, "d").st_mtime, 1600000000);
}

static void test_owner_mode_links_devices_xattrs_and_times_are_kept(void **state)
{
	static const unsigned char cap[20] = { 1, 0, 0, 2, 0, 4 }; /* v2, effective, NET_BIND */
	struct fixture *f = *state;
	CLEANUP_FREE char *fs = NULL;
	CLEANUP_FREE char *path = NULL;
	struct archive_entry *e;
	struct error err = { 0 };
	char got[32];
	struct tar t;

	tar_begin(&t, PLAIN);
	e = tar_entry(&t, "su", AE_IFREG, 04755);
	archive_entry_set_uid(e, 1000);
	archive_entry_set_gid(e, 70000);
	archive_entry_set_mtime(e, 1234567890, 123456789);
	archive_entry_xattr_add_entry(e, "security.capability", cap, sizeof(cap));
	archive_entry_xattr_add_entry(e, "user.note", "hi", 2);
	archive_entry_xattr_add_entry(e, "trusted.overlay.redirect", "/etc", 4);
	tar_put(&t, "data", 4);
	tar_link(&t, "hard", "su", true);
	tar_link(&t, "hard2", "/su", true);
	tar_link(&t, "soft", "/etc/anything", false);
	e = tar_entry(&t, "null", AE_IFCHR, 0666);
	archive_entry_set_rdevmajor(e, 1);
	archive_entry_set_rdevminor(e, 3);
	tar_put(&t, NULL, 0);
	tar_entry(&t, "fifo", AE_IFIFO, 0600);
	tar_put(&t, NULL, 0);
	tar_text(&t, "n\xc3\xa4me-e\xcc\x81", "utf-8");
	e = tar_entry(&t, "sparse", AE_IFREG, 0600);
	archive_entry_set_size(e, 2 << 20);
	archive_entry_sparse_add_entry(e, 1 << 20, 4);
	assert_int_equal(archive_write_header(t.a, e), ARCHIVE_OK);
	path = mem_zalloc(2 << 20);
	memcpy(path + (1 << 20), "mark", 4);
	assert_int_equal(archive_write_data(t.a, path, 2 << 20), 2 << 20);
	tar_end(&t);
	if (load_layer(f, &t, &fs, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(stat_in(fs, "su").st_mode, S_IFREG | 04755);
	assert_int_equal(stat_in(fs, "su").st_uid, 1000);
	assert_int_equal(stat_in(fs, "su").st_gid, 70000);
	assert_int_equal(stat_in(fs, "su").st_mtim.tv_sec, 1234567890);
	assert_int_equal(stat_in(fs, "su").st_mtim.tv_nsec, 123456789);
	assert_int_equal(stat_in(fs, "su").st_nlink, 3);
	assert_int_equal(stat_in(fs, "hard").st_ino, stat_in(fs, "hard2").st_ino);
	assert_true(S_ISLNK(stat_in(fs, "soft").st_mode));
	assert_int_equal(stat_in(fs, "null").st_rdev, makedev(1, 3));
	assert_true(S_ISFIFO(stat_in(fs, "fifo").st_mode));
	assert_int_equal(stat_in(fs, "n\xc3\xa4me-e\xcc\x81").st_size, 5);
	assert_int_equal(stat_in(fs, "sparse").st_size, 2 << 20);
	assert_true(stat_in(fs, "sparse").st_blocks < (1 << 20) / 512);
	free(path);
	path = str_format("%s/su", fs);
	assert_int_equal(lgetxattr(path, "security.capability", got, sizeof(got)), 20);
	assert_int_equal(lgetxattr(path, "user.note", got, sizeof(got)), 2);
	assert_int_equal(lgetxattr(path, "trusted.overlay.redirect", got, sizeof(got)), -1);
}

/* --- hostile archives ------------------------------------------------------------------ */

static void refused(struct fixture *f, struct tar *t, const char *names)
{
	struct error err = { 0 };

	tar_end(t);
	assert_int_equal(load_layer(f, t, NULL, &err), -EINVAL);
	if (!strstr(err.msg, names))
		fail_msg("\"%s\" does not name %s", err.msg, names);
	assert_empty(f);
}

static void test_layer_cannot_write_outside_its_folder(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *outside = str_format("%s/outside", f->dir);
	CLEANUP_FREE char *through = str_format("%s/x/victim", outside);
	CLEANUP_FREE char *fs = NULL;
	struct error err = { 0 };
	struct tar t;

	assert_int_equal(mkdir(outside, 0755), 0);
	tar_begin(&t, PLAIN);
	tar_text(&t, "../../evil", "x");
	refused(f, &t, "../../evil");
	tar_begin(&t, PLAIN);
	tar_text(&t, "a/../../evil", "x");
	refused(f, &t, "a/../../evil");
	tar_begin(&t, PLAIN);
	tar_link(&t, "h", "/etc/passwd", true);
	refused(f, &t, "\"h\"");
	tar_begin(&t, PLAIN);
	tar_link(&t, "h", "../../../../etc/passwd", true);
	refused(f, &t, "\"h\"");
	tar_begin(&t, PLAIN);
	tar_link(&t, "self", "self", true);
	refused(f, &t, "\"self\"");
	tar_begin(&t, PLAIN);
	tar_link(&t, "loop", "loop", false);
	tar_text(&t, "loop/x", "x");
	refused(f, &t, "loop/x");
	tar_begin(&t, PLAIN);
	tar_link(&t, "l", outside, false); /* dangling inside the layer */
	tar_text(&t, "l/victim", "x");
	refused(f, &t, "l/victim");
	tar_begin(&t, PLAIN);
	tar_text(&t, ".wh...", "");
	refused(f, &t, ".wh...");
	tar_begin(&t, PLAIN);
	tar_text(&t, ".", "");
	refused(f, &t, "\".\"");
	assert_int_equal(rmdir(outside), 0); /* nothing was put there */

	/* an absolute name, and a link to "/", mean the layer's own top */
	tar_begin(&t, PLAIN);
	tar_text(&t, "/abs", "x");
	tar_link(&t, "up", "../../../..", false);
	tar_text(&t, "up/inside", "x");
	tar_end(&t);
	if (load_layer(f, &t, &fs, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(stat_in(fs, "abs").st_size, 1);
	assert_int_equal(stat_in(fs, "inside").st_size, 1);
	assert_int_equal(access(through, F_OK), -1);
}

static void test_outer_archive_with_unsafe_entries_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = { 0 };
	json_t *names;

	for (int i = 0; i < 6; i++) {
		struct tar t;

		tar_begin(&t, PLAIN);
		if (i == 0)
			tar_text(&t, "../manifest.json", "[]");
		else if (i == 1)
			tar_text(&t, "/manifest.json", "[]");
		else if (i == 2)
			tar_link(&t, "manifest.json", "/etc/passwd", false);
		else if (i == 3)
			tar_link(&t, "manifest.json", "manifest.json", false);
		else if (i == 4)
			tar_text(&t, "manifest.json",
				 "[{\"Config\":\"c.json\",\"Layers\":[\"../l\"]}]");
		else
			tar_text(&t, "manifest.json", "[{\"Config\":\"c.json\",\"Layers\":[]}]");
		tar_end(&t);
		assert_int_equal(load_bytes(f->s, t.mem, t.used, &names, &err), -EINVAL);
		assert_null(names);
		assert_empty(f);
		tar_free(&t);
	}
	assert_non_null(strstr(err.msg, "c.json"));
	assert_int_equal(load_bytes(f->s, "rubbish", 7, &names, &err), -EINVAL);
	assert_int_equal(load_bytes(f->s, "", 0, &names, &err), -EINVAL);
	assert_empty(f);
}

static void test_wrong_digest_is_refused_and_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct error err = { 0 };
	struct tar layer, other, t;
	CLEANUP_FREE char *config = NULL;
	json_t *names;

	simple_layer(&layer, "a", "right");
	simple_layer(&other, "a", "wrong");
	config = config_for(&layer, 1, "sh");
	tar_begin(&t, PLAIN);
	tar_text(&t, "c.json", config);
	tar_file(&t, "l.tar", other.mem, other.used);
	tar_text(&t, "manifest.json",
		 "[{\"Config\":\"c.json\",\"RepoTags\":[\"x\"],\"Layers\":[\"l.tar\"]}]");
	tar_end(&t);
	assert_int_equal(load_bytes(f->s, t.mem, t.used, &names, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "l.tar"));
	assert_empty(f);
	tar_free(&t);
	tar_begin(&t, PLAIN);
	tar_text(&t,
		 "blobs/sha256/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		 "x");
	tar_end(&t);
	assert_int_equal(load_bytes(f->s, t.mem, t.used, &names, &err), -EBADMSG);
	assert_empty(f);
	tar_free(&t);
	tar_free(&layer);
	tar_free(&other);
}

static void test_truncated_archive_leaves_nothing_at_any_length(void **state)
{
	struct fixture *f = *state;

	for (int p = PLAIN; p <= ZSTD; p++) {
		struct error err = { 0 };
		struct tar layer, t;
		json_t *names;

		simple_layer(&layer, "a", "x");
		docker_archive(&t, p, &layer, 1, "x", "sh");
		for (int i = 0; i < 8; i++) { /* the last eighth of a tar is padding */
			assert_true(load_bytes(f->s, t.mem, t.used * (size_t)i / 16, &names, &err) <
				    0);
			assert_empty(f);
		}
		tar_free(&layer);
		tar_free(&t);
	}
}

static void test_bombs_stop_at_the_configured_maximum(void **state)
{
	struct fixture *f = *state;
	struct image_limits limits = { .max_total_bytes = 1 << 20 };
	CLEANUP_FREE char *zeros = mem_zalloc(2 << 20);
	struct error err = { 0 };
	struct tar t;

	image_store_set_limits(f->s, &limits);
	tar_begin(&t, GZIP); /* small outside, 2 MiB inside */
	tar_file(&t, "zeros", zeros, 2 << 20);
	tar_end(&t);
	assert_true(t.used < 100000);
	assert_int_equal(load_layer(f, &t, NULL, &err), -EFBIG);
	assert_non_null(strstr(err.msg, "l0/layer.tar"));
	assert_empty(f);
	limits = (struct image_limits){ .max_entries = 2 };
	image_store_set_limits(f->s, &limits);
	tar_begin(&t, PLAIN);
	for (int i = 0; i < 3; i++)
		tar_dir(&t, i == 0 ? "a" : i == 1 ? "b" : "c");
	tar_end(&t);
	assert_int_equal(load_layer(f, &t, NULL, &err), -EFBIG);
	assert_empty(f);
}

/* --- names, removal --------------------------------------------------------------------- */

static void test_names_are_normalised_as_docker_does(void **state)
{
	static const char *const good[][3] = {
		{ "redis", "docker.io/library/redis:latest", "redis:latest" },
		{ "docker.io/redis:7", "docker.io/library/redis:7", "redis:7" },
		{ "docker.io/library/redis", "docker.io/library/redis:latest", "redis:latest" },
		{ "index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest" },
		{ "a/b:V1_x", "docker.io/a/b:V1_x", "a/b:V1_x" },
		{ "localhost/x", "localhost/x:latest", "localhost/x:latest" },
		{ "h:5000/x/y:1", "h:5000/x/y:1", "h:5000/x/y:1" },
		{ "[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest" },
		{ "my-reg.example.com/a__b/c.d-e", "my-reg.example.com/a__b/c.d-e:latest",
		  "my-reg.example.com/a__b/c.d-e:latest" },
	};
	static const char *const bad[] = {
		"",
		"Redis",
		"a:",
		"a:-x",
		"a b",
		"/a",
		"a/",
		"a//b",
		"-a",
		"a_",
		"a..b",
		"../a",
		"a.b-/c",
		"h:x/a",
		"a@sha256:12",
		"a:b:c",
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		CLEANUP_FREE char *whole = NULL;
		CLEANUP_FREE char *shown = NULL;
		struct error err = { 0 };

		if (image_ref_normalize(good[i][0], &whole, &err) < 0)
			fail_msg("%s", err.msg);
		shown = image_ref_short(whole);
		assert_string_equal(whole, good[i][1]);
		assert_string_equal(shown, good[i][2]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char *whole = NULL;
		struct error err = { 0 };

		if (image_ref_normalize(bad[i], &whole, &err) != -EINVAL)
			fail_msg("\"%s\" was taken as %s", bad[i], whole);
	}
}

static void test_images_are_found_by_name_id_and_short_id(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *id = NULL;
	CLEANUP_FREE char *part = NULL;
	struct error err = { 0 };
	json_t *j;

	load_simple(f->s, "redis:7", "x");
	id = id_of(f->s, "docker.io/library/redis:7");
	part = str_format("%.12s", id + 7);
	free(id_of(f->s, id));
	free(id_of(f->s, id + 7));
	free(id_of(f->s, part));
	assert_int_equal(image_get(f->s, "redis", &j, &err), -ENOENT);
	assert_string_equal(err.msg, "No such image: redis:latest");
	assert_int_equal(image_get(f->s, "Bad Name", &j, &err), -EINVAL);
	assert_int_equal(image_get(f->s, "sha256:00000000", &j, &err), -ENOENT);
	/* a name wins over a short id */
	load_simple(f->s, part, "y");
	free(id);
	id = id_of(f->s, part);
	assert_int_not_equal(strncmp(id + 7, part, 12), 0);
}

static void test_an_image_goes_with_its_last_name_and_layers_with_the_last_image(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *id = NULL;
	struct error err = { 0 };
	struct tar layers[2], t;
	json_t *r, *names;

	simple_layer(&layers[0], "a", "shared");
	simple_layer(&layers[1], "b", "own");
	docker_archive(&t, PLAIN, layers, 1, "one", "sh");
	assert_int_equal(load_bytes(f->s, t.mem, t.used, &names, &err), 0);
	json_decref(names);
	tar_free(&t);
	docker_archive(&t, PLAIN, layers, 2, "two:v", "sh");
	assert_int_equal(load_bytes(f->s, t.mem, t.used, &names, &err), 0);
	json_decref(names);
	tar_free(&t);
	tar_free(&layers[0]);
	tar_free(&layers[1]);
	assert_int_equal(count(f->root, "layers"), 2);
	assert_int_equal(image_tag(f->s, "two:v", "three", &err), 0);
	assert_int_equal(image_tag(f->s, "two:v", "Not Valid", &err), -EINVAL);
	assert_int_equal(image_tag(f->s, "none", "x", &err), -ENOENT);
	id = id_of(f->s, "three");
	assert_int_equal(image_remove(f->s, id, false, &r, &err), -EBUSY);
	assert_int_equal(image_remove(f->s, "two:v", false, &r, &err), 0);
	assert_int_equal(json_array_size(r), 1);
	assert_string_equal(json_str(json_array_get(r, 0), "Untagged", ""), "two:v");
	json_decref(r);
	assert_int_equal(image_tag(f->s, "three", "four", &err), 0);
	assert_int_equal(image_remove(f->s, id, true, &r, &err), 0);
	assert_int_equal(json_array_size(r), 4); /* two names, the image, its own layer */
	assert_string_equal(json_str(json_array_get(r, 2), "Deleted", ""), id);
	json_decref(r);
	assert_int_equal(count(f->root, "layers"), 1);
	assert_int_equal(count(f->root, "blobs/sha256"), 2);
	assert_int_equal(image_remove(f->s, "one", false, &r, &err), 0);
	json_decref(r);
	assert_empty(f);
	assert_int_equal(image_remove(f->s, "one", false, &r, &err), -ENOENT);
}

static void test_a_loaded_tag_moves_and_the_old_image_stays(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *old = NULL;
	CLEANUP_JSON json_t *j = NULL;
	struct error err = { 0 };

	load_simple(f->s, "x", "old");
	old = id_of(f->s, "x");
	load_simple(f->s, "x", "new");
	assert_int_equal(image_get(f->s, old, &j, &err), 0);
	assert_int_equal(json_array_size(json_object_get(j, "RepoTags")), 0);
}

/* --- save ------------------------------------------------------------------------------- */

static void test_save_and_load_elsewhere_keep_the_id(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *root = str_format("%s/other", f->dir);
	CLEANUP_CLOSE int fd = memfd_create("saved", MFD_CLOEXEC);
	CLEANUP_FREE char *a = NULL;
	CLEANUP_FREE char *b = NULL;
	CLEANUP_JSON json_t *names = NULL;
	struct image_store *other;
	struct error err = { 0 };
	struct tar t;

	oci_archive(&t, ZSTD, true);
	assert_int_equal(load_bytes(f->s, t.mem, t.used, &names, &err), 0);
	json_decref(TAKE_PTR(names));
	tar_free(&t);
	load_simple(f->s, "second", "2");
	a = id_of(f->s, "o:1");
	{
		const char *const refs[] = { "o:1", "second", a };
		const char *const missing[] = { "o:1", "nothing" };

		assert_int_equal(image_save(f->s, missing, 2, fd, &err), -ENOENT);
		assert_int_equal(lseek(fd, 0, SEEK_END), 0);
		if (image_save(f->s, refs, 3, fd, &err) < 0)
			fail_msg("%s", err.msg);
	}
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(image_store_open(root, &other, &err), 0);
	if (image_load(other, fd, &names, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(json_array_size(names), 2);
	b = id_of(other, "o:1");
	assert_string_equal(a, b);
	free(id_of(other, "second"));
	image_store_close(other);
}

/* --- crash and concurrency ----------------------------------------------------------------- */

static void test_killed_loader_leaves_a_store_that_works(void **state)
{
	struct fixture *f = *state;
	struct tar layer, t;
	struct image_store *again;
	struct error err = { 0 };
	json_t *names;
	int p[2], status;
	pid_t pid;

	load_simple(f->s, "before", "b");
	simple_layer(&layer, "a", "x");
	docker_archive(&t, PLAIN, &layer, 1, "x", "sh");
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(p[1]);
		image_load(f->s, p[0], &names, NULL);
		_exit(0);
	}
	close(p[0]);
	assert_int_equal(fd_write_all(p[1], t.mem, 4096), 0);
	for (int i = 0; i < 3000 && count(f->root, "tmp") == 0; i++)
		clock_sleep_ns(10000000);
	assert_int_equal(count(f->root, "tmp"), 1);
	/* another that opens the store does not disturb it */
	assert_int_equal(image_store_open(f->root, &again, &err), 0);
	image_store_close(again);
	assert_int_equal(count(f->root, "tmp"), 1);
	kill(pid, SIGKILL);
	assert_int_equal(process_wait(pid, &status), 0);
	close(p[1]);
	/* and what a loader killed while it published would leave */
	{
		CLEANUP_FREE char *stray = str_format("%s/layers/stray", f->root);
		CLEANUP_FREE char *lost = str_format("%s/blobs/sha256/lost", f->root);

		assert_int_equal(mkdir(stray, 0700), 0);
		assert_int_equal(mkdir(lost, 0700), 0);
	}
	assert_int_equal(image_store_open(f->root, &again, &err), 0);
	assert_int_equal(count(f->root, "tmp"), 0);
	assert_int_equal(count(f->root, "layers"), 1);
	assert_int_equal(count(f->root, "blobs/sha256"), 2);
	assert_int_equal(load_bytes(again, t.mem, t.used, &names, &err), 0);
	json_decref(names);
	free(id_of(f->s, "before"));
	free(id_of(f->s, "x"));
	image_store_close(again);
	tar_free(&layer);
	tar_free(&t);
}

static void test_disk_full_is_told_and_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	CLEANUP_FREE char *zeros = mem_zalloc(2 << 20);
	int status;
	pid_t pid;
	struct tar layer;

	tar_begin(&layer, PLAIN);
	tar_file(&layer, "big", zeros, 2 << 20);
	tar_end(&layer);
	pid = fork(); /* a file system of 1 MiB in a mount namespace that goes with the child */
	assert_true(pid >= 0);
	if (pid == 0) {
		CLEANUP_FREE char *root = str_format("%s/small", f->dir);
		struct error err = { 0 };
		struct image_store *s;
		json_t *names;
		struct tar t;
		int r;

		if (unshare(CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mkdir(root, 0700) < 0 || mount("t", root, "tmpfs", 0, "size=1m") < 0)
			_exit(77);
		if (image_store_open(root, &s, &err) < 0)
			_exit(2);
		docker_archive(&t, PLAIN, &layer, 1, "x", "sh");
		r = load_bytes(s, t.mem, t.used, &names, &err);
		if (r != -ENOSPC || count(root, "tmp") || count(root, "layers") ||
		    count(root, "blobs/sha256"))
			_exit(3);
		load_simple(s, "y", "fits");
		_exit(0);
	}
	assert_int_equal(process_wait(pid, &status), 0);
	tar_free(&layer);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* no mounts here */
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void *load_and_remove(void *arg)
{
	struct image_store *s = arg;

	for (int i = 0; i < 4; i++) {
		struct tar layer, t;
		json_t *j = NULL;

		simple_layer(&layer, "hello", "same");
		docker_archive(&t, PLAIN, &layer, 1, "same", "sh");
		if (load_bytes(s, t.mem, t.used, &j, NULL) < 0)
			return "load failed";
		json_decref(TAKE_PTR(j));
		tar_free(&layer);
		tar_free(&t);
		image_remove(s, "same", false, &j, NULL); /* another thread may have been first */
		json_decref(j);
	}
	return NULL;
}

static void test_loads_and_removes_at_the_same_time_do_not_meet(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, load_and_remove, f->s), 0);
	for (int i = 0; i < 4; i++) {
		void *why;

		assert_int_equal(pthread_join(threads[i], &why), 0);
		if (why)
			fail_msg("%s", (char *)why);
	}
	assert_empty(f);
	load_simple(f->s, "same", "same");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_docker_archive_loads_plain_and_compressed),
		T(test_several_images_and_legacy_links_load_from_one_archive),
		T(test_oci_archive_loads_the_platform_of_this_host),
		T(test_oci_archive_of_another_platform_is_refused),
		T(test_whiteouts_become_what_overlayfs_means_by_them),
		T(test_owner_mode_links_devices_xattrs_and_times_are_kept),
		T(test_layer_cannot_write_outside_its_folder),
		T(test_outer_archive_with_unsafe_entries_is_refused),
		T(test_wrong_digest_is_refused_and_leaves_nothing),
		T(test_truncated_archive_leaves_nothing_at_any_length),
		T(test_bombs_stop_at_the_configured_maximum),
		T(test_names_are_normalised_as_docker_does),
		T(test_images_are_found_by_name_id_and_short_id),
		T(test_an_image_goes_with_its_last_name_and_layers_with_the_last_image),
		T(test_a_loaded_tag_moves_and_the_old_image_stays),
		T(test_save_and_load_elsewhere_keep_the_id),
		T(test_killed_loader_leaves_a_store_that_works),
		T(test_disk_full_is_told_and_leaves_nothing),
		T(test_loads_and_removes_at_the_same_time_do_not_meet),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
