/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX message queues: limits, messages by priority and age, flags of descriptors, one
 * without a name.
 */
#include <fcntl.h>
#include <mqueue.h>
#include <sys/stat.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct mq_attr a = { .mq_maxmsg = 9, .mq_msgsize = 123 }, now;
	mqd_t w = mq_open("/jobs", O_CREAT | O_WRONLY | O_NONBLOCK, 0600, &a), r, dead;
	unsigned int prio;
	char buf[200];

	object_init(argc, argv);
	r = mq_open("/jobs", O_RDONLY);
	dead = mq_open("/dead", O_CREAT | O_RDWR, 0600, &a);
	CHECK(w >= 0 && r >= 0 && dead >= 0 && mq_unlink("/dead") == 0);
	for (int i = 0; i < 9; i++) {
		int n = snprintf(buf, sizeof(buf), "%d", i);

		CHECK(mq_send(w, buf, (size_t)n, (unsigned int)i % 3) == 0);
	}
	CHECK(mq_send(dead, "unlinked", 8, 32767) == 0);
	object_move();
	CHECK(mq_send(w, "x", 1, 0) < 0 && errno == EAGAIN); /* it is full */
	CHECK(mq_getattr(w, &now) == 0 && now.mq_curmsgs == 9 && now.mq_maxmsg == 9 &&
	      now.mq_msgsize == 123 && now.mq_flags == O_NONBLOCK);
	CHECK(mq_getattr(r, &now) == 0 && now.mq_flags == 0);
	for (int p = 2; p >= 0; p--)
		for (int i = p; i < 9; i += 3)
			CHECK(mq_receive(r, buf, sizeof(buf), &prio) == 1 && buf[0] == '0' + i &&
				      prio == (unsigned int)p,
			      "priority %d, message %d", p, i);
	CHECK(mq_receive(dead, buf, sizeof(buf), &prio) == 8 && prio == 32767);
	CHECK(mq_open("/dead", O_RDONLY) < 0 && errno == ENOENT && mq_unlink("/jobs") == 0);
	return 0;
}
