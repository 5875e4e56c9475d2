// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What the kernel shows nowhere else, read by iterators and changed by none of them: undo
// values of System V semaphores, asynchronous I/O contexts and what they have in flight,
// who is told of messages in POSIX queues. peek.c reads what is written here.
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define MQUEUE_MAGIC 0x19800202

enum { PEEK_UNDO = 1, PEEK_AIO, PEEK_MQUEUE, PEEK_PERCPU, PEEK_UNIX, PEEK_INOTIFY, PEEK_SOCKET_ERROR, PEEK_CRED = 16, PEEK_RESTART, PEEK_POLICY };

struct peek_record {
	__u32 kind;
	__s32 pid, tid; // in the pid namespace of who reads
	__u32 len;	// of what follows
	__u64 a, b, c, d;
};

// Number of semaphores of each set, by id: told by who reads.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, __s32);
	__type(value, __u32);
} sem_sizes SEC(".maps");

// Memory of each processor: what is added to a __percpu pointer. Told by who reads, from
// the records of peek_percpu: a kernel without CONFIG_KALLSYMS_ALL has no name for it.
#define MAX_CPUS 1024
const volatile __u32 ncpus = 1;
__u64 percpu[MAX_CPUS];

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} percpu_probe SEC(".maps");

// Number of a process as the reader's namespace sees it; 0: not at all.
static __always_inline __s32 number(struct pid *p)
{
	struct task_struct *me = (void *)bpf_get_current_task();
	__u32 level = BPF_CORE_READ(me, thread_pid, level);
	__s32 nr = 0;

	if (!p || BPF_CORE_READ(p, level) < level)
		return 0;
	bpf_core_read(&nr, sizeof(nr), &p->numbers[level].nr);
	return nr;
}

// --- System V semaphores -----------------------------------------------------------------
struct undo_walk {
	struct seq_file *seq;
	struct peek_record rec;
	struct list_head *head, *at;
	struct sem_undo *un;
	__u32 nsems;
};

// As it is in kernels before 6.3: the values are behind a pointer, no longer at the end.
struct sem_undo___apart {
	short *semadj;
} __attribute__((preserve_access_index));

static __always_inline void *undo_values(struct sem_undo *un)
{
	struct sem_undo___apart *apart = (void *)un;

	if (bpf_core_field_exists(apart->semadj))
		return BPF_CORE_READ(apart, semadj);
	return &un->semadj[0];
}

static long undo_chunk(__u32 i, void *ctx)
{
	struct undo_walk *w = ctx;
	struct sem_undo *un = w->un;
	__s16 adj[64] = {};

	w->rec.c = i * 64;
	if (bpf_probe_read_kernel(adj, sizeof(adj), undo_values(un) + i * sizeof(adj)))
		return 1;
	bpf_seq_write(w->seq, &w->rec, sizeof(w->rec));
	bpf_seq_write(w->seq, adj, sizeof(adj));
	return 0;
}

static long undo_one(__u32 i, void *ctx)
{
	struct undo_walk *w = ctx;
	// A relocation must not begin at a structure of this file: hence the variables.
	struct list_head *at = w->at;
	struct sem_undo *un;
	__u32 *n;
	__s32 semid;

	if (!at || at == w->head)
		return 1;
	un = container_of(at, struct sem_undo, list_proc);
	w->un = un;
	w->at = BPF_CORE_READ(at, next);
	semid = BPF_CORE_READ(un, semid);
	n = bpf_map_lookup_elem(&sem_sizes, &semid);
	if (!n)
		return 0;
	w->rec.b = (__u32)semid;
	w->rec.d = *n;
	bpf_loop((*n + 63) / 64, undo_chunk, w, 0);
	return 0;
}

