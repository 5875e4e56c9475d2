/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing passes preflight that does not travel. The program makes one of every kind of
 * descriptor, and one socket of every family, type and protocol, that the running kernel
 * can make; each that is not on this file's own list of what travels must be named, with
 * process, descriptor, why and remedy, and all in one answer. What this kernel cannot make
 * is not asked for: the test says how many it made.
 */
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "tests/unit/checkpoint/harness.h"

/* Numbers that Debian 12's headers lack. */
enum {
	NR_OPEN_TREE = 428,
	NR_FSOPEN = 430,
	NR_FSCONFIG = 431,
	NR_FSMOUNT = 432,
	NR_FSPICK = 433,
	NR_LANDLOCK_CREATE_RULESET = 444,
	NR_MEMFD_SECRET = 447,
};

static struct trial trial;
static FILE *list;

static int teardown(void **state)
{
	(void)state;
	if (trial.dir[0])
		trial_clean(&trial);
	memset(&trial, 0, sizeof(trial));
	return 0;
}

/* --- the program ----------------------------------------------------------------------- */
enum fate { TRAVELS, REFUSED, EITHER };

static void made(enum fate fate, int fd, const char *name)
{
	if (fd >= 0)
		fprintf(list, "%d %d %s\n", fd, fate, name);
}

static void begin(struct trial *t)
{
	char path[100];

	snprintf(path, sizeof(path), "%s/made", t->dir);
	list = fopen(path, "we");
}

static int end(struct trial *t)
{
	fclose(list);
	trial_ready(t);
	trial_await(t);
	return 0;
}

static int bpf(int cmd, union bpf_attr *a)
{
	return (int)syscall(SYS_bpf, cmd, a, sizeof(*a));
}

static void make_bpf(void)
{
	struct bpf_insn code[2] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	/* A BTF object with no types and an empty string. */
	struct {
		uint16_t magic;
		uint8_t version, flags;
		uint32_t hdr_len, type_off, type_len, str_off, str_len;
		uint32_t type[4];
		char str[8];
	} btf = { 0xeb9f, 1, 0, 24, 0, 16, 16, 8, { 1, 1 << 24, 4, 32 }, "\0int" };
	union bpf_attr a;
	int prog;

	memset(&a, 0, sizeof(a));
	a.map_type = BPF_MAP_TYPE_ARRAY;
	a.key_size = a.value_size = 4;
	a.max_entries = 1;
	made(REFUSED, bpf(BPF_MAP_CREATE, &a), "BPF map");
	memset(&a, 0, sizeof(a));
	a.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
	a.insns = (uintptr_t)code;
	a.insn_cnt = 2;
	a.license = (uintptr_t) "GPL";
	prog = bpf(BPF_PROG_LOAD, &a);
	made(REFUSED, prog, "BPF program");
	memset(&a, 0, sizeof(a));
	a.raw_tracepoint.name = (uintptr_t) "sched_process_exit";
	a.raw_tracepoint.prog_fd = (uint32_t)prog;
	if (prog >= 0)
		made(REFUSED, bpf(BPF_RAW_TRACEPOINT_OPEN, &a), "BPF link");
	memset(&a, 0, sizeof(a));
	a.btf = (uintptr_t)&btf;
	a.btf_size = sizeof(btf);
	made(REFUSED, bpf(BPF_BTF_LOAD, &a), "BTF object");
}

static int seccomp_listener(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = { 1, &allow };

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1 << 3 /* NEW_LISTENER */, &prog);
}

