/* SPDX-License-Identifier: Apache-2.0 */
/* What a registry has under a name, without fetching it; image.h is the contract. */
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "runtime/image/digest.h"
#include "runtime/image/manifest.h"
#include "runtime/image/ref.h"
#include "runtime/image/registry.h"

#define MAX_MANIFEST (4u << 20)

/* The platforms of an index. */
static json_t *platforms_of_index(const char *text, size_t len)
{
	CLEANUP_JSON json_t *list = image_parse_oci_index(text, len, NULL);
	json_t *out = json_array();
	const json_t *d;
	size_t i;

	json_array_foreach (list, i, d)
		if (json_str(d, "os", NULL))
			json_array_append_new(out, json_pack("{s:s, s:s}", "architecture",
							     json_str(d, "arch", ""), "os",
							     json_str(d, "os", "")));
	return out;
}

static int describe(struct registry *reg, const struct image_ref *ref, json_t **out,
		    struct error *err)
{
	CLEANUP_FREE char *name =
		ref->digest ? str_format("sha256:%s", ref->digest) : str_dup(ref->tag);
	CLEANUP_FREE char *text = NULL, *type = NULL, *digest = NULL;
	char hex[IMAGE_HEX_LEN + 1];
	size_t len;
	int r = registry_manifest(reg, name, MAX_MANIFEST, &text, &len, &type, err);

	if (r < 0)
		return r;
	image_hash_of(text, len, hex);
	digest = str_format("sha256:%s", hex);
	*out = json_pack("{s:{s:s, s:s, s:I}, s:o}", "Descriptor", "mediaType", type, "digest",
			 digest, "size", (json_int_t)len, "Platforms",
			 platforms_of_index(text, len));
	return 0;
}

int image_distribution(const struct image_transfer *t, const char *ref, json_t **out,
		       struct error *err)
{
	CLEANUP_REF struct image_ref name = { 0 };
	struct error own = { 0 };
	int r;

	err = err ? err : &own;
	*out = NULL;
	r = image_ref_parse(ref, &name, err);
	if (r == 0) {
		char **urls = registry_urls(t->registries, name.host, false);

		r = -ENOENT;
		for (size_t i = 0; urls[i] && r < 0; i++) {
			struct registry *reg = NULL;

			error_clear(err);
			r = registry_open(t->registries, t->login, urls[i], name.path, false, &reg,
					  err);
			if (r == 0)
				r = describe(reg, &name, out, err);
			registry_close(reg);
		}
		registry_urls_free(urls);
	}
	return r < 0 ? error_wrap(err, "%s", ref) : 0;
}

int image_login_check(const struct image_transfer *t, const char *host, struct error *err)
{
	char **urls = registry_urls(t->registries, host, true);
	struct registry *reg = NULL;
	int r = registry_open(t->registries, t->login, urls[0], "", false, &reg, err);

	if (r == 0)
		r = registry_check(reg, err);
	registry_close(reg);
	registry_urls_free(urls);
	return r;
}
