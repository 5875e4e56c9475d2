// SPDX-License-Identifier: Apache-2.0
/*
 * Start and end of a vold: options, going to the background, what keeps it alive when
 * memory is short, the device, and a watch on the lock. vold.h has the protocol.
 */
#include "volumes/vold/vold.h"

#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "volumes/loop.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define OVERLAY_BYTES (64ull << 20)
#define LOCK_WATCH_NS 1000000000ll

static void usage(FILE *out)
{
	fputs("usage: ferry-vold --name VOLUME --host HOST --image IMAGE --mode MODE --socket "
	      "PATH\n"
	      "       [--ceph-conf FILE] [--ceph-user USER] [--backend NAME] [--overlay BYTES]\n"
	      "\n"
	      "Serves one volume as a block device until told to end. ferryd starts it.\n"
	      "IMAGE: rbd:POOL/NAME or file:PATH. MODE: rw, ro, standby.\n",
	      out);
}

static const struct option long_options[] = {
	{ "name", required_argument, NULL, 'n' },
	{ "host", required_argument, NULL, 'H' },
	{ "image", required_argument, NULL, 'i' },
	{ "mode", required_argument, NULL, 'm' },
	{ "socket", required_argument, NULL, 's' },
	{ "ceph-conf", required_argument, NULL, 'c' },
	{ "ceph-user", required_argument, NULL, 'u' },
	{ "backend", required_argument, NULL, 'b' },
	{ "overlay", required_argument, NULL, 'o' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* 0, or -EINVAL with err set; 1: help was printed. */
static int options_parse(int argc, char *argv[], struct vold_options *o, struct error *err)
{
	int c;

	*o = (struct vold_options){ .overlay_bytes = OVERLAY_BYTES };
	optind = 1;
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 'n':
			o->name = optarg;
			break;
		case 'H':
			o->host = optarg;
			break;
		case 'i':
			o->image = optarg;
			break;
		case 'm':
			o->mode = optarg;
			break;
		case 's':
			o->socket = optarg;
			break;
		case 'c':
			o->ceph_conf = optarg;
			break;
		case 'u':
			o->ceph_user = optarg;
			break;
		case 'b':
			o->backend = optarg;
			break;
		case 'o':
			if (str_to_bytes(optarg, &o->overlay_bytes) ||
			    o->overlay_bytes > 1ull << 40)
				return error_set(err, EINVAL, "--overlay %s: not a size", optarg);
			break;
		case 'h':
			usage(stdout);
			return 1;
		default:
			return error_set(err, EINVAL, "unknown option; see --help");
		}
	}
	if (!o->name || !o->host || !o->image || !o->mode || !o->socket || optind != argc)
		return error_set(err, EINVAL,
				 "--name, --host, --image, --mode and --socket are needed");
	if (!str_is_name(o->name) || !str_is_name(o->host))
		return error_set(err, EINVAL, "%s, %s: not a valid name", o->name, o->host);
	return 0;
}

/*
 * The kernel writes back through this process: it must not wait for memory that only its
 * own writing can free, nor be chosen to be killed. What is not permitted is done without.
 */
static void harden(void)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		log_debug("mlockall: %s", strerror(errno));
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_debug("PR_SET_IO_FLUSHER: %s", strerror(errno));
	if (file_write_str("/proc/self/oom_score_adj", "-900", NULL))
		log_debug("oom_score_adj cannot be lowered");
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	if (chdir("/") < 0)
		log_debug("chdir: %s", strerror(errno));
}

static void say(int fd, json_t *answer)
{
	CLEANUP_FREE char *text = json_text(answer);
	CLEANUP_BUF struct buf out = { 0 };

	buf_addf(&out, "%s\n", text);
	if (fd_write_all(fd, out.data, out.len))
		log_warn("nobody hears that the device is ready");
	json_decref(answer);
}

