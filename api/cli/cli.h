/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `ferry` command line: a file per command, a table in main.c. Commands speak to
 * ferryd over its unix socket with the same HTTP API that everybody else has.
 */
#ifndef FERRY_API_CLI_CLI_H
#define FERRY_API_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/* --- commands: argv[0] is the command's own name; the exit status is returned -------------- */
int cmd_checkpoint(int argc, char **argv);
int cmd_clone(int argc, char **argv);
int cmd_cluster(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_host(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_lab(int argc, char **argv);
int cmd_migrate(int argc, char **argv);
int cmd_network(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_push(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_volume(int argc, char **argv);

/* --- client.c -------------------------------------------------------------------------------- */

/* The socket: --socket, else FERRY_SOCKET, else /run/ferry/ferry.sock. */
void client_set_socket(const char *path);

/* One more header ("Name: value", copied) for the requests to come. */
void client_set_header(const char *line);

/*
 * One request. body (borrowed) may be NULL, so may *out. An answer of 400 or more becomes an
 * error with the message of the server; 0 or -errno. `path` begins with a slash.
 */
int client_call(const char *method, const char *path, const json_t *body, json_t **out,
		struct error *err);

/*
 * A request whose answer is a stream: fn gets each line of JSON (borrowed); non-zero ends.
 */
typedef int client_line_fn(void *ctx, json_t *line);
int client_lines(const char *method, const char *path, const json_t *body, client_line_fn *fn,
		 void *ctx, struct error *err);

/* The same with raw bytes. */
typedef int client_bytes_fn(void *ctx, const char *data, size_t len);
int client_bytes(const char *method, const char *path, const json_t *body, client_bytes_fn *fn,
		 void *ctx, struct error *err);

/* Sends a file as the body. */
int client_upload(const char *path, const char *file, client_line_fn *fn, void *ctx,
		  struct error *err);

/* Percent-encodes a part of a path or a query (caller frees). */
char *client_escape(const char *text);

/* --- restore.c ------------------------------------------------------------------------ */

/* A request that answers in lines: progress, and a summary or an error at last. */
struct job_view {
	bool quiet, json;
	json_t *summary;
	int status;
};
/* 0 and *summary (released by the caller), or an exit status after the error was printed. */
int job_run(const char *path, const json_t *body, struct job_view *v, json_t **summary);

/* --- each.c ------------------------------------------------------------------------- */

/*
 * `ferry NOUN VERB NAME...` (argv[0] is the verb): METHOD /NOUNs/NAME for each of them. Prints
 * what GET answers, else the name. The exit status; one that fails does not keep the others
 * from it.
 */
int cmd_each(const char *noun, const char *method, int argc, char **argv);

/* The options of `ferry NOUN ls`: 0, or the exit status of a usage error. */
int ls_format(const char *noun, int argc, char **argv, const char **format);

/* --- output.c --------------------------------------------------------------------------------- */

/* Prints "ferry: message" on stderr; the exit status for it. */
int fail(const struct error *err);
/* Prints a usage error; 2. */
int usage_error(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One column of a table: its heading, and where the value is ("State.Status"). */
struct column {
	const char *heading, *path;
	char *(*show)(const json_t *value); /* NULL: as it is; result is freed */
};

/*
 * Rows (an array of objects) as "table" or "json" (one compact object a line). 0, or the
 * exit status of a usage error for an unknown format.
 */
int print_rows(const char *format, const json_t *rows, const struct column *columns, size_t n);

/* 12,345,678 bytes as "11.8 MiB", and nanoseconds as "4.1 ms" (caller frees). */
char *show_bytes(const json_t *value);
char *show_ns(const json_t *value);
char *bytes_text(double bytes);
char *ns_text(double ns);

#endif
