/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's first process from its clone to execve; launch.h draws the conversation
 * with its parent. As a stub it stops short of everything that cannot be taken back (user,
 * capabilities, filter, limits): the checkpoint engine makes it somebody else.
 */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/oci/launch.h"
#include "runtime/oci/report.h"

int sync_send(int sock, int type, uint64_t value)
{
	struct sync_msg m = { .type = type, .value = value };

	return fd_send(sock, &m, sizeof(m), NULL, 0);
}

void sync_send_error(int sock, const struct error *err)
{
	struct sync_msg m = { .type = SYNC_ERROR, .code = err->code ? err->code : EIO };

	snprintf(m.text, sizeof(m.text), "%s", err->msg);
	fd_send(sock, &m, sizeof(m), NULL, 0);
}

int sync_recv(int sock, struct sync_msg *m)
{
	ssize_t n = fd_recv(sock, m, sizeof(*m), NULL, NULL);

	return n < 0 ? (int)n : n != sizeof(*m) ? -EPIPE : 0;
}

/* Waits for the parent's next word; a parent that is gone means: this is not to be. */
static uint64_t expect(int sock, int type)
{
	struct sync_msg m = { 0 };

	if (sync_recv(sock, &m) < 0 || m.type != type)
		_exit(1);
	return m.value;
}

