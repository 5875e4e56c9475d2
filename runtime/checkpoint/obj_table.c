/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of objects that are no network sockets, in the order in which they are asked. */
#include "runtime/checkpoint/obj_types.h"

const struct object_type *const object_types_files[] = {
	&obj_mqueue,  &obj_session, &obj_memfd,	  &obj_file,	 &obj_device,  &obj_tty,
	&obj_pipe,    &obj_epoll,   &obj_eventfd, &obj_signalfd, &obj_timerfd, &obj_pidfd,
	&obj_inotify, &obj_unix,    &obj_refused, /* claims everything: last */
	NULL,
};

const struct checkpoint_part *const checkpoint_parts_files[] = {
	&obj_tree_part, &obj_content_part, &obj_session_part, &obj_external_part,
	&obj_ipc_part,	&obj_mqueue_part,  &aio_part,	      NULL,
};
