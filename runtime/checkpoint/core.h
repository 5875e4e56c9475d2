/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the engine: tasks, memory, and the two sides' state. Only the core's own files
 * include this; files of object types use object.h.
 *
 * One engine process serves one side of one migration, in one thread, because ptrace belongs
 * to a thread. Others only read or write memory: lane.h, dump_shared_hash_start(), postcopy.h.
 */
#ifndef FERRY_CHECKPOINT_CORE_H
#define FERRY_CHECKPOINT_CORE_H

#include <pthread.h>
#include <sys/resource.h>
#include <sys/user.h>

#include "runtime/checkpoint/checkpoint.pb-c.h"
#include "runtime/checkpoint/object.h"
#include "runtime/checkpoint/stream.h"

#define PAGE 4096ul

/* What processes may share beside memory (clone(2): CLONE_FILES, CLONE_FS). */
enum share { SHARE_FILES, SHARE_FS, SHARES };

enum vma_kind {
	VMA_ANON,
	VMA_FILE,
	VMA_SHARED,
	VMA_VDSO,
	VMA_VVAR,
	VMA_VVAR_VCLOCK,
	VMA_VSYSCALL,
	VMA_AIO = 16
};
enum vma_advice {
	ADVICE_LOCKED = 1,
	ADVICE_DONTFORK = 2,
	ADVICE_DONTDUMP = 4,
	ADVICE_HUGEPAGE = 8,
	ADVICE_NOHUGEPAGE = 16,
	ADVICE_MERGEABLE = 32,
	ADVICE_WIPEONFORK = 64,
	ADVICE_RANDOM = 128,
	ADVICE_SEQUENTIAL = 256,
	ADVICE_DROPPABLE = 512,
	ADVICE_SEALED = 1024,
	ADVICE_LOCKONFAULT = 2048,
	/* Only for preflight: what cannot be made again. */
	ADVICE_HUGETLB = 1 << 16,
	ADVICE_IO = 1 << 17,
	ADVICE_PKEY = 1 << 18,
	ADVICE_SHADOW_STACK = 1 << 19,
	ADVICE_UFFD = 1 << 20,
};

struct vma {
	uint64_t start, end, pgoff; /* pgoff in bytes */
	uint32_t prot, flags, kind, advice, shared_id;
	dev_t dev;
	ino_t ino;
	uint64_t file_size;
	char *path;
	/* Destination: the file could not be opened yet, anonymous memory stands in. */
	bool pending;
};

struct vmas {
	struct vma *v;
	size_t n, cap;
};
void vmas_free(struct vmas *l);
struct vma *vmas_add(struct vmas *l, const struct vma *v); /* takes over v->path */
const struct vma *vmas_find(const struct vmas *l, uint64_t addr);
/* The first area that ends behind addr. */
size_t vmas_from(const struct vmas *l, uint64_t addr);
/* Whether pages in it can be the task's own. */
bool vma_has_private_pages(const struct vma *v);

struct thread {
	pid_t tid, vtid;
	struct task *task;
	bool traced, stopped;
	bool filters_aside;	      /* seccomp does not see remote calls */
	struct user_regs_struct regs; /* as they were when it stopped */
	bool touched;		      /* its live registers or mask differ from those */
	bool in_call;		      /* a remote call runs: nothing else may be asked of it */
	bool stepping;		      /* … and it is a single one, not a batch */
	bool by_guard;		      /* … and remote_guard.c makes it */
	uint64_t sigmask;
	/* Source: the interrupted call that a restart block stands for (restart.c); 0: none. When
	 * it ends by the host's clock; 0: not known, or its arguments tell. */
	struct thread_restart {
		long nr;
		int clock;
		uint64_t end_ns;
	} restart;
	long new_pid;		 /* PTRACE_EVENT_FORK/CLONE seen during a remote call */
	int stop_signal;	 /* group stop: which signal; 0: it was running */
	int again;		 /* a signal that remote calls have swallowed; 0: none */
	uint64_t rseq, rseq_len; /* its area, which the kernel writes */
	uint64_t bnd;		 /* destination: capability bounding set it has now */
	bool seen;
};

