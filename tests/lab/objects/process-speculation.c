/* SPDX-License-Identifier: Apache-2.0 */
/* Speculation control (PR_SET_SPECULATION_CTRL) of a process, where the processor has it. */
#include <sys/prctl.h>

#include "object.h"

int main(int argc, char **argv)
{
	int was[2], can;

	object_init(argc, argv);
	for (int i = 0; i < 2; i++) {
		can = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
		if (can > 0 && (can & PR_SPEC_PRCTL) && !(can & PR_SPEC_FORCE_DISABLE))
			CHECK(prctl(PR_SET_SPECULATION_CTRL, i, PR_SPEC_DISABLE, 0, 0) == 0);
		was[i] = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
	}
	object_move();
	for (int i = 0; i < 2; i++)
		CHECK(prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0) == was[i], "kind %d: %x, was %x",
		      i, prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0), was[i]);
	return 0;
}
