/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writable layer: xattrs, ACLs, capabilities, holes, hard links, device nodes, fifos,
 * times, odd names.
 */
#include "inodes.h"

int main(int argc, char **argv)
{
	struct stat st;

	object_init(argc, argv);
	umask(0);
	inodes_make("/");
	/* a file and a folder of the image gone, another folder in its place */
	CHECK(unlink("/bin/stty") == 0 && rmdir("/run") == 0 && mkdir("/run", 0711) == 0);
	object_move();
	inodes_check("/");
	CHECK(access("/bin/stty", F_OK) < 0 && access("/bin/cat", F_OK) == 0);
	CHECK(stat("/run", &st) == 0 && (st.st_mode & 07777) == 0711);
	return 0;
}