/* Pages that the destination has, one bit each, of one VMA-independent 2 MiB chunk. */
#define CHUNK_BYTES (512 * PAGE)
#define NO_CHUNK    (~0ull)
struct chunk {
	uint64_t addr;
	uint64_t bits[8];
};
struct pageset {
	struct chunk *c; /* open addressing, addr NO_CHUNK: empty */
	size_t n, cap;
};
void pageset_free(struct pageset *s);
bool pageset_has(const struct pageset *s, uint64_t addr);
void pageset_set(struct pageset *s, uint64_t start, uint64_t npages, bool on);
bool pageset_any(const struct pageset *s, uint64_t start, uint64_t npages);
/* The 512 bits of the chunk at addr, and adding such. */
const uint64_t *pageset_bits(const struct pageset *s, uint64_t addr);
void pageset_add(struct pageset *s, uint64_t addr, const uint64_t bits[8]);
/* True where every page of c is in s. */
bool pageset_covers(const struct pageset *s, const struct chunk *c);

struct task {
	pid_t pid, vpid, vppid, vpgid, vsid;
	int pidfd;
	uint64_t start_time;
	bool zombie;
	bool headless; /* its main thread has ended, others run: also `zombie` */
	int exit_status;
	int exit_signal; /* what its parent gets when it ends */
	/* Source: vpid of the first process that shares it, 0: it is its own. Destination:
	 * number of the set that its stub belongs to. */
	uint32_t share[SHARES];
	uint32_t share_rank[SHARES]; /* its place in the kernel's order when last compared */
	struct thread *threads;	     /* leader first; empty for a zombie */
	size_t nthreads;
	pid_t ppid;
	/* Source: its files in /proc as they were read when all its threads stood still. */
	char *status, *stat;
	bool seen;
	/* memory */
	int mem_fd, pagemap_fd;
	struct vmas vmas;
	struct tracker *tracker;
	uint64_t *watched; /* source: pairs, areas the tracker was told of, in order */
	size_t nwatched;
	bool has_huge;		/* some area was of huge pages: mem_huge.h */
	struct huge_area *huge; /* source: what the destination has of those */
	size_t nhuge;
	uint64_t huge_vdso;	  /* where the vdso was then */
	struct buf runs;	  /* source: pages to be sent this round */
	struct buf guard_runs;	  /* pairs */
	struct buf policies;	  /* NUMA policies of areas: mem_policy.c */
	struct pageset here;	  /* source, last round: pages that are there */
	struct pageset sent;	  /* source: what the destination has */
	struct pageset guarded;	  /* source: where a guard page was ever seen */
	struct pageset late;	  /* post-copy: what comes after the tasks run */
	unsigned long scratch;	  /* address in the task, 0: none */
	bool scratch_asked;	  /* it is being mapped */
	bool scratch_whole;	  /* all of it may be executed */
	unsigned long code_for;	  /* the scratch area that has the code of batches */
	bool code_refused;	  /* no page may be made executable */
	unsigned long syscall_ip; /* a `syscall` instruction in its vdso */
	bool outlives;		  /* source: it must survive our death */
	struct guard *guard;	  /* remote_guard.c */
	uint64_t *guards;	  /* pairs */
	size_t nguards;
	/* destination */
	Ck__TaskState *state;
	Ck__FdTable *fds;
	struct pageset got; /* what must be put back where memory is mapped anew */
	bool transformed;   /* the stub's own memory is gone */
	bool foreign;	    /* it still has its maker's memory */
	bool to_be_zombie;
	bool ghost;	 /* stands in for a leader that has ended on the source */
	pid_t files_of;	 /* its descriptor table is installed through that one; 0: its own */
	pid_t fs_of;	 /* the same for root, working directory, umask */
	int sock;	 /* the engine's end of the socket pair for descriptors */
	int sock_num;	 /* the task's end */
	bool sock_first; /* the engine's end is still open in the task, at 0 */
	/* What was done ahead, while the source still sent: restore_ahead(). */
	bool memory_done, cleared, placed;
	uint32_t limits; /* which of its limits differ from the stub's, a bit each */
};

