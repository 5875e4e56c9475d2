/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of what is known of /proc: the running kernel's texts hold nothing unknown,
 * and whatever an imaginary newer kernel might add is reported, wherever it stands.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/known.h"

struct reports {
	int n;
	char object[200], why[200];
};

static void count(void *ctx, const char *object, const char *why, const char *remedy)
{
	struct reports *r = ctx;

	assert_true(object && *object && why && *why && remedy && *remedy);
	snprintf(r->object, sizeof(r->object), "%s", object);
	snprintf(r->why, sizeof(r->why), "%s", why);
	r->n++;
}

static struct reports status_of(const char *text)
{
	struct reports r = { 0 };

	known_status(text, count, &r);
	return r;
}

static struct reports smaps_of(const char *text, bool watched)
{
	struct reports r = { 0 };

	known_smaps(text, watched, count, &r);
	return r;
}

static struct reports fdinfo_of(const char *type, const char *text)
{
	struct reports r = { 0 };

	known_fdinfo(type, text, count, &r);
	return r;
}

static char *own(const char *what)
{
	CLEANUP_FREE char *path = str_format("/proc/self/%s", what);
	char *text = NULL;

	assert_int_equal(file_read(path, 16 << 20, &text, NULL, NULL), 0);
	return text;
}

/* The text with a line put before its n-th line; NULL: it has no n-th line. */
static char *with_line(const char *text, int n, const char *line)
{
	const char *p = text;

	for (; n > 0 && p && *p; n--) {
		p = strchr(p, '\n');
		p = p ? p + 1 : NULL;
	}
	return !p || n ? NULL : str_format("%.*s%s\n%s", (int)(p - text), text, line, p);
}

static void test_the_running_kernel_is_known(void **state)
{
	CLEANUP_FREE char *status = own("status"), *smaps = own("smaps");
	CLEANUP_CLOSE int fd = eventfd(1, 0);
	CLEANUP_FREE char *path = str_format("fdinfo/%d", fd);
	CLEANUP_FREE char *fdinfo = own(path);
	struct reports r;

	(void)state;
	r = status_of(status);
	if (r.n)
		print_message("# %s\n", r.object);
	assert_int_equal(r.n, 0);
	r = smaps_of(smaps, false);
	/* A sanitizer may use what does not travel; what it is must have a name all the same. */
	if (r.n)
		print_message("# %s: %s\n", r.object, r.why);
	assert_null(strstr(r.why, "does not know"));
	assert_int_equal(fdinfo_of("eventfd", fdinfo).n, 0);
}

static void test_a_new_status_field_is_reported_wherever_it_stands(void **state)
{
	CLEANUP_FREE char *status = own("status");
	int n = 0;

	(void)state;
	for (;; n++) {
		CLEANUP_FREE char *text = with_line(status, n, "Quantum_state:\t1");
		struct reports r;

		if (!text)
			break;
		r = status_of(text);
		assert_int_equal(r.n, 1);
		assert_string_equal(r.object, "process state Quantum_state: 1");
		assert_non_null(strstr(r.why, "does not know"));
	}
	assert_true(n > 30);
	/* Not by its beginning, nor by its end, nor without a value. */
	assert_int_equal(status_of("Nam:\tx\n").n, 1);
	assert_int_equal(status_of("Names:\tx\n").n, 1);
	assert_int_equal(status_of("Seccomp_filters2:\t0").n, 1);
	assert_int_equal(status_of("Bare\n").n, 1);
}

