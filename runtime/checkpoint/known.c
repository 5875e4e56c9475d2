/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of what is known of Linux up to KNOWN_KERNEL, with the version that brought
 * each name (before 4.0: no version), and the readers that report everything else. Sources:
 * Documentation/filesystems/proc.rst, proc(5), statfs(2), namespaces(7).
 */
#include "runtime/checkpoint/known.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

#define NEWER                                                                                      \
	"ferry does not know it (it knows Linux up to " KNOWN_KERNEL "), so it might be state "    \
	"that would be lost"
#define NEWER_REMEDY "update ferry, or stop and start the container instead (a cold migration)"

struct line {
	const char *key, *value;
	size_t key_len, value_len;
};

/* Takes the next line of the text: "key: value", blanks around the value cut. */
static bool next_line(const char **text, struct line *l)
{
	const char *p = *text, *end, *colon;

	if (!p || !*p)
		return false;
	end = strchr(p, '\n');
	if (!end)
		end = p + strlen(p);
	*text = *end ? end + 1 : end;
	colon = memchr(p, ':', (size_t)(end - p));
	l->key = p;
	l->key_len = (size_t)((colon ? colon : end) - p);
	p = colon ? colon + 1 : end;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	l->value = p;
	l->value_len = (size_t)(end - p);
	return true;
}

static bool is(const char *text, size_t len, const char *name)
{
	return strlen(name) == len && memcmp(text, name, len) == 0;
}

static void report(known_fn *fn, void *ctx, const char *what, const struct line *l, const char *why,
		   const char *remedy)
{
	char object[200];

	snprintf(object, sizeof(object), "%s %.*s%s%.*s", what,
		 (int)(l->key_len < 80 ? l->key_len : 80), l->key, l->value_len ? ": " : "",
		 (int)(l->value_len < 80 ? l->value_len : 80), l->value);
	fn(ctx, object, why, remedy);
}

/* --- /proc/PID/status ------------------------------------------------------------------ */
/* Every field, and the version that brought it. The values of most are carried, or are
 * figures that mean nothing to the program (memory in use, signals queued …). */
static const struct {
	const char *name, *since;
} status_fields[] = {
	{ "Name", "" },
	{ "Umask", "4.7" },
	{ "State", "" },
	{ "Tgid", "" },
	{ "Ngid", "" },
	{ "Pid", "" },
	{ "PPid", "" },
	{ "TracerPid", "" },
	{ "Uid", "" },
	{ "Gid", "" },
	{ "FDSize", "" },
	{ "Groups", "" },
	{ "NStgid", "4.1" },
	{ "NSpid", "4.1" },
	{ "NSpgid", "4.1" },
	{ "NSsid", "4.1" },
	{ "Kthread", "6.10" },
	{ "VmPeak", "" },
	{ "VmSize", "" },
	{ "VmLck", "" },
	{ "VmPin", "" },
	{ "VmHWM", "" },
	{ "VmRSS", "" },
	{ "RssAnon", "4.5" },
	{ "RssFile", "4.5" },
	{ "RssShmem", "4.5" },
	{ "VmData", "" },
	{ "VmStk", "" },
	{ "VmExe", "" },
	{ "VmLib", "" },
	{ "VmPTE", "" },
	{ "VmPMD", "4.0" },
	{ "VmSwap", "" },
	{ "HugetlbPages", "4.4" },
	{ "CoreDumping", "4.15" },
	{ "THP_enabled", "5.0" },
	{ "untag_mask", "6.4" },
	{ "Threads", "" },
	{ "SigQ", "" },
	{ "SigPnd", "" },
	{ "ShdPnd", "" },
	{ "SigBlk", "" },
	{ "SigIgn", "" },
	{ "SigCgt", "" },
	{ "CapInh", "" },
	{ "CapPrm", "" },
	{ "CapEff", "" },
	{ "CapBnd", "" },
	{ "CapAmb", "4.3" },
	{ "NoNewPrivs", "4.10" },
	{ "Seccomp", "" },
	{ "Seccomp_filters", "5.9" },
	{ "Speculation_Store_Bypass", "4.17" },
	{ "SpeculationIndirectBranch", "5.11" },
	{ "x86_Thread_features", "6.6" },
	{ "x86_Thread_features_locked", "6.6" },
	{ "Cpus_allowed", "" },
	{ "Cpus_allowed_list", "" },
	{ "Mems_allowed", "" },
	{ "Mems_allowed_list", "" },
	{ "voluntary_ctxt_switches", "" },
	{ "nonvoluntary_ctxt_switches", "" },
};

