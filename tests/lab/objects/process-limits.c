/* SPDX-License-Identifier: Apache-2.0 */
/* Resource limits, soft and hard. */
#include <sys/resource.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct rlimit now, set[] = {
		{ 100, 200 }, { 1 << 20, 1 << 21 }, { 0, RLIM_INFINITY }, { 5000000, 6000000 }
	};
	int which[] = { RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_FSIZE };

	object_init(argc, argv);
	for (int i = 0; i < 4; i++) {
		CHECK(getrlimit(which[i], &now) == 0);
		set[i].rlim_max = set[i].rlim_max < now.rlim_max ? set[i].rlim_max : now.rlim_max;
		set[i].rlim_cur =
			set[i].rlim_cur < set[i].rlim_max ? set[i].rlim_cur : set[i].rlim_max;
		CHECK(setrlimit(which[i], &set[i]) == 0, "limit %d", which[i]);
	}
	object_move();
	for (int i = 0; i < 4; i++)
		CHECK(getrlimit(which[i], &now) == 0 && now.rlim_cur == set[i].rlim_cur &&
			      now.rlim_max == set[i].rlim_max,
		      "limit %d: %lu, %lu", which[i], (unsigned long)now.rlim_cur,
		      (unsigned long)now.rlim_max);
	CHECK(dup2(0, 150) < 0 && errno == EBADF);
	return 0;
}
