/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preflight: what threads have that no file shows and nothing can make again: Landlock
 * domains, and keyrings of their own with keys in them. Read by BPF (peek.h) in the whole
 * host, so that nothing is paused; where the kernel does not allow that, neither can be
 * seen (docs/limits.md).
 *
 * Where Landlock keeps its pointer in the memory that all security modules share differs
 * from kernel to kernel. It is found by trying: a child puts itself into a domain, and the
 * word that was zero before is the one.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/core.h"
#include "runtime/checkpoint/peek.h"

#define LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_RESTRICT_SELF	446

struct cred_words {
	pid_t tid;
	uint64_t w[PEEK_CRED_WORDS];
	bool found;
};

static int words_of(void *ctx, const struct peek_record *r, const void *data)
{
	struct cred_words *c = ctx;

	if (r->tid == c->tid && r->len == sizeof(c->w)) {
		memcpy(c->w, data, sizeof(c->w));
		c->found = true;
	}
	return 0;
}

/* The child's part: says when it is there, and when it is in a domain. */
static void child_in_domain(int go, int told)
{
	uint64_t handled = 1; /* struct landlock_ruleset_attr, its first version */
	char byte = 'r';
	long fd;

	if (write(told, &byte, 1) != 1 || read(go, &byte, 1) != 1)
		_exit(1);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	fd = syscall(LANDLOCK_CREATE_RULESET, &handled, sizeof(handled), 0);
	if (fd < 0 || syscall(LANDLOCK_RESTRICT_SELF, fd, 0) < 0)
		_exit(2);
	if (write(told, &byte, 1) != 1 || read(go, &byte, 1) != 1)
		_exit(3);
	_exit(0);
}

/* Number of Landlock's word; -1: this kernel has no Landlock, or it cannot be found. */
static int landlock_word(struct error *err)
{
	static int known = -2;
	CLEANUP_CLOSE int go0 = -1, go1 = -1, told0 = -1, told1 = -1;
	struct cred_words before = { 0 }, after = { 0 };
	int go[2], told[2], status, r = -1;
	char byte;
	pid_t pid;

	if (known != -2)
		return known;
	if (syscall(LANDLOCK_CREATE_RULESET, NULL, 0, 1 /* VERSION */) < 0)
		return known = -1;
	if (pipe2(go, O_CLOEXEC) < 0 || pipe2(told, O_CLOEXEC) < 0)
		return -1;
	go0 = go[0];
	go1 = go[1];
	told0 = told[0];
	told1 = told[1];
	pid = fork();
	if (pid == 0)
		child_in_domain(go0, told1);
	close(TAKE_FD(told1));
	before.tid = after.tid = pid;
	if (pid > 0 && read(told0, &byte, 1) == 1 && peek(PEEK_CRED, words_of, &before, err) == 0 &&
	    write(go1, "g", 1) == 1 && read(told0, &byte, 1) == 1 &&
	    peek(PEEK_CRED, words_of, &after, err) == 0 && before.found && after.found)
		for (int i = 0; i < PEEK_CRED_WORDS && r < 0; i++)
			/* A pointer into the kernel's half of the address space. */
			if (!before.w[i] && after.w[i] >> 47 == 0x1ffff)
				r = i;
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	return known = r;
}

struct cred_check {
	struct dump *d;
	struct obstacles *out;
	int word;
	uint64_t *foreign; /* session keyrings that processes outside have too */
	size_t nforeign;
	bool second;
};

static void check_keys(struct cred_check *c, const struct task *t, const struct peek_record *r)
{
	bool session = r->a > 0;

	/* Inherited from the host: its keys were never the container's. */
	for (size_t i = 0; i < c->nforeign; i++)
		session &= c->foreign[i] != r->d;
	if (session || r->b || r->c)
		obstacle_add(c->out, t->vpid, -1,
			     r->c   ? "thread keyring"
			     : r->b ? "process keyring"
				    : "session keyring",
			     "it holds keys (keyctl(2)), whose numbers cannot be given again",
			     "revoke or unlink the keys, or start the program anew over there");
}

static int check_cred(void *ctx, const struct peek_record *r, const void *data)
{
	struct cred_check *c = ctx;
	const struct task *t = tasks_by_pid(&c->d->tasks, r->pid);
	uint64_t w[PEEK_CRED_WORDS];

	if (!c->second && !t && r->d) {
		c->foreign = mem_grow(c->foreign, c->nforeign + 1, sizeof(*c->foreign));
		c->foreign[c->nforeign++] = r->d;
	}
	if (!c->second || !t || r->len != sizeof(w))
		return 0;
	memcpy(w, data, sizeof(w));
	if (c->word >= 0 && w[c->word])
		obstacle_add(
			c->out, t->vpid, -1, "Landlock domain",
			"it has put itself under Landlock's rules, which nobody can read out",
			"start it without Landlock (most programs have a setting), or start it "
			"anew over there");
	if (r->tid == r->pid || r->c)
		check_keys(c, t, r);
	return 0;
}

void preflight_creds(struct dump *d, struct obstacles *out)
{
	struct cred_check c = { .d = d, .out = out };
	struct error err = { 0 };

	c.word = landlock_word(&err);
	if (peek(PEEK_CRED, check_cred, &c, &err) == 0) {
		c.second = true;
		peek(PEEK_CRED, check_cred, &c, &err);
	}
	free(c.foreign);
}
