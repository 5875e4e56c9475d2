// SPDX-License-Identifier: Apache-2.0
/*
 * Backend "fuse": a FUSE file system that consists of one file, its root, and a loop
 * device with direct I/O on that file. The file system is mounted nowhere (fsopen,
 * fsmount), so no other process can reach the file and nothing is left in any mount table.
 *
 *   ext4 → /dev/loopN → FUSE request → serve() → core_submit() → image
 *                     ◄─ reply ◄────── done() ◄── image's thread
 *
 * Requests are asynchronous: a serving thread hands a request on and reads the next. Small
 * writes are copied out of the receive buffer, large ones keep it until they are done.
 *
 * Why descriptors are ordered: when a vold is killed, the kernel closes its descriptors
 * from the highest down. /dev/fuse must go before the loop device, whose last close writes
 * back what is cached, through a FUSE connection that nobody answers if it is still there.
 */
#define FUSE_USE_VERSION 312
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/falloc.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "volumes/loop.h"
#include "volumes/vold/backend.h"
#include "volumes/vold/core.h"

#define SMALL_WRITE    (64u << 10) /* up to here a copy is cheaper than a fresh buffer */
#define SPARE_BUFFERS  64
#define MAX_BACKGROUND 256
#define THREADS	       2
#define FOREVER	       1e9 /* seconds the kernel may keep attributes */
#define FUSE_FD_MIN    64  /* above every descriptor that is opened earlier */

struct fuse_backend {
	struct core *core;
	struct fuse_session *session;
	_Atomic uint64_t size;
	bool read_only;
	int loop;
	char *device;
	int file; /* the FUSE file, kept to refresh its size */

	pthread_mutex_t lock;
	void *spare[SPARE_BUFFERS]; /* receive buffers that came back */
	unsigned nspare;
};

struct request {
	struct vold_io io; /* first */
	fuse_req_t req;
	struct fuse_backend *be;
	void *owned; /* receive buffer that holds the data; NULL */
	char data[];
};

/* The buffer that this thread's current request lies in; taken: set to NULL. */
static __thread void **current_buffer;

static void buffer_give_back(struct fuse_backend *be, void *buf)
{
	pthread_mutex_lock(&be->lock);
	if (be->nspare < SPARE_BUFFERS) {
		be->spare[be->nspare++] = buf;
		buf = NULL;
	}
	pthread_mutex_unlock(&be->lock);
	free(buf);
}

/* NULL: libfuse allocates one of its own size. */
static void *buffer_take(struct fuse_backend *be)
{
	void *buf = NULL;

	pthread_mutex_lock(&be->lock);
	if (be->nspare)
		buf = be->spare[--be->nspare];
	pthread_mutex_unlock(&be->lock);
	return buf;
}

/* --- requests ----------------------------------------------------------------------------- */

static void request_done(struct vold_io *io, int res)
{
	struct request *r = (struct request *)io;

	if (res)
		fuse_reply_err(r->req, -res);
	else if (io->op == VOLD_READ)
		fuse_reply_buf(r->req, io->buf, io->length);
	else if (io->op == VOLD_WRITE)
		fuse_reply_write(r->req, io->length);
	else
		fuse_reply_err(r->req, 0);
	if (r->owned)
		buffer_give_back(r->be, r->owned);
	free(r);
}

static struct request *request_new(fuse_req_t req, enum vold_op op, uint64_t offset, size_t length,
				   size_t room)
{
	struct request *r = malloc(sizeof(*r) + room);

	if (!r) {
		fuse_reply_err(req, ENOMEM);
		return NULL;
	}
	r->io = (struct vold_io){
		.op = op, .offset = offset, .length = length, .buf = r->data, .done = request_done
	};
	r->req = req;
	r->be = fuse_req_userdata(req);
	r->owned = NULL;
	return r;
}

/* The kernel never reads past the end of the device; a range that does is cut. */
static size_t clamp(fuse_req_t req, uint64_t offset, size_t length)
{
	struct fuse_backend *be = fuse_req_userdata(req);
	uint64_t size = be->size;

	if (offset >= size)
		return 0;
	return length < size - offset ? length : (size_t)(size - offset);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct request *r;

	(void)ino, (void)fi;
	size = clamp(req, (uint64_t)off, size);
	if (!size) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	r = request_new(req, VOLD_READ, (uint64_t)off, size, size);
	if (r)
		core_submit(r->be->core, &r->io);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	bool copy = size <= SMALL_WRITE || !current_buffer || !*current_buffer;
	struct request *r;

	(void)ino, (void)fi;
	if (!size || clamp(req, (uint64_t)off, size) != size) {
		fuse_reply_err(req, size ? ENOSPC : EINVAL);
		return;
	}
	r = request_new(req, VOLD_WRITE, (uint64_t)off, size, copy ? size : 0);
	if (!r)
		return;
	if (copy) {
		memcpy(r->data, buf, size);
	} else {
		r->owned = *current_buffer;
		r->io.buf = (void *)(uintptr_t)buf;
		*current_buffer = NULL;
	}
	core_submit(r->be->core, &r->io);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct request *r = request_new(req, VOLD_FLUSH, 0, 0, 0);

	(void)ino, (void)datasync, (void)fi;
	if (r)
		core_submit(r->be->core, &r->io);
}

