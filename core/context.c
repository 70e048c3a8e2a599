/* SPDX-License-Identifier: MIT */
#include "core/context.h"
#include "core/probe.h"
#include "core/topology.h"

#include <quern/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBE_TIMEOUT_MS = 2000 };

static quern_context_options read_options(const quern_context_options *options)
{
    quern_context_options o = {.probe_timeout_ms = 0};
    if (options) {
        if (QP_HAS(options, probe_timeout_ms))
            o.probe_timeout_ms = options->probe_timeout_ms;
        if (QP_HAS(options, plugin_path))
            o.plugin_path = options->plugin_path;
        if (QP_HAS(options, only))
            o.only = options->only;
        if (QP_HAS(options, topology))
            o.topology = options->topology;
    }
    if (!o.probe_timeout_ms)
        o.probe_timeout_ms = PROBE_TIMEOUT_MS;
    return o;
}

/* ---- keeping what the probes found ---- */

static void add_failure(quern_context *context, const char *name, const char *path, const char *reason)
{
    quern_plugin_failure *f = &context->failures[context->failure_count++];
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->path, sizeof f->path, "%s", path);
    snprintf(f->reason, sizeof f->reason, "%s", reason);
    quern_log(QUERN_LOG_INFO, "plugin %s (%s) is left out: %s", f->name, f->path, f->reason);
}

static quern_status keep_reports(quern_context *context, const qi_report *reports, quern_error *error)
{
    uint32_t views = 0, files = context->files.count;
    for (uint32_t i = 0; i < files; i++)
        views += reports[i].count;
    context->views = calloc((size_t)views + 1, sizeof *context->views);
    context->failures = calloc((size_t)files + 1, sizeof *context->failures); /* one more for a plugin that is not there */
    if (!context->views || !context->failures)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to list %u devices", views);
    for (uint32_t i = 0; i < files; i++) {
        const qi_file *file = &context->files.list[i];
        for (uint32_t j = 0; j < reports[i].count; j++) {
            quern_device_view *view = &context->views[context->view_count++];
            memcpy(view->plugin, file->name, sizeof file->name);
            view->plugin_index = j;
            view->info = reports[i].devices[j];
        }
        if (reports[i].failure[0])
            add_failure(context, file->name, file->path, reports[i].failure);
    }
    return qi_registry_build(context->views, context->view_count, context->topology, &context->registry, error);
}

static void note_absence(quern_context *context, const char *only)
{
    char reason[sizeof context->failures->reason];
    if (!only || context->files.count)
        return;
    snprintf(reason, sizeof reason, "there is no file quern_%.60s.so in %.400s", only,
             context->files.searched[0] ? context->files.searched : "any folder searched");
    add_failure(context, only, "", reason);
}

static quern_status discover(quern_context *context, const quern_context_options *o, quern_error *error)
{
    quern_status status = QP_OK;
    if (o->topology)
        context->topology = qi_topology_retain(o->topology);
    else
        status = quern_topology_load(NULL, &context->topology, error);
    if (!status)
        status = qi_files_find(o->plugin_path, o->only, &context->files, error);
    if (status)
        return status;
    uint32_t count = context->files.count;
    qi_report *reports = calloc((size_t)count + 1, sizeof *reports);
    context->modules = calloc((size_t)count + 1, sizeof(qi_module *));
    if (!reports || !context->modules) {
        free(reports);
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to probe %u plugins", count);
    }
    qi_probe_all(context->files.list, count, o->probe_timeout_ms, context->topology, reports);
    status = keep_reports(context, reports, error);
    if (!status)
        note_absence(context, o->only);
    for (uint32_t i = 0; i < count; i++)
        qi_report_free(&reports[i]);
    free(reports);
    return status;
}

/* ---- public ---- */

quern_status quern_context_create(const quern_context_options *options, quern_context **out, quern_error *error)
{
    if (!out)
        return quern_fail(error, QP_ERR_INVALID, "quern_context_create: out is NULL");
    quern_context_options o = read_options(options);
    quern_context *context = calloc(1, sizeof *context);
    if (!context)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a context");
    atomic_init(&context->owners, 1);
    pthread_mutex_init(&context->lock, NULL);
    quern_status status = discover(context, &o, error);
    if (status)
        quern_context_destroy(context);
    else
        *out = context;
    return status;
}

