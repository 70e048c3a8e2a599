/* SPDX-License-Identifier: MIT
 * Weight layouts and packing. That packed weights mean the right numbers is for test_ops.c and test_matmul.c. */
#include "tests/cts/case.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const qp_format formats[] = {
#define NUMBER(name, number, elements, bytes, quantised) number,
    QP_FORMAT_LIST(NUMBER)
#undef NUMBER
};
enum { FORMATS = sizeof formats / sizeof *formats };

static qp_weight_desc describe(qp_format format, int64_t k, int64_t m, uint32_t uses)
{
    return (qp_weight_desc){.struct_size = sizeof(qp_weight_desc), .format = format, .uses = uses, .ne = {k, m, 1, 1}};
}

static int sane(const qp_weight_desc *d, const qp_weight_info *i)
{
    uint64_t row = (uint64_t)d->ne[0] / qk_block_elements(d->format) * qk_block_bytes(d->format);
    int alignment = i->alignment && !(i->alignment & (i->alignment - 1)) && i->alignment <= 1 << 20;
    int plain = !(d->uses & QP_WEIGHT_PLAIN) || (i->layout == QP_LAYOUT_GGUF && i->bytes >= row * (uint64_t)d->ne[1]);
    return alignment && plain && i->bytes > 0 && i->row_step >= 1 && i->bytes <= 64 * (row + 4096) * (uint64_t)(d->ne[1] + 512);
}

void test_weight_layout(cts *t)
{
    static const uint32_t uses[] = {QP_WEIGHT_MATMUL, QP_WEIGHT_ROWS, QP_WEIGHT_MATMUL | QP_WEIGHT_ROWS, QP_WEIGHT_PLAIN};
    static const int64_t shapes[][2] = {{256, 1}, {256, 17}, {1024, 63}, {512, 4096}};
    for (int f = 0; f < FORMATS; f++) {
        int taken = 0, insane = 0, wordless = 0, unstable = 0;
        for (size_t i = 0; i < 16; i++) {
            qp_weight_desc desc = describe(formats[f], shapes[i % 4][0], shapes[i % 4][1], uses[i / 4]);
            qp_weight_info info = {.struct_size = sizeof info}, again = {.struct_size = sizeof again};
            qp_status status = t->backend->weight_layout(t->device, &desc, &info, cts_words(t));
            if (status == QP_OK) {
                taken++;
                insane += !sane(&desc, &info);
                unstable +=
                    t->backend->weight_layout(t->device, &desc, &again, NULL) != QP_OK || memcmp(&info, &again, sizeof info) != 0;
            } else {
                wordless += status >= 0 || !t->words[0];
            }
        }
        int required = required_format(formats[f]) && t->strict && t->computes;
        ok(!insane && !wordless && !unstable && (!required || taken == 16),
           "%s: %d of 16 shapes and uses are taken, sizes make sense, refusals have words%s%s", format_name(formats[f]), taken,
           t->words[0] ? ": " : "", t->words);
    }
}

/* ---- slices from several threads ---- */

enum { PACKERS = 4 };

typedef struct packer {
    cts *t;
    const qp_weight_desc *desc;
    const uint8_t *blocks;
    qp_range dst;
    int64_t first, step; /* slices: first, first + PACKERS·step, … */
    uint64_t row_bytes;
    int failed;
} packer;

static void *pack_slices(void *arg)
{
    packer *p = arg;
    for (int64_t row = p->first; row < p->desc->ne[1]; row += PACKERS * p->step) {
        int64_t n = p->desc->ne[1] - row < p->step ? p->desc->ne[1] - row : p->step;
        p->failed += p->t->backend->weight_pack(p->t->device, p->desc, p->blocks + (uint64_t)row * p->row_bytes,
                                                (uint64_t)n * p->row_bytes, row, n, p->dst, NULL) != QP_OK;
    }
    return NULL;
}

static int pack_in_threads(cts *t, const qp_weight_desc *desc, const uint8_t *blocks, qp_range dst, int64_t step,
                           uint64_t row_bytes)
{
    pthread_t threads[PACKERS];
    packer packers[PACKERS];
    int failed = 0;
    for (int i = 0; i < PACKERS; i++) {
        packers[i] = (packer){t, desc, blocks, dst, i * step, step, row_bytes, 0};
        pthread_create(&threads[i], NULL, pack_slices, &packers[i]);
    }
    for (int i = 0; i < PACKERS; i++) {
        pthread_join(threads[i], NULL);
        failed += packers[i].failed;
    }
    return failed;
}

