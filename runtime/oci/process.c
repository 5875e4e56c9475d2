/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Becoming the user's process: terminal, rlimits, user and groups, capabilities,
 * no_new_privs, seccomp, and finding the program. Used by init and by exec.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/oci/launch.h"
#include "runtime/oci/report.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static int bind_console_node(int pts, struct error *err)
{
	CLEANUP_CLOSE int node =
		open("/dev/console", O_CREAT | O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0600);
	char path[64];

	if (node < 0 && errno != EEXIST && errno != ENXIO && errno != ENODEV && errno != EIO)
		return error_sys(err, errno, "making /dev/console");
	snprintf(path, sizeof(path), "/dev/pts/%d", pts);
	if (mount(path, "/dev/console", NULL, MS_BIND, NULL) < 0)
		return error_sys(err, errno, "binding %s to /dev/console", path);
	return 0;
}

int process_console(const struct spec_process *p, int console_sock, bool bind_console,
		    struct error *err)
{
	CLEANUP_CLOSE int master = -1, slave = -1;
	struct winsize ws = { .ws_row = (unsigned short)p->rows,
			      .ws_col = (unsigned short)p->cols };
	int zero = 0, pts = -1, r;

	if (console_sock < 0)
		return error_set(err, EINVAL, "process.terminal needs --console-socket");
	master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0)
		return error_sys(err, errno, "opening /dev/pts/ptmx (is devpts among the mounts?)");
	if (ioctl(master, TIOCSPTLCK, &zero) < 0 || ioctl(master, TIOCGPTN, &pts) < 0)
		return error_sys(err, errno, "unlocking the terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return error_sys(err, errno, "opening the terminal's other side");
	if (ws.ws_row && ws.ws_col)
		ioctl(master, TIOCSWINSZ, &ws);
	if (bind_console && (r = bind_console_node(pts, err)) < 0)
		return r;
	r = fd_send(console_sock, "/dev/ptmx", strlen("/dev/ptmx"), &master, 1);
	if (r < 0)
		return error_sys(err, -r, "sending the terminal to the console socket");
	for (int i = 0; i < 3; i++)
		if (dup2(slave, i) < 0)
			return error_sys(err, errno, "putting the terminal on fd %d", i);
	if (ioctl(0, TIOCSCTTY, 0) < 0)
		return error_sys(err, errno, "taking the terminal as controlling terminal");
	return 0;
}

static int try_program(const char *path, struct error *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_sys(err, errno, "stat %s", path);
	if (S_ISDIR(st.st_mode))
		return error_set(err, EACCES, "is a directory: permission denied");
	/*
	 * The effective user counts: as execve sees it. A seccomp filter that is loaded already
	 * may not know faccessat2 (Linux 5.8): then the mode tells enough, and execve the rest.
	 */
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 &&
	    ((errno != EPERM && errno != ENOSYS) || !(st.st_mode & 0111)))
		return error_set(err, EACCES, "permission denied");
	return 0;
}