/* Those that must have one value. */
static const struct {
	const char *name, *value, *why, *remedy;
} status_rules[] = {
	{ "Kthread", "0", "it is a thread of the kernel's (vhost and the like)",
	  "stop what it works for" },
	{ "CoreDumping", "0", "it is writing a core dump", "wait until that has ended" },
	{ "untag_mask", "0xffffffffffffffff", "it uses tagged addresses (LAM), which do not travel",
	  "run the program without them (GLIBC_TUNABLES, or another build of its sanitizer)" },
	{ "x86_Thread_features", "",
	  "the processor's control flow protection is on (shadow stack), which does not travel",
	  "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off" },
};

static bool status_field_known(const struct line *l)
{
	for (size_t i = 0; i < LEN(status_fields); i++)
		if (is(l->key, l->key_len, status_fields[i].name))
			return true;
	return false;
}

void known_status(const char *status, known_fn *fn, void *ctx)
{
	struct line l;

	while (next_line(&status, &l)) {
		if (!status_field_known(&l)) {
			report(fn, ctx, "process state", &l, NEWER, NEWER_REMEDY);
			continue;
		}
		for (size_t i = 0; i < LEN(status_rules); i++)
			if (is(l.key, l.key_len, status_rules[i].name) &&
			    !is(l.value, l.value_len, status_rules[i].value))
				report(fn, ctx, "process state", &l, status_rules[i].why,
				       status_rules[i].remedy);
		if (is(l.key, l.key_len, "Seccomp") &&
		    (l.value_len != 1 || !strchr("012", l.value[0])))
			report(fn, ctx, "process state", &l, NEWER, NEWER_REMEDY);
		if (is(l.key, l.key_len, "State") &&
		    (!l.value_len || !strchr("RSDTtZXIPWK", l.value[0])))
			report(fn, ctx, "process state", &l, NEWER, NEWER_REMEDY);
	}
}

/* --- /proc/PID/smaps ------------------------------------------------------------------- */
/* Flags that have no `why` are carried, or are a consequence of what is, or are judged by
 * check_vma() in preflight.c. */
static const struct {
	char name[3];
	const char *since, *why, *remedy;
} vm_flags[] = {
	{ "rd", "", NULL, NULL },
	{ "wr", "", NULL, NULL },
	{ "ex", "", NULL, NULL },
	{ "sh", "", NULL, NULL },
	{ "mr", "", NULL, NULL },
	{ "mw", "", NULL, NULL },
	{ "me", "", NULL, NULL },
	{ "ms", "", NULL, NULL },
	{ "gd", "", NULL, NULL },
	{ "pf", "", NULL, NULL },
	{ "dw", "", NULL, NULL }, /* until 5.15 */
	{ "lo", "", NULL, NULL },
	{ "io", "", NULL, NULL },
	{ "sr", "", NULL, NULL },
	{ "rr", "", NULL, NULL },
	{ "dc", "", NULL, NULL },
	{ "de", "", NULL, NULL },
	{ "lf", "4.4", NULL, NULL },
	{ "ac", "", NULL, NULL },
	{ "nr", "", NULL, NULL },
	{ "ht", "", NULL, NULL },
	{ "sf", "4.15", "it maps persistent memory of this host (MAP_SYNC)",
	  "keep the file on a volume" },
	{ "ar", "", "it has memory types of its own (a device's memory)",
	  "stop the program that uses the device" },
	{ "wf", "4.14", NULL, NULL },
	{ "dd", "", NULL, NULL },
	{ "sd", "", NULL, NULL },
	{ "mm", "", "it maps memory of a device", "stop the program that uses the device" },
	{ "hg", "", NULL, NULL },
	{ "nh", "", NULL, NULL },
	{ "mg", "", NULL, NULL },
	{ "um", "4.3", NULL, NULL },
	{ "uw", "5.7", "the program itself uses userfaultfd on it (write protection)",
	  "configure the program not to use userfaultfd" },
	{ "ui", "5.13", "the program itself uses userfaultfd on it (minor faults)",
	  "configure the program not to use userfaultfd" },
	{ "ss", "6.6", NULL, NULL },
	{ "dp", "6.11", NULL, NULL },
	{ "sl", "6.12", NULL, NULL },
	{ "gu", "6.19", NULL, NULL }, /* may hold guard pages */
};

