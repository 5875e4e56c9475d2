/* SPDX-License-Identifier: Apache-2.0 */
/* Disk usage of containers, by walking their writable layer; see usage.h. */
#include <fts.h>
#include <sys/stat.h>
#include <string.h>

#include "api/docker/usage.h"
#include "base/cleanup.h"
#include "base/json.h"

static int64_t tree_bytes(const char *path)
{
	char *paths[] = { (char *)(uintptr_t)path, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	int64_t sum = 0;
	FTSENT *e;

	if (!fts)
		return 0;
	while ((e = fts_read(fts)))
		if (e->fts_info == FTS_F)
			sum += e->fts_statp->st_size;
	fts_close(fts);
	return sum;
}

void usage_add_container(struct fabric *f, json_t *row)
{
	CLEANUP_JSON json_t *c = NULL;
	CLEANUP_JSON json_t *image = NULL;
	const char *upper;
	int64_t rw;

	if (fabric_container_inspect(f, json_str(row, "Id", ""), &c, NULL) < 0 ||
	    strcmp(json_str(json_object_get(c, "Ferry"), "Host", ""), fabric_host(f)))
		return;
	upper = json_str(json_at(c, "GraphDriver.Data"), "UpperDir", "");
	if (!*upper)
		return;
	rw = tree_bytes(upper);
	fabric_image_inspect(f, json_str(c, "Image", ""), &image, NULL);
	json_set_int(row, "SizeRw", rw);
	json_set_int(row, "SizeRootFs", rw + json_int(image, "Size", 0));
}
