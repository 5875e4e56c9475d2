/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User namespaces: the id maps of config.json, and taking the part of root in a new one
 * (user_namespaces(7)). userns in launch.h is the contract.
 */
#include <grp.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"
#include "runtime/oci/launch.h"
#include "runtime/oci/spec-internal.h"

#define MAPS_MAX 340 /* lines of a map file, user_namespaces(7) */

static int parse_maps(const json_t *linux_obj, const char *key, struct spec_idmap **out, size_t *n,
		      struct error *err)
{
	json_t *arr, *v;
	size_t i;
	int r = spec_array(linux_obj, key, &arr, err);

	if (r < 0 || !json_array_size(arr))
		return r;
	if (json_array_size(arr) > MAPS_MAX)
		return error_set(err, EINVAL, "linux.%s has more than %d entries", key, MAPS_MAX);
	*out = mem_zalloc(json_array_size(arr) * sizeof(**out));
	json_array_foreach (arr, i, v) {
		struct spec_idmap *m = &(*out)[(*n)++];

		if (json_want_int(v, "containerID", false, 0, UINT32_MAX - 1, &m->inside, err) <
			    0 ||
		    json_want_int(v, "hostID", false, 0, UINT32_MAX - 1, &m->outside, err) < 0 ||
		    json_want_int(v, "size", true, 1, UINT32_MAX, &m->size, err) < 0)
			return error_wrap(err, "linux.%s[%zu]", key, i);
	}
	return 0;
}

int spec_userns_parse(const json_t *linux_obj, struct spec *s, struct error *err)
{
	int r = parse_maps(linux_obj, "uidMappings", &s->uid_maps, &s->nuid_maps, err);

	if (!r)
		r = parse_maps(linux_obj, "gidMappings", &s->gid_maps, &s->ngid_maps, err);
	if (r < 0)
		return r;
	if (s->ns[NS_USER].path)
		return error_set(err, EOPNOTSUPP,
				 "joining a user namespace by path is not supported; leave out its "
				 "path");
	if (!s->ns[NS_USER].wanted && (s->nuid_maps || s->ngid_maps))
		return error_set(
			err, EINVAL,
			"linux.uidMappings and gidMappings need a new \"user\" namespace in "
			"linux.namespaces");
	if (s->ns[NS_USER].wanted && (!s->nuid_maps || !s->ngid_maps))
		return error_set(
			err, EINVAL,
			"a new \"user\" namespace needs linux.uidMappings and gidMappings");
	return 0;
}

static int write_map(pid_t pid, const char *file, const struct spec_idmap *maps, size_t n,
		     struct error *err)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/%s", pid, file);
	CLEANUP_BUF struct buf b = { 0 };

	for (size_t i = 0; i < n; i++)
		buf_addf(&b, "%lld %lld %lld\n", (long long)maps[i].inside,
			 (long long)maps[i].outside, (long long)maps[i].size);
	return file_write_str(path, b.data, err) < 0 ? error_wrap(err, "mapping ids") : 0;
}

int userns_map(const struct spec *s, pid_t pid, struct error *err)
{
	int r;

	if (!s->ns[NS_USER].wanted)
		return 0;
	r = write_map(pid, "uid_map", s->uid_maps, s->nuid_maps, err);
	return r < 0 ? r : write_map(pid, "gid_map", s->gid_maps, s->ngid_maps, err);
}

/* The id to build the container with: 0, or the lowest there is. */
static int64_t first_id(const struct spec_idmap *maps, size_t n)
{
	int64_t id = maps[0].inside;

	for (size_t i = 1; i < n; i++)
		if (maps[i].inside < id)
			id = maps[i].inside;
	return id;
}

int userns_become_root(const struct spec *s, struct error *err)
{
	uid_t uid;
	gid_t gid;

	if (!s->ns[NS_USER].wanted)
		return 0;
	uid = (uid_t)first_id(s->uid_maps, s->nuid_maps);
	gid = (gid_t)first_id(s->gid_maps, s->ngid_maps);
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return error_sys(err, errno, "becoming user %u:%u of the user namespace", uid, gid);
	return 0;
}
