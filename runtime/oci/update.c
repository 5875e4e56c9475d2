/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci update (limits of a running container, from linux.resources) and features. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/oci/cgroup.h"
#include "runtime/oci/oci.h"

int cmd_update(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	static const struct option longs[] = { { "resources", required_argument, 0, 'r' }, { 0 } };
	CLEANUP_STATE struct state s = { 0 };
	CLEANUP_CGROUPS struct cgroups cg = { 0 };
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_FREE char *text = NULL;
	struct spec_resources res;
	const char *file = NULL;
	size_t len;
	int c, r;

	(void)status;
	while ((c = getopt_long(argc, argv, "r:", longs, NULL)) != -1) {
		if (c != 'r')
			return usage(err, "update --resources FILE|- ID");
		file = optarg;
	}
	if (argc - optind != 1 || !file)
		return usage(err, "update --resources FILE|- ID");
	if ((r = state_load(g, argv[optind], &s, err)) < 0 ||
	    (r = file_read(strcmp(file, "-") ? file : "/dev/stdin", 1 << 20, &text, &len, err)) < 0)
		return r;
	doc = json_parse(text, len, file, err);
	if (!doc)
		return err ? -err->code : -EINVAL;
	r = spec_resources_parse(doc, &res, err);
	if (!r)
		r = cgroups_load(&cg, err);
	if (!r)
		r = cgroup_limit(&cg, s.cgroup, &res, false, err);
	free(res.devices);
	return r;
}

/* features.md of the runtime specification; what is refused at parsing is not listed. */
int cmd_features(const struct global *g, int argc, char **argv, int *status, struct error *err)
{
	(void)g;
	(void)argv;
	(void)status;
	if (argc != 1)
		return usage(err, "features");
	puts("{\"ociVersionMin\":\"1.0.0\",\"ociVersionMax\":\"1.2.0\","
	     "\"hooks\":[\"prestart\",\"createRuntime\",\"createContainer\",\"startContainer\","
	     "\"poststart\",\"poststop\"],"
	     "\"linux\":{\"namespaces\":[\"cgroup\",\"ipc\",\"mount\",\"network\",\"pid\",\"time\","
	     "\"user\",\"uts\"],\"cgroup\":{\"v1\":true,\"v2\":true,\"systemd\":false,"
	     "\"systemdUser\":false,"
	     "\"rdma\":false},\"seccomp\":{\"enabled\":true},\"apparmor\":{\"enabled\":true},"
	     "\"selinux\":{\"enabled\":false},\"intelRdt\":{\"enabled\":false},"
	     "\"mountExtensions\":{\"idmap\":{\"enabled\":false}}}}");
	return 0;
}
