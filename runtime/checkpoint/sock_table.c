/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of sockets, in the order in which they are asked. AF_UNIX is obj_unix.c's. */
#include "runtime/checkpoint/sock_common.h"

const struct object_type *const object_types_sockets[] = {
	&sock_type_tcp,
	&sock_type_inet,
	&sock_type_netlink,
	&sock_type_packet,
	&sock_type_refused, /* claims every other socket: last */
	NULL,
};

const struct checkpoint_part *const checkpoint_parts_sockets[] = {
	&sock_part,
	NULL,
};
