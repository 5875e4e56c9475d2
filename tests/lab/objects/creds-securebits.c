/* SPDX-License-Identifier: Apache-2.0 */
/* Secure bits, some of them locked. */
#include <linux/securebits.h>
#include <sys/prctl.h>

#include "object.h"

int main(int argc, char **argv)
{
	int bits = SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
		   SECBIT_NOROOT;

	object_init(argc, argv);
	CHECK(prctl(PR_SET_SECUREBITS, bits) == 0);
	object_move();
	CHECK(prctl(PR_GET_SECUREBITS) == bits, "%x", prctl(PR_GET_SECUREBITS));
	CHECK(prctl(PR_SET_SECUREBITS, bits & ~SECBIT_NO_SETUID_FIXUP) < 0 && errno == EPERM);
	CHECK(prctl(PR_SET_SECUREBITS, bits & ~SECBIT_NOROOT) == 0);
	return 0;
}
