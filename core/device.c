/* SPDX-License-Identifier: MIT */
#include "core/device.h"
#include "core/check.h"
#include "core/context.h"

#include <quern/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- results ---- */

quern_status qi_device_ready(quern_device *device, quern_error *error)
{
    if (!atomic_load_explicit(&device->lost, memory_order_acquire))
        return QP_OK;
    return quern_fail(error, QP_ERR_DEVICE_LOST, "%s", device->lost_words);
}

static void remember_loss(quern_device *device, const char *words)
{
    pthread_mutex_lock(&device->lock);
    if (!atomic_load(&device->lost)) {
        snprintf(device->lost_words, sizeof device->lost_words, "%s: the device was lost: %.360s; close it and open it again",
                 device->id, words[0] ? words : "the driver gave no reason");
        atomic_store_explicit(&device->lost, 1, memory_order_release);
        quern_log(QUERN_LOG_INFO, "%s", device->lost_words); /* whoever made the call is told anyway */
    }
    pthread_mutex_unlock(&device->lock);
}

quern_status qi_device_result(quern_device *device, qp_status status, char words[QI_TEXT], quern_error *error)
{
    if (status == QP_OK)
        return status;
    char otherwise[128];
    snprintf(otherwise, sizeof otherwise, "%s (the plugin gives no reason)", quern_status_name(status));
    quern_error local = {0};
    status = qi_result(status, words, otherwise, &local);
    if (status == QP_ERR_DEVICE_LOST) {
        remember_loss(device, words);
        return qi_device_ready(device, error);
    }
    return quern_fail(error, status, "%s: %s", device->id, local.text);
}

int qi_inside(uint64_t offset, uint64_t size, uint64_t total)
{
    return offset <= total && size <= total - offset;
}

/* ---- live handles ---- */

/* Index of the handle, or of where it would go. */
static uint32_t live_place(const qi_live_set *set, const void *handle)
{
    uint32_t low = 0, high = set->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uintptr_t)set->list[middle].handle < (uintptr_t)handle)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int live_room(qi_live_set *set)
{
    if (set->count < set->room)
        return 1;
    uint32_t room = set->room ? set->room * 2 : 16;
    qi_live *list = realloc(set->list, room * sizeof *list);
    if (!list)
        return 0;
    set->list = list;
    set->room = room;
    return 1;
}

int qi_live_add(quern_device *device, qi_live_set *set, const void *handle, void *object)
{
    pthread_mutex_lock(&device->lock);
    int fine = live_room(set);
    if (fine) {
        uint32_t at = live_place(set, handle);
        memmove(&set->list[at + 1], &set->list[at], (set->count - at) * sizeof *set->list);
        set->list[at] = (qi_live){handle, object};
        set->count++;
    }
    pthread_mutex_unlock(&device->lock);
    return fine;
}

static void *find_locked(const qi_live_set *set, const void *handle)
{
    uint32_t at = live_place(set, handle);
    return at < set->count && set->list[at].handle == handle ? set->list[at].object : NULL;
}

static void remove_locked(qi_live_set *set, const void *handle)
{
    uint32_t at = live_place(set, handle);
    if (at < set->count && set->list[at].handle == handle) {
        set->count--;
        memmove(&set->list[at], &set->list[at + 1], (set->count - at) * sizeof *set->list);
    }
}

void qi_live_remove(quern_device *device, qi_live_set *set, const void *handle)
{
    pthread_mutex_lock(&device->lock);
    remove_locked(set, handle);
    pthread_mutex_unlock(&device->lock);
}

void *qi_live_find(quern_device *device, qi_live_set *set, const void *handle)
{
    pthread_mutex_lock(&device->lock);
    void *object = find_locked(set, handle);
    pthread_mutex_unlock(&device->lock);
    return object;
}

quern_buffer *qi_buffer_share(quern_device *device, const qp_buffer *handle)
{
    pthread_mutex_lock(&device->lock);
    quern_buffer *buffer = find_locked(&device->buffers, handle);
    if (buffer)
        atomic_fetch_add(&buffer->owners, 1);
    pthread_mutex_unlock(&device->lock);
    return buffer;
}

int qi_buffer_unshare(quern_buffer *buffer)
{
    quern_device *device = buffer->device;
    pthread_mutex_lock(&device->lock);
    int last = atomic_fetch_sub(&buffer->owners, 1) == 1;
    if (last)
        remove_locked(&device->buffers, buffer->handle);
    pthread_mutex_unlock(&device->lock);
    return last;
}

/* ---- opening ---- */