void quern_context_destroy(quern_context *context)
{
    if (!context || atomic_fetch_sub(&context->owners, 1) > 1)
        return;
    for (uint32_t i = 0; context->modules && i < context->files.count; i++)
        qi_module_put(context->modules[i]);
    free(context->modules);
    qi_files_free(&context->files);
    qi_registry_free(&context->registry);
    free(context->views);
    free(context->failures);
    quern_topology_free(context->topology);
    pthread_mutex_destroy(&context->lock);
    free(context);
}

const quern_topology *quern_context_topology(const quern_context *context)
{
    return context ? context->topology : NULL;
}

const quern_device_entry *quern_context_device(const quern_context *context, uint32_t index)
{
    return context && index < context->registry.count ? &context->registry.entries[index] : NULL;
}

const quern_plugin_failure *quern_context_failure(const quern_context *context, uint32_t index)
{
    return context && index < context->failure_count ? &context->failures[index] : NULL;
}

/* ---- finding, with words for a miss ---- */

static void list_ids(const quern_context *context, char *dst, size_t size)
{
    dst[0] = '\0';
    for (uint32_t i = 0; i < context->registry.count; i++) {
        const quern_device_entry *entry = &context->registry.entries[i];
        for (uint32_t j = 0; j < entry->view_count; j++) {
            char id[sizeof entry->id];
            qi_registry_view_id(&context->registry, &entry->views[j], id, sizeof id);
            size_t used = strlen(dst);
            snprintf(dst + used, size - used, "%s%s", used ? ", " : "", id);
        }
    }
}

static const quern_plugin_failure *failure_of(const quern_context *context, const char *id)
{
    size_t length = strcspn(id, ":");
    for (uint32_t i = 0; i < context->failure_count; i++)
        if (strlen(context->failures[i].name) == length && !strncmp(context->failures[i].name, id, length))
            return &context->failures[i];
    return NULL;
}

/* Nothing to compute with: why not is what the user needs, and the first plugin's reason stands for the others'. */
static quern_status no_device(const quern_context *context, const char *ids, quern_error *error)
{
    const quern_plugin_failure *first = context->failure_count ? &context->failures[0] : NULL;
    if (first)
        return quern_fail(error, QP_ERR_NOT_FOUND, "no device that computes: plugin %.60s did not load: %.250s%s", first->name,
                          first->reason, context->failure_count > 1 ? " (and others; `quern devices` lists them)" : "");
    if (ids[0])
        return quern_fail(error, QP_ERR_NOT_FOUND, "no device that computes; there are only: %s", ids);
    return quern_fail(error, QP_ERR_NOT_FOUND, "no device: no plugin was found; searched %.300s",
                      context->files.searched[0] ? context->files.searched : "no folder (none exists)");
}

static quern_status not_found(const quern_context *context, const char *id, quern_error *error)
{
    char ids[160];
    list_ids(context, ids, sizeof ids);
    const quern_plugin_failure *failure = id ? failure_of(context, id) : NULL;
    if (!id || !strcmp(id, "auto"))
        return no_device(context, ids, error);
    if (failure)
        return quern_fail(error, QP_ERR_NOT_FOUND, "no device \"%.80s\": its plugin did not load: %.250s; devices: %s", id,
                          failure->reason, ids[0] ? ids : "none");
    return quern_fail(error, QP_ERR_NOT_FOUND, "no device \"%.80s\"; devices: %s", id, ids[0] ? ids : "none");
}

quern_status quern_context_find(const quern_context *context, const char *id, const quern_device_entry **out, quern_error *error)
{
    if (!context || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_context_find: %s is NULL", context ? "out" : "context");
    const quern_device_entry *entry = qi_registry_find(&context->registry, id, NULL);
    if (!entry)
        return not_found(context, id, error);
    *out = entry;
    return QP_OK;
}

/* ---- plugins in this process ---- */

quern_status qi_context_module(quern_context *context, const char *plugin, const qi_module **out, quern_error *error)
{
    uint32_t i = 0;
    while (i < context->files.count && strcmp(context->files.list[i].name, plugin) != 0)
        i++;
    if (i == context->files.count)
        return quern_fail(error, QP_ERR_NOT_FOUND, "there is no plugin %s", plugin);
    pthread_mutex_lock(&context->lock);
    quern_status status = QP_OK;
    if (!context->modules[i])
        status = qi_module_get(&context->files.list[i], context->topology, NULL, NULL, &context->modules[i], error);
    if (!status)
        *out = context->modules[i];
    pthread_mutex_unlock(&context->lock);
    return status ? quern_fail_prefix(error, status, "plugin %s: ", plugin) : QP_OK;
}