SEC("iter/task")
int peek_undo(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *leader;
	struct undo_walk w = {};
	struct sem_undo_list *list;

	if (!task)
		return 0;
	list = BPF_CORE_READ(task, sysvsem.undo_list);
	leader = BPF_CORE_READ(task, group_leader);
	if (!list || (task != leader && list == BPF_CORE_READ(leader, sysvsem.undo_list)))
		return 0;
	w.seq = ctx->meta->seq;
	w.rec.kind = PEEK_UNDO;
	w.rec.tid = number(BPF_CORE_READ(task, thread_pid));
	w.rec.pid = number(BPF_CORE_READ(leader, thread_pid));
	w.rec.a = (__u64)list;
	w.rec.len = 64 * sizeof(__s16);
	w.head = &list->list_proc;
	w.at = BPF_CORE_READ(list, list_proc.next);
	bpf_loop(1 << 16, undo_one, &w, 0);
	return 0;
}

// --- memory of each processor ------------------------------------------------------------
__u32 probe_map; // id of percpu_probe

struct percpu_walk {
	struct seq_file *seq;
	struct peek_record rec;
};

static long percpu_one(__u32 cpu, void *ctx)
{
	struct percpu_walk *w = ctx;
	__u32 zero = 0;
	__u64 *at = bpf_map_lookup_percpu_elem(&percpu_probe, &zero, cpu);

	if (!at)
		return 0;
	w->rec.tid = (__s32)cpu;
	w->rec.b = (__u64)at;
	bpf_seq_write(w->seq, &w->rec, sizeof(w->rec));
	return 0;
}

// Where one and the same variable lies for each processor: as a __percpu pointer (a), and
// as an address (b).
SEC("iter/bpf_map")
int peek_percpu(struct bpf_iter__bpf_map *ctx)
{
	struct percpu_walk w = {};
	struct bpf_map *map = ctx->map;
	void *pointer = NULL;

	if (!map || map->id != probe_map)
		return 0;
	bpf_core_read(&pointer, sizeof(pointer), &((struct bpf_array *)map)->pptrs[0]);
	w.seq = ctx->meta->seq;
	w.rec.kind = PEEK_PERCPU;
	w.rec.a = (__u64)pointer;
	bpf_loop(ncpus, percpu_one, &w, 0);
	return 0;
}

// --- io_setup() --------------------------------------------------------------------------
struct aio_walk {
	struct seq_file *seq;
	struct peek_record rec;
	struct kioctx_table *table;
	__u64 percpu, available;
};

static long aio_cpu(__u32 cpu, void *ctx)
{
	struct aio_walk *w = ctx;
	__u32 n = 0;

	if (cpu < MAX_CPUS)
		bpf_probe_read_kernel(&n, sizeof(n), (void *)(w->percpu + percpu[cpu]));
	w->available += n;
	return 0;
}

static long aio_one(__u32 i, void *ctx)
{
	struct aio_walk *w = ctx;
	struct kioctx_table *table = w->table;
	struct kioctx *io = NULL;

	bpf_core_read(&io, sizeof(io), &table->table[i]);
	if (!io)
		return 0;
	w->percpu = (__u64)BPF_CORE_READ(io, cpu);
	w->available = (__u32)BPF_CORE_READ(io, reqs_available.counter);
	bpf_loop(ncpus, aio_cpu, w, 0);
	w->rec.a = BPF_CORE_READ(io, user_id);
	w->rec.b = BPF_CORE_READ(io, nr_events) - 1ull - w->available -
		   BPF_CORE_READ(io, completed_events);
	w->rec.c = BPF_CORE_READ(io, max_reqs);
	w->rec.d = BPF_CORE_READ(io, mmap_size);
	bpf_seq_write(w->seq, &w->rec, sizeof(w->rec));
	return 0;
}

