/* SPDX-License-Identifier: Apache-2.0 */
/* What /proc/self/smaps says of the area that an address lies in. */
#ifndef FERRY_TESTS_VMFLAGS_H
#define FERRY_TESTS_VMFLAGS_H

#include <stdint.h>

#include "object.h"

/* Whether its VmFlags have the two letters `flag`, and `line` (NULL: none wanted) its head. */
static inline bool vm_has(const void *addr, const char *flag, char *line, size_t len)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char buf[4096], want[5];
	bool inside = false, has = false;
	unsigned long start, end;

	CHECK(f);
	snprintf(want, sizeof(want), " %s ", flag);
	while (fgets(buf, sizeof(buf), f)) {
		if (buf[0] >= 'A' && buf[0] <= 'Z') {
			if (inside && strncmp(buf, "VmFlags:", 8) == 0)
				has = strstr(buf, want) != NULL;
			continue;
		}
		inside = sscanf(buf, "%lx-%lx", &start, &end) == 2 && start <= (uintptr_t)addr &&
			 (uintptr_t)addr < end;
		if (inside && line)
			snprintf(line, len, "%s", buf);
	}
	fclose(f);
	return has;
}

#endif
