/* SPDX-License-Identifier: MIT
 * kernels/cpu/init.c: what this processor can do, and the table that follows from it. */
#include "kernels/cpu/rows.h"

#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)

/* XCR0: which register state the operating system saves. AVX needs bits 1 and 2, AVX-512 also 5, 6 and 7. */
static unsigned saved_state(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

static void detect(qk_cpu_features *f)
{
    unsigned a, b, c, d, top = __get_cpuid_max(0, NULL);
    if (top < 7)
        return;
    __cpuid(1, a, b, c, d);
    if (!(c >> 27 & 1)) /* OSXSAVE */
        return;
    unsigned state = saved_state(), fma = c >> 12 & 1, f16c = c >> 29 & 1;
    if ((state & 6) != 6)
        return;
    __cpuid_count(7, 0, a, b, c, d);
    unsigned leaves = a;
    f->avx2 = b >> 5 & 1;
    f->fma = fma;
    f->f16c = f16c;
    /* F, DQ, BW, VL */
    f->avx512 = (state & 0xe6) == 0xe6 && (b >> 16 & b >> 17 & b >> 30 & b >> 31 & 1);
    f->avx512_vnni = f->avx512 & (c >> 11 & 1);
    f->avx512_vbmi = f->avx512 & (c >> 1 & 1);
    f->avx512_fp16 = f->avx512 & (d >> 23 & 1);
    if (leaves >= 1) {
        __cpuid_count(7, 1, a, b, c, d);
        f->avx_vnni = f->avx2 & (a >> 4 & 1);
        f->avx512_bf16 = f->avx512 & (a >> 5 & 1);
    }
}

#elif defined(__aarch64__)

static void detect(qk_cpu_features *f)
{
    f->neon = 1; /* every 64-bit ARM has it */
#if defined(__linux__)
    unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
    f->dotprod = caps >> 20 & 1; /* HWCAP_ASIMDDP */
    f->i8mm = caps2 >> 13 & 1;   /* HWCAP2_I8MM */
#endif
}

#else

static void detect(qk_cpu_features *f)
{
    (void)f;
}

#endif

void qk_cpu_detect(qk_cpu_features *out)
{
    memset(out, 0, sizeof *out);
    detect(out);
}

void qk_cpu_features_text(const qk_cpu_features *f, char *dst, size_t size)
{
    const struct {
        unsigned there;
        const char *name;
    } words[] = {
        {f->avx2, "avx2"},
        {f->fma, "fma"},
        {f->f16c, "f16c"},
        {f->avx_vnni, "avx_vnni"},
        {f->avx512, "avx512"},
        {f->avx512_vnni, "avx512_vnni"},
        {f->avx512_bf16, "avx512_bf16"},
        {f->avx512_fp16, "avx512_fp16"},
        {f->avx512_vbmi, "avx512_vbmi"},
        {f->neon, "neon"},
        {f->dotprod, "dotprod"},
        {f->i8mm, "i8mm"},
    };
    size_t used = 0;
    if (size)
        dst[0] = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words && used < size; i++)
        if (words[i].there)
            used += (size_t)snprintf(dst + used, size - used, "%s%s", used ? " " : "", words[i].name);
}

/* ---- variants ---- */

#define ROW(isa, op) qk_##isa##_##op,
static const qk_rows_fn generic_rows[] = {QK_GENERIC_ROWS(ROW) NULL};
#if defined(QK_HAVE_X86)
static const qk_rows_fn avx2_rows[] = {QK_AVX2_ROWS(ROW) NULL};
static const qk_rows_fn avx512_rows[] = {QK_AVX512_ROWS(ROW) NULL};
#endif
#if defined(QK_HAVE_ARM)
static const qk_rows_fn neon_rows[] = {QK_NEON_ROWS(ROW) NULL};
#endif
#undef ROW

static int always(const qk_cpu_features *f)
{
    (void)f;
    return 1;
}