SEC("iter/task")
int peek_aio(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct kioctx_table *table;
	struct aio_walk w = {};

	if (!task || task != BPF_CORE_READ(task, group_leader))
		return 0;
	table = BPF_CORE_READ(task, mm, ioctx_table);
	if (!table)
		return 0;
	w.table = table;
	w.seq = ctx->meta->seq;
	w.rec.kind = PEEK_AIO;
	w.rec.pid = w.rec.tid = number(BPF_CORE_READ(task, thread_pid));
	bpf_loop(BPF_CORE_READ(table, nr), aio_one, &w, 0);
	return 0;
}

// --- mq_notify() -------------------------------------------------------------------------
SEC("iter/task_file")
int peek_mqueue(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct peek_record rec = { .kind = PEEK_MQUEUE };
	struct mqueue_inode_info *info;
	struct inode *inode;
	struct pid *owner;

	if (!task || !file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	if (BPF_CORE_READ(inode, i_sb, s_magic) != MQUEUE_MAGIC)
		return 0;
	info = container_of(inode, struct mqueue_inode_info, vfs_inode);
	owner = BPF_CORE_READ(info, notify_owner);
	if (!owner)
		return 0;
	rec.pid = number(owner);
	rec.tid = BPF_CORE_READ(info, notify.sigev_notify);
	rec.a = BPF_CORE_READ(inode, i_ino);
	rec.b = (__u32)BPF_CORE_READ(info, notify.sigev_signo);
	rec.c = (__u64)BPF_CORE_READ(info, notify.sigev_value.sival_ptr);
	bpf_seq_write(ctx->meta->seq, &rec, sizeof(rec));
	return 0;
}

// --- queues of unix sockets --------------------------------------------------------------
#define UNIX_DATA 4096
// What one step of an iterator writes must fit into its buffer of 32 KiB: the rest of a
// queue is asked for again.
#define UNIX_STEP 24576

// Which queue: inode of the socket, or, where that is 0, of the client whose connection
// was not accepted yet; and from which message on.
__u64 unix_own, unix_client;
__u32 unix_from;
__u32 unix_written; // not on the stack: the verifier would follow its every value

struct unix_message { // what follows a record: then up to UNIX_DATA bytes
	__u32 len, consumed, data, uid, gid, fds;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[UNIX_DATA]);
} unix_data SEC(".maps");

struct unix_walk {
	struct seq_file *seq;
	struct peek_record rec;
	struct sk_buff *head, *at;
};

static __always_inline __u64 socket_inode(struct sock *sk)
{
	struct socket *s = sk ? BPF_CORE_READ(sk, sk_socket) : NULL;
	struct socket_alloc *both = container_of(s, struct socket_alloc, socket);

	return s ? BPF_CORE_READ(both, vfs_inode.i_ino) : 0;
}

static long unix_one(__u32 i, void *ctx)
{
	struct unix_walk *w = ctx;
	struct sk_buff *skb = w->at;
	struct unix_skb_parms *cb;
	struct unix_message m = {};
	struct scm_fp_list *fp;
	__u32 zero = 0, linear;
	char *data;

	if (!skb || skb == w->head)
		return 1;
	w->at = BPF_CORE_READ(skb, next);
	if (i < unix_from)
		return 0;
	if (unix_written > UNIX_STEP)
		return 1;
	cb = (void *)skb + bpf_core_field_offset(struct sk_buff, cb);
	m.len = BPF_CORE_READ(skb, len);
	linear = m.len - BPF_CORE_READ(skb, data_len);
	m.consumed = BPF_CORE_READ(cb, consumed);
	m.uid = BPF_CORE_READ(cb, uid.val);
	m.gid = BPF_CORE_READ(cb, gid.val);
	fp = BPF_CORE_READ(cb, fp);
	m.fds = fp ? BPF_CORE_READ(fp, count) : 0;
	w->rec.tid = number(BPF_CORE_READ(cb, pid));
	w->rec.c = i;
	// Only where nobody has a descriptor: everybody else can peek.
	data = bpf_map_lookup_elem(&unix_data, &zero);
	if (data && !w->rec.a && linear == m.len && linear && linear < UNIX_DATA) {
		// What the compiler knows of its range the verifier must be shown.
		asm volatile("" : "+r"(linear));
		if (!bpf_probe_read_kernel(data, linear & (UNIX_DATA - 1),
					   BPF_CORE_READ(skb, data)))
			m.data = linear;
	}
	w->rec.len = sizeof(m) + (m.data ? UNIX_DATA : 0);
	unix_written += sizeof(w->rec) + w->rec.len;
	bpf_seq_write(w->seq, &w->rec, sizeof(w->rec));
	bpf_seq_write(w->seq, &m, sizeof(m));
	if (m.data && data)
		bpf_seq_write(w->seq, data, UNIX_DATA);
	return 0;
}

