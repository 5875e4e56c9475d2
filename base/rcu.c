/* SPDX-License-Identifier: Apache-2.0 */
/* /sys/kernel/rcu_expedited; rcu.h is the contract. */
#include "base/rcu.h"

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/log.h"

#define RCU_EXPEDITED "/sys/kernel/rcu_expedited"

static struct {
	pthread_mutex_t lock;
	int users;
	int fd; /* held with flock() while raised by this process */
	char before[8];
} rcu = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

static void raise_it(void)
{
	ssize_t n;

	rcu.fd = open(RCU_EXPEDITED, O_RDWR | O_CLOEXEC);
	if (rcu.fd < 0)
		return;
	if (flock(rcu.fd, LOCK_EX | LOCK_NB) < 0) { /* it is raised: another process did */
		close(rcu.fd);
		rcu.fd = -1;
		return;
	}
	n = pread(rcu.fd, rcu.before, sizeof(rcu.before) - 1, 0);
	rcu.before[n > 0 ? n : 0] = '\0';
	if (n <= 0 || pwrite(rcu.fd, "1", 1, 0) != 1)
		log_debug("%s cannot be set", RCU_EXPEDITED);
}

static void restore_it(void)
{
	if (rcu.fd < 0)
		return;
	if (rcu.before[0] && pwrite(rcu.fd, rcu.before, strlen(rcu.before), 0) < 0)
		log_debug("%s cannot be restored", RCU_EXPEDITED);
	close(rcu.fd);
	rcu.fd = -1;
}

void rcu_expedite(bool on)
{
	pthread_mutex_lock(&rcu.lock);
	if (on && rcu.users++ == 0)
		raise_it();
	if (!on && --rcu.users == 0)
		restore_it();
	pthread_mutex_unlock(&rcu.lock);
}
