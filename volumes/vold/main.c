// SPDX-License-Identifier: Apache-2.0
/* ferry-vold: serves one volume as a block device; see vold.h. */
#include "volumes/vold/vold.h"

int main(int argc, char *argv[])
{
	return vold_main(argc, argv);
}
