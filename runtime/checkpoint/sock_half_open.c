/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handshakes that were not complete at the freeze: the client's SYN was answered, and its
 * last packet is on its way, or held in front of the destination. The client thinks that it
 * is connected. Without the request socket, which stayed behind, that packet would be
 * answered with a reset.
 *
 * The requests are put into the map of accept.bpf.c, which lies for a while in the ingress of
 * the container's interfaces and makes a connection of the packet when it comes. Who has not
 * seen our answer sends his SYN again, and the listener begins anew.
 *
 * The program must outlive this engine, whose work ends with the commit, but not for long:
 * a process that does nothing else holds it for some seconds. Kernel 6.9.
 */
#include "runtime/checkpoint/sock_half_open.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "runtime/checkpoint/bpf/accept.skel.h"
#include "runtime/checkpoint/sock_waiting.h"

/* A lost packet after the handshake comes again after 0.2, 0.6, 1.4, 3 and 6.2 s. */
#define HELD_SECONDS 10
#define MAX_LINKS    16

static struct accept_bpf *program;
static int links[MAX_LINKS];
static size_t nlinks;

static int quiet(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

static int attach(void *arg)
{
	struct if_nameindex *list = if_nameindex();
	int fd = bpf_program__fd(program->progs.accept_again);

	(void)arg;
	for (size_t i = 0; list && list[i].if_index && nlinks < MAX_LINKS; i++) {
		int link = bpf_link_create(fd, (int)list[i].if_index, TCX_INGRESS, NULL);

		if (link >= 0)
			links[nlinks++] = link;
	}
	if (list)
		if_freenameindex(list);
	return nlinks ? 0 : -errno;
}

static size_t fill_map(const Cks__HalfOpen *h)
{
	int map = bpf_map__fd(program->maps.waiting);
	size_t n = 0;

	for (size_t i = 0; i < h->n_request; i++) {
		const Cks__TcpPending *p = h->request[i];
		struct waiting_key k;
		struct waiting_value v;

		if (!waiting_is_whole(p))
			continue;
		waiting_of(p, p->seq->rcv_nxt, &k, &v);
		n += bpf_map_update_elem(map, &k, &v, BPF_ANY) == 0;
	}
	return n;
}

int sock_half_open_restore(struct restore *r, const Cks__HalfOpen *h, struct error *err)
{
	int n;

	if (!h->n_request)
		return 0;
	n = r ? restore_in_netns(r, waiting_cookies_are_on, NULL, err)
	      : waiting_cookies_are_on(NULL);
	if (n == 0 && !program) {
		libbpf_set_print(quiet);
		program = accept_bpf__open_and_load();
		n = program ? 0 : -EOPNOTSUPP;
	}
	/* the clients would be reset: no reason to give the container up */
	if (n < 0) {
		log_warn("%zu handshakes on their way cannot be completed here", h->n_request);
		return 0;
	}
	if (!fill_map(h))
		return 0;
	n = nlinks ? 0 : r ? restore_in_netns(r, attach, NULL, err) : attach(NULL);
	return n < 0 ? error_sys(err, -n, "attaching to the container's interfaces") : 0;
}

void sock_half_open_release(void)
{
	while (nlinks)
		close(links[--nlinks]);
	if (program)
		accept_bpf__destroy(program);
	program = NULL;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* In a process that nobody waits for, with no descriptor but the links. */
static void hold(void)
{
	unsigned int from = 0;

	qsort(links, nlinks, sizeof(links[0]), by_number);
	for (size_t i = 0; i < nlinks; i++) {
		unsigned int link = (unsigned int)links[i];

		if (link > from)
			close_range(from, link - 1, 0);
		from = link + 1;
	}
	close_range(from, ~0u, 0);
	if (setsid() < 0 || chdir("/") < 0)
		_exit(1);
	sleep(HELD_SECONDS);
	_exit(0);
}

void sock_half_open_leave(void)
{
	pid_t pid;

	if (!nlinks)
		return;
	pid = fork();
	if (pid == 0) {
		if (fork() == 0)
			hold();
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
	sock_half_open_release();
}
