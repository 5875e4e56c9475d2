/* SPDX-License-Identifier: Apache-2.0 */
/* What was typed or printed on a terminal and not read yet: taken out and put back. */
#ifndef FERRY_CHECKPOINT_OBJ_TTY_QUEUE_H
#define FERRY_CHECKPOINT_OBJ_TTY_QUEUE_H

#include "runtime/checkpoint/obj_common.h"

struct tty_unread {
	size_t n;
	ProtobufCBinaryData *pieces; /* as read(2) gave them: a line each, in canonical mode */
	bool partial;		     /* the last one is a line that is not complete yet */
};
void tty_unread_free(struct tty_unread *u);

/* Typed, and not read by the slave `fd`. It is in the queue again afterwards. */
int tty_input_peek(int fd, struct tty_unread *u, struct error *err);
/* Types it; nothing is echoed, and no character has a meaning. */
int tty_input_put(int fd, const struct tty_unread *u, struct error *err);

/* Printed, and not read by the master `fd`. It is in the queue again afterwards. */
int tty_output_peek(int fd, struct tty_unread *u, struct error *err);
int tty_output_put(int fd, const struct tty_unread *u, struct error *err);

#endif
