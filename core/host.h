/* SPDX-License-Identifier: MIT
 * core/host.h: the services a plugin gets. Internal. */
#ifndef QUERN_CORE_HOST_H
#define QUERN_CORE_HOST_H

#include <quern/plugin.h>
#include <quern/topology.h>

#include <pthread.h>

/* One a loaded plugin. `api` is what the plugin sees; it stays at its address as long as the plugin is loaded. */
typedef struct qi_host {
    qp_host api;
    char plugin[64];
    int for_probe; /* in the probing child: a topology is loaded only when the plugin asks for processing units */
    pthread_mutex_t lock;
    quern_topology *topology; /* an owner's share, may be NULL */
} qi_host;

void qi_host_init(qi_host *host, const char *plugin);

/* The topology for cpus() and thread_start() from now on; NULL: none. Thread-safe. */
void qi_host_set_topology(qi_host *host, const quern_topology *topology);

#endif
