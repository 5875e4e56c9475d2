/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-oci exec: another process in a running container. A child is born in the container's
 * pid namespace, moves itself into the control groups and the other namespaces, and becomes
 * the program; this process stays outside and waits for how it goes.
 */
#include <fcntl.h>
#include <getopt.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/oci/launch.h"
#include "runtime/oci/oci.h"

struct exec_options {
	const char *id, *process, *pid_file, *console_socket, *cwd, *user;
	const char **env;
	size_t nenv;
	int preserve_fds;
	bool detach, tty, no_new_privs;
};

/* --process FILE, or the container's own process with what the options change. */
static int load_process(const struct spec *spec, const struct exec_options *o, char **args,
			json_t **out, struct error *err)
{
	const json_t *base = json_object_get(spec->doc, "process");
	json_t *p, *list, *user;
	int64_t uid = 0, gid = 0;

	if (o->process) {
		*out = json_parse_file(o->process, 16 << 20, err);
		return *out ? 0 : err ? -err->code : -EINVAL;
	}
	p = json_deep_copy(base);
	*out = p;
	list = json_array();
	for (char **a = args; *a; a++)
		json_array_append_new(list, json_string(*a));
	json_object_set_new(p, "args", list);
	json_set_bool(p, "terminal", o->tty);
	if (o->cwd)
		json_set_str(p, "cwd", o->cwd);
	if (o->no_new_privs)
		json_set_bool(p, "noNewPrivileges", true);
	list = json_object_get(p, "env");
	if (!list) {
		list = json_array();
		json_object_set_new(p, "env", list);
	}
	for (size_t i = 0; i < o->nenv; i++)
		json_array_append_new(list, json_string(o->env[i]));
	if (o->user) {
		CLEANUP_FREE char *copy = str_dup(o->user);
		char *colon = strchr(copy, ':');

		if (colon)
			*colon++ = '\0';
		if (str_to_i64(copy, 0, UINT32_MAX - 1, &uid) < 0 ||
		    (colon && str_to_i64(colon, 0, UINT32_MAX - 1, &gid) < 0))
			return error_set(err, EINVAL, "--user wants numbers, UID[:GID]");
		user = json_object();
		json_set_int(user, "uid", uid);
		json_set_int(user, "gid", gid);
		json_object_set_new(p, "user", user);
	}
	return 0;
}

/* The namespaces of init that are not ours already, as CLONE_NEW* flags. */
static int foreign_namespaces(const struct state *s, int *flags, struct error *err)
{
	*flags = 0;
	for (int i = 0; i < NS_COUNT; i++) {
		CLEANUP_FREE char *a = str_format("/proc/%d/ns/%s", s->pid, spec_ns_name[i]);
		CLEANUP_FREE char *b = str_format("/proc/self/ns/%s", spec_ns_name[i]);
		char x[64] = "", y[64] = "";

		if (readlink(a, x, sizeof(x) - 1) < 0)
			return error_sys(err, errno, "reading %s", a);
		if (readlink(b, y, sizeof(y) - 1) < 0)
			return error_sys(err, errno, "reading %s", b);
		if (strcmp(x, y) != 0)
			*flags |= spec_ns_flag[i];
	}
	return 0;
}

struct child {
	const struct spec_process *p;
	const int *cg_fds;
	size_t ncg;
	int sync, console, filter, preserve_fds;
	size_t filter_len;
	int pidfd, namespaces;
};

static void __attribute__((noreturn)) child_main(const struct child *c)
{
	struct error err = { 0 };
	char *program = NULL, **env;
	struct sync_msg m;
	sigset_t none;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Inside, nobody may trace this process or open its files (CVE-2016-9962). */
	prctl(PR_SET_DUMPABLE, 0);
	if (sync_recv(c->sync, &m) < 0)
		_exit(1);
	r = cgroup_enter(c->cg_fds, c->ncg);
	if (r < 0)
		error_sys(&err, -r, "entering the control groups");
	/* The last look at the host: setns(2) of several namespaces at once, Linux 5.8. */
	if (!r && c->namespaces && setns(c->pidfd, c->namespaces) < 0)
		r = error_sys(&err, errno, "entering the container's namespaces");
	setsid();
	if (!r && c->p->terminal)
		r = process_console(c->p, c->console, false, &err);
	if (!r)
		r = process_become(c->p, c->filter, c->filter_len, &err);
	if (!r)
		r = process_find(c->p, &program, &err);
	if (!r) {
		prctl(PR_SET_PDEATHSIG, 0);
		for (int i = 1; i < NSIG; i++)
			signal(i, SIG_DFL);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		env = process_env(c->p);
		close_range((unsigned)(3 + c->preserve_fds), ~0u, CLOSE_RANGE_CLOEXEC);
		execve(program, (char *const *)(uintptr_t)c->p->args.v, env);
		r = errno == ENOENT ? ENOENT : EACCES;
		error_set(&err, r, "exec: \"%s\": %s", program, strerror(errno));
	}
	sync_send_error(c->sync, &err);
	_exit(1);
}

static int run_exec(const struct global *g, const struct exec_options *o, char **args, int *status,
		    struct error *err)
{
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_SPEC struct spec *spec = NULL;
	CLEANUP_CGROUPS struct cgroups cg = { 0 };
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_FREE int *fds = NULL;
	CLEANUP_CLOSE int pidfd = -1, console = -1, filter = -1, v2 = -1, mine = -1, theirs = -1;
	CLEANUP_CLOSE int own_pid = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	struct clone_args ca = { .exit_signal = SIGCHLD };
	struct spec_process p = { 0 };
	struct child c;
	struct sync_msg m;
	const char *is;
	int pair[2], r, st, flags;
	size_t len = 0;
	pid_t pid;

