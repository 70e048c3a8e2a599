/* SPDX-License-Identifier: MIT
 * kernels/ref/sample.c: greedy sampling. */
#include "kernels/ref/access.h"

static int32_t greedy(const qk_tensor *logits, const char *row)
{
    int32_t best = 0;
    for (int64_t i = 0; i < logits->ne[0]; i++) {
        float value = qr_f32(logits, row, i);
        if (value != value)
            return -1;
        if (value > qr_f32(logits, row, best))
            best = (int32_t)i;
    }
    return best;
}

void qr_sample(const qk_op *op)
{
    const qk_tensor *logits = &op->src[0];
    for (int64_t r = 0; r < op->live; r++) {
        int32_t best = greedy(logits, qr_row(logits, 0, r, 0));
        memcpy((char *)op->dst.data + r * op->dst.nb[0], &best, sizeof best);
    }
}
