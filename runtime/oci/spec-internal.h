/* SPDX-License-Identifier: Apache-2.0 */
/* What spec.c and spec-linux.c share: typed fields with an error that names the field. */
#ifndef FERRY_OCI_SPEC_INTERNAL_H
#define FERRY_OCI_SPEC_INTERNAL_H

#include "runtime/oci/spec.h"

/* Missing fields give NULL, an empty list, or leave *out alone; 0 or -EINVAL. */
int spec_array(const json_t *obj, const char *key, json_t **out, struct error *err);
int spec_object(const json_t *obj, const char *key, json_t **out, struct error *err);
int spec_strings(const json_t *obj, const char *key, struct strings *out, struct error *err);
int spec_want_bool(const json_t *obj, const char *key, bool *out, struct error *err);

/* Id maps of a user namespace, once the namespaces are known (userns.c). */
int spec_userns_parse(const json_t *linux_obj, struct spec *s, struct error *err);

/* Reads s->doc's "linux". */
int spec_linux_parse(struct spec *s, struct error *err);

#endif
