/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints in files: the same stream, one-way, with a signature at its end.
 *
 *   source                                    destination
 *   save_open()   nameless file               load_open()   a file: one pass over it, frame
 *   frames …                                     by frame, hashed; the signature is checked
 *   save_seal()   Signature                   load_pump()   a pipe: the same, into a nameless
 *   save_publish() fsync, name, fsync            file; then true
 *   save_free()   not published: gone         load_stream() the frames from the start: they
 *                                                are hashed once more
 *                                             load_end()    at Done: it is what was checked
 *
 * Nothing of a checkpoint is given to the rest of the engine before its signature was
 * found good.
 */
#ifndef FERRY_CHECKPOINT_FILE_H
#define FERRY_CHECKPOINT_FILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "runtime/checkpoint/stream.h"

/* --- signatures (file_sign.c) ---------------------------------------------------------- */
/* Signs the digest with the PEM key; the fields are fresh (sign_free). */
struct signature {
	uint8_t *certificate; /* DER */
	long certificate_len;
	uint8_t *bytes;
	size_t len;
};
int sign_digest(const uint8_t digest[STREAM_DIGEST], const char *key_path, const char *cert_path,
		struct signature *out, struct error *err);
void sign_free(struct signature *s);
/*
 * 0 where the signature is over this digest, by a certificate that the CA issued and that
 * was valid at `when_s` (0: now). -EKEYREJECTED with err set else. ca_path NULL: only
 * whether it fits to the certificate that came along. *by, fresh, is the certificate's CN
 * also where the signature is not good (NULL: it cannot even be read).
 */
int sign_check(const uint8_t digest[STREAM_DIGEST], const struct signature *s, const char *ca_path,
	       int64_t when_s, char **by, struct error *err);

/* --- writing (file_save.c) --------------------------------------------------------------- */
struct save;
/* Fields of the request `save`; *fd is for stream_new_file(). */
int save_open(json_t *args, struct save **out, int *fd, struct error *err);
/* The signature, behind everything else. */
int save_seal(struct save *v, struct stream *s, struct error *err);
bool save_sealed(const struct save *v);
/* On the disk and under its name. */
int save_publish(struct save *v, struct error *err);
/* What was not published disappears. NULL is fine. */
void save_free(struct save *v);

/* --- reading (file_load.c) ------------------------------------------------------------- */
/* What is known of a checkpoint when its signature has been checked. */
struct load_info {
	char *signed_by; /* NULL: by nobody */
	int64_t saved_at_s;
	uint64_t bytes;
	uint8_t digest[STREAM_DIGEST]; /* of all frames to Done */
	bool signature;		       /* there is one */
	struct error bad;	       /* inspection only: what is wrong with it */
};
struct load;
/* "load" of the request `prepare`. Where it is a file, it is checked. */
int load_open(json_t *args, struct load **out, struct error *err);
/* True where everything is there and checked. */
bool load_ready(const struct load *l);
/* For poll() and load_pump() until then: one more frame of a pipe. */
int load_fd(const struct load *l);
int load_pump(struct load *l, struct error *err);
/* The stream from its start; once. */
struct stream *load_stream(struct load *l, struct error *err);
/* `s` has given its last frame, Done: -EBADMSG where it is not what was checked. */
int load_end(struct load *l, struct stream *s, struct error *err);
const struct load_info *load_info(const struct load *l);
void load_free(struct load *l);

/*
 * One pass over the file behind fd: order and checksums of frames, the signature; each
 * frame is given to `each` (may be NULL) as well. `inspect`: a signature that is not good
 * is noted in info->bad instead of refused.
 */
struct load_check {
	const char *ca;
	bool allow_unsigned, inspect;
	int (*each)(void *ctx, const struct frame *f, struct error *err);
	void *ctx;
};
int load_check(int fd, const struct load_check *how, struct load_info *info, struct error *err);
void load_info_free(struct load_info *info);

/*
 * What a file holds (file_inspect.c), as control.h describes it. 0; or -errno with err set:
 * it cannot be read (*out unchanged), or its signature is not good (*out is set too).
 */
int file_inspect(const char *path, const char *ca, json_t **out, struct error *err);

#endif
