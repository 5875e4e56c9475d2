/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image names. Inside the store a name is always whole,
 * "docker.io/library/redis:latest"; people see and write the short form.
 * Grammar: github.com/distribution/reference.
 */
#ifndef FERRY_RUNTIME_IMAGE_REF_H
#define FERRY_RUNTIME_IMAGE_REF_H

#include "base/error.h"

/* A name in its parts. */
struct image_ref {
	char *host;   /* "docker.io" */
	char *path;   /* "library/redis" */
	char *tag;    /* "latest"; NULL where only a digest was given */
	char *digest; /* hex behind "@sha256:"; NULL where none was given */
};

/* Parts of "[host/]path[:tag][@sha256:HEX]", or -EINVAL saying what is wrong. */
int image_ref_parse(const char *name, struct image_ref *ref, struct error *err);
void image_ref_free(struct image_ref *ref);
#define CLEANUP_REF __attribute__((cleanup(image_ref_free)))

/* The whole form of "name[:tag]" (caller frees), or -EINVAL; a digest is refused. */
int image_ref_normalize(const char *name, char **whole, struct error *err);

/* The short form of a whole name: "redis:latest" (caller frees). */
char *image_ref_short(const char *whole);

#endif
