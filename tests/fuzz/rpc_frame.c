/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: frames of rpc, as they come from a connection, one behind another. */
#include <stdint.h>
#include <stdlib.h>

#include "fabric/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at < size) {
		struct error err = { 0 };
		struct rpc_frame f;
		ssize_t n = rpc_frame_parse(data + at, size - at, &f, &err);

		if (n < 0 && (n != -EBADMSG || err.code != EBADMSG || f.json))
			abort(); /* a refusal has a reason and leaves nothing behind */
		if (n <= 0)
			break;
		if ((size_t)n > size - at || (size_t)n != f.len + 5 ||
		    (f.kind == 'J') != (f.json != NULL))
			abort();
		if (f.json && !json_is_object(f.json))
			abort();
		json_decref(f.json);
		at += (size_t)n;
	}
	return 0;
}
