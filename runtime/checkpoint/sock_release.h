/* SPDX-License-Identifier: Apache-2.0 */
/* Leaving repair mode, by two threads; see sock_release.c. */
#ifndef FERRY_CHECKPOINT_SOCK_RELEASE_H
#define FERRY_CHECKPOINT_SOCK_RELEASE_H

#include <stdbool.h>
#include <stddef.h>

/* Before the commit: a connection (fd borrowed) of which nothing else is to be done but to
 * set SO_REUSEADDR again, where `reuse`. Its place in the list. */
size_t sock_release_add(int fd, bool reuse);
/*
 * After the commit, from place 0 on, one after the other: it has left repair mode, by this
 * thread or the other one. 0 or -errno.
 */
int sock_release_take(size_t place);
/* All are taken, or none is needed any more. */
void sock_release_end(void);

#endif
