/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server: libmicrohttpd's callbacks on one side, struct route and struct request
 * on the other. A request comes in pieces: first its head (the route is found, and refused
 * bodies are known), then its body (collected, or given to an upload thread through a
 * pipe), at last the call that answers. libmicrohttpd allows no answer in the middle of a
 * body, so what is refused early is read and dropped.
 */
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api/server.h"
#include "api/upload.h"
#include "api/version.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"

#define BODY_MAX_BYTES (16u << 20)
/* Head of a request, and the piece of a body read at once. */
#define CONNECTION_MEMORY (128u << 10)
#define CONNECTION_STACK  (1u << 20)
#define CONNECTIONS	  8192u

struct server {
	struct MHD_Daemon *daemon;
	struct fabric *fabric;
	const struct route *const *tables;
	size_t ntables;
	int stop_fd;
	pthread_mutex_t lock; /* guards active */
	pthread_cond_t idle;
	unsigned int active; /* requests and streams that may use the fabric */
};

void server_hold(struct server *s)
{
	pthread_mutex_lock(&s->lock);
	s->active++;
	pthread_mutex_unlock(&s->lock);
}

void server_release(struct server *s)
{
	pthread_mutex_lock(&s->lock);
	if (!--s->active)
		pthread_cond_broadcast(&s->idle);
	pthread_mutex_unlock(&s->lock);
}

int request_stop_fd(const struct request *req)
{
	return req->server->stop_fd;
}

/* --- answers ------------------------------------------------------------------------------- */

void reply_response(struct request *req, int status, struct MHD_Response *response)
{
	if (req->response)
		MHD_destroy_response(req->response);
	req->response = response;
	req->response_status = status;
}

void reply_header(struct request *req, const char *name, const char *value)
{
	MHD_add_response_header(req->response, name, value);
}

int reply_text(struct request *req, int status, const char *type, const char *text, size_t len)
{
	reply_response(req, status,
		       MHD_create_response_from_buffer(len, (void *)(uintptr_t)text,
						       MHD_RESPMEM_MUST_COPY));
	reply_header(req, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	return 0;
}

int reply_json(struct request *req, int status, json_t *body)
{
	char *text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);
	size_t len;

	json_decref(body);
	if (!text)
		text = str_dup("null");
	len = strlen(text);
	text = mem_grow(text, len + 2, 1);
	text[len++] = '\n';
	text[len] = '\0';
	reply_response(req, status,
		       MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE));
	reply_header(req, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	return 0;
}

const char *request_header(const struct request *req, const char *name)
{
	return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, name);
}

