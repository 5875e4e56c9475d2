/* SPDX-License-Identifier: Apache-2.0 */
/* The manager's side of shim.h: connecting, asking, reading one answer. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/internal.h"
#include "runtime/container/shim.h"

int shim_connect(const struct container_manager *m, const char *id, struct error *err)
{
	CLEANUP_FREE char *dir = container_run(m, id, NULL);
	CLEANUP_CLOSE int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char path[64];

	if (fd < 0)
		return error_set(err, ESRCH, "container %.12s is not running", id);
	/* By descriptor: a socket's path may be 107 bytes long, ours need not fit. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/shim.sock", fd);
	return fd_unix_connect(path, err);
}

int shim_send(int sock, json_t *req, int fd, struct error *err)
{
	CLEANUP_FREE char *text = json_text(req);
	CLEANUP_BUF struct buf b = { 0 };
	unsigned char h[SHIM_HEADER];
	int r;

	json_decref(req);
	shim_header(h, SHIM_CONTROL, (uint32_t)strlen(text));
	buf_add(&b, h, sizeof(h));
	buf_add(&b, text, strlen(text));
	r = fd_send(sock, b.data, b.len, &fd, fd >= 0 ? 1 : 0);
	return r < 0 ? error_sys(err, -r, "asking the container's shim") : 0;
}

int shim_answer(int sock, json_t **out, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_JSON json_t *j = NULL;
	unsigned char h[SHIM_HEADER];
	uint32_t len = 0;
	int r = fd_read_all(sock, h, sizeof(h));

	if (!r && (h[0] != SHIM_CONTROL || shim_length(h) > SHIM_FRAME_MAX))
		r = -EPROTO;
	if (!r) {
		len = shim_length(h);
		text = mem_zalloc(len + 1);
		r = fd_read_all(sock, text, len);
	}
	if (r < 0)
		return r == -ENODATA || r == -ECONNRESET
			       ? error_set(err, ESRCH, "the container has ended")
			       : error_sys(err, -r, "reading from the container's shim");
	j = json_parse(text, len, "the shim's answer", err);
	if (!j)
		return -EPROTO;
	if (!json_bool(j, "ok", false))
		return error_set(err, (int)json_int(j, "code", EIO), "%s",
				 json_str(j, "error", "failed"));
	if (out)
		*out = json_incref(j);
	return 0;
}

int shim_ask(int sock, json_t *req, json_t **out, struct error *err)
{
	int r = shim_send(sock, req, -1, err);

	return r < 0 ? r : shim_answer(sock, out, err);
}
