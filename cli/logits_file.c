/* SPDX-License-Identifier: MIT */
#include "cli/logits_file.h"
#include "cli/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the .logits file is written as it lies in memory: little endian machines only"
#endif

enum { HEADER_BYTES = 12 };

static int check(const char *path, FILE *file, cli_logits_header *out)
{
    unsigned char head[HEADER_BYTES];
    struct stat status;
    if (fread(head, 1, sizeof head, file) != sizeof head || memcmp(head, "QLOG", 4))
        return cli_fail("%s: is no .logits file (it does not begin with QLOG)", path);
    memcpy(&out->tokens, head + 4, 4);
    memcpy(&out->vocabulary, head + 8, 4);
    if (!out->tokens)
        return cli_fail("%s: holds no tokens", path);
    if (fstat(fileno(file), &status))
        return cli_fail("%s: cannot be examined: %s", path, strerror(errno));
    uint64_t per_token = 4 + 4 * (uint64_t)out->vocabulary, size = (uint64_t)status.st_size;
    if ((size - HEADER_BYTES) / per_token != out->tokens || (size - HEADER_BYTES) % per_token)
        return cli_fail("%s: %llu bytes do not match its header (%u tokens of a vocabulary of %u)", path, (unsigned long long)size,
                        out->tokens, out->vocabulary);
    out->ids = malloc((size_t)out->tokens * sizeof *out->ids);
    if (!out->ids)
        return cli_fail("%s: no memory for %u tokens", path, out->tokens);
    if (fread(out->ids, sizeof *out->ids, out->tokens, file) != out->tokens)
        return cli_fail("%s: cannot be read to its end", path);
    return 0;
}

int cli_logits_read(const char *path, cli_logits_header *out)
{
    *out = (cli_logits_header){0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return cli_fail("%s: cannot be opened: %s", path, strerror(errno));
    int status = check(path, file, out);
    fclose(file);
    return status;
}

int cli_logits_write_header(FILE *file, const int32_t *ids, uint32_t tokens, uint32_t vocabulary)
{
    return fwrite("QLOG", 4, 1, file) == 1 && fwrite(&tokens, 4, 1, file) == 1 && fwrite(&vocabulary, 4, 1, file) == 1 &&
           fwrite(ids, 4, tokens, file) == tokens;
}

int cli_logits_write_rows(FILE *file, const float *logits, size_t count)
{
    return fwrite(logits, sizeof *logits, count, file) == count;
}
