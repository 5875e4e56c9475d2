/* SPDX-License-Identifier: Apache-2.0 */
/* Streamed bodies; see upload.h. */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "api/request.h"
#include "api/upload.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"

struct upload {
	struct request *req;
	int rd, wr;
	pthread_t thread;
	int result;
	struct error err;
};

static void *upload_thread(void *arg)
{
	struct upload *u = arg;

	u->result = u->req->route->upload(u->req, u->rd, &u->err);
	close(u->rd); /* a writer that is still busy gets EPIPE */
	return NULL;
}

int upload_start(struct request *req, struct upload **out, struct error *err)
{
	struct upload *u = mem_zalloc(sizeof(*u));
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		r = errno;
		free(u);
		return error_sys(err, r, "making a pipe");
	}
	u->req = req;
	u->rd = fds[0];
	u->wr = fds[1];
	r = pthread_create(&u->thread, NULL, upload_thread, u);
	if (r) {
		close(fds[0]);
		close(fds[1]);
		free(u);
		return error_sys(err, r, "starting a thread");
	}
	*out = u;
	return 0;
}

void upload_write(struct upload *u, const char *data, size_t len)
{
	if (u->wr >= 0 && fd_write_all(u->wr, data, len) < 0)
		close(TAKE_FD(u->wr));
}

int upload_finish(struct upload **upload, struct error *err)
{
	struct upload *u = TAKE_PTR(*upload);
	int r;

	if (u->wr >= 0)
		close(u->wr);
	pthread_join(u->thread, NULL);
	r = u->result;
	if (r < 0 && err)
		*err = u->err;
	free(u);
	return r;
}
