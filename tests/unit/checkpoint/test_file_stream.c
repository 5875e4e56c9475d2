/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files are taken for checkpoints: whole ones, signed by a host of the cluster, and
 * no others. The files are made by hand here, no process travels.
 */
#include "tests/unit/checkpoint/harness.h"

#include <dirent.h>
#include <netinet/tcp.h>
#include <time.h>

#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/sock_common.h"

static char dir[64], other[64]; /* of this cluster, and of another one */

static const char *in(const char *folder, const char *name)
{
	static char out[4][128];
	static int i;

	i = (i + 1) % 4;
	snprintf(out[i], sizeof(out[i]), "%s/%s", folder, name);
	return out[i];
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/fckpt-XXXXXX");
	strcpy(other, "/tmp/fckpt-XXXXXX");
	if (!mkdtemp(dir) || !mkdtemp(other))
		return 1;
	trial_identity(dir, "host-a");
	trial_identity(other, "stranger");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return dir_remove(dir, NULL) < 0 || dir_remove(other, NULL) < 0;
}

/* --- making one ------------------------------------------------------------------------- */
static void send_tree(struct stream *s)
{
	Ck__Tree tree = CK__TREE__INIT;
	Ck__Process p = CK__PROCESS__INIT, *list = &p;
	struct error err = { 0 };

	p.vpid = 1;
	tree.processes = &list;
	tree.n_processes = 1;
	tree.final = 1;
	assert_int_equal(stream_send_msg(s, FRAME_TREE, &tree.base, &err), 0);
}

static void send_task(struct stream *s)
{
	static struct user_regs_struct regs;
	static uint32_t ids[4];
	Ck__TaskState m = CK__TASK_STATE__INIT;
	Ck__Thread t = CK__THREAD__INIT, *list = &t;
	Ck__Creds c = CK__CREDS__INIT;
	struct error err = { 0 };

	c.n_uids = c.n_gids = 4;
	c.uids = c.gids = ids;
	t.vtid = m.vpid = 1;
	t.regs.data = (uint8_t *)&regs;
	t.regs.len = sizeof(regs);
	t.creds = &c;
	t.comm = (char *)(uintptr_t) "caf\xe9";
	m.exe = (char *)(uintptr_t) "/bin/prog";
	m.cwd = m.root = (char *)(uintptr_t) "/";
	m.threads = &list;
	m.n_threads = 1;
	assert_int_equal(stream_send_msg(s, FRAME_TASK, &m.base, &err), 0);
}

static void send_socket(struct stream *s)
{
	uint8_t ip[4] = { 10, 1, 2, 3 };
	Cks__Address a = CKS__ADDRESS__INIT;
	Cks__Common c = CKS__COMMON__INIT;
	Cks__Tcp t = CKS__TCP__INIT;
	Ck__Object o = CK__OBJECT__INIT;
	CLEANUP_BUF struct buf body = { 0 };
	struct error err = { 0 };

	a.family = AF_INET;
	a.ip.data = ip;
	a.ip.len = 4;
	a.port = 80;
	c.local = &a;
	t.common = &c;
	t.state = TCP_LISTEN;
	obj_pack(&t.base, &body);
	o.id = 3;
	o.type = (char *)(uintptr_t) "tcp";
	o.body.data = (uint8_t *)body.data;
	o.body.len = body.len;
	assert_int_equal(stream_send_msg(s, FRAME_OBJECT, &o.base, &err), 0);
}

static void send_pages(struct stream *s, uint64_t start, uint64_t n, uint16_t flags)
{
	static uint8_t page[4 * PAGE] = { 1, 2, 3 };
	struct page_run run = { SPACE_PRIVATE, 1, start, n };
	struct error err = { 0 };

	assert_int_equal(stream_send(s, FRAME_PAGES, flags, &run, sizeof(run), page,
				     flags ? 0 : n * PAGE, &err),
			 0);
}

static void send_end(struct stream *s)
{
	Ck__RoundEnd end = CK__ROUND_END__INIT;
	Ck__Done done = CK__DONE__INIT;
	struct error err = { 0 };

	end.final = 1;
	assert_int_equal(stream_send_msg(s, FRAME_ROUND_END, &end.base, &err), 0);
	assert_int_equal(stream_send_msg(s, FRAME_DONE, &done.base, &err), 0);
}

