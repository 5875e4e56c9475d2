/* SPDX-License-Identifier: Apache-2.0 */
/* TCP sockets that no descriptor leads to; see sock_orphan.c. */
#ifndef FERRY_CHECKPOINT_SOCK_ORPHAN_H
#define FERRY_CHECKPOINT_SOCK_ORPHAN_H

#include "runtime/checkpoint/sock_common.h"

/* Loads the means, in pre-copy: it takes some milliseconds. -errno: this kernel cannot. */
int sock_orphans_load(void);
void sock_orphans_unload(void);

struct sock_orphans {
	struct buf *tcp; /* packed Cks__Tcp, each to be restored as an object "tcp" */
	size_t ntcp;
	Cks__HalfOpen half; /* handshakes that are not complete */
	size_t lost;	    /* whose data could not be read */
	uint32_t urgent;    /* any connection has sent urgent data that was not acknowledged */
};

/*
 * Reads them all (d NULL: in the caller's namespace), lo's gate being closed. 0 or -errno
 * with err set; nothing is found where the means could not be loaded.
 */
int sock_orphans_read(struct dump *d, struct sock_orphans *out, struct error *err);
void sock_orphans_free(struct sock_orphans *o);

/* Preflight: keys and programs of a socket that no call tells of. */
void sock_hidden_check(struct dump *d, const struct ofd *o, const char *name,
		       struct obstacles *out);

#endif
