/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NUMA policies of single memory areas (mbind(2)). /proc/PID/numa_maps shows them, and walks
 * all page tables for it; a BPF iterator sees which areas have one at all, and that is most
 * often none. They are set at the destination before pages are written, so that these come
 * to lie where the program wants them. A host that lacks the nodes gives memory wherever it
 * has some, as with the policies of threads (attributes.c).
 */
#include "runtime/checkpoint/mem_policy.h"

#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "runtime/checkpoint/peek.h"

#define NODES		  1024 /* MAX_NUMNODES, at most */
#define SYS_SET_HOME_NODE 450  /* set_mempolicy_home_node, Linux 5.17 */

struct area_policy {
	uint64_t start, end;
	struct peek_policy p;
};

static int found(void *ctx, const struct peek_record *r, const void *data)
{
	struct task *t = ctx;
	struct area_policy a = { r->a, r->b, { 0 } };

	if (r->pid != t->pid || r->len != sizeof(a.p))
		return 0;
	memcpy(&a.p, data, sizeof(a.p));
	buf_add(&t->policies, &a, sizeof(a));
	return 0;
}

void policy_look(struct dump *d, struct task *t)
{
	if (d->final && d->round > 1 && !t->policies.len)
		return;
	t->policies.len = 0;
	peek_process(PEEK_POLICY, t->pid, found, t, NULL);
}

void policy_dump(const struct task *t, Ck__Layout *m, void **room)
{
	size_t n = t->policies.len / sizeof(struct area_policy);
	struct area_policy *a = (struct area_policy *)(void *)t->policies.data;
	Ck__AreaPolicy **list;
	Ck__AreaPolicy *p;

	*room = NULL;
	if (!n)
		return;
	list = mem_zalloc(n * (sizeof(*list) + sizeof(*p)));
	p = (Ck__AreaPolicy *)(void *)(list + n);
	for (size_t i = 0; i < n; i++) {
		ck__area_policy__init(&p[i]);
		p[i].start = a[i].start;
		p[i].end = a[i].end;
		p[i].mode = a[i].p.mode;
		p[i].nodes.data = a[i].p.nodes;
		p[i].nodes.len = sizeof(a[i].p.nodes);
		p[i].has_home = a[i].p.home >= 0;
		p[i].home = (uint32_t)a[i].p.home;
		list[i] = &p[i];
	}
	m->n_policies = n;
	m->policies = list;
	*room = list;
}

static void bind_area(struct task *t, const struct area_policy *a)
{
	unsigned long at = remote_scratch(t);
	bool any = false;

	for (size_t i = 0; i < sizeof(a->p.nodes); i++)
		any |= a->p.nodes[i] != 0;
	if (!at || remote_write(t, at, a->p.nodes, sizeof(a->p.nodes)) < 0)
		return;
	remote_syscall(t, SYS_mbind, a->start, a->end - a->start, a->p.mode, any ? at : 0,
		       any ? NODES : 0, 0);
	if (a->p.home >= 0)
		remote_syscall(t, SYS_SET_HOME_NODE, a->start, a->end - a->start,
			       (unsigned long)a->p.home, 0, 0, 0);
}

void policy_restore(struct task *t, const Ck__Layout *l)
{
	const struct area_policy *old = (const struct area_policy *)(const void *)t->policies.data;
	struct buf now = { 0 };

	for (size_t i = 0; i < l->n_policies; i++) {
		const Ck__AreaPolicy *m = l->policies[i];
		struct area_policy a = { m->start, m->end, { .mode = m->mode, .home = -1 } };

		if (m->has_home)
			a.p.home = (int32_t)m->home;
		memcpy(a.p.nodes, m->nodes.data, sizeof(a.p.nodes));
		buf_add(&now, &a, sizeof(a));
	}
	/* Taken back since; where the area is gone too there is nothing to take back. */
	if (now.len != t->policies.len ||
	    (now.len && memcmp(now.data, t->policies.data, now.len) != 0))
		for (size_t i = 0; i < t->policies.len / sizeof(*old); i++)
			remote_syscall(t, SYS_mbind, old[i].start, old[i].end - old[i].start,
				       MPOL_DEFAULT, 0, 0, 0);
	/* All of them: an area may have been mapped anew since. */
	for (size_t i = 0; i < now.len / sizeof(*old); i++)
		bind_area(t, (const struct area_policy *)(const void *)now.data + i);
	buf_free(&t->policies);
	t->policies = now;
}
