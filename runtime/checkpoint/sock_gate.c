/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of frozen tasks go on sending what is queued. To the outside the container's
 * packets are blocked by its network; between two sockets of the container they travel
 * on lo, and one end would be read before and the other after some bytes moved: then the
 * peer acknowledges what the restored sender never sent, and both wait forever. A BPF
 * program on lo's egress drops packets from before the first socket is read until the
 * source goes on. It is attached during pre-copy, because attaching waits for RCU.
 *
 * The link's descriptor is this process's: where the engine dies, lo is open again. On
 * kernels without tcx (before 6.6) the program stays, until the engine that ferryd starts
 * then takes it away; without one it opens by itself after a minute.
 */
#include "runtime/checkpoint/sock_gate.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/process.h"
#include "runtime/checkpoint/bpf/lo_gate.skel.h"

#define ARRIVE_NS  200000 /* what is in the backlog is delivered in microseconds */
#define TCX_EGRESS 47	  /* BPF_TCX_EGRESS; libbpf 1.1 does not know it */

static struct lo_gate_bpf *gate;
static int gate_link = -1;
static bool lasting; /* attached without a link */
static int64_t closed_ns;

static int attach(void *arg)
{
	int fd = bpf_program__fd(gate->progs.lo_gate);
	DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .attach_point = BPF_TC_EGRESS);
	DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = fd, .handle = 1, .priority = 1,
			    .flags = BPF_TC_F_REPLACE);
	int n;

	(void)arg;
	hook.ifindex = (int)if_nametoindex("lo");
	if (!hook.ifindex)
		return -errno;
	gate_link = bpf_link_create(fd, hook.ifindex, TCX_EGRESS, NULL);
	if (gate_link >= 0)
		return 0;
	n = bpf_tc_hook_create(&hook);
	if (n < 0 && n != -EEXIST)
		return n;
	n = bpf_tc_attach(&hook, &opts);
	lasting = n == 0;
	return n;
}

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

int sock_gate_attach(struct dump *d, struct error *err)
{
	int n;

	if (gate)
		return 0;
	libbpf_set_print(quiet);
	gate = lo_gate_bpf__open_and_load();
	if (!gate)
		return error_sys(err, errno, "loading the gate of lo");
	n = d ? dump_in_netns(d, attach, NULL, err) : attach(NULL);
	if (n < 0) {
		sock_gate_detach();
		return error_sys(err, -n, "attaching the gate of lo");
	}
	return 0;
}

/* The program is lo_gate, of whichever engine. */
static bool is_gate(uint32_t id)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	CLEANUP_CLOSE int fd = bpf_prog_get_fd_by_id(id);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 &&
	       strcmp(info.name, "lo_gate") == 0;
}

static int open_left(void *arg)
{
	DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .attach_point = BPF_TC_EGRESS);
	DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 1, .priority = 1);

	(void)arg;
	hook.ifindex = (int)if_nametoindex("lo");
	if (!hook.ifindex || bpf_tc_query(&hook, &opts) < 0 || !is_gate(opts.prog_id))
		return 0;
	opts.prog_fd = 0;
	opts.prog_id = 0;
	return bpf_tc_detach(&hook, &opts);
}

void sock_gate_open_left(struct dump *d)
{
	struct error err = { 0 };

	if (gate)
		return; /* it is ours, and open */
	libbpf_set_print(quiet);
	dump_in_netns(d, open_left, NULL, &err);
}

void sock_gate_close(bool closed)
{
	struct timespec t;

	if (!gate)
		return;
	if (lasting) {
		clock_gettime(CLOCK_MONOTONIC, &t);
		gate->bss->open_at_ns = (uint64_t)(t.tv_sec + 60) * 1000000000u;
	}
	if (closed == (gate->bss->closed != 0))
		return;
	gate->bss->closed = closed;
	closed_ns = clock_mono_ns();
}

void sock_gate_wait(void)
{
	int64_t left = closed_ns + ARRIVE_NS - clock_mono_ns();

	if (gate && left > 0)
		clock_sleep_ns(left);
}

void sock_gate_detach(void)
{
	if (!gate)
		return;
	gate->bss->closed = 0;
	if (gate_link >= 0)
		close(TAKE_FD(gate_link));
	lo_gate_bpf__destroy(gate);
	gate = NULL;
}
