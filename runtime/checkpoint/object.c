/* SPDX-License-Identifier: Apache-2.0 */
/* Which file knows which kind of object: the two tables, searched in order. */
#include "runtime/checkpoint/object.h"

#include <string.h>

static const struct object_type *const *const tables[] = { object_types_sockets,
							   object_types_files };

const struct object_type *object_type_for(const struct ofd *o)
{
	for (size_t t = 0; t < 2; t++)
		for (size_t i = 0; tables[t][i]; i++)
			if (tables[t][i]->claims(o))
				return tables[t][i];
	return NULL;
}

const struct object_type *object_type_named(const char *type)
{
	for (size_t t = 0; t < 2; t++)
		for (size_t i = 0; tables[t][i]; i++)
			if (strcmp(tables[t][i]->type, type) == 0)
				return tables[t][i];
	return NULL;
}