static void test_values_that_do_not_travel_are_reported(void **state)
{
	static const char *const bad[] = {
		"CoreDumping:\t1\n",
		"untag_mask:\t0x81ffffffffffffff\n",
		"x86_Thread_features:\tshstk \n",
		"x86_Thread_features:\tshstk wrss \n",
		"Seccomp:\t3\n",
		"State:\tQ (quiescent)\n",
		"Kthread:\t1\n",
	};
	static const char *const good[] = {
		"CoreDumping:\t0\n",
		"untag_mask:\t0xffffffffffffffff\n",
		"x86_Thread_features:\t\n",
		"x86_Thread_features_locked:\t\n",
		"Seccomp:\t2\n",
		"State:\tS (sleeping)\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(status_of(bad[i]).n, 1);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(status_of(good[i]).n, 0);
}

#define AREA "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 "

static void test_every_flag_but_the_known_is_reported(void **state)
{
	/* Each of these is carried, harmless, or judged by its area's kind. */
	static const char fine[] =
		" rd wr ex sh mr mw me ms gd pf dw lo io sr rr dc de lf ac nr ht wf dd "
		"sd hg nh mg um ss dp sl gu ";
	int reported = 0;

	(void)state;
	for (int a = 32; a < 127; a++)
		for (int b = 32; b < 127; b++) {
			char text[200], code[5] = { ' ', (char)a, (char)b, ' ', 0 };

			if (a == ' ' || b == ' ')
				continue;
			snprintf(text, sizeof(text), AREA "\nSize: 4 kB\nVmFlags: rd %c%c mr \n", a,
				 b);
			reported += smaps_of(text, false).n;
			assert_int_equal(smaps_of(text, false).n, strstr(fine, code) ? 0 : 1);
		}
	assert_true(reported > 8000);
	/* The tracker's own flag is not the program's; a new kernel's longer names count too. */
	assert_int_equal(smaps_of(AREA "\nVmFlags: rd uw \n", true).n, 0);
	assert_int_equal(smaps_of(AREA "\nVmFlags: rd uw \n", false).n, 1);
	assert_int_equal(smaps_of(AREA "\nVmFlags: rd wrx", false).n, 1);
	assert_int_equal(smaps_of(AREA "\nVmFlags: rd ?? ?? \n", true).n, 2);
}

static void test_unknown_areas_and_counters_are_reported(void **state)
{
	struct reports r;

	(void)state;
	assert_int_equal(smaps_of(AREA "\n", false).n, 0);
	assert_int_equal(smaps_of(AREA "                [heap]\n", false).n, 0);
	assert_int_equal(smaps_of(AREA "                [anon:jit code]\n", false).n, 0);
	assert_int_equal(smaps_of(AREA "                /a/file [odd]\n", false).n, 0);
	assert_int_equal(smaps_of(AREA "                [anon_shmem:pool]\n", false).n, 1);
	r = smaps_of(AREA "                [vquantum]\n", false);
	assert_int_equal(r.n, 1);
	assert_string_equal(r.object, "memory 7f0000000000-7f0000001000 [vquantum]");
	assert_int_equal(smaps_of(AREA "       [vvar_quantum]\n", false).n, 1);
	assert_int_equal(smaps_of(AREA "       [anon:]x\n" AREA "\n", false).n, 0);
	/* A counter that is not known matters only where it counts something. */
	assert_int_equal(smaps_of(AREA "\nEntangled:      0 kB\n", false).n, 0);
	assert_int_equal(smaps_of(AREA "\nEntangled:      4 kB\n", false).n, 1);
	assert_int_equal(smaps_of(AREA "\nEntangled: yes\n", false).n, 1);
	assert_int_equal(smaps_of(AREA "\nProtectionKey:         0\n", false).n, 0);
	assert_int_equal(smaps_of(AREA "\nProtectionKey:         2\n", false).n, 1);
}

static void test_unknown_fdinfo_is_reported(void **state)
{
	static const char *const types[] = { "file",	 "eventfd", "epoll", "timerfd", "inotify",
					     "signalfd", "pidfd",   "unix",  "tcp",	"pipe" };
	static const char common[] = "pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1044\n"
				     "lock:\t1: FLOCK  ADVISORY  WRITE 7 fe:00:12 0 EOF\n";

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		CLEANUP_FREE char *text = str_format("%sspin:\tup\n", common);

		assert_int_equal(fdinfo_of(types[i], common).n, 0);
		assert_int_equal(fdinfo_of(types[i], text).n, 1);
	}
	/* What one kind has, another has not. */
	assert_int_equal(fdinfo_of("eventfd", "eventfd-count: 3\neventfd-id: 1\n").n, 0);
	assert_int_equal(fdinfo_of("timerfd", "eventfd-count: 3\n").n, 1);
	assert_int_equal(fdinfo_of("timerfd", "settime flags: 00\nit_value: (0, 0)\n").n, 0);
	/* Keys within a line. */
	assert_int_equal(fdinfo_of("epoll",
				   "tfd:        7 events:       1f data:                7  "
				   "pos:0 ino:27b1a3 sdev:9\n")
				 .n,
			 0);
	assert_int_equal(fdinfo_of("epoll", "tfd:        7 events:       1f data:  7  pos:0 "
					    "ino:27 sdev:9 spin:1\n")
				 .n,
			 1);
	assert_int_equal(fdinfo_of("inotify", "inotify wd:1 ino:3c51a sdev:fe00000 mask:2 "
					      "ignored_mask:0 fhandle-bytes:8 fhandle-type:1 "
					      "f_handle:1ac5030000000000\n")
				 .n,
			 0);
	assert_int_equal(fdinfo_of("inotify", "inotify wd:1 ino:3c51a colour:1\n").n, 1);
}

