/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands print: errors, tables, sizes and times. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cli/cli.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"

int fail(const struct error *err)
{
	fprintf(stderr, "ferry: %s\n", err->msg);
	return error_exit_status(err->code ? err->code : EIO);
}

int usage_error(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", command);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nSee '%s --help'.\n", command);
	return 2;
}

char *bytes_text(double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t u = 0;

	while (bytes >= 1024 && u < 4) {
		bytes /= 1024;
		u++;
	}
	return str_format(u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
}

char *ns_text(double ns)
{
	if (ns < 1e6)
		return str_format("%.0f µs", ns / 1e3);
	if (ns < 1e9)
		return str_format("%.1f ms", ns / 1e6);
	return str_format("%.2f s", ns / 1e9);
}

char *show_bytes(const json_t *value)
{
	return bytes_text((double)json_integer_value(value));
}

char *show_ns(const json_t *value)
{
	return ns_text((double)json_integer_value(value));
}

static char *cell(const json_t *row, const struct column *c)
{
	const json_t *v = json_at(row, c->path);

	if (!v || json_is_null(v))
		return str_dup("");
	if (c->show)
		return c->show(v);
	return json_is_string(v) ? str_dup(json_string_value(v)) : json_text(v);
}

int print_rows(const char *format, const json_t *rows, const struct column *columns, size_t n)
{
	size_t *width = mem_zalloc(n * sizeof(*width)), i, c;
	json_t *row;

	if (format && !strcmp(format, "json")) {
		json_array_foreach (rows, i, row) {
			CLEANUP_FREE char *text = json_text(row);

			puts(text);
		}
		free(width);
		return 0;
	}
	if (format && strcmp(format, "table")) {
		free(width);
		return usage_error("ferry", "unknown format %s; json and table are known", format);
	}
	for (c = 0; c < n; c++)
		width[c] = strlen(columns[c].heading);
	json_array_foreach (rows, i, row) {
		for (c = 0; c < n; c++) {
			CLEANUP_FREE char *text = cell(row, &columns[c]);

			width[c] = strlen(text) > width[c] ? strlen(text) : width[c];
		}
	}
	for (c = 0; c < n; c++)
		printf("%-*s%s", c + 1 < n ? (int)width[c] : 0, columns[c].heading,
		       c + 1 < n ? "  " : "\n");
	json_array_foreach (rows, i, row) {
		for (c = 0; c < n; c++) {
			CLEANUP_FREE char *text = cell(row, &columns[c]);

			printf("%-*s%s", c + 1 < n ? (int)width[c] : 0, text,
			       c + 1 < n ? "  " : "\n");
		}
	}
	free(width);
	return 0;
}
