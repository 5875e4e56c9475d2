/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timerfd: clock, ticks that were not read, remaining time and interval. What is left
 * travels, so clocks of two hosts need not agree; a timer set to an absolute time of day
 * keeps its time of day.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
#ifndef TFD_TIMER_CANCEL_ON_SET
#define TFD_TIMER_CANCEL_ON_SET (1 << 1)
#endif

static bool timerfd_claims(const struct ofd *o)
{
	return strcmp(o->link, "anon_inode:[timerfd]") == 0;
}

static int64_t ts_ns(const struct timespec *t)
{
	return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

static struct timespec ns_ts(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
}

static bool is_real(int clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM;
}

/*
 * Nothing left means disarmed, or that the time is up and the kernel has not got round to
 * it: then another look a moment later finds a tick, or the next period.
 */
static int timerfd_look(int fd, struct itimerspec *its, char **info, uint64_t *ticks,
			struct error *err)
{
	for (int looks = 0;; looks++) {
		int most;

		/* also starts a periodic timer's next period where the last one was not
		 * read, so that the remaining time is known; its ticks stay */
		if (timerfd_gettime(fd, its) < 0)
			return error_sys(err, errno, "reading a timerfd");
		free(*info);
		*info = fdinfo_read(0, fd);
		if (fdinfo_u64(*info, "ticks", 10, ticks) < 0)
			return error_set(err, ENOTSUP,
					 "this kernel does not show a timerfd's state");
		most = ts_ns(&its->it_interval) ? 20 : *ticks ? 0 : 1;
		if (ts_ns(&its->it_value) || looks >= most)
			return 0;
		clock_sleep_ns(100000);
	}
}

static int timerfd_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	Cko__Timerfd m = CKO__TIMERFD__INIT;
	CLEANUP_FREE char *info = NULL;
	struct itimerspec its;
	uint64_t clock, settime;
	int n;

	(void)d;
	n = timerfd_look(o->fd, &its, &info, &m.ticks, err);
	if (n < 0)
		return n;
	if (fdinfo_u64(info, "clockid", 10, &clock) < 0 ||
	    fdinfo_u64(info, "settime flags", 8, &settime) < 0)
		return error_set(err, ENOTSUP, "this kernel does not show a timerfd's state");
	m.flags = (uint32_t)o->flags;
	m.clock = (int)clock;
	m.settime = (uint32_t)settime;
	m.value_ns = ts_ns(&its.it_value);
	m.interval_ns = ts_ns(&its.it_interval);
	if (m.ticks && !m.interval_ns) /* its one time came between the two questions */
		m.value_ns = 0;
	if (m.value_ns && is_real(m.clock) && (settime & TFD_TIMER_ABSTIME))
		m.deadline_ns = clock_real_ns() + m.value_ns;
	obj_pack(&m.base, body);
	return 0;
}

static int timerfd_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			   struct error *err)
{
	CLEANUP_MSG Cko__Timerfd *m = obj_unpack(&cko__timerfd__descriptor, body, len, err);
	CLEANUP_CLOSE int made = -1;

	(void)r;
	(void)id;
	if (!m)
		return -EBADMSG;
	made = timerfd_create(m->clock, TFD_CLOEXEC | ((int)m->flags & O_NONBLOCK));
	if (made < 0)
		return error_sys(err, errno, "making a timerfd of clock %d", m->clock);
	*fd = TAKE_FD(made);
	return 0;
}

/* Armed as late as can be, so that building the rest does not eat into what is left. */
static int timerfd_late(struct restore *r, uint32_t id, const void *body, size_t len, int fd,
			struct error *err)
{
	CLEANUP_MSG Cko__Timerfd *m = obj_unpack(&cko__timerfd__descriptor, body, len, err);
	struct itimerspec its = { 0 };
	int flags = 0;

	(void)r;
	(void)id;
	if (!m)
		return -EBADMSG;
	its.it_value = ns_ts(m->value_ns);
	its.it_interval = ns_ts(m->interval_ns);
	if (m->deadline_ns) {
		its.it_value = ns_ts(m->deadline_ns);
		flags = (int)m->settime & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	}
	if (timerfd_settime(fd, flags, &its, NULL) < 0)
		return error_sys(err, errno, "arming a timerfd");
	if (m->ticks && ioctl(fd, TFD_IOC_SET_TICKS, &m->ticks) < 0)
		return error_sys(err, errno,
				 "setting the ticks of a timerfd (CONFIG_CHECKPOINT_RESTORE)");
	return 0;
}

const struct object_type obj_timerfd = {
	.type = "timerfd",
	.claims = timerfd_claims,
	.dump = timerfd_dump,
	.restore = timerfd_restore,
	.late = timerfd_late,
};
