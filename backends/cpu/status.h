/* SPDX-License-Identifier: MIT
 * backends/cpu/status.h: errors in words, and the host's services with the C library in their place where the host has none. */
#ifndef QUERN_BACKENDS_CPU_STATUS_H
#define QUERN_BACKENDS_CPU_STATUS_H

#include <quern/plugin.h>

/* Writes the words (if there is somewhere to) and gives back `status`. */
__attribute__((format(printf, 3, 4))) qp_status qc_fail(qp_text *error, qp_status status, const char *format, ...);

/* "1.50 GiB" */
typedef struct qc_words {
    char text[64];
} qc_words;
qc_words qc_bytes_words(uint64_t bytes);
qc_words qc_shape_words(const qp_tensor *tensor); /* "f16 {64, 8, 512}" */
const char *qc_format_name(qp_format format);     /* "q8_0"; "?" for a number that no format has */

/* The host's services. Zeroed memory, 64-byte aligned; NULL when there is none. */
void qc_set_host(const qp_host *host);
const qp_host *qc_host(void);
void *qc_alloc(size_t size);
void qc_free(void *memory);
void qc_memory(uint64_t *total, uint64_t *available);

#endif
