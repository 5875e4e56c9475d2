/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From Docker's create body and an image's config to an OCI runtime configuration. What
 * ferry does not honour is refused here, by name.
 */
#ifndef FERRY_CONTAINER_BUNDLE_H
#define FERRY_CONTAINER_BUNDLE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "runtime/container/container.h"

/* Allow list for a container with these capabilities (array of "CAP_X"). New reference. */
json_t *seccomp_default(const json_t *caps);

/* check.c: EINVAL for what cannot be honoured. Pure. */
int bundle_check(const json_t *docker, const json_t *image_config, struct error *err);

struct bundle_input {
	const char *id;
	const json_t *docker;	    /* create body */
	const json_t *image_config; /* image's "Config" */
	const char *rootfs;	    /* mounted: users are looked up in it */
	const char *hostname, *hosts_file, *hostname_file, *resolv_file; /* files on the host */
	const char *cgroup_path;
	const struct container_start_params *params;
};
/* A new config.json document; NULL with err set. */
json_t *bundle_make(const struct bundle_input *in, struct error *err);

/* The process document of an exec, from the container's config.json and Docker's body. */
json_t *bundle_exec(const json_t *config, const json_t *body, const json_t *docker,
		    const char *rootfs, struct error *err);

/* Entrypoint and Cmd merged as Docker does; a new array, empty where there is no command. */
json_t *bundle_args(const json_t *docker, const json_t *image_config);

/* linux.resources from HostConfig fields (create and update). */
json_t *bundle_resources(const json_t *host_config);

/* capabilities of a container: default set with CapAdd and CapDrop, or all. New array. */
json_t *bundle_caps(const json_t *host_config, struct error *err);

/*
 * user.c: "name", "uid", "name:group", "uid:gid" looked up in rootfs's /etc/passwd and
 * /etc/group (resolved inside the root). Additional groups into *groups (new array), the
 * home folder into *home (caller frees). ENOENT: unknown name.
 */
int user_resolve(const char *rootfs, const char *spec, const json_t *group_add, int64_t *uid,
		 int64_t *gid, json_t **groups, char **home, struct error *err);

#endif