/* --- ptrace.c ------------------------------------------------------------------------ */
/* PTRACE_SEIZE with `options`. -EPERM: somebody else traces it. */
int thread_seize(struct thread *t, unsigned long options, struct error *err);
/* Stops a seized thread and notes its registers and mask. -ESRCH: it is gone. */
int thread_interrupt(struct thread *t);
int thread_wait_stop(struct thread *t, struct error *err);
/* One system call in a stopped thread. */
long thread_syscall(struct thread *t, long nr, unsigned long a, unsigned long b, unsigned long c,
		    unsigned long d, unsigned long e, unsigned long f);
/*
 * The same in two halves, so that several threads are at it at once: *_start() gives 0 or
 * -errno, thread_settle() waits for its end, and gives its result or -errno. Whatever else
 * is done with a thread settles it first; then the result of its call is lost.
 */
int thread_syscall_start(struct thread *t, long nr, unsigned long a, unsigned long b,
			 unsigned long c, unsigned long d, unsigned long e, unsigned long f);
long thread_settle(struct thread *t);
/* The same of one that waits, interrupted at once: -ERESTART… as the kernel has it in rax. */
long thread_interrupted_syscall(struct thread *t, long nr, unsigned long a, unsigned long b,
				unsigned long c, unsigned long d);
/* Before the first remote call: all signals but SIGTRAP are held off until put_back. */
int thread_hold_signals(struct thread *t);
/* Puts registers and mask back as they were and lets go. */
void thread_detach(struct thread *t);
/* Puts registers and mask back, stays attached. */
int thread_put_back(struct thread *t);
/* Finds a `syscall` instruction in the vdso at [start, end); 0: none. */
unsigned long syscall_find(struct task *t, uint64_t start, uint64_t end);
/* Registers of a thread that was just stopped: true where they were changed, so that the
 * program does not see a call end with EINTR for our sake. */
bool arch_regs_stopped(struct user_regs_struct *r);
/* Registers for running on elsewhere. */
void arch_regs_restart(struct user_regs_struct *r);
/* A hash of names, places and sizes of the functions in this kernel's vdso; 0: it has none.
 * Programs keep the addresses, so both kernels must have the same. */
uint64_t vdso_hash(void);
/* -EOPNOTSUPP where the source's vdso (of a greeting that tells) is not this kernel's. */
int vdso_check(const Ck__Hello *m, const char *kernel, struct error *err);
/* The processor's xsave mask and size. */
void arch_xsave(uint64_t *mask, uint32_t *bytes);
/* Reads and writes of a task's memory through process_vm_*v, else /proc/PID/mem. */
int task_mem_read(struct task *t, uint64_t addr, void *buf, size_t len);
int task_mem_write(struct task *t, uint64_t addr, const void *buf, size_t len);

/* --- remote_batch.c -------------------------------------------------------------------- */
/* What is mapped for a scratch area: arguments, calls and results, code. */
#define REMOTE_AREA  (REMOTE_SCRATCH + 3 * PAGE)
#define REMOTE_CALLS 128
/* Below every place where programs are linked or loaded; elsewhere when that is taken. */
#define REMOTE_SCRATCH_HINT 0x20000ul
struct remote_call {
	uint64_t nr, a[6];
	int64_t ret; /* as the kernel's: a value, or -errno */
};
struct remote_batch {
	struct thread *th;
	unsigned long at;
	size_t n, used;
	bool full;
	bool by_code; /* the calls are being made by the code */
	struct remote_call c[REMOTE_CALLS];
	uint8_t data[REMOTE_SCRATCH];
};
/* Calls to be made in a stopped thread, which may be any of its process. */
void remote_batch_begin(struct remote_batch *b, struct thread *th);
/* Room for an argument, filled with data (NULL: zeros); its address in the task. */
unsigned long remote_batch_put(struct remote_batch *b, const void *data, size_t len);
/* The call's index in b->c. */
size_t remote_batch_add(struct remote_batch *b, long nr, unsigned long a0, unsigned long a1,
			unsigned long a2, unsigned long a3, unsigned long a4, unsigned long a5);
