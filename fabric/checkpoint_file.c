/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint as one file, for --output, and the spool files in which streams lie while
 * they are made or read.
 *
 *	stream       as the engine wrote it, with its own signature
 *	document     JSON, as in the store
 *	seal         JSON: {"certificate" (DER),"signature"}, in hex, over the SHA-256 of both
 *	footer       24 bytes: stream's length (8), document's (4), seal's (4), little-endian,
 *	             and the magic
 *
 * The document is signed because it decides which image, volumes and rights the container
 * gets. What is read is taken in whole, checked, and cut to the stream alone.
 */
#include <endian.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "fabric/checkpoint_internal.h"
#include "runtime/checkpoint/file.h"

#define PURPOSE	     "ferry checkpoint document 1\n"
#define MAGIC	     "FERRYCK1"
#define DOCUMENT_MAX (16u << 20)
#define SEAL_MAX     (64u << 10)
#define BLOCK	     (1u << 20)

struct footer {
	uint64_t stream;
	uint32_t document, seal;
	char magic[8];
} __attribute__((packed));

/* --- spool -------------------------------------------------------------------------------- */

int spool_new(struct fabric *f, const char *id, char **path, struct error *err)
{
	CLEANUP_FREE char *folder = str_format("%s/checkpoints/spool", f->state_dir);
	int fd, r = dir_make(folder, 0700, err);

	if (r < 0)
		return r;
	*path = str_format("%s/%s", folder, id);
	fd = open(*path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? error_sys(err, errno, "making %s", *path) : fd;
}

void spool_remove(char **path)
{
	if (*path)
		unlink(*path);
	free(*path);
	*path = NULL;
}

/* --- hashing -------------------------------------------------------------------------- */

/* Purpose, the first `stream` bytes of fd, the document. */
static int hash(int fd, uint64_t stream, const char *document, size_t len,
		uint8_t out[STREAM_DIGEST], struct error *err)
{
	CLEANUP_FREE char *buf = mem_zalloc(BLOCK);
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) &&
		  EVP_DigestUpdate(md, PURPOSE, sizeof(PURPOSE) - 1);
	uint64_t le = htole64(stream);
	int r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;

	ok = ok && EVP_DigestUpdate(md, &le, sizeof(le));
	while (!r && ok && stream) {
		size_t n = stream < BLOCK ? (size_t)stream : BLOCK;

		r = fd_read_all(fd, buf, n);
		ok = !r && EVP_DigestUpdate(md, buf, n);
		stream -= n;
	}
	ok = ok && EVP_DigestUpdate(md, document, len) && EVP_DigestFinal_ex(md, out, NULL);
	EVP_MD_CTX_free(md);
	if (r < 0)
		return error_sys(err, -r, "reading the checkpoint");
	return ok ? 0 : error_set(err, EIO, "hashing the checkpoint failed");
}

static char *to_hex(const uint8_t *bytes, size_t n)
{
	char *text = mem_zalloc(2 * n + 1);

	str_hex(text, bytes, n);
	return text;
}

/* *n: how many bytes; NULL where it is not hex. Caller frees. */
static uint8_t *from_hex(const char *text, size_t *n)
{
	size_t len = strlen(text);
	uint8_t *out;

	if (len % 2 || len > 2 * SEAL_MAX || strspn(text, "0123456789abcdef") != len)
		return NULL;
	out = mem_zalloc(len / 2 + 1);
	for (*n = 0; *n < len / 2; (*n)++)
		sscanf(text + 2 * *n, "%2hhx", &out[*n]);
	return out;
}

/* --- writing -------------------------------------------------------------------------- */

static int want_cluster(struct fabric *f, struct error *err)
{
	return f->cluster ? 0
			  : error_set(err, EINVAL,
				      "host %s is in no cluster: there is no key to sign a file "
				      "with; see 'ferry cluster init'",
				      f->host);
}

