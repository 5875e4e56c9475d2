/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seccomp filter of a container that asks for nothing else: an allow list, equal in
 * effect to Docker's default profile (docs.docker.com/engine/security/seccomp), built for
 * the capabilities the container has.
 */
#include <sys/utsname.h>
#include <string.h>

#include "base/json.h"
#include "runtime/container/bundle.h"

/* Allowed to everybody. */
static const char *const allowed[] = {
	"_llseek", "_newselect", "accept", "accept4", "access", "adjtimex", "alarm",
	"arch_prctl", "bind", "brk", "cachestat", "capget", "capset", "chdir", "chmod",
	"chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres",
	"clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
	"clock_nanosleep_time64", "close", "close_range", "connect", "copy_file_range",
	"creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl",
	"epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old",
	"eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat",
	"faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir",
	"fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl",
	"fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr",
	"fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync",
	"ftruncate", "ftruncate64", "futex", "futex_requeue", "futex_time64", "futex_wait",
	"futex_waitv", "futex_wake", "futimesat", "get_robust_list", "get_thread_area",
	"getcpu", "getcwd", "getdents", "getdents64", "getegid", "getegid32", "geteuid",
	"geteuid32", "getgid", "getgid32", "getgroups", "getgroups32", "getitimer",
	"getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
	"getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "getrusage",
	"getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getuid32",
	"getxattr", "getxattrat", "inotify_add_watch", "inotify_init", "inotify_init1",
	"inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
	"io_pgetevents_time64", "io_setup", "io_submit", "ioctl", "ioprio_get", "ioprio_set",
	"ipc", "kill", "landlock_add_rule", "landlock_create_ruleset",
	"landlock_restrict_self", "lchown", "lchown32", "lgetxattr", "link", "linkat",
	"listen", "listmount", "listxattr", "listxattrat", "llistxattr", "lremovexattr",
	"lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier",
	"memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat",
	"mlock", "mlock2", "mlockall", "mmap", "mmap2", "modify_ldt", "mprotect",
	"mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
	"mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl",
	"msgget", "msgrcv", "msgsnd", "msync", "munlock", "munlockall", "munmap",
	"name_to_handle_at", "nanosleep", "newfstatat", "open", "openat", "openat2", "pause",
	"pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free",
	"pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64", "preadv",
	"preadv2", "prlimit64", "process_mrelease", "process_vm_readv", "process_vm_writev",
	"pselect6", "pselect6_time64", "ptrace", "pwrite64", "pwritev", "pwritev2", "read",
	"readahead", "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg",
	"recvmmsg_time64", "recvmsg", "remap_file_pages", "removexattr", "removexattrat",
	"rename", "renameat", "renameat2", "restart_syscall", "riscv_hwprobe", "rmdir", "rseq",
	"rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn",
	"rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo",
	"sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
	"sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
	"sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
	"sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget", "semop",
	"semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg",
	"sendmsg", "sendto", "set_robust_list", "set_thread_area", "set_tid_address",
	"setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
	"setgroups32", "setitimer", "setpgid", "setpriority", "setregid", "setregid32",
	"setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32",
	"setrlimit", "setsid", "setsockopt", "setuid", "setuid32", "setxattr", "setxattrat",
	"shmat", "shmctl", "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd",
	"signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair", "splice", "stat",
	"stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat", "sync",
	"sync_file_range", "syncfs", "sysinfo", "tee", "tgkill", "time", "timer_create",
	"timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64",
	"timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime",
	"timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times", "tkill",
	"truncate", "truncate64", "ugetrlimit", "umask", "uname", "unlink", "unlinkat",
	"uretprobe", "utime", "utimensat", "utimensat_time64", "utimes", "vfork", "vmsplice",
	"wait4", "waitid", "waitpid", "write", "writev",
};

