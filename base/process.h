/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes, pids that may be reused, namespaces, clocks. */
#ifndef FERRY_BASE_PROCESS_H
#define FERRY_BASE_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/*
 * Runs argv[0] (PATH is searched) to its end, stdin from /dev/null, and gives its
 * output (stdout and stderr together, cut at 64 KiB, caller frees; NULL: not wanted).
 * Returns 0 where it exited with 0; else -EIO with err holding the command, the exit
 * status and the last line it printed; other codes where it could not be started.
 */
int process_run(const char *const argv[], char **output, struct error *err);

/* Waits for a child, across EINTR; the wait status in *status. 0 or -errno. */
int process_wait(pid_t pid, int *status);

/*
 * kill(2) for one process that is known: a pid of 1, 0 or below, which would reach init, a
 * process group or every process of the machine, is refused with -EINVAL. 0 or -errno.
 */
int process_kill(pid_t pid, int signo);

/*
 * Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat),
 * which together with the pid names one process for good. 0 or -errno (-ESRCH).
 */
int process_start_time(pid_t pid, uint64_t *ticks);

/* Enters one namespace ("net", "mnt", "uts", "time" …) of a process. 0 or -errno. */
int process_enter_ns(pid_t pid, const char *ns, struct error *err);

/* Signal by number or name ("15", "TERM", "SIGTERM", "RTMIN+3"); 0 for an unknown one. */
int signal_number(const char *name);

/*
 * For the milliseconds in which others wait for this thread (and threads that it starts): it
 * goes before all that is not as urgent. thread_calm() takes what thread_hurry() gave.
 */
int thread_hurry(void);
void thread_calm(int nice);

/* CLOCK_MONOTONIC and CLOCK_REALTIME in nanoseconds. */
int64_t clock_mono_ns(void);
int64_t clock_real_ns(void);

/* Sleeps that many nanoseconds, across EINTR. */
void clock_sleep_ns(int64_t ns);

#endif
