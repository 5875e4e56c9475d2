/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json to struct spec: the document's frame, process, mounts and hooks. The `linux`
 * object is read in spec-linux.c. Nothing here looks at the machine.
 */
#include "runtime/oci/spec.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>

#include "base/json.h"
#include "base/str.h"
#include "runtime/oci/spec-internal.h"

int spec_array(const json_t *obj, const char *key, json_t **out, struct error *err)
{
	json_t *v = json_object_get(obj, key);

	*out = NULL;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_array(v))
		return error_set(err, EINVAL, "field \"%s\" must be an array", key);
	*out = v;
	return 0;
}

int spec_object(const json_t *obj, const char *key, json_t **out, struct error *err)
{
	json_t *v = json_object_get(obj, key);

	*out = NULL;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_object(v))
		return error_set(err, EINVAL, "field \"%s\" must be an object", key);
	*out = v;
	return 0;
}

int spec_strings(const json_t *obj, const char *key, struct strings *out, struct error *err)
{
	json_t *arr, *v;
	size_t i;
	int r = spec_array(obj, key, &arr, err);

	if (r < 0)
		return r;
	out->n = json_array_size(arr);
	out->v = mem_zalloc((out->n + 1) * sizeof(*out->v));
	json_array_foreach (arr, i, v) {
		if (!json_is_string(v))
			return error_set(err, EINVAL, "field \"%s\" must hold strings only", key);
		out->v[i] = json_string_value(v);
	}
	return 0;
}

int spec_want_bool(const json_t *obj, const char *key, bool *out, struct error *err)
{
	const json_t *v = json_object_get(obj, key);

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_boolean(v))
		return error_set(err, EINVAL, "field \"%s\" must be true or false", key);
	*out = json_is_true(v);
	return 0;
}

int spec_cap_number(const char *name)
{
	char lower[64];
	cap_value_t v;
	size_t i;

	if (!strncasecmp(name, "cap_", 4))
		name += 4;
	if ((size_t)snprintf(lower, sizeof(lower), "cap_%s", name) >= sizeof(lower))
		return -1;
	for (i = 0; lower[i]; i++)
		if (lower[i] >= 'A' && lower[i] <= 'Z')
			lower[i] = (char)(lower[i] - 'A' + 'a');
	/* cap_from_name also takes numbers, which the specification does not. */
	if (lower[4] >= '0' && lower[4] <= '9')
		return -1;
	return cap_from_name(lower, &v) < 0 || v > 63 ? -1 : v;
}

static int parse_caps(const json_t *proc, struct spec_process *p, struct error *err)
{
	static const char *const sets[CAPSET_COUNT] = { "bounding", "effective", "inheritable",
							"permitted", "ambient" };
	json_t *caps, *arr, *v;
	size_t i;
	int r = spec_object(proc, "capabilities", &caps, err);

	if (r < 0 || !caps)
		return r;
	p->has_caps = true;
	for (int s = 0; s < CAPSET_COUNT; s++) {
		r = spec_array(caps, sets[s], &arr, err);
		if (r < 0)
			return r;
		json_array_foreach (arr, i, v) {
			int n = json_is_string(v) ? spec_cap_number(json_string_value(v)) : -1;

			if (n < 0)
				return error_set(
					err, EINVAL, "capabilities.%s: unknown capability \"%s\"",
					sets[s], json_is_string(v) ? json_string_value(v) : "?");
			p->caps[s] |= 1ull << n;
		}
	}
	return 0;
}

