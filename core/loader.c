/* SPDX-License-Identifier: MIT */
#include "core/loader.h"
#include "core/call.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- checks before any call ---- */

/* Names come from files that may be anything: shown without control characters. */
static const char *printable(const char *text, char dst[QI_NAME_SIZE])
{
    size_t i = 0;
    for (; text && text[i] && i < QI_NAME_SIZE - 1; i++)
        dst[i] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
    dst[i] = '\0';
    return dst;
}

quern_status qi_plugin_check(const qp_plugin *plugin, const char *name, uint32_t host_minor, quern_error *error)
{
    char shown[QI_NAME_SIZE];
    if (plugin->magic != QP_MAGIC)
        return quern_fail(error, QP_ERR_FORMAT,
                          "its symbol " QP_PLUGIN_SYMBOL " starts with 0x%08x where 0x%08x is due: not a Quern plugin",
                          plugin->magic, QP_MAGIC);
    if (!QP_HAS(plugin, abi_minor))
        return quern_fail(error, QP_ERR_FORMAT,
                          "its description is %u bytes long, too short to hold its version: not a whole Quern plugin",
                          plugin->struct_size);
    if (plugin->abi_major != QP_ABI_MAJOR)
        return quern_fail(error, QP_ERR_UNSUPPORTED,
                          "it was built for plugin ABI %u.%u, this library speaks %u.%u: use a plugin and a library of one release",
                          plugin->abi_major, plugin->abi_minor, QP_ABI_MAJOR, host_minor);
    if (plugin->abi_minor > host_minor)
        return quern_fail(
            error, QP_ERR_UNSUPPORTED,
            "it needs plugin ABI %u.%u, this library speaks %u.%u: update Quern, or build the plugin against this release",
            plugin->abi_major, plugin->abi_minor, QP_ABI_MAJOR, host_minor);
    if (!QP_HAS(plugin, query))
        return quern_fail(
            error, QP_ERR_FORMAT, "its description is %u bytes long where ABI %u.%u needs %zu: not a whole Quern plugin",
            plugin->struct_size, plugin->abi_major, plugin->abi_minor, offsetof(qp_plugin, query) + sizeof plugin->query);
    if (!plugin->name || strcmp(plugin->name, name) != 0)
        return quern_fail(error, QP_ERR_FORMAT, "it calls itself \"%s\" but its file is quern_%s.so: rename the file",
                          printable(plugin->name, shown), name);
    if (!plugin->query)
        return quern_fail(error, QP_ERR_FORMAT, "its query function is NULL: the plugin is broken");
    return QP_OK;
}

/* Functions that every table of ABI 1.0 has. buffer_import may be NULL where no device can import. */
#define REQUIRED(X)                                                                                                                \
    X(device_count)                                                                                                                \
    X(device_info) X(device_open) X(device_close) X(buffer_create) X(buffer_map) X(buffer_destroy) X(buffer_write) X(buffer_read)  \
        X(op_query) X(weight_layout) X(weight_pack) X(program_measure) X(program_create) X(program_run) X(program_destroy)         \
            X(timeline_create) X(timeline_value) X(timeline_signal) X(timeline_wait) X(timeline_destroy)

