/* SPDX-License-Identifier: MIT
 * kernels/ref/copy.c: copies between tensors of the same shape, converting where the formats differ. */
#include "kernels/common/quantise.h"
#include "kernels/ref/access.h"

/* The same format on both sides: block by block, every bit as it was. */
static void move_row(const qk_tensor *src, const char *from, const qk_tensor *dst, char *to)
{
    int64_t blocks = src->ne[0] / qk_block_elements(src->format);
    for (int64_t i = 0; i < blocks; i++)
        memmove(to + i * dst->nb[0], from + i * src->nb[0], qk_block_bytes(src->format));
}

static void convert_row(const qk_tensor *src, const char *from, const qk_tensor *dst, char *to)
{
    double values[QR_MAX_BLOCK];
    for (int64_t begin = 0; begin < src->ne[0]; begin += QR_MAX_BLOCK) {
        int64_t count = src->ne[0] - begin < QR_MAX_BLOCK ? src->ne[0] - begin : QR_MAX_BLOCK;
        qr_load(src, from, begin, count, values);
        qr_store(dst, to, begin, count, values);
    }
}

/* A whole number of blocks; scales are looked for. */
static void search_row(const qk_tensor *src, const char *from, const qk_tensor *dst, char *to)
{
    double values[QR_MAX_BLOCK];
    float floats[QR_MAX_BLOCK];
    qk_encode_fn encode = qk_encoder(dst->format);
    int64_t elements = qk_block_elements(dst->format), source = qk_block_elements(src->format);
    int64_t step = elements > source ? elements : source;
    for (int64_t begin = 0; begin < src->ne[0]; begin += step) {
        qr_load(src, from, begin, step, values);
        for (int64_t i = 0; i < step; i++)
            floats[i] = (float)values[i];
        for (int64_t i = 0; i < step; i += elements)
            encode(&qk_search_plain, floats + i, to + (begin + i) / elements * dst->nb[0]);
    }
}

void qr_copy(const qk_op *op)
{
    const qk_tensor *src = &op->src[0], *dst = &op->dst;
    void (*convert)(const qk_tensor *src, const char *from, const qk_tensor *dst, char *to) =
        op->p.copy.search && qk_encoder(dst->format) ? search_row : convert_row;
    for (int64_t i3 = 0; i3 < dst->ne[3]; i3++)
        for (int64_t r = 0; r < op->live; r++)
            for (int64_t i1 = 0; i1 < dst->ne[1]; i1++)
                (src->format == dst->format ? move_row : convert)(src, qr_row(src, i1, r, i3), dst, qr_row(dst, i1, r, i3));
}