static int seal(struct fabric *f, const uint8_t digest[STREAM_DIGEST], char **text,
		struct error *err)
{
	struct signature s = { 0 };
	CLEANUP_FREE char *hex = NULL, *certificate = NULL;
	CLEANUP_JSON json_t *j = NULL;
	int r = sign_digest(digest, cluster_key_path(f->cluster), cluster_cert_path(f->cluster), &s,
			    err);

	if (r < 0)
		return r;
	hex = to_hex(s.bytes, s.len);
	certificate = to_hex(s.certificate, (size_t)s.certificate_len);
	j = json_pack("{s:s, s:s}", "certificate", certificate, "signature", hex);
	*text = json_text(j);
	sign_free(&s);
	return 0;
}

static int copy_out(int from, int to, uint64_t bytes)
{
	CLEANUP_FREE char *buf = mem_zalloc(BLOCK);
	int r = lseek(from, 0, SEEK_SET) < 0 ? -errno : 0;

	while (!r && bytes) {
		size_t n = bytes < BLOCK ? (size_t)bytes : BLOCK;

		r = fd_read_all(from, buf, n);
		if (!r)
			r = fd_write_all(to, buf, n);
		bytes -= n;
	}
	return r;
}

int checkpoint_file_write(struct fabric *f, const json_t *doc, int fd, struct error *err)
{
	CLEANUP_SPOOL char *path = NULL;
	CLEANUP_FREE char *id = str_random_hex(16), *text = json_text(doc), *sealed = NULL;
	CLEANUP_CLOSE int spool = -1;
	uint64_t bytes = (uint64_t)json_int(doc, "bytes", 0);
	uint8_t digest[STREAM_DIGEST];
	struct footer foot = { .magic = MAGIC };
	int r = want_cluster(f, err);

	if (r < 0)
		return r;
	spool = spool_new(f, id, &path, err);
	if (spool < 0)
		return spool;
	r = blob_read(f, json_str(doc, "id", "-"), bytes, spool, err);
	if (!r)
		r = hash(spool, bytes, text, strlen(text), digest, err);
	if (!r)
		r = seal(f, digest, &sealed, err);
	if (r < 0 || !sealed)
		return r < 0 ? r : error_set(err, ENOMEM, "sealing the checkpoint");
	foot.stream = htole64(bytes);
	foot.document = htole32((uint32_t)strlen(text));
	foot.seal = htole32((uint32_t)strlen(sealed));
	memcpy(foot.magic, MAGIC, sizeof(foot.magic));
	r = copy_out(spool, fd, bytes);
	if (!r)
		r = fd_write_all(fd, text, strlen(text));
	if (!r)
		r = fd_write_all(fd, sealed, strlen(sealed));
	if (!r)
		r = fd_write_all(fd, &foot, sizeof(foot));
	return r < 0 ? error_sys(err, -r, "writing the checkpoint out") : 0;
}

/* --- reading ---------------------------------------------------------------------------- */

