/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hold queue: a tap per interface whose own ring (txqueuelen frames) is the queue.
 * Nobody reads it until the release, so holding needs no running process; the tap is
 * persistent, and a restarted netd opens it again (frames that were in the ring when the
 * process died are lost with its fd: the kernel purges the ring then; TCP sends again).
 *
 * Release without loss and without reordering:
 *   1. state RELEASING: BPF goes on queueing while queued != replayed, else delivers.
 *   2. read frames and write them back; a write returns when the frame is in the
 *      container's socket. Then publish `replayed`: from the moment it equals `queued`
 *      new frames are delivered directly, all older ones having arrived.
 *   3. packets flow: the caller goes on. The finisher thread waits for an RCU grace period,
 *      so that no CPU is left that saw HOLD, and drains what such a one queued.
 *   4. state LOCAL; after one more grace period the tap goes.
 */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/rcu.h"
#include "base/str.h"
#include "netd/link.h"
#include "netd/state.h"

#define FRAME_MAX	   65536
#define RELEASE_MAX_NS	   5000000000LL
#define ROUNDS_BEFORE_LOST 8

static struct netd_tap *tap_of(struct netd *nd, const json_t *iface)
{
	const char *name = json_str(iface, "tap", "");

	for (size_t i = 0; i < nd->ntaps; i++)
		if (!strcmp(nd->taps[i].name, name))
			return &nd->taps[i];
	return NULL;
}

static int tap_fd(const char *name, struct error *err)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	CLEANUP_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return error_sys(err, errno, "opening /dev/net/tun");
	snprintf(ifr.ifr_name, IFNAMSIZ, "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return error_sys(err, errno, "making tap %s", name);
	if (ioctl(fd, TUNSETPERSIST, 1) < 0)
		return error_sys(err, errno, "keeping tap %s", name);
	return TAKE_FD(fd);
}

static int tap_setup(struct netd *nd, const json_t *iface, const char *name, struct error *err)
{
	struct ferry_port port = { .vni = netd_iface_vni(iface) };
	int ifindex = link_index(name), r;

	if (ifindex < 0)
		return error_sys(err, -ifindex, "tap %s", name);
	link_sysctl("1", NULL, "ipv6/conf/%s/disable_ipv6", name);
	if ((r = link_set(ifindex, netd_gw_mac, NETD_MTU,
			  (uint32_t)json_int(iface, "queue_frames", 16384), err)) < 0 ||
	    (r = datapath_queue_make(nd->dp, ifindex, err)) < 0 ||
	    (r = datapath_port_set(nd->dp, ifindex, &port, err)) < 0 ||
	    (r = datapath_attach(nd->dp, DATAPATH_HOLD, ifindex, name, err)) < 0)
		return r;
	/* What an earlier process had queued in its fd is gone; what comes from now on is not. */
	datapath_replayed_set(nd->dp, ifindex, datapath_queued(nd->dp, ifindex));
	return link_up(ifindex, false, err);
}

int hold_open(struct netd *nd, const json_t *iface, struct error *err)
{
	const char *name = json_str(iface, "tap", "");
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (tap_of(nd, iface))
		return 0;
	fd = tap_fd(name, err);
	if (fd < 0)
		return fd;
	r = tap_setup(nd, iface, name, err);
	if (r < 0) {
		ioctl(fd, TUNSETPERSIST, 0);
		return error_wrap(err, "making the hold queue");
	}
	nd->taps = mem_grow(nd->taps, nd->ntaps + 1, sizeof(*nd->taps));
	memset(&nd->taps[nd->ntaps], 0, sizeof(*nd->taps));
	snprintf(nd->taps[nd->ntaps].name, sizeof(nd->taps->name), "%s", name);
	nd->taps[nd->ntaps++].fd = TAKE_FD(fd);
	return 0;
}

/* Replays until the ring is empty; the number of frames. */
static uint64_t replay(int fd, char *frame)
{
	uint64_t n = 0;
	ssize_t len;

	while ((len = read(fd, frame, FRAME_MAX)) > 0 || (len < 0 && errno == EINTR))
		if (len > 0 && write(fd, frame, (size_t)len) >= 0)
			n++;
		else if (len > 0)
			n++; /* the stack refused it: it is out of the queue all the same */
	return n;
}