/* Allowed to those who hold the capability. */
static const struct {
	const char *cap, *name;
} by_cap[] = {
	{ "CAP_DAC_READ_SEARCH", "open_by_handle_at" }, { "CAP_SYS_ADMIN", "bpf" },
	{ "CAP_SYS_ADMIN", "clone" }, { "CAP_SYS_ADMIN", "clone3" },
	{ "CAP_SYS_ADMIN", "fanotify_init" }, { "CAP_SYS_ADMIN", "fsconfig" },
	{ "CAP_SYS_ADMIN", "fsmount" }, { "CAP_SYS_ADMIN", "fsopen" },
	{ "CAP_SYS_ADMIN", "fspick" }, { "CAP_SYS_ADMIN", "lookup_dcookie" },
	{ "CAP_SYS_ADMIN", "lsm_get_self_attr" }, { "CAP_SYS_ADMIN", "lsm_list_modules" },
	{ "CAP_SYS_ADMIN", "lsm_set_self_attr" }, { "CAP_SYS_ADMIN", "mount" },
	{ "CAP_SYS_ADMIN", "mount_setattr" }, { "CAP_SYS_ADMIN", "move_mount" },
	{ "CAP_SYS_ADMIN", "open_tree" }, { "CAP_SYS_ADMIN", "perf_event_open" },
	{ "CAP_SYS_ADMIN", "quotactl" }, { "CAP_SYS_ADMIN", "quotactl_fd" },
	{ "CAP_SYS_ADMIN", "setdomainname" }, { "CAP_SYS_ADMIN", "sethostname" },
	{ "CAP_SYS_ADMIN", "setns" }, { "CAP_SYS_ADMIN", "syslog" },
	{ "CAP_SYS_ADMIN", "umount" }, { "CAP_SYS_ADMIN", "umount2" },
	{ "CAP_SYS_ADMIN", "unshare" }, { "CAP_SYS_BOOT", "reboot" },
	{ "CAP_SYS_CHROOT", "chroot" }, { "CAP_SYS_MODULE", "delete_module" },
	{ "CAP_SYS_MODULE", "init_module" }, { "CAP_SYS_MODULE", "finit_module" },
	{ "CAP_SYS_PACCT", "acct" }, { "CAP_SYS_PTRACE", "kcmp" },
	{ "CAP_SYS_PTRACE", "pidfd_getfd" }, { "CAP_SYS_PTRACE", "process_madvise" },
	{ "CAP_SYS_PTRACE", "process_vm_readv" }, { "CAP_SYS_PTRACE", "process_vm_writev" },
	{ "CAP_SYS_PTRACE", "ptrace" }, { "CAP_SYS_RAWIO", "iopl" },
	{ "CAP_SYS_RAWIO", "ioperm" }, { "CAP_SYS_TIME", "settimeofday" },
	{ "CAP_SYS_TIME", "stime" }, { "CAP_SYS_TIME", "clock_settime" },
	{ "CAP_SYS_TIME", "clock_settime64" }, { "CAP_SYS_TTY_CONFIG", "vhangup" },
	{ "CAP_SYS_NICE", "get_mempolicy" }, { "CAP_SYS_NICE", "mbind" },
	{ "CAP_SYS_NICE", "set_mempolicy" }, { "CAP_SYS_NICE", "set_mempolicy_home_node" },
	{ "CAP_SYSLOG", "syslog" }, { "CAP_BPF", "bpf" }, { "CAP_PERFMON", "perf_event_open" },
};

static json_t *rule(const char *action, const char *name)
{
	return json_pack("{s:[s],s:s}", "names", name, "action", action);
}

static void with_arg(json_t *list, const char *name, int index, json_int_t value, const char *op)
{
	json_array_append_new(list,
			      json_pack("{s:[s],s:s,s:[{s:i,s:I,s:s}]}", "names", name, "action",
					"SCMP_ACT_ALLOW", "args", "index", index, "value", value,
					"op", op));
}

static bool has(const json_t *caps, const char *name)
{
	json_t *v;
	size_t i;

	json_array_foreach(caps, i, v)
		if (!strcmp(json_string_value(v), name))
			return true;
	return false;
}

json_t *seccomp_default(const json_t *caps)
{
	/* personality(2): Linux, its 32-bit form, both without VDSO randomisation; "ask". */
	static const json_int_t personalities[] = { 0, 8, 0x20000, 0x20008, 0xffffffff };
	json_t *p = json_object(), *list = json_array(), *names = json_array(), *arches;
	struct utsname u;

	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		json_array_append_new(names, json_string(allowed[i]));
	for (size_t i = 0; i < sizeof(by_cap) / sizeof(by_cap[0]); i++)
		if (has(caps, by_cap[i].cap))
			json_array_append_new(names, json_string(by_cap[i].name));
	json_array_append_new(list, json_pack("{s:o,s:s}", "names", names, "action",
					      "SCMP_ACT_ALLOW"));
	/* Address families: not AF_ALG (38), whose holes are many, nor AF_VSOCK (40). */
	with_arg(list, "socket", 0, 38, "SCMP_CMP_LT");
	with_arg(list, "socket", 0, 39, "SCMP_CMP_EQ");
	with_arg(list, "socket", 0, 40, "SCMP_CMP_GT");
	for (size_t i = 0; i < sizeof(personalities) / sizeof(personalities[0]); i++)
		with_arg(list, "personality", 0, personalities[i], "SCMP_CMP_EQ");
	if (!has(caps, "CAP_SYS_ADMIN")) {
		json_t *enosys = rule("SCMP_ACT_ERRNO", "clone3");

		/* clone without any CLONE_NEW* flag; clone3's flags cannot be seen by a filter,
		 * and ENOSYS makes libc fall back to clone. */
		json_array_append_new(list,
				      json_pack("{s:[s],s:s,s:[{s:i,s:I,s:i,s:s}]}", "names",
						"clone", "action", "SCMP_ACT_ALLOW", "args", "index",
						0, "value", (json_int_t)0x7e020000, "valueTwo", 0,
						"op", "SCMP_CMP_MASKED_EQ"));
		json_set_int(enosys, "errnoRet", 38);
		json_array_append_new(list, enosys);
	}
	uname(&u);
	if (!strcmp(u.machine, "x86_64"))
		arches = json_pack("[s,s,s]", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32");
	else if (!strcmp(u.machine, "aarch64"))
		arches = json_pack("[s,s]", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM");
	else
		arches = json_array();
	json_set_str(p, "defaultAction", "SCMP_ACT_ERRNO");
	json_set_int(p, "defaultErrnoRet", 1);
	json_object_set_new(p, "architectures", arches);
	json_object_set_new(p, "syscalls", list);
	return p;
}
