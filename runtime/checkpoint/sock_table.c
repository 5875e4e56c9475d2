/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of sockets, in the order in which they are asked. */
#include "runtime/checkpoint/object.h"

const struct object_type *const object_types_sockets[] = {
	NULL,
};

const struct checkpoint_part *const checkpoint_parts_sockets[] = {
	NULL,
};