static void send_hello(struct stream *s)
{
	Ck__Hello hello = CK__HELLO__INIT;
	struct error err = { 0 };

	hello.version = STREAM_VERSION;
	hello.has_saved_at = 1;
	hello.saved_at = (uint64_t)time(NULL);
	assert_int_equal(stream_send_msg(s, FRAME_HELLO, &hello.base, &err), 0);
}

/* A whole one with two pages of content; unsigned where `by` is NULL. */
static void make_file(const char *path, const char *by)
{
	struct error err = { 0 };
	struct save *v = NULL;
	struct stream *s;
	int fd = -1;
	json_t *args = by ? json_pack("{s:s,s:s,s:s}", "path", path, "key", in(by, "key.pem"),
				      "cert", in(by, "cert.pem"))
			  : json_pack("{s:s}", "path", path);

	assert_int_equal(save_open(args, &v, &fd, &err), 0);
	s = stream_new_file(fd);
	stream_pack(s, STREAM_PACK_NEVER); /* so that a byte of a page can be found */
	send_hello(s);
	send_tree(s);
	send_pages(s, 0x10000, 4, 0);
	send_pages(s, 0x10000, 1, FRAME_ZERO);
	send_pages(s, 0x13000, 1, FRAME_DROP);
	send_task(s);
	send_socket(s);
	send_end(s);
	assert_false(save_sealed(v));
	assert_int_equal(save_seal(v, s, &err), 0);
	assert_int_equal(save_publish(v, &err), 0);
	stream_close(s);
	save_free(v);
	json_decref(args);
}

static int check(const char *path, const char *ca, bool allow_unsigned, struct error *err)
{
	struct load_check how = { .ca = ca, .allow_unsigned = allow_unsigned };
	struct load_info info;
	int fd = open(path, O_RDONLY), r;

	assert_true(fd >= 0);
	r = load_check(fd, &how, &info, err);
	close(fd);
	if (r == 0)
		load_info_free(&info);
	return r;
}

static int check_bytes(const char *data, size_t len, struct error *err)
{
	struct load_check how = { .ca = in(dir, "ca.pem") };
	int fd = memfd_create("checkpoint", MFD_CLOEXEC), r;
	struct load_info info;

	assert_int_equal(fd_write_all(fd, data, len), 0);
	r = load_check(fd, &how, &info, err);
	close(fd);
	if (r == 0)
		load_info_free(&info);
	return r;
}

static size_t read_whole(const char *path, char **out)
{
	size_t len = 0;

	assert_int_equal(file_read(path, 16 << 20, out, &len, NULL), 0);
	return len;
}

static void write_whole(const char *path, const char *data, size_t len)
{
	assert_int_equal(file_write_atomic(path, data, len, 0600, NULL), 0);
}

/* --- signatures --------------------------------------------------------------------------------
 */
static void test_only_a_host_of_the_cluster_is_believed(void **state)
{
	struct error err = { 0 };

	(void)state;
	make_file(in(dir, "ours"), dir);
	make_file(in(dir, "theirs"), other);
	make_file(in(dir, "nobodys"), NULL);
	assert_int_equal(check(in(dir, "ours"), in(dir, "ca.pem"), false, &err), 0);
	assert_int_equal(check(in(dir, "theirs"), in(other, "ca.pem"), false, &err), 0);
	assert_int_equal(check(in(dir, "theirs"), in(dir, "ca.pem"), false, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.msg, "stranger"));
	/* what bears a bad signature is not taken for an unsigned one */
	assert_int_equal(check(in(dir, "theirs"), in(dir, "ca.pem"), true, &err), -EKEYREJECTED);
	assert_int_equal(check(in(dir, "nobodys"), in(dir, "ca.pem"), false, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.msg, "no signature"));
	assert_int_equal(check(in(dir, "nobodys"), in(dir, "ca.pem"), true, &err), 0);
}

struct header {
	uint32_t len;
	uint16_t type, flags;
	uint32_t crc;
};

/* Somebody who can compute checksums: they are right again. */
static void mend(char *data, size_t len)
{
	for (size_t at = 0; at + sizeof(struct header) <= len;) {
		struct header h;

		memcpy(&h, data + at, sizeof(h));
		if (h.len > len - at - sizeof(h))
			return;
		h.crc = crc32c(0, data + at + sizeof(h), h.len);
		memcpy(data + at, &h, sizeof(h));
		at += sizeof(h) + h.len;
	}
}