/* Figures about an area. What is not here is an obstacle where it is not zero. */
static const char *const smaps_keys[] = {
	"Size",		  "KernelPageSize",  "MMUPageSize", "Rss",	    "Pss",
	"Pss_Dirty", /* 6.0 */
	"Pss_Anon",	  "Pss_File",	     "Pss_Shmem",   "Shared_Clean", "Shared_Dirty",
	"Private_Clean",  "Private_Dirty",   "Referenced",  "Anonymous",    "KSM", /* 6.6 */
	"LazyFree",								   /* 4.12 */
	"AnonHugePages",  "ShmemPmdMapped",					   /* 4.8 */
	"ShmemHugePages", "FilePmdMapped",					   /* 5.4 */
	"Shared_Hugetlb", "Private_Hugetlb", "Swap",	    "SwapPss",	    "Locked",
	"THPeligible", /* 5.0 */
};

/* Names in brackets. "[anon:…]" is a name that a program gave; "[anon_shmem:…]" stands where the
 * name of the shared memory object would be, which then cannot be found. */
static const char *const area_names[] = {
	"[heap]",     "[stack]",   "[vdso]", "[vvar]", "[vvar_vclock]", /* 6.13 */
	"[vsyscall]", "[uprobes]", /* known, and refused by preflight.c */
};

static bool area_name_known(const char *name, size_t len)
{
	if (name[0] != '[')
		return true; /* a path, or one of the kinds of check_vma() */
	for (size_t i = 0; i < LEN(area_names); i++)
		if (is(name, len, area_names[i]))
			return true;
	return (len > 7 && memcmp(name, "[anon:", 6) == 0) ||
	       /* kernels before 4.5 */
	       (len > 8 && memcmp(name, "[stack:", 7) == 0);
}

/* "start-end perms offset major:minor inode    name" */
static void area_head(const char *p, const char *end, char *range, size_t cap, known_fn *fn,
		      void *ctx)
{
	size_t n = strcspn(p, " \n");
	char object[200];
	bool named;

	snprintf(range, cap, "%.*s", (int)(n < cap ? n : cap - 1), p);
	for (int i = 0; i < 5 && p < end; i++) {
		while (p < end && *p != ' ')
			p++;
		while (p < end && *p == ' ')
			p++;
	}
	if (p == end || area_name_known(p, (size_t)(end - p)))
		return;
	named = end - p > 12 && memcmp(p, "[anon_shmem:", 12) == 0;
	snprintf(object, sizeof(object), "memory %s %.*s", range,
		 (int)(end - p < 80 ? end - p : 80), p);
	if (named)
		fn(ctx, object, "shared memory with a name (PR_SET_VMA_ANON_NAME) does not travel",
		   "let the program name private memory only");
	else
		fn(ctx, object, NEWER, NEWER_REMEDY);
}