/* The loop driver's discard and write-zeroes arrive as hole punching and zeroing. */
static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct request *r;
	size_t size;

	(void)ino, (void)fi;
	if (!(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	size = clamp(req, (uint64_t)offset, (size_t)length);
	if (!size) {
		fuse_reply_err(req, 0);
		return;
	}
	r = request_new(req, VOLD_ZERO, (uint64_t)offset, size, 0);
	if (r)
		core_submit(r->be->core, &r->io);
}

/* --- the rest of a file system ------------------------------------------------------------ */

static void attributes(const struct fuse_backend *be, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = FUSE_ROOT_ID;
	st->st_mode = S_IFREG | 0600;
	st->st_nlink = 1;
	st->st_size = (off_t)be->size;
	st->st_blocks = (blkcnt_t)(be->size / 512);
	st->st_blksize = VOLD_BLOCK;
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)ino, (void)fi;
	attributes(fuse_req_userdata(req), &st);
	fuse_reply_attr(req, &st, FOREVER);
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	(void)attr, (void)to_set; /* times: nobody looks at them */
	on_getattr(req, ino, fi);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->direct_io = 1;
	fi->keep_cache = 0;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, 0);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fuse_backend *be = fuse_req_userdata(req);
	struct statvfs st = { .f_bsize = VOLD_BLOCK,
			      .f_frsize = VOLD_BLOCK,
			      .f_namemax = 255,
			      .f_blocks = be->size / VOLD_BLOCK,
			      .f_files = 1 };

	(void)ino;
	fuse_reply_statfs(req, &st); /* f_bsize becomes the device's discard granularity */
}

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want |= conn->capable & (FUSE_CAP_ASYNC_DIO | FUSE_CAP_ASYNC_READ);
	conn->max_write = VOLD_MAX_IO;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND;
}

static const struct fuse_lowlevel_ops operations = {
	.init = on_init,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.open = on_open,
	.release = on_release,
	.read = on_read,
	.write = on_write,
	.fsync = on_fsync,
	.fallocate = on_fallocate,
	.statfs = on_statfs,
};

static void *serve(void *arg)
{
	struct fuse_backend *be = arg;
	struct fuse_buf buf = { 0 };

	current_buffer = &buf.mem;
	while (!fuse_session_exited(be->session)) {
		int n;

		if (!buf.mem)
			buf.mem = buffer_take(be);
		n = fuse_session_receive_buf(be->session, &buf);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			break; /* ENODEV: the file system is gone */
		fuse_session_process_buf(be->session, &buf);
	}
	current_buffer = NULL;
	free(buf.mem);
	return NULL;
}

/* --- making the device -------------------------------------------------------------------- */

static int fs_open(const char *type)
{
	return (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
}

static int fs_set(int fs, const char *key, const char *value)
{
	/* FSCONFIG_SET_STRING 1, FSCONFIG_CMD_CREATE 6 */
	return (int)syscall(SYS_fsconfig, fs, key ? 1 : 6, key, value, 0);
}

static int fs_mount(int fs)
{
	return (int)syscall(SYS_fsmount, fs, 1 /* FSMOUNT_CLOEXEC */, 0);
}

/* The mount of a FUSE file system whose root is a regular file, attached nowhere. */
static int mount_file(int fuse, struct error *err)
{
	CLEANUP_CLOSE int fs = fs_open("fuse");
	char number[16];
	int mount;

	if (fs < 0)
		return error_sys(err, errno, "FUSE (is the kernel module loaded?)");
	snprintf(number, sizeof(number), "%d", fuse);
	if (fs_set(fs, "source", "ferry-vold") < 0 || fs_set(fs, "fd", number) < 0 ||
	    fs_set(fs, "rootmode", "100600") < 0 || fs_set(fs, "user_id", "0") < 0 ||
	    fs_set(fs, "group_id", "0") < 0 || fs_set(fs, NULL, NULL) < 0)
		return error_sys(err, errno, "making the FUSE file system");
	mount = fs_mount(fs);
	return mount < 0 ? error_sys(err, errno, "mounting the FUSE file system") : mount;
}

static int open_session(struct fuse_backend *be, int fuse, struct error *err)
{
	char *argv[] = { "ferry-vold", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	char path[32];

	be->session = fuse_session_new(&args, &operations, sizeof(operations), be);
	fuse_opt_free_args(&args);
	snprintf(path, sizeof(path), "/dev/fd/%d", fuse);
	if (!be->session || fuse_session_mount(be->session, path) != 0)
		return error_set(err, EIO, "starting a FUSE session");
	for (int i = 0; i < THREADS; i++) {
		pthread_t thread;
		int rc = pthread_create(&thread, NULL, serve, be);

		if (rc)
			return error_sys(err, rc, "starting a thread");
		pthread_detach(thread);
	}
	return 0;
}

static int open_file(int mount, bool read_only, struct error *err)
{
	char path[48];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", mount);
	fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	return fd < 0 ? error_sys(err, errno, "opening the FUSE file") : fd;
}

static int move_fd(int fd, int min)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, min);

	close(fd);
	return moved;
}