SEC("iter/unix")
int peek_unix(struct bpf_iter__unix *ctx)
{
	struct unix_sock *u = ctx->unix_sk;
	struct unix_walk w = {};
	struct sk_buff_head *queue;

	if (!u)
		return 0;
	queue = (void *)u + bpf_core_field_offset(struct sock, sk_receive_queue);
	w.head = (struct sk_buff *)queue;
	w.at = BPF_CORE_READ(queue, next);
	if (w.at == w.head)
		return 0;
	unix_written = 0;
	w.seq = ctx->meta->seq;
	w.rec.kind = PEEK_UNIX;
	w.rec.a = socket_inode((struct sock *)u);
	w.rec.b = socket_inode(BPF_CORE_READ(u, peer));
	w.rec.d = BPF_CORE_READ(queue, qlen);
	if (w.rec.a != unix_own || (!unix_own && w.rec.b != unix_client))
		return 0;
	bpf_loop(1 << 16, unix_one, &w, 0);
	return 0;
}

// --- events of inotify ---------------------------------------------------------------------
#define EVENT_NAME 256 // NAME_MAX and a zero

int inotify_fd;	    // of the reading process
__u32 inotify_from; // from which event on
__u32 inotify_written;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[EVENT_NAME]);
} inotify_name SEC(".maps");

struct inotify_walk {
	struct seq_file *seq;
	struct peek_record rec;
	struct list_head *head, *at;
};

static long inotify_one(__u32 i, void *ctx)
{
	struct inotify_walk *w = ctx;
	struct list_head *at = w->at;
	struct fsnotify_event *fse;
	struct inotify_event_info *e;
	__u32 zero = 0, len;
	char *name;

	if (!at || at == w->head)
		return 1;
	fse = container_of(at, struct fsnotify_event, list);
	w->at = BPF_CORE_READ(at, next);
	if (i < inotify_from)
		return 0;
	if (inotify_written > UNIX_STEP)
		return 1;
	e = container_of(fse, struct inotify_event_info, fse);
	w->rec.tid = BPF_CORE_READ(e, wd);
	w->rec.a = BPF_CORE_READ(e, mask);
	w->rec.b = BPF_CORE_READ(e, sync_cookie);
	w->rec.c = i;
	len = (__u32)BPF_CORE_READ(e, name_len);
	asm volatile("" : "+r"(len));
	len &= EVENT_NAME - 1;
	name = bpf_map_lookup_elem(&inotify_name, &zero);
	if (!name ||
	    bpf_probe_read_kernel(name, len,
				  (void *)e + bpf_core_field_offset(struct inotify_event_info, name)))
		return 1;
	w->rec.len = len;
	inotify_written += sizeof(w->rec) + len;
	bpf_seq_write(w->seq, &w->rec, sizeof(w->rec));
	bpf_seq_write(w->seq, name, len);
	return 0;
}

