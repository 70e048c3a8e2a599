/* SPDX-License-Identifier: MIT
 * quern/format.h: facts about tensor block formats, from QP_FORMAT_LIST. */
#ifndef QUERN_FORMAT_H
#define QUERN_FORMAT_H

#include <quern/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_format_info {
    const char *name;        /* "Q8_0" */
    qp_format format;
    uint32_t block_elements; /* elements a block, 1 for plain numbers */
    uint32_t block_bytes;
    int quantised;
} quern_format_info;

/* NULL for a number that no format has. Thread-safe, the pointer is valid forever. */
QUERN_API const quern_format_info *quern_format_get(qp_format format);
/* By name, letter case ignored; NULL when there is none. */
QUERN_API const quern_format_info *quern_format_by_name(const char *name);
/* Formats in the order of QP_FORMAT_LIST; NULL past the last. */
QUERN_API const quern_format_info *quern_format_at(uint32_t index);

/* Bytes of `elements` consecutive elements, which must be a whole number of blocks; false when they are not, the format is not
 * known, or the size overflows. */
QUERN_API int quern_format_bytes(qp_format format, int64_t elements, uint64_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
