/* SPDX-License-Identifier: Apache-2.0 */
/* A tmpfs: ACLs, capabilities, holes, hard links, device nodes, fifos, times, odd names. */
/* docker: --tmpfs /mnt:dev,exec,suid */
#include "inodes.h"

int main(int argc, char **argv)
{
	object_init(argc, argv);
	umask(0);
	inodes_make("/mnt");
	object_move();
	inodes_check("/mnt");
	return 0;
}