static int start(struct vold *v, struct error *err)
{
	const struct vold_options *o = v->options;
	CLEANUP_CLOSE int listening = -1;
	uint64_t size = 0;
	int rc;

	v->backend = vold_backend_find(o->backend, err);
	if (!v->backend)
		return -err->code;
	rc = core_open(o, &v->core, err);
	if (rc)
		return rc;
	rc = core_size(v->core, &size, err);
	if (rc == 0 && size == 0)
		rc = error_set(err, EINVAL, "the image is smaller than a block");
	if (rc == 0)
		rc = v->backend->start(v->core, size, core_read_only(v->core), &v->backend_state,
				       err);
	if (rc == 0) {
		listening = fd_unix_listen(o->socket, 0600, err);
		rc = listening < 0 ? listening : vold_serve(v, listening, err);
	}
	if (rc) {
		core_close(v->core);
		return rc;
	}
	TAKE_FD(listening);
	return 0;
}

static void *watch_lock(void *arg)
{
	struct vold *v = arg;

	for (;;) {
		clock_sleep_ns(LOCK_WATCH_NS);
		vold_check_lock(v);
	}
	return NULL;
}

/* SIGTERM ends a vold whose device nobody uses; a file system keeps it. */
static void wait_for_signal(struct vold *v, const sigset_t *signals)
{
	static const char request[] = "{\"op\":\"shutdown\"}";

	for (;;) {
		bool end = false;
		int signo = 0;

		if (sigwait(signals, &signo))
			continue;
		if (block_in_use(v->backend->device(v->backend_state))) {
			log_warn("signal %d: %s is mounted, going on", signo,
				 v->backend->device(v->backend_state));
			continue;
		}
		json_decref(vold_request(v, request, strlen(request), &end));
		_exit(0);
	}
}

static int serve(const struct vold_options *o, int report)
{
	struct vold v = { .options = o };
	struct error err = { 0 };
	json_t *answer;
	bool end = false;
	pthread_t watcher;
	sigset_t signals;

	harden();
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (start(&v, &err)) {
		say(report, vold_error(&err));
		_exit(1);
	}
	if (pthread_create(&watcher, NULL, watch_lock, &v) == 0)
		pthread_detach(watcher);
	answer = vold_request(&v, "{\"op\":\"status\"}", strlen("{\"op\":\"status\"}"), &end);
	say(report, answer);
	close(report);
	wait_for_signal(&v, &signals);
	return 0;
}

/* The parent passes on what the child reports and ends with it. */
static int wait_for_report(int report)
{
	CLEANUP_BUF struct buf line = { 0 };
	CLEANUP_JSON json_t *answer = NULL;
	char chunk[4096];
	ssize_t n;

	while ((n = read(report, chunk, sizeof(chunk))) > 0)
		buf_add(&line, chunk, (size_t)n);
	if (!line.len) {
		struct error err = { 0 };

		error_set(&err, EIO, "ferry-vold died while it was starting; see its log");
		answer = vold_error(&err);
		say(STDOUT_FILENO, json_incref(answer));
		return 1;
	}
	fd_write_all(STDOUT_FILENO, line.data, line.len);
	answer = json_parse(line.data, line.len, "report", NULL);
	return json_bool(answer, "ok", false) ? 0 : 1;
}

int vold_main(int argc, char *argv[])
{
	struct vold_options o;
	struct error err = { 0 };
	int report[2], null, rc;
	pid_t pid;

	log_init("ferry-vold");
	rc = options_parse(argc, argv, &o, &err);
	if (rc) {
		if (rc < 0)
			say(STDOUT_FILENO, vold_error(&err));
		return rc < 0 ? 2 : 0;
	}
	close_range(3, ~0u, 0); /* whatever a careless parent left open */
	if (pipe2(report, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		error_sys(&err, errno, "going to the background");
		say(STDOUT_FILENO, vold_error(&err));
		return 1;
	}
	if (pid > 0) {
		close(report[1]);
		return wait_for_report(report[0]);
	}
	close(report[0]);
	setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		close(null);
	}
	return serve(&o, report[1]);
}
