/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control groups of one container, on whatever layout the machine has: v1, v2, or a hybrid
 * with controllers on v1 and a v2 tree beside them. A container's group has one path
 * ("/ferry/ID") that is made in every hierarchy; each limit goes to the hierarchy that
 * holds its controller.
 */
#ifndef FERRY_OCI_CGROUP_H
#define FERRY_OCI_CGROUP_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "runtime/oci/spec.h"

struct cgroup_hier {
	char *mount;	   /* "/sys/fs/cgroup/memory" */
	char *controllers; /* ",memory,", ",name=systemd,"; v2: what it offers */
	bool v2;
};

struct cgroups {
	struct cgroup_hier *hier;
	size_t n;
	int v2; /* index of the v2 hierarchy, or -1 */
};

/* Reads /proc/self/mountinfo. Free with cgroups_free(). */
int cgroups_load(struct cgroups *cg, struct error *err);
void cgroups_free(struct cgroups *cg);

/* The hierarchy with that controller; NULL where the machine does not have it. */
const struct cgroup_hier *cgroups_find(const struct cgroups *cg, const char *controller);

/* Makes `path` in every hierarchy (existing ones are fine). */
int cgroup_make(const struct cgroups *cg, const char *path, struct error *err);

/*
 * Opens what a task needs to move *itself*: the v1 `tasks` files (a task that moves itself
 * alone takes no global lock in the kernel, kernel/cgroup/cgroup.c cgroup_procs_write_start),
 * close-on-exec; *v2_dir is the v2 folder for CLONE_INTO_CGROUP, or -1. fds: cg->n long,
 * -1 where there is none.
 */
int cgroup_open(const struct cgroups *cg, const char *path, int *fds, int *v2_dir,
		struct error *err);
/* Moves the calling thread in through those; async-signal-safe. 0 or -errno. */
int cgroup_enter(const int *fds, size_t n);

/* Writes limits and the device list. */
int cgroup_limit(const struct cgroups *cg, const char *path, const struct spec_resources *r,
		 bool with_devices, struct error *err);

/* Freezes or thaws and waits until it is so (10 s at most). */
int cgroup_freeze(const struct cgroups *cg, const char *path, bool on, struct error *err);
bool cgroup_frozen(const struct cgroups *cg, const char *path);

/* All pids inside, sub-groups included; *pids is the caller's. */
int cgroup_pids(const struct cgroups *cg, const char *path, pid_t **pids, size_t *n);

/* Sends a signal to every process inside. */
void cgroup_signal(const struct cgroups *cg, const char *path, int signo);

/* Removes the groups, sub-groups included; waits for dying tasks up to 10 s. */
int cgroup_remove(const struct cgroups *cg, const char *path, struct error *err);

/* cgroup-devices.c: attaches a BPF device filter to a v2 group folder. */
int cgroup_devices_bpf(const char *dir, const struct spec_device_rule *rules, size_t n,
		       struct error *err);

static inline void cleanup_cgroups(struct cgroups *cg)
{
	cgroups_free(cg);
}
#define CLEANUP_CGROUPS __attribute__((cleanup(cleanup_cgroups)))

/* cgroup-blkio.c: linux.resources.blockIO; checked when it is read. */
int cgroup_blkio_check(const json_t *blkio, struct error *err);
int cgroup_blkio(const struct cgroups *cg, const char *path, const json_t *blkio,
		 struct error *err);

#endif
