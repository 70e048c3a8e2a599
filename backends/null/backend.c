/* SPDX-License-Identifier: MIT */
#include "backends/null/backend.h"

#include "backends/null/buffer.h"
#include "backends/null/device.h"
#include "backends/null/ops.h"
#include "backends/null/program.h"
#include "backends/null/status.h"
#include "backends/null/timeline.h"
#include "backends/null/weights.h"

static const void *get_extension(const char *name)
{
    (void)name;
    return NULL;
}

static const qp_backend table = {
    .struct_size = sizeof table,
    .device_count = qn_device_count,
    .device_info = qn_device_info,
    .device_open = qn_device_open,
    .device_close = qn_device_close,
    .buffer_create = qn_buffer_create,
    .buffer_import = qn_buffer_import,
    .buffer_map = qn_buffer_map,
    .buffer_destroy = qn_buffer_destroy,
    .buffer_write = qn_buffer_write,
    .buffer_read = qn_buffer_read,
    .op_query = qn_op_query,
    .weight_layout = qn_weight_layout,
    .weight_pack = qn_weight_pack,
    .program_measure = qn_program_measure,
    .program_create = qn_program_create,
    .program_run = qn_program_run,
    .program_destroy = qn_program_destroy,
    .timeline_create = qn_timeline_create,
    .timeline_value = qn_timeline_value,
    .timeline_signal = qn_timeline_signal,
    .timeline_wait = qn_timeline_wait,
    .timeline_destroy = qn_timeline_destroy,
    .get_extension = get_extension,
};

const qp_backend *qn_backend(const qp_host *host)
{
    qn_set_host(host);
    return &table;
}