/*
 * Makes all calls in turn; one that fails does not stop the rest. 0 and b->c[i].ret, or
 * -E2BIG (more than fits was put in), -ESRCH (it ended), -ENOMEM (no scratch area). Not
 * for calls that make tasks.
 */
int remote_batch_run(struct remote_batch *b);
/* The same in two halves; nothing else may be asked of the thread between them. After a
 * start that did not succeed there is nothing to wait for. */
int remote_batch_start(struct remote_batch *b);
int remote_batch_wait(struct remote_batch *b);
/* Source: begins to map a scratch area, which remote_scratch() waits for. */
void task_ask_scratch(struct task *t);
/* Begins to unmap the task's scratch area; who needs one again gets another. */
void task_drop_scratch(struct task *t);
/* After the run: what is at an address that remote_batch_put() gave. */
const void *remote_batch_out(const struct remote_batch *b, unsigned long addr);

/* --- task.c -------------------------------------------------------------------------- */
struct cgroup {
	char *path; /* folder */
	bool v1;
};
int cgroup_find(const char *name, struct cgroup *cg, struct error *err);
void cgroup_free(struct cgroup *cg);
int cgroup_freeze(const struct cgroup *cg, bool on, struct error *err);
/* Writes pid into it. */
int cgroup_add(const struct cgroup *cg, pid_t pid, struct error *err);
bool cgroup_is_empty(const struct cgroup *cg);

struct tasks {
	struct task **t;
	size_t n, cap;
};
struct task *task_new(pid_t pid);
void task_free(struct task *t);
void tasks_free(struct tasks *l);
void tasks_add(struct tasks *l, struct task *t);
struct task *tasks_by_vpid(const struct tasks *l, pid_t vpid);
struct task *tasks_by_pid(const struct tasks *l, pid_t pid);
/* Brings the list up to date with the cgroup: new tasks added, gone ones freed. */
int tasks_scan(struct tasks *l, const struct cgroup *cg, pid_t init_pid, struct error *err);
/* Of the same only what runs and is to be stopped: no zombies, and of tasks that are known
 * nothing but new threads. tasks_scan() has to follow when all have stopped. */
int tasks_scan_running(struct tasks *l, const struct cgroup *cg, pid_t init_pid, struct error *err);
/* Whether each thread that is known stands still; a process that has others does not. */
bool tasks_all_still(const struct tasks *l);
/* Forgets what was read while they stood still. */
void tasks_run_again(struct tasks *l);
/* Finds which of them share descriptor tables and the like: t->share; and t->exit_signal. */
void tasks_find_shares(struct tasks *l);
/* Whose descriptor table it uses: itself, or the first of those that share it. */
struct task *tasks_files_owner(const struct tasks *l, struct task *t);
/* Reads again who its parent is; false: somebody outside of the list, or nobody. */
bool task_refresh_parent(const struct tasks *l, struct task *t);
/* Lists threads anew. -ESRCH: gone. */
int task_scan_threads(struct task *t);
/* The text after "Key:\t" of /proc/PID/status (one line), into out. False: absent. */
bool status_field(const char *status, const char *key, char *out, size_t len);

/* --- mem_vma.c ----------------------------------------------------------------------- */
/*
 * Reads the memory map into t->vmas; skips the scratch area. `quick`: flags of areas that
 * were there before (madvise, mlock) are taken as they were at the last full reading.
 */
