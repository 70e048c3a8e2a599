/* SPDX-License-Identifier: MIT
 * core/context.h: what a context holds. Internal. */
#ifndef QUERN_CORE_CONTEXT_H
#define QUERN_CORE_CONTEXT_H

#include "core/loader.h"
#include "core/registry.h"

#include <pthread.h>
#include <stdatomic.h>

struct quern_context {
    atomic_uint owners; /* the caller and every open device */
    quern_topology *topology;
    qi_files files;
    qi_module **modules; /* one a file, NULL until a device of it is opened; guarded by lock */
    pthread_mutex_t lock;
    quern_device_view *views;
    uint32_t view_count;
    qi_registry registry;
    quern_plugin_failure *failures;
    uint32_t failure_count;
};

/* The plugin that a view came from, loaded into this process. It belongs to the context. Thread-safe. */
quern_status qi_context_module(quern_context *context, const char *plugin, const qi_module **out, quern_error *error);

#endif
