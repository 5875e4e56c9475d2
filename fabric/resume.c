/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tasks of a container run again after the source's engine has died: a new one looks at
 * all sockets (the dead one may have left them in repair mode, deaf to their peers), gives
 * back what was mapped into the tasks, and thaws them.
 */
#include "fabric/migrate.h"

#include "base/log.h"

int migrate_resume_anew(struct fabric *f, const json_t *live, struct error *err)
{
	CLEANUP_FREE char *program = str_format("%s/ferry-checkpoint", f->bin_dir);
	struct engine *e = NULL;
	int r = engine_start(program, &e, err);

	if (r == 0)
		r = engine_call(e, "resume",
				json_pack("{s:O, s:O}", "cgroup", json_object_get(live, "Cgroup"),
					  "init_pid", json_object_get(live, "Pid")),
				NULL, err);
	engine_free(e);
	return r;
}

int migrate_resume(struct migration *m, json_t *args, struct error *err)
{
	int r = engine_call(m->engine, "resume", args, NULL, err);

	if (r != -EPIPE && r != -ECONNRESET)
		return r;
	log_warn("container %s: the checkpoint engine has died; a new one undoes what it did",
		 json_str(m->doc, "name", ""));
	error_clear(err);
	return migrate_resume_anew(m->f, m->live, err);
}