int task_read_vmas(struct task *t, bool quick, struct error *err);
/* Whether its memory map was read in the midst of an execve(): what the kernel puts into
 * every program at its start was not all there yet. */
bool task_is_starting(const struct task *t);
/*
 * The text of smaps, or of maps where `quick` (text is cut up), as areas into l (free with
 * vmas_free). -EAGAIN: there is a new area, whose flags only smaps knows.
 */
int task_parse_vmas(struct task *t, char *text, bool quick, struct vmas *l);

/* --- track.h is the vtable; the tracker's handle is per task ------------------------- */

/* --- shared memory (mem_shared.c) ---------------------------------------------------- */
enum shared_kind { SHARED_ANON, SHARED_MEMFD, SHARED_FILE, SHARED_SYSV, SHARED_DELETED };
struct shared {
	uint32_t id, kind;
	dev_t dev;
	ino_t ino;
	uint64_t size;
	char *name;
	uint32_t mode, uid, gid, seals;
	int key, shmid;
	uint32_t creator, creator_group; /* System V */
	bool removed, locked;
	int fd;		/* the engine's, open for reading (source) or writing (destination) */
	uint64_t *hash; /* one a page that the destination has; 0: not there, or zero */
	size_t nhash;
	uint8_t *map; /* source: read-only; destination: System V, writable */
	size_t map_len;
	uint64_t segment_bytes; /* source, System V: what it was made with */
	uint32_t huge_shift;	/* its pages are of 1 << this; 0: ordinary ones (mem_huge.h) */
	struct pageset filled;	/* destination, of huge pages: which are there */
	uint64_t *now;		/* source, last round: hashes computed ahead; HASH_UNKNOWN: not */
	size_t nnow;
	/* Source, a deleted file: mapped shared by somebody; when its content was sent it had
	 * this time stamp, and had had it for so long that a later write shows. */
	bool writable;
	struct timespec settled;
	bool seen;
	/* Post-copy. Source: may come later, but for `at_once`; destination: what is missing. */
	bool late_ok;
	struct pageset at_once, late;
};
struct shareds {
	struct shared **s;
	size_t n;
	struct shared_hashing *hashing; /* source: the thread of dump_shared_hash_start() */
};

/* seccomp.c */
struct filters {
	ProtobufCBinaryData *f; /* struct sock_filter[] each, oldest first */
	uint32_t *flags;	/* SECCOMP_FILTER_FLAG_LOG */
	size_t n;
};
void filters_free(struct filters *f);
/* Whether the i-th are the same. */
bool filters_equal(const struct filters *a, const struct filters *b, size_t i);
/* All filters of a stopped thread; to be freed. */
int filters_read(const struct thread *th, struct filters *out, struct error *err);

/* ns.c: runs fn(arg) in a thread inside one namespace of `pid`. */
int run_in_ns(pid_t pid, const char *ns, int (*fn)(void *arg), void *arg, struct error *err);
/* Ends threads that wait inside namespaces, which keep them (and what is mounted there) alive. */
void ns_leave(void);

