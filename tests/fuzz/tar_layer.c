/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a layer's tar, unpacked for overlayfs, and a tar that is copied into a
 * container. Whatever it holds, nothing appears outside of the folder.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int entries(const char *path)
{
	CLEANUP_CLOSEDIR DIR *d = opendir(path);
	int n = 0;

	while (d && readdir(d))
		n++;
	return n;
}

static void unpack(const uint8_t *data, size_t size, const struct tar_options *o)
{
	char top[] = "/tmp/ferry-fuzz-XXXXXX";
	CLEANUP_FREE char *root = NULL;
	CLEANUP_CLOSE int fd = memfd_create("tar", MFD_CLOEXEC), dir = -1;
	struct error err = { 0 };

	if (fd < 0 || !mkdtemp(top))
		abort();
	root = str_format("%s/root", top);
	if (mkdir(root, 0755) < 0 || (dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
	    fd_write_all(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	if (o->into && mkdirat(dir, o->into, 0755) < 0)
		abort();
	if (tar_unpack(fd, dir, o, NULL, &err) < 0 && err.code <= 0)
		abort(); /* a refusal has a reason */
	if (entries(top) != 3)
		abort(); /* ".", "..", "root" */
	if (dir_remove(top, &err) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unpack(data, size, &(struct tar_options){ .whiteouts = true, .max_entries = 100 });
	unpack(data, size,
	       &(struct tar_options){
		       .packed = true, .keep_kind = true, .into = "in", .max_entries = 100 });
	return 0;
}
