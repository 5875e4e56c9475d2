/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-oci create: the parent's side of launch.h. Whatever fails, and whenever this
 * process is killed, no half-built init stays: it dies with its parent until state.json
 * says "created", and everything else is undone here or by `delete --force`.
 */
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/oci/launch.h"
#include "runtime/oci/oci.h"

int pid_file_write(const char *path, pid_t pid, struct error *err)
{
	CLEANUP_FREE char *text = str_format("%d", pid), *tmp = str_format("%s.new", path);
	CLEANUP_CLOSE int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0 || rename(tmp, path) < 0)
		return error_sys(err, errno, "writing pid file %s", path);
	return 0;
}

static int load_spec(const char *bundle, char **text, struct spec **out, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/config.json", bundle);
	size_t len;
	int r = file_read(path, 16 << 20, text, &len, err);

	if (r < 0)
		return r;
	*out = spec_parse(*text, len, err);
	if (!*out)
		return error_wrap(err, "%s", path);
	if (!(*out)->has_process)
		return error_set(err, EINVAL, "%s: field \"process\" is missing", path);
	return 0;
}

static int enter_path(const char *path, int flag, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, flag) < 0)
		return error_sys(err, errno, "entering namespace %s", path);
	return 0;
}

/*
 * A time namespace takes offsets only while nobody is in it, and a process enters it by
 * being made: so it is prepared here, for the child (time_namespaces(7)).
 */
static int prepare_time(const struct spec *s, struct error *err)
{
	CLEANUP_FREE char *text = NULL;

	if (!s->ns[NS_TIME].wanted)
		return 0;
	if (s->ns[NS_TIME].path)
		return enter_path(s->ns[NS_TIME].path, spec_ns_flag[NS_TIME], err);
	if (unshare(spec_ns_flag[NS_TIME]) < 0)
		return error_sys(err, errno, "making a time namespace");
	if (!s->has_time_offsets)
		return 0;
	text = str_format("monotonic %lld %lld\nboottime %lld %lld\n", (long long)s->mono_s,
			  (long long)s->mono_ns, (long long)s->boot_s, (long long)s->boot_ns);
	if (file_write_str("/proc/self/timens_offsets", text, err) < 0)
		return error_wrap(err, "setting linux.timeOffsets");
	return 0;
}

static pid_t clone_init(struct launch *l, int v2_dir, struct error *err)
{
	static const enum spec_ns kinds[] = { NS_USER, NS_PID, NS_NET, NS_MNT, NS_IPC, NS_UTS };
	CLEANUP_CLOSE int own_time = open("/proc/self/ns/time", O_RDONLY | O_CLOEXEC);
	CLEANUP_CLOSE int own_pid = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	struct clone_args args = { .exit_signal = SIGCHLD };
	pid_t pid;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (l->spec->ns[kinds[i]].wanted && !l->spec->ns[kinds[i]].path)
			args.flags |= (uint64_t)spec_ns_flag[kinds[i]];
	if (v2_dir >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)v2_dir;
	}
	if (prepare_time(l->spec, err) < 0 ||
	    (l->spec->ns[NS_PID].path &&
	     enter_path(l->spec->ns[NS_PID].path, CLONE_NEWPID, err) < 0))
		return -1;
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0) {
		error_sys(err, errno, "making the container's first process in new namespaces");
		return -1;
	}
	if (!pid)
		return 0;
	/* Hooks run from here and belong to the host's time and pids. */
	if (l->spec->ns[NS_TIME].wanted)
		(void)!setns(own_time, spec_ns_flag[NS_TIME]);
	if (l->spec->ns[NS_PID].path)
		(void)!setns(own_pid, CLONE_NEWPID);
	return pid;
}

/* Answers init until it is ready. */
static int converse(struct launch *l, int sock, const struct state *st, pid_t pid,
		    struct error *err)
{
	const struct spec *s = l->spec;
	struct sync_msg m = { 0 };
	size_t filter = 0;
	int r = userns_map(s, pid, err);