static void area_flags(const struct line *l, bool watched, const char *range, known_fn *fn,
		       void *ctx)
{
	bool missing = false;

	for (size_t at = 0; at < l->value_len;) {
		const char *p = l->value + at;
		size_t n = 0, i;
		char object[100];

		while (at + n < l->value_len && p[n] != ' ')
			n++;
		at += n + 1;
		if (!n)
			continue;
		for (i = 0; i < LEN(vm_flags); i++)
			if (is(p, n, vm_flags[i].name))
				break;
		snprintf(object, sizeof(object), "memory %s with flag \"%.*s\"", range,
			 (int)(n < 8 ? n : 8), p);
		missing |= is(p, n, "um");
		if (i == LEN(vm_flags))
			fn(ctx, object, NEWER, NEWER_REMEDY);
		else if (vm_flags[i].why && !(p[0] == 'u' && (watched || missing)))
			fn(ctx, object, vm_flags[i].why, vm_flags[i].remedy);
	}
}

void known_smaps(const char *smaps, bool watched, known_fn *fn, void *ctx)
{
	char range[60] = "", object[120];
	struct line l;
	size_t i;

	for (const char *p = smaps; next_line(&smaps, &l); p = smaps) {
		if ((p[0] >= '0' && p[0] <= '9') || (p[0] >= 'a' && p[0] <= 'f')) {
			area_head(p, p + strcspn(p, "\n"), range, sizeof(range), fn, ctx);
			continue;
		}
		snprintf(object, sizeof(object), "memory %s,", range);
		if (is(l.key, l.key_len, "VmFlags")) {
			area_flags(&l, watched, range, fn, ctx);
			continue;
		}
		if (is(l.key, l.key_len, "ProtectionKey")) {
			if (!is(l.value, l.value_len, "0"))
				report(fn, ctx, object, &l, "protection keys do not travel",
				       "run the program without pkey_mprotect");
			continue;
		}
		for (i = 0; i < LEN(smaps_keys); i++)
			if (is(l.key, l.key_len, smaps_keys[i]))
				break;
		if (i == LEN(smaps_keys) && !is(l.value, l.value_len, "0 kB") &&
		    !is(l.value, l.value_len, "0"))
			report(fn, ctx, object, &l, NEWER, NEWER_REMEDY);
	}
}

/* --- /proc/PID/fdinfo ------------------------------------------------------------------ */
/* What the kernel tells about a kind of descriptor, and ferry carries or need not: keys are
 * separated by commas. Lines that hold several ("tfd: 7 events: 1f …") give each. */
static const struct {
	const char *type, *keys;
} fdinfo_keys[] = {
	{ "", "pos,flags,mnt_id,ino,lock" },			     /* all; ino: 5.14 */
	{ "eventfd", "eventfd-count,eventfd-id,eventfd-semaphore" }, /* 5.2, 6.5 */
	{ "signalfd", "sigmask" },
	{ "timerfd", "clockid,ticks,settime flags,it_value,it_interval" },
	{ "epoll", "tfd,events,data,pos,ino,sdev" },
	{ "inotify", "inotify wd,ino,sdev,mask,ignored_mask,fhandle-bytes,fhandle-type,f_handle" },
	{ "pidfd", "Pid,NSpid" }, /* 5.2, 5.5 */
	{ "tty", "tty-index" },	  /* 5.0 */
	{ "unix", "scm_fds" },	  /* 5.5 */
	{ "mqueue", "QSIZE,NOTIFY" },
};

static bool key_in(const char *keys, const char *key, size_t len)
{
	for (const char *p = keys; *p;) {
		size_t n = strcspn(p, ",");

		if (n == len && memcmp(p, key, n) == 0)
			return true;
		p += n + (p[n] == ',');
	}
	return false;
}

static bool fdinfo_key_known(const char *type, const char *key, size_t len)
{
	for (size_t i = 0; i < LEN(fdinfo_keys); i++)
		if ((!*fdinfo_keys[i].type || strcmp(type, fdinfo_keys[i].type) == 0) &&
		    key_in(fdinfo_keys[i].keys, key, len))
			return true;
	return false;
}

