/* SPDX-License-Identifier: Apache-2.0 */
/* Image names: parsing, checking, long and short form; ref.h is the contract. */
#include "runtime/image/ref.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/digest.h"

#define MAX_NAME 255
#define MAX_TAG	 128

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

/* path-component: alnum runs joined by ".", "_", "__" or any number of "-". */
static bool component_ok(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t start = i;

		while (i < n && is_lower_alnum(s[i]))
			i++;
		if (i == start)
			return false;
		if (i == n)
			return true;
		if (s[i] == '-') {
			while (i < n && s[i] == '-')
				i++;
		} else if (s[i] == '.') {
			i++;
		} else if (s[i] == '_') {
			i++;
			if (i < n && s[i] == '_')
				i++;
		} else {
			return false;
		}
	}
	return false; /* empty, or ends in a separator */
}

static bool path_ok(const char *path)
{
	for (const char *p = path;;) {
		size_t n = strcspn(p, "/");

		if (!component_ok(p, n))
			return false;
		if (!p[n])
			return true;
		p += n + 1;
	}
}

static bool domain_ok(const char *s, size_t n)
{
	size_t host = n;
	const char *colon = NULL;

	if (n && s[0] == '[') { /* an IPv6 address */
		const char *end = memchr(s, ']', n);

		if (!end || strspn(s + 1, "0123456789abcdefABCDEF:") != (size_t)(end - s - 1))
			return false;
		colon = end + 1 < s + n ? end + 1 : NULL;
		if (colon && *colon != ':')
			return false;
	} else {
		colon = memchr(s, ':', n);
		host = colon ? (size_t)(colon - s) : n;
		if (!host)
			return false;
		/* labels of letters, digits and inner dashes, joined by dots */
		for (size_t i = 0; i < host; i++) {
			bool inner = i > 0 && i < host - 1;

			if (is_alnum(s[i]))
				continue;
			if (!inner || (s[i] != '-' && s[i] != '.'))
				return false;
			if (s[i - 1] == '.' || (s[i] == '.' && s[i - 1] == '-'))
				return false;
		}
	}
	if (colon) {
		size_t digits = (size_t)(s + n - colon - 1);

		if (digits < 1 || digits > 5 || strspn(colon + 1, "0123456789") < digits)
			return false;
	}
	return true;
}

static bool tag_ok(const char *s)
{
	size_t n = strlen(s);

	if (!n || n > MAX_TAG || (!is_alnum(s[0]) && s[0] != '_'))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!is_alnum(s[i]) && !strchr("_.-", s[i]))
			return false;
	return true;
}

static int no_name(const char *name, const char *path, struct error *err)
{
	for (const char *p = path; *p; p++)
		if (isupper((unsigned char)*p))
			return error_set(err, EINVAL,
					 "\"%s\" is no image name: it must be lower-case", name);
	return error_set(err, EINVAL,
			 "\"%s\" is no image name: expected [host/]path[:tag] of "
			 "lower-case letters, digits and single separators",
			 name);
}

/* Cuts "@sha256:HEX" off `repo`. */
static int cut_digest(const char *name, char *repo, char **digest, struct error *err)
{
	char *at = strchr(repo, '@');
	const char *hex;

	if (!at)
		return 0;
	*at = '\0';
	hex = image_digest_hex(at + 1);
	if (!hex)
		return error_set(err, EINVAL,
				 "\"%s\": what stands behind the @ is no sha256 digest", name);
	*digest = str_dup(hex);
	return 0;
}

/* Cuts "host/" off the front of `repo`; *path: what is left. */
static int cut_host(const char *name, char *repo, char **host, const char **path, struct error *err)
{
	const char *slash = strchr(repo, '/');
	size_t n = slash ? (size_t)(slash - repo) : 0;
	bool upper = false;

	*path = repo;
	for (size_t i = 0; i < n; i++)
		upper |= isupper((unsigned char)repo[i]) != 0;
	if (!slash || (!upper && !memchr(repo, '.', n) && !memchr(repo, ':', n) &&
		       !(n == 9 && memcmp(repo, "localhost", 9) == 0)))
		return 0;
	if (!domain_ok(repo, n))
		return error_set(err, EINVAL, "\"%s\": \"%.*s\" is no registry host", name, (int)n,
				 repo);
	*host = str_format("%.*s", (int)n, repo);
	*path = slash + 1;
	return 0;
}

static int parse(const char *name, struct image_ref *ref, struct error *err)
{
	CLEANUP_FREE char *repo = str_dup(name);
	const char *path;
	char *slash, *colon;
	int r = cut_digest(name, repo, &ref->digest, err);

	if (r < 0)
		return r;
	slash = strrchr(repo, '/');
	colon = strchr(slash ? slash : repo, ':');
	if (colon) {
		*colon = '\0';
		ref->tag = str_dup(colon + 1);
	} else if (!ref->digest) {
		ref->tag = str_dup("latest");
	}
	if (!*repo || image_is_hex(repo))
		return error_set(err, EINVAL, "\"%s\" is no image name: %s", name,
				 *repo ? "64 hex digits are an id" : "it is empty");
	r = cut_host(name, repo, &ref->host, &path, err);
	if (r < 0)
		return r;
	if (!path_ok(path))
		return no_name(name, path, err);
	if (ref->tag && !tag_ok(ref->tag))
		return error_set(err, EINVAL, "\"%s\": \"%.130s\" is no valid tag", name, ref->tag);
	if (!ref->host || strcmp(ref->host, "index.docker.io") == 0) {
		free(ref->host);
		ref->host = str_dup("docker.io");
	}
	ref->path = str_format(
		"%s%s", strcmp(ref->host, "docker.io") || strchr(path, '/') ? "" : "library/",
		path);
	if (strlen(ref->host) + 1 + strlen(ref->path) > MAX_NAME)
		return error_set(err, EINVAL, "image name is longer than %d bytes", MAX_NAME);
	return 0;
}

int image_ref_parse(const char *name, struct image_ref *ref, struct error *err)
{
	int r;

	memset(ref, 0, sizeof(*ref));
	if (strlen(name) > 2 * MAX_NAME)
		return error_set(err, EINVAL, "image name is longer than %d bytes", 2 * MAX_NAME);
	r = parse(name, ref, err);
	if (r < 0)
		image_ref_free(ref);
	return r;
}

void image_ref_free(struct image_ref *ref)
{
	free(ref->host);
	free(ref->path);
	free(ref->tag);
	free(ref->digest);
	memset(ref, 0, sizeof(*ref));
}

int image_ref_normalize(const char *name, char **whole, struct error *err)
{
	CLEANUP_REF struct image_ref ref = { 0 };
	int r = image_ref_parse(name, &ref, err);

	*whole = NULL;
	if (r < 0)
		return r;
	if (ref.digest)
		return error_set(err, EINVAL,
				 "\"%s\": a digest is no name that can be given; use name:tag",
				 name);
	*whole = str_format("%s/%s:%s", ref.host, ref.path, ref.tag);
	return 0;
}

char *image_ref_short(const char *whole)
{
	if (str_starts(whole, "docker.io/library/") && !strchr(whole + 18, '/'))
		return str_dup(whole + 18);
	if (str_starts(whole, "docker.io/"))
		return str_dup(whole + 10);
	return str_dup(whole);
}
