/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.seccomp to a BPF program, by libseccomp. Compiled in the parent while init builds
 * the mounts, handed over in a memfd, and loaded by init with one system call.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "runtime/oci/launch.h"

/*
 * System calls newer than libseccomp 2.5.4 (Debian 12), which have one number on all
 * architectures (since 5.1, Documentation/process/adding-syscalls.rst). libseccomp cannot
 * hold a number without a name in a filter for several architectures, so these are decided
 * by a few instructions in front of its program. Can go with libseccomp 2.6.
 */
static const struct {
	const char *name;
	int nr;
} newer[] = {
	{ "cachestat", 451 },	      { "fchmodat2", 452 },	   { "map_shadow_stack", 453 },
	{ "futex_wake", 454 },	      { "futex_wait", 455 },	   { "futex_requeue", 456 },
	{ "statmount", 457 },	      { "listmount", 458 },	   { "lsm_get_self_attr", 459 },
	{ "lsm_set_self_attr", 460 }, { "lsm_list_modules", 461 }, { "mseal", 462 },
	{ "setxattrat", 463 },	      { "getxattrat", 464 },	   { "listxattrat", 465 },
	{ "removexattrat", 466 },     { "open_tree_attr", 467 },
};

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#define NATIVE_ARCH 0 /* matches nothing: the default action holds */
#endif

#define NEWER (sizeof(newer) / sizeof(newer[0]))

/* What is decided in front: an action a system call, 0xffffffff for "not here". */
struct front {
	uint32_t action[NEWER];
};

static bool add_newer(struct front *f, const char *name, uint32_t act)
{
	for (size_t i = 0; i < NEWER; i++)
		if (!strcmp(newer[i].name, name)) {
			f->action[i] = act;
			return true;
		}
	return false;
}

/* Puts the front before the program in fd: jumps of classic BPF are relative. */
static int prepend(int fd, const struct front *f, struct error *err)
{
	struct sock_filter head[2 + 2 * NEWER + 1];
	CLEANUP_BUF struct buf body = { 0 };
	unsigned char n = 0;
	char chunk[4096];
	ssize_t got;
	size_t count = 0;

	for (size_t i = 0; i < NEWER; i++)
		count += f->action[i] != UINT32_MAX;
	if (!count)
		return 0;
	head[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, arch));
	head[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 0,
						 (unsigned char)(2 * count + 1));
	head[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < NEWER; i++) {
		if (f->action[i] == UINT32_MAX)
			continue;
		head[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							 (uint32_t)newer[i].nr, 0, 1);
		head[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, f->action[i]);
	}
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_sys(err, errno, "seccomp: reading the filter back");
	while ((got = read(fd, chunk, sizeof(chunk))) > 0)
		buf_add(&body, chunk, (size_t)got);
	if (got < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
	    fd_write_all(fd, head, n * sizeof(head[0])) < 0 ||
	    fd_write_all(fd, body.data, body.len) < 0)
		return error_sys(err, errno, "seccomp: writing the filter");
	return 0;
}

static int action(const char *name, int64_t errno_ret, uint32_t *out, struct error *err)
{
	if (errno_ret < 0 || errno_ret > 4095)
		return error_set(err, EINVAL, "seccomp: errnoRet %lld is out of range",
				 (long long)errno_ret);
	if (!strcmp(name, "SCMP_ACT_ALLOW"))
		*out = SCMP_ACT_ALLOW;
	else if (!strcmp(name, "SCMP_ACT_ERRNO"))
		*out = SCMP_ACT_ERRNO((uint32_t)errno_ret);
	else if (!strcmp(name, "SCMP_ACT_KILL") || !strcmp(name, "SCMP_ACT_KILL_THREAD"))
		*out = SCMP_ACT_KILL_THREAD;
	else if (!strcmp(name, "SCMP_ACT_KILL_PROCESS"))
		*out = SCMP_ACT_KILL_PROCESS;
	else if (!strcmp(name, "SCMP_ACT_TRAP"))
		*out = SCMP_ACT_TRAP;
	else if (!strcmp(name, "SCMP_ACT_TRACE"))
		*out = SCMP_ACT_TRACE((uint32_t)errno_ret);
	else if (!strcmp(name, "SCMP_ACT_LOG"))
		*out = SCMP_ACT_LOG;
	else if (!strcmp(name, "SCMP_ACT_NOTIFY"))
		return error_set(err, EOPNOTSUPP, "seccomp: SCMP_ACT_NOTIFY is not supported");
	else
		return error_set(err, EINVAL, "seccomp: unknown action \"%s\"", name);
	return 0;
}