/* Packs at once and in slices from threads over the same poison; 0 when the bytes are alike and nothing around them changed. */
static int packs_alike(cts *t, const qp_weight_desc *desc, const qp_weight_info *info, const uint8_t *blocks, uint64_t row_bytes)
{
    const qp_backend *b = t->backend;
    uint64_t guard = info->alignment > 4096 ? info->alignment : 4096, whole = info->bytes + 2 * guard;
    uint8_t *bytes[2] = {malloc(whole), malloc(whole)};
    qp_buffer *buffer = NULL;
    int failed = b->buffer_create(t->device, t->info.weight_heap, whole, &buffer, cts_words(t)) != QP_OK;
    for (int i = 0; i < 2 && !failed; i++) {
        qp_range dst = {buffer, guard, info->bytes};
        memset(bytes[i], 0xc3, whole);
        failed += b->buffer_write(buffer, 0, bytes[i], whole, cts_words(t)) != QP_OK;
        if (i)
            failed += pack_in_threads(t, desc, blocks, dst, info->row_step, row_bytes);
        else
            failed += b->weight_pack(t->device, desc, blocks, row_bytes * (uint64_t)desc->ne[1], 0, desc->ne[1], dst,
                                     cts_words(t)) != QP_OK;
        failed += b->buffer_read(buffer, 0, bytes[i], whole, cts_words(t)) != QP_OK;
    }
    if (!failed) {
        failed = memcmp(bytes[0], bytes[1], whole) != 0;
        for (uint64_t i = 0; i < guard; i++)
            failed += bytes[0][i] != 0xc3 || bytes[0][guard + info->bytes + i] != 0xc3;
        if (info->layout == QP_LAYOUT_GGUF && t->computes)
            failed += memcmp(bytes[0] + guard, blocks, row_bytes * (uint64_t)desc->ne[1]) != 0;
    }
    b->buffer_destroy(buffer);
    free(bytes[0]);
    free(bytes[1]);
    return failed;
}

void test_weight_pack(cts *t)
{
    for (int f = 0; f < FORMATS; f++) {
        int taken = 0, failed = 0;
        for (int i = 0; i < 6; i++) {
            uint32_t uses = i % 3 == 0 ? QP_WEIGHT_MATMUL : i % 3 == 1 ? QP_WEIGHT_ROWS : QP_WEIGHT_PLAIN;
            qp_weight_desc desc = describe(formats[f], 256 * cts_between(t, 1, 3), cts_between(t, 1, 150), uses);
            qp_weight_info info = {.struct_size = sizeof info};
            if (t->backend->weight_layout(t->device, &desc, &info, cts_words(t)) != QP_OK)
                continue;
            taken++;
            uint64_t row = (uint64_t)desc.ne[0] / qk_block_elements(formats[f]) * qk_block_bytes(formats[f]);
            uint8_t *blocks = malloc(row * (uint64_t)desc.ne[1]);
            for (uint64_t j = 0; j < row * (uint64_t)desc.ne[1]; j++)
                blocks[j] = (uint8_t)cts_random(t);
            failed += packs_alike(t, &desc, &info, blocks, row) != 0;
            free(blocks);
        }
        if (taken)
            ok(!failed, "%s: %d weights packed in slices from four threads are as packed at once, bytes around them stay",
               format_name(formats[f]), taken);
        else
            cts_skip(t->words[0] ? t->words : "refused", "%s: packing", format_name(formats[f]));
    }
}

/* ---- refusals ---- */

typedef struct bad_pack {
    const char *what;
    uint64_t src_bytes, dst_offset, dst_size;
    int64_t row, rows;
} bad_pack;

