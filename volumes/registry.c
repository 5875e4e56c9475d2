// SPDX-License-Identifier: Apache-2.0
/* The list of RADOS clients that use volumes; see registry.h. */
#include "volumes/registry.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

#define OBJECT	   "ferry.volumes"
#define LIST_CHUNK 500

static int key_set(rados_ioctx_t io, const char *key, const char *value, struct error *err)
{
	rados_write_op_t op = rados_create_write_op();
	const char *keys[] = { key }, *values[] = { value };
	size_t klen = strlen(key), vlen = strlen(value);
	int rc;

	rados_write_op_omap_set2(op, keys, values, &klen, &vlen, 1);
	rc = rados_write_op_operate2(op, io, OBJECT, NULL, 0);
	rados_release_write_op(op);
	return rc < 0 ? error_sys(err, -rc, "noting %s in the volumes' registry", key) : 0;
}

static int key_remove(rados_ioctx_t io, const char *key, struct error *err)
{
	rados_write_op_t op = rados_create_write_op();
	const char *keys[] = { key };
	size_t klen = strlen(key);
	int rc;

	rados_write_op_omap_rm_keys2(op, keys, &klen, 1);
	rc = rados_write_op_operate2(op, io, OBJECT, NULL, 0);
	rados_release_write_op(op);
	if (rc < 0 && rc != -ENOENT)
		return error_sys(err, -rc, "removing %s from the volumes' registry", key);
	return 0;
}

static void timestamp(char out[32])
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

int registry_add(rados_ioctx_t io, const char *volume, const char *host, const char *address,
		 const char *mode, struct error *err)
{
	CLEANUP_FREE char *key = str_format("client/%s/%s/%s", volume, host, address);
	CLEANUP_FREE char *text = NULL;
	CLEANUP_JSON json_t *value = json_object();
	char since[32];

	timestamp(since);
	json_set_int(value, "schema", 1);
	json_set_str(value, "mode", mode);
	json_set_str(value, "since", since);
	text = json_text(value);
	return key_set(io, key, text, err);
}

int registry_remove(rados_ioctx_t io, const char *volume, const char *host, const char *address,
		    struct error *err)
{
	CLEANUP_FREE char *key = str_format("client/%s/%s/%s", volume, host, address);

	return key_remove(io, key, err);
}

/* "client/VOLUME/HOST/ADDRESS" cut in place (the address has slashes); false: not one. */
static bool key_split(char *key, char *parts[3])
{
	char *p = key + strlen("client/");

	if (!str_starts(key, "client/"))
		return false;
	for (int i = 0; i < 2; i++) {
		char *slash = strchr(p, '/');

		if (!slash)
			return false;
		*slash = '\0';
		parts[i] = p;
		p = slash + 1;
	}
	parts[2] = p;
	return true;
}

static void list_one(json_t *out, const char *key, const char *value, size_t len,
		     const char *volume, const char *host)
{
	CLEANUP_FREE char *copy = str_dup(key);
	json_t *entry;
	char *parts[3];

	if (!key_split(copy, parts) || (volume && strcmp(volume, parts[0]) != 0) ||
	    (host && strcmp(host, parts[1]) != 0))
		return;
	entry = json_parse(value, len, "registry entry", NULL);
	if (!json_is_object(entry)) {
		json_decref(entry);
		entry = json_object();
	}
	json_set_str(entry, "volume", parts[0]);
	json_set_str(entry, "host", parts[1]);
	json_set_str(entry, "address", parts[2]);
	json_array_append_new(out, entry);
}

int registry_list(rados_ioctx_t io, const char *volume, const char *host, json_t **out,
		  struct error *err)
{
	CLEANUP_FREE char *prefix = volume ? str_format("client/%s/", volume) : str_dup("client/");
	CLEANUP_FREE char *after = str_dup("");
	CLEANUP_JSON json_t *list = json_array();
	unsigned char more = 1;

	while (more) {
		rados_read_op_t op = rados_create_read_op();
		rados_omap_iter_t iter = NULL;
		char *key, *value;
		size_t klen, vlen;
		int rc, rval = 0;

		rados_read_op_omap_get_vals2(op, after, prefix, LIST_CHUNK, &iter, &more, &rval);
		rc = rados_read_op_operate(op, io, OBJECT, 0);
		if (rc == 0)
			rc = rval;
		while (rc == 0 && rados_omap_get_next2(iter, &key, &value, &klen, &vlen) == 0 &&
		       key) {
			list_one(list, key, value, vlen, volume, host);
			free(after);
			after = str_dup(key);
		}
		if (iter)
			rados_omap_get_end(iter);
		rados_release_read_op(op);
		if (rc == -ENOENT)
			break;
		if (rc < 0)
			return error_sys(err, -rc, "reading the volumes' registry");
	}
	*out = TAKE_PTR(list);
	return 0;
}

char *registry_host_of(rados_ioctx_t io, const char *address)
{
	CLEANUP_JSON json_t *list = NULL;
	json_t *entry;
	size_t i;

	if (registry_list(io, NULL, NULL, &list, NULL))
		return NULL;
	json_array_foreach (list, i, entry)
		if (strcmp(json_str(entry, "address", ""), address) == 0)
			return str_dup(json_str(entry, "host", NULL));
	return NULL;
}

int registry_writer_set(rados_ioctx_t io, const char *volume, const char *mark, struct error *err)
{
	CLEANUP_FREE char *key = str_format("writer/%s", volume);

	return key_set(io, key, mark, err);
}

int registry_writer_get(rados_ioctx_t io, const char *volume, char **mark, struct error *err)
{
	CLEANUP_FREE char *wanted = str_format("writer/%s", volume);
	const char *keys[] = { wanted };
	size_t wlen = strlen(wanted), klen, vlen;
	rados_read_op_t op = rados_create_read_op();
	rados_omap_iter_t iter = NULL;
	char *key = NULL, *value = NULL;
	int rc, rval = 0;

	*mark = NULL;
	rados_read_op_omap_get_vals_by_keys2(op, keys, 1, &wlen, &iter, &rval);
	rc = rados_read_op_operate(op, io, OBJECT, 0);
	if (rc == 0)
		rc = rval;
	if (rc == 0 && rados_omap_get_next2(iter, &key, &value, &klen, &vlen) == 0 && key)
		*mark = str_format("%.*s", (int)vlen, value);
	else if (rc == 0 || rc == -ENOENT)
		*mark = str_dup("");
	if (iter)
		rados_omap_get_end(iter);
	rados_release_read_op(op);
	return *mark ? 0 : error_sys(err, -rc, "reading the volumes' registry");
}

int registry_forget(rados_ioctx_t io, const char *volume, struct error *err)
{
	CLEANUP_FREE char *writer = str_format("writer/%s", volume);
	CLEANUP_JSON json_t *list = NULL;
	json_t *entry;
	size_t i;
	int rc = registry_list(io, volume, NULL, &list, err);

	json_array_foreach (list, i, entry) {
		if (rc)
			break;
		rc = registry_remove(io, volume, json_str(entry, "host", ""),
				     json_str(entry, "address", ""), err);
	}
	return rc ? rc : key_remove(io, writer, err);
}