static bool is_key_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}

/* Further keys in the value of a line: words that end with a colon. */
static void inner_keys(const char *type, const struct line *l, known_fn *fn, void *ctx)
{
	for (size_t i = 0, start = 0; i < l->value_len; i++) {
		struct line inner = { l->value + start, "", i - start, 0 };

		if (l->value[i] == ':' && i > start &&
		    !fdinfo_key_known(type, inner.key, inner.key_len))
			report(fn, ctx, type, &inner, NEWER, NEWER_REMEDY);
		if (!is_key_char(l->value[i]))
			start = i + 1;
	}
}

void known_fdinfo(const char *type, const char *fdinfo, known_fn *fn, void *ctx)
{
	struct line l;

	while (next_line(&fdinfo, &l)) {
		if (!l.key_len && !l.value_len)
			continue;
		if (!fdinfo_key_known(type, l.key, l.key_len))
			report(fn, ctx, type, &l, NEWER, NEWER_REMEDY);
		else if (is(l.key, l.key_len, "tfd") || is(l.key, l.key_len, "inotify wd"))
			inner_keys(type, &l, fn, ctx);
	}
}

/* --- file systems, namespaces -------------------------------------------------------------- */
/* statfs(2). Not here: file systems of the kernel's that hold objects and no files. */
static const struct {
	unsigned long magic;
	const char *name;
} file_systems[] = {
	{ 0xef53, "ext2, ext3, ext4" },
	{ 0x58465342, "xfs" },
	{ 0x9123683e, "btrfs" },
	{ 0x794c7630, "overlay" },
	{ 0x01021994, "tmpfs" },
	{ 0x858458f6, "ramfs" },
	{ 0x65735546, "fuse" },
	{ 0x6969, "nfs" },
	{ 0x00c36400, "ceph" },
	{ 0x01021997, "9p" },
	{ 0xfe534d42, "smb2" },
	{ 0xff534d42, "cifs" },
	{ 0x73717368, "squashfs" },
	{ 0xe0f5e1e2, "erofs" },
	{ 0x9660, "isofs" },
	{ 0x15013346, "udf" },
	{ 0x4d44, "vfat" },
	{ 0x2011bab0, "exfat" },
	{ 0xf2f52010, "f2fs" },
	{ 0x3153464a, "jfs" },
	{ 0x3434, "nilfs" },
	{ 0x2fc12fc1, "zfs" },
	{ 0xca451a4e, "bcachefs" },
	{ 0x7366746e, "ntfs3" },
	{ 0x9fa0, "proc" },
	{ 0x62656572, "sysfs" },
	{ 0x27e0eb, "cgroup" },
	{ 0x63677270, "cgroup2" },
	{ 0x1cd1, "devpts" },
};

bool known_fs(unsigned long magic)
{
	for (size_t i = 0; i < LEN(file_systems); i++)
		if (file_systems[i].magic == magic)
			return true;
	return false;
}

bool known_namespace(const char *name)
{
	static const char *const names[] = {
		"cgroup", "ipc",
		"mnt",	  "net",
		"pid",	  "pid_for_children",
		"time",	  "time_for_children",
		"user",	  "uts",
	};

	for (size_t i = 0; i < LEN(names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* --- /proc/PID/stat ------------------------------------------------------------------------ */
bool known_stat_field(const char *stat, int n, char *out, size_t len)
{
	const char *p = strrchr(stat, ')');
	size_t k;

	if (!p || n < 3)
		return false;
	for (p++; n > 2; n--) {
		p += strcspn(p, " \n");
		if (*p != ' ')
			return false;
		p++;
	}
	k = strcspn(p, " \n");
	if (!k || k >= len)
		return false;
	memcpy(out, p, k);
	out[k] = '\0';
	return true;
}