/* --- source (session_source.c) -------------------------------------------------------- */
struct dump {
	int control;
	struct cgroup cg;
	pid_t init_pid;
	json_t *externals, *volumes;
	struct tasks tasks;
	struct shareds shared;
	struct ofd **ofds;
	size_t nofds;
	struct ofd **by_ino; /* fds_dump.c */
	size_t nby_ino;
	uint32_t next_id;
	struct stream *s;
	int round;
	bool final, verify;
	bool seized, frozen; /* by ptrace; by the cgroup freezer */
	int root_fd;
	uint64_t page_bytes, round_page_bytes; /* sent */
	uint64_t left_bytes; /* without a dirty tracker: private memory, left for the freeze */
	double rate;	     /* bytes a second, measured */
	uint8_t *page_buf;
	int throttle;		/* percent taken away */
	struct filters filters; /* init's, once it was stopped */
	bool filters_known;
	json_t *laps; /* parts of the last round's time */
	int64_t lap_ns;
	char *cpu_file, *cpu_saved;
	double cpu_own, cpu_rate; /* its own limit; processors that it used, unthrottled */
	uint64_t cpu_used_ns;
	int64_t cpu_since_ns;
	bool aio;      /* at the freeze one of the tasks had a context of io_setup(2) */
	bool postcopy; /* the last round may leave pages for later */
	struct late_source *late;
	struct save *save; /* the stream goes into a file; nobody answers */
	struct last_look *last;
	struct yield *yield;
	struct lanes_out *lanes; /* lane.h; NULL: the one connection */
};
int dump_check(struct dump *d, json_t **answer, struct error *err);
int dump_connect(struct dump *d, json_t *args, struct error *err);
int dump_save(struct dump *d, json_t *args, struct error *err);
int dump_precopy(struct dump *d, json_t *args, json_t **answer, struct error *err);
int dump_freeze(struct dump *d, json_t **answer, struct error *err);
int dump_final(struct dump *d, bool verify, json_t **answer, struct error *err);
/* Undo. Afterwards a file that was saved is published, unless it is to be discarded. */
int dump_resume(struct dump *d, bool discard, json_t **answer, struct error *err);
int dump_kill(struct dump *d, json_t **answer, struct error *err);
void dump_free(struct dump *d);

/* Notes the time since the last lap of the last round under `name`. */
void dump_lap(struct dump *d, const char *name);

/* hold.c */
/* Reads init's seccomp filters too, while it is stopped. */
void dump_give_tracker(struct dump *d, struct task *t);
/* It was made by vfork() and has not started its program yet: it runs in its parent's memory. */
bool task_borrows_memory(const struct tasks *l, const struct task *t);
/* Registers put back, ptrace undone. */
void dump_let_go(struct dump *d);
/* dump_task_scan() for all tasks, which are stopped for it where that is needed. */
int dump_scan_all(struct dump *d, struct error *err);

/* mem_copy.c: notes which pages are to be sent. */
int dump_task_scan(struct dump *d, struct task *t, struct error *err);
/* mem_copy.c: one task's layout; then its changed pages, without those with content where
 * these are `gone` already (lane.h). Counts into d->round_page_bytes. */
int dump_task_layout(struct dump *d, struct task *t, struct error *err);
int dump_task_memory(struct dump *d, struct task *t, bool gone, struct error *err);
/* mem_copy.c: a run of private pages: `data`, or zeros or nothing by `flags`. */
int dump_private_run(struct dump *d, struct task *t, uint64_t start, uint64_t npages,
		     uint16_t flags, const void *data, struct error *err);
/* mem_last.c: everything stands still; a thread begins to look for written pages of large
 * processes. */
