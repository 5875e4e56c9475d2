/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Image names. Inside the store a name is always whole,
 * "docker.io/library/redis:latest"; people see and write the short form.
 * Grammar: github.com/distribution/reference.
 */
#ifndef FERRY_RUNTIME_IMAGE_REF_H
#define FERRY_RUNTIME_IMAGE_REF_H

#include "base/error.h"

/* The whole form of "name[:tag]" (caller frees), or -EINVAL saying what is wrong. */
int image_ref_normalize(const char *name, char **whole, struct error *err);

/* The short form of a whole name: "redis:latest" (caller frees). */
char *image_ref_short(const char *whole);

#endif
