/* SPDX-License-Identifier: Apache-2.0 */
/* Users, file-system users and capabilities that a thread has for itself, unlike its process
 * (as NFS servers do). */
#include <linux/capability.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>

#include "object.h"

struct caps {
	struct __user_cap_data_struct d[2];
};
static pthread_barrier_t both;

/* The calling thread's; `set` makes them so first. */
static struct caps caps(const struct caps *set)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct caps c;

	if (set)
		CHECK(syscall(SYS_capset, &h, set) == 0);
	CHECK(syscall(SYS_capget, &h, &c) == 0);
	return c;
}

static void *body(void *arg)
{
	struct caps c = caps(NULL), now;

	if (arg) {
		/* As a user of its own; glibc's setresuid() would change all threads. */
		CHECK(syscall(SYS_setresgid, 1001, 1002, 1003) == 0);
		CHECK(syscall(SYS_setresuid, 501, 502, 503) == 0);
	} else {
		setfsgid(77);
		setfsuid(66);
		c.d[0].effective &= ~(1u << CAP_CHOWN);
		c.d[0].inheritable = 0;
	}
	c = arg ? caps(NULL) : caps(&c);
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	now = caps(NULL);
	CHECK(memcmp(&c, &now, sizeof(now)) == 0, "capabilities %x, now %x", c.d[0].effective,
	      now.d[0].effective);
	if (arg) {
		uid_t r, e, s;

		CHECK(syscall(SYS_getresuid, &r, &e, &s) == 0 && r == 501 && e == 502 && s == 503);
		CHECK(syscall(SYS_getresgid, &r, &e, &s) == 0 && r == 1001 && e == 1002 &&
		      s == 1003);
	} else {
		CHECK(setfsuid((uid_t)-1) == 66 && setfsgid((gid_t)-1) == 77);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[2];
	struct caps mine, now;

	object_init(argc, argv);
	pthread_barrier_init(&both, NULL, 3);
	mine = caps(NULL);
	for (long i = 0; i < 2; i++)
		CHECK(pthread_create(&th[i], NULL, body, (void *)i) == 0);
	pthread_barrier_wait(&both);
	object_move();
	pthread_barrier_wait(&both);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(th[i], NULL) == 0);
	CHECK(getuid() == 0 && geteuid() == 0 && setfsuid((uid_t)-1) == 0);
	now = caps(NULL);
	CHECK(memcmp(&mine, &now, sizeof(now)) == 0);
	return 0;
}