static int compare(const char *op, enum scmp_compare *out)
{
	static const struct {
		const char *name;
		enum scmp_compare op;
	} ops[] = { { "SCMP_CMP_NE", SCMP_CMP_NE },
		    { "SCMP_CMP_LT", SCMP_CMP_LT },
		    { "SCMP_CMP_LE", SCMP_CMP_LE },
		    { "SCMP_CMP_EQ", SCMP_CMP_EQ },
		    { "SCMP_CMP_GE", SCMP_CMP_GE },
		    { "SCMP_CMP_GT", SCMP_CMP_GT },
		    { "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ } };

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strcmp(ops[i].name, op)) {
			*out = ops[i].op;
			return 0;
		}
	return -EINVAL;
}

/* Values are uint64 in the specification; those above INT64_MAX come as reals. */
static uint64_t value_of(const json_t *v)
{
	return json_is_real(v) ? (uint64_t)json_real_value(v) : (uint64_t)json_integer_value(v);
}

static int add_rule(scmp_filter_ctx ctx, struct front *front, uint32_t dflt, const json_t *rule,
		    struct error *err)
{
	json_t *names = json_object_get(rule, "names"), *args = json_object_get(rule, "args"), *v;
	struct scmp_arg_cmp cmp[6];
	unsigned n = 0, seen = 0;
	bool repeated = false;
	uint32_t act = 0;
	size_t i, k;
	int r = action(json_str(rule, "action", ""), json_int(rule, "errnoRet", EPERM), &act, err);

	if (r < 0)
		return r;
	if (!json_is_array(names))
		return error_set(err, EINVAL, "seccomp: a rule without names");
	json_array_foreach (args, i, v) {
		int64_t index = json_int(v, "index", -1);

		if (index < 0 || index > 5 || n >= 6 ||
		    compare(json_str(v, "op", ""), &cmp[n].op) < 0)
			return error_set(err, EINVAL, "seccomp: a rule with a wrong argument");
		repeated |= seen >> index & 1;
		seen |= 1u << index;
		cmp[n].arg = (unsigned)index;
		cmp[n].datum_a = value_of(json_object_get(v, "value"));
		cmp[n].datum_b = value_of(json_object_get(v, "valueTwo"));
		n++;
	}
	if (act == dflt)
		return 0; /* libseccomp refuses a rule that says what the default says */
	json_array_foreach (names, i, v) {
		const char *name = json_is_string(v) ? json_string_value(v) : "";
		int nr = seccomp_syscall_resolve_name(name);

		if (nr == __NR_SCMP_ERROR) {
			/* Unknown here too: the default action holds. */
			if (add_newer(front, name, act) && n)
				return error_set(err, EOPNOTSUPP,
						 "seccomp: a rule for %s with arguments is not "
						 "supported",
						 name);
			continue;
		}
		/* Several tests of one argument mean "any of them", as in runc. */
		for (k = 0; k < (repeated ? n : 1); k++) {
			r = repeated ? seccomp_rule_add_array(ctx, act, nr, 1, &cmp[k])
				     : seccomp_rule_add_array(ctx, act, nr, n, cmp);
			if (r < 0 && r != -EEXIST && r != -EDOM)
				return error_sys(err, -r, "seccomp: adding the rule for %s",
						 json_string_value(v));
		}
	}
	return 0;
}

static int add_arches(scmp_filter_ctx ctx, const json_t *arches, struct error *err)
{
	json_t *v;
	size_t i;

	json_array_foreach (arches, i, v) {
		char name[32];
		uint32_t token;
		int r;

		/* SCMP_ARCH_X86_64 → x86_64 */
		if (!json_is_string(v) || !str_starts(json_string_value(v), "SCMP_ARCH_"))
			return error_set(err, EINVAL, "seccomp: wrong architecture");
		snprintf(name, sizeof(name), "%s", json_string_value(v) + 10);
		for (char *p = name; *p; p++)
			*p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
		token = seccomp_arch_resolve_name(name);
		if (!token)
			return error_set(err, EINVAL, "seccomp: unknown architecture \"%s\"",
					 json_string_value(v));
		r = seccomp_arch_add(ctx, token);
		if (r < 0 && r != -EEXIST)
			return error_sys(err, -r, "seccomp: adding architecture %s", name);
	}
	return 0;
}

int seccomp_compile(const json_t *seccomp, int fd, size_t *len, struct error *err)
{
	scmp_filter_ctx ctx;
	struct front front;
	uint32_t dflt = 0;
	json_t *v;
	size_t i;
	off_t size;
	int r = action(json_str(seccomp, "defaultAction", ""),
		       json_int(seccomp, "defaultErrnoRet", EPERM), &dflt, err);

	if (r < 0)
		return r;
	if (json_object_get(seccomp, "listenerPath"))
		return error_set(err, EOPNOTSUPP, "seccomp: listenerPath is not supported");
	memset(&front, 0xff, sizeof(front));
	ctx = seccomp_init(dflt);
	if (!ctx)
		return error_set(err, ENOMEM, "seccomp: no memory");
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0);
	/* A binary tree: a few comparisons per call instead of hundreds. */
	seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	r = add_arches(ctx, json_object_get(seccomp, "architectures"), err);
	if (!r)
		json_array_foreach (json_object_get(seccomp, "syscalls"), i, v) {
			r = add_rule(ctx, &front, dflt, v, err);
			if (r < 0)
				break;
		}
	if (!r && (r = seccomp_export_bpf(ctx, fd)) < 0)
		error_sys(err, -r, "seccomp: compiling the filter");
	seccomp_release(ctx);
	if (!r)
		r = prepend(fd, &front, err);
	if (r < 0)
		return r;
	size = lseek(fd, 0, SEEK_END);
	if (size <= 0 || (size_t)size % sizeof(struct sock_filter) ||
	    (size_t)size / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return error_set(err, E2BIG,
				 "seccomp: the filter compiles to %lld bytes, more than "
				 "the kernel takes",
				 (long long)size);
	*len = (size_t)size;
	return 0;
}

int seccomp_load_fd(int fd, size_t len)
{
	struct sock_fprog prog = { .len = (unsigned short)(len / sizeof(struct sock_filter)) };
	int r = 0;

	prog.filter = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (prog.filter == MAP_FAILED)
		return -errno;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		r = -errno;
	munmap(prog.filter, len);
	return r;
}