int process_find(const struct spec_process *p, char **path, struct error *err)
{
	const char *name = p->args.v[0], *search = DEFAULT_PATH;
	CLEANUP_FREE char *copy = NULL;
	struct error why = { 0 };
	bool denied = false;
	char *save = NULL;
	int r;

	if (strchr(name, '/')) {
		r = try_program(name, &why);
		if (r < 0) {
			for (char *c = why.msg; *c; c++)
				if (*c == 'N' && str_starts(c, "No such file"))
					*c = 'n';
			return error_set(err, -r == ENOENT || -r == ENOTDIR ? ENOENT : EACCES,
					 "exec: \"%s\": %s", name, why.msg);
		}
		*path = str_dup(name);
		return 0;
	}
	for (size_t i = 0; i < p->env.n; i++)
		if (str_starts(p->env.v[i], "PATH="))
			search = p->env.v[i] + 5;
	copy = str_dup(search);
	for (char *d = strtok_r(copy, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		CLEANUP_FREE char *full = str_format("%s/%s", d[0] ? d : ".", name);

		r = name[0] ? try_program(full, NULL) : -ENOENT;
		if (!r) {
			*path = TAKE_PTR(full);
			return 0;
		}
		denied |= r == -EACCES;
	}
	if (denied)
		return error_set(err, EACCES, "exec: \"%s\": permission denied", name);
	return error_set(err, ENOENT, "exec: \"%s\": executable file not found in $PATH", name);
}

static int set_rlimits(const struct spec_process *p, struct error *err)
{
	for (size_t i = 0; i < p->nrlimits; i++) {
		const struct spec_rlimit *l = &p->rlimits[i];
		struct rlimit now, want = l->lim;

		if (setrlimit((__rlimit_resource_t)l->resource, &want) == 0)
			continue;
		if (errno != EPERM || getrlimit((__rlimit_resource_t)l->resource, &now) < 0 ||
		    want.rlim_max <= now.rlim_max)
			return error_sys(err, errno, "setting %s", l->name);
		want.rlim_max = now.rlim_max;
		if (want.rlim_cur > want.rlim_max)
			want.rlim_cur = want.rlim_max;
		if (setrlimit((__rlimit_resource_t)l->resource, &want) < 0)
			return error_sys(err, errno, "setting %s", l->name);
		report_warn("%s: hard limit %llu is above this runtime's %llu, which is kept: no "
			    "CAP_SYS_RESOURCE",
			    l->name, (unsigned long long)l->lim.rlim_max,
			    (unsigned long long)now.rlim_max);
	}
	return 0;
}

static int drop_bounding(const struct spec_process *p, struct error *err)
{
	for (int c = 0; c <= 63; c++) {
		int have = prctl(PR_CAPBSET_READ, c, 0, 0, 0);

		if (have < 0)
			break; /* past the kernel's last one */
		if (have && !(p->caps[CAPSET_BOUNDING] >> c & 1) &&
		    prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return error_sys(err, errno, "dropping capability %d from the bounding set",
					 c);
	}
	return 0;
}

/* What this machine does not have cannot be given: it is left out, with a warning. */
static int set_caps(const struct spec_process *p, struct error *err)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	uint64_t have, permitted, missing, set[CAPSET_COUNT];

	if (syscall(SYS_capget, &h, d) < 0)
		return error_sys(err, errno, "reading capabilities");
	have = (uint64_t)d[1].permitted << 32 | d[0].permitted;
	missing = (p->caps[CAPSET_PERMITTED] | p->caps[CAPSET_EFFECTIVE]) & ~have;
	if (missing)
		report_warn(
			"capabilities 0x%llx are not available to this runtime and are left out",
			(unsigned long long)missing);
	permitted = p->caps[CAPSET_PERMITTED] & have;
	for (int i = 0; i < CAPSET_COUNT; i++)
		set[i] = p->caps[i] & permitted;
	/* Inheritable may hold what permitted does not, as long as it is bounded. */
	set[CAPSET_INHERITABLE] = p->caps[CAPSET_INHERITABLE] & have;
	for (int i = 0; i < 2; i++) {
		d[i].permitted = (uint32_t)(set[CAPSET_PERMITTED] >> 32 * i);
		d[i].effective = (uint32_t)(set[CAPSET_EFFECTIVE] >> 32 * i);
		d[i].inheritable = (uint32_t)(set[CAPSET_INHERITABLE] >> 32 * i);
	}
	if (syscall(SYS_capset, &h, d) < 0)
		return error_sys(err, errno, "setting capabilities");
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int c = 0; c <= 63; c++)
		if ((set[CAPSET_AMBIENT] & set[CAPSET_INHERITABLE]) >> c & 1 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0) < 0)
			return error_sys(err, errno, "raising ambient capability %d", c);
	return 0;
}

