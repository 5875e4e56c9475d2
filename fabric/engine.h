/* SPDX-License-Identifier: Apache-2.0 */
/* A running ferry-checkpoint, the process that takes containers apart and builds them. */
#ifndef FERRY_FABRIC_ENGINE_H
#define FERRY_FABRIC_ENGINE_H

#include <pthread.h>

#include "runtime/checkpoint/control.h"

struct engine {
	struct control_client control;
	pthread_mutex_t busy; /* one call at a time */
	pid_t pid;	      /* 0: taken over from an earlier ferryd, not our child */
};

/* Starts one; `program` is its path. */
int engine_start(const char *program, struct engine **out, struct error *err);

/* The same, with an open file as its descriptor ENGINE_FILE (-1: none). */
#define ENGINE_FILE (CONTROL_FD + 1)
int engine_start_with(const char *program, int file, struct engine **out, struct error *err);

/* Takes over an armed one that an earlier ferryd left, by its socket. */
int engine_reach(const char *socket, struct engine **out, struct error *err);

/* One request; `args` (reference taken) and `answer` may be NULL. */
int engine_call(struct engine *e, const char *op, json_t *args, json_t **answer, struct error *err);

/*
 * The same in two halves, in one thread: whoever has sent must receive, and nobody else's
 * call gets through in between.
 */
int engine_send(struct engine *e, const char *op, json_t *args, struct error *err);
int engine_receive(struct engine *e, const char *op, json_t **answer, struct error *err);

/* Kills it, whatever it does: what it was building dies with it. */
void engine_kill(struct engine *e);

/* Hangs up, waits until it has gone, frees. NULL is fine. */
void engine_free(struct engine *e);

#endif
