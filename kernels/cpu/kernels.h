/* SPDX-License-Identifier: MIT
 * kernels/cpu/kernels.h: the table of CPU kernels. generic/ fills every row in portable C; each instruction set then overwrites
 * the rows it does better (avx2/, avx512/, neon/). Backends call through one const table chosen when the device opens.
 *
 * Kernels work on rows and tiles that lie in plain memory, never allocate, never lock, and give the same result for the same
 * arguments whatever thread runs them. Pointers to packed weights and quantised activations are 64-byte aligned; others need only
 * the alignment of their element unless said. No kernel reads or writes outside the stretches its comment names. */
#ifndef QUERN_KERNELS_CPU_H
#define QUERN_KERNELS_CPU_H

#include "kernels/common/formats.h"
#include "kernels/common/ops.h"
#include "kernels/common/search.h"
#include "kernels/cpu/panel_formats.h"

/* ---- packed weights: QK_LAYOUT_PANEL ----
 *
 * Matrices {K, M} of the formats in panel_formats.h are kept as panels of 16 rows (the last one padded with rows of zeros), so that
 * one vector register holds 16 rows × 4 K for dot-product instructions. A block is 32 K of a panel. Its line g = 0…7 is element
 * 4g + j of panel row r at [r][j]; 64 such elements make planes of whole bytes, nibbles, pairs of bits or single bits:
 *   8 bits   512 B: byte [g][r][j], with the sign bit turned, so that it is unsigned
 *   4 bits   256 B: byte [i][r][j], i = 0…3: low nibble of line 2i, high nibble of line 2i + 1
 *   2 bits   128 B: byte [h][r][j], h = 0…1: bits 2c and 2c + 1 of line 4h + c
 *   1 bit     64 B: byte [r][j]: bit g of line g
 * Elements of 5 and 6 bits are a plane of nibbles and, after it, one of their upper bits; those of 3 bits planes of 2 and 1. Then
 * they are as in the GGUF block, but unsigned.
 * A panel is all its blocks' elements one after another, then a record of scales for each unit (panel_formats.h), then padding to
 * 64 bytes. Panels follow each other. Points of grids lie as panel_formats.h says. Nothing is lost, and but for padding little
 * added: to IQ2_XXS 6 % (its eighth signs), IQ2_XS 11, IQ3_XXS 4, IQ1_S 8, IQ1_M 4; to TQ1_0 22 %, as it lies like TQ2_0.
 * An element's value is scale·(unsigned − bias) − minimum: kernels correct for bias and minima with sums of the activations. */

/* Bits of an element in a panel; 0 for a format that has no panels. */
static inline int qk_panel_bits(qp_format format)
{
    switch (format) {
#define QK_CASE(name, FORMAT, bits, ...)                                                                                           \
    case QP_FORMAT_##FORMAT: return bits;
        QK_PANEL_FORMATS(QK_CASE)
#undef QK_CASE
    default: return 0;
    }
}

/* Bytes of 16 rows × 32 elements, and of the scales of 16 rows of a block of the format. */
static inline uint64_t qk_panel_quant_bytes(qp_format format)
{
    switch (format) {
#define QK_CASE(name, FORMAT, bits, most, bias, parts, mins, scales, grid, ...)                                                    \
    case QP_FORMAT_##FORMAT: return QK_QUANT_BYTES(bits, grid);
        QK_PANEL_FORMATS(QK_CASE)
#undef QK_CASE
    default: return 0;
    }
}

static inline uint64_t qk_panel_record_bytes(qp_format format)
{
    switch (format) {
#define QK_CASE(name, FORMAT, bits, most, bias, parts, mins, scales, ...)                                                          \
    case QP_FORMAT_##FORMAT: return QK_RECORD_BYTES(scales, parts);
        QK_PANEL_FORMATS(QK_CASE)
#undef QK_CASE
    default: return 0;
    }
}

static inline uint64_t qk_panel_scales(qp_format format, int64_t k) /* offset of the records in a panel */
{
    return (uint64_t)k / QK_BLOCK * qk_panel_quant_bytes(format);
}

static inline uint64_t qk_panel_bytes(qp_format format, int64_t k)
{
    return (qk_panel_scales(format, k) + (uint64_t)k / qk_block_elements(format) * qk_panel_record_bytes(format) + 63) / 64 * 64;
}

/* ---- int8 activations ----
 *
 * One row of K floats as blocks of 32: x ≈ d·q with d = max|x|/127, q rounded to nearest even. Three planes in one stretch of
 * memory: q int8[K], padded to 64 bytes; d float[K/32], padded to 64 bytes; sum int32[K/16] = Σq of each half of a block. A block
 * with a NaN or infinity gets d = NaN, so that it shows in the result; one whose largest magnitude is under 2^-119 counts as zeros. */
