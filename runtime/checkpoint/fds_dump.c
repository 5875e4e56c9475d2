/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: descriptors of all tasks, made into open file descriptions. Two descriptors
 * are the same description where kcmp says so; each description is duplicated into the
 * engine once and handed to the file that knows its kind.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "runtime/checkpoint/core.h"

/* From so many descriptors of a process on it pays to ask for them in another way. */
#define MANY 32
/* Objects wait for at most so many bytes of others, when they are sent. */
#define FLUSH (8 << 10)

static void ofd_free(struct ofd *o)
{
	if (o->fd >= 0)
		close(o->fd);
	free(o->link);
	free(o->fdinfo);
	free(o->holders);
	free(o->priv);
	free(o);
}

void dump_drop_fds(struct dump *d)
{
	for (size_t i = 0; i < d->nofds; i++)
		ofd_free(d->ofds[i]);
	free(d->ofds);
	free(d->by_ino);
	d->ofds = NULL;
	d->by_ino = NULL;
	d->nofds = d->nby_ino = 0;
}

/* Descriptions by inode, since there may be ten thousand: chains of a hash table. */
static struct ofd **chain(struct dump *d, ino_t ino)
{
	return &d->by_ino[(ino * 0x9e3779b97f4a7c15u >> 32) & (d->nby_ino - 1)];
}

/* The last one, whose st is known now. */
static void note_ino(struct dump *d)
{
	size_t first = d->nofds - 1;

	if (d->nofds > d->nby_ino) {
		free(d->by_ino);
		d->nby_ino = d->nby_ino ? 4 * d->nby_ino : 256;
		d->by_ino = mem_zalloc(d->nby_ino * sizeof(struct ofd *));
		first = 0;
	}
	for (size_t i = first; i < d->nofds; i++) {
		struct ofd **c = chain(d, d->ofds[i]->st.st_ino);

		d->ofds[i]->same_chain = *c;
		*c = d->ofds[i];
	}
}

static struct ofd *first_of_ino(struct dump *d, ino_t ino)
{
	return d->nby_ino ? *chain(d, ino) : NULL;
}

static void add_holder(struct ofd *o, struct task *t, int num, bool cloexec)
{
	o->holders = mem_grow(o->holders, o->nholders + 1, sizeof(*o->holders));
	o->holders[o->nholders++] = (struct ofd_holder){ t, num, cloexec };
}

static bool same_file(const struct ofd *o, struct task *t, int num)
{
	if (o->task)
		return syscall(SYS_kcmp, t->pid, o->task->pid, KCMP_FILE, num, o->num) == 0;
	return syscall(SYS_kcmp, t->pid, getpid(), KCMP_FILE, num, o->fd) == 0;
}

static struct ofd *new_ofd(struct dump *d, int fd)
{
	struct ofd *o = mem_zalloc(sizeof(*o));

	o->id = ++d->next_id;
	o->fd = fd;
	o->num = -1;
	d->ofds = mem_grow(d->ofds, d->nofds + 1, sizeof(*d->ofds));
	d->ofds[d->nofds++] = o;
	return o;
}

/* A socket itself; an O_PATH descriptor of a socket's name lies on another file system. */
static bool is_socket(const struct stat *st)
{
	static dev_t sockfs;

	if (S_ISSOCK(st->st_mode) && !sockfs) {
		CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		struct stat own;

		if (fd >= 0 && fstat(fd, &own) == 0)
			sockfs = own.st_dev;
	}
	return S_ISSOCK(st->st_mode) && st->st_dev == sockfs;
}

static char *read_link(const char *path)
{
	char to[4200];
	ssize_t n = readlink(path, to, sizeof(to) - 1);

	if (n < 0)
		return str_dup("");
	to[n] = '\0';
	return str_dup(to);
}

static bool is_external(struct dump *d, const char *link)
{
	size_t i;
	json_t *e;

	/* A container without stdin has the null device there: that is nobody's own. */
	if (strcmp(link, "/dev/null") == 0)
		return false;
	json_array_foreach (d->externals, i, e) {
		const char *l = json_string_value(json_object_get(e, "link"));

		if (l && strcmp(l, link) == 0)
			return true;
	}
	return false;
}

