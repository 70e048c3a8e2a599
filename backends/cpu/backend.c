/* SPDX-License-Identifier: MIT
 * The backend table. */
#include "backends/cpu/backend.h"

#include "backends/cpu/buffer.h"
#include "backends/cpu/device.h"
#include "backends/cpu/ops.h"
#include "backends/cpu/program.h"
#include "backends/cpu/status.h"
#include "backends/cpu/timeline.h"
#include "backends/cpu/weights.h"

static const void *get_extension(const char *name)
{
    (void)name;
    return NULL; /* none yet */
}

static const qp_backend table = {
    .struct_size = sizeof table,
    .device_count = qc_device_count,
    .device_info = qc_device_info,
    .device_open = qc_device_open,
    .device_close = qc_device_close,
    .buffer_create = qc_buffer_create,
    .buffer_import = qc_buffer_import,
    .buffer_map = qc_buffer_map,
    .buffer_destroy = qc_buffer_destroy,
    .buffer_write = qc_buffer_write,
    .buffer_read = qc_buffer_read,
    .op_query = qc_op_query,
    .weight_layout = qc_weight_layout,
    .weight_pack = qc_weight_pack,
    .program_measure = qc_program_measure,
    .program_create = qc_program_create,
    .program_run = qc_program_run,
    .program_destroy = qc_program_destroy,
    .timeline_create = qc_timeline_create,
    .timeline_value = qc_timeline_value,
    .timeline_signal = qc_timeline_signal,
    .timeline_wait = qc_timeline_wait,
    .timeline_destroy = qc_timeline_destroy,
    .get_extension = get_extension,
};

const qp_backend *qc_backend(const qp_host *host)
{
    qc_set_host(host);
    return &table;
}
