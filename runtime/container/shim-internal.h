/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-shim's own structures; only the files shim-*.c include it.
 *
 * One thread, one poll loop. `struct proc` is the container's init or an exec; `struct
 * client` is a connection. Backpressure: while a client's queue is full, the output of its
 * process is not read.
 */
#ifndef FERRY_CONTAINER_SHIM_INTERNAL_H
#define FERRY_CONTAINER_SHIM_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/str.h"
#include "runtime/container/jsonlog.h"
#include "runtime/container/shim.h"

#define QUEUE_FULL (1u << 20)
#define STALL_NS   60000000000
#define LINGER_NS  2000000000 /* output of a dead process, if somebody still holds the pipe */

struct client {
	struct client *next;
	int fd;
	struct proc *proc; /* attached to; NULL: still asking */
	bool in, out, err, waiting, dead, finished;
	struct buf inq, outq;
	size_t out_done;
	int passed; /* descriptor that came with the request, or -1 */
	int64_t progress_ns;
};

struct proc {
	struct proc *next;
	char *id;
	bool tty, open_stdin, stdin_once, starting, exited, told;
	pid_t pid, oci;
	int code, signal;
	int in, out[3]; /* in: pipe to stdin or the pty master; out[1], out[2] */
	int child[3];	/* the process's ends while it is being made */
	struct buf inq;
	bool in_eof;
	int console; /* listening console socket while it is being made */
	char *console_path, *pid_path, *log_path;
	struct client *starter; /* who asked for this exec */
	bool starter_attach;
	int64_t exited_ns;
};

struct shim {
	const char *id, *dir, *state, *oci, *oci_root, *bundle, *oom_file;
	bool stub;
	struct proc init;
	struct proc *procs; /* init first */
	struct client *clients;
	struct jsonlog log;
	char *stdio[3];
	uint64_t start;
	bool oom;
	struct {
		pid_t pid;
		int status;
	} orphan[256]; /* ends of children nobody has claimed yet */
	unsigned norphan;
};
extern struct shim shim;

/* shim-proc.c: making processes, and their ends. */
void shim_close(int *fd);
int shim_make_stdio(struct proc *p, struct error *err);
int shim_take_console(struct proc *p, struct error *err);
void shim_made(struct proc *p); /* the process has its descriptors: drop ours of its side */
pid_t shim_spawn(const char *const argv[], const int fds[3], struct error *err);
int shim_oci_error(const char *log, int status, struct error *err);
pid_t shim_read_pid(const char *path);
int shim_create(struct error *err); /* ferry-oci create */
void shim_ended(struct proc *p, int status);
void shim_reap(void);
bool shim_outputs_open(const struct proc *p);
void shim_finish(struct proc *p);

/* shim-request.c: what clients ask for, and what is queued for them. */
void shim_queue(struct client *c, int kind, const void *p, size_t n);
void shim_queue_json(struct client *c, json_t *j);
void shim_reply_error(struct client *c, int code, const char *msg);
void shim_reply_ok(struct client *c, json_t *j);
void shim_request(struct client *c, const char *text, size_t n);
void shim_exec_made(struct proc *p, int status);

/* shim-serve.c: the loop; returns when the container has ended and all is told. */
void shim_serve(int listener, int sigfd);

#endif