static void bad_packs(cts *t, const qp_weight_desc *desc, const qp_weight_info *info, qp_buffer *buffer, uint64_t size)
{
    const uint64_t row = 256 / 32 * 34;
    const int64_t m = desc->ne[1];
    const bad_pack cases[] = {
        {"packing fewer bytes than the rows have", row * (uint64_t)m - 1, 0, info->bytes, 0, m},
        {"packing from a negative row", row * (uint64_t)m, 0, info->bytes, -1, m},
        {"packing a negative number of rows", row, 0, info->bytes, 0, -1},
        {"packing past the last row", row * (uint64_t)m, 0, info->bytes, info->row_step, m},
        {"packing rows whose numbers overflow", row, 0, info->bytes, INT64_MAX, 1},
        {"packing into a range that is too small", row * (uint64_t)m, 0, info->bytes - 1, 0, m},
        {"packing past the end of the buffer", row * (uint64_t)m, (size + info->alignment) / info->alignment * info->alignment,
         info->bytes, 0, m},
        {"packing to an offset near 2^64", row * (uint64_t)m, UINT64_MAX / info->alignment * info->alignment, info->bytes, 0, m},
    };
    uint8_t *blocks = calloc((size_t)m + 2, row);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qp_range dst = {buffer, cases[i].dst_offset, cases[i].dst_size};
        cts_refused(
            t, t->backend->weight_pack(t->device, desc, blocks, cases[i].src_bytes, cases[i].row, cases[i].rows, dst, cts_words(t)),
            QP_ERR_INVALID, cases[i].what);
    }
    qp_range none = {NULL, 0, info->bytes};
    cts_refused(t, t->backend->weight_pack(t->device, desc, blocks, row * (uint64_t)m, 0, m, none, cts_words(t)), QP_ERR_INVALID,
                "packing into no buffer");
    qp_range dst = {buffer, 0, info->bytes};
    if (info->row_step > 1 && m > 1)
        cts_refused(t, t->backend->weight_pack(t->device, desc, blocks, row, 1, 1, dst, cts_words(t)), QP_ERR_INVALID,
                    "packing from a row between steps");
    else
        cts_skip("its step is 1", "packing from a row between steps");
    free(blocks);
}

void test_weight_refusals(cts *t)
{
    static const struct {
        const char *what;
        qp_weight_desc desc;
    } cases[] = {
        {"a weight of no known format", {.format = 63, .uses = QP_WEIGHT_MATMUL, .ne = {256, 4, 1, 1}}},
        {"a weight of format 2^32 - 1", {.format = UINT32_MAX, .uses = QP_WEIGHT_MATMUL, .ne = {256, 4, 1, 1}}},
        {"a weight without columns", {.format = QP_FORMAT_F32, .uses = QP_WEIGHT_MATMUL, .ne = {0, 4, 1, 1}}},
        {"a weight with a negative dimension", {.format = QP_FORMAT_F32, .uses = QP_WEIGHT_MATMUL, .ne = {256, -4, 1, 1}}},
        {"a weight whose size overflows",
         {.format = QP_FORMAT_F32, .uses = QP_WEIGHT_MATMUL, .ne = {INT64_MAX / 4, INT64_MAX / 4, 1, 1}}},
        {"a weight whose padded size overflows",
         {.format = QP_FORMAT_Q8_0, .uses = QP_WEIGHT_MATMUL, .ne = {INT64_MAX / 32 * 32, 1, 1, 1}}},
        {"a weight with part of a block in a row", {.format = QP_FORMAT_Q8_0, .uses = QP_WEIGHT_MATMUL, .ne = {33, 4, 1, 1}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qp_weight_desc desc = cases[i].desc;
        qp_weight_info info = {.struct_size = sizeof info};
        desc.struct_size = sizeof desc;
        cts_refused(t, t->backend->weight_layout(t->device, &desc, &info, cts_words(t)), QP_OK, cases[i].what);
    }
    qp_weight_desc desc = describe(QP_FORMAT_Q8_0, 256, 40, QP_WEIGHT_MATMUL);
    qp_weight_info info = {.struct_size = sizeof info};
    qp_buffer *buffer = NULL;
    if (t->backend->weight_layout(t->device, &desc, &info, cts_words(t)) != QP_OK) {
        cts_skip(t->words, "refusals of weight_pack");
        return;
    }
    uint64_t size = info.bytes + 65536;
    if (t->backend->buffer_create(t->device, t->info.weight_heap, size, &buffer, cts_words(t)) == QP_OK)
        bad_packs(t, &desc, &info, buffer, size);
    t->backend->buffer_destroy(buffer);
}
