/* SPDX-License-Identifier: MIT
 * tests/engine/logits_file.h: files of logits to compare with: "QLOG", u32 tokens, u32 vocabulary, i32 ids[tokens],
 * f32 logits[tokens][vocabulary], little endian; a row holds the logits after the model has seen the tokens up to it. */
#ifndef TESTS_ENGINE_LOGITS_FILE_H
#define TESTS_ENGINE_LOGITS_FILE_H

#include "engine/help.h"

typedef struct reference {
    uint32_t tokens, vocabulary;
    int32_t *ids;
    double *logits;
} reference;

/* 0 when there is no such file or it is not whole. */
static int read_reference(const char *path, reference *r)
{
    FILE *file = fopen(path, "rb");
    uint32_t head[3];
    *r = (reference){0};
    if (!file)
        return 0;
    if (fread(head, sizeof head, 1, file) != 1 || memcmp(head, "QLOG", 4)) {
        fclose(file);
        return 0;
    }
    r->tokens = head[1];
    r->vocabulary = head[2];
    size_t n = (size_t)r->tokens * r->vocabulary;
    float *raw = malloc(n * sizeof *raw);
    r->ids = malloc(r->tokens * sizeof *r->ids);
    r->logits = malloc(n * sizeof *r->logits);
    int fine = fread(r->ids, sizeof *r->ids, r->tokens, file) == r->tokens && fread(raw, sizeof *raw, n, file) == n;
    for (size_t i = 0; fine && i < n; i++)
        r->logits[i] = (double)raw[i];
    free(raw);
    fclose(file);
    return fine;
}

static void free_reference(reference *r)
{
    free(r->ids);
    free(r->logits);
}

/* All logits of the reference's tokens, fed `chunk` at a time; out: tokens × vocabulary. */
static int collect(quern_session *s, const reference *r, uint32_t chunk, float *out, quern_error *error)
{
    for (uint32_t at = 0; at < r->tokens; at += chunk) {
        uint32_t n = r->tokens - at < chunk ? r->tokens - at : chunk;
        const float *logits;
        size_t rows = 0;
        if (quern_session_eval(s, r->ids + at, n, NULL, error) || quern_session_all_logits(s, &logits, &rows, error) || rows != n)
            return 0;
        memcpy(out + (size_t)at * r->vocabulary, logits, (size_t)n * r->vocabulary * sizeof *out);
    }
    return 1;
}

#endif
