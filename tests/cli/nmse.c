/* SPDX-License-Identifier: MIT
 * nmse REFERENCE.logits CANDIDATE.logits MAX: prints the normalised mean squared error; nonzero when it is larger than MAX, the
 * tokens differ, a logit is not finite or a file is malformed. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct logits {
    uint32_t tokens, vocabulary;
    int32_t *ids;
    float *values;
    size_t count;
} logits;

static int load(const char *path, logits *out)
{
    char magic[4];
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    int fine = fread(magic, 1, 4, file) == 4 && !memcmp(magic, "QLOG", 4) && fread(&out->tokens, 4, 1, file) == 1 &&
               fread(&out->vocabulary, 4, 1, file) == 1 && out->tokens < 1u << 20 && out->vocabulary < 1u << 20;
    out->count = fine ? (size_t)out->tokens * out->vocabulary : 0;
    out->ids = fine ? malloc(out->tokens * sizeof *out->ids) : NULL;
    out->values = fine ? malloc(out->count * sizeof *out->values) : NULL;
    fine = out->ids && out->values && fread(out->ids, 4, out->tokens, file) == out->tokens &&
           fread(out->values, 4, out->count, file) == out->count && fgetc(file) == EOF;
    fclose(file);
    return fine;
}

int main(int argc, char **argv)
{
    logits reference = {0}, candidate = {0};
    double error = 0, square = 0;
    if (argc != 4 || !load(argv[1], &reference) || !load(argv[2], &candidate))
        return fputs("nmse: a file is missing or malformed\n", stderr), 2;
    int fine = reference.tokens == candidate.tokens && reference.vocabulary == candidate.vocabulary &&
               !memcmp(reference.ids, candidate.ids, reference.tokens * sizeof *reference.ids);
    for (size_t i = 0; fine && i < reference.count; i++) {
        double difference = (double)reference.values[i] - (double)candidate.values[i];
        fine = isfinite(candidate.values[i]) != 0;
        error += difference * difference;
        square += (double)reference.values[i] * (double)reference.values[i];
    }
    if (fine)
        printf("%.3e\n", error / square);
    fine = fine && error / square <= strtod(argv[3], NULL);
    free(reference.ids);
    free(reference.values);
    free(candidate.ids);
    free(candidate.values);
    return !fine;
}
