/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One RADOS object in the volumes' pool, "ferry.volumes", whose omap says which RADOS
 * clients use which volume on which host:
 *
 *   client/VOLUME/HOST/ADDRESS  →  {"schema":1,"mode":"rw|ro|standby","since":RFC 3339}
 *   writer/VOLUME               →  mark of the attachment that could write last
 *
 * It is what fencing works from: a client enters itself before it may write anything and
 * leaves when it has closed its image. VOLUME is "-" for ferryd's own connection. The lock
 * of an image, not this list, says who may write. Used by ferry-vold and driver rbd.
 */
#ifndef FERRY_VOLUMES_REGISTRY_H
#define FERRY_VOLUMES_REGISTRY_H

#include <jansson.h>
#include <rados/librados.h>

#include "base/error.h"

int registry_add(rados_ioctx_t io, const char *volume, const char *host, const char *address,
		 const char *mode, struct error *err);
int registry_remove(rados_ioctx_t io, const char *volume, const char *host, const char *address,
		    struct error *err);
/*
 * Entries of a volume (NULL: all) on a host (NULL: all):
 * [{"volume","host","address","mode","since"}..].
 */
int registry_list(rados_ioctx_t io, const char *volume, const char *host, json_t **out,
		  struct error *err);
/* Host of a client address, or NULL (caller frees). */
char *registry_host_of(rados_ioctx_t io, const char *address);

int registry_writer_set(rados_ioctx_t io, const char *volume, const char *mark, struct error *err);
/* *mark: caller frees; "" where there is none. */
int registry_writer_get(rados_ioctx_t io, const char *volume, char **mark, struct error *err);
/* Forgets everything about a volume. */
int registry_forget(rados_ioctx_t io, const char *volume, struct error *err);

#endif
