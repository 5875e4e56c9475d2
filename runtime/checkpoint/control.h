/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How ferryd speaks to `ferry-checkpoint`: JSON objects, one a line, over the socket
 * that the engine is given as descriptor 3. One request at a time,
 *
 *   → {"op":"NAME", …}
 *   ← {"event":"…", …}          any number, also between requests
 *   ← {"ok":true, …}   or   {"ok":false, "error":"sentence", "errno":N}
 *
 * The engine's side (which end it is) is chosen by the first request. End of file on
 * descriptor 3: the source engine undoes everything and leaves (tasks that the cgroup
 * freezer holds stay frozen: the restarted ferryd decides); the destination kills its
 * stubs, unless `run` was answered or it is armed.
 *
 * Common fields: "tls": {"cert":PATH,"key":PATH,"ca":PATH} (without it the stream is
 * plain: unit tests only), "token": a string that both engines of a migration are told
 * and compare; paths are those of the host.
 *
 * SOURCE, in this order (check may be asked alone and repeatedly):
 *  check {"cgroup":"/ferry/ID" | absolute folder below a cgroup mount (v1 freezer or v2),
 *         "init_pid":N, "externals":[{"link":"pipe:[123]","name":"stdin"}…],
 *         "volumes":["/var/lib/postgresql/data"…]}
 *     ← {"obstacles":[{"pid","fd","object","why","remedy"}…],"memory_bytes","tasks",
 *        "xsave_mask","xsave_bytes"}
 *     pid and fd as seen inside the container, fd -1: none.
 *  connect {"address":"10.0.0.2","port":N | "fd":N (an inherited socket), "token", "tls",
 *           "streams":N}
 *     streams: connections for page data, 1 to 16 (lane.h); absent or 0: as many as are of use
 *     here. The destination may take fewer. With "fd": "lane_fds":[N…] are the further ones.
 *  or, into a file or a pipe, with no destination that answers:
 *  save {"path":P | "fd":N, "key":PEM file of the host's private key, "cert":PEM file of its
 *        certificate (neither: unsigned)}
 *     P, a path of the host, appears when the checkpoint is whole and on the disk, replacing
 *     what was there; until then nothing of it can be seen. A descriptor is the caller's: what
 *     a failure leaves in it he removes.
 *  precopy {"downtime_ns","timeout_ns","on_timeout":"refuse"|"go"|"postcopy","auto_converge":bool,
 *           "trees":[{"source":"/upper","dest":"/"}…],
 *           "tracker":"auto"|"uffd"|"softdirty"|"none"}
 *     ← {"rounds","bytes","predicted_ns","converged":bool,"postcopy":bool,"tracker":NAME}
 *     tracker: how written pages are found; auto (also without the field): the best that
 *     the kernel has; -EOPNOTSUPP: it has not the one asked for. With "none" there is one
 *     round, and private memory is left for the freeze, whatever downtime_ns says.
 *     when the predicted blackout is under the budget. -ETIMEDOUT as on_timeout says.
 *     "postcopy":true: one round only. In the answer: what is left is for post-copy.
 *  freeze {}          every thread is stopped (by ptrace: the cgroup freezer would keep
 *                     the dump's system calls from running)
 *     ← {"freeze_ns"}
 *  dump {"verify":bool}  everything left is sent; then the cgroup is frozen, every
 *                     register put back, ptrace undone: the tasks now stand still even
 *                     if the engine is killed
 *     ← {"timings":{"memory_ns","tasks_ns","objects_ns","send_ns","total_ns"},"bytes"}
 *       "postcopy":true, "socket":PATH: pages that are left may be announced only, and are
 *       served afterwards, also without ferryd: the next one knocks at PATH, and may say
 *       wait_memory, resume (before the commit) or kill
 *     ← "postcopy":bool: something is left to be served
 *  wait_memory {}     ← {"pages","ns","faults","median_ns","max_ns","zeros"} when the
 *                     destination has everything; -errno: it was lost before
 *  resume {"discard":bool}
 *                     undo, allowed from any state: repair mode left, thawed, running. After
 *                     `save` and `dump`: the container runs on at once, then the file is put on
 *                     the disk and under its name, unless it is to be discarded. An error says
 *                     that there is no checkpoint; the container runs all the same.
 *     ← {"saved":bool,"bytes"}   bytes: the file's size
 *  kill {}            SIGKILL to all tasks, thaw, wait until all are gone. The cgroup's
 *                     folder stays. After `save` and `dump`: first the file is put on the disk
 *                     and under its name; where that fails nothing is killed, and `resume`
 *                     lets the container run on.
 *     ← {"saved":bool,"bytes"}
 *
 * DESTINATION:
 *  prepare {"init_pid":N (the --stub init),"cgroup","externals":[{"name":"stdin",
 *           "fd_of_stub":0}…],"listen":"10.0.0.2" | "fd":N ("lane_fds":[N…]), "token","tls"}
 *     ← {"port":N,"xsave_mask","xsave_bytes"}; a source may connect from now on
 *     or, instead of "listen", from a checkpoint that was saved:
 *           "load":{"path":P | "fd":N, "ca":PEM file of the cluster's CA,
 *                   "allow_unsigned":false, "spool":folder for what comes from a pipe},
 *           "connections":"keep" (default) | "drop",
 *           "addresses":[{"old":"10.1.0.2","new":"10.1.0.9"}…]
 *     A file's signature is checked over the whole of it before this is answered:
 *     -EKEYREJECTED unsigned, by a stranger or altered; -EBADMSG damaged or truncated. What
 *     comes from a pipe or socket is read into a nameless file first, after the answer; then
 *     wait_restored (or the event "failed") gives the error. Nothing is built before.
 *     drop: TCP connections with a peer outside the container come back reset (ECONNRESET);
 *     those over loopback and between its own addresses are kept, with both ends on the new
 *     addresses. Everything bound to an old address is bound to the new one. keep: every
 *     connection as it was, which needs the same address.
 *     ← {"port":0,"xsave_mask","xsave_bytes","signed_by":"host-a" | null,"saved_at":seconds
 *        since the epoch | null}   (null: not known, a pipe)
 *  storage_ready {}   volumes are mounted inside the container: files may be opened
 *     ← at once
 *  wait_restored {"socket":PATH,"note":PATH}
 *                     ← {"timings":{…},"tasks","verified":bool} when everything is
 *                     built and stands still; or the error which the source is told too.
 *                     With "socket" it is armed (below) before that is said
 *  arm {"socket":PATH}  just before the commit: from now on the end of the control socket
 *                     no longer kills the stubs; the engine waits at PATH for a restarted
 *                     ferryd, which says `run` or `abort`
 *  run {}             after the commit: sockets leave repair mode, the tasks are
 *                     released  ← {"run_ns"}
 *  wait_memory {}     after run: ← {"ns","faults",…} when all memory has come; until then
 *                     the end of the control socket ends nothing, as with arm. -errno: the
 *                     source was lost, and the container is killed; the reason also stands
 *                     in the file "note":PATH of arm
 *  abort {}           the stubs are killed
 *
 * EVENTS
 *  {"event":"round","n","sent_bytes","rate_bps","dirty_bytes","dirty_rate_bps",
 *   "predicted_ns"}                                    source, after each round
 *  {"event":"late","pages","left_bytes","wanted"}      source, during wait_memory
 *  {"event":"throttle","percent"}                      source, auto-converge
 *  {"event":"connected"}, {"event":"received"}         destination; received: all of the
 *   dump has come
 *  {"event":"failed","error","errno"}                  destination, outside a request
 *
 * `ferry-checkpoint --inspect PATH [--ca CA]` prints as JSON what a checkpoint holds:
 *  {"version","host":"a","kernel","arch","saved_at","bytes","rounds",
 *   "signature":{"by":"a","good":bool (only with --ca),"error"} | null,
 *   "processes":[{"pid","parent","name","exe","threads","zombie"}…],
 *   "memory_bytes" (private and shared pages), "shared_bytes","objects":{"file":3,"tcp":2…},
 *   "descriptors":N,"sockets":[{"type":"tcp","state","local":"10.1.0.2:80","peer"}…]}
 *  Exit status 1 and a sentence on stderr where it cannot be read, or is not good with --ca.
 *
 * Exit status: 0 after end of file in a state with nothing to undo, else 1.
 */
#ifndef FERRY_CHECKPOINT_CONTROL_H
#define FERRY_CHECKPOINT_CONTROL_H

#include <jansson.h>

#include "base/error.h"

/* Descriptor on which the engine finds its control socket. */
#define CONTROL_FD 3

/* The engine's main loop on a control socket. The process's exit status. */
int control_serve(int sock);

/* Pushes an event (takes the reference) to whoever controls this engine. */
void control_event(int sock, json_t *event);

/* --- the client's side: for ferryd and tests --------------------------------------- */
/*
 * Sends {"op":op, …args} (args may be NULL; the reference is taken) and waits for the
 * answer; events meanwhile go to on_event (may be NULL). Answer in *answer (may be
 * NULL). 0, or -errno of the engine's answer with its sentence in err; -EPIPE where the
 * engine is gone. One thread at a time.
 */
struct control_client {
	int sock;
	char *buf; /* what came and is not a whole line yet */
	size_t len, cap;
	void (*on_event)(void *ctx, json_t *event);
	void *ctx;
};
int control_call(struct control_client *c, const char *op, json_t *args, json_t **answer,
		 struct error *err);
/* The same in two halves, so that the caller can do something meanwhile. */
int control_send(struct control_client *c, const char *op, json_t *args, struct error *err);
int control_receive(struct control_client *c, json_t **answer, struct error *err);
void control_client_close(struct control_client *c);

#endif
