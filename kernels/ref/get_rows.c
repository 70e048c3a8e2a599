/* SPDX-License-Identifier: MIT
 * kernels/ref/get_rows.c: rows of a table by number (token embeddings). */
#include "kernels/ref/access.h"

static void get_row(const qk_op *op, int64_t r, int64_t id)
{
    const qk_tensor *table = &op->src[QP_GET_ROWS_TABLE], *dst = &op->dst;
    int64_t n = dst->ne[0];
    int known = id >= 0 && id < table->ne[1];
    const char *from = known ? qr_row(table, id, 0, 0) : NULL;
    char *to = qr_row(dst, 0, r, 0);
    double values[QR_MAX_BLOCK] = {0};
    for (int64_t begin = 0; begin < n; begin += QR_MAX_BLOCK) {
        int64_t count = n - begin < QR_MAX_BLOCK ? n - begin : QR_MAX_BLOCK;
        if (known)
            qr_load(table, from, begin, count, values);
        for (int64_t i = 0; i < count; i++)
            qr_set_f32(dst, to, begin + i, known ? values[i] * (double)op->p.get_rows.scale : 0);
    }
}

void qr_get_rows(const qk_op *op)
{
    for (int64_t r = 0; r < op->live; r++)
        get_row(op, r, qr_i32(&op->src[QP_GET_ROWS_IDS], r));
}