#if defined(QK_HAVE_X86)
static int has_avx2(const qk_cpu_features *f)
{
    return f->avx2 && f->fma && f->f16c;
}
static int has_avx_vnni(const qk_cpu_features *f)
{
    return has_avx2(f) && f->avx_vnni;
}
static int has_avx512(const qk_cpu_features *f)
{
    return has_avx2(f) && f->avx512;
}
static int has_avx512_vnni(const qk_cpu_features *f)
{
    return has_avx512(f) && f->avx512_vnni;
}
#endif

#if defined(QK_HAVE_ARM)
static int has_neon(const qk_cpu_features *f)
{
    return f->neon;
}
static int has_dotprod(const qk_cpu_features *f)
{
    return f->neon && f->dotprod;
}
#endif

/* Worst first. Each one lays its rows over those before it; `allowed` are the features that it adds. */
typedef struct variant {
    const char *name;
    int (*available)(const qk_cpu_features *f);
    const qk_rows_fn *rows; /* NULL: those of the variant before, called again with more features */
    qk_cpu_features allowed;
} variant;

static const variant variants[] = {
    {"generic", always, generic_rows, {0}},
#if defined(QK_HAVE_X86)
    {"avx2", has_avx2, avx2_rows, {.avx2 = 1, .fma = 1, .f16c = 1}},
    {"avx_vnni", has_avx_vnni, avx2_rows, {.avx_vnni = 1}},
    {"avx512", has_avx512, avx512_rows, {.avx512 = 1, .avx512_bf16 = 1, .avx512_fp16 = 1, .avx512_vbmi = 1}},
    {"avx512_vnni", has_avx512_vnni, avx512_rows, {.avx512_vnni = 1}},
#endif
#if defined(QK_HAVE_ARM)
    {"neon", has_neon, neon_rows, {.neon = 1}},
    {"neon_dotprod", has_dotprod, neon_rows, {.dotprod = 1}},
#endif
};
enum { VARIANTS = sizeof variants / sizeof *variants };

const char *qk_kernels_variant(unsigned index)
{
    qk_cpu_features f;
    qk_cpu_detect(&f);
    for (unsigned i = 0; i < VARIANTS; i++)
        if (variants[i].available(&f) && !index--)
            return variants[i].name;
    return NULL;
}

/* *all |= more, where this processor has it. */
static void allow(qk_cpu_features *all, const qk_cpu_features *more, const qk_cpu_features *have)
{
    unsigned char *a = (unsigned char *)all;
    const unsigned char *m = (const unsigned char *)more, *h = (const unsigned char *)have;
    for (size_t i = 0; i < sizeof *all; i++)
        a[i] = (unsigned char)(a[i] | (m[i] & h[i]));
}

/* Notes whose rows are new. */
static void name_rows(qk_kernels *now, const qk_kernels *before, const char *name)
{
    for (int f = 0; f < QP_FORMAT_LIMIT; f++) {
        if (now->to_f32[f] != before->to_f32[f])
            now->to_f32_isa[f] = name;
        if (now->matmul_float[f] != before->matmul_float[f])
            now->matmul_float_isa[f] = name;
        if (now->matmul_panel[f] != before->matmul_panel[f])
            now->matmul_panel_isa[f] = name;
    }
}

int qk_kernels_init(qk_kernels *out, const char *name)
{
    qk_cpu_features have, allowed;
    int last = -1;
    qk_cpu_detect(&have);
    for (int i = 0; i < VARIANTS; i++)
        if (variants[i].available(&have) && (!name || !strcmp(name, variants[i].name)))
            last = i;
    if (last < 0)
        return -1;
    memset(out, 0, sizeof *out);
    memset(&allowed, 0, sizeof allowed);
    for (int i = 0; i <= last; i++) {
        if (!variants[i].available(&have))
            continue;
        qk_kernels before = *out;
        allow(&allowed, &variants[i].allowed, &have);
        for (const qk_rows_fn *rows = variants[i].rows; *rows; rows++)
            (*rows)(out, &allowed);
        name_rows(out, &before, variants[i].name);
    }
    out->isa = variants[last].name;
    return 0;
}
