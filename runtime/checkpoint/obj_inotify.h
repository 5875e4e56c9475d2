/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify events that wait to be read: told by the source without taking them out of the
 * queue (obj_inotify_queue.c), made to happen again at the destination
 * (obj_inotify_replay.c). obj_inotify.c has the watches.
 */
#ifndef FERRY_CHECKPOINT_OBJ_INOTIFY_H
#define FERRY_CHECKPOINT_OBJ_INOTIFY_H

#include <linux/types.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include "runtime/checkpoint/obj_common.h"

/* The number that the next watch gets (CONFIG_CHECKPOINT_RESTORE). */
#define SET_NEXT_WD _IOW('I', 0, int32_t) /* INOTIFY_IOC_SETNEXTWD */

/* Bytes that read(2) gives for an event with a name of that length. */
static inline size_t inotify_event_size(size_t name_len)
{
	size_t unit = sizeof(struct inotify_event);

	return unit + (name_len ? (name_len + 1 + unit - 1) / unit * unit : 0);
}

/*
 * Source, frozen: the waiting events of the engine's descriptor, and the number of the next
 * watch, into `m`, which has the watches already. -EAGAIN where one cannot be made to happen
 * again. Free with inotify_queue_free(), also after a failure.
 */
int inotify_queue_dump(struct dump *d, int fd, Cko__Inotify *m, struct error *err);
void inotify_queue_free(Cko__Inotify *m);

/*
 * Destination, before leases are taken: adds the watches, deaf as yet, and fills the queue.
 * Nothing else happens in the container's tree meanwhile; names of its folders are changed
 * and changed back.
 */
int inotify_replay(struct restore *r, int fd, const Cko__Inotify *m, struct error *err);
/* The watches hear what they should. Opens nothing: that would be heard. */
int inotify_replay_end(struct restore *r, int fd, const Cko__Inotify *m, struct error *err);

#endif