static void test_file_systems_and_namespaces(void **state)
{
	(void)state;
	assert_true(known_fs(0xef53) && known_fs(0x58465342) && known_fs(0x794c7630));
	/* secretmem, bpf, debugfs, nsfs, pidfs, anon_inode, one that does not exist */
	assert_false(known_fs(0x5345434d) || known_fs(0xcafe4a11) || known_fs(0x64626720) ||
		     known_fs(0x6e736673) || known_fs(0x50494446) || known_fs(0x09041934) ||
		     known_fs(0x12345678));
	assert_true(known_namespace("net") && known_namespace("time_for_children"));
	assert_false(known_namespace("syslog") || known_namespace("ne") || known_namespace(""));
}

static void test_fields_of_stat(void **state)
{
	char out[32];
	const char *text = "7 (a) b (c) S 1 7 7 0 -1 4194304 101";

	(void)state;
	assert_true(known_stat_field(text, 3, out, sizeof(out)));
	assert_string_equal(out, "S");
	assert_true(known_stat_field(text, 4, out, sizeof(out)));
	assert_string_equal(out, "1");
	assert_true(known_stat_field(text, 10, out, sizeof(out)));
	assert_string_equal(out, "101");
	assert_false(known_stat_field(text, 11, out, sizeof(out)));
	assert_false(known_stat_field(text, 2, out, sizeof(out)));
	assert_false(known_stat_field(text, 9, out, 4));
	assert_false(known_stat_field("7 (a", 3, out, sizeof(out)));
	assert_false(known_stat_field("", 3, out, sizeof(out)));
}

/* The exit status of a zombie is a field by number, not the last: kernels append fields. */
static void test_a_longer_stat_keeps_its_fields(void **state)
{
	CLEANUP_FREE char *stat = own("stat");
	char before[32], after[32];
	CLEANUP_FREE char *longer = NULL;

	(void)state;
	stat[strcspn(stat, "\n")] = '\0';
	longer = str_format("%s 77 88\n", stat);
	for (int n = 3; n <= 52; n++) {
		assert_true(known_stat_field(stat, n, before, sizeof(before)));
		assert_true(known_stat_field(longer, n, after, sizeof(after)));
		assert_string_equal(before, after);
	}
}

static void test_areas_of_a_newer_kernel_are_still_read(void **state)
{
	char text[] = "1000-3000 rw-p 00002000 fe:00 77                     /usr/bin/cat\n"
		      "Size:                  8 kB\n"
		      "Entangled:             8 kB\n"
		      "VmFlags: rd wr qq lo \n"
		      "7fff0000-7fff1000 r--p 00000000 00:00 0                      [vquantum]\n"
		      "VmFlags: rd\n";
	struct task *t = task_new(0);
	struct vmas l = { 0 };

	(void)state;
	assert_int_equal(task_parse_vmas(t, text, false, &l), 0);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.v[0].end, 0x3000);
	assert_int_equal(l.v[0].pgoff, 0x2000);
	assert_int_equal(l.v[0].advice, ADVICE_LOCKED);
	assert_string_equal(l.v[1].path, "[vquantum]");
	vmas_free(&l);
	task_free(t);
}

static void test_another_vdso_is_refused(void **state)
{
	Ck__Hello m = CK__HELLO__INIT;
	struct error err = { 0 };

	(void)state;
	assert_true(vdso_hash() != 0);
	assert_int_equal(vdso_check(&m, "here", &err), 0); /* an older ferry says nothing */
	m.has_vdso_hash = 1;
	m.vdso_hash = vdso_hash();
	assert_int_equal(vdso_check(&m, "here", &err), 0);
	m.vdso_hash ^= 1;
	m.kernel = (char *)(uintptr_t) "there";
	assert_int_equal(vdso_check(&m, "here", &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "this kernel (here)"));
	assert_non_null(strstr(err.msg, "source's (there)"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_running_kernel_is_known),
		cmocka_unit_test(test_a_new_status_field_is_reported_wherever_it_stands),
		cmocka_unit_test(test_values_that_do_not_travel_are_reported),
		cmocka_unit_test(test_every_flag_but_the_known_is_reported),
		cmocka_unit_test(test_unknown_areas_and_counters_are_reported),
		cmocka_unit_test(test_unknown_fdinfo_is_reported),
		cmocka_unit_test(test_file_systems_and_namespaces),
		cmocka_unit_test(test_fields_of_stat),
		cmocka_unit_test(test_a_longer_stat_keeps_its_fields),
		cmocka_unit_test(test_areas_of_a_newer_kernel_are_still_read),
		cmocka_unit_test(test_another_vdso_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
