/* SPDX-License-Identifier: Apache-2.0 */
/* Personality: addresses without randomization, for programs that are started later. */
#include <sys/personality.h>

#include "object.h"

int main(int argc, char **argv)
{
	object_init(argc, argv);
	CHECK(personality(0x0008) >= 0 || errno == EPERM);
	object_move();
	CHECK(personality(0xffffffff) == 0x0008, "%x", personality(0xffffffff));
	return 0;
}
