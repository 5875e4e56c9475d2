/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outer tar of an image archive, read once from front to back: each regular file is
 * written, uncompressed, into a temporary folder while it is hashed both as it came and
 * as it is written. Which of them is what is decided afterwards (load.c), since the
 * manifest may come last.
 */
#ifndef FERRY_RUNTIME_IMAGE_STAGE_H
#define FERRY_RUNTIME_IMAGE_STAGE_H

#include <archive.h>

#include "runtime/image/store.h"

struct image_file {
	char *path;		       /* in the archive, cleaned */
	char *link;		       /* it is a link to this path of the archive; else NULL */
	char *staged;		       /* where the content is */
	uint64_t size;		       /* uncompressed bytes */
	char raw[IMAGE_HEX_LEN + 1];   /* digest as it came */
	char plain[IMAGE_HEX_LEN + 1]; /* digest uncompressed */
};

struct image_stage {
	const char *dir; /* borrowed: the temporary folder */
	const struct image_limits *limits;
	struct image_file *files;
	size_t n;
	uint64_t total;
};

int image_stage_read(struct image_stage *st, int fd, struct error *err);

/*
 * One blob, read from `from` to its end, as file `number` of the folder. *f is the
 * caller's (to be put into st->files at that place), also after a failure; EBADMSG where
 * its digest is not `hex` (NULL: any will do, and `from` may be a pipe). Several threads may stage
 * at once.
 */
int image_stage_blob(const struct image_stage *st, size_t number, int from, const char *hex,
		     struct image_file *f, struct error *err);
void image_stage_free(struct image_stage *st);

/* A document, as if an archive had brought it: `name` in the folder, called `path`. *f as above. */
int image_stage_document(const struct image_stage *st, const char *name, const char *path,
			 const char *text, size_t len, struct image_file *f, struct error *err);

/* Frees what a file of image_stage_blob() holds; its content stays until the folder goes. */
void image_file_drop(struct image_file *f);

/*
 * The file at a path of the archive, through links; NULL with err set (EINVAL) where
 * there is none or links go in circles.
 */
struct image_file *image_stage_find(struct image_stage *st, const char *path, struct error *err);

/* The text of a small staged file (caller frees). */
int image_stage_text(struct image_stage *st, const struct image_file *f, char **text, size_t *len,
		     struct error *err);

#endif