static inline uint64_t qk_act_pad(uint64_t bytes)
{
    return (bytes + 63) / 64 * 64;
}
static inline uint64_t qk_act_d(int64_t k) { return qk_act_pad((uint64_t)k); }
static inline uint64_t qk_act_sum(int64_t k) { return qk_act_d(k) + qk_act_pad((uint64_t)k / QK_BLOCK * 4); }
static inline uint64_t qk_act_bytes(int64_t k) { return qk_act_sum(k) + qk_act_pad((uint64_t)k / QK_BLOCK * 8); }

/* y[t·y_stride + r] = Σ_k W[r][k]·x[t][k], no epilogue, for `tokens` tokens and a strip of `rows` rows: of panels that follow each
 * other (packed), or w_stride bytes apart (in place). For packed weights all rows of the last panel are computed and written.
 * A strip of several panels costs fewer calls, and with many tokens the kernel orders panels and tokens so that the caches serve
 * most reads: give it what one thread has to do. The result of a row does not depend on how rows are cut into strips, nor that of
 * a token on how many there are in the call. */
typedef struct qk_matmul_args {
    const void *w;      /* panel, or first row */
    int64_t w_stride;   /* bytes between rows in place; unused for panels */
    int64_t k;          /* a multiple of the format's block */
    int64_t rows;       /* ≥ 1, any number */
    const void *x;      /* float rows, or quantised rows as above */
    int64_t x_stride;   /* bytes between tokens */
    int64_t tokens;     /* ≥ 1, any number */
    float *y;
    int64_t y_stride;   /* floats between tokens */
    void *scratch;      /* QK_MATMUL_SCRATCH bytes for panels and more than four tokens, 64-byte aligned. NULL: does without, slower */
} qk_matmul_args;
enum { QK_MATMUL_SCRATCH = 160 << 10 };
typedef void (*qk_matmul_fn)(const qk_matmul_args *args);

/* Attention of `heads` query heads that share one KV head, for one row, over cells [begin, end): an online softmax whose state
 * (m running maximum, l sum, acc weighted values) comes in and goes out, so that stretches of cells can be done one after another
 * or apart and merged. Start from m = −inf, l = 0, acc = 0. A cell whose weight is below e^-87 of the largest may count as none. */
typedef struct qk_attention_args {
    const float *q;        /* heads × k_size, q_stride floats apart */
    int64_t q_stride;
    int64_t heads;
    const char *k, *v;     /* cell 0 of this KV head */
    int64_t k_stride, v_stride; /* bytes between cells */
    int64_t k_size, v_size;
    int64_t begin, end;
    float scale, softcap;
    float *m, *l;          /* heads */
    float *acc;            /* heads × v_size, contiguous */
    /* More rows at once read K and V once for several of them (0 counts as 1). Row r has its queries q_row_stride floats after
     * those of the row before, cells [begins[r], ends[r]) in place of begin and end, and its state after that of the row before:
     * m and l from r·heads on, acc from r·heads·v_size on. */
    int64_t rows, q_row_stride;
    const int64_t *begins, *ends;
} qk_attention_args;

/* Row r alone. */
static inline qk_attention_args qk_attention_row(const qk_attention_args *a, int64_t r)
{
    qk_attention_args row = *a;
    row.rows = 1;
    if (a->rows > 1) {
        row.q += r * a->q_row_stride;
        row.begin = a->begins[r];
        row.end = a->ends[r];
        row.m += r * a->heads;
        row.l += r * a->heads;
        row.acc += r * a->heads * a->v_size;
    }
    return row;
}
typedef void (*qk_attention_fn)(const qk_attention_args *args);

/* The short convolution of QP_OP_SHORT_CONV for a stretch of channels: all pointers are to its first channel. Strides are in floats. The
 * result of a channel does not depend on how channels are cut into stretches. */
typedef struct qk_short_conv_args {
    const float *x;
    int64_t x_stride;     /* between rows */
    const float *w, *bias; /* bias NULL: none */
    int64_t w_stride;     /* between channels */
    const int32_t *positions;
    float *state;
    int64_t state_stride; /* between rows */
    float *y;
    int64_t y_stride;     /* between rows */
    int64_t channels, rows;
    int width;            /* 2 to 16 */
    qp_activation act;
} qk_short_conv_args;

/* The gated delta rule of QP_OP_DELTA_RULE for one value head and a stretch of v_size of its features: v, y and state are those of
 * the stretch. Strides are in floats, between rows; state_stride between the state's rows, one a feature of the key. The result of a
 * feature does not depend on how features are cut into stretches. */
