/* SPDX-License-Identifier: MIT
 * backends/cpu/buffer.h: memory of the one heap, or the host's own. */
#ifndef QUERN_BACKENDS_CPU_BUFFER_H
#define QUERN_BACKENDS_CPU_BUFFER_H

#include <quern/plugin.h>

struct qp_buffer {
    qp_device *device;
    char *data;
    uint64_t size;
    void *mapping; /* what to unmap; NULL: imported */
    uint64_t mapping_size;
    qp_buffer *next, **previous; /* in the list of mappings */
};

/* Memory in all, and what may still be asked for: what the host has, less what buffers were promised and nobody has touched yet (until
 * it is touched, the system counts it as free). */
void qc_memory_left(uint64_t *total, uint64_t *left);

/* The address of a range; QP_ERR_INVALID with words about `what` when it is not inside the buffer. */
qp_status qc_range_address(const qp_range *range, const char *what, char **out, qp_text *error);

qp_status qc_buffer_create(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error);
qp_status qc_buffer_import(qp_device *device, void *memory, uint64_t size, qp_buffer **out, qp_text *error);
qp_status qc_buffer_map(qp_buffer *buffer, void **address, qp_text *error);
void qc_buffer_destroy(qp_buffer *buffer);
qp_status qc_buffer_write(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error);
qp_status qc_buffer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error);

#endif
