/* SPDX-License-Identifier: MIT
 * tests/kernel/check.h: what the checks of the kernel table share. One check looks at one row of the table of one variant; it runs
 * in a child process, so that a trap costs one point. See tests/README.md. */
#ifndef TESTS_KERNEL_CHECK_H
#define TESTS_KERNEL_CHECK_H

#include "kernels/cpu/kernels.h"
#include "kernels/ref/ref.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

typedef void (*any_fn)(void);

/* A row of the table under test. */
typedef struct subject {
    const qk_kernels *kernels;
    any_fn fn;
    qp_format format; /* for rows that come one a format */
    const char *name; /* "avx2 matmul_float.F16" */
} subject;

/* A family of rows: how to find the function, how to check it, how to time it (NULL: not worth it). */
typedef struct family {
    const char *name;
    bool by_format;
    any_fn (*get)(const qk_kernels *kernels, qp_format format);
    bool (*check)(const subject *s);
    void (*bench)(const subject *s);
} family;

extern const family convert_families[2], quantise_families[2], matmul_families[2], activation_family, attention_family, norm_family,
    rope_family, elementwise_family, argmax_family, short_conv_family, delta_rule_family;

/* Functions beside the table: packing. Gives false and a failure text like a check. */
bool check_panels(qp_format format);

/* ---- failures ---- */

/* Says what the next calls work on, for the words of a failure or a trap. */
__attribute__((format(printf, 1, 2))) void describe(const char *format, ...);
/* Keeps the words and returns false. */
__attribute__((format(printf, 1, 2))) bool fail(const char *format, ...);

/* want ± tolerance. NaN wants NaN; an infinity wants itself; a want beyond the floats accepts the infinity. */
bool agrees(float got, double want, double tolerance);

/* ---- random and extreme values ---- */

void random_seed(uint64_t seed);
uint64_t random_bits(void);
uint32_t random_below(uint32_t limit);
int64_t random_between(int64_t low, int64_t high); /* both included */
double random_unit(void);                          /* [0, 1) */
float random_normal(void);
void random_bytes(void *dst, size_t size);

typedef enum fill {
    FILL_NORMAL,
    FILL_ZERO,
    FILL_DENORMAL,
    FILL_EQUAL,
    FILL_RANGE,       /* magnitudes from 2^-30 to 2^30 */
    FILL_LARGE,       /* ±limit */
    FILL_ALTERNATING, /* +c −c +c … */
    FILL_SPARSE,      /* zeros of both signs, few others */
    FILL_COUNT
} fill;
const char *fill_name(fill kind);
/* limit bounds the magnitude for FILL_RANGE and FILL_LARGE. */
void fill_floats(float *dst, int64_t n, fill kind, float limit);
/* A row of a format whose blocks dequantise to values of that kind. */
void fill_format(qp_format format, void *dst, int64_t n, fill kind, float limit);

/* ---- guarded memory ---- */

enum { SLOTS = 12 };
/* size bytes that end right before a page that traps (as near as align allows), or start right after one. */
void *input_at_end(unsigned slot, size_t size, size_t align);
void *input_at_front(unsigned slot, size_t size);
/* size bytes of 0xff between guard bytes that output_intact looks at. */
void *output(unsigned slot, size_t size, size_t align);
bool output_intact(unsigned slot);
/* Is this stretch still 0xff? */
bool untouched(const void *ptr, size_t size);

/* ---- formats ---- */

const char *format_name(qp_format format);
size_t row_bytes(qp_format format, int64_t n);

/* ---- timing ---- */

extern size_t bench_bytes; /* weights to rotate over */

/* Calls run(ctx, i) for i = 0, 1, … and prints "name what: min and median" with a rate made of work a call ("GB/s", "GOP/s"). */
void bench(const subject *s, const char *what, void (*run)(void *ctx, uint64_t i), void *ctx, double work, const char *unit);

#endif