/* Probing happened in another process and a while ago: is this still that device? */
static quern_status check_same(const qp_device_info *probed, const qp_device_info *now, quern_error *error)
{
    int same = probed->kind == now->kind && !strcmp(probed->name, now->name);
    if (same && probed->flags & now->flags & QP_DEVICE_HAS_UUID)
        same = !memcmp(probed->uuid, now->uuid, sizeof now->uuid);
    if (!same)
        return quern_fail(error, QP_ERR_NOT_FOUND,
                          "the plugin now lists \"%s\" where \"%s\" was: the hardware changed, make a new context", now->name,
                          probed->name);
    return QP_OK;
}

static qp_device_options read_options(const quern_device_options *options)
{
    qp_device_options o = {.struct_size = sizeof o};
    if (options && QP_HAS(options, threads))
        o.threads = options->threads;
    if (options && QP_HAS(options, variant))
        o.variant = options->variant;
    if (options && QP_HAS(options, max_submit_ms))
        o.max_submit_ms = options->max_submit_ms;
    return o;
}

static quern_status open_view(quern_device *device, const quern_device_view *view, const quern_device_options *options,
                              quern_error *error)
{
    quern_status status = qi_context_module(device->context, view->plugin, &device->module, error);
    if (status)
        return status;
    const qi_module *module = device->module;
    device->backend = module->backend;
    device->index = view->plugin_index;
    if (view->plugin_index >= module->backend->device_count())
        return quern_fail(error, QP_ERR_NOT_FOUND, "%s: the device is gone since it was listed: make a new context", device->id);
    status = qi_module_info(module, view->plugin_index, &device->info, error);
    if (!status)
        status = check_same(&view->info, &device->info, error);
    if (status)
        return quern_fail_prefix(error, status, "%s: ", device->id);
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    qp_device_options o = read_options(options);
    status = module->backend->device_open(view->plugin_index, &o, &device->handle, &text);
    if (!status && !device->handle)
        status = QP_ERR_INTERNAL;
    return qi_device_result(device, status, words, error);
}

quern_status quern_device_open(quern_context *context, const char *id, const quern_device_options *options, quern_device **out,
                               quern_error *error)
{
    if (!context || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_device_open: %s is NULL", context ? "out" : "context");
    const quern_device_entry *entry = NULL;
    const quern_device_view *view = NULL;
    quern_status status = quern_context_find(context, id, &entry, error);
    if (status)
        return status;
    quern_device *device = calloc(1, sizeof *device);
    if (!device)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a device");
    qi_registry_find(&context->registry, id, &view);
    atomic_fetch_add(&context->owners, 1);
    atomic_init(&device->owners, 1);
    device->context = context;
    qi_registry_view_id(&context->registry, view, device->id, sizeof device->id);
    pthread_mutex_init(&device->serial, NULL);
    pthread_mutex_init(&device->lock, NULL);
    status = open_view(device, view, options, error);
    if (status)
        qi_device_release(device);
    else
        *out = device;
    return status;
}

void qi_device_retain(quern_device *device)
{
    atomic_fetch_add(&device->owners, 1);
}

void qi_device_release(quern_device *device)
{
    if (atomic_fetch_sub(&device->owners, 1) > 1)
        return;
    if (device->handle)
        device->backend->device_close(device->handle);
    free(device->buffers.list);
    free(device->timelines.list);
    pthread_mutex_destroy(&device->serial);
    pthread_mutex_destroy(&device->lock);
    quern_context_destroy(device->context);
    free(device);
}

void quern_device_close(quern_device *device)
{
    if (!device)
        return;
    uint32_t children = atomic_load(&device->owners) - 1;
    if (children)
        quern_log(QUERN_LOG_WARN,
                  "%s: closed while %u of its buffers, programs or timelines exist; it stays open until they are destroyed",
                  device->id, children);
    qi_device_release(device);
}

const qp_device_info *quern_device_info(const quern_device *device)
{
    return device ? &device->info : NULL;
}

const char *quern_device_id(const quern_device *device)
{
    return device ? device->id : "";
}

quern_status quern_device_refresh(quern_device *device, qp_device_info *info, quern_error *error)
{
    if (!device || !info)
        return quern_fail(error, QP_ERR_INVALID, "quern_device_refresh: %s is NULL", device ? "info" : "device");
    quern_status status = qi_device_ready(device, error);
    if (!status)
        status = qi_check_size(device, "device information", info->struct_size, QI_KNOWN(*info, heaps), error);
    if (status)
        return status;
    qp_device_info fresh;
    status = qi_module_info(device->module, device->index, &fresh, error);
    if (status)
        return quern_fail_prefix(error, status, "%s: ", device->id);
    qi_hand_out(info, &fresh, sizeof fresh);
    return QP_OK;
}
