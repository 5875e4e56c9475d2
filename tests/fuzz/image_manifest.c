/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: every document of an image archive, and image names. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "base/tar.h"
#include "runtime/image/manifest.h"
#include "runtime/image/ref.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = mem_zalloc(size + 1);
	CLEANUP_FREE char *whole = NULL;
	CLEANUP_FREE char *path = NULL;
	struct error err = { 0 };
	json_t *(*const parsers[])(const char *, size_t, struct error *) = {
		image_parse_docker_manifest, image_parse_oci_index, image_parse_oci_manifest,
		image_parse_config
	};

	for (size_t i = 0; i < sizeof(parsers) / sizeof(*parsers); i++) {
		json_t *doc = parsers[i]((const char *)data, size, &err);

		if (!doc && err.code <= 0)
			abort(); /* a refusal has a reason */
		json_decref(doc);
		error_clear(&err);
	}
	memcpy(text, data, size);
	if (image_ref_normalize(text, &whole, &err) == 0) {
		CLEANUP_FREE char *shown = image_ref_short(whole);
		CLEANUP_FREE char *again = NULL;

		if (image_ref_normalize(shown, &again, &err) < 0 || strcmp(whole, again) != 0)
			abort(); /* what is shown means the same */
	}
	path = tar_path_clean(text, 1);
	if (path && (*path == '/' || strstr(path, "//") || strcmp(path, "..") == 0 ||
		     strncmp(path, "../", 3) == 0 || strstr(path, "/../")))
		abort();
	return 0;
}
