/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci's log; report.h is the contract. */
#include "runtime/oci/report.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/str.h"

static int log_fd = STDERR_FILENO;
static bool as_json;

int report_open(const char *path, bool json, struct error *err)
{
	int fd;

	as_json = json;
	if (!path)
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0)
		return error_sys(err, errno, "opening log %s", path);
	log_fd = fd;
	return 0;
}

static void line(const char *level, const char *msg)
{
	CLEANUP_BUF struct buf b = { 0 };
	char when[40];
	struct tm tm;
	time_t now = time(NULL);

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (as_json) {
		CLEANUP_JSON json_t *j = json_object();
		CLEANUP_FREE char *text = NULL;

		json_set_str(j, "level", level);
		json_set_str(j, "msg", msg);
		json_set_str(j, "time", when);
		text = json_text(j);
		buf_addf(&b, "%s\n", text);
	} else if (log_fd == STDERR_FILENO) {
		buf_addf(&b, "ferry-oci: %s%s\n", strcmp(level, "error") ? "warning: " : "", msg);
	} else {
		buf_addf(&b, "time=\"%s\" level=%s msg=\"%s\"\n", when, level, msg);
	}
	(void)fd_write_all(log_fd, b.data, b.len);
}

void report_warn(const char *fmt, ...)
{
	char msg[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	line("warning", msg);
}

void report_error(const struct error *err)
{
	line("error", err->msg[0] ? err->msg : "failed");
}