static int enter_namespaces(const struct launch *l, struct error *err)
{
	/* pid and time by path were entered by the parent: they only take effect by a clone. */
	static const enum spec_ns here[] = { NS_NET, NS_IPC, NS_UTS, NS_CGROUP };

	for (size_t i = 0; i < sizeof(here) / sizeof(here[0]); i++) {
		const struct spec_namespace *n = &l->spec->ns[here[i]];
		CLEANUP_CLOSE int fd = -1;

		if (!n->wanted || !n->path)
			continue;
		fd = open(n->path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return error_sys(err, errno, "opening %s namespace %s",
					 spec_ns_name[here[i]], n->path);
		if (setns(fd, spec_ns_flag[here[i]]) < 0)
			return error_sys(err, errno, "entering %s namespace %s",
					 spec_ns_name[here[i]], n->path);
	}
	/* Only now, after entering the group, is it the new namespace's root. */
	if (l->spec->ns[NS_CGROUP].wanted && !l->spec->ns[NS_CGROUP].path &&
	    unshare(CLONE_NEWCGROUP) < 0)
		return error_sys(err, errno, "making a cgroup namespace");
	return 0;
}

static int set_names(const struct spec *s, struct error *err)
{
	if (s->hostname && s->hostname[0]) {
		if (!s->ns[NS_UTS].wanted)
			return error_set(err, EINVAL,
					 "hostname needs a \"uts\" namespace in linux.namespaces");
		if (sethostname(s->hostname, strlen(s->hostname)) < 0)
			return error_sys(err, errno, "setting hostname %s", s->hostname);
	}
	if (s->domainname && s->domainname[0] &&
	    setdomainname(s->domainname, strlen(s->domainname)) < 0)
		return error_sys(err, errno, "setting domain name %s", s->domainname);
	return 0;
}

/*
 * pivot_root(2) "." "." as in its man page: the old root lies over the new one and is
 * detached, so that not one mount of the host stays reachable.
 */
static int pivot(int root, struct error *err)
{
	if (fchdir(root) < 0)
		return error_sys(err, errno, "entering the root file system");
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return error_sys(err, errno, "pivot_root");
	if (mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0 || umount2(".", MNT_DETACH) < 0)
		return error_sys(err, errno, "detaching the old root");
	if (chdir("/") < 0)
		return error_sys(err, errno, "entering the new root");
	return 0;
}

static bool sysctl_is_namespaced(const struct spec *s, const char *key)
{
	static const char *const ipc[] = { "kernel.msgmax", "kernel.msgmnb",
					   "kernel.msgmni", "kernel.sem",
					   "kernel.shmall", "kernel.shmmax",
					   "kernel.shmmni", "kernel.shm_rmid_forced" };

	if (str_starts(key, "net.") || str_starts(key, "net/"))
		return s->ns[NS_NET].wanted;
	if (str_starts(key, "fs.mqueue.") || str_starts(key, "fs/mqueue/"))
		return s->ns[NS_IPC].wanted;
	if (!strcmp(key, "kernel.hostname") || !strcmp(key, "kernel.domainname"))
		return s->ns[NS_UTS].wanted;
	for (size_t i = 0; i < sizeof(ipc) / sizeof(ipc[0]); i++)
		if (!strcmp(ipc[i], key))
			return s->ns[NS_IPC].wanted;
	return false;
}

static int set_sysctls(const struct spec *s, struct error *err)
{
	const char *key;
	json_t *v;
	int r;

	json_object_foreach (s->sysctl, key, v) {
		CLEANUP_FREE char *path = str_format("/proc/sys/%s", key);

		if (!json_is_string(v) || strstr(key, ".."))
			return error_set(err, EINVAL,
					 "linux.sysctl: \"%s\" is no key with a string", key);
		if (!sysctl_is_namespaced(s, key))
			return error_set(
				err, EINVAL,
				"sysctl %s would change the host, not the container; set it "
				"on the host",
				key);
		if (!strchr(key, '/'))
			for (char *p = path + strlen("/proc/sys/"); *p; p++)
				if (*p == '.')
					*p = '/';
		r = file_write_str(path, json_string_value(v), err);
		if (r < 0)
			return error_wrap(err, "setting sysctl %s", key);
	}
	return 0;
}

static int apply_propagation(const struct spec *s, struct error *err)
{
	if (!s->rootfs_propagation)
		return 0;
	if (mount(NULL, "/", NULL, s->rootfs_propagation, NULL) < 0)
		return error_sys(err, errno, "setting the propagation of /");
	return 0;
}

static int oom_score(const struct spec_process *p, struct error *err)
{
	char text[16];
	int r;

	if (!p->has_oom_score_adj)
		return 0;
	snprintf(text, sizeof(text), "%d", p->oom_score_adj);
	r = file_write_str("/proc/self/oom_score_adj", text, err);
	if (r == -EACCES || r == -EPERM) {
		/* Lowering needs CAP_SYS_RESOURCE. */
		report_warn("oom_score_adj %d is below this runtime's own and was not set: no "
			    "CAP_SYS_RESOURCE",
			    p->oom_score_adj);
		error_clear(err);
		return 0;
	}
	return r;
}

static int wait_hooks(const struct launch *l)
{
	if (l->has_hooks_outside) {
		sync_send(l->sync, SYNC_HOOKS, 0);
		expect(l->sync, SYNC_CONTINUE);
	}
	return 0;
}

static int build(struct launch *l, const char *state, char **program, struct error *err)
{
	const struct spec *s = l->spec;
	const struct spec_process *p = &s->process;
	size_t filter_len = 0;
	int root, r;

	r = cgroup_enter(l->cg_fds, l->cg->n);
	if (r < 0)
		return error_sys(err, -r, "entering control group %s", l->cgroup_path);
	if ((r = enter_namespaces(l, err)) < 0 || (r = set_names(s, err)) < 0 ||
	    (r = oom_score(p, err)) < 0)
		return r;

	/* From here on nothing mounted is seen by the host. */
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return error_sys(err, errno, "separating the mounts from the host's");
	if (mount(l->rootfs, l->rootfs, NULL, MS_BIND | MS_REC, NULL) < 0)
		return error_sys(err, errno, "binding root file system %s", l->rootfs);
	root = open(l->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return error_sys(err, errno, "opening root file system %s", l->rootfs);
	/* Up to here the folders above were read as the host's root, which owns them. */
	if ((r = userns_become_root(s, err)) < 0 || (r = mounts_make(l, root, err)) < 0 ||
	    (r = devices_make(s, root, err)) < 0)
		return r;
	wait_hooks(l);
	r = hooks_run(s->hooks[HOOK_CREATE_CONTAINER], s->nhooks[HOOK_CREATE_CONTAINER], state,
		      err);
	if (r < 0 || (r = pivot(root, err)) < 0)
		return r;
	close(root);
	if (setsid() < 0 && errno != EPERM)
		return error_sys(err, errno, "making a session");
	if (p->terminal && (r = process_console(p, l->console_sock, true, err)) < 0)
		return r;
	if ((r = set_sysctls(s, err)) < 0 || (r = mounts_hide(s, err)) < 0 ||
	    (r = apply_propagation(s, err)) < 0)
		return r;
	if (l->stub)
		return 0;
	if (l->seccomp_fd >= 0) {
		sync_send(l->sync, SYNC_SECCOMP, 0);
		filter_len = expect(l->sync, SYNC_SECCOMP);
	}
	if ((r = process_become(p, l->seccomp_fd, filter_len, err)) < 0)
		return r;
	return process_find(p, program, err);
}

static void __attribute__((noreturn)) stub_wait(struct launch *l)
{
	prctl(PR_SET_NAME, "ferry-stub");
	close_range(3, ~0u, 0);
	(void)l;
	for (;;)
		pause();
}

void init_main(struct launch *l)
{
	struct error err = { 0 };
	char *program = NULL, *state, **env;
	sigset_t none;
	char byte;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Also catches a parent that died before the line above. Our pid is the parent's word. */
	state = state_text(l->state, "created", (pid_t)expect(l->sync, SYNC_GO));
	r = build(l, state, &program, &err);
	if (r < 0) {
		sync_send_error(l->sync, &err);
		_exit(1);
	}
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* A change of user clears it (prctl(2)), so set it again until the state is written. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sync_send(l->sync, SYNC_READY, 0);
	expect(l->sync, SYNC_DONE);
	prctl(PR_SET_PDEATHSIG, 0);
	close(l->sync);
	if (l->stub)
		stub_wait(l);

	do
		r = (int)read(l->fifo, &byte, 1);
	while (r < 0 && errno == EINTR);
	if (r != 1)
		_exit(1);
	if (hooks_run(l->spec->hooks[HOOK_START_CONTAINER], l->spec->nhooks[HOOK_START_CONTAINER],
		      state, &err) < 0) {
		dprintf(STDERR_FILENO, "%s\n", err.msg);
		_exit(1);
	}
	env = process_env(&l->spec->process);
	close_range((unsigned)(3 + l->preserve_fds), ~0u, CLOSE_RANGE_CLOEXEC);
	execve(program, (char *const *)(uintptr_t)l->spec->process.args.v, env);
	r = errno;
	dprintf(STDERR_FILENO, "exec %s: %s\n", program, strerror(r));
	_exit(r == ENOENT ? 127 : 126);
}
