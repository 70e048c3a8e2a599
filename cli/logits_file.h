/* SPDX-License-Identifier: MIT
 * cli/logits_file.h: .logits files, little endian: "QLOG", u32 tokens, u32 vocabulary, i32 ids[tokens], f32
 * logits[tokens][vocabulary]; row i holds the logits after the model has seen ids[0..i]. */
#ifndef CLI_LOGITS_FILE_H
#define CLI_LOGITS_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct cli_logits_header {
    uint32_t tokens, vocabulary;
    int32_t *ids; /* malloc'd */
} cli_logits_header;

/* Reads the header and ids; checks the file's size against them. 0, or CLI_FAILED with the reason written. */
int cli_logits_read(const char *path, cli_logits_header *out);
/* Nonzero when all was written. */
int cli_logits_write_header(FILE *file, const int32_t *ids, uint32_t tokens, uint32_t vocabulary);
int cli_logits_write_rows(FILE *file, const float *logits, size_t count);

#endif
