/* SPDX-License-Identifier: MIT
 * tests/plugins/flaky/flaky.c: a sound plugin that goes wrong once, when the environment says so. NAME is what the file is called.
 *
 *   QUERN_FLAKY_TARGET=FILE        the sound plugin
 *   QUERN_FLAKY_NAME=CALL:N:WHAT   of the plugin NAME, at the N-th call (from 1) of CALL, which is run, wait, pack, read or buffer:
 *     lost    the device is lost there, and from then on
 *     oom     no memory, there and from then on
 *
 * Both are looked at when a device is opened, one at a time. It says that it is a GPU, so that a host has a reason to leave it for
 * the CPU. */
#include <dlfcn.h>
#include <quern/plugin.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum call { RUN, WAIT, PACK, READ, BUFFER, CALLS };
static const char *const names[CALLS] = {"run", "wait", "pack", "read", "buffer"};

static const qp_backend *sound;
static qp_backend table;
static int fault_call = -1;
static unsigned long fault_nth;
static qp_status fault_status;
static atomic_ulong counts[CALLS];
static atomic_int gone;

/* QP_OK, or what the call is to give in place of its result. */
static qp_status strike(enum call at, qp_text *error)
{
    unsigned long now = atomic_fetch_add(&counts[at], 1) + 1;
    if ((int)at == fault_call && now >= fault_nth && fault_status == QP_ERR_DEVICE_LOST)
        atomic_store(&gone, 1);
    qp_status status = atomic_load(&gone) ? QP_ERR_DEVICE_LOST : QP_OK;
    if ((int)at == fault_call && now >= fault_nth)
        status = fault_status;
    if (status && error && error->size)
        snprintf(error->data, error->size, status == QP_ERR_DEVICE_LOST ? "the card fell out of its slot" : "no memory is left");
    return status;
}

static qp_status program_run(qp_program *program, const qp_run *run, qp_text *error)
{
    qp_status status = strike(RUN, error);
    return status ? status : sound->program_run(program, run, error);
}

static qp_status timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error)
{
    qp_status status = strike(WAIT, error);
    qp_status real = sound->timeline_wait(timeline, value, timeout_ns, error);
    return status ? status : real;
}

static qp_status weight_pack(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                             int64_t rows, qp_range dst, qp_text *error)
{
    qp_status status = strike(PACK, error);
    return status ? status : sound->weight_pack(device, desc, src, src_bytes, row, rows, dst, error);
}

static qp_status buffer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error)
{
    qp_status status = strike(READ, error);
    return status ? status : sound->buffer_read(buffer, offset, data, size, error);
}

static qp_status buffer_create(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error)
{
    qp_status status = strike(BUFFER, error);
    return status ? status : sound->buffer_create(device, heap, size, out, error);
}

static qp_status buffer_map(qp_buffer *buffer, void **address, qp_text *error)
{
    (void)buffer, (void)address;
    if (error && error->size)
        snprintf(error->data, error->size, "the host sees nothing of this memory");
    return QP_ERR_UNSUPPORTED;
}

static qp_status device_info(uint32_t index, qp_device_info *info, qp_text *error)
{
    qp_status status = sound->device_info(index, info, error);
    if (status)
        return status;
    info->kind = QP_DEVICE_GPU_SOFTWARE;
    for (uint32_t i = 0; i < info->heap_count && i < QP_MAX_HEAPS; i++) /* so that results are read by a call */
        info->heaps[i].flags &= ~(uint32_t)(QP_HEAP_HOST_VISIBLE | QP_HEAP_HOST_CACHED);
    return QP_OK;
}

static void read_fault(void)
{
    char what[8] = "", call[8] = "";
    const char *text = getenv("QUERN_FLAKY_" NAME);
    fault_call = -1;
    atomic_store(&gone, 0);
    for (int i = 0; i < CALLS; i++)
        atomic_store(&counts[i], 0);
    if (!text || sscanf(text, "%7[a-z]:%lu:%7s", call, &fault_nth, what) != 3)
        return;
    for (int i = 0; i < CALLS; i++)
        if (!strcmp(call, names[i]))
            fault_call = i;
    fault_status = !strcmp(what, "lost") ? QP_ERR_DEVICE_LOST : QP_ERR_OUT_OF_MEMORY;
}

static qp_status device_open(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error)
{
    read_fault();
    return sound->device_open(index, options, out, error);
}

static const qp_backend *query(uint32_t host_minor, const qp_host *host, qp_text *reason)
{
    const char *target = getenv("QUERN_FLAKY_TARGET");
    void *handle = target ? dlopen(target, RTLD_NOW | RTLD_LOCAL) : NULL;
    const qp_plugin *plugin = handle ? dlsym(handle, QP_PLUGIN_SYMBOL) : NULL;
    sound = plugin ? plugin->query(host_minor, host, reason) : NULL;
    if (!sound)
        return NULL;
    table = *sound;
    table.device_open = device_open;
    table.program_run = program_run;
    table.timeline_wait = timeline_wait;
    table.weight_pack = weight_pack;
    table.buffer_read = buffer_read;
    table.buffer_create = buffer_create;
    table.buffer_map = buffer_map;
    table.device_info = device_info;
    return &table;
}

extern QP_EXPORT const qp_plugin quern_plugin;
const qp_plugin quern_plugin = {
    .magic = QP_MAGIC,
    .struct_size = sizeof quern_plugin,
    .abi_major = QP_ABI_MAJOR,
    .abi_minor = QP_ABI_MINOR,
    .name = NAME,
    .version = "1",
    .query = query,
};