/* A program that runs as a user opens /dev/stdout again: it must be the user's. */
static void own_stdio(const struct spec_process *p)
{
	struct stat st, null;

	if (stat("/dev/null", &null) < 0)
		memset(&null, 0, sizeof(null));
	for (int fd = 0; fd < 3; fd++)
		if (fstat(fd, &st) == 0 && st.st_uid != p->uid &&
		    !(S_ISCHR(st.st_mode) && st.st_rdev == null.st_rdev))
			(void)!fchown(fd, p->uid, (gid_t)-1);
}

static int enter_cwd(const struct spec_process *p, struct error *err)
{
	CLEANUP_FREE char *now = NULL;

	if (chdir(p->cwd) < 0) {
		if (errno != ENOENT)
			return error_sys(err, errno, "entering working directory %s", p->cwd);
		if (dir_make(p->cwd, 0755, err) < 0)
			return error_wrap(err, "making working directory %s", p->cwd);
		if (chdir(p->cwd) < 0)
			return error_sys(err, errno, "entering working directory %s", p->cwd);
	}
	/* Outside of the root (through /proc/self/fd, CVE-2024-21626) it has no path. */
	now = getcwd(NULL, 0);
	if (!now || now[0] != '/')
		return error_set(err, EPERM, "working directory %s lies outside of the container",
				 p->cwd);
	return 0;
}

int process_become(const struct spec_process *p, int seccomp_fd, size_t seccomp_len,
		   struct error *err)
{
	bool filter_early = seccomp_len && !p->no_new_privs;
	int r;

	if (!p->args.n)
		return error_set(err, EINVAL, "process.args is empty");
	if ((r = set_rlimits(p, err)) < 0 || (r = enter_cwd(p, err)) < 0)
		return r;
	own_stdio(p);
	umask(p->has_umask ? p->umask : 0022);
	if ((r = lsm_apply(p, err)) < 0)
		return r;
	if (p->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_sys(err, errno, "setting no_new_privs");
	if (p->has_caps && (r = drop_bounding(p, err)) < 0)
		return r;
	/* Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go. */
	if (filter_early && (r = seccomp_load_fd(seccomp_fd, seccomp_len)) < 0)
		return error_sys(err, -r, "loading the seccomp filter");
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return error_sys(err, errno, "keeping capabilities across the change of user");
	if (setgroups(p->ngroups, p->groups) < 0)
		return error_sys(err, errno, "setting additional groups");
	if (setresgid(p->gid, p->gid, p->gid) < 0)
		return error_sys(err, errno, "becoming group %u", p->gid);
	if (setresuid(p->uid, p->uid, p->uid) < 0)
		return error_sys(err, errno, "becoming user %u", p->uid);
	if (p->has_caps && (r = set_caps(p, err)) < 0)
		return r;
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	if (seccomp_len && !filter_early && (r = seccomp_load_fd(seccomp_fd, seccomp_len)) < 0)
		return error_sys(err, -r, "loading the seccomp filter");
	return 0;
}

char **process_env(const struct spec_process *p)
{
	char **env = mem_zalloc((p->env.n + 2) * sizeof(*env));
	CLEANUP_FCLOSE FILE *f = NULL;
	const char *home = NULL;
	struct passwd *pw;
	size_t n = 0;

	for (size_t i = 0; i < p->env.n; i++) {
		env[n++] = str_dup(p->env.v[i]);
		if (str_starts(p->env.v[i], "HOME=") && p->env.v[i][5])
			home = p->env.v[i];
	}
	if (home)
		return env;
	f = fopen("/etc/passwd", "re");
	while (f && (pw = fgetpwent(f)))
		if (pw->pw_uid == p->uid) {
			env[n] = str_format("HOME=%s", pw->pw_dir);
			break;
		}
	if (!env[n])
		env[n] = str_dup("HOME=/");
	return env;
}