/* fdinfo of a descriptor, and whether it is close-on-exec. */
static int read_info(const struct task *t, int num, char **info, bool *cloexec)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/fdinfo/%d", t->pid, num);
	int r = file_read(path, 16 << 20, info, NULL, NULL);
	const char *flags = r < 0 ? NULL : strstr(*info, "flags:");

	*cloexec = flags && (strtoul(flags + 6, NULL, 8) & O_CLOEXEC);
	return r;
}

/* Where `known`, *cloexec is as it is. 0, or -EBADF: there is no such descriptor. */
static int add_fd(struct dump *d, struct task *t, int num, bool known, bool cloexec,
		  struct error *err)
{
	CLEANUP_CLOSE int fd = (int)syscall(SYS_pidfd_getfd, t->pidfd, num, 0);
	CLEANUP_FREE char *info = NULL;
	struct stat st;
	struct ofd *o;

	if (fd < 0 && (errno == EBADF || !d->seized))
		return -EBADF;
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_sys(err, errno, "taking descriptor %d of process %d", num, t->vpid);
	for (o = first_of_ino(d, st.st_ino); o; o = o->same_chain)
		if (o->st.st_ino == st.st_ino && o->st.st_dev == st.st_dev && same_file(o, t, num))
			break;
	/* of a socket there is nothing to be read that its own calls do not tell */
	if ((!known || (!o && (!d->seized || !is_socket(&st)))) &&
	    read_info(t, num, &info, &cloexec) < 0)
		return d->seized
			       ? error_sys(err, errno, "descriptor %d of process %d", num, t->vpid)
			       : -EBADF;
	if (o) {
		add_holder(o, t, num, cloexec);
		if (!o->task) {
			o->task = t;
			o->num = num;
		}
		return 0;
	}
	o = new_ofd(d, TAKE_FD(fd));
	o->task = t;
	o->num = num;
	o->st = st;
	note_ino(d);
	if (is_socket(&st)) {
		o->link = str_format("socket:[%llu]", (unsigned long long)st.st_ino);
	} else {
		CLEANUP_FREE char *path = str_format("/proc/%d/fd/%d", t->pid, num);

		o->link = read_link(path);
	}
	o->fdinfo = info ? TAKE_PTR(info) : str_dup("");
	o->flags = fcntl(o->fd, F_GETFL);
	o->kind = is_external(d, o->link) ? NULL : object_type_for(o);
	add_holder(o, t, num, cloexec);
	return 0;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* By the folder in /proc, which makes an inode for each: some 10 µs a descriptor. */
static int *list_numbers(const struct task *t, size_t *n)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/fd", t->pid);
	CLEANUP_CLOSEDIR DIR *dir = opendir(path);
	int *nums = NULL;
	struct dirent *e;

	*n = 0;
	while (dir && (e = readdir(dir)))
		if (e->d_name[0] != '.') {
			nums = mem_grow(nums, *n + 1, sizeof(*nums));
			nums[(*n)++] = atoi(e->d_name);
		}
	if (*n)
		qsort(nums, *n, sizeof(*nums), by_number);
	return nums;
}

/*
 * All numbers that there can be, where most of them are in use: to try one costs less than
 * to be told of it. *open gets how many of them are. NULL: the folder must be read. The
 * folder's size tells how many there are since Linux 6.2.
 */
static int *try_numbers(const struct dump *d, const struct task *t, size_t *n, size_t *open)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/fd", t->pid);
	CLEANUP_FREE char *status_path = str_format("/proc/%d/status", t->pid);
	CLEANUP_FREE char *status = NULL;
	char line[32];
	struct stat st;
	int *nums;

	if (!d->seized || stat(path, &st) < 0 || st.st_size < MANY ||
	    file_read(status_path, 65536, &status, NULL, NULL) < 0 ||
	    !status_field(status, "FDSize", line, sizeof(line)))
		return NULL;
	*open = (size_t)st.st_size;
	*n = strtoul(line, NULL, 10);
	if (*n < *open || *n > 4 * *open)
		return NULL;
	nums = mem_zalloc(*n * sizeof(*nums));
	for (size_t i = 0; i < *n; i++)
		nums[i] = (int)i;
	return nums;
}

/*
 * The process itself says which of its descriptors are close-on-exec: bytes of 1 or 0, 2 for
 * a number that is not in use. NULL: fdinfo must be read.
 */
