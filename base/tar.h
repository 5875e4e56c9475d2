/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tar archives of folders that somebody else may change meanwhile, and from people who are
 * not trusted: unpacking and packing as if a folder were the root of the file system. Of
 * libarchive, which knows the formats; the files are opened here.
 */
#ifndef FERRY_BASE_TAR_H
#define FERRY_BASE_TAR_H

#include <archive.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"

struct tar_options {
	bool whiteouts;	  /* ".wh." entries stand for whiteouts and opaque folders of overlayfs */
	bool mounts;	  /* go into what is mounted below the folder */
	bool packed;	  /* reading: gzip, zstd, xz and bzip2 are fine, too */
	bool keep_kind;	  /* reading: no folder is replaced by something else, or the reverse */
	const char *into; /* reading: a folder below the root, "a/b"; NULL: the root itself */
	uint64_t max_entries; /* reading: 0: any number */
};

/*
 * Unpacks the tar that comes from `fd` below the folder `root`. *bytes (may be NULL): what
 * its files hold together. On failure a part may be there.
 */
int tar_unpack(int fd, int root, const struct tar_options *o, uint64_t *bytes, struct error *err);

/*
 * Writes what stands at `path` below the folder `root` ("" or "." is the folder itself) to
 * `fd` as a tar, in which it is called `name` ("" for a folder: its entries stand at the
 * top). Symlinks are kept, sockets left out.
 */
int tar_pack(int root, const char *path, const char *name, int fd, const struct tar_options *o,
	     struct error *err);

/*
 * open(2) of a path below `root`, links resolved as if that were the root; `mounts`: into
 * what is mounted there. An fd or -errno.
 */
int tar_open_in(int root, const char *path, int flags, bool mounts);

/* What overlayfs means by it: a file that hides one below, a folder that hides all below. */
bool tar_is_whiteout(const struct stat *st);
bool tar_is_opaque(int dir);

/*
 * A path without "./" and double or trailing slashes (caller frees); NULL where it has a
 * ".." component, or (unless `absolute`) begins with "/".
 */
char *tar_path_clean(const char *path, bool absolute);

/*
 * The error of a libarchive call on `a` (EINVAL for a broken format, else the errno)
 * with what it was about.
 */
int tar_error(struct archive *a, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