static const struct {
	const char *name;
	int resource;
} rlimit_names[] = {
	{ "RLIMIT_AS", RLIMIT_AS },
	{ "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },
	{ "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },
	{ "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
	{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },
	{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },
	{ "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "RLIMIT_RTTIME", RLIMIT_RTTIME },
	{ "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },
};

/* Limits are uint64 in the specification; jansson reads int64, and -1 stands for infinity. */
static int parse_limit(const json_t *v, rlim_t *out)
{
	if (json_is_integer(v)) {
		json_int_t n = json_integer_value(v);

		*out = n < 0 ? RLIM_INFINITY : (rlim_t)n;
		return n < -1 ? -EINVAL : 0;
	}
	if (json_is_real(v) && json_real_value(v) >= 9.2e18) {
		*out = RLIM_INFINITY;
		return 0;
	}
	return -EINVAL;
}

static int parse_rlimits(const json_t *proc, struct spec_process *p, struct error *err)
{
	json_t *arr, *v;
	size_t i, k;
	int r = spec_array(proc, "rlimits", &arr, err);

	if (r < 0 || !arr)
		return r;
	p->rlimits = mem_zalloc(json_array_size(arr) * sizeof(*p->rlimits));
	json_array_foreach (arr, i, v) {
		struct spec_rlimit *l = &p->rlimits[p->nrlimits];
		const char *type = NULL;

		r = json_want_str(v, "type", true, &type, err);
		if (r < 0)
			return error_wrap(err, "process.rlimits");
		for (k = 0; k < sizeof(rlimit_names) / sizeof(rlimit_names[0]); k++)
			if (!strcmp(rlimit_names[k].name, type))
				break;
		if (k == sizeof(rlimit_names) / sizeof(rlimit_names[0]))
			return error_set(err, EINVAL, "process.rlimits: unknown limit \"%s\"",
					 type);
		for (size_t j = 0; j < p->nrlimits; j++)
			if (p->rlimits[j].resource == rlimit_names[k].resource)
				return error_set(err, EINVAL, "process.rlimits: %s is given twice",
						 type);
		l->resource = rlimit_names[k].resource;
		l->name = rlimit_names[k].name;
		if (parse_limit(json_object_get(v, "soft"), &l->lim.rlim_cur) < 0 ||
		    parse_limit(json_object_get(v, "hard"), &l->lim.rlim_max) < 0)
			return error_set(err, EINVAL,
					 "process.rlimits: %s wants whole numbers soft and hard",
					 type);
		if (l->lim.rlim_cur > l->lim.rlim_max)
			return error_set(err, EINVAL, "process.rlimits: %s: soft is above hard",
					 type);
		p->nrlimits++;
	}
	return 0;
}

static int parse_user(const json_t *proc, struct spec_process *p, struct error *err)
{
	json_t *user, *arr, *v;
	int64_t uid = 0, gid = 0, umask = -1;
	size_t i;
	int r = spec_object(proc, "user", &user, err);

	if (r < 0)
		return r;
	if (json_want_int(user, "uid", false, 0, UINT32_MAX - 1, &uid, err) < 0 ||
	    json_want_int(user, "gid", false, 0, UINT32_MAX - 1, &gid, err) < 0 ||
	    json_want_int(user, "umask", false, 0, 07777, &umask, err) < 0 ||
	    spec_array(user, "additionalGids", &arr, err) < 0)
		return error_wrap(err, "process.user");
	p->uid = (uid_t)uid;
	p->gid = (gid_t)gid;
	if (umask >= 0) {
		p->has_umask = true;
		p->umask = (mode_t)umask;
	}
	p->groups = mem_zalloc((json_array_size(arr) + 1) * sizeof(gid_t));
	json_array_foreach (arr, i, v) {
		if (!json_is_integer(v) || json_integer_value(v) < 0 ||
		    json_integer_value(v) >= UINT32_MAX)
			return error_set(err, EINVAL,
					 "process.user.additionalGids must hold group numbers");
		p->groups[p->ngroups++] = (gid_t)json_integer_value(v);
	}
	return 0;
}

int spec_process_parse(const json_t *doc, struct spec_process *p, struct error *err)
{
	json_t *console;
	int64_t oom = INT_MIN, rows = 0, cols = 0;
	int r;

	memset(p, 0, sizeof(*p));
	if (!json_is_object(doc))
		return error_set(err, EINVAL, "process must be an object");
	if (spec_strings(doc, "args", &p->args, err) < 0 ||
	    spec_strings(doc, "env", &p->env, err) < 0 ||
	    json_want_str(doc, "cwd", true, &p->cwd, err) < 0 ||
	    spec_want_bool(doc, "terminal", &p->terminal, err) < 0 ||
	    spec_want_bool(doc, "noNewPrivileges", &p->no_new_privs, err) < 0 ||
	    json_want_int(doc, "oomScoreAdj", false, -1000, 1000, &oom, err) < 0 ||
	    spec_object(doc, "consoleSize", &console, err) < 0)
		return error_wrap(err, "process");
	if (p->cwd[0] != '/')
		return error_set(err, EINVAL, "process.cwd \"%s\" must be an absolute path",
				 p->cwd);
	if (json_want_int(console, "height", false, 0, USHRT_MAX, &rows, err) < 0 ||
	    json_want_int(console, "width", false, 0, USHRT_MAX, &cols, err) < 0)
		return error_wrap(err, "process.consoleSize");
	p->rows = (unsigned)rows;
	p->cols = (unsigned)cols;
	if (oom != INT_MIN) {
		p->has_oom_score_adj = true;
		p->oom_score_adj = (int)oom;
	}
	p->selinux = json_str(doc, "selinuxLabel", NULL);
	if (p->selinux && !*p->selinux)
		p->selinux = NULL;
	p->apparmor = json_str(doc, "apparmorProfile", NULL);
	if (p->apparmor && (!*p->apparmor || !strcmp(p->apparmor, "unconfined")))
		p->apparmor = NULL;
	if (json_object_get(doc, "scheduler") || json_object_get(doc, "ioPriority"))
		return error_set(err, EOPNOTSUPP,
				 "process.scheduler and process.ioPriority are not supported");
	if ((r = parse_user(doc, p, err)) < 0 || (r = parse_caps(doc, p, err)) < 0)
		return r;
	return parse_rlimits(doc, p, err);
}

void spec_process_free(struct spec_process *p)
{
	free(p->args.v);
	free(p->env.v);
	free(p->groups);
	free(p->rlimits);
	memset(p, 0, sizeof(*p));
}

static int parse_mounts(const json_t *doc, struct spec *s, struct error *err)
{
	json_t *arr, *v;
	size_t i;
	int r = spec_array(doc, "mounts", &arr, err);

	if (r < 0 || !arr)
		return r;
	s->mounts = mem_zalloc(json_array_size(arr) * sizeof(*s->mounts));
	json_array_foreach (arr, i, v) {
		struct spec_mount *m = &s->mounts[s->nmounts++];

		if (!json_is_object(v))
			return error_set(err, EINVAL, "mounts must hold objects");
		if (json_want_str(v, "destination", true, &m->destination, err) < 0 ||
		    json_want_str(v, "type", false, &m->type, err) < 0 ||
		    json_want_str(v, "source", false, &m->source, err) < 0 ||
		    spec_strings(v, "options", &m->options, err) < 0)
			return error_wrap(err, "mounts[%zu]", i);
		if (!m->destination[0])
			return error_set(err, EINVAL, "mounts[%zu]: empty destination", i);
		if (json_object_get(v, "uidMappings") || json_object_get(v, "gidMappings"))
			return error_set(err, EOPNOTSUPP,
					 "mount %s: id-mapped mounts are not supported",
					 m->destination);
	}
	return 0;
}

static int parse_hooks(const json_t *doc, struct spec *s, struct error *err)
{
	static const char *const names[HOOK_COUNT] = { "prestart",	  "createRuntime",
						       "createContainer", "startContainer",
						       "poststart",	  "poststop" };
	json_t *hooks, *arr, *v;
	size_t i;
	int r = spec_object(doc, "hooks", &hooks, err);

	if (r < 0 || !hooks)
		return r;
	for (int k = 0; k < HOOK_COUNT; k++) {
		r = spec_array(hooks, names[k], &arr, err);
		if (r < 0)
			return error_wrap(err, "hooks");
		if (!json_array_size(arr))
			continue;
		s->hooks[k] = mem_zalloc(json_array_size(arr) * sizeof(**s->hooks));
		json_array_foreach (arr, i, v) {
			struct spec_hook *h = &s->hooks[k][s->nhooks[k]++];

			if (json_want_str(v, "path", true, &h->path, err) < 0 ||
			    spec_strings(v, "args", &h->args, err) < 0 ||
			    spec_strings(v, "env", &h->env, err) < 0 ||
			    json_want_int(v, "timeout", false, 1, INT_MAX, &h->timeout_s, err) < 0)
				return error_wrap(err, "hooks.%s[%zu]", names[k], i);
			if (h->path[0] != '/')
				return error_set(err, EINVAL,
						 "hooks.%s[%zu]: path must be absolute", names[k],
						 i);
		}
	}
	return 0;
}

static int parse_frame(struct spec *s, struct error *err)
{
	json_t *root, *proc;
	int r;

	if (!json_is_object(s->doc))
		return error_set(err, EINVAL, "config.json must hold an object");
	if ((r = json_want_str(s->doc, "ociVersion", true, &s->version, err)) < 0 ||
	    (r = json_want_str(s->doc, "hostname", false, &s->hostname, err)) < 0 ||
	    (r = json_want_str(s->doc, "domainname", false, &s->domainname, err)) < 0 ||
	    (r = spec_object(s->doc, "root", &root, err)) < 0 ||
	    (r = spec_object(s->doc, "process", &proc, err)) < 0 ||
	    (r = spec_object(s->doc, "annotations", &s->annotations, err)) < 0)
		return r;
	if (!str_starts(s->version, "1."))
		return error_set(err, EINVAL, "ociVersion %s is not 1.x", s->version);
	if (!root)
		return error_set(err, EINVAL, "field \"root\" is missing");
	if (json_want_str(root, "path", true, &s->rootfs, err) < 0 ||
	    spec_want_bool(root, "readonly", &s->rootfs_readonly, err) < 0)
		return error_wrap(err, "root");
	if (!s->rootfs[0])
		return error_set(err, EINVAL, "root.path is empty");
	if (proc) {
		s->has_process = true;
		r = spec_process_parse(proc, &s->process, err);
		if (r < 0)
			return r;
	}
	return 0;
}

struct spec *spec_parse(const char *text, size_t len, struct error *err)
{
	struct spec *s = mem_zalloc(sizeof(*s));

	s->doc = json_parse(text, len, "config.json", err);
	if (!s->doc || parse_frame(s, err) < 0 || parse_mounts(s->doc, s, err) < 0 ||
	    parse_hooks(s->doc, s, err) < 0 || spec_linux_parse(s, err) < 0) {
		spec_free(s);
		return NULL;
	}
	return s;
}

void spec_free(struct spec *s)
{
	if (!s)
		return;
	spec_process_free(&s->process);
	for (size_t i = 0; i < s->nmounts; i++)
		free(s->mounts[i].options.v);
	free(s->mounts);
	for (int k = 0; k < HOOK_COUNT; k++) {
		for (size_t i = 0; i < s->nhooks[k]; i++) {
			free(s->hooks[k][i].args.v);
			free(s->hooks[k][i].env.v);
		}
		free(s->hooks[k]);
	}
	free(s->uid_maps);
	free(s->gid_maps);
	free(s->devices);
	free(s->res.devices);
	free(s->masked.v);
	free(s->readonly_paths.v);
	json_decref(s->doc);
	free(s);
}
