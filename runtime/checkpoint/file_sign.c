/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signature under a checkpoint in a file: made with the host's key over the SHA-256 of
 * all frames, and good where the cluster's CA vouches for the host. The text in front of the
 * hash keeps a signature that was made for something else from being taken for one of these.
 */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/checkpoint/file.h"

#define PREFIX	 "ferry checkpoint 1\n"
#define PEM_MAX	 65536
#define SIGNED_N (sizeof(PREFIX) - 1 + STREAM_DIGEST)

static void to_be_signed(const uint8_t digest[STREAM_DIGEST], uint8_t out[SIGNED_N])
{
	memcpy(out, PREFIX, sizeof(PREFIX) - 1);
	memcpy(out + sizeof(PREFIX) - 1, digest, STREAM_DIGEST);
}

/* Ed25519 and Ed448 hash by themselves. */
static const EVP_MD *hash_for(const EVP_PKEY *key)
{
	int id = EVP_PKEY_get_base_id(key);

	return id == EVP_PKEY_ED25519 || id == EVP_PKEY_ED448 ? NULL : EVP_sha256();
}

static EVP_PKEY *read_key(const char *path, struct error *err)
{
	CLEANUP_FREE char *pem = NULL;
	EVP_PKEY *key;
	BIO *bio;

	if (file_read(path, PEM_MAX, &pem, NULL, err) < 0)
		return NULL;
	bio = BIO_new_mem_buf(pem, -1);
	key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t) "") : NULL;
	BIO_free(bio);
	OPENSSL_cleanse(pem, strlen(pem));
	if (!key)
		error_set(err, EINVAL, "%s holds no private key", path);
	return key;
}

static X509 *parse_certificate(const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, (void *)(uintptr_t) "") : NULL;

	BIO_free(bio);
	return cert;
}

int sign_digest(const uint8_t digest[STREAM_DIGEST], const char *key_path, const char *cert_path,
		struct signature *out, struct error *err)
{
	EVP_PKEY *key = read_key(key_path, err);
	CLEANUP_FREE char *pem = NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t text[SIGNED_N];
	X509 *cert = NULL;
	int r = key ? 0 : -err->code;

	memset(out, 0, sizeof(*out));
	to_be_signed(digest, text);
	if (r == 0)
		r = file_read(cert_path, PEM_MAX, &pem, NULL, err);
	if (r == 0) {
		cert = parse_certificate(pem);
		if (!cert || X509_check_private_key(cert, key) != 1)
			r = error_set(err, EINVAL, "%s is no certificate of the key %s", cert_path,
				      key_path);
	}
	if (r == 0 && (!ctx || EVP_DigestSignInit(ctx, NULL, hash_for(key), NULL, key) != 1 ||
		       EVP_DigestSign(ctx, NULL, &out->len, text, sizeof(text)) != 1))
		r = error_set(err, EIO, "the key %s cannot sign", key_path);
	if (r == 0) {
		out->bytes = mem_zalloc(out->len);
		if (EVP_DigestSign(ctx, out->bytes, &out->len, text, sizeof(text)) != 1)
			r = error_set(err, EIO, "the key %s cannot sign", key_path);
		out->certificate_len = i2d_X509(cert, &out->certificate);
	}
	if (r == 0 && out->certificate_len <= 0)
		r = error_set(err, EIO, "the certificate %s cannot be encoded", cert_path);
	if (r < 0)
		sign_free(out);
	EVP_MD_CTX_free(ctx);
	X509_free(cert);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return r;
}

void sign_free(struct signature *s)
{
	OPENSSL_free(s->certificate);
	free(s->bytes);
	memset(s, 0, sizeof(*s));
}

static char *common_name(X509 *cert)
{
	X509_NAME *subject = X509_get_subject_name(cert);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *utf8 = NULL;
	char *name = NULL;

	if (at >= 0 && ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(
							  X509_NAME_get_entry(subject, at))) >= 0)
		name = str_dup((const char *)utf8);
	OPENSSL_free(utf8);
	return name ? name : str_dup("");
}

static int issued_by(X509 *cert, const char *ca_path, int64_t when_s, const char *name,
		     struct error *err)
{
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int r = 0;

	if (!store || !ctx)
		r = error_set(err, ENOMEM, "no memory for checking a certificate");
	else if (X509_STORE_load_file(store, ca_path) != 1)
		r = error_set(err, EINVAL, "%s holds no CA's certificate", ca_path);
	else if (X509_STORE_CTX_init(ctx, store, cert, NULL) != 1)
		r = error_set(err, ENOMEM, "no memory for checking a certificate");
	if (r == 0) {
		X509_VERIFY_PARAM *p = X509_STORE_CTX_get0_param(ctx);

		if (when_s)
			X509_VERIFY_PARAM_set_time(p, (time_t)when_s);
		if (X509_verify_cert(ctx) != 1)
			r = error_set(err, EKEYREJECTED,
				      "the checkpoint is signed by \"%s\", for whom this cluster's "
				      "CA does not vouch (%s); restore it in the cluster where it "
				      "was made, or name that one's CA",
				      name,
				      X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	}
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	return r;
}

/* Of exactly these bytes; NULL: they are no certificate. */
static X509 *decode_certificate(const uint8_t *der, size_t len)
{
	const uint8_t *at = der;
	X509 *cert = len && len <= PEM_MAX ? d2i_X509(NULL, &at, (long)len) : NULL;

	if (cert && at != der + len) {
		X509_free(cert);
		cert = NULL;
	}
	return cert;
}

int sign_check(const uint8_t digest[STREAM_DIGEST], const struct signature *s, const char *ca_path,
	       int64_t when_s, char **by, struct error *err)
{
	X509 *cert = decode_certificate(s->certificate, (size_t)s->certificate_len);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY *key = cert ? X509_get0_pubkey(cert) : NULL;
	uint8_t text[SIGNED_N];
	int r = 0;

	*by = cert ? common_name(cert) : NULL;
	to_be_signed(digest, text);
	if (!key || !ctx)
		r = error_set(err, EKEYREJECTED,
			      "the checkpoint's signature has no certificate that can be read");
	else if (EVP_DigestVerifyInit(ctx, NULL, hash_for(key), NULL, key) != 1 ||
		 EVP_DigestVerify(ctx, s->bytes, s->len, text, sizeof(text)) != 1)
		r = error_set(err, EKEYREJECTED,
			      "the checkpoint was altered after it was written: the signature of "
			      "\"%s\" does not fit",
			      *by);
	else if (ca_path)
		r = issued_by(cert, ca_path, when_s, *by, err);
	EVP_MD_CTX_free(ctx);
	X509_free(cert);
	ERR_clear_error();
	return r;
}
