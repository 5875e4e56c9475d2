/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities of all five sets, and what a program that is started then has. */
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct was[2], now[2];

	object_init(argc, argv);
	CHECK(syscall(SYS_capget, &h, was) == 0);
	CHECK(prctl(PR_CAPBSET_DROP, CAP_MKNOD, 0, 0, 0) == 0);
	was[0].permitted &= ~(1u << CAP_NET_RAW);
	was[0].effective = was[0].permitted & ~(1u << CAP_CHOWN);
	was[0].inheritable = 1u << CAP_KILL | 1u << CAP_FOWNER;
	CHECK(syscall(SYS_capset, &h, was) == 0);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0) == 0);
	object_move();
	CHECK(syscall(SYS_capget, &h, now) == 0 && memcmp(was, now, sizeof(now)) == 0,
	      "effective %x, was %x", now[0].effective, was[0].effective);
	CHECK(prctl(PR_CAPBSET_READ, CAP_MKNOD) == 0 && prctl(PR_CAPBSET_READ, CAP_KILL) == 1);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0) == 1);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_FOWNER, 0, 0) == 0);
	CHECK(syscall(SYS_capset, &h, now) == 0);
	now[0].permitted |= 1u << CAP_NET_RAW;
	CHECK(syscall(SYS_capset, &h, now) < 0 && errno == EPERM);
	return 0;
}