enum { QK_DELTA_MAX_V = 256 }; /* the largest stretch */
typedef struct qk_delta_args {
    const float *q, *k, *v, *g, *beta;
    int64_t q_stride, k_stride, v_stride, g_stride, beta_stride;
    const int32_t *positions;
    float *state;
    int64_t state_stride;
    float *y;
    int64_t y_stride;
    int64_t k_size, v_size, rows;
    float scale;
    const float *ahead; /* a state of the same shape that will be needed next and may be fetched meanwhile; NULL: none */
} qk_delta_args;

typedef struct qk_kernels {
    const char *isa; /* the variant: "generic", "avx2", "avx_vnni", "avx512", "avx512_vnni", "neon", "neon_dotprod" */

    /* n elements, whole blocks. NULL where a format has no conversion (yet). */
    void (*to_f32[QP_FORMAT_LIMIT])(float *dst, const void *src, int64_t n);
    void (*from_f32[QP_FORMAT_LIMIT])(void *dst, const float *src, int64_t n);

    /* Float activations, weights in place (F32, F16, BF16, and every other format by to_f32 in blocks); NULL: not there. */
    qk_matmul_fn matmul_float[QP_FORMAT_LIMIT];
    /* int8 activations, weights in panels (the formats of panel_formats.h). A format has panels where this is not NULL. */
    qk_matmul_fn matmul_panel[QP_FORMAT_LIMIT];
    /* The variants that these rows came from, for explain: "avx512_vnni", "avx_vnni", … */
    const char *to_f32_isa[QP_FORMAT_LIMIT], *matmul_float_isa[QP_FORMAT_LIMIT], *matmul_panel_isa[QP_FORMAT_LIMIT];
    /* One row into the layout above. */
    void (*quantise_activations)(void *dst, const float *x, int64_t k);

    qk_attention_fn attention[QP_FORMAT_LIMIT]; /* by the cache's format (K and V alike) */

    /* y = norm(x)·(w + weight_offset) + b over n; w, b may be NULL; y may be x. kind, eps, weight_offset as in qp_norm_params. */
    void (*norm)(float *y, const float *x, const float *w, const float *b, int64_t n, const qp_norm_params *p);
    /* Rotates one head in place; cos_sin holds n_dims/2 pairs (cos, sin). mode: QP_ROPE_NORMAL or NEOX. */
    void (*rope)(float *x, const float *cos_sin, int64_t n_dims, uint32_t mode);
    /* y[i] = f(a[i], b[i]), functions of qp_elementwise_params; b may be NULL when the function has one operand. */
    void (*elementwise)(float *y, const float *a, const float *b, int64_t n, const qp_elementwise_params *p);
    void (*short_conv)(const qk_short_conv_args *args);
    void (*delta_rule)(const qk_delta_args *args);
    /* Index of the largest, the lowest of equals; −1 when there is a NaN. */
    int32_t (*argmax)(const float *x, int64_t n);
    /* For the quantisers of weights (kernels/common/quantise.h). */
    qk_search search;
} qk_kernels;

/* What this processor can do, found once. */
typedef struct qk_cpu_features {
    unsigned avx2 : 1, fma : 1, f16c : 1, avx_vnni : 1;
    unsigned avx512 : 1; /* F, BW, DQ, VL */
    unsigned avx512_vnni : 1, avx512_bf16 : 1, avx512_fp16 : 1, avx512_vbmi : 1;
    unsigned neon : 1, dotprod : 1, i8mm : 1;
} qk_cpu_features;
void qk_cpu_detect(qk_cpu_features *out);
void qk_cpu_features_text(const qk_cpu_features *f, char *dst, size_t size); /* words for qp_device_info.features */

/* Fills the table for the best this processor has (NULL), or for `variant`, one of those that qk_kernels_variant() lists.
 * −1 when the variant is unknown or not to be had here. */
int qk_kernels_init(qk_kernels *out, const char *variant);
/* Variants this build and processor have, worst first; NULL past the last. */
const char *qk_kernels_variant(unsigned index);

/* Packing and unpacking (generic C, byte shuffling). rows at row `row` of the matrix; row is a multiple of 16. */
void qk_panel_pack(qp_format format, void *panels, const void *src, int64_t k, int64_t row, int64_t rows);
/* One row back to floats, for get_rows of a packed table. */
void qk_panel_row(qp_format format, float *dst, const void *panels, int64_t k, int64_t row);
/* One block of 32 of a panel apart: element i of row r is scale[i·parts/32][r]·(quants[r][i] − bias) − min[i·parts/32][r]. */
typedef struct qk_panel_block {
    uint8_t quants[QK_PANEL_ROWS][QK_BLOCK];
    float scale[2][QK_PANEL_ROWS], min[2][QK_PANEL_ROWS];
} qk_panel_block;
void qk_panel_block_at(qp_format format, const void *panel, int64_t k, int64_t block, qk_panel_block *out);

#endif
