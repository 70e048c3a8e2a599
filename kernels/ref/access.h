/* SPDX-License-Identifier: MIT
 * kernels/ref/access.h: how the reference kernels reach the elements of strided tensors. */
#ifndef QUERN_KERNELS_REF_ACCESS_H
#define QUERN_KERNELS_REF_ACCESS_H

#include "kernels/common/ops.h"
#include "kernels/ref/ref.h"

enum { QR_MAX_BLOCK = 256 }; /* elements of the longest block that any format has */

/* What the reference knows about a format. Formats of single elements have load and store, formats of blocks decode and encode;
 * store and encode may be missing. */
typedef struct qr_format {
    double (*load)(const void *src);
    void (*store)(void *dst, double value);
    void (*decode)(const void *block, float *dst);
    void (*encode)(const float *src, void *block);
} qr_format;

/* NULL for a format without a row. */
const qr_format *qr_format_of(qp_format format);

/* The start of a row: element 0 of dimension 0 at indices i1, i2, i3. */
static inline char *qr_row(const qk_tensor *t, int64_t i1, int64_t i2, int64_t i3)
{
    return (char *)t->data + i1 * t->nb[1] + i2 * t->nb[2] + i3 * t->nb[3];
}

/* An F32 or I32 element; tensors need not be aligned. */
static inline float qr_f32(const qk_tensor *t, const char *row, int64_t i)
{
    float value;
    memcpy(&value, row + i * t->nb[0], sizeof value);
    return value;
}

static inline void qr_set_f32(const qk_tensor *t, char *row, int64_t i, double value)
{
    float rounded = (float)value;
    memcpy(row + i * t->nb[0], &rounded, sizeof rounded);
}

static inline int32_t qr_i32(const qk_tensor *t, int64_t i)
{
    int32_t value;
    memcpy(&value, (const char *)t->data + i * t->nb[0], sizeof value);
    return value;
}

/* Reads elements [begin, begin + n) of a row of any format into dst, where begin is a multiple of the format's block and
 * n ≤ QR_MAX_BLOCK. Needs no memory of its own: that is why the kernels go through rows in pieces of QR_MAX_BLOCK. */
void qr_load(const qk_tensor *t, const char *row, int64_t begin, int64_t n, double *dst);

/* Writes them. */
void qr_store(const qk_tensor *t, char *row, int64_t begin, int64_t n, const double *src);

/* Σ w[i]·x[i] over the n elements of a row of any format and a row of floats. */
double qr_dot(const qk_tensor *w, const char *w_row, const qk_tensor *x, const char *x_row, int64_t n);

#endif
