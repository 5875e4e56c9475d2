/* SPDX-License-Identifier: Apache-2.0 */
/* ferry-oci's commands (a file each), and the state they share on disk. */
#ifndef FERRY_OCI_OCI_H
#define FERRY_OCI_OCI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "runtime/oci/spec.h"

struct global {
	const char *root; /* --root; /run/ferry/oci */
};

/*
 * Exit status of a create, run or exec whose program cannot be run, as a shell's; anything
 * else that fails gives 1. Only program lookup sets these two errno values with "exec:".
 */
#define EXIT_NOT_FOUND	    127
#define EXIT_NOT_EXECUTABLE 126

/*
 * A command: its own argv (argv[0] is the command's name). Returns 0 or -errno with err set;
 * *status is the exit status on success (run and exec: the process's).
 */
typedef int command_fn(const struct global *g, int argc, char **argv, int *status,
		       struct error *err);
command_fn cmd_create, cmd_run, cmd_start, cmd_state, cmd_kill, cmd_delete, cmd_exec, cmd_list,
	cmd_pause, cmd_resume, cmd_update, cmd_ps, cmd_features, cmd_adopt;

/* --- root/ID/state.json ---------------------------------------------------------------- */

struct state {
	char *id, *bundle, *rootfs, *cgroup, *created, *version;
	pid_t pid;	/* 0: init was never made, or is not yet */
	uint64_t start; /* process_start_time(pid) */
	bool stub;
	json_t *annotations; /* may be NULL */
};
void state_free(struct state *s);
int state_load(const struct global *g, const char *id, struct state *s, struct error *err);
int state_save(const struct global *g, const struct state *s, struct error *err);
/* "creating", "created", "running", "paused", "stopped" (a literal). */
const char *state_status(const struct global *g, const struct state *s);
/* The state document of the specification (caller frees). */
char *state_text(const struct state *s, const char *status, pid_t pid);
char *state_path(const struct global *g, const char *id, const char *file);
/* A pidfd of init, checked to be the same process as then; -ESRCH when it ended. */
int state_pidfd(const struct state *s, struct error *err);
/* Takes the container's lock (an fd to close). */
int state_lock(const struct global *g, const char *id, struct error *err);
/* The configuration it was created with. */
struct spec *state_spec(const struct global *g, const char *id, struct error *err);

static inline void cleanup_state(struct state *s)
{
	state_free(s);
}
#define CLEANUP_STATE __attribute__((cleanup(cleanup_state)))

/* --- create, shared by create and run --------------------------------------------------- */

struct create_options {
	const char *id, *bundle, *pid_file, *console_socket;
	int preserve_fds;
	bool stub;
};
/* Makes the container up to "created"; init is this process's child. */
int container_make(const struct global *g, const struct create_options *o, pid_t *pid,
		   struct error *err);
int container_begin(const struct global *g, const char *id, struct error *err);
/* Kills what is left of it and removes its groups and state. */
int container_destroy(const struct global *g, const char *id, bool force, struct error *err);

int pid_file_write(const char *path, pid_t pid, struct error *err);
/* Waits for a child while passing signals on to it; its exit status as a shell's. */
int wait_forwarding(pid_t pid);
/* Blocks what wait_forwarding() passes on; before the child is made. */
void block_forwarded(void);

/* Bad usage: EINVAL with the command's usage line. */
int usage(struct error *err, const char *text);

#endif
