/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the readers of what the kernel tells in /proc. The first byte of the input
 * picks the file that the rest is taken for: s(maps), m(aps), t (status), f(dinfo), p (stat).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/known.h"
#include "runtime/checkpoint/obj_common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void reported(void *ctx, const char *object, const char *why, const char *remedy)
{
	(void)ctx;
	/* Each report says something, and fits into an obstacle. */
	if (!object || !*why || !*remedy || strlen(object) > 250)
		abort();
}

static void areas(char *text, bool quick)
{
	struct task *t = task_new(0);
	struct vmas l = { 0 };

	t->syscall_ip = 1; /* no vdso is looked into */
	known_smaps(text, false, reported, NULL);
	known_smaps(text, true, reported, NULL);
	if (task_parse_vmas(t, text, quick, &l) == 0)
		for (size_t i = 0; i < l.n; i++)
			vmas_find(&l, l.v[i].start);
	vmas_free(&l);
	task_free(t);
}

static void status(const char *text)
{
	static const char *const keys[] = { "NSpid", "State", "Uid", "Seccomp", "SigCgt" };
	char out[16];

	known_status(text, reported, NULL);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (status_field(text, keys[i], out, sizeof(out)) && strlen(out) >= sizeof(out))
			abort();
}

static void fdinfo(const char *text)
{
	static const char *const types[] = { "file",	"eventfd",  "epoll", "timerfd",
					     "inotify", "signalfd", "pidfd", "tcp" };
	uint64_t n;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		known_fdinfo(types[i], text, reported, NULL);
	fdinfo_u64(text, "eventfd-count", 16, &n);
	fdinfo_u64(text, "sigmask", 16, &n);
	if (fdinfo_value(text, "pos") && !strstr(text, "pos:"))
		abort();
}

static void stat_line(const char *text)
{
	char out[24];

	for (int n = 0; n < 60; n++)
		if (known_stat_field(text, n, out, sizeof(out)) &&
		    (!*out || strlen(out) >= sizeof(out) || strpbrk(out, " \n")))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = NULL;

	if (!size)
		return 0;
	text = mem_zalloc(size);
	memcpy(text, data + 1, size - 1);
	switch (data[0]) {
	case 's':
	case 'm':
		areas(text, data[0] == 'm');
		break;
	case 't':
		status(text);
		break;
	case 'f':
		fdinfo(text);
		break;
	case 'p':
		stat_line(text);
		break;
	default:
		break;
	}
	return 0;
}
