/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of the kernel's texts in /proc ferry knows, and what each thing means for a
 * migration. Preflight reads the texts with these functions and makes an obstacle of all
 * that they report: a kernel that is newer than ferry may have state whose name is not in
 * the tables, and such state must never be lost silently.
 *
 * All functions are pure: text in, reports out. The text may come from any kernel and may
 * be damaged; it is only read.
 */
#ifndef FERRY_CHECKPOINT_KNOWN_H
#define FERRY_CHECKPOINT_KNOWN_H

#include <stdbool.h>
#include <stddef.h>

/* One report: an object, why it cannot travel, what to do. Borrowed during the call. */
typedef void known_fn(void *ctx, const char *object, const char *why, const char *remedy);

/* The newest kernel whose texts the tables were made from. */
#define KNOWN_KERNEL "6.18"

/* /proc/PID/status of one thread: unknown fields, and values that do not travel. */
void known_status(const char *status, known_fn *fn, void *ctx);

/*
 * /proc/PID/smaps: unknown flags, counters and names of areas. `watched`: our own dirty
 * tracker is on this memory, so that its flags are not the program's.
 */
void known_smaps(const char *smaps, bool watched, known_fn *fn, void *ctx);

/* fdinfo of a description which object type `type` ("eventfd", "tcp" …) claims. */
void known_fdinfo(const char *type, const char *fdinfo, known_fn *fn, void *ctx);

/* True where files of the file system with this magic number are found again by path. */
bool known_fs(unsigned long magic);

/* True where /proc/PID/ns/NAME is a namespace whose like ferry makes or shares. */
bool known_namespace(const char *name);

/*
 * Field n (from 1, as proc(5) counts; n > 2) of /proc/PID/stat, whose second field may
 * hold blanks and parentheses. False: there is none.
 */
bool known_stat_field(const char *stat, int n, char *out, size_t len);

#endif
