/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a checkpoint in a file holds, as JSON: `ferry-checkpoint --inspect`. One pass, in
 * which the same checks are made as before a restore.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/sock_common.h"

/* Pages with content of one process or shared object; a later frame wins. */
struct space {
	uint32_t space, id;
	struct pageset here;
};

struct view {
	json_t *out, *processes, *objects, *sockets;
	struct space *spaces;
	size_t nspaces;
	size_t descriptors, rounds;
};

/* NULL: more than there can be. */
static struct pageset *pages_of(struct view *v, uint32_t space, uint32_t id)
{
	for (size_t i = v->nspaces; i-- > 0;)
		if (v->spaces[i].space == space && v->spaces[i].id == id)
			return &v->spaces[i].here;
	if (v->nspaces >= 2 * CHECK_PROCESSES)
		return NULL;
	v->spaces = mem_grow(v->spaces, v->nspaces + 1, sizeof(*v->spaces));
	v->spaces[v->nspaces] = (struct space){ .space = space, .id = id };
	return &v->spaces[v->nspaces++].here;
}

static uint64_t count_pages(const struct pageset *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->cap; i++)
		for (int k = 0; k < 8 && s->c[i].addr != ~0ull; k++)
			n += (uint64_t)__builtin_popcountll(s->c[i].bits[k]);
	return n;
}

/* --- frames --------------------------------------------------------------------------------- */
static void see_hello(struct view *v, const Ck__Hello *m)
{
	json_object_set_new(v->out, "version", json_integer(m->version));
	json_object_set_new(v->out, "arch", json_string(m->arch ? m->arch : ""));
	json_object_set_new(v->out, "kernel", json_string(m->kernel ? m->kernel : ""));
}

/* The last tree is the one that was frozen. */
static void see_tree(struct view *v, const Ck__Tree *m)
{
	json_decref(v->processes);
	v->processes = json_object();
	for (size_t i = 0; i < m->n_processes; i++) {
		const Ck__Process *p = m->processes[i];
		char key[16];

		snprintf(key, sizeof(key), "%u", p->vpid);
		json_object_set_new(v->processes, key,
				    json_pack("{s:I,s:I,s:b}", "pid", (json_int_t)p->vpid, "parent",
					      (json_int_t)p->vppid, "zombie", p->zombie));
	}
}

static void see_task(struct view *v, const Ck__TaskState *m)
{
	json_t *p;
	char key[16];

	snprintf(key, sizeof(key), "%u", m->vpid);
	p = json_object_get(v->processes, key);
	if (!p)
		return;
	json_object_set_new(p, "name", json_any_string(m->threads[0]->comm));
	json_object_set_new(p, "exe", json_any_string(m->exe));
	json_object_set_new(p, "threads", json_integer((json_int_t)m->n_threads));
}

static json_t *address(const Cks__Address *a)
{
	char out[80];

	/* sock_address_text() reads what inet_ntop() needs */
	if (!a || !((a->family == AF_INET && a->ip.len == 4) ||
		    (a->family == AF_INET6 && a->ip.len == 16)))
		return json_null();
	return json_string(sock_address_text(a, out, sizeof(out)));
}

static void add_socket(struct view *v, const char *type, const char *state, const Cks__Common *c)
{
	json_array_append_new(v->sockets, json_pack("{s:s,s:s,s:o,s:o}", "type", type, "state",
						    state, "local", address(c ? c->local : NULL),
						    "peer", address(c ? c->peer : NULL)));
}

static const char *tcp_state(uint32_t state)
{
	static const char *const names[] = { [TCP_ESTABLISHED] = "established",
					     [TCP_SYN_SENT] = "syn-sent",
					     [TCP_SYN_RECV] = "syn-received",
					     [TCP_FIN_WAIT1] = "fin-wait-1",
					     [TCP_FIN_WAIT2] = "fin-wait-2",
					     [TCP_TIME_WAIT] = "time-wait",
					     [TCP_CLOSE] = "closed",
					     [TCP_CLOSE_WAIT] = "close-wait",
					     [TCP_LAST_ACK] = "last-ack",
					     [TCP_LISTEN] = "listen",
					     [TCP_CLOSING] = "closing" };

	return state < sizeof(names) / sizeof(names[0]) && names[state] ? names[state] : "unknown";
}

static void see_object(struct view *v, const Ck__Object *m)
{
	json_int_t n = json_integer_value(json_object_get(v->objects, m->type));
	json_t *count = json_integer(n + 1);

	/* a type that is no text cannot be a key */
	if (json_object_set_new(v->objects, m->type, count) < 0)
		return;
	if (strcmp(m->type, "tcp") == 0) {
		CLEANUP_MSG Cks__Tcp *t =
			check_unpack(&cks__tcp__descriptor, m->body.data, m->body.len);

		if (t)
			add_socket(v, "tcp", tcp_state(t->state), t->common);
	} else if (strcmp(m->type, "inet") == 0) {
		CLEANUP_MSG Cks__Inet *s =
			check_unpack(&cks__inet__descriptor, m->body.data, m->body.len);
		int protocol = s && s->common ? s->common->protocol : 0;

		if (s)
			add_socket(v,
				   protocol == IPPROTO_UDP	 ? "udp"
				   : protocol == IPPROTO_UDPLITE ? "udplite"
				   : protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 ? "icmp"
											    : "raw",
				   s->common && s->common->peer ? "connected" : "", s->common);
	}
}

