/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenAPI document docs/api/openapi.json, put into the program when it is assembled. */
#include "api/ferry/ferry.h"

extern const char openapi_begin[];
extern const uint64_t openapi_size;

__asm__(".pushsection .rodata\n"
	".globl openapi_begin\nopenapi_begin:\n"
	".incbin \"docs/api/openapi.json\"\n"
	"0:\n.balign 8\n"
	".globl openapi_size\nopenapi_size:\n"
	".quad 0b - openapi_begin\n"
	".popsection\n");

int ferry_openapi(struct request *req, struct error *err)
{
	(void)err;
	return reply_text(req, 200, "application/json", openapi_begin, (size_t)openapi_size);
}