void last_look_begin(struct dump *d);
void last_look_end(struct dump *d);
/* mem_shared.c */
int dump_shared_scan(struct dump *d, struct error *err);
int dump_shared_memory(struct dump *d, struct error *err);
/* Everything stands still: a thread begins to hash the objects that are known. */
void dump_shared_hash_start(struct dump *d);
int dump_shared_announce(struct dump *d, struct error *err);
/* mem_sysv.c: the segments of the container's ipc namespace, also those not attached. */
int dump_sysv_scan(struct dump *d, struct error *err);
/* The object that fd (taken over) stands on, under the name that maps would show. */
struct shared *dump_shared_add_own(struct dump *d, int fd, const char *link);
/* The object that fd stands on, made known if need be; NULL: it is none. */
struct shared *dump_shared_add_fd(struct dump *d, int fd, const char *link);
struct shared *shareds_add(struct shareds *l, uint32_t id);
struct shared *shareds_by_inode(const struct shareds *l, dev_t dev, ino_t ino);
struct shared *shareds_by_id(const struct shareds *l, uint32_t id);
void shareds_free(struct shareds *l);
/* throttle.c: less CPU time for a container that writes faster than we send. */
/* Pre-copy begins: what it uses from now on is what it is throttled by. */
void throttle_begin(struct dump *d);
void throttle_step(struct dump *d);
void throttle_end(struct dump *d);
/* verify.c */
int dump_verify(struct dump *d, struct error *err);
/* dump_task.c: registers to timers of all processes; frozen. */
int dump_task_states(struct dump *d, struct error *err);
/* fds_dump.c */
int dump_collect_fds(struct dump *d, struct error *err);
int dump_objects(struct dump *d, struct error *err);
void dump_undo_objects(struct dump *d);
void dump_drop_fds(struct dump *d);
/* preflight.c */
struct obstacles {
	json_t *list;
	pid_t vpid;
};
/* preflight_known.c: what the kernel tells about a process, or a claimed description, that
 * ferry does not know; and what its threads do not share. */
void preflight_task(struct dump *d, struct task *t, struct obstacles *out);
void preflight_fdinfo(const struct ofd *o, struct obstacles *out);
/* preflight_cred.c: Landlock domains and keyrings. */
void preflight_creds(struct dump *d, struct obstacles *out);

/* --- destination (session_dest.c) ----------------------------------------------------- */
struct robject {
	uint32_t id;
	char *type;
	const struct object_type *kind;
	void *body;
	size_t len;
	int fd;
	int state; /* 0 new, 1 being restored, 2 done */
};
struct restore {
	int control;
	struct cgroup cg;
	pid_t init_pid;
	json_t *externals;
	struct tasks tasks;
	uint32_t last_share;
	struct shareds shared;
	struct robject *objects;
	size_t nobjects;
	uint32_t *by_id; /* indices of objects; fds_restore.c */
	size_t nby_id;
	struct stream *s;
	struct tls_ctx *tls;
	int listen_fd;
	char *token;
	int root_fd;
	bool final;		/* the last round is coming in */
	struct filters filters; /* that all tasks have inherited from init */
	uint64_t bnd;		/* likewise: the capability bounding set */
	uint64_t stub_signals;	/* that stubs do not treat as by default, and their limits */
	struct rlimit limits[16];
	bool stub_known, limits_known;
	bool storage_ready, received, restored, running, left;
	bool verify, verified;
	size_t ndiffer;	     /* pages */
	struct error failed; /* code 0: fine */
	int64_t received_ns, mem_ns, obj_ns, install_ns, late_ns, task_ns;
	int64_t done_ns;
	struct buf hashes;	     /* frames to be compared before restored is said */
	struct late_dest *late;	     /* post-copy: what has not come yet */
	struct load *load;	     /* the stream comes from a file; nobody is answered */
	unsigned int depth;	     /* of restore_fd() in itself */
	struct addresses *addresses; /* it is restored with others; NULL: as they were */
	struct yield *yield;
	struct lanes_in *lanes;	   /* lane.h; NULL: the one connection */
	json_t *lane_fds;	   /* in tests: their sockets */
	pthread_mutex_t pages_got; /* of every task's `got`, which lanes change too */
};
int restore_prepare(struct restore *r, json_t *args, json_t **answer, struct error *err);
/* What to poll for restore_pump(); *ready: no need to. */
int restore_poll_fd(const struct restore *r, bool *ready);
/* One event of the listening socket or the stream. */
int restore_pump(struct restore *r, struct error *err);
/* Where everything has come and storage is ready: builds the rest. */
int restore_build(struct restore *r, struct error *err);
int restore_run(struct restore *r, json_t **answer, struct error *err);
/* They run, and whoever asked for it has heard: what else there is to do. */
void restore_left(struct restore *r);
void restore_abort(struct restore *r);
void restore_free(struct restore *r);