static int take_in(int from, int to, struct error *err)
{
	CLEANUP_FREE char *buf = mem_zalloc(BLOCK);
	ssize_t n;
	int r;

	for (;;) {
		n = read(from, buf, BLOCK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_sys(err, errno, "receiving the checkpoint");
		if (n == 0)
			return 0;
		r = fd_write_all(to, buf, (size_t)n);
		if (r < 0)
			return error_sys(err, -r, "keeping the checkpoint that comes in");
	}
}

/* Lengths that fit to each other and to the file. */
static int read_footer(int fd, struct footer *foot, uint64_t *size, struct error *err)
{
	struct stat st;
	uint64_t have;

	if (fstat(fd, &st) < 0)
		return error_sys(err, errno, "reading the checkpoint");
	*size = (uint64_t)st.st_size;
	if (*size < sizeof(*foot) ||
	    pread(fd, foot, sizeof(*foot), (off_t)(*size - sizeof(*foot))) != sizeof(*foot) ||
	    memcmp(foot->magic, MAGIC, sizeof(foot->magic)))
		return error_set(err, EBADMSG,
				 "this is no checkpoint file of ferry, or its end is missing");
	foot->stream = le64toh(foot->stream);
	foot->document = le32toh(foot->document);
	foot->seal = le32toh(foot->seal);
	have = *size - sizeof(*foot);
	if (foot->document > DOCUMENT_MAX || foot->seal > SEAL_MAX || foot->stream > have ||
	    have - foot->stream != (uint64_t)foot->document + foot->seal)
		return error_set(err, EBADMSG, "the checkpoint file is damaged");
	return 0;
}

static int check_seal(struct fabric *f, int fd, const struct footer *foot, const char *document,
		      const char *sealed, struct error *err)
{
	CLEANUP_JSON json_t *j = json_parse(sealed, foot->seal, "the file's seal", err);
	CLEANUP_FREE uint8_t *bytes = NULL, *certificate = NULL;
	CLEANUP_FREE char *by = NULL;
	size_t n = 0;
	uint8_t digest[STREAM_DIGEST];
	struct signature given = { 0 };
	int r;

	if (!j)
		return -EINVAL;
	bytes = from_hex(json_str(j, "signature", ""), &given.len);
	certificate = from_hex(json_str(j, "certificate", ""), &n);
	if (!bytes || !given.len || !certificate || !n)
		return error_set(err, EBADMSG, "the checkpoint file's seal is damaged");
	given.certificate = certificate;
	given.certificate_len = (long)n;
	given.bytes = bytes;
	r = hash(fd, foot->stream, document, foot->document, digest, err);
	return r < 0 ? r : sign_check(digest, &given, cluster_ca_path(f->cluster), 0, &by, err);
}

int checkpoint_file_read(struct fabric *f, int fd, const char *path, json_t **doc,
			 struct error *err)
{
	CLEANUP_CLOSE int spool = open(path, O_RDWR | O_CLOEXEC);
	CLEANUP_FREE char *document = NULL, *sealed = NULL;
	CLEANUP_JSON json_t *j = NULL;
	struct footer foot = { 0 };
	uint64_t size;
	int r = want_cluster(f, err);

	if (r < 0)
		return r;
	if (spool < 0)
		return error_sys(err, errno, "opening %s", path);
	r = take_in(fd, spool, err);
	if (!r)
		r = read_footer(spool, &foot, &size, err);
	if (r < 0)
		return r;
	document = mem_zalloc(foot.document + 1);
	sealed = mem_zalloc(foot.seal + 1);
	if (lseek(spool, (off_t)foot.stream, SEEK_SET) < 0 ||
	    fd_read_all(spool, document, foot.document) < 0 ||
	    fd_read_all(spool, sealed, foot.seal) < 0)
		return error_sys(err, EIO, "reading the checkpoint");
	r = check_seal(f, spool, &foot, document, sealed, err);
	if (r < 0)
		return error_wrap(err, "the checkpoint file is not to be trusted");
	j = json_parse(document, foot.document, "the checkpoint's document", err);
	if (!j)
		return -EBADMSG;
	if (strcmp(json_str(j, "cluster", ""), cluster_id(f->cluster)))
		return error_set(err, EKEYREJECTED, "the checkpoint file is of another cluster");
	if (ftruncate(spool, (off_t)foot.stream) < 0)
		return error_sys(err, errno, "cutting %s", path);
	*doc = TAKE_PTR(j);
	return 0;
}

int fabric_checkpoint_export(struct fabric *f, const char *ref, int fd, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r = checkpoint_find(f, ref, &doc, err);

	if (r < 0)
		return r;
	if (!strcmp(json_str(doc, "place", ""), "exported"))
		return error_set(err, ENOENT,
				 "the data of checkpoint %s is in the file that it was put out to",
				 json_str(doc, "name", ""));
	return checkpoint_file_write(f, doc, fd, err);
}
