/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a migration share; the states are drawn on top of fabric/migrate.c. */
#ifndef FERRY_FABRIC_MIGRATE_H
#define FERRY_FABRIC_MIGRATE_H

#include "fabric/engine.h"
#include "fabric/internal.h"

enum migration_state {
	MIGRATION_ADMIT,
	MIGRATION_PREPARE,
	MIGRATION_PRECOPY,
	MIGRATION_BLACKOUT,
	MIGRATION_COMMIT,
	MIGRATION_POSTCOPY,
	MIGRATION_CLEANUP,
	MIGRATION_DONE,
	MIGRATION_UNDO,
};

/* One migration, at the source, for as long as it lasts. */
struct migration {
	struct fabric *f;
	const char *id, *to;
	json_t *doc, *live; /* document; what the container manager says */
	json_t *engine_dump, *engine_restore, *storage_laps; /* where the time went */
	json_t *late;					     /* what post-copy took */
	json_t *flows;					     /* with the outside, for B */
	char *to_address;
	json_t *others; /* hosts that are told of the move */
	pthread_t warm, repoint;
	bool warming, repointing; /* these threads are to be joined */
	struct syncing *syncing;
	struct fabric_migrate_options options;
	fabric_progress *progress;
	void *ctx;
	struct engine *engine;

	/* What was done, and so has an undo. */
	bool marked;	/* the document names this migration, B may have a skeleton */
	bool turned;	/* packets go to B */
	bool frozen;	/* tasks stand still */
	bool committed; /* the document names B */
	bool postcopy;	/* this engine has memory to serve after the commit */

	int64_t log_sent; /* bytes of the container's log that B has */
	bool cold, verified;
	int64_t start_ns, blackout_start_ns;
	int64_t rounds, bytes, memory_bytes, blackout_ns, released_ns;
	int64_t precopy_ns, freeze_ns, storage_ns, memory_ns, restore_ns, network_ns, commit_ns;
};

void migration_enter(struct migration *m, enum migration_state state);

/*
 * For tests that cut a migration at a given point: where the file RUN/migrate-hold names the
 * point (a state, or ARMED or SWAPPED at the destination), RUN/migrate-held is written and
 * the migration stays there for two seconds. One open() that fails where there is no file.
 */
void migrate_hold_point(struct fabric *f, const char *point);

/* A call to the destination; takes the reference of `params`. */
int migration_rpc(struct migration *m, const char *method, json_t *params, int64_t timeout_ns,
		  json_t **result, struct error *err);

/* store_change_fn: names the migration in the document. */
int migration_mark(void *ctx, json_t *doc, struct error *err);

/* What the fabric itself knows to stand in the way, in the engine's form (see control.h). */
json_t *migration_obstacles(const struct migration *m);

/* Arguments of the engine's "check"; needs m->live. */
json_t *migration_check_args(const struct migration *m);

/* The container's clocks and this host's wall clock, read together; needs m->live. */
json_t *migration_clocks(const struct migration *m);

/* Memory, writable layer and tmpfs in rounds, as m->options say; volumes are synced. */
int migration_precopy(struct migration *m, struct error *err);

/* Packets turned, tasks frozen, volumes and the rest of the state at B. */
int migration_blackout(struct migration *m, struct error *err);

/*
 * Volumes are written back, at once and then again and again until migration_synced(): a
 * blackout has the less to write. Not once more at the end: programs that wait for their own
 * fsync() would do so for that long, and then for the blackout.
 */
void migration_keep_synced(struct migration *m);
void migration_synced(struct migration *m);

/* Begins to make ready what a blackout would have to wait for: connections, whom to tell. */
void migration_warm(struct migration *m);
void migration_warmed(struct migration *m);

/* Waits until the other hosts have been told where the container is. */
void migration_repointed(struct migration *m);

/* -EPROTO with the first of them in the message. */
int migration_refuse(const json_t *list, struct error *err);

/* Asks the store who owns the container now, until it answers; see its body. */
void migration_decide(struct migration *m);

/* A stopped container: its files, then its document. */
int migrate_cold(struct migration *m, struct error *err);

/* Puts what was logged at the source, and is not at B yet, into the commit call. */
void migrate_log_tail(struct migration *m, json_t *params);

/*
 * The commit point: the container's document names this host instead of `from`, if it still
 * names `migration`. -ECANCELED where the source has undone it. Waits for a store that does
 * not answer, since it may have taken the write all the same. `err` must not be NULL.
 */
int migrate_swap(struct fabric *f, const char *container, const char *from, const char *migration,
		 struct error *err);

/* Offsets with which the clocks go on from there; without "real_ns": from just then. */
struct container_time_offsets migrate_offsets(const json_t *clocks);

/* The engine's "externals" for a stub whose container had that stdio (container_inspect()). */
json_t *migrate_externals(const json_t *stdio);

/*
 * After the commit, on the host where it runs now: the manager, volumes, ports and the
 * document learn of it. Everything is tried; what fails is logged.
 */
void migrate_settle(struct fabric *f, const json_t *doc);

/* An armed engine of an earlier ferryd lets go of what it has built. */
void migrate_abort_armed(struct fabric *f, const char *container);

/* What is left of a skeleton at the destination goes away. from: who has the packets. */
void migrate_drop_skeleton(struct fabric *f, const json_t *doc, const char *from);

/* After the commit, at the destination, by a ferryd that was restarted in between. */
void migrate_roll_forward(struct fabric *f, const json_t *doc);

/* resume.c: the tasks run again, by m->engine, or by a new one where it has died. Takes over
 * args, the engine's (NULL: none). */
int migrate_resume(struct migration *m, json_t *args, struct error *err);
/* By a new one; live: container_inspect(). */
int migrate_resume_anew(struct fabric *f, const json_t *live, struct error *err);

/* --- post-copy: migrate_late.c -------------------------------------------------------- */

/* At A, after the commit: until B has all memory. -ECONNRESET and the like: it is lost. */
int migration_serve(struct migration *m, struct error *err);

/* The same for a restarted ferryd, in a thread of its own; false: no engine serves. */
bool migrate_serve_on(struct fabric *f, const json_t *doc);

/* At B, in a thread of its own: until all memory is here. Takes over the engine. */
void migrate_watch_memory(struct fabric *f, const json_t *doc, struct engine *e, const char *from);

/* The same for a restarted ferryd, where an engine is still there. */
void migrate_watch_on(struct fabric *f, const json_t *doc);

/* -EBUSY while its memory still comes. */
int migrate_wait_whole(struct fabric *f, const json_t *doc, struct error *err);

/* Where B's engine writes why the container was lost (caller frees). */
char *migrate_note(struct fabric *f, const char *container);

int migrate_rpc_cold(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *stream,
		     json_t **result, struct error *err);

/*
 * Volumes retaken from host `from` (NULL: unknown), packets turned back to this host: the
 * undo of a blackout. Waits for the volumes' locks.
 */
void migrate_take_back(struct fabric *f, const json_t *doc, const char *from);

int migrate_rpc_start(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		      struct error *err);

/* The clocks of the initial time namespace of this machine, read together. */
struct fabric_clock {
	int64_t real_ns, mono_ns, boot_ns;
};
void fabric_clock_read(struct fabric_clock *c);

/* Where an armed engine waits for a restarted ferryd (caller frees). */
char *migrate_socket(struct fabric *f, const char *container);

#endif
