/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificate authority of a cluster over libcrypto: keys, requests, certificates, all
 * as PEM text. tls.h is the contract; connections are in tls.c.
 */
#include "base/tls.h"

#include <arpa/inet.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"

#define BACKDATE_S 3600 /* clocks of two hosts differ by some minutes at most */

static int crypto_error(struct error *err, int code, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *why = e ? ERR_reason_error_string(e) : NULL;

	ERR_clear_error();
	return error_set(err, code, "%s: %s", what, why ? why : "it is not well-formed");
}

static void free_bio(BIO **b)
{
	BIO_free(*b);
}
static void free_pkey(EVP_PKEY **k)
{
	EVP_PKEY_free(*k);
}
static void free_x509(X509 **x)
{
	X509_free(*x);
}
static void free_req(X509_REQ **r)
{
	X509_REQ_free(*r);
}
#define CLEANUP_BIO  __attribute__((cleanup(free_bio)))
#define CLEANUP_PKEY __attribute__((cleanup(free_pkey)))
#define CLEANUP_X509 __attribute__((cleanup(free_x509)))
#define CLEANUP_REQ  __attribute__((cleanup(free_req)))

static char *bio_text(BIO *b)
{
	char *p, *out;
	long n = BIO_get_mem_data(b, &p);

	out = mem_zalloc((size_t)n + 1);
	memcpy(out, p, (size_t)n);
	return out;
}

static EVP_PKEY *read_key(const char *pem)
{
	CLEANUP_BIO BIO *b = BIO_new_mem_buf(pem, -1);

	return b ? PEM_read_bio_PrivateKey(b, NULL, NULL, NULL) : NULL;
}

static X509 *read_cert(const char *pem)
{
	CLEANUP_BIO BIO *b = BIO_new_mem_buf(pem, -1);

	return b ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
}

int tls_key_create(char **key_pem, struct error *err)
{
	CLEANUP_PKEY EVP_PKEY *key = EVP_EC_gen("P-256");
	CLEANUP_BIO BIO *b = BIO_new(BIO_s_mem());

	if (!key || !b || !PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL))
		return crypto_error(err, EIO, "making a private key");
	*key_pem = bio_text(b);
	return 0;
}

static bool set_name(X509_NAME *n, const char *cn)
{
	return X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1,
					  0) == 1;
}

static bool set_serial(X509 *x)
{
	unsigned char bytes[16];
	BIGNUM *bn;
	bool ok;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] &= 0x7f; /* positive, RFC 5280 section 4.1.2.2 */
	bytes[0] |= 0x40;
	bn = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x));
	BN_free(bn);
	return ok;
}

static bool add_ext(X509 *x, X509V3_CTX *c, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, c, nid, value);
	bool ok = e && X509_add_ext(x, e, -1) == 1;

	X509_EXTENSION_free(e);
	return ok;
}

/* Version, serial number, life time: what both kinds of certificate share. */
static X509 *new_cert(int days)
{
	X509 *x = X509_new();

	if (x && X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
	    X509_gmtime_adj(X509_getm_notBefore(x), -BACKDATE_S) &&
	    X509_time_adj_ex(X509_getm_notAfter(x), days, 0, NULL))
		return x;
	X509_free(x);
	return NULL;
}

