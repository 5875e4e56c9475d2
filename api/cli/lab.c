/* SPDX-License-Identifier: Apache-2.0 */
/* ferry lab: runs the lab script (tests/lab/lab, or the installed copy). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/str.h"

static char *find_script(void)
{
	static const char *const places[] = { "../tests/lab/lab", "../lib/ferry/lab/lab",
					      "../share/ferry/lab/lab" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return NULL;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		CLEANUP_FREE char *path = str_format("%s/%s", self, places[i]);

		if (!access(path, X_OK))
			return TAKE_PTR(path);
	}
	return NULL;
}

int cmd_lab(int argc, char **argv)
{
	CLEANUP_FREE char *script = find_script();
	struct error err = { 0 };

	(void)argc;
	if (!script) {
		error_set(&err, ENOENT,
			  "the lab script is not installed; run it from the source tree: "
			  "tests/lab/lab");
		return fail(&err);
	}
	argv[0] = script;
	execv(script, argv);
	error_sys(&err, errno, "starting %s", script);
	return fail(&err);
}
