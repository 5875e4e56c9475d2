/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a container's init, seen from both sides.
 *
 *   ferry-oci create                         init (cloned into the new namespaces)
 *     make cgroups, set limits
 *     clone3 ───────────────────────────────► dies with its parent from here on
 *     GO ───────────────────────────────────► enter cgroups, namespaces by path
 *     compile the seccomp filter              mounts, devices
 *     run hooks ◄──────────────────── HOOKS   (only where there are some)
 *     CONTINUE ─────────────────────────────► pivot_root, console, masks, sysctls
 *     ◄──────────────────────────── SECCOMP
 *     filter's length ──────────────────────► user, capabilities, limits, filter
 *     write state.json ◄───────────── READY
 *     DONE ─────────────────────────────────► lets go of its parent; waits on exec.fifo
 *     exit                                    start writes there → execve
 *
 * At any point ERROR with a message comes instead, and EOF from either side ends the other.
 */
#ifndef FERRY_OCI_LAUNCH_H
#define FERRY_OCI_LAUNCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "runtime/oci/cgroup.h"
#include "runtime/oci/oci.h"
#include "runtime/oci/spec.h"

enum sync_type {
	SYNC_GO = 1,
	SYNC_HOOKS,
	SYNC_CONTINUE,
	SYNC_SECCOMP,
	SYNC_READY,
	SYNC_DONE,
	SYNC_ERROR
};
struct sync_msg {
	int type;
	int code;
	uint64_t value;
	char text[1000];
};
/* Over a SOCK_SEQPACKET pair. Receiving EOF gives -EPIPE. */
int sync_send(int sock, int type, uint64_t value);
int sync_recv(int sock, struct sync_msg *msg);
void sync_send_error(int sock, const struct error *err);

/* What init needs; it has a copy of the parent's memory, so pointers are fine. */
struct launch {
	const struct spec *spec;
	const struct cgroups *cg;
	const char *cgroup_path;
	const char *bundle;
	const char *rootfs;	   /* absolute */
	const struct state *state; /* for hooks that run inside */
	bool stub;
	bool has_hooks_outside;
	int sync;	  /* init's end */
	int fifo;	  /* exec.fifo, open for reading and writing; -1 for exec */
	int console_sock; /* -1: none */
	int *cg_fds;	  /* cg->n */
	int seccomp_fd;	  /* memfd with the BPF program; -1: no filter */
	int preserve_fds;
};

/* Everything init does, from SYNC_GO to execve. Never returns. */
void init_main(struct launch *l) __attribute__((noreturn));

/* mounts.c: the tree below rootfs (an O_PATH fd), before pivot_root. */
int mounts_make(const struct launch *l, int root, struct error *err);
/* mounts.c: after pivot_root. */
int mounts_hide(const struct spec *spec, struct error *err);
/* mounts.c: path inside root (O_PATH fd), made when missing; O_PATH fd or -errno. */
int path_in_root(int root, const char *path, bool make, bool dir, struct error *err);

/* userns.c: the id maps of a process that has just been cloned; does nothing without a new one. */
int userns_map(const struct spec *spec, pid_t pid, struct error *err);
/* userns.c: init becomes the root of its own user namespace, once it needs the host's no more. */
int userns_become_root(const struct spec *spec, struct error *err);

/* lsm.c: says which labels mean nothing here; refuses those that would. */
int lsm_check(const struct spec *spec, struct error *err);
/* lsm.c: the AppArmor profile for the execve to come. */
int lsm_apply(const struct spec_process *p, struct error *err);

/* devices.c: default and listed device nodes, the links in /dev. */
int devices_make(const struct spec *spec, int root, struct error *err);

/*
 * process.c: shared by init and exec. Console (terminal), user, capabilities, limits,
 * program lookup; process_become() ends in everything but execve.
 */
int process_console(const struct spec_process *p, int console_sock, bool bind_console,
		    struct error *err);
/* The program's path in *path (caller frees); ENOENT or EACCES as runc words them. */
int process_find(const struct spec_process *p, char **path, struct error *err);
int process_become(const struct spec_process *p, int seccomp_fd, size_t seccomp_len,
		   struct error *err);
/* The environment for execve: process.env, and HOME when it is missing (caller frees). */
char **process_env(const struct spec_process *p);

/* seccomp.c: compiles linux.seccomp into fd (a memfd); *len in bytes, 0: no filter. */
int seccomp_compile(const json_t *seccomp, int fd, size_t *len, struct error *err);
/* Loads a compiled program. Async-signal-safe. 0 or -errno. */
int seccomp_load_fd(int fd, size_t len);

/* hooks.c: runs hooks one after another with the state on stdin. */
int hooks_run(const struct spec_hook *hooks, size_t n, const char *state, struct error *err);

#endif