// What waits to be read from descriptor inotify_fd of who reads this. The first record tells
// of the descriptor itself; an event that comes meanwhile is put behind the others.
SEC("iter/task_file")
int peek_inotify(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task, *me = (void *)bpf_get_current_task();
	struct inotify_walk w = {};
	struct fsnotify_group *group;
	struct file *file = ctx->file;

	if (!task || !file || (int)ctx->fd != inotify_fd ||
	    BPF_CORE_READ(task, tgid) != BPF_CORE_READ(me, tgid))
		return 0;
	group = BPF_CORE_READ(file, private_data);
	w.seq = ctx->meta->seq;
	w.rec.kind = PEEK_INOTIFY;
	w.rec.a = BPF_CORE_READ(group, inotify_data.idr.idr_next);
	w.rec.c = ~0ull;
	w.rec.d = BPF_CORE_READ(group, q_len);
	bpf_seq_write(w.seq, &w.rec, sizeof(w.rec));
	inotify_written = sizeof(w.rec);
	w.head = (void *)group + bpf_core_field_offset(struct fsnotify_group, notification_list);
	w.at = BPF_CORE_READ(group, notification_list.next);
	bpf_loop(1 << 16, inotify_one, &w, 0);
	return 0;
}

// --- how an interrupted call goes on ---------------------------------------------------------
// What is used of it, under names that a kernel may have or not.
struct restart_block___used {
	void *fn;
	union {
		struct {
			__u64 time;
		} futex;
		struct {
			__s32 clockid;
			__u64 expires;
		} nanosleep;
		struct {
			int has_timeout;
			unsigned long tv_sec, tv_nsec;
		} poll;
	};
} __attribute__((preserve_access_index));

struct peek_restart {
	char fn[32];
	__u64 futex_ns, sleep_ns, poll_s, poll_ns;
	__s32 sleep_clock, poll_timed;
};

static const char symbol[] = "%ps";

SEC("iter/task")
int peek_restart(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct peek_record rec = { .kind = PEEK_RESTART };
	struct restart_block___used *b;
	struct peek_restart r = {};
	__u64 fn;

	if (!task)
		return 0;
	b = (void *)&task->restart_block;
	fn = (__u64)BPF_CORE_READ(b, fn);
	bpf_snprintf(r.fn, sizeof(r.fn), symbol, &fn, sizeof(fn));
	r.futex_ns = BPF_CORE_READ(b, futex.time);
	r.sleep_ns = BPF_CORE_READ(b, nanosleep.expires);
	r.sleep_clock = BPF_CORE_READ(b, nanosleep.clockid);
	if (bpf_core_field_exists(b->poll.tv_nsec)) {
		r.poll_s = BPF_CORE_READ(b, poll.tv_sec);
		r.poll_ns = BPF_CORE_READ(b, poll.tv_nsec);
		r.poll_timed = BPF_CORE_READ(b, poll.has_timeout);
	}
	rec.tid = number(BPF_CORE_READ(task, thread_pid));
	rec.pid = number(BPF_CORE_READ(task, group_leader, thread_pid));
	rec.len = sizeof(r);
	bpf_seq_write(ctx->meta->seq, &rec, sizeof(rec));
	bpf_seq_write(ctx->meta->seq, &r, sizeof(r));
	return 0;
}

// --- errors of sockets ----------------------------------------------------------------------
int error_fd; // of the reading process