int reply_empty(struct request *req, int status)
{
	reply_response(req, status,
		       MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
	return 0;
}

int reply_error(struct request *req, int status, const struct error *err)
{
	return reply_json(req, status,
			  json_pack("{s:s}", "message", err->msg[0] ? err->msg : "unknown error"));
}

int reply_done(struct request *req, int r, int status)
{
	return r < 0 ? r : reply_empty(req, status);
}

/* --- a request, piece by piece ------------------------------------------------------ */

static enum MHD_Result add_query(void *cls, enum MHD_ValueKind kind, const char *key,
				 const char *value)
{
	(void)kind;
	query_add(cls, key, value);
	return MHD_YES;
}

static void refuse(struct request *req, int status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void refuse(struct request *req, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(req->refusal.msg, sizeof(req->refusal.msg), fmt, ap);
	va_end(ap);
	req->status = status;
}

static void find_route(struct request *req, const char *method, const char *path)
{
	bool head = !strcmp(method, "HEAD");

	for (size_t t = 0; t < req->server->ntables; t++) {
		for (const struct route *r = req->server->tables[t]; r->method; r++) {
			/* HEAD is GET without a body, unless a row of its own stands before. */
			if (strcmp(r->method, method) && !(head && !strcmp(r->method, "GET")))
				continue;
			if (!route_match(r->pattern, path, &req->arg))
				continue;
			req->route = r;
			if (r->refusal)
				refuse(req, 501, "%s", r->refusal);
			return;
		}
	}
	refuse(req, 404, "page not found");
}

/* Docker takes JSON bodies only where they say so; a browser's form cannot. */
static void check_type(struct request *req, const char *path)
{
	const char *type = request_header(req, MHD_HTTP_HEADER_CONTENT_TYPE);
	const char *length = request_header(req, MHD_HTTP_HEADER_CONTENT_LENGTH);
	const char *coding = request_header(req, MHD_HTTP_HEADER_TRANSFER_ENCODING);
	size_t n = strlen("application/json");

	if (req->status || (req->route->body != BODY_JSON && req->route->body != BODY_OPTIONAL) ||
	    str_starts(path, "/ferry/") || (!coding && (!length || !strcmp(length, "0"))))
		return;
	if (!type)
		type = "";
	if (strncasecmp(type, "application/json", n) ||
	    (type[n] && type[n] != ';' && type[n] != ' '))
		refuse(req, 400,
		       "unsupported Content-Type header (%.100s): must be 'application/json'",
		       type);
}

static struct request *request_begin(struct server *s, struct MHD_Connection *connection,
				     const char *url, const char *method)
{
	struct request *req = mem_zalloc(sizeof(*req));
	const char *path = url;

	server_hold(s);
	req->server = s;
	req->fabric = s->fabric;
	req->connection = connection;
	req->body = mem_zalloc(sizeof(*req->body));
	MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, add_query, &req->query);
	if (route_version(url, &path, &req->version, &req->refusal) < 0)
		req->status = 400;
	else
		find_route(req, method, path);
	check_type(req, path);
	if (!req->status && req->route->body == BODY_UPLOAD &&
	    upload_start(req, &req->upload, &req->refusal) < 0)
		req->status = error_http_status(req->refusal.code);
	return req;
}

static void request_more(struct request *req, const char *data, size_t len)
{
	if (req->status || req->route->body == BODY_NONE)
		return;
	if (req->upload) {
		upload_write(req->upload, data, len);
	} else if (req->body->len + len > BODY_MAX_BYTES) {
		req->body_too_big = true;
		buf_free(req->body);
		memset(req->body, 0, sizeof(*req->body));
	} else if (!req->body_too_big) {
		buf_add(req->body, data, len);
	}
}

/* Docker's texts: moby's api/server/httputils/httputils.go. */
static int parse_body(struct request *req, struct error *err)
{
	if (req->body_too_big)
		return error_set(err, EFBIG, "the request body is larger than %u MiB",
				 BODY_MAX_BYTES >> 20);
	if (!req->body->len)
		return req->route->body == BODY_OPTIONAL
			       ? 0
			       : error_set(err, EINVAL,
					   "invalid JSON: got EOF while reading request body");
	req->json = json_parse(req->body->data, req->body->len, "request body", err);
	if (!req->json)
		return error_wrap(err, "invalid JSON");
	if (!json_is_object(req->json))
		return error_set(err, EINVAL, "invalid JSON: the request body must be an object");
	return 0;
}

static void answer(struct request *req)
{
	struct error err = { 0 };
	int r = 0;

	if (req->status) {
		reply_error(req, req->status, &req->refusal);
		return;
	}
	if (req->upload)
		r = upload_finish(&req->upload, &err);
	else if (req->route->body == BODY_JSON || req->route->body == BODY_OPTIONAL)
		r = parse_body(req, &err);
	if (!r)
		r = req->route->handler(req, &err);
	if (r < 0) {
		if (!err.code)
			err.code = -r;
		reply_error(req, error_http_status(err.code), &err);
	} else if (!req->response) {
		error_set(&err, EIO, "%s %s gave no answer", req->route->method,
			  req->route->pattern);
		reply_error(req, 500, &err);
	}
}

static enum MHD_Result send_answer(struct request *req)
{
	enum MHD_Result result;

	answer(req);
	reply_header(req, "Api-Version", API_VERSION_MAX);
	reply_header(req, "Docker-Experimental", "true");
	reply_header(req, "Ostype", "linux");
	reply_header(req, "Server", "ferry/" FERRY_VERSION " (linux)");
	result = MHD_queue_response(req->connection, (unsigned int)req->response_status,
				    req->response);
	MHD_destroy_response(req->response);
	req->response = NULL;
	return result;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *len, void **state)
{
	struct request *req = *state;

	(void)version;
	if (!req) {
		*state = request_begin(cls, connection, url, method);
		return MHD_YES;
	}
	if (*len) {
		request_more(req, data, *len);
		*len = 0;
		return MHD_YES;
	}
	return send_answer(req);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **state,
			 enum MHD_RequestTerminationCode why)
{
	struct request *req = *state;
	struct error err = { 0 };

	(void)cls;
	(void)connection;
	(void)why;
	if (!req)
		return;
	*state = NULL;
	if (req->upload)
		upload_finish(&req->upload, &err); /* the client went away in the middle */
	if (req->hijack)
		hijack_free(req->hijack);
	if (req->response)
		MHD_destroy_response(req->response);
	query_free(&req->query);
	json_decref(req->json);
	json_decref(req->uploaded);
	buf_free(req->body);
	free(req->body);
	free(req->arg);
	server_release(req->server);
	free(req);
}

static void on_log(void *cls, const char *fmt, va_list ap)
{
	char text[500];

	(void)cls;
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	log_debug("http: %s", text);
}

/* --- start and stop ----------------------------------------------------------------- */

int server_start(const struct server_config *config, int listen_fd, struct server **out,
		 struct error *err)
{
	struct server *s = mem_zalloc(sizeof(*s));

	s->fabric = config->fabric;
	s->tables = config->tables;
	s->ntables = config->ntables;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->idle, NULL);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->stop_fd < 0) {
		int code = errno;

		close(listen_fd);
		free(s);
		return error_sys(err, code, "making an eventfd");
	}
	s->daemon = MHD_start_daemon(
		MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
			MHD_ALLOW_UPGRADE | MHD_USE_ITC | MHD_USE_ERROR_LOG,
		0, NULL, NULL, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, (MHD_socket)listen_fd, MHD_OPTION_CONNECTION_LIMIT,
		config->connections ? config->connections : CONNECTIONS,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_THREAD_STACK_SIZE, (size_t)CONNECTION_STACK, MHD_OPTION_NOTIFY_COMPLETED,
		on_completed, NULL, MHD_OPTION_END);
	if (!s->daemon) {
		close(listen_fd);
		close(s->stop_fd);
		free(s);
		return error_set(err, EIO, "starting the HTTP server failed");
	}
	*out = s;
	return 0;
}

bool server_stop(struct server *s, int grace_ms)
{
	int64_t until = clock_real_ns() + grace_ms * 1000000ll;
	struct timespec ts = { until / 1000000000, until % 1000000000 };
	MHD_socket listening = MHD_quiesce_daemon(s->daemon);
	bool idle;

	if (listening != MHD_INVALID_SOCKET)
		close(listening);
	eventfd_write(s->stop_fd, 1);
	pthread_mutex_lock(&s->lock);
	while (s->active && pthread_cond_timedwait(&s->idle, &s->lock, &ts) != ETIMEDOUT)
		;
	idle = !s->active;
	pthread_mutex_unlock(&s->lock);
	if (!idle)
		return false;
	MHD_stop_daemon(s->daemon);
	close(s->stop_fd);
	free(s);
	return true;
}