int tls_ca_create(const char *name, int days, char **cert_pem, char **key_pem, struct error *err)
{
	CLEANUP_FREE char *key_text = NULL;
	CLEANUP_PKEY EVP_PKEY *key = NULL;
	CLEANUP_X509 X509 *x = new_cert(days);
	CLEANUP_BIO BIO *b = BIO_new(BIO_s_mem());
	X509V3_CTX c;
	int r;

	r = tls_key_create(&key_text, err);
	if (r < 0)
		return r;
	key = read_key(key_text);
	if (!x || !b || !key)
		return crypto_error(err, ENOMEM, "making a CA");
	X509V3_set_ctx(&c, x, x, NULL, NULL, 0);
	if (!set_name(X509_get_subject_name(x), name) ||
	    !X509_set_issuer_name(x, X509_get_subject_name(x)) || !X509_set_pubkey(x, key) ||
	    !add_ext(x, &c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
	    !add_ext(x, &c, NID_key_usage, "critical,keyCertSign,cRLSign") ||
	    !add_ext(x, &c, NID_subject_key_identifier, "hash") ||
	    !X509_sign(x, key, EVP_sha256()) || !PEM_write_bio_X509(b, x))
		return crypto_error(err, EIO, "making a CA certificate");
	*cert_pem = bio_text(b);
	*key_pem = TAKE_PTR(key_text);
	return 0;
}

int tls_csr_create(const char *key_pem, const char *name, char **csr_pem, struct error *err)
{
	CLEANUP_PKEY EVP_PKEY *key = read_key(key_pem);
	CLEANUP_REQ X509_REQ *req = X509_REQ_new();
	CLEANUP_BIO BIO *b = BIO_new(BIO_s_mem());

	if (!key)
		return crypto_error(err, EINVAL, "reading the private key");
	if (!req || !b || !X509_REQ_set_version(req, X509_REQ_VERSION_1) ||
	    !set_name(X509_REQ_get_subject_name(req), name) || !X509_REQ_set_pubkey(req, key) ||
	    !X509_REQ_sign(req, key, EVP_sha256()) || !PEM_write_bio_X509_REQ(b, req))
		return crypto_error(err, EIO, "making a certificate request");
	*csr_pem = bio_text(b);
	return 0;
}

/* The name may hold nothing that the syntax of X509V3_EXT_conf_nid() knows. */
static bool name_is_plain(const char *s)
{
	return str_is_name(s) && strlen(s) <= 63;
}

static bool add_names(X509 *x, X509V3_CTX *c, const char *name, const char *address)
{
	unsigned char addr[16];
	CLEANUP_FREE char *san = NULL;
	bool is_ip = address && (inet_pton(AF_INET, address, addr) == 1 ||
				 inet_pton(AF_INET6, address, addr) == 1);

	san = is_ip ? str_format("DNS:%s,IP:%s", name, address) : str_format("DNS:%s", name);
	return add_ext(x, c, NID_subject_alt_name, san);
}

int tls_csr_sign(const char *ca_cert_pem, const char *ca_key_pem, const char *csr_pem,
		 const char *name, const char *address, int days, char **cert_pem,
		 struct error *err)
{
	CLEANUP_X509 X509 *ca = read_cert(ca_cert_pem);
	CLEANUP_PKEY EVP_PKEY *ca_key = read_key(ca_key_pem);
	CLEANUP_BIO BIO *in = BIO_new_mem_buf(csr_pem, -1), *b = BIO_new(BIO_s_mem());
	CLEANUP_REQ X509_REQ *req = in ? PEM_read_bio_X509_REQ(in, NULL, NULL, NULL) : NULL;
	CLEANUP_X509 X509 *x = new_cert(days);
	EVP_PKEY *pub = req ? X509_REQ_get0_pubkey(req) : NULL;
	X509V3_CTX c;

	if (!name_is_plain(name))
		return error_set(err, EINVAL,
				 "\"%.80s\" is no name for a host: letters, digits, "
				 "'_', '.', '-', at most 63",
				 name);
	if (!ca || !ca_key)
		return crypto_error(err, EIO, "reading the CA");
	if (!req || !pub || X509_REQ_verify(req, pub) != 1)
		return crypto_error(err, EINVAL, "reading the certificate request");
	if (!EVP_PKEY_is_a(pub, "EC"))
		return error_set(err, EINVAL, "the certificate request's key is not an EC key");
	if (!x || !b)
		return crypto_error(err, ENOMEM, "making a certificate");
	X509V3_set_ctx(&c, ca, x, req, NULL, 0);
	if (!set_name(X509_get_subject_name(x), name) ||
	    !X509_set_issuer_name(x, X509_get_subject_name(ca)) || !X509_set_pubkey(x, pub) ||
	    !add_ext(x, &c, NID_basic_constraints, "critical,CA:FALSE") ||
	    !add_ext(x, &c, NID_key_usage, "critical,digitalSignature") ||
	    !add_ext(x, &c, NID_ext_key_usage, "serverAuth,clientAuth") ||
	    !add_ext(x, &c, NID_subject_key_identifier, "hash") ||
	    !add_ext(x, &c, NID_authority_key_identifier, "keyid:always") ||
	    !add_names(x, &c, name, address) || !X509_sign(x, ca_key, EVP_sha256()) ||
	    !PEM_write_bio_X509(b, x))
		return crypto_error(err, EIO, "issuing a certificate");
	*cert_pem = bio_text(b);
	return 0;
}

int tls_cert_fingerprint(const char *cert_pem, char out[65], struct error *err)
{
	CLEANUP_X509 X509 *x = read_cert(cert_pem);
	unsigned char md[32];
	unsigned int n = 0;

	if (!x || !X509_digest(x, EVP_sha256(), md, &n) || n != sizeof(md))
		return crypto_error(err, EINVAL, "reading a certificate");
	str_hex(out, md, sizeof(md));
	return 0;
}

int tls_cert_info(const char *cert_pem, char **name, int64_t *not_after_s, struct error *err)
{
	CLEANUP_X509 X509 *x = read_cert(cert_pem);
	char cn[256];
	struct tm tm;

	if (!x || !ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) ||
	    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, cn, sizeof(cn)) < 0)
		return crypto_error(err, EINVAL, "reading a certificate");
	if (not_after_s)
		*not_after_s = timegm(&tm);
	if (name)
		*name = str_dup(cn);
	return 0;
}

/* HKDF (RFC 5869) of the key's private scalar, `purpose` as info. */
static bool derive(EVP_PKEY *key, const char *purpose, unsigned char out[32])
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *k = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	unsigned char *der = NULL;
	int n = i2d_PrivateKey(key, &der);
	bool ok = false;

	if (k && n > 0) {
		char digest[] = "SHA256";
		OSSL_PARAM p[] = {
			OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
			OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, der, (size_t)n),
			OSSL_PARAM_construct_octet_string(
				OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)purpose, strlen(purpose)),
			OSSL_PARAM_construct_end(),
		};

		ok = EVP_KDF_derive(k, out, 32, p) == 1;
	}
	if (n > 0)
		OPENSSL_clear_free(der, (size_t)n);
	EVP_KDF_CTX_free(k);
	EVP_KDF_free(kdf);
	return ok;
}

int tls_key_mac(const char *key_pem, const char *purpose, const char *text, char out[65],
		struct error *err)
{
	CLEANUP_PKEY EVP_PKEY *key = read_key(key_pem);
	unsigned char secret[32], mac[32];
	unsigned int n = 0;
	bool ok;

	if (!key)
		return crypto_error(err, EINVAL, "reading a private key");
	ok = derive(key, purpose, secret) &&
	     HMAC(EVP_sha256(), secret, sizeof(secret), (const unsigned char *)text, strlen(text),
		  mac, &n) &&
	     n == sizeof(mac);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (!ok)
		return crypto_error(err, EIO, "computing a MAC");
	str_hex(out, mac, sizeof(mac));
	return 0;
}
