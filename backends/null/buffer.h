/* SPDX-License-Identifier: MIT
 * backends/null/buffer.h: host memory, ours or imported. */
#ifndef QUERN_BACKENDS_NULL_BUFFER_H
#define QUERN_BACKENDS_NULL_BUFFER_H

#include <quern/plugin.h>

struct qp_buffer {
    qp_device *device;
    char *data;
    uint64_t size;
    int imported;
};

/* Is the range inside its buffer, and the buffer this device's? QP_ERR_INVALID with words about `what`. */
qp_status qn_range_check(const qp_device *device, const qp_range *range, const char *what, qp_text *error);

qp_status qn_buffer_create(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error);
qp_status qn_buffer_import(qp_device *device, void *memory, uint64_t size, qp_buffer **out, qp_text *error);
qp_status qn_buffer_map(qp_buffer *buffer, void **address, qp_text *error);
void qn_buffer_destroy(qp_buffer *buffer);
qp_status qn_buffer_write(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error);
qp_status qn_buffer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error);

#endif
