/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that no other type claims. It claims all, so it comes last in the table:
 * what ferry does not know it refuses before anything is paused.
 */
#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

static const struct {
	const char *link, *object, *why, *remedy;
} known[] = {
	{ "anon_inode:[io_uring]", "io_uring instance",
	  "its rings and requests in flight cannot be "
	  "taken over",
	  "switch it off in the program, or run the container with the default seccomp "
	  "profile, which has programs do without it" },
	{ "anon_inode:[userfaultfd]", "userfaultfd", "page faults in flight cannot be taken over",
	  "configure the program not to use userfaultfd" },
	{ "anon_inode:[perf_event]", "perf event", "it counts on this host's hardware",
	  "stop the profiler" },
	{ "anon_inode:bpf-map", "BPF map", "it lives in this host's kernel", "unload it" },
	{ "anon_inode:bpf-prog", "BPF program", "it lives in this host's kernel", "unload it" },
	{ "anon_inode:bpf_link", "BPF link", "it lives in this host's kernel", "unload it" },
	{ "anon_inode:[bpf", "BPF object", "it lives in this host's kernel", "unload it" },
	{ "anon_inode:btf", "BTF object", "it lives in this host's kernel", "unload it" },
	{ "anon_inode:[fanotify]", "fanotify group", "it may hold operations of other processes",
	  "stop the program, or let it use inotify" },
	{ "anon_inode:kvm-", "KVM object", "a virtual machine's state belongs to its monitor",
	  "migrate the virtual machine with its own tool" },
	{ "anon_inode:[landlock-ruleset]", "Landlock ruleset", "its rules cannot be read",
	  "close the descriptor" },
	{ "anon_inode:[fscontext]", "mount context", "a mount is being prepared",
	  "try again later" },
	{ "anon_inode:seccomp notify", "seccomp listener",
	  "its requests in flight cannot be taken "
	  "over",
	  "stop the supervisor" },
	{ "/memfd:", "memory file", "its kind cannot travel", "close the descriptor" },
	{ "/[aio]", "AIO ring", "it is mapped memory of the kernel's", "stop asynchronous I/O" },
	{ "/dmabuf:", "DMA buffer", "it is memory of a device", "close the descriptor" },
};

/* How to switch io_uring off. */
static const struct {
	const char *comm, *remedy;
} no_uring[] = {
	{ "mariadbd", "set innodb_use_native_aio=0 (my.cnf) and restart it" },
	{ "mysqld", "set innodb_use_native_aio=0 (my.cnf) and restart it" },
	{ "postgres", "set io_method=worker (postgresql.conf) and restart it" },
	{ "node", "start it with UV_USE_IO_URING=0 in its environment" },
	{ "qemu-", "give its drives aio=threads" },
	{ "scylla", "start it with --reactor-backend epoll" },
	{ "redpanda", "start it with --reactor-backend=epoll" },
};

static const char *uring_remedy(const struct ofd *o)
{
	CLEANUP_FREE char *path = o->task ? str_format("/proc/%d/comm", task_pid(o->task)) : NULL;
	CLEANUP_FREE char *comm = NULL;

	if (path && file_read(path, 64, &comm, NULL, NULL) == 0)
		for (size_t i = 0; i < sizeof(no_uring) / sizeof(no_uring[0]); i++)
			if (str_starts(comm, no_uring[i].comm))
				return no_uring[i].remedy;
	return NULL;
}

static bool refused_claims(const struct ofd *o)
{
	(void)o;
	return true;
}

static void refused_say(const struct ofd *o, char *object, size_t cap, const char **why,
			const char **remedy)
{
	*why = "ferry does not know this kind of object";
	*remedy =
		"close the descriptor, or stop and start the container instead (a cold migration)";
	snprintf(object, cap, "%s", o->link);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (!str_starts(o->link, known[i].link))
			continue;
		snprintf(object, cap, "%s", known[i].object);
		*why = known[i].why;
		*remedy = known[i].remedy;
		if (strstr(o->link, "io_uring") && uring_remedy(o))
			*remedy = uring_remedy(o);
		return;
	}
	if (S_ISCHR(o->st.st_mode) || S_ISBLK(o->st.st_mode)) {
		snprintf(object, cap, "%s device %u:%u (%s)",
			 S_ISCHR(o->st.st_mode) ? "character" : "block", major(o->st.st_rdev),
			 minor(o->st.st_rdev), o->link);
		*why = "a device has state in this host's hardware or kernel";
	} else if (S_ISSOCK(o->st.st_mode)) {
		snprintf(object, cap, "socket (%s)", o->link);
		*why = "ferry does not know this kind of socket";
	}
}

static int refused_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	char object[200];
	const char *why, *remedy;

	(void)d;
	refused_say(o, object, sizeof(object), &why, &remedy);
	obj_obstacle(out, o, object, why, remedy);
	return 0;
}

static int refused_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	char object[200];
	const char *why, *remedy;

	(void)d;
	(void)body;
	refused_say(o, object, sizeof(object), &why, &remedy);
	return error_set(err, ENOTSUP, "process %d, descriptor %d, %s: %s; %s", obj_vpid(o), o->num,
			 object, why, remedy);
}

static int refused_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			   struct error *err)
{
	(void)r;
	(void)body;
	(void)len;
	(void)fd;
	return error_set(err, EBADMSG, "object %u of the checkpoint cannot be made", id);
}

const struct object_type obj_refused = {
	.type = "refused",
	.claims = refused_claims,
	.check = refused_check,
	.dump = refused_dump,
	.restore = refused_restore,
};
