/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/backend.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/code.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/ops.h"
#include "backends/vulkan/program.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/timeline.h"
#include "backends/vulkan/weights.h"

#include <string.h>

static const void *get_extension(const char *name)
{
    static const qp_kernels kernels = {.struct_size = sizeof kernels, .test = qv_selftest_all, .compile = qv_code_compile};
    return strcmp(name, "quern.kernels/1") != 0 ? NULL : &kernels;
}

static const qp_backend table = {
    .struct_size = sizeof table,
    .device_count = qv_device_count,
    .device_info = qv_device_info,
    .device_open = qv_device_open,
    .device_close = qv_device_close,
    .buffer_create = qv_buffer_create,
    .buffer_import = qv_buffer_import,
    .buffer_map = qv_buffer_map,
    .buffer_destroy = qv_buffer_destroy,
    .buffer_write = qv_buffer_write,
    .buffer_read = qv_buffer_read,
    .op_query = qv_op_query,
    .weight_layout = qv_weight_layout,
    .weight_pack = qv_weight_pack,
    .program_measure = qv_program_measure,
    .program_create = qv_program_create,
    .program_run = qv_program_run,
    .program_destroy = qv_program_destroy,
    .timeline_create = qv_timeline_create,
    .timeline_value = qv_timeline_value,
    .timeline_signal = qv_timeline_signal,
    .timeline_wait = qv_timeline_wait,
    .timeline_destroy = qv_timeline_destroy,
    .get_extension = get_extension,
};

const qp_backend *qv_backend(const qp_host *host, qp_text *reason)
{
    qv_set_host(host);
    return qv_devices_find(reason) ? NULL : &table;
}
