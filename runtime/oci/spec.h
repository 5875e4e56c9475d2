/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of an OCI runtime configuration (config.json, runtime-spec 1.2) that ferry-oci
 * acts on, checked. Parsing is a pure function of the text; it touches nothing.
 *
 * All strings point into the parsed document, which the struct owns. What cannot be
 * honoured is refused here, before anything is made.
 */
#ifndef FERRY_OCI_SPEC_H
#define FERRY_OCI_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/error.h"

struct strings { /* NULL-terminated array of borrowed strings */
	const char **v;
	size_t n;
};

struct spec_rlimit {
	int resource;
	const char *name;
	struct rlimit lim;
};

enum {
	CAPSET_BOUNDING,
	CAPSET_EFFECTIVE,
	CAPSET_INHERITABLE,
	CAPSET_PERMITTED,
	CAPSET_AMBIENT,
	CAPSET_COUNT
};

struct spec_process {
	struct strings args, env;
	const char *cwd;
	bool terminal;
	unsigned rows, cols; /* 0: not given */
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t ngroups;
	bool has_umask;
	mode_t umask;
	bool has_caps;
	uint64_t caps[CAPSET_COUNT]; /* bit n: capability n */
	struct spec_rlimit *rlimits;
	size_t nrlimits;
	bool no_new_privs;
	const char *apparmor, *selinux; /* profile and label for execve; NULL: none */
	bool has_oom_score_adj;
	int oom_score_adj;
};

struct spec_mount {
	const char *destination, *type, *source;
	struct strings options;
};

enum spec_ns { NS_PID, NS_NET, NS_MNT, NS_IPC, NS_UTS, NS_CGROUP, NS_TIME, NS_USER, NS_COUNT };

struct spec_namespace {
	bool wanted;	  /* listed in linux.namespaces */
	const char *path; /* NULL: a new one */
};
/* Kernel names ("pid", "net", "mnt" …) and CLONE_NEW* flags, by enum spec_ns. */
extern const char *const spec_ns_name[NS_COUNT];
extern const int spec_ns_flag[NS_COUNT];

/* `size` ids from `inside` on are those from `outside` on for the host. */
struct spec_idmap {
	int64_t inside, outside, size;
};

struct spec_device {
	const char *path;
	char type; /* c, b, u, p */
	int64_t major, minor;
	mode_t mode;
	uid_t uid;
	gid_t gid;
};

struct spec_device_rule {
	bool allow;
	char type;	      /* a, b, c */
	int64_t major, minor; /* -1: all */
	bool read, write, mknod;
};

/* A missing limit is INT64_MIN; -1 means "no limit" where the kernel files know one. */
#define LIMIT_NONE INT64_MIN
struct spec_resources {
	int64_t mem_limit, mem_reservation, mem_swap, mem_swappiness, mem_kernel_tcp;
	bool mem_disable_oom_killer;
	int64_t cpu_shares, cpu_quota, cpu_period, cpu_idle;
	const char *cpus, *mems;
	int64_t pids_limit;
	json_t *blkio; /* borrowed object, checked */
	struct spec_device_rule *devices;
	size_t ndevices;
	json_t *unified;   /* borrowed object: v2 file name → value */
	json_t *hugepages; /* borrowed array */
};

struct spec_hook {
	const char *path;
	struct strings args, env;
	int64_t timeout_s; /* 0: none */
};
enum {
	HOOK_PRESTART,
	HOOK_CREATE_RUNTIME,
	HOOK_CREATE_CONTAINER,
	HOOK_START_CONTAINER,
	HOOK_POSTSTART,
	HOOK_POSTSTOP,
	HOOK_COUNT
};

struct spec {
	json_t *doc;
	const char *version, *hostname, *domainname, *rootfs;
	bool rootfs_readonly;
	bool has_process;
	struct spec_process process;
	struct spec_mount *mounts;
	size_t nmounts;
	struct spec_namespace ns[NS_COUNT];
	struct spec_idmap *uid_maps, *gid_maps; /* of a new user namespace */
	size_t nuid_maps, ngid_maps;
	bool has_time_offsets;
	int64_t mono_s, mono_ns, boot_s, boot_ns;
	struct spec_device *devices;
	size_t ndevices;
	const char *cgroups_path;
	struct spec_resources res;
	unsigned long rootfs_propagation; /* MS_PRIVATE …, with MS_REC; 0: not given */
	struct strings masked, readonly_paths;
	const char *mount_label; /* of SELinux; NULL: none */
	json_t *sysctl;		 /* borrowed object or NULL */
	json_t *seccomp;	 /* borrowed object or NULL */
	struct spec_hook *hooks[HOOK_COUNT];
	size_t nhooks[HOOK_COUNT];
	json_t *annotations;
};

/* Parses and checks; NULL with err set (EINVAL, EOPNOTSUPP). Free with spec_free(). */
struct spec *spec_parse(const char *text, size_t len, struct error *err);
void spec_free(struct spec *spec);

/* A process document alone (ferry-oci exec --process); strings borrow from `doc`. */
int spec_process_parse(const json_t *doc, struct spec_process *p, struct error *err);
void spec_process_free(struct spec_process *p);

/* linux.resources alone (ferry-oci update); borrows from `doc`. Free `devices` only. */
int spec_resources_parse(const json_t *doc, struct spec_resources *r, struct error *err);

/* "CAP_CHOWN" or "chown" → number; -1 for an unknown name. */
int spec_cap_number(const char *name);

static inline void cleanup_spec(struct spec **s)
{
	spec_free(*s);
}
#define CLEANUP_SPEC __attribute__((cleanup(cleanup_spec)))

#endif
