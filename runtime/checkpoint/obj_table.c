/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of objects that are no sockets, in the order in which they are asked. */
#include "runtime/checkpoint/object.h"

const struct object_type *const object_types_files[] = {
	NULL,
};

const struct checkpoint_part *const checkpoint_parts_files[] = {
	NULL,
};
