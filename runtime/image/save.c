/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_save(): images as one tar that is a docker-archive (manifest.json) and an OCI
 * layout (index.json, oci-layout) over the same blobs, as Docker 25 and later write it.
 * The bytes are the same for the same images: times are 0, order is by request.
 */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/image/ref.h"
#include "runtime/image/store.h"

#define CHUNK	 (256u << 10)
#define OCI_TYPE "application/vnd.oci.image."

/* A blob held open, so that a remove meanwhile does no harm. */
struct part {
	char hex[IMAGE_HEX_LEN + 1];
	int fd;
	uint64_t size;
};

struct save {
	struct image_store *s;
	struct part *parts;
	size_t n;
	json_t *docker; /* manifest.json */
	json_t *oci;	/* "manifests" of index.json */
	json_t *docs;	/* {hex: text} OCI manifests */
	json_t *rows;	/* {image id: its entry in docker} */
};

static int hold_blob(struct save *sv, const char *hex, uint64_t *size, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/blobs/sha256/%s", sv->s->root, hex);
	CLEANUP_CLOSE int fd = -1;
	struct part *p;
	struct stat st;

	for (size_t i = 0; i < sv->n; i++)
		if (strcmp(sv->parts[i].hex, hex) == 0) {
			*size = sv->parts[i].size;
			return 0;
		}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_sys(err, errno, "opening %s", path);
	sv->parts = mem_grow(sv->parts, sv->n + 1, sizeof(*sv->parts));
	p = &sv->parts[sv->n++];
	snprintf(p->hex, sizeof(p->hex), "%s", hex);
	p->fd = TAKE_FD(fd);
	*size = p->size = (uint64_t)st.st_size;
	return 0;
}

static json_t *descriptor(const char *type, const char *hex, uint64_t size)
{
	CLEANUP_FREE char *digest = str_format("sha256:%s", hex);

	return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest, "size",
			 (json_int_t)size);
}

/* Describes an image in both forms; *row: its entry in manifest.json (borrowed). */
static int describe(struct save *sv, const json_t *index, const char *id, json_t **row,
		    json_t **desc, struct error *err)
{
	const json_t *chains =
		json_object_get(json_object_get(json_object_get(index, "images"), id), "layers");
	CLEANUP_JSON json_t *paths = json_array(), *list = json_array(), *doc = NULL;
	CLEANUP_FREE char *config = str_format("blobs/sha256/%s", id);
	CLEANUP_FREE char *text = NULL;
	char manifest[IMAGE_HEX_LEN + 1];
	uint64_t size = 0;
	const json_t *v;
	size_t i;
	int r;

	json_array_foreach (chains, i, v) {
		const json_t *layer =
			json_object_get(json_object_get(index, "layers"), json_string_value(v));
		const char *hex = json_str(layer, "diff", "");
		CLEANUP_FREE char *path = str_format("blobs/sha256/%s", hex);

		r = hold_blob(sv, hex, &size, err);
		if (r < 0)
			return r;
		json_array_append_new(paths, json_string(path));
		json_array_append_new(list, descriptor(OCI_TYPE "layer.v1.tar", hex, size));
	}
	r = hold_blob(sv, id, &size, err);
	if (r < 0)
		return r;
	doc = json_pack("{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType",
			OCI_TYPE "manifest.v1+json", "config",
			descriptor(OCI_TYPE "config.v1+json", id, size), "layers", list);
	text = json_text(doc);
	image_hash_of(text, strlen(text), manifest);
	json_object_set_new(sv->docs, manifest, json_string(text));
	*desc = descriptor(OCI_TYPE "manifest.v1+json", manifest, strlen(text));
	*row = json_object_get(sv->rows, id);
	if (!*row) {
		*row = json_pack("{s:s, s:[], s:O}", "Config", config, "RepoTags", "Layers", paths);
		json_array_append(sv->docker, *row);
		json_object_set_new(sv->rows, id, *row);
	}
	return 0;
}

static int collect(struct save *sv, const char *const refs[], size_t n, struct error *err)
{
	CLEANUP_CLOSE int lock = image_store_lock(sv->s, false, err);
	CLEANUP_JSON json_t *index = lock < 0 ? NULL : image_index_read(sv->s, err);

	if (!index)
		return err ? -err->code : -EIO;
	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *tag = NULL;
		json_t *row = NULL, *desc = NULL;
		const char *id;
		int r = image_resolve(index, refs[i], &id, &tag, err);

		if (r == 0)
			r = describe(sv, index, id, &row, &desc, err);
		if (r < 0)
			return r;
		if (tag && !strchr(tag, '@')) {
			CLEANUP_FREE char *shown = image_ref_short(tag);

			json_array_append_new(json_object_get(row, "RepoTags"), json_string(shown));
			json_object_set_new(desc, "annotations",
					    json_pack("{s:s, s:s}", "io.containerd.image.name", tag,
						      "org.opencontainers.image.ref.name",
						      strrchr(tag, ':') + 1));
		}
		json_array_append_new(sv->oci, desc);
	}
	return 0;
}

