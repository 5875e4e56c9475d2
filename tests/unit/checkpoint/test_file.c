/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints in files: programs come back from them, and only from whole and signed ones. */
#include "tests/unit/checkpoint/harness.h"

#include <libgen.h>

static char folder[200]; /* of this program, and of the other tests */

/* The other tests' programs, each migration of which goes through a file instead. */
static void through_file(const char *name)
{
	CLEANUP_FREE char *path = str_format("%s/%s", folder, name);
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		setenv("TRIAL_FILE", "1", 1);
		execl(path, path, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define THROUGH_FILE(name)                                                                         \
	static void test_##name##_through_a_file(void **state)                                     \
	{                                                                                          \
		(void)state;                                                                       \
		through_file("test_" #name);                                                       \
	}
THROUGH_FILE(core)
THROUGH_FILE(mem)
THROUGH_FILE(obj_files)
THROUGH_FILE(obj_events)
THROUGH_FILE(obj_unix)
THROUGH_FILE(sock_move)

/* --- one that is left running ------------------------------------------------------------- */
/* Counts on; both copies find what the checkpoint found, and what they did themselves. */
static int counts(struct trial *t)
{
	volatile unsigned long before = 41, n = 0;
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int pipe_fds[2];
	char text[8] = "";

	if (pipe(pipe_fds) < 0 || write(pipe_fds[1], "queued", 6) != 6)
		return 1;
	strcpy(shared, "shared");
	before++;
	trial_ready(t);
	while (!trial_told(t, "go")) {
		n++;
		usleep(1000);
	}
	if (read(pipe_fds[0], text, sizeof(text)) != 6 || strcmp(text, "queued") != 0)
		return 2;
	if (strcmp(shared, "shared") != 0)
		return 3;
	strcpy(shared, "mine");
	return before == 42 && n > 0 ? 0 : 4;
}

static int status_of(pid_t *pid)
{
	int status = -1;

	for (int i = 0; i < 10000 && waitpid(*pid, &status, WNOHANG) != *pid; i++)
		usleep(2000);
	*pid = 0;
	return status;
}

static bool alive(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && !info.si_pid;
}

static bool has_file(const struct trial *t, const char *name)
{
	return trial_told(t, name);
}

static void test_the_source_runs_on_and_copies_run_beside_it(void **state)
{
	struct trial t = { .program = counts };
	json_t *saved = NULL;
	int r;

	(void)state;
	trial_start(&t);
	r = trial_save(&t);
	assert_false(has_file(&t, "file"));
	if (r == 0)
		r = trial_step(&t, true, "resume", NULL, &saved);
	assert_true(r < 0 || json_is_true(json_object_get(saved, "saved")));
	assert_true(r < 0 || has_file(&t, "file"));
	json_decref(saved);
	if (r == 0)
		r = trial_load(&t, NULL);
	if (r == 0) {
		control_client_close(&t.ca);
		control_client_close(&t.cb);
		assert_true(alive(t.a) && alive(t.b));
		trial_touch(&t, "go");
		assert_int_equal(status_of(&t.b), 0);
		assert_int_equal(status_of(&t.a), 0);
	}
	trial_clean(&t);
	assert_int_equal(r, 0);
}

int main(int argc, char **argv)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_core_through_a_file),
		cmocka_unit_test(test_mem_through_a_file),
		cmocka_unit_test(test_obj_files_through_a_file),
		cmocka_unit_test(test_obj_events_through_a_file),
		cmocka_unit_test(test_obj_unix_through_a_file),
		cmocka_unit_test(test_sock_move_through_a_file),
		cmocka_unit_test(test_the_source_runs_on_and_copies_run_beside_it),
	};
	char self[200];

	(void)argc;
	snprintf(self, sizeof(self), "%s", argv[0]);
	snprintf(folder, sizeof(folder), "%s", dirname(self));
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