static void test_no_byte_can_be_changed(void **state)
{
	CLEANUP_FREE char *whole = NULL, *bad = NULL;
	struct error err = { 0 };
	size_t len;

	(void)state;
	make_file(in(dir, "f"), dir);
	len = read_whole(in(dir, "f"), &whole);
	bad = mem_zalloc(len);
	/* every byte outside of the pages' content, and some of theirs */
	for (size_t at = 0; at<len; at += at> 300 && at + 3000 < len ? 1009 : 1)
		for (int mended = 0; mended < 2; mended++) {
			memcpy(bad, whole, len);
			bad[at] = (char)(bad[at] ^ 4);
			if (mended)
				mend(bad, len);
			if (memcmp(bad, whole, len) == 0)
				continue; /* it was a checksum */
			assert_true(check_bytes(bad, len, &err) < 0);
			assert_true(err.code == EBADMSG || err.code == EKEYREJECTED);
		}
}

static void test_truncated_and_lengthened_files_are_refused(void **state)
{
	CLEANUP_FREE char *whole = NULL;
	struct error err = { 0 };
	size_t len;

	(void)state;
	make_file(in(dir, "f"), dir);
	len = read_whole(in(dir, "f"), &whole);
	for (size_t n = 0; n<len; n += n> 300 && n + 2000 < len ? 1009 : 1) {
		assert_true(check_bytes(whole, n, &err) < 0);
		if (n && n % 50 == 0 && n + 1500 < len)
			assert_non_null(strstr(err.msg, "truncated"));
	}
	whole = realloc(whole, len * 2);
	memcpy(whole + len, whole, len);
	assert_true(check_bytes(whole, len + 4, &err) < 0);
	assert_int_equal(check_bytes(whole, len * 2, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "behind its signature"));
	assert_int_equal(check_bytes("GIF89a and so on, not a checkpoint", 34, &err), -EBADMSG);
}

/* --- writing ------------------------------------------------------------------------------------
 */
static size_t entries(const char *path)
{
	CLEANUP_CLOSEDIR DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	return n;
}

static void test_a_file_is_whole_or_not_there(void **state)
{
	CLEANUP_FREE char *folder = str_dup(in(dir, "empty")), *path = str_dup(in(folder, "f"));
	json_t *args = json_pack("{s:s}", "path", path);
	struct error err = { 0 };
	CLEANUP_FREE char *old = NULL;
	struct save *v = NULL;
	struct stream *s;
	int fd = -1;

	(void)state;
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(save_open(args, &v, &fd, &err), 0);
	s = stream_new_file(fd);
	send_hello(s);
	assert_int_equal(stream_flush(s, &err), 0);
	assert_int_equal(save_publish(v, &err), 0); /* not sealed: nothing */
	stream_close(s);
	save_free(v);
	assert_int_equal(entries(folder), 0);
	/* what was there stays until the new one is whole */
	write_whole(path, "old", 3);
	assert_int_equal(save_open(args, &v, &fd, &err), 0);
	close(fd);
	save_free(v);
	assert_int_equal(read_whole(path, &old), 3);
	make_file(path, NULL);
	assert_int_equal(entries(folder), 1);
	assert_int_equal(check(path, NULL, true, &err), 0);
	json_decref(args);
	args = json_pack("{s:s}", "path", "/nonexistent/f");
	assert_int_equal(save_open(args, &v, &fd, &err), -ENOENT);
	json_decref(args);
	args = json_pack("{s:s}", "path", folder);
	assert_int_equal(save_open(args, &v, &fd, &err), -EEXIST);
	json_decref(args);
}

/* --- reading ------------------------------------------------------------------------------------
 */
static struct load *opened(int fd, struct error *err)
{
	json_t *args = json_pack("{s:i,s:s,s:s}", "fd", fd, "ca", in(dir, "ca.pem"), "spool", dir);
	struct load *l = NULL;

	if (load_open(args, &l, err) < 0)
		l = NULL;
	json_decref(args);
	return l;
}

static int read_frames(struct load *l, struct error *err)
{
	struct stream *s = load_stream(l, err);
	struct frame f = { 0 };
	int r = s ? 0 : -EIO;

	while (r == 0 && f.type != FRAME_DONE)
		r = stream_recv(s, &f, err);
	if (r == 0)
		r = load_end(l, s, err);
	stream_close(s);
	return r;
}