	if (r < 0)
		return r;
	r = sync_send(sock, SYNC_GO, (uint64_t)pid);
	if (!r && l->seccomp_fd >= 0 &&
	    (r = seccomp_compile(s->seccomp, l->seccomp_fd, &filter, err)) < 0)
		return r;
	while (!r && sync_recv(sock, &m) == 0) {
		switch (m.type) {
		case SYNC_HOOKS: {
			CLEANUP_FREE char *text = state_text(st, "creating", pid);
			/* As the old prestart hooks know it. */
			CLEANUP_FREE char *old = state_text(st, "created", pid);

			if ((r = hooks_run(s->hooks[HOOK_PRESTART], s->nhooks[HOOK_PRESTART], old,
					   err)) < 0 ||
			    (r = hooks_run(s->hooks[HOOK_CREATE_RUNTIME],
					   s->nhooks[HOOK_CREATE_RUNTIME], text, err)) < 0)
				return r;
			r = sync_send(sock, SYNC_CONTINUE, 0);
			break;
		}
		case SYNC_SECCOMP:
			r = sync_send(sock, SYNC_SECCOMP, filter);
			break;
		case SYNC_READY:
			return 0;
		case SYNC_ERROR:
			return error_set(err, m.code, "%s", m.text);
		default:
			r = -EPROTO;
		}
	}
	return error_set(err, EIO,
			 "the container's first process ended while it was being made "
			 "(killed, or out of memory?)");
}

static int launch(const struct global *g, const struct create_options *o, struct launch *l,
		  struct state *st, pid_t *out, struct error *err)
{
	CLEANUP_CLOSE int mine = -1, theirs = -1, fifo = -1, console = -1, v2_dir = -1, filter = -1;
	CLEANUP_FREE char *fifo_path = state_path(g, st->id, "exec.fifo");
	CLEANUP_FREE int *fds = mem_zalloc((l->cg->n + 1) * sizeof(int));
	int pair[2], r, status;
	struct sync_msg m;
	pid_t pid;

	if (mkfifo(fifo_path, 0600) < 0)
		return error_sys(err, errno, "making %s", fifo_path);
	fifo = open(fifo_path, O_RDWR | O_CLOEXEC);
	if (fifo < 0)
		return error_sys(err, errno, "opening %s", fifo_path);
	if (o->console_socket && (console = fd_unix_connect(o->console_socket, err)) < 0)
		return console;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_sys(err, errno, "making a socket pair");
	mine = pair[0];
	theirs = pair[1];
	if (l->spec->seccomp && !l->stub && (filter = memfd_create("seccomp", MFD_CLOEXEC)) < 0)
		return error_sys(err, errno, "making a memory file");
	r = cgroup_open(l->cg, l->cgroup_path, fds, &v2_dir, err);
	if (r < 0)
		return r;
	l->fifo = fifo;
	l->console_sock = console;
	l->cg_fds = fds;
	l->sync = theirs;
	l->seccomp_fd = filter;
	pid = clone_init(l, v2_dir, err);
	for (size_t i = 0; pid && i < l->cg->n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	if (pid < 0)
		return err ? -err->code : -EIO;
	if (!pid) {
		close(mine);
		init_main(l);
	}
	close(TAKE_FD(theirs));
	r = converse(l, mine, st, pid, err);
	if (!r && (r = process_start_time(pid, &st->start)) < 0)
		error_sys(err, -r, "reading the start time of process %d", pid);
	if (!r) {
		st->pid = pid;
		r = state_save(g, st, err);
	}
	if (!r && o->pid_file)
		r = pid_file_write(o->pid_file, pid, err);
	if (!r && (r = sync_send(mine, SYNC_DONE, 0)) < 0)
		error_sys(err, -r, "releasing the container's first process");
	if (r < 0) {
		process_kill(pid, SIGKILL);
		process_wait(pid, &status);
		return r;
	}
	/* Init closes its end once it has let go of us; exiting before would kill it. */
	(void)sync_recv(mine, &m);
	*out = pid;
	return 0;
}

int container_make(const struct global *g, const struct create_options *o, pid_t *pid,
		   struct error *err)
{
	CLEANUP_SPEC struct spec *spec = NULL;
	CLEANUP_CGROUPS struct cgroups cg = { 0 };
	CLEANUP_STATE struct state st = { 0 };
	CLEANUP_FREE char *text = NULL, *dir = NULL, *config = NULL, *bundle = NULL;
	CLEANUP_FREE char *rootfs = NULL, *group = NULL;
	CLEANUP_FREE pid_t *inside = NULL;
	struct launch l = { .stub = o->stub, .preserve_fds = o->preserve_fds };
	size_t ninside = 0;
	struct stat sb;
	char when[64];
	struct tm tm;
	time_t now = time(NULL);
	int r;