static int see_pages(struct view *v, const struct frame *f, struct error *err)
{
	struct page_run run;
	struct pageset *here;
	int r = check_pages(f, &run, err);

	if (r < 0)
		return r;
	here = pages_of(v, run.space, run.id);
	if (!here)
		return error_set(err, EBADMSG, "pages of more processes than there can be");
	pageset_set(here, run.start, run.npages, !f->flags);
	return 0;
}

#define SEE(kind, name, call)                                                                      \
	do {                                                                                       \
		kind *m = check_unpack(&ck__##name##__descriptor, f->data, f->len);                \
		if (m)                                                                             \
			call;                                                                      \
		ck__##name##__free_unpacked(m, NULL);                                              \
	} while (0)

static int see(void *ctx, const struct frame *f, struct error *err)
{
	struct view *v = ctx;

	switch (f->type) {
	case FRAME_HELLO:
		SEE(Ck__Hello, hello, see_hello(v, m));
		break;
	case FRAME_TREE:
		SEE(Ck__Tree, tree, see_tree(v, m));
		break;
	case FRAME_TASK:
		SEE(Ck__TaskState, task_state, see_task(v, m));
		break;
	case FRAME_FDTABLE:
		SEE(Ck__FdTable, fd_table, v->descriptors += m->n_fds);
		break;
	case FRAME_OBJECT:
		SEE(Ck__Object, object, see_object(v, m));
		break;
	case FRAME_ROUND_END:
		v->rounds++;
		break;
	case FRAME_PAGES:
		return see_pages(v, f, err);
	}
	return 0;
}

/* --- the whole ------------------------------------------------------------------------------- */
static json_t *signature(const struct load_info *info, bool asked)
{
	json_t *j;

	if (!info->signature)
		return json_null();
	j = json_pack("{s:o}", "by", json_any_string(info->signed_by));
	if (asked || info->bad.code)
		json_object_set_new(j, "good", json_boolean(!info->bad.code));
	if (info->bad.code)
		json_object_set_new(j, "error", json_string(info->bad.msg));
	return j;
}

static json_t *report(struct view *v, const struct load_info *info, const char *ca)
{
	uint64_t memory = 0, shared = 0;
	json_t *list = json_array(), *p;
	const char *key;

	for (size_t i = 0; i < v->nspaces; i++) {
		uint64_t n = count_pages(&v->spaces[i].here) * PAGE;

		memory += n;
		shared += v->spaces[i].space == SPACE_SHARED ? n : 0;
	}
	json_object_foreach (v->processes, key, p)
		json_array_append(list, p);
	json_object_set_new(v->out, "host",
			    info->signed_by ? json_any_string(info->signed_by) : json_null());
	json_object_set_new(v->out, "saved_at", json_integer(info->saved_at_s));
	json_object_set_new(v->out, "bytes", json_integer((json_int_t)info->bytes));
	json_object_set_new(v->out, "rounds", json_integer((json_int_t)v->rounds));
	json_object_set_new(v->out, "signature", signature(info, ca != NULL));
	json_object_set_new(v->out, "processes", list);
	json_object_set_new(v->out, "memory_bytes", json_integer((json_int_t)memory));
	json_object_set_new(v->out, "shared_bytes", json_integer((json_int_t)shared));
	json_object_set(v->out, "objects", v->objects);
	json_object_set_new(v->out, "descriptors", json_integer((json_int_t)v->descriptors));
	json_object_set(v->out, "sockets", v->sockets);
	return json_incref(v->out);
}

int file_inspect(const char *path, const char *ca, json_t **out, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct view v = { 0 };
	struct load_check how = { .ca = ca, .inspect = true, .each = see, .ctx = &v };
	struct load_info info = { 0 };
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_sys(err, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "%s is no file", path);
	v.out = json_object();
	v.processes = json_object();
	v.objects = json_object();
	v.sockets = json_array();
	r = load_check(fd, &how, &info, err);
	if (r == 0) {
		*out = report(&v, &info, ca);
		if (info.bad.code) {
			*err = info.bad;
			r = -info.bad.code;
		}
	}
	load_info_free(&info);
	for (size_t i = 0; i < v.nspaces; i++)
		pageset_free(&v.spaces[i].here);
	free(v.spaces);
	json_decref(v.out);
	json_decref(v.processes);
	json_decref(v.objects);
	json_decref(v.sockets);
	return r;
}