/* restore_build.c */
/* What can be done with a process as soon as its own state has come, while the source still
 * sends what others have; what cannot, yet, restore_rest() does. */
int restore_ahead(struct restore *r, struct task *t, struct error *err);
/* Everything has come and storage is ready. */
int restore_rest(struct restore *r, struct error *err);
/*
 * Remote calls for all tasks that are no zombies, several tasks at once: start() for one,
 * with room of `size` bytes for what is between, then start() for the next ones, then end()
 * for the first. Both come in the order of the tasks.
 */
#define RESTORE_ABREAST 8
struct abreast {
	size_t size;
	int (*start)(struct restore *r, struct task *t, void *room, struct error *err);
	int (*end)(struct restore *r, struct task *t, void *room, struct error *err);
};
int restore_abreast(struct restore *r, const struct abreast *a, struct error *err);

/* restore_tree.c */
int restore_seize_init(struct restore *r, struct error *err);
int restore_tree(struct restore *r, const Ck__Tree *tree, struct error *err);
int restore_zombies(struct restore *r, struct error *err);
/* mem_restore.c */
int restore_layout(struct restore *r, const Ck__Layout *l, struct error *err);
int restore_pages(struct restore *r, const struct frame *f, struct error *err);
/* The same from a thread that is not the tasks' tracer: private pages with content only. */
int restore_pages_content(struct restore *r, const struct frame *f, struct error *err);
int restore_pending_files(struct restore *r, struct task *t, struct error *err);
/* Last protections, advice, mlock, guards; scratch is gone afterwards only by
 * restore_drop_scratch(). */
int restore_memory_finish(struct restore *r, struct task *t, struct error *err);
/* mem_shared_restore.c */
int restore_shared(struct restore *r, const Ck__Shared *m, struct error *err);
int restore_sysv(struct restore *r, struct shared *s, struct error *err);
int restore_sysv_finish(struct restore *r, struct shared *s, struct error *err);
int restore_shared_pages(struct restore *r, const struct page_run *run, uint16_t flags,
			 const void *data, struct error *err);
int restore_shared_finish(struct restore *r, struct error *err);
int restore_in_ns(struct restore *r, const char *ns, int (*fn)(void *arg), void *arg,
		  struct error *err);
/* fds_restore.c */
int restore_add_object(struct restore *r, const Ck__Object *m, struct error *err);
int restore_objects(struct restore *r, struct error *err);
int restore_objects_finish(struct restore *r, struct error *err);
/* Puts a copy of the engine's fd into the task; the number there, or -errno. */
int task_send_fd(struct task *t, int fd, struct error *err);
/* Closes what the stub had open, before it is known what the task had. */
void task_clear_fds(struct task *t);
void task_drop_sock(struct task *t);
/* seccomp.c: the filters of the container's init, installed before others are made. */
int restore_first_filters(struct restore *r, const Ck__Tree *tree, struct error *err);
/* What all threads of a process have beyond those, as one chain (SECCOMP_FILTER_FLAG_TSYNC):
 * how many of the leader's filters they have now, or -errno. */
int restore_common_filters(struct restore *r, struct task *t, struct error *err);
/* What a thread has beyond `have` of them. */
int restore_filters(struct thread *th, const Ck__Thread *m, size_t have, struct error *err);
/* restore_task.c */
/* What can be made while the source still sends: threads, what belongs to each, actions
 * of signals. `place`: what restore_task_place() and task_clear_fds() do as well. */
int restore_task_early(struct restore *r, struct task *t, bool place, struct error *err);
/* restore_place.c: paths, and what else belongs to the process and is no privilege: needs
 * its storage. */
int restore_task_place(struct restore *r, struct task *t, struct error *err);
/* The rest of all processes, in the order that privileges need. */
int restore_tasks_last(struct restore *r, struct error *err);
/* verify.c */
int restore_verify(struct restore *r, struct error *err);

#endif