quern_status qi_backend_check(const qp_backend *backend, quern_error *error)
{
    size_t least = offsetof(qp_backend, get_extension) + sizeof backend->get_extension; /* the last member of ABI 1.0 */
    if (backend->struct_size < least)
        return quern_fail(error, QP_ERR_FORMAT, "its backend table is %u bytes long where ABI 1.0 needs %zu: the plugin is broken",
                          backend->struct_size, least);
#define CHECK(member)                                                                                                              \
    if (!backend->member)                                                                                                          \
        return quern_fail(error, QP_ERR_FORMAT, "its backend table lacks " #member ": the plugin is broken");
    REQUIRED(CHECK)
#undef CHECK
    return QP_OK;
}

/* ---- modules ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list and around query() */
static qi_module *modules;

static qi_module *find_loaded(const struct stat *file)
{
    for (qi_module *m = modules; m; m = m->next)
        if (m->file_device == (uint64_t)file->st_dev && m->file_number == (uint64_t)file->st_ino)
            return m;
    return NULL;
}

static void tell(qi_stage stage, void *ctx, const char *what)
{
    if (stage)
        stage(ctx, what);
}

static quern_status query_backend(qi_module *module, quern_error *error)
{
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    module->backend = module->plugin->query(QP_ABI_MINOR, &module->host.api, &text);
    if (!module->backend)
        return qi_result(QP_ERR_UNSUPPORTED, words, "it offers no backend here and gives no reason", error);
    return qi_backend_check(module->backend, error);
}

static quern_status open_module(qi_module *module, const qi_file *file, qi_stage stage, void *stage_ctx, quern_error *error)
{
    tell(stage, stage_ctx, "while it was loaded");
    module->handle = dlopen(file->path, RTLD_NOW | RTLD_LOCAL);
    if (!module->handle) {
        const char *words = dlerror();
        return quern_fail(error, QP_ERR_IO, "it cannot be loaded: %s", words ? words : "no reason given");
    }
    module->plugin = dlsym(module->handle, QP_PLUGIN_SYMBOL);
    if (!module->plugin)
        return quern_fail(error, QP_ERR_FORMAT, "it exports no symbol " QP_PLUGIN_SYMBOL ": not a Quern plugin");
    quern_status status = qi_plugin_check(module->plugin, file->name, QP_ABI_MINOR, error);
    if (status)
        return status;
    tell(stage, stage_ctx, "in query()");
    return query_backend(module, error);
}

static quern_status load_module(const qi_file *file, const struct stat *facts, const quern_topology *topology, qi_stage stage,
                                void *stage_ctx, qi_module **out, quern_error *error)
{
    qi_module *module = calloc(1, sizeof *module);
    if (!module)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to load a plugin");
    module->file_device = (uint64_t)facts->st_dev;
    module->file_number = (uint64_t)facts->st_ino;
    qi_host_init(&module->host, file->name);
    module->host.for_probe = stage != NULL;
    qi_host_set_topology(&module->host, topology);
    quern_status status = open_module(module, file, stage, stage_ctx, error);
    if (status) {
        if (module->handle)
            dlclose(module->handle);
        qi_host_set_topology(&module->host, NULL);
        pthread_mutex_destroy(&module->host.lock);
        free(module);
        return status;
    }
    module->next = modules;
    modules = module;
    *out = module;
    return QP_OK;
}

quern_status qi_module_get(const qi_file *file, const quern_topology *topology, qi_stage stage, void *stage_ctx, qi_module **out,
                           quern_error *error)
{
    struct stat facts;
    if (stat(file->path, &facts))
        return quern_fail(error, QP_ERR_IO, "%s cannot be read", file->path);
    pthread_mutex_lock(&lock);
    qi_module *module = find_loaded(&facts);
    quern_status status = QP_OK;
    if (!module)
        status = load_module(file, &facts, topology, stage, stage_ctx, &module, error);
    else if (!module->users)
        qi_host_set_topology(&module->host, topology);
    if (!status) {
        module->users++;
        *out = module;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

void qi_module_put(qi_module *module)
{
    if (!module)
        return;
    pthread_mutex_lock(&lock);
    if (--module->users == 0)
        qi_host_set_topology(&module->host, NULL); /* its owner may count on it being freed */
    pthread_mutex_unlock(&lock);
}

/* ---- what a plugin says of a device ---- */

quern_status qi_info_check(qp_device_info *info, quern_error *error)
{
    info->name[sizeof info->name - 1] = '\0';
    info->driver[sizeof info->driver - 1] = '\0';
    info->features[sizeof info->features - 1] = '\0';
    if (!info->name[0])
        return quern_fail(error, QP_ERR_INTERNAL, "the plugin gives it no name");
    if (info->heap_count < 1 || info->heap_count > QP_MAX_HEAPS)
        return quern_fail(error, QP_ERR_INTERNAL, "the plugin gives it %u heaps, 1 to %d are possible", info->heap_count,
                          QP_MAX_HEAPS);
    if (info->weight_heap >= info->heap_count || info->host_heap >= info->heap_count)
        return quern_fail(error, QP_ERR_INTERNAL, "the plugin names heaps %u and %u of %u", info->weight_heap, info->host_heap,
                          info->heap_count);
    for (uint32_t i = 0; i < info->heap_count; i++) {
        uint32_t alignment = info->heaps[i].alignment;
        if (!alignment || (alignment & (alignment - 1)))
            return quern_fail(error, QP_ERR_INTERNAL, "the plugin gives heap %u the alignment %u, which is no power of two", i,
                              alignment);
    }
    return QP_OK;
}

quern_status qi_module_info(const qi_module *module, uint32_t index, qp_device_info *info, quern_error *error)
{
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    qp_device_info fresh = {.struct_size = sizeof fresh};
    qp_status status = module->backend->device_info(index, &fresh, &text);
    if (status)
        return qi_result(status, words, "the plugin cannot describe the device and gives no reason", error);
    fresh.struct_size = sizeof fresh;
    status = qi_info_check(&fresh, error);
    if (!status)
        *info = fresh;
    return status;
}
