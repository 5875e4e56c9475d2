/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ferry-shim: parent of one container's processes. It owns their stdio, writes the log,
 * keeps the exit status, and serves clients as shim.h says. It knows nothing of Docker, the
 * network or volumes, and does not care whether ferryd lives.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/container/shim-internal.h"

struct shim shim;

static void report(int fd, const struct error *err)
{
	CLEANUP_JSON json_t *j = json_object();
	CLEANUP_FREE char *text = NULL;

	json_set_bool(j, "ok", !err);
	if (err) {
		json_set_int(j, "code", err->code);
		json_set_str(j, "error", err->msg);
	} else {
		json_set_int(j, "pid", shim.init.pid);
	}
	text = json_text(j);
	/* Whoever asked for it is gone: nobody will ever start this container. */
	if (fd_write_all(fd, text, strlen(text)) < 0 && !err)
		process_kill(shim.init.pid, SIGKILL);
	close(fd);
}

static int options(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "id", 1, 0, 'i' },	     { "dir", 1, 0, 'd' },	  { "state", 1, 0, 's' },
		{ "oci", 1, 0, 'o' },	     { "oci-root", 1, 0, 'r' },	  { "bundle", 1, 0, 'b' },
		{ "oom-file", 1, 0, 'm' },   { "stub", 0, 0, 'S' },	  { "tty", 0, 0, 't' },
		{ "open-stdin", 0, 0, 'I' }, { "stdin-once", 0, 0, 'O' }, { 0 }
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'i':
			shim.id = optarg;
			break;
		case 'd':
			shim.dir = optarg;
			break;
		case 's':
			shim.state = optarg;
			break;
		case 'o':
			shim.oci = optarg;
			break;
		case 'r':
			shim.oci_root = optarg;
			break;
		case 'b':
			shim.bundle = optarg;
			break;
		case 'm':
			shim.oom_file = optarg;
			break;
		case 'S':
			shim.stub = true;
			break;
		case 't':
			shim.init.tty = true;
			break;
		case 'I':
			shim.init.open_stdin = true;
			break;
		case 'O':
			shim.init.stdin_once = true;
			break;
		default:
			return -EINVAL;
		}
	}
	return shim.id && shim.dir && shim.state && shim.oci && shim.oci_root && shim.bundle
		       ? 0
		       : -EINVAL;
}

/* Reports on fd 3 of its caller: {"ok":true,"pid":N} or {"ok":false,"code","error"}. */
int main(int argc, char **argv)
{
	CLEANUP_FREE char *log = NULL;
	struct error err = { 0 };
	int listener = -1, sigfd, null, errlog, r;
	sigset_t set;

	log_init("ferry-shim");
	if (options(argc, argv) < 0) {
		fprintf(stderr, "usage: ferry-shim --id ID --dir DIR --state DIR --oci PROGRAM "
				"--oci-root DIR --bundle DIR [--oom-file FILE] [--stub] [--tty] "
				"[--open-stdin] [--stdin-once]   (reports on fd 3)\n");
		return 2;
	}
	r = fork();
	if (r < 0)
		return 1;
	if (r > 0)
		_exit(0);
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fd_set_cloexec(3, true);
	close_range(4, ~0u, 0); /* nothing of ferryd's may live on in here */
	shim.init.id = str_dup("");
	shim.init.in = shim.init.out[1] = shim.init.out[2] = -1;
	shim.procs = &shim.init;
	if (chdir(shim.dir) < 0)
		error_sys(&err, errno, "entering %s", shim.dir);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	errlog = open("shim.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	dup2(null, 0);
	dup2(null, 1);
	dup2(errlog >= 0 ? errlog : null, 2);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	log = str_format("%s/%s-json.log", shim.state, shim.id);
	shim.log.fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (!err.code && shim.log.fd < 0)
		error_sys(&err, errno, "opening %s", log);
	if (!err.code)
		listener = fd_unix_listen("shim.sock", 0600, &err);
	if (!err.code)
		shim_create(&err);
	if (err.code) {
		unlink("shim.sock");
		report(3, &err);
		return 1;
	}
	report(3, NULL);
	shim_serve(listener, sigfd);
	unlink("shim.sock");
	return 0;
}
