/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function run in a thread that has entered one namespace of a process. The threads of the
 * namespaces that are asked for all the time stay there, waiting: making one and entering
 * takes several times as long as most of what is done in them. They hold their namespace, and
 * with it mounts and interfaces, until ns_leave().
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/process.h"
#include "runtime/checkpoint/core.h"

struct job {
	pid_t pid;
	const char *ns;
	int (*fn)(void *arg);
	void *arg;
	int result;
	struct error err;
};

static struct worker {
	const char *ns;
	pthread_mutex_t busy; /* held by whom it works for */
	pthread_mutex_t lock; /* job, stop */
	pthread_cond_t wake, done;
	struct job *job; /* in hand */
	bool stop;
	pthread_t thread;
	pid_t owner; /* the process that it is a thread of; 0: there is none */
	pid_t pid, tid;
	int nice;
} workers[] = {
#define WORKER(name_)                                                                              \
	{                                                                                          \
		.ns = (name_), .busy = PTHREAD_MUTEX_INITIALIZER,                                  \
		.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER,               \
		.done = PTHREAD_COND_INITIALIZER                                                   \
	}
	WORKER("net"),
	WORKER("ipc"),
	WORKER("mnt"),
};
#define WORKERS (sizeof(workers) / sizeof(workers[0]))

static int enter(struct job *j)
{
	/* A mount namespace can only be entered by a thread with its own root and cwd. */
	if (strcmp(j->ns, "mnt") == 0 && unshare(CLONE_FS) < 0)
		return error_sys(&j->err, errno, "unsharing root and working directory");
	return process_enter_ns(j->pid, j->ns, &j->err);
}

static void *run(void *arg)
{
	struct job *j = arg;

	j->result = enter(j);
	if (j->result == 0)
		j->result = j->fn(j->arg);
	return NULL;
}

static int run_once(struct job *j, struct error *err)
{
	pthread_t th;
	int r = pthread_create(&th, NULL, run, j);

	if (r)
		return error_sys(err, r, "starting a thread");
	pthread_join(th, NULL);
	return j->result;
}

/* --- threads that stay ------------------------------------------------------------------ */
/* Its first job is to enter: one without a function. */
static void *work(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	w->tid = gettid();
	while (!w->stop) {
		struct job *j = w->job;

		if (!j) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		j->result = j->fn ? j->fn(j->arg) : enter(j);
		pthread_mutex_lock(&w->lock);
		w->job = NULL;
		pthread_cond_signal(&w->done);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void worker_wait(struct worker *w, struct job *j)
{
	pthread_mutex_lock(&w->lock);
	w->job = j;
	pthread_cond_signal(&w->wake);
	while (w->job)
		pthread_cond_wait(&w->done, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

static void worker_end(struct worker *w)
{
	if (w->owner != getpid())
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	w->owner = 0;
	w->stop = false;
}

/* False: do without it. `busy` held. */
static bool worker_ready(struct worker *w, pid_t pid)
{
	int nice = getpriority(PRIO_PROCESS, 0);

	/* A child made by fork() has its memory, but not the thread. */
	if (w->owner && w->owner != getpid())
		return false;
	if (w->owner && w->pid != pid)
		worker_end(w);
	if (!w->owner) {
		struct job first = { .pid = pid, .ns = w->ns };

		if (pthread_create(&w->thread, NULL, work, w))
			return false;
		w->owner = getpid();
		w->pid = pid;
		w->nice = nice;
		worker_wait(w, &first);
		if (first.result < 0) {
			worker_end(w);
			return false;
		}
	}
	/* As urgent as who waits for it. */
	if (w->nice != nice && setpriority(PRIO_PROCESS, (id_t)w->tid, nice) == 0)
		w->nice = nice;
	return true;
}

void ns_leave(void)
{
	for (size_t i = 0; i < WORKERS; i++) {
		pthread_mutex_lock(&workers[i].busy);
		worker_end(&workers[i]);
		pthread_mutex_unlock(&workers[i].busy);
	}
}

int run_in_ns(pid_t pid, const char *ns, int (*fn)(void *arg), void *arg, struct error *err)
{
	struct job j = { .pid = pid, .ns = ns, .fn = fn, .arg = arg };
	bool ran = false;
	int r;

	for (size_t i = 0; i < WORKERS && !ran; i++) {
		struct worker *w = &workers[i];

		if (strcmp(w->ns, ns) != 0 || pthread_mutex_trylock(&w->busy) != 0)
			continue;
		ran = worker_ready(w, pid);
		if (ran)
			worker_wait(w, &j);
		pthread_mutex_unlock(&w->busy);
	}
	r = ran ? j.result : run_once(&j, err);
	if (j.err.code && err)
		*err = j.err;
	return r;
}
