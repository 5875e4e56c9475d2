/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines on stderr; log.h is the contract. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = { "debug", "info", "warn", "error" };
static const char *program_name = "ferry";
static enum log_level threshold = LOG_LEVEL_INFO;

void log_init(const char *program)
{
	const char *want = getenv("FERRY_LOG");

	program_name = program;
	for (size_t i = 0; want && i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(want, names[i]))
			threshold = (enum log_level)i;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	char line[2048];
	struct timespec ts;
	struct tm tm;
	va_list ap;
	size_t n;

	if (level < threshold)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n,
			      ".%03ldZ %s[%d] %s: ", ts.tv_nsec / 1000000, program_name, getpid(),
			      names[level]);
	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n = strlen(line);
	line[n++] = '\n';
	/* One write a line, so that lines of several processes do not mix. */
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}