static void make_processes(void)
{
	pid_t gone = fork(), other;
	int sync[2], fd;
	char path[64], byte;

	if (gone == 0)
		_exit(0);
	fd = (int)syscall(SYS_pidfd_open, gone, 0);
	waitpid(gone, NULL, 0);
	made(TRAVELS, fd, "pidfd of a process that is gone");
	made(TRAVELS, (int)syscall(SYS_pidfd_open, getpid(), O_EXCL), "pidfd of a thread");
	made(TRAVELS, (int)syscall(SYS_pidfd_open, getpid(), 0), "pidfd");
	made(TRAVELS, open("/proc/self/ns/net", O_RDONLY), "the container's network namespace");
	if (pipe(sync) < 0)
		return;
	other = fork();
	if (other == 0) {
		byte = unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS) == 0;
		if (write(sync[1], &byte, 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	if (read(sync[0], &byte, 1) == 1 && byte) {
		static const char *const kinds[] = { "net", "mnt", "uts" };

		for (int i = 0; i < 3; i++) {
			snprintf(path, sizeof(path), "/proc/%d/ns/%s", other, kinds[i]);
			made(REFUSED, open(path, O_RDONLY), "namespace that nobody is in");
		}
	}
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	close(sync[0]);
	close(sync[1]);
}

static void make_mounts(void)
{
	int fd = (int)syscall(NR_FSOPEN, "tmpfs", 0);

	if (fd >= 0 && syscall(NR_FSCONFIG, fd, 6 /* CMD_CREATE */, NULL, NULL, 0) == 0)
		made(REFUSED, (int)syscall(NR_FSMOUNT, fd, 0, 0), "mount that is nowhere");
	made(REFUSED, fd, "file system context");
	made(REFUSED, (int)syscall(NR_FSOPEN, "proc", 0), "file system context, unused");
	made(REFUSED, (int)syscall(NR_FSPICK, AT_FDCWD, "/proc", 0), "picked file system");
	made(REFUSED, (int)syscall(NR_OPEN_TREE, AT_FDCWD, "/proc", 1 /* CLONE */), "cloned mount");
}

static void make_devices(void)
{
	static const char *const refused[] = {
		"/dev/fuse",
		"/dev/net/tun",
		"/dev/loop-control",
		"/dev/loop0",
		"/dev/kmsg",
		"/dev/kvm",
		"/dev/mem",
		"/dev/vhost-net",
		"/dev/vhost-vsock",
		"/dev/vsock",
		"/dev/rtc0",
		"/dev/hpet",
		"/dev/mapper/control",
		"/dev/btrfs-control",
		"/dev/ppp",
		"/dev/uinput",
		"/dev/udmabuf",
		"/dev/userfaultfd",
		"/dev/autofs",
		"/dev/nvram",
		"/dev/snapshot",
		"/dev/vga_arbiter",
		"/dev/cpu_dma_latency",
	};
	static const char *const travel[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random",
					      "/dev/urandom" };
	int fd;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		fd = open(refused[i], O_RDWR | O_NONBLOCK | O_NOCTTY);
		if (fd < 0)
			fd = open(refused[i], O_RDONLY | O_NONBLOCK | O_NOCTTY);
		made(REFUSED, fd, refused[i]);
		if (fd >= 0 && strcmp(refused[i], "/dev/kvm") == 0)
			made(REFUSED, ioctl(fd, 0xae01 /* KVM_CREATE_VM */, 0), "virtual machine");
	}
	for (size_t i = 0; i < sizeof(travel) / sizeof(travel[0]); i++)
		made(TRAVELS, open(travel[i], O_RDWR), travel[i]);
}

static int everything(struct trial *t)
{
	struct perf_event_attr perf = { .type = PERF_TYPE_SOFTWARE,
					.size = sizeof(perf),
					.config = PERF_COUNT_SW_CPU_CLOCK };
	uint64_t landlock = 1;
	uint8_t uring[120] = { 0 };
	struct epoll_event e = { .events = EPOLLIN };
	sigset_t none;
	char path[100];
	int p[2], fd;

	begin(t);
	sigemptyset(&none);
	made(TRAVELS, eventfd(1, 0), "eventfd");
	made(TRAVELS, timerfd_create(CLOCK_MONOTONIC, 0), "timerfd");
	made(TRAVELS, signalfd(-1, &none, 0), "signalfd");
	made(TRAVELS, memfd_create("plain", 0), "memfd");
	fd = inotify_init();
	inotify_add_watch(fd, t->dir, IN_DELETE_SELF);
	made(TRAVELS, fd, "inotify");
	if (pipe(p) == 0) {
		made(TRAVELS, p[0], "pipe");
		made(TRAVELS, p[1], "pipe");
		fd = epoll_create1(0);
		epoll_ctl(fd, EPOLL_CTL_ADD, p[0], &e);
		made(TRAVELS, fd, "epoll");
	}
	snprintf(path, sizeof(path), "%s/file", t->dir);
	made(TRAVELS, open(path, O_RDWR | O_CREAT, 0600), "file");
	made(TRAVELS, open(t->dir, O_RDONLY | O_DIRECTORY), "folder");
	made(TRAVELS, open(t->dir, O_PATH), "O_PATH");
	made(REFUSED, (int)syscall(425 /* io_uring_setup */, 4, uring), "io_uring");
	made(REFUSED, (int)syscall(SYS_userfaultfd, O_CLOEXEC), "userfaultfd");
	made(REFUSED, (int)syscall(SYS_perf_event_open, &perf, 0, -1, -1, 0), "perf event");
	made(REFUSED, fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify");
	made(REFUSED, (int)syscall(NR_LANDLOCK_CREATE_RULESET, &landlock, 8, 0), "Landlock");
	made(REFUSED, (int)syscall(NR_MEMFD_SECRET, 0), "memfd_secret");
	made(TRAVELS, memfd_create("huge", MFD_HUGETLB), "memfd of huge pages");
	made(EITHER, (int)syscall(SYS_mq_open, "q", O_RDWR | O_CREAT, 0600, NULL), "mqueue");
	made(REFUSED, open("/proc/kmsg", O_RDONLY | O_NONBLOCK), "/proc/kmsg");
	made(REFUSED, open("/sys/kernel/debug/sched/features", O_RDONLY), "debugfs");
	made(REFUSED, open("/sys/kernel/tracing/README", O_RDONLY), "tracefs");
	make_bpf();
	make_processes();
	make_mounts();
	make_devices();
	made(REFUSED, seccomp_listener(), "seccomp listener");
	return end(t);
}

/* What docs/sockets.md says travels, written down once more. */
static enum fate socket_fate(int family, int type, int protocol)
{
	if (family == AF_UNIX)
		return TRAVELS;
	if (family == AF_INET || family == AF_INET6) {
		if (type == SOCK_STREAM)
			return protocol == 0 || protocol == IPPROTO_TCP ? TRAVELS
			       : protocol == IPPROTO_MPTCP		? EITHER
									: REFUSED;
		if (type == SOCK_DGRAM)
			return protocol == 0 || protocol == IPPROTO_UDP ||
					       protocol == IPPROTO_UDPLITE ||
					       protocol == IPPROTO_ICMP ||
					       protocol == IPPROTO_ICMPV6
				       ? TRAVELS
				       : REFUSED;
		return type == SOCK_RAW ? TRAVELS : REFUSED;
	}
	if (family == AF_NETLINK)
		/* route, sock_diag, audit, uevent, generic */
		return protocol == 0 || protocol == 4 || protocol == 9 || protocol == 15 ||
				       protocol == 16
			       ? TRAVELS
			       : REFUSED;
	if (family == AF_PACKET)
		return type == SOCK_PACKET ? EITHER : TRAVELS;
	return REFUSED;
}

/* Each protocol that is not there costs a modprobe: what is asked for is chosen. */
static bool worth_asking(int family, int type, int protocol)
{
	static const int inet[] = { 0,
				    IPPROTO_ICMP,
				    IPPROTO_TCP,
				    IPPROTO_UDP,
				    IPPROTO_DCCP,
				    IPPROTO_ICMPV6,
				    115 /* L2TP */,
				    IPPROTO_SCTP,
				    IPPROTO_UDPLITE,
				    256 /* SMC */,
				    IPPROTO_MPTCP };

	if ((family != AF_INET && family != AF_INET6) || type == SOCK_RAW)
		return true;
	for (size_t i = 0; i < sizeof(inet) / sizeof(inet[0]); i++)
		if (inet[i] == protocol)
			return true;
	return false;
}

static void sockets_of(int family)
{
	static const int types[] = { SOCK_STREAM,    SOCK_DGRAM, SOCK_RAW,   SOCK_RDM,
				     SOCK_SEQPACKET, SOCK_DCCP,	 SOCK_PACKET };
	static const int more[] = { 33,	 41,  46,  47,	50,  51,  58,  89,  94,	 103,
				    108, 112, 115, 132, 136, 137, 143, 255, 256, 262 };

	for (int type = 0; type < 7; type++)
		for (int i = 0; i < 32 + 20; i++) {
			int protocol = i < 32 ? i : more[i - 32], fd;
			char name[80];

			if (!worth_asking(family, types[type], protocol))
				continue;
			fd = socket(family, types[type], protocol);
			if (fd < 0 && errno == EAFNOSUPPORT)
				return;
			snprintf(name, sizeof(name), "socket of family %d, type %d, protocol %d",
				 family, types[type], protocol);
			made(socket_fate(family, types[type], protocol), fd, name);
		}
}

static int every_socket(struct trial *t)
{
	struct rlimit files = { 4096, 4096 };

	setrlimit(RLIMIT_NOFILE, &files);
	begin(t);
	for (int family = 1; family < 64; family++)
		sockets_of(family);
	return end(t);
}

/* --- what is always shared after a migration, and is not here --------------------------- */
static int leavers[2];

static void *leaver(void *arg)
{
	int what = *(const int *)arg;
	char ok = unshare(what) == 0;

	if (write(leavers[1], &ok, 1) != 1)
		return NULL;
	for (;;)
		pause();
}

static int loners(struct trial *t)
{
	static int what[] = { CLONE_FILES, CLONE_FS, CLONE_NEWUTS };
	char path[300], num[16], ok;
	pthread_t th;
	pid_t child;

	if (pipe(leavers) < 0)
		return 1;
	for (int i = 0; i < 3; i++)
		if (pthread_create(&th, NULL, leaver, &what[i]) || read(leavers[0], &ok, 1) != 1 ||
		    !ok)
			return 2;
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	snprintf(path, sizeof(path), "%s/sub", t->cg_a);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/sub/cgroup.procs", t->cg_a);
	snprintf(num, sizeof(num), "%d", child);
	if (file_write_str(path, num, NULL) < 0)
		return 3;
	if (unshare(CLONE_NEWPID) < 0)
		return 4;
	trial_ready(t);
	trial_await(t);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	snprintf(path, sizeof(path), "%s/sub", t->cg_a);
	for (int i = 0; i < 5000 && rmdir(path) < 0 && errno == EBUSY; i++)
		usleep(1000);
	return 0;
}

static bool named(const struct trial *t, const char *object)
{
	size_t i;
	json_t *o;

	json_array_foreach (t->obstacles, i, o)
		if (strncmp(json_string_value(json_object_get(o, "object")), object,
			    strlen(object)) == 0)
			return true;
	return false;
}

static void test_what_is_not_shared_is_named(void **state)
{
	static const char *const objects[] = { "descriptor table of thread", "folders of thread",
					       "uts namespace of thread", "cgroup",
					       "namespace for children" };
	struct trial *t = &trial;
	int r, status;

	(void)state;
	t->program = loners;
	trial_start(t);
	r = trial_check(t);
	/* It removes its cgroup when it ends: first that, then the verdict. */
	status = trial_finish(t);
	assert_int_equal(r, 0);
	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
		if (!named(t, objects[i]))
			fail_msg("%s passed in silence", objects[i]);
	assert_int_equal(status, 0);
}

/* --- the test ------------------------------------------------------------------------------ */
static json_t *obstacle(struct trial *t, int fd)
{
	size_t i;
	json_t *o;

	json_array_foreach (t->obstacles, i, o)
		if (json_integer_value(json_object_get(o, "fd")) == fd)
			return o;
	return NULL;
}

static bool complete(const json_t *o)
{
	static const char *const keys[] = { "object", "why", "remedy" };

	for (int i = 0; i < 3; i++) {
		const char *s = json_string_value(json_object_get(o, keys[i]));

		if (!s || !*s)
			return false;
	}
	return json_integer_value(json_object_get(o, "pid")) == 1;
}

static void check_program(int (*program)(struct trial *), int at_least)
{
	struct trial *t = &trial;
	char path[1600], line[300];
	int r, status, n = 0, bad = 0;
	FILE *f;

	t->program = program;
	trial_start(t);
	r = trial_check(t);
	if (r)
		fprintf(stderr, "# %s\n", t->err.msg);
	assert_int_equal(r, 0);
	snprintf(path, sizeof(path), "%s/made", t->dir);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		int fd, fate, at;
		json_t *o;

		if (sscanf(line, "%d %d %n", &fd, &fate, &at) != 2)
			continue;
		line[strcspn(line, "\n")] = '\0';
		o = obstacle(t, fd);
		n++;
		if ((fate == REFUSED && !o) || (fate == TRAVELS && o) || (o && !complete(o))) {
			char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

			fprintf(stderr, "# %s (descriptor %d): %s\n", line + at, fd,
				text ? text : "passed in silence");
			free(text);
			bad++;
		}
	}
	fclose(f);
	status = trial_finish(t);
	printf("# %d made, %zu obstacles\n", n, json_array_size(t->obstacles));
	if (getenv("TRIAL_EVENTS")) {
		char *text = json_dumps(t->obstacles, JSON_INDENT(1));

		fprintf(stderr, "%s\n", text);
		free(text);
	}
	assert_int_equal(bad, 0);
	assert_true(n >= at_least);
	/* It was disturbed by nothing. */
	assert_int_equal(status, 0);
}

static void test_every_kind_of_descriptor_travels_or_is_named(void **state)
{
	(void)state;
	check_program(everything, 25);
}

static void test_every_kind_of_socket_travels_or_is_named(void **state)
{
	(void)state;
	check_program(every_socket, 100);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_every_kind_of_descriptor_travels_or_is_named,
					  teardown),
		cmocka_unit_test_teardown(test_every_kind_of_socket_travels_or_is_named, teardown),
		cmocka_unit_test_teardown(test_what_is_not_shared_is_named, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