/*
 * Replays until all that was queued has arrived. Frames that the full ring refused were
 * counted as queued too: when, over several rounds, fewer arrive than were queued before
 * the round, the rest is written off.
 */
static void drain(struct netd *nd, int fd, int ifindex, uint64_t *done, char *frame)
{
	int64_t deadline = clock_mono_ns() + RELEASE_MAX_NS;
	uint64_t missing = UINT64_MAX;
	int rounds = 0;

	while (clock_mono_ns() < deadline) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t queued = datapath_queued(nd->dp, ifindex), gap;

		*done += replay(fd, frame);
		datapath_replayed_set(nd->dp, ifindex, *done);
		if (datapath_queued(nd->dp, ifindex) == *done)
			return;
		gap = queued > *done ? queued - *done : 0;
		if (gap < missing)
			missing = gap;
		if (++rounds == ROUNDS_BEFORE_LOST) {
			*done += missing;
			missing = UINT64_MAX;
			rounds = 0;
		}
		poll(&p, 1, 1);
	}
}

static void grace_period(void)
{
	/* MEMBARRIER_CMD_GLOBAL is synchronize_rcu(), which waits for running programs. */
	rcu_expedite(true);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0)
		clock_sleep_ns(50000000);
	rcu_expedite(false);
}

int hold_release(struct netd *nd, json_t *iface, struct error *err)
{
	const char *name = json_str(iface, "tap", "");
	struct netd_tap *tap = tap_of(nd, iface);
	CLEANUP_FREE char *frame = mem_zalloc(FRAME_MAX);
	int ifindex = link_index(name), r;
	uint64_t done;

	if (!tap || ifindex < 0)
		return error_set(err, ENODEV, "hold queue %s is gone", name);
	done = datapath_replayed(nd->dp, ifindex);
	if ((r = netd_iface_map(nd, iface, FERRY_RELEASING, 0, err)) < 0)
		return r;
	drain(nd, tap->fd, ifindex, &done, frame);
	json_set_str(iface, "state", "releasing");
	tap->release++;
	pthread_cond_signal(&nd->released);
	return 0;
}

/* --- the finisher -------------------------------------------------------------------------- */

/* Calls fn for each interface that is being released. */
static void each_releasing(struct netd *nd,
			   void (*fn)(struct netd *nd, json_t *iface, struct netd_tap *tap,
				      void *arg),
			   void *arg)
{
	const char *id;
	json_t *ep, *iface;
	size_t i;

	json_object_foreach (nd->endpoints, id, ep)
		json_array_foreach (json_object_get(ep, "interfaces"), i, iface) {
			struct netd_tap *tap = tap_of(nd, iface);

			if (tap && !strcmp(json_str(iface, "state", ""), "releasing"))
				fn(nd, iface, tap, arg);
		}
}

struct round {
	struct netd_tap taps[64];
	size_t n;
	char *frame;
};

static void note(struct netd *nd, json_t *iface, struct netd_tap *tap, void *arg)
{
	struct round *round = arg;

	(void)nd;
	(void)iface;
	if (round->n < sizeof(round->taps) / sizeof(*round->taps))
		round->taps[round->n++] = *tap;
}

static bool noted(const struct round *round, const struct netd_tap *tap)
{
	for (size_t i = 0; i < round->n; i++)
		if (!strcmp(round->taps[i].name, tap->name) &&
		    round->taps[i].release == tap->release)
			return true;
	return false;
}

static void drain_one(struct netd *nd, json_t *iface, struct netd_tap *tap, void *arg)
{
	struct round *round = arg;
	int ifindex = link_index(tap->name);
	uint64_t done = datapath_replayed(nd->dp, ifindex);

	(void)iface;
	if (ifindex > 0 && noted(round, tap))
		drain(nd, tap->fd, ifindex, &done, round->frame);
}

