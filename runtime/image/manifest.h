/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON documents inside image archives, read and checked: pure functions from text
 * to a small document that holds only what is valid. They are what the fuzz target
 * tests/fuzz/image_manifest.c drives. All return a new reference, or NULL with err set
 * (EINVAL).
 */
#ifndef FERRY_RUNTIME_IMAGE_MANIFEST_H
#define FERRY_RUNTIME_IMAGE_MANIFEST_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

/*
 * manifest.json of a docker-archive:
 * [{"config": path, "layers": [path, ...], "names": [whole name, ...]}, ...]
 */
json_t *image_parse_docker_manifest(const char *text, size_t len, struct error *err);

/*
 * index.json or a nested index: [{"digest": hex, "os", "arch", "name"}, ...]; name (whole)
 * only where an annotation gives one, os and arch only where a platform is given.
 */
json_t *image_parse_oci_index(const char *text, size_t len, struct error *err);

/*
 * An OCI (or Docker schema 2) manifest: {"config": hex, "layers": [hex, ...], and the same
 * with all that is said of them, "config_blob", "blobs": [{"digest": hex, "size" (-1: not
 * given), "type"}, ...]}.
 */
json_t *image_parse_oci_manifest(const char *text, size_t len, struct error *err);

/* An image config, checked and otherwise as it is; rootfs.diff_ids are all valid. */
json_t *image_parse_config(const char *text, size_t len, struct error *err);

#endif