// What getsockopt(SO_ERROR) would tell and take away.
SEC("iter/task_file")
int peek_socket_error(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task, *me = (void *)bpf_get_current_task();
	struct peek_record rec = { .kind = PEEK_SOCKET_ERROR };
	struct file *file = ctx->file;
	struct socket *s;

	if (!task || !file || (int)ctx->fd != error_fd ||
	    BPF_CORE_READ(task, tgid) != BPF_CORE_READ(me, tgid))
		return 0;
	s = BPF_CORE_READ(file, private_data);
	rec.a = (__u32)BPF_CORE_READ(s, sk, sk_err);
	bpf_seq_write(ctx->meta->seq, &rec, sizeof(rec));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

// --- security contexts and keyrings --------------------------------------------------------
#define CRED_WORDS 16

static __always_inline __u64 keys_in(struct key *keyring)
{
	return keyring ? BPF_CORE_READ(keyring, keys.nr_leaves_on_tree) : 0;
}

// What the security modules keep for each thread, which of them it is is found by trying;
// how many keys its keyrings hold.
SEC("iter/task")
int peek_cred(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct peek_record rec = { .kind = PEEK_CRED };
	__u64 words[CRED_WORDS] = {};
	const struct cred *cred;
	struct key *session;
	void *blob;

	if (!task)
		return 0;
	cred = BPF_CORE_READ(task, real_cred);
	session = BPF_CORE_READ(cred, session_keyring);
	blob = BPF_CORE_READ(cred, security);
	rec.tid = number(BPF_CORE_READ(task, thread_pid));
	rec.pid = number(BPF_CORE_READ(task, group_leader, thread_pid));
	rec.a = keys_in(session);
	rec.b = keys_in(BPF_CORE_READ(cred, process_keyring));
	rec.c = keys_in(BPF_CORE_READ(cred, thread_keyring));
	rec.d = session ? (__u64)BPF_CORE_READ(session, serial) : 0;
	rec.len = sizeof(words);
	for (int i = 0; i < CRED_WORDS && blob; i++)
		bpf_probe_read_kernel(&words[i], sizeof(words[i]), blob + i * sizeof(words[i]));
	bpf_seq_write(ctx->meta->seq, &rec, sizeof(rec));
	bpf_seq_write(ctx->meta->seq, words, sizeof(words));
	return 0;
}

// --- NUMA policies of memory areas -------------------------------------------------------------
struct mempolicy___used {
	unsigned short mode, flags;
	nodemask_t nodes;
	int home_node;
	union {
		nodemask_t user_nodemask;
	} w;
} __attribute__((preserve_access_index));

struct vm_area_struct___numa {
	struct mempolicy___used *vm_policy;
} __attribute__((preserve_access_index));

struct peek_policy {
	__u32 mode;
	__s32 home;
	__u8 nodes[128];
};

#define MODE_FLAGS    (7 << 13) // MPOL_F_STATIC_NODES, …RELATIVE_NODES, …NUMA_BALANCING
#define GIVEN_BY_USER (3 << 14) // … of which these keep the nodes as they were given

SEC("iter/task_vma")
int peek_policy(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct peek_record rec = { .kind = PEEK_POLICY };
	struct peek_policy p = { .home = -1 };
	struct vm_area_struct___numa *area = (void *)vma;
	struct mempolicy___used *m;
	__u32 n, flags;

	if (!task || !vma || !bpf_core_field_exists(area->vm_policy))
		return 0;
	m = BPF_CORE_READ(area, vm_policy);
	if (!m)
		return 0;
	flags = BPF_CORE_READ(m, flags);
	p.mode = BPF_CORE_READ(m, mode) | (flags & MODE_FLAGS);
	if (bpf_core_field_exists(m->home_node))
		p.home = BPF_CORE_READ(m, home_node);
	n = bpf_core_field_size(m->nodes);
	if (n > sizeof(p.nodes))
		n = sizeof(p.nodes);
	if (flags & GIVEN_BY_USER)
		bpf_probe_read_kernel(p.nodes, n, (void *)m + bpf_core_field_offset(m->w.user_nodemask));
	else
		bpf_probe_read_kernel(p.nodes, n, (void *)m + bpf_core_field_offset(m->nodes));
	rec.tid = number(BPF_CORE_READ(task, thread_pid));
	rec.pid = number(BPF_CORE_READ(task, group_leader, thread_pid));
	rec.a = vma->vm_start;
	rec.b = vma->vm_end;
	rec.len = sizeof(p);
	bpf_seq_write(ctx->meta->seq, &rec, sizeof(rec));
	bpf_seq_write(ctx->meta->seq, &p, sizeof(p));
	return 0;
}