	if ((r = state_load(g, o->id, &s, err)) < 0)
		return r;
	is = state_status(g, &s);
	/* A restored container never was started by us: its stub has become its program. */
	if (strcmp(is, "running") != 0 && !(s.stub && !strcmp(is, "created")))
		return error_set(err, EBUSY, "container %s is %s, not running", o->id, is);
	pidfd = state_pidfd(&s, err);
	if (pidfd < 0)
		return pidfd;
	spec = state_spec(g, o->id, err);
	if (!spec)
		return err ? -err->code : -EIO;
	if ((r = load_process(spec, o, args, &doc, err)) < 0 ||
	    (r = spec_process_parse(doc, &p, err)) < 0 || (r = cgroups_load(&cg, err)) < 0)
		goto out;
	if (p.terminal && !o->console_socket) {
		r = error_set(err, EINVAL, "a terminal needs --console-socket");
		goto out;
	}
	if (o->console_socket && (r = console = fd_unix_connect(o->console_socket, err)) < 0)
		goto out;
	if (spec->seccomp) {
		filter = memfd_create("seccomp", MFD_CLOEXEC);
		r = filter < 0 ? error_sys(err, errno, "making a memory file")
			       : seccomp_compile(spec->seccomp, filter, &len, err);
		if (r < 0)
			goto out;
	}
	fds = mem_zalloc((cg.n + 1) * sizeof(int));
	if ((r = cgroup_open(&cg, s.cgroup, fds, &v2, err)) < 0)
		goto out;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		r = error_sys(err, errno, "making a socket pair");
		goto out;
	}
	mine = pair[0];
	theirs = pair[1];
	/* The pid namespace is that of children: this process stays outside and out of reach. */
	if ((r = foreign_namespaces(&s, &flags, err)) < 0)
		goto out;
	if ((flags & CLONE_NEWPID) && setns(pidfd, CLONE_NEWPID) < 0) {
		r = error_sys(err, errno, "entering the pid namespace of container %s", o->id);
		goto out;
	}
	if (v2 >= 0) {
		ca.flags |= CLONE_INTO_CGROUP;
		ca.cgroup = (uint64_t)v2;
	}
	pid = (pid_t)syscall(SYS_clone3, &ca, sizeof(ca));
	if (pid < 0) {
		r = error_sys(err, errno, "making a process in container %s", o->id);
		goto out;
	}
	if (!pid) {
		close(mine);
		c = (struct child){ &p,
				    fds,
				    cg.n,
				    theirs,
				    console,
				    filter,
				    o->preserve_fds,
				    len,
				    pidfd,
				    flags & ~CLONE_NEWPID };
		child_main(&c);
	}
	close(TAKE_FD(theirs));
	/* Children of this process from here on (a sanitizer's, say) are the host's again. */
	r = 0;
	if ((flags & CLONE_NEWPID) && setns(own_pid, CLONE_NEWPID) < 0)
		r = error_sys(err, errno, "returning to the own pid namespace");
	if (!r && o->pid_file)
		r = pid_file_write(o->pid_file, pid, err);
	if (!r)
		r = sync_send(mine, SYNC_GO, 0);
	/* The other end closes at execve: no news is good news. */
	if (!r && sync_recv(mine, &m) == 0)
		r = error_set(err, m.code, "%s", m.text);
	if (r < 0) {
		process_kill(pid, SIGKILL);
		process_wait(pid, &st);
	} else if (!o->detach) {
		*status = wait_forwarding(pid);
	}
out:
	spec_process_free(&p);
	return r;
}

int cmd_exec(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	static const struct option longs[] = { { "process", required_argument, 0, 'p' },
					       { "pid-file", required_argument, 0, 'i' },
					       { "console-socket", required_argument, 0, 'c' },
					       { "cwd", required_argument, 0, 'w' },
					       { "env", required_argument, 0, 'e' },
					       { "user", required_argument, 0, 'u' },
					       { "preserve-fds", required_argument, 0, 'f' },
					       { "detach", no_argument, 0, 'd' },
					       { "tty", no_argument, 0, 't' },
					       { "no-new-privs", no_argument, 0, 'n' },
					       { 0 } };
	static const char line[] =
		"exec [--process FILE] [--pid-file FILE] [--console-socket SOCK] "
		"[--cwd DIR] [--env K=V]... [--user UID[:GID]] [--detach] [--tty] "
		"[--no-new-privs] [--preserve-fds N] ID [PROGRAM [ARG...]]";
	CLEANUP_FREE const char **env = mem_zalloc((size_t)(argc + 1) * sizeof(*env));
	struct exec_options o = { .env = env };
	int64_t n = 0;
	int c;

	while ((c = getopt_long(argc, argv, "+p:e:u:dt", longs, NULL)) != -1) {
		if (c == 'p')
			o.process = optarg;
		else if (c == 'i')
			o.pid_file = optarg;
		else if (c == 'c')
			o.console_socket = optarg;
		else if (c == 'w')
			o.cwd = optarg;
		else if (c == 'e')
			env[o.nenv++] = optarg;
		else if (c == 'u')
			o.user = optarg;
		else if (c == 'f' && str_to_i64(optarg, 0, 1 << 20, &n) == 0)
			o.preserve_fds = (int)n;
		else if (c == 'd')
			o.detach = true;
		else if (c == 't')
			o.tty = true;
		else if (c == 'n')
			o.no_new_privs = true;
		else
			return usage(err, line);
	}
	if (argc - optind < 1 || (!o.process && argc - optind < 2))
		return usage(err, line);
	o.id = argv[optind];
	if (!o.detach)
		block_forwarded();
	return run_exec(g, &o, argv + optind + 1, status, err);
}
