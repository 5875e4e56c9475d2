/* SPDX-License-Identifier: Apache-2.0 */
/* A pipe between two that both block; fabric/internal.h is the contract. */
#include <fcntl.h>
#include <unistd.h>

#include "fabric/internal.h"

static void *run(void *arg)
{
	struct pump *p = arg;

	p->result = p->write(p->ctx, p->fd, &p->err);
	close(p->fd);
	return NULL;
}

int pump_start(struct pump *p, int *rd, struct error *err)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_sys(err, errno, "making a pipe");
	p->fd = fds[1];
	r = pthread_create(&p->thread, NULL, run, p);
	if (r) {
		close(fds[0]);
		close(fds[1]);
		return error_sys(err, r, "starting a thread");
	}
	*rd = fds[0];
	return 0;
}

int pump_receive(void *ctx, int fd, struct error *err)
{
	return rpc_stream_receive_fd(ctx, fd, NULL, err);
}

int pump_join(struct pump *p, int rd)
{
	close(rd);
	pthread_join(p->thread, NULL);
	return p->result;
}

int pump_end(struct pump *p, int rd, int r, struct error *err)
{
	if (pump_join(p, rd) < 0 && r >= 0)
		return error_set(err, -p->result, "%s", p->err.msg);
	return r < 0 ? r : 0;
}