	if (!str_is_name(o->id))
		return error_set(err, EINVAL, "\"%s\" is no container id", o->id);
	bundle = realpath(o->bundle, NULL);
	if (!bundle)
		return error_sys(err, errno, "opening bundle %s", o->bundle);
	if ((r = load_spec(bundle, &text, &spec, err)) < 0 || (r = cgroups_load(&cg, err)) < 0)
		return r;
	if ((r = lsm_check(spec, err)) < 0)
		return r;
	if (spec->process.terminal && !o->console_socket)
		return error_set(err, EINVAL, "process.terminal needs --console-socket");
	if (!spec->process.terminal && o->console_socket)
		return error_set(err, EINVAL, "--console-socket without process.terminal");
	rootfs = spec->rootfs[0] == '/' ? str_dup(spec->rootfs)
					: str_format("%s/%s", bundle, spec->rootfs);
	if (stat(rootfs, &sb) < 0 || !S_ISDIR(sb.st_mode))
		return error_set(err, ENOENT, "root file system %s is no folder", rootfs);
	if (!spec->cgroups_path || !spec->cgroups_path[0])
		group = str_format("/ferry/%s", o->id);
	else
		group = str_format("%s%s", spec->cgroups_path[0] == '/' ? "" : "/ferry/",
				   spec->cgroups_path);
	for (size_t n = strlen(group); n > 1 && group[n - 1] == '/'; n--)
		group[n - 1] = '\0';
	if (strchr(group, ':'))
		return error_set(err, EINVAL,
				 "linux.cgroupsPath %s is in systemd's form; ferry-oci uses the "
				 "cgroup file system itself: give a path",
				 spec->cgroups_path);
	dir = state_path(g, o->id, NULL);
	if (access(dir, F_OK) == 0)
		return error_set(err, EEXIST, "container %s exists already", o->id);
	if (cgroup_pids(&cg, group, &inside, &ninside) == 0 && ninside)
		return error_set(err, EBUSY, "control group %s is in use by process %d", group,
				 inside[0]);

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	st = (struct state){ .id = str_dup(o->id),
			     .bundle = str_dup(bundle),
			     .rootfs = str_dup(rootfs),
			     .cgroup = str_dup(group),
			     .created = str_dup(when),
			     .version = str_dup("1.2.0"),
			     .stub = o->stub,
			     .annotations = json_incref(spec->annotations) };
	if ((r = dir_make(g->root, 0700, err)) < 0)
		return r;
	if (mkdir(dir, 0700) < 0)
		return errno == EEXIST
			       ? error_set(err, EEXIST, "container %s exists already", o->id)
			       : error_sys(err, errno, "making %s", dir);
	config = state_path(g, o->id, "config.json");
	l.spec = spec;
	l.cg = &cg;
	l.cgroup_path = group;
	l.bundle = bundle;
	l.rootfs = rootfs;
	l.state = &st;
	l.has_hooks_outside = spec->nhooks[HOOK_PRESTART] || spec->nhooks[HOOK_CREATE_RUNTIME];
	if ((r = state_save(g, &st, err)) == 0) {
		CLEANUP_CLOSE int fd = open(config, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
		if (r < 0)
			error_sys(err, -r, "writing %s", config);
	}
	if (!r && (r = cgroup_make(&cg, group, err)) == 0 &&
	    (r = cgroup_limit(&cg, group, &spec->res, true, err)) == 0)
		r = launch(g, o, &l, &st, pid, err);
	if (r < 0) {
		cgroup_signal(&cg, group, SIGKILL);
		cgroup_remove(&cg, group, NULL);
		dir_remove(dir, NULL);
	}
	return r;
}

int cmd_create(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	static const struct option longs[] = { { "bundle", required_argument, 0, 'b' },
					       { "pid-file", required_argument, 0, 'p' },
					       { "console-socket", required_argument, 0, 'c' },
					       { "preserve-fds", required_argument, 0, 'f' },
					       { "no-pivot", no_argument, 0, 'n' },
					       { "stub", no_argument, 0, 's' },
					       { 0 } };
	struct create_options o = { .bundle = "." };
	int64_t n = 0;
	pid_t pid;
	int c;

	(void)status;
	while ((c = getopt_long(argc, argv, "b:", longs, NULL)) != -1) {
		switch (c) {
		case 'b':
			o.bundle = optarg;
			break;
		case 'p':
			o.pid_file = optarg;
			break;
		case 'c':
			o.console_socket = optarg;
			break;
		case 'f':
			if (str_to_i64(optarg, 0, 1 << 20, &n) < 0)
				return error_set(err, EINVAL, "--preserve-fds wants a number");
			o.preserve_fds = (int)n;
			break;
		case 's':
			o.stub = true;
			break;
		case 'n':
			return error_set(err, EOPNOTSUPP, "--no-pivot is not supported");
		default:
			return usage(err,
				     "create [--bundle DIR] [--pid-file FILE] [--console-socket "
				     "SOCK] [--preserve-fds N] [--stub] ID");
		}
	}
	if (argc - optind != 1)
		return usage(err, "create [OPTIONS] ID");
	o.id = argv[optind];
	return container_make(g, &o, &pid, err);
}