static uint8_t *ask_cloexec(struct dump *d, struct task *t, const int *nums, size_t n)
{
	CLEANUP_FREE struct remote_batch *b = NULL;
	uint8_t *out;

	if (!d->seized || n < MANY || !t->nthreads || !t->threads[0].stopped)
		return NULL;
	b = mem_zalloc(sizeof(*b));
	out = mem_zalloc(n);
	for (size_t i = 0; i < n; i += REMOTE_CALLS) {
		remote_batch_begin(b, &t->threads[0]);
		for (size_t k = i; k < n && k < i + REMOTE_CALLS; k++)
			remote_batch_add(b, SYS_fcntl, (unsigned long)nums[k], F_GETFD, 0, 0, 0, 0);
		if (remote_batch_run(b) < 0) {
			free(out);
			return NULL;
		}
		for (size_t k = 0; k < b->n; k++)
			out[i + k] = b->c[k].ret < 0 ? 2 : b->c[k].ret & FD_CLOEXEC;
	}
	return out;
}

static int collect_table(struct dump *d, struct task *t, int *nums, size_t n, size_t *found,
			 struct error *err)
{
	CLEANUP_FREE uint8_t *cloexec = ask_cloexec(d, t, nums, n);

	*found = 0;
	for (size_t k = 0; k < n; k++) {
		int r;

		if (cloexec && cloexec[k] > 1)
			continue;
		r = add_fd(d, t, nums[k], cloexec != NULL, cloexec && cloexec[k], err);
		if (r < 0 && r != -EBADF)
			return r;
		*found += r == 0;
	}
	return 0;
}

int dump_collect_fds(struct dump *d, struct error *err)
{
	dump_drop_fds(d);
	for (size_t i = 0; i < d->tasks.n; i++) {
		struct task *t = d->tasks.t[i];
		size_t n = 0, open = 0, found;
		CLEANUP_FREE int *nums = NULL;
		int r;

		if (t->zombie || tasks_files_owner(&d->tasks, t) != t)
			continue;
		nums = try_numbers(d, t, &n, &open);
		if (!nums)
			nums = list_numbers(t, &n);
		open = open ? open : n;
		r = collect_table(d, t, nums, n, &found, err);
		if (r < 0)
			return r;
		if (d->seized && found != open)
			return error_set(err, EPROTO,
					 "process %d has %zu descriptors, of which %zu "
					 "can be taken",
					 t->vpid, open, found);
	}
	return 0;
}

struct ofd *dump_ofd(struct dump *d, const struct task *t, int num)
{
	if (t->share[SHARE_FILES])
		t = tasks_files_owner(&d->tasks, tasks_by_vpid(&d->tasks, t->vpid));
	for (size_t i = 0; i < d->nofds; i++)
		for (size_t h = 0; h < d->ofds[i]->nholders; h++)
			if (d->ofds[i]->holders[h].task == t && d->ofds[i]->holders[h].num == num)
				return d->ofds[i];
	return NULL;
}

struct ofd *dump_ofd_by_id(struct dump *d, uint32_t id)
{
	for (size_t i = 0; i < d->nofds; i++)
		if (d->ofds[i]->id == id)
			return d->ofds[i];
	return NULL;
}

size_t dump_ofd_count(const struct dump *d)
{
	return d->nofds;
}

struct ofd *dump_ofd_at(struct dump *d, size_t i)
{
	return i < d->nofds ? d->ofds[i] : NULL;
}

struct ofd *dump_add_fd(struct dump *d, int fd, struct error *err)
{
	CLEANUP_FREE char *path = str_format("/proc/self/fd/%d", fd);
	CLEANUP_FREE char *info = str_format("/proc/self/fdinfo/%d", fd);
	struct stat st;
	struct ofd *o;

	if (fstat(fd, &st) < 0) {
		error_sys(err, errno, "a descriptor in flight");
		close(fd);
		return NULL;
	}
	for (o = first_of_ino(d, st.st_ino); o; o = o->same_chain) {
		if (o->st.st_ino == st.st_ino && o->st.st_dev == st.st_dev &&
		    syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, fd, o->fd) == 0) {
			close(fd);
			return o;
		}
	}
	o = new_ofd(d, fd);
	o->st = st;
	note_ino(d);
	o->link = read_link(path);
	if (file_read(info, 16 << 20, &o->fdinfo, NULL, NULL) < 0)
		o->fdinfo = str_dup("");
	o->flags = fcntl(fd, F_GETFL);
	o->kind = is_external(d, o->link) ? NULL : object_type_for(o);
	return o;
}

