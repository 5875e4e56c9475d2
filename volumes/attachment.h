/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host has attached, on disk: run_dir/vold/NAME.json, one a volume, read afresh
 * by each operation, so that a restarted ferryd knows what its predecessor knew.
 */
#ifndef FERRY_VOLUMES_ATTACHMENT_H
#define FERRY_VOLUMES_ATTACHMENT_H

#include "volumes/driver.h"

/* Not attached: -ENOENT. *a is freed with attachment_free(). */
int attachment_load(const char *run_dir, const char *name, struct attachment *a, struct error *err);
int attachment_save(const char *run_dir, const struct attachment *a, struct error *err);
int attachment_forget(const char *run_dir, const char *name, struct error *err);
/* Whether its vold is alive: the same process, not another one with its pid. */
bool attachment_alive(const struct attachment *a);
/* Replaces a string field. */
void attachment_set(char **field, const char *value);

/* Paths of a volume's vold (caller frees): "sock", "log", "json". */
char *attachment_path(const char *run_dir, const char *name, const char *suffix);

#endif
