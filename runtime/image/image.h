/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image store of one host: images come in as archives, lie in a content store
 * by digest, are unpacked into layer folders for overlayfs, and go out as archives.
 *
 *	ROOT/lock			flock: shared by readers, exclusive by writers of the index
 *	ROOT/index.json			images, references, layers; replaced atomically
 *	ROOT/blobs/sha256/HEX		configs, and layers as uncompressed tar (HEX = diff id)
 *	ROOT/layers/HEX/fs		an unpacked layer (HEX = chain id), a lowerdir of overlayfs
 *	ROOT/tmp/RANDOM			a load on its way; flock held by its loader
 *	ROOT/downloads/HEX		a blob on its way from a registry; flock likewise
 *
 * index.json is the only truth: a blob or a layer folder that it does not name is
 * rubbish, and is removed at the next open or remove. A load works in its own folder
 * under tmp and is made visible by a few renames followed by the new index, so a
 * loader killed at any moment leaves a store that works.
 *
 * Any number of threads and processes may use a store at the same time, each thread
 * with the same `struct image_store` or its own. No lock is held while an archive
 * streams in; while one streams out the blobs in use are held open.
 *
 * All functions return 0 or a negative errno with `err` set. json_t results are new
 * references.
 *
 * A `ref` is: "name", "name:tag", "sha256:HEX" (image id), HEX (64 digits), or a short
 * id of at least 4 hex digits that is unambiguous. A reference that is a tag wins
 * over a short id. A name without tag means ":latest". "redis", "docker.io/redis" and
 * "docker.io/library/redis:latest" are one and the same; the short form is shown.
 */
#ifndef FERRY_RUNTIME_IMAGE_IMAGE_H
#define FERRY_RUNTIME_IMAGE_IMAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct image_store;

/* Bounds on what an archive may make the store do; a load above one gives EFBIG. */
struct image_limits {
	uint64_t max_total_bytes; /* uncompressed bytes of all layers of one load; default 64 GiB */
	uint64_t max_entries;	  /* files in one layer; default 4,000,000 */
	uint64_t max_json_bytes;  /* one manifest, index or config; default 8 MiB */
	uint64_t max_layers;	  /* layers of one image; default 127, Docker's own limit */
};

/*
 * Opens (and makes where it is missing) the store under `root`, an absolute path, and
 * removes what killed loads left. Root is needed to load. The caller closes it.
 */
int image_store_open(const char *root, struct image_store **out, struct error *err);
void image_store_close(struct image_store *s);

/* Replaces the limits of this handle; fields that are 0 keep their default. */
void image_store_set_limits(struct image_store *s, const struct image_limits *limits);

/*
 * Loads every image of an archive read from `fd` (a pipe or socket is fine; it is read
 * once, to the end of file, and not closed): docker-archive (`docker save`, podman save) or
 * OCI archive (a tar of an OCI layout), each plain, gzip or zstd, with layers plain,
 * gzip or zstd. Where an archive is both, manifest.json is used. Every digest is
 * checked. A tag that exists moves to the new image; the old one stays, untagged.
 *
 * *names: ["redis:7", ...] the references that now name the loaded images, and the
 * "sha256:..." id for an image that has no name in the archive. Docker prints
 * "Loaded image: redis:7", "Loaded image ID: sha256:...".
 *
 * EINVAL: not an image archive, or one that breaks its format, names what is unsafe,
 * or is truncated; EBADMSG: a digest is wrong; EFBIG: above a limit; ENOSPC, EIO ... as
 * they are. On failure nothing of the archive is in the store.
 */
int image_load(struct image_store *s, int fd, json_t **names, struct error *err);

/*
 * One image as GET /images/NAME/json gives it: {"Id","RepoTags","RepoDigests","Created",
 * "Size","Architecture","Os","Config":{Cmd,Entrypoint,Env,WorkingDir,User,ExposedPorts,
 * Volumes,Labels,StopSignal,...},"RootFS":{"Type":"layers","Layers":[diff ids]},...}.
 * ENOENT: "No such image: x"; EINVAL: not a reference, or an ambiguous short id.
 */
int image_get(struct image_store *s, const char *ref, json_t **out, struct error *err);

/*
 * All images as GET /images/json gives them, newest first: [{"Id","ParentId","RepoTags",
 * "RepoDigests","Created" (seconds),"Size","SharedSize","Labels","Containers"}, ...].
 * An untagged image has RepoTags [].
 */
int image_list(struct image_store *s, json_t **out, struct error *err);

/*
 * The history as GET /images/NAME/history gives it, newest first:
 * [{"Id","Created","CreatedBy","Tags","Size","Comment"}, ...].
 */
int image_history(struct image_store *s, const char *ref, json_t **out, struct error *err);

/* Gives the image another reference "name[:tag]"; it is taken from whoever had it. */
int image_tag(struct image_store *s, const char *ref, const char *name, struct error *err);

