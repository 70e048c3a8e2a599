/* SPDX-License-Identifier: MIT
 * core/cgroup.h: the control groups (v1 and v2) that this process is in. Internal. */
#ifndef QUERN_CORE_CGROUP_H
#define QUERN_CORE_CGROUP_H

#include <stdint.h>

/* `folder` is the group's folder, without the sysroot. version is 1 or 2. */
typedef void (*qi_cgroup_visit)(void *ctx, int version, const char *folder);

/* Visits the group of this process under `controller` ("memory", "cpu") and every ancestor that can be seen from here, the
 * innermost first. On a hybrid system both hierarchies are visited: the one without the controller lacks its files. */
void qi_cgroup_walk(const char *sysroot, const char *controller, qi_cgroup_visit visit, void *ctx);

/* Threads that the tightest CPU quota allows, rounded up; 0: none. */
uint32_t qi_cgroup_cpu_quota(const char *sysroot);

#endif
