/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mq_notify: the signal for the next message comes after the move, with its value; not
 * because of it.
 */
#include <fcntl.h>
#include <mqueue.h>
#include <sys/stat.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct mq_attr a = { .mq_maxmsg = 5, .mq_msgsize = 50 };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
	mqd_t empty = mq_open("/empty", O_CREAT | O_RDWR, 0600, &a), full, none;
	struct timespec second = { 10, 0 }, now = { 0, 0 };
	siginfo_t si;
	char buf[50];
	sigset_t set;

	object_init(argc, argv);
	full = mq_open("/full", O_CREAT | O_RDWR, 0600, &a);
	none = mq_open("/none", O_CREAT | O_RDWR, 0600, &a);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK(mq_send(full, "a", 1, 3) == 0 && mq_send(full, "b", 1, 3) == 0);
	ev.sigev_value.sival_ptr = (void *)0x1122334455667788;
	CHECK(mq_notify(empty, &ev) == 0);
	ev.sigev_value.sival_int = 7;
	CHECK(mq_notify(full, &ev) == 0);
	ev.sigev_notify = SIGEV_NONE;
	CHECK(mq_notify(none, &ev) == 0);
	object_move();
	CHECK(sigtimedwait(&set, &si, &now) < 0, "the move told somebody");
	CHECK(mq_notify(none, &ev) < 0 && errno == EBUSY);
	CHECK(mq_send(empty, "x", 1, 0) == 0 && sigtimedwait(&set, &si, &second) == SIGRTMIN);
	CHECK(si.si_code == SI_MESGQ && si.si_value.sival_ptr == (void *)0x1122334455667788);
	CHECK(mq_send(full, "c", 1, 0) == 0 && sigtimedwait(&set, &si, &now) < 0);
	for (int i = 0; i < 3; i++)
		CHECK(mq_receive(full, buf, 50, NULL) == 1 && buf[0] == 'a' + i);
	CHECK(mq_send(full, "d", 1, 0) == 0 && sigtimedwait(&set, &si, &second) == SIGRTMIN &&
	      si.si_value.sival_int == 7);
	return 0;
}
