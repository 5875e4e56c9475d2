/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making RCU grace periods of the kernel quick for a moment: freezing a file system, taking
 * an interface down and MEMBARRIER_CMD_GLOBAL each wait for one or more, 10–30 ms each.
 */
#ifndef FERRY_BASE_RCU_H
#define FERRY_BASE_RCU_H

#include <stdbool.h>

/*
 * Raises (true) or restores (false) /sys/kernel/rcu_expedited. Calls nest and are counted in
 * this process; another process that has raised it keeps it raised. Costs other CPUs an
 * interrupt a grace period, so: for milliseconds. Where it cannot be set things are slower,
 * nothing else. Any thread. (Documentation/admin-guide/kernel-parameters, rcupdate.rcu_expedited)
 */
void rcu_expedite(bool on);

#endif
