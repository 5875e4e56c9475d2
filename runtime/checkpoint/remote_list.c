/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of remote calls: a batch is made whenever one is full. */
#include "runtime/checkpoint/remote_list.h"

void remote_list_begin(struct remote_list *l, struct task *t)
{
	l->t = t;
	l->b.n = 0;
}

int remote_list_add(struct remote_list *l, const char *what, long nr, uint64_t at, uint64_t b,
		    uint64_t c, uint64_t d, struct error *err)
{
	int r = l->b.n == REMOTE_CALLS ? remote_list_end(l, err) : 0;
	size_t i;

	if (r < 0)
		return r;
	if (!l->b.n)
		remote_batch_begin(&l->b, &l->t->threads[0]);
	i = remote_batch_add(&l->b, nr, at, b, c, d, -1ul, 0);
	l->of[i].what = what;
	l->of[i].at = at;
	return 0;
}

int remote_list_end(struct remote_list *l, struct error *err)
{
	size_t n = l->b.n;
	int r = n ? remote_batch_run(&l->b) : 0;

	l->b.n = 0;
	if (r < 0)
		return error_sys(err, -r, "making system calls in process %d", l->t->vpid);
	for (size_t i = 0; i < n; i++)
		if (l->b.c[i].ret < 0 && l->of[i].what)
			return error_sys(err, (int)-l->b.c[i].ret, "%s at %#llx in process %d",
					 l->of[i].what, (unsigned long long)l->of[i].at,
					 l->t->vpid);
	return 0;
}
