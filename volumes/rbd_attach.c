// SPDX-License-Identifier: Apache-2.0
/* Driver rbd, attached volumes: starting, asking and ending their volds. */
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "volumes/attachment.h"
#include "volumes/rbd.h"
#include "volumes/vold_client.h"

#define STATUS_NS   5000000000ll
#define REQUEST_NS  60000000000ll /* longer than the vold's own limits */
#define SHUTDOWN_NS 30000000000ll
#define DYING_NS    10000000000ll

static const char *const mode_names[] = {
	[VOLUME_RW] = "rw", [VOLUME_RO] = "ro", [VOLUME_STANDBY] = "standby"
};

static json_t *request(const char *op)
{
	json_t *req = json_object();

	json_set_str(req, "op", op);
	return req;
}

int rbd_vold(struct rbd_driver *d, const struct attachment *a, json_t *req, json_t **answer,
	     struct error *err)
{
	CLEANUP_FREE char *socket = attachment_path(d->config->run_dir, a->name, "sock");

	if (a->pid && !attachment_alive(a)) {
		json_decref(req);
		return error_set(err, EIO,
				 "its ferry-vold (process %d) died: detach the volume, "
				 "then attach it again",
				 (int)a->pid);
	}
	return vold_call(socket, req, REQUEST_NS, answer, err);
}

/* What a vold reports of itself goes into the attachment. */
static int take_report(struct attachment *a, const json_t *report, struct error *err)
{
	attachment_set(&a->device, json_str(report, "device", NULL));
	attachment_set(&a->mode, json_str(report, "mode", ""));
	attachment_set(&a->address, json_str(report, "address", NULL));
	if (json_str(report, "fs", NULL)) {
		attachment_set(&a->fs, json_str(report, "fs", NULL));
		a->formatted = json_bool(report, "formatted", false);
	}
	a->pid = (pid_t)json_int(report, "pid", 0);
	if (process_start_time(a->pid, &a->start_time))
		return error_set(err, EIO, "its ferry-vold (process %d) died at once", (int)a->pid);
	return 0;
}

static int spawn(struct rbd_driver *d, enum volume_mode mode, struct attachment *a,
		 struct error *err)
{
	const struct volumes_config *c = d->config;
	CLEANUP_FREE char *image = str_format("rbd:%s/%s", c->pool, a->name);
	CLEANUP_FREE char *socket = attachment_path(c->run_dir, a->name, "sock");
	CLEANUP_FREE char *log = attachment_path(c->run_dir, a->name, "log");
	CLEANUP_JSON json_t *report = NULL;
	const char *argv[20] = { d->vold_path,	   "--name",   a->name, "--host",
				 c->host,	   "--image",  image,	"--mode",
				 mode_names[mode], "--socket", socket };
	int n = 11, rc;

	if (c->ceph_conf) {
		argv[n++] = "--ceph-conf";
		argv[n++] = c->ceph_conf;
	}
	if (c->ceph_user) {
		argv[n++] = "--ceph-user";
		argv[n++] = c->ceph_user;
	}
	rc = vold_spawn((char *const *)argv, log, &report, err);
	if (rc == 0)
		rc = take_report(a, report, err);
	return rc;
}

int rbd_driver_attach(void *state, enum volume_mode mode, struct attachment *a, struct error *err)
{
	return spawn(state, mode, a, err);
}

/* Waits for the end of a process that is not our child. */
static bool wait_gone(const struct attachment *a, int64_t timeout_ns)
{
	int64_t deadline = clock_mono_ns() + timeout_ns;

	while (attachment_alive(a)) {
		if (clock_mono_ns() > deadline)
			return false;
		clock_sleep_ns(2000000);
	}
	return true;
}

int rbd_driver_detach(void *state, struct attachment *a, bool dead, struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_FREE char *socket = attachment_path(d->config->run_dir, a->name, "sock");
	struct error why = { 0 };
	int rc;

	if (!dead) {
		rc = vold_call(socket, request("shutdown"), SHUTDOWN_NS, NULL, &why);
		if (rc == 0 && wait_gone(a, DYING_NS))
			return 0;
		log_warn("volume %s: ferry-vold does not end (%s), killing it", a->name, why.msg);
	}
	if (attachment_alive(a))
		process_kill(a->pid, SIGKILL);
	if (!wait_gone(a, DYING_NS))
		return error_set(err, EBUSY, "ferry-vold (process %d) cannot be ended",
				 (int)a->pid);
	a->pid = -1; /* its registry entry is a dead one now */
	rc = attachment_save(d->config->run_dir, a, err);
	if (rc == 0)
		rc = rbd_connect(d, err);
	return rc ? rc : rbd_clear_dead(d, a->name, err);
}

static int dead_status(const char *why, json_t **out)
{
	*out = json_object();
	json_set_str(*out, "mode", "failed");
	json_set_bool(*out, "dead", true);
	json_set_str(*out, "error", why);
	return 0;
}

int rbd_driver_status(void *state, struct attachment *a, json_t **out, struct error *err)
{
	struct rbd_driver *d = state;
	CLEANUP_FREE char *socket = attachment_path(d->config->run_dir, a->name, "sock");
	struct error why = { 0 };
	int rc;

	if (a->pid && !attachment_alive(a))
		return dead_status("its ferry-vold died: detach the volume, then attach it again",
				   out);
	rc = vold_call(socket, request("status"), STATUS_NS, out, &why);
	if (rc == 0) {
		if (a->pid == 0)
			rc = take_report(a, *out, err);
		json_object_del(*out, "ok");
		return rc;
	}
	if (a->pid == 0 || !attachment_alive(a))
		return dead_status(
			"its ferry-vold is gone: detach the volume, then attach it again", out);
	*out = json_object();
	json_set_str(*out, "mode", "failed");
	json_set_str(*out, "error", why.msg);
	return 0;
}

int rbd_driver_promote(void *state, struct attachment *a, bool tentative, struct error *err)
{
	json_t *req = request("promote");

	json_set_bool(req, "tentative", tentative);
	return rbd_vold(state, a, req, NULL, err);
}

int rbd_driver_preview(void *state, struct attachment *a, struct error *err)
{
	json_t *req = request("promote");

	json_set_bool(req, "tentative", true);
	json_set_bool(req, "unlocked", true);
	return rbd_vold(state, a, req, NULL, err);
}

int rbd_driver_claim(void *state, struct attachment *a, struct error *err)
{
	return rbd_vold(state, a, request("claim"), NULL, err);
}

int rbd_driver_quiesce(void *state, struct attachment *a, struct error *err)
{
	json_t *req = request("demote");

	json_set_bool(req, "keep_lock", true);
	return rbd_vold(state, a, req, NULL, err);
}

int rbd_driver_settle(void *state, struct attachment *a, struct error *err)
{
	return rbd_vold(state, a, request("settle"), NULL, err);
}

int rbd_driver_abandon(void *state, struct attachment *a, struct error *err)
{
	return rbd_vold(state, a, request("abandon"), NULL, err);
}

int rbd_driver_demote(void *state, struct attachment *a, struct error *err)
{
	return rbd_vold(state, a, request("demote"), NULL, err);
}

int rbd_driver_retake(void *state, struct attachment *a, struct error *err)
{
	return rbd_vold(state, a, request("retake"), NULL, err);
}
