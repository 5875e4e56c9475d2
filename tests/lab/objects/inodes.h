/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kind of thing that a folder of the writable layer or of a tmpfs may hold: made, and
 * looked at.
 */
#ifndef FERRY_TESTS_OBJECTS_INODES_H
#define FERRY_TESTS_OBJECTS_INODES_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "object.h"

static void inodes_make(const char *dir)
{
	/* version 2, one entry each for owner, a user, group, mask and others */
	static const uint32_t acl[] = { 2,   0x00060001, ~0u, 0x00040002, 1000, 0x00040004,
					~0u, 0x00040010, ~0u, 0x00040020, ~0u };
	static const uint32_t cap[] = { 0x02000001, 1u << 10, 0, 0, 0 }; /* net_bind_service */
	struct timespec times[2] = { { 1000000000, 5 }, { 1000000001, 123456789 } };
	int fd;

	CHECK(chdir(dir) == 0);
	fd = open("sparse", O_RDWR | O_CREAT, 0600);
	CHECK(pwrite(fd, "far", 3, 50 << 20) == 3 && ftruncate(fd, 100 << 20) == 0);
	close(fd);
	fd = open("file", O_RDWR | O_CREAT, 0600);
	CHECK(write(fd, "content", 7) == 7 && fchown(fd, 1000, 1001) == 0 &&
	      fchmod(fd, 04755) == 0);
	CHECK(link("file", "hard") == 0 && mkdir("folder", 0700) == 0 &&
	      link("file", "folder/hard") == 0);
	if (*dir == '/' && dir[1] == '\0') /* tmpfs has user.* only since Linux 6.6 */
		CHECK(fsetxattr(fd, "user.note", "a\0b", 3, 0) == 0);
	fd = open("capable", O_RDWR | O_CREAT, 0755);
	CHECK(fsetxattr(fd, "security.capability", cap, sizeof(cap), 0) == 0);
	fd = open("acl", O_RDWR | O_CREAT, 0640);
	CHECK(fsetxattr(fd, "system.posix_acl_access", acl, sizeof(acl), 0) == 0);
	CHECK(symlink("/nowhere", "link") == 0 && mkfifo("fifo", 0640) == 0);
	CHECK(mknod("null", S_IFCHR | 0666, makedev(1, 3)) == 0 &&
	      mknod("disk", S_IFBLK | 0600, makedev(7, 3)) == 0);
	CHECK(mkdir("sticky", 0700) == 0 && chmod("sticky", 03775) == 0);
	close(open("a name\nof \"two\" lines \xff", O_CREAT | O_WRONLY, 0600));
	CHECK(utimensat(AT_FDCWD, "file", times, 0) == 0 &&
	      utimensat(AT_FDCWD, "folder", times, 0) == 0);
}

static void inodes_check(const char *dir)
{
	struct stat a, b;
	char buf[64];

	CHECK(chdir(dir) == 0);
	CHECK(stat("sparse", &a) == 0 && a.st_size == 100 << 20 && a.st_blocks < 1000);
	CHECK(stat("file", &a) == 0 && a.st_uid == 1000 && a.st_gid == 1001 &&
	      (a.st_mode & 07777) == 04755 && a.st_size == 7 && a.st_mtim.tv_sec == 1000000001 &&
	      a.st_mtim.tv_nsec == 123456789 && a.st_nlink == 3);
	CHECK(stat("folder/hard", &b) == 0 && a.st_ino == b.st_ino && stat("hard", &b) == 0 &&
	      a.st_ino == b.st_ino);
	CHECK(stat("folder", &b) == 0 && b.st_mtim.tv_sec == 1000000001);
	if (*dir == '/' && dir[1] == '\0')
		CHECK(getxattr("file", "user.note", buf, 64) == 3 && memcmp(buf, "a\0b", 3) == 0);
	CHECK(getxattr("capable", "security.capability", buf, 64) >= 20 && buf[5] == 4);
	CHECK(getxattr("acl", "system.posix_acl_access", buf, 64) == 44);
	CHECK(lstat("link", &a) == 0 && S_ISLNK(a.st_mode) && readlink("link", buf, 64) == 8);
	CHECK(stat("fifo", &a) == 0 && S_ISFIFO(a.st_mode) && stat("null", &a) == 0 &&
	      S_ISCHR(a.st_mode) && a.st_rdev == makedev(1, 3));
	CHECK(stat("disk", &a) == 0 && S_ISBLK(a.st_mode) && a.st_rdev == makedev(7, 3));
	CHECK(stat("sticky", &a) == 0 && (a.st_mode & 07777) == 03775);
	CHECK(access("a name\nof \"two\" lines \xff", F_OK) == 0);
}

#endif