static void test_a_pipe_is_read_to_its_end_first(void **state)
{
	CLEANUP_FREE char *whole = NULL;
	struct error err = { 0 };
	size_t len, part;
	struct load *l;
	int fds[2], r;

	(void)state;
	make_file(in(dir, "f"), dir);
	len = read_whole(in(dir, "f"), &whole);
	for (int cut = 0; cut < 3; cut++) {
		assert_int_equal(pipe(fds), 0);
		assert_int_equal(fd_write_all(fds[1], whole, 20), 0);
		l = opened(fds[0], &err);
		assert_non_null(l);
		assert_false(load_ready(l));
		part = cut == 1 ? len / 2 : len - 20;
		if (cut == 2)
			whole[len / 2] ^= 1;
		assert_int_equal(fd_write_all(fds[1], whole + 20, part), 0);
		if (cut == 1)
			close(fds[1]);
		for (r = 0; r == 0 && !load_ready(l);)
			r = load_pump(l, &err);
		/* the pipe may stay open behind the signature */
		assert_int_equal(r, cut ? -EBADMSG : 0);
		if (!cut) {
			assert_string_equal(load_info(l)->signed_by, "host-a");
			assert_int_equal(read_frames(l, &err), 0);
		}
		load_free(l);
		if (cut != 1)
			close(fds[1]);
	}
}

static void test_a_file_that_changes_meanwhile_is_refused(void **state)
{
	struct error err = { 0 };
	struct load *l;
	char byte = 9;
	int fd;

	(void)state;
	make_file(in(dir, "f"), dir);
	l = opened(open(in(dir, "f"), O_RDONLY), &err);
	assert_non_null(l);
	assert_true(load_ready(l));
	assert_int_equal(read_frames(l, &err), 0);
	make_file(in(dir, "g"), dir);
	fd = open(in(dir, "f"), O_WRONLY);
	/* the page's content, with its checksum */
	{
		CLEANUP_FREE char *whole = NULL;
		size_t len = read_whole(in(dir, "f"), &whole);

		whole[len / 2] = byte;
		mend(whole, len);
		assert_int_equal(pwrite(fd, whole, len, 0), (ssize_t)len);
	}
	close(fd);
	assert_int_equal(read_frames(l, &err), -EKEYREJECTED);
	load_free(l);
}

static void test_inspection_tells_what_is_inside(void **state)
{
	struct error err = { 0 };
	json_t *out = NULL, *p, *s;

	(void)state;
	make_file(in(dir, "f"), dir);
	assert_int_equal(file_inspect(in(dir, "f"), in(dir, "ca.pem"), &out, &err), 0);
	assert_true(json_is_true(json_object_get(json_object_get(out, "signature"), "good")));
	assert_string_equal(json_string_value(json_object_get(out, "host")), "host-a");
	/* four pages, of which one became zero and one went */
	assert_int_equal(json_integer_value(json_object_get(out, "memory_bytes")), 2 * PAGE);
	p = json_array_get(json_object_get(out, "processes"), 0);
	assert_string_equal(json_string_value(json_object_get(p, "exe")), "/bin/prog");
	assert_string_equal(json_string_value(json_object_get(p, "name")), "caf?");
	assert_int_equal(json_integer_value(json_object_get(p, "threads")), 1);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(out, "objects"), "tcp")), 1);
	s = json_array_get(json_object_get(out, "sockets"), 0);
	assert_string_equal(json_string_value(json_object_get(s, "local")), "10.1.2.3:80");
	assert_string_equal(json_string_value(json_object_get(s, "state")), "listen");
	json_decref(out);
	out = NULL;
	make_file(in(dir, "f"), other);
	assert_int_equal(file_inspect(in(dir, "f"), in(dir, "ca.pem"), &out, &err), -EKEYREJECTED);
	assert_true(json_is_false(json_object_get(json_object_get(out, "signature"), "good")));
	json_decref(out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_a_host_of_the_cluster_is_believed),
		cmocka_unit_test(test_no_byte_can_be_changed),
		cmocka_unit_test(test_truncated_and_lengthened_files_are_refused),
		cmocka_unit_test(test_a_file_is_whole_or_not_there),
		cmocka_unit_test(test_a_pipe_is_read_to_its_end_first),
		cmocka_unit_test(test_a_file_that_changes_meanwhile_is_refused),
		cmocka_unit_test(test_inspection_tells_what_is_inside),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