static void make_local(struct netd *nd, json_t *iface, struct netd_tap *tap, void *arg)
{
	drain_one(nd, iface, tap, arg);
	if (noted(arg, tap))
		netd_iface_map(nd, iface, FERRY_LOCAL, 0, NULL);
}

static void end_one(struct netd *nd, json_t *iface, struct netd_tap *tap, void *arg)
{
	struct round *round = arg;

	if (!noted(round, tap))
		return;
	replay(tap->fd, round->frame);
	hold_close(nd, iface);
	json_set_str(iface, "state", "local");
	json_object_del(iface, "forward_to");
}

/* Ends the releases that are under way. The lock is dropped while it waits. */
static void finish_round(struct netd *nd, char *frame)
{
	struct round round = { .frame = frame };

	each_releasing(nd, note, &round);
	/* A CPU that saw HOLD puts its frame into the queue within microseconds; until that
	 * is out, later ones queue behind it: look often at first. */
	for (int i = 0; i < 10 && !nd->stop; i++) {
		pthread_mutex_unlock(&nd->lock);
		clock_sleep_ns(500000);
		pthread_mutex_lock(&nd->lock);
		each_releasing(nd, drain_one, &round);
	}
	pthread_mutex_unlock(&nd->lock);
	grace_period();
	pthread_mutex_lock(&nd->lock);
	each_releasing(nd, make_local, &round);
	pthread_mutex_unlock(&nd->lock);
	grace_period();
	pthread_mutex_lock(&nd->lock);
	each_releasing(nd, end_one, &round);
	netd_save(nd, NULL);
}

static bool any_releasing(struct netd *nd)
{
	struct round round = { 0 };

	each_releasing(nd, note, &round);
	return round.n > 0;
}

static void *finisher_main(void *arg)
{
	CLEANUP_FREE char *frame = mem_zalloc(FRAME_MAX);
	struct netd *nd = arg;

	pthread_mutex_lock(&nd->lock);
	while (!nd->stop)
		if (any_releasing(nd))
			finish_round(nd, frame);
		else
			pthread_cond_wait(&nd->released, &nd->lock);
	pthread_mutex_unlock(&nd->lock);
	return NULL;
}

int hold_finisher_start(struct netd *nd, struct error *err)
{
	int r = pthread_create(&nd->finisher, NULL, finisher_main, nd);

	if (r)
		return error_sys(err, r, "starting a thread");
	nd->finisher_runs = true;
	return 0;
}

void hold_finisher_stop(struct netd *nd)
{
	if (!nd->finisher_runs)
		return;
	pthread_mutex_lock(&nd->lock);
	nd->stop = true;
	pthread_cond_signal(&nd->released);
	pthread_mutex_unlock(&nd->lock);
	pthread_join(nd->finisher, NULL);
	nd->finisher_runs = false;
}

void hold_drain(struct netd *nd, const json_t *iface)
{
	CLEANUP_FREE char *frame = mem_zalloc(FRAME_MAX);
	struct netd_tap *tap = tap_of(nd, iface);

	if (!tap)
		return;
	replay(tap->fd, frame);
	grace_period();
	replay(tap->fd, frame);
}

void hold_close(struct netd *nd, const json_t *iface)
{
	const char *name = json_str(iface, "tap", "");
	struct netd_tap *tap = tap_of(nd, iface);
	int ifindex = link_index(name);

	datapath_detach(nd->dp, name);
	if (ifindex > 0) {
		datapath_port_del(nd->dp, ifindex);
		datapath_queue_del(nd->dp, ifindex);
		link_del(name, NULL);
	}
	if (!tap)
		return;
	close(tap->fd);
	*tap = nd->taps[--nd->ntaps];
}

void hold_forget_all(struct netd *nd)
{
	for (size_t i = 0; i < nd->ntaps; i++)
		close(nd->taps[i].fd);
	free(nd->taps);
	nd->taps = NULL;
	nd->ntaps = 0;
}

uint64_t hold_frames(struct netd *nd, const json_t *iface)
{
	int ifindex = link_index(json_str(iface, "tap", ""));

	if (ifindex < 0)
		return 0;
	return datapath_queued(nd->dp, ifindex) - datapath_replayed(nd->dp, ifindex);
}