static int fuse_start(struct core *core, uint64_t size, bool read_only, void **state,
		      struct error *err)
{
	struct fuse_backend *be = mem_zalloc(sizeof(*be));
	struct loop_options lo = { .block_size = VOLD_BLOCK,
				   .read_only = read_only,
				   .autoclear = true };
	CLEANUP_CLOSE int mount = -1;
	int fuse, rc;

	be->core = core;
	be->size = size;
	be->read_only = read_only;
	pthread_mutex_init(&be->lock, NULL);
	mallopt(M_MMAP_THRESHOLD, 8 << 20); /* buffers of up to 1 MiB come and go */
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0)
		return error_sys(err, errno, "opening /dev/fuse");
	fuse = move_fd(fuse, FUSE_FD_MIN); /* see the top */
	if (fuse < 0)
		return error_sys(err, errno, "moving a descriptor");
	mount = mount_file(fuse, err);
	if (mount < 0)
		return mount;
	rc = open_session(be, fuse, err);
	if (rc)
		return rc;
	be->file = open_file(mount, read_only, err);
	if (be->file < 0)
		return be->file;
	be->loop = loop_attach(be->file, &lo, &be->device, err);
	if (be->loop < 0)
		return be->loop;
	if (be->loop > fuse) {
		int low = fcntl(be->loop, F_DUPFD_CLOEXEC, 3);

		if (low >= 0 && low < fuse) {
			close(be->loop);
			be->loop = low;
		}
	}
	*state = be;
	return 0;
}

static int fuse_probe(struct error *err)
{
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return error_sys(err, errno, "/dev/fuse");
	if (access("/dev/loop-control", R_OK | W_OK) < 0)
		return error_sys(err, errno, "/dev/loop-control");
	return 0;
}

static const char *fuse_device(void *state)
{
	return ((struct fuse_backend *)state)->device;
}

static int fuse_resize(void *state, uint64_t size, struct error *err)
{
	struct fuse_backend *be = state;
	struct stat st;
	int rc;

	if (be->size == size)
		return 0;
	be->size = size;
	fuse_lowlevel_notify_inval_inode(be->session, FUSE_ROOT_ID, -1, 0);
	if (fstat(be->file, &st) < 0) /* makes the kernel ask */
		return error_sys(err, errno, "refreshing the size of the FUSE file");
	rc = loop_resize(be->loop);
	return rc ? error_sys(err, -rc, "resizing %s", be->device) : 0;
}

/* The serving threads stay: what is in flight is answered until the process ends. */
static void fuse_stop(void *state)
{
	struct fuse_backend *be = state;
	int rc = loop_clear(be->loop);

	if (rc)
		log_warn("freeing %s: %s", be->device, strerror(-rc));
	close(be->loop);
	close(be->file);
}

static const struct vold_backend backend_fuse = {
	.name = "fuse",
	.probe = fuse_probe,
	.start = fuse_start,
	.device = fuse_device,
	.resize = fuse_resize,
	.stop = fuse_stop,
};

const struct vold_backend *const vold_backends[] = { &backend_fuse, NULL };

const struct vold_backend *vold_backend_find(const char *name, struct error *err)
{
	struct error why = { 0 };

	for (size_t i = 0; vold_backends[i]; i++) {
		if (name && strcmp(name, vold_backends[i]->name) != 0)
			continue;
		error_clear(&why);
		if (vold_backends[i]->probe(&why) == 0)
			return vold_backends[i];
		error_set(err, ENODEV, "attach backend %s does not work here: %s",
			  vold_backends[i]->name, why.msg);
		if (name)
			return NULL;
	}
	if (name)
		error_set(err, EINVAL, "no such attach backend: %s", name);
	return NULL;
}
