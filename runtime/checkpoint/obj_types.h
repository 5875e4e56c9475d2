/* SPDX-License-Identifier: Apache-2.0 */
/* The object types of obj_*.c, for the table and for unit tests. */
#ifndef FERRY_CHECKPOINT_OBJ_TYPES_H
#define FERRY_CHECKPOINT_OBJ_TYPES_H

#include "runtime/checkpoint/object.h"

extern const struct object_type obj_file, obj_device, obj_pipe, obj_memfd, obj_epoll, obj_eventfd,
	obj_signalfd, obj_timerfd, obj_inotify, obj_pidfd, obj_tty, obj_session, obj_unix,
	obj_mqueue, obj_refused;
extern const struct checkpoint_part obj_content_part, obj_tree_part, obj_session_part,
	obj_external_part, obj_ipc_part, obj_mqueue_part, aio_part, unix_part;

#endif