static la_ssize_t sink(struct archive *a, void *ctx, const void *p, size_t n)
{
	int r = fd_write_all(*(const int *)ctx, p, n);

	if (r < 0) {
		archive_set_error(a, -r, "%s", strerror(-r));
		return -1;
	}
	return (la_ssize_t)n;
}

static int write_failed(struct archive *a, const char *name, struct error *err)
{
	const char *text = archive_error_string(a);
	int code = archive_errno(a);

	return error_set(err, code > 0 ? code : EIO, "writing \"%s\": %s", name,
			 text ? text : "failed");
}

static int write_header(struct archive *a, const char *name, uint64_t size, struct error *err)
{
	struct archive_entry *e = archive_entry_new();
	int r = 0;

	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_mtime(e, 0, 0);
	archive_entry_set_size(e, (la_int64_t)size);
	if (archive_write_header(a, e) != ARCHIVE_OK)
		r = write_failed(a, name, err);
	archive_entry_free(e);
	return r;
}

static int write_part(struct archive *a, const struct part *p, struct error *err)
{
	CLEANUP_FREE char *name = str_format("blobs/sha256/%s", p->hex);
	CLEANUP_FREE char *buf = mem_zalloc(CHUNK);
	int r = write_header(a, name, p->size, err);

	if (r < 0)
		return r;
	for (uint64_t left = p->size; left;) {
		ssize_t n = read(p->fd, buf, left < CHUNK ? left : CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_sys(err, n ? errno : EIO, "reading blob %s", p->hex);
		if (archive_write_data(a, buf, (size_t)n) != n)
			return write_failed(a, name, err);
		left -= (uint64_t)n;
	}
	return 0;
}

static int write_text(struct archive *a, const char *name, const char *text, struct error *err)
{
	int r = write_header(a, name, strlen(text), err);

	if (r == 0 && archive_write_data(a, text, strlen(text)) != (la_ssize_t)strlen(text))
		r = write_failed(a, name, err);
	return r;
}

static int write_archive(struct save *sv, struct archive *a, struct error *err)
{
	CLEANUP_JSON json_t *index = json_pack("{s:i, s:s, s:O}", "schemaVersion", 2, "mediaType",
					       OCI_TYPE "index.v1+json", "manifests", sv->oci);
	CLEANUP_FREE char *index_text = json_text(index);
	CLEANUP_FREE char *docker_text = json_text(sv->docker);
	const char *hex;
	json_t *text;
	int r = 0;

	for (size_t i = 0; i < sv->n && r == 0; i++)
		r = write_part(a, &sv->parts[i], err);
	json_object_foreach (sv->docs, hex, text) {
		CLEANUP_FREE char *name = str_format("blobs/sha256/%s", hex);

		if (r == 0)
			r = write_text(a, name, json_string_value(text), err);
	}
	if (r == 0)
		r = write_text(a, "index.json", index_text, err);
	if (r == 0)
		r = write_text(a, "manifest.json", docker_text, err);
	if (r == 0)
		r = write_text(a, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", err);
	if (r == 0 && archive_write_close(a) != ARCHIVE_OK)
		r = write_failed(a, "the end of the archive", err);
	return r;
}

int image_save(struct image_store *s, const char *const refs[], size_t n, int fd, struct error *err)
{
	struct save sv = { .s = s,
			   .docker = json_array(),
			   .oci = json_array(),
			   .docs = json_object(),
			   .rows = json_object() };
	struct archive *a = archive_write_new();
	int r;

	if (!a)
		abort();
	r = n ? collect(&sv, refs, n, err) : error_set(err, EINVAL, "no image to save is named");
	if (r == 0) {
		archive_write_set_format_pax_restricted(a);
		archive_write_set_bytes_per_block(a, CHUNK);
		archive_write_set_bytes_in_last_block(a, 1);
		if (archive_write_open(a, &fd, NULL, sink, NULL) != ARCHIVE_OK)
			r = write_failed(a, "the archive", err);
		else
			r = write_archive(&sv, a, err);
	}
	if (r < 0)
		archive_write_fail(a); /* no end marker behind half an archive */
	archive_write_free(a);
	for (size_t i = 0; i < sv.n; i++)
		close(sv.parts[i].fd);
	free(sv.parts);
	json_decref(sv.docker);
	json_decref(sv.oci);
	json_decref(sv.docs);
	json_decref(sv.rows);
	return r;
}
