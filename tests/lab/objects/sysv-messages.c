/* SPDX-License-Identifier: Apache-2.0 */
/* System V message queues: ids, keys, limits, messages with their types in their order. */
#include <sys/ipc.h>
#include <sys/msg.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct {
		long type;
		char text[4000];
	} m = { .type = 1 };
	int gone = msgget(IPC_PRIVATE, 0600), q = msgget(0x3e55, IPC_CREAT | 0622), n;
	struct msqid_ds ds;

	object_init(argc, argv);
	CHECK(gone >= 0 && q > gone && msgctl(gone, IPC_RMID, NULL) == 0);
	for (int i = 0; i < 100; i++) {
		m.type = i % 3 + 1;
		n = snprintf(m.text, sizeof(m.text), "message %03d", i);
		CHECK(msgsnd(q, &m, (size_t)n, 0) == 0);
	}
	memset(m.text, 'L', sizeof(m.text));
	m.type = 1000000000000;
	CHECK(msgsnd(q, &m, 4000, 0) == 0 && msgsnd(q, &m, 0, 0) == 0);
	CHECK(msgctl(q, IPC_STAT, &ds) == 0);
	ds.msg_qbytes = 9999;
	CHECK(msgctl(q, IPC_SET, &ds) == 0);
	object_move();
	CHECK(msgget(0x3e55, 0) == q && msgctl(q, IPC_STAT, &ds) == 0 && ds.msg_qnum == 102 &&
	      ds.msg_qbytes == 9999 && (ds.msg_perm.mode & 0777) == 0622);
	CHECK(msgrcv(q, &m, sizeof(m.text), 1000000000000, 0) == 4000 && m.text[3999] == 'L');
	memset(m.text, 0, sizeof(m.text));
	for (int i = 2; i < 100; i += 3)
		CHECK(msgrcv(q, &m, sizeof(m.text), 3, 0) > 0 && atoi(m.text + 8) == i);
	for (int i = 0; i < 100; i++)
		CHECK(i % 3 == 2 || (msgrcv(q, &m, sizeof(m.text), 0, 0) > 0 &&
				     atoi(m.text + 8) == i && m.type == i % 3 + 1),
		      "message %d", i);
	CHECK(msgrcv(q, &m, sizeof(m.text), 0, 0) == 0 && m.type == 1000000000000);
	CHECK(msgrcv(q, &m, sizeof(m.text), 0, IPC_NOWAIT) < 0 && errno == ENOMSG);
	return 0;
}
