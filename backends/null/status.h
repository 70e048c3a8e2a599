/* SPDX-License-Identifier: MIT
 * backends/null/status.h: errors in words, and the host's services with the C library in their place where the host has none. */
#ifndef QUERN_BACKENDS_NULL_STATUS_H
#define QUERN_BACKENDS_NULL_STATUS_H

#include <quern/plugin.h>

/* Writes the words (if there is somewhere to) and gives back `status`. */
__attribute__((format(printf, 3, 4))) qp_status qn_fail(qp_text *error, qp_status status, const char *format, ...);

/* The host's services. Memory is 64-byte aligned; NULL when there is none. */
void qn_set_host(const qp_host *host);
void *qn_alloc(uint64_t size);
void *qn_alloc_zeroed(uint64_t size);
void qn_free(void *memory);
void qn_memory(uint64_t *total, uint64_t *available); /* 0: unknown */

#endif