static const char *external_name(struct dump *d, const struct ofd *o)
{
	size_t i;
	json_t *e;

	json_array_foreach (d->externals, i, e) {
		const char *l = json_string_value(json_object_get(e, "link"));

		if (l && strcmp(l, o->link) == 0)
			return json_string_value(json_object_get(e, "name"));
	}
	return NULL;
}

int dump_send_object(struct dump *d, const char *type, const struct buf *body, struct error *err)
{
	Ck__Object m = CK__OBJECT__INIT;

	m.id = ++d->next_id;
	m.type = (char *)(uintptr_t)type;
	m.body.data = (uint8_t *)body->data;
	m.body.len = body->len;
	return stream_send_msg(d->s, FRAME_OBJECT, &m.base, err);
}

static int one_object(struct dump *d, struct ofd *o, struct error *err)
{
	CLEANUP_BUF struct buf body = { 0 };
	const char *name = o->kind ? NULL : external_name(d, o);
	Ck__Object m = CK__OBJECT__INIT;
	int r;

	m.id = o->id;
	if (name) {
		m.type = (char *)(uintptr_t) "external";
		buf_add(&body, name, strlen(name));
	} else if (!o->kind) {
		return error_set(err, EPROTO,
				 "process %d has %s open as descriptor %d, which cannot travel",
				 o->task ? o->task->vpid : 0, o->link, o->num);
	} else {
		m.type = (char *)(uintptr_t)o->kind->type;
		o->dumped = true;
		r = o->kind->dump(d, o, &body, err);
		if (r < 0)
			return error_wrap(err, "descriptor %d (%s) of process %d", o->num, o->link,
					  o->task ? o->task->vpid : 0);
	}
	m.body.data = (uint8_t *)body.data;
	m.body.len = body.len;
	r = stream_send_msg(d->s, FRAME_OBJECT, &m.base, err);
	/* what comes soon is made soon: the destination has a processor of its own */
	return r < 0 ? r : stream_flush_over(d->s, FLUSH, err);
}

int dump_object(struct dump *d, struct ofd *o, struct error *err)
{
	int r = o->sent ? 0 : one_object(d, o, err);

	o->sent |= r == 0;
	return r;
}

static int fd_table(struct dump *d, struct task *t, struct error *err)
{
	Ck__FdTable m = CK__FD_TABLE__INIT;
	CLEANUP_FREE Ck__Descriptor *fds = NULL;
	CLEANUP_FREE Ck__Descriptor **list = NULL;
	size_t n = 0;

	for (size_t i = 0; i < d->nofds; i++)
		for (size_t h = 0; h < d->ofds[i]->nholders; h++) {
			const struct ofd_holder *ho = &d->ofds[i]->holders[h];

			if (ho->task != t)
				continue;
			fds = mem_grow(fds, n + 1, sizeof(*fds));
			ck__descriptor__init(&fds[n]);
			fds[n].num = (uint32_t)ho->num;
			fds[n].id = d->ofds[i]->id;
			fds[n++].cloexec = ho->cloexec;
		}
	list = mem_zalloc((n + 1) * sizeof(*list));
	for (size_t i = 0; i < n; i++)
		list[i] = &fds[i];
	m.vpid = (uint32_t)t->vpid;
	m.n_fds = n;
	m.fds = list;
	return stream_send_msg(d->s, FRAME_FDTABLE, &m.base, err);
}

int dump_objects(struct dump *d, struct error *err)
{
	int r = 0;

	/* dump() may add descriptors in flight behind the end. */
	for (size_t i = 0; i < d->nofds && r == 0; i++)
		r = dump_object(d, d->ofds[i], err);
	for (size_t i = 0; i < d->tasks.n && r == 0; i++)
		if (!d->tasks.t[i]->zombie)
			r = fd_table(d, d->tasks.t[i], err);
	return r;
}

void dump_undo_objects(struct dump *d)
{
	for (size_t i = d->nofds; i-- > 0;) {
		struct ofd *o = d->ofds[i];

		if (o->dumped && o->kind && o->kind->dump_undo)
			o->kind->dump_undo(d, o);
		o->dumped = false;
	}
}