/*
 * DELETE /images/NAME. A name is untagged, and the image deleted with its last name.
 * An id deletes the image with its name; EBUSY where it has several, except with
 * `force`. Whether a container uses it is the caller's business (it must ask before).
 * *result: [{"Untagged":"redis:7"},{"Deleted":"sha256:..."}, ...] (image, then the layers
 * that went with it, as chain ids).
 */
int image_remove(struct image_store *s, const char *ref, bool force, json_t **result,
		 struct error *err);

/*
 * Absolute paths of the image's unpacked layers for overlayfs, topmost first, as
 * `lowerdir=` wants them; free with image_dirs_free(). Read-only: containers share them.
 * They stay valid until the image is removed.
 */
int image_lower_dirs(struct image_store *s, const char *ref, char ***dirs, size_t *n,
		     struct error *err);
void image_dirs_free(char **dirs, size_t n);

/* --- making images ------------------------------------------------------------------- */

struct image_change {
	const char *parent;   /* the image below; NULL: nothing */
	const char *name;     /* "name[:tag]" for the new image; NULL: none */
	const json_t *config; /* its run config (Cmd, Env, ...); NULL: the parent's */
	const char *author, *comment, *created_by, *container; /* or NULL */
};

/*
 * Makes an image of one more layer, whose tar (plain or packed, with whiteouts) comes from
 * `fd`. *id: "sha256:..." (caller frees). ENOENT: no such parent; ESTALE: it was removed
 * meanwhile; EINVAL: the tar breaks its format, and what image_load() says.
 */
int image_commit(struct image_store *s, const struct image_change *change, int fd, char **id,
		 struct error *err);

/* --- registries ---------------------------------------------------------------------- */

struct image_registries {
	const char *const *insecure; /* hosts, "10.0.0.1:5000", where plain HTTP and certificates
					of unknown authorities will do; NULL-terminated, or NULL */
	const char *const *mirrors;  /* URLs asked for images of docker.io first; likewise */
	const char *certs;	     /* folder of HOST/{*.crt, client.cert, client.key}, or NULL */
};

struct image_login {
	const char *user, *password; /* or NULL */
	const char *identity_token;  /* asks the token server for tokens; or NULL */
	const char *registry_token;  /* is the token; or NULL */
};

struct image_transfer {
	const struct image_registries *registries;
	const struct image_login *login; /* NULL: nobody */
	/* Each step, as a line of Docker's progress stream: {"status","id","progressDetail"}. */
	void (*progress)(void *ctx, json_t *line); /* called by one thread at a time; or NULL */
	bool (*stop)(void *ctx);		   /* true: give up, with ECANCELED; or NULL */
	/*
	 * Another place where the uncompressed layer with this diff id (hex) may be: writes
	 * it to `fd`. Anything but 0 sends us to the registry. NULL: there is none.
	 */
	int (*layer)(void *ctx, const char *diff, int fd);
	void *ctx;
	const char *arch; /* "arm64"; NULL: the host's */
};

/*
 * Fetches `ref` ("name[:tag]" or "name@sha256:...") from its registry: manifest, config
 * and the layers that the store lacks, several at a time; what a cut download has brought
 * stays in ROOT/downloads and is not fetched again. Every digest is checked, and nothing
 * is in the store before all of it is. *result: {"Id","Digest" "sha256:...","New" bool}.
 * Errors: registry.h, and those of image_load().
 */
int image_pull(struct image_store *s, const char *ref, const struct image_transfer *t,
	       json_t **result, struct error *err);

/*
 * Brings `ref` ("name[:tag]", an image's name in the store) to its registry: layers that
 * it has already are not sent, those of another repository of it are mounted. *result:
 * {"Tag","Digest","Size"}.
 */
int image_push(struct image_store *s, const char *ref, const struct image_transfer *t,
	       json_t **result, struct error *err);

/*
 * What its registry has under `ref`, as GET /distribution/NAME/json gives it:
 * {"Descriptor":{"mediaType","digest","size"},"Platforms":[{"architecture","os"}, ...]}.
 */
int image_distribution(const struct image_transfer *t, const char *ref, json_t **out,
		       struct error *err);

/* Whether the registry `host` takes t's login. EACCES: it does not. */
int image_login_check(const struct image_transfer *t, const char *host, struct error *err);

/*
 * The uncompressed tar of a layer by its diff id (hex), to read: an fd to close, or
 * -ENOENT.
 */
int image_layer_open(struct image_store *s, const char *diff, struct error *err);

/*
 * Streams images to `fd` (a pipe or socket is fine, not closed) as one docker-archive
 * that is an OCI layout as well, as Docker 25 writes it; a layer used by several is
 * written once. A ref that is a name is saved under that name; an id without names.
 * Config and layers are byte for byte those that were loaded, so the image has the
 * same id after image_load() of the result, anywhere.
 */
int image_save(struct image_store *s, const char *const refs[], size_t n, int fd,
	       struct error *err);

#endif
