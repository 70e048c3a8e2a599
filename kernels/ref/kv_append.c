/* SPDX-License-Identifier: MIT
 * kernels/ref/kv_append.c: new keys or values into cells of the cache, converted to its format. */
#include "kernels/ref/access.h"

static void append_head(const qk_tensor *x, const char *from, const qk_tensor *cache, char *to)
{
    double values[QR_MAX_BLOCK];
    for (int64_t begin = 0; begin < x->ne[0]; begin += QR_MAX_BLOCK) {
        int64_t count = x->ne[0] - begin < QR_MAX_BLOCK ? x->ne[0] - begin : QR_MAX_BLOCK;
        qr_load(x, from, begin, count, values);
        qr_store(cache, to, begin, count, values);
    }
}

void qr_kv_append(const qk_op *op)
{
    const qk_tensor *x = &op->src[QP_KV_APPEND_X];
    for (int64_t r = 0; r < op->live; r++) {
        int64_t cell = qr_i32(&op->src[QP_KV_APPEND_CELLS], r);
        if (cell < 0 || cell >= op->dst.ne[2])
            continue;
        for (int64_t h = 0; h < x->ne[1]; h++)
            append_head(x, qr_row(x, h, r, 0), &op->dst, qr_row(&op->dst, h, cell, 0));
    }
}
