/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a frame may hold. A stream comes from another host's engine, or from a file with a
 * good signature: it is trusted in what it means, but a damaged or an evil one must not
 * crash this engine, nor eat its memory. Everything that decodes a message asks here first,
 * and relies on what these functions promise:
 *
 *   numbers of pids, descriptors, signals, kinds are in range; nothing comes twice that may
 *   come once; addresses and sizes are aligned, ordered, and add up without overflow; text
 *   that must be there is; structs of the kernel have their size
 *
 * 0, or -EBADMSG with err set.
 */
#ifndef FERRY_CHECKPOINT_CHECK_H
#define FERRY_CHECKPOINT_CHECK_H

#include "runtime/checkpoint/checkpoint.pb-c.h"
#include "runtime/checkpoint/stream.h"

/* Highest pid a kernel gives (PID_MAX_LIMIT); processes, threads of one process. */
#define CHECK_PID_MAX	   (4u << 20)
#define CHECK_PROCESSES	   65536u
#define CHECK_THREADS	   65536u
#define CHECK_ADDRESS_MAX  (1ull << 47)
#define CHECK_FDS	   (1u << 30) /* the most that fs.nr_open can be */
#define CHECK_PAGES	   (1u << 16) /* of a process in one frame without content */
#define CHECK_HASHES	   256u	      /* pages in one frame */
#define CHECK_HASHES_TOTAL (1ull << 30)
#define CHECK_DEPTH	   64u /* objects that need others to be made */

/*
 * Unpacks a message whose submessages and fields take at most a few times the size that it
 * has itself; NULL: damaged, or made to use up memory. Free with
 * protobuf_c_message_free_unpacked(m, NULL).
 */
void *check_unpack(const ProtobufCMessageDescriptor *type, const void *data, size_t len);

int check_tree(const Ck__Tree *m, struct error *err);
int check_layout(const Ck__Layout *m, struct error *err);
int check_shared(const Ck__Shared *m, struct error *err);
int check_task(const Ck__TaskState *m, struct error *err);
int check_fdtable(const Ck__FdTable *m, struct error *err);
int check_object(const Ck__Object *m, struct error *err);
int check_hash(const Ck__Hash *m, struct error *err);
/* A frame of pages: its head in *run. */
int check_pages(const struct frame *f, struct page_run *run, struct error *err);

/* A whole frame of any type that a source sends. */
int check_frame(const struct frame *f, struct error *err);

#endif
