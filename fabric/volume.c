/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes as the API sees them: what volumes/ offers, plus who uses them in the cluster. */
#include <string.h>

#include "fabric/internal.h"

int volume_ensure(struct fabric *f, const char *name, const char *driver, json_t *opts, char **out,
		  struct error *err)
{
	CLEANUP_FREE char *made = name && *name ? str_dup(name) : str_random_hex(32);
	CLEANUP_JSON json_t *there = NULL;
	int r = volume_inspect(f->volumes, made, &there, err);

	if (r == -ENOENT) {
		error_clear(err);
		r = volume_create(f->volumes, driver && *driver ? driver : NULL, made, opts, err);
		if (r == -EEXIST)
			r = 0;
		else if (!r)
			event_publish(f->events, "volume", "create", made, NULL);
	}
	if (r < 0)
		return r;
	*out = TAKE_PTR(made);
	return 0;
}

int fabric_volume_create(struct fabric *f, const json_t *body, json_t **out, struct error *err)
{
	const char *name = NULL, *driver = NULL;
	CLEANUP_JSON json_t *opts = json_object();
	CLEANUP_FREE char *made = NULL;
	json_t *given = json_object_get(body, "DriverOpts");
	int r = json_want_str(body, "Name", false, &name, err);

	if (!r)
		r = json_want_str(body, "Driver", false, &driver, err);
	if (r < 0)
		return r;
	if (name && *name && !str_is_name(name))
		return error_set(err, EINVAL,
				 "\"%s\" includes invalid characters for a volume name, only "
				 "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
				 name);
	if (given && !json_is_null(given) && !json_is_object(given))
		return error_set(err, EINVAL, "field \"DriverOpts\" must be an object");
	if (json_is_object(given))
		json_object_update(opts, given);
	if (json_is_object(json_object_get(body, "Labels")))
		json_object_set(opts, "labels", json_object_get(body, "Labels"));
	r = volume_ensure(f, name, driver, opts, &made, err);
	return r < 0 ? r : volume_inspect(f->volumes, made, out, err);
}

int fabric_volume_list(struct fabric *f, json_t **out, struct error *err)
{
	return volume_list(f->volumes, out, err);
}

int fabric_volume_inspect(struct fabric *f, const char *name, json_t **out, struct error *err)
{
	return volume_inspect(f->volumes, name, out, err);
}

int fabric_volume_remove(struct fabric *f, const char *name, bool force, struct error *err)
{
	CLEANUP_JSON json_t *all = documents_cached(f, "containers/");
	json_t *c, *v;
	size_t i, k;
	int r;

	json_array_foreach (all, i, c)
		json_array_foreach (json_object_get(c, "volumes"), k, v)
			if (!strcmp(json_str(v, "name", ""), name))
				return error_set(err, EBUSY, "remove %s: volume is in use - [%s]",
						 name, json_str(c, "id", ""));
	r = volume_remove(f->volumes, name, err);
	if (r == -ENOENT && force)
		return 0;
	if (!r)
		event_publish(f->events, "volume", "destroy", name, NULL);
	return r;
}
