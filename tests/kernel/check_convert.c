/* SPDX-License-Identifier: MIT
 * tests/kernel/check_convert.c: rows to_f32 and from_f32, and the packing of panels: all to the last bit. */
#include "tests/kernel/check.h"

typedef void (*to_fn)(float *dst, const void *src, int64_t n);
typedef void (*from_fn)(void *dst, const float *src, int64_t n);

enum { IN = 0, OUT = 1, WANT = 2 };

/* Equal numbers, or both NaN: the sign of a zero and the bits of a NaN are nobody's. */
static bool same(float a, float b)
{
    return a == b || (a != a && b != b);
}

static bool compare_to(const subject *s, const void *src, int64_t n)
{
    float *dst = output(OUT, (size_t)n * 4, 4), *want = output(WANT, (size_t)n * 4, 4);
    qr_dequantise(s->format, src, want, n);
    ((to_fn)s->fn)(dst, src, n);
    for (int64_t i = 0; i < n; i++)
        if (!same(dst[i], want[i]))
            return fail("element %lld is %a, not %a", (long long)i, (double)dst[i], (double)want[i]);
    return output_intact(OUT);
}

static bool every_half(const subject *s)
{
    describe("all 65536 values");
    uint16_t *src = input_at_end(IN, 65536 * 2, 2);
    for (int i = 0; i < 65536; i++)
        src[i] = (uint16_t)i;
    return compare_to(s, src, 65536);
}

static bool check_to(const subject *s)
{
    int64_t block = qk_block_elements(s->format);
    for (int round = 0; round < 200; round++) {
        int64_t n = block * (round < 70 ? round + 1 : random_between(1, 200));
        size_t bytes = row_bytes(s->format, n);
        void *src = round & 1 ? input_at_front(IN, bytes) : input_at_end(IN, bytes, 1);
        if (round % 4 < 2)
            random_bytes(src, bytes); /* scales of NaN and infinity among them */
        else
            fill_format(s->format, src, n, (fill)(round / 4 % FILL_COUNT), 1000);
        describe("n=%lld round %d", (long long)n, round);
        if (!compare_to(s, src, n))
            return false;
    }
    return (s->format != QP_FORMAT_F16 && s->format != QP_FORMAT_BF16) || every_half(s);
}

/* The same bytes, or at least the same values: a block of zeros may have a scale of either sign, a NaN any bits. */
static bool compare_from(const subject *s, const float *src, int64_t n)
{
    size_t bytes = row_bytes(s->format, n), block = qk_block_bytes(s->format);
    int64_t elements = qk_block_elements(s->format);
    char *dst = output(OUT, bytes, 1), *want = output(WANT, bytes, 1);
    qr_quantise(s->format, src, want, n);
    ((from_fn)s->fn)(dst, src, n);
    for (size_t i = 0; i < bytes / block; i++) {
        float a[256], b[256];
        if (memcmp(dst + i * block, want + i * block, block) == 0)
            continue;
        qr_dequantise(s->format, dst + i * block, a, elements);
        qr_dequantise(s->format, want + i * block, b, elements);
        for (int64_t j = 0; j < elements; j++)
            if (!same(a[j], b[j]))
                return fail("element %lld of block %zu from %a: %a, not %a", (long long)j, i,
                            (double)src[(int64_t)i * elements + j], (double)a[j], (double)b[j]);
    }
    return output_intact(OUT);
}

static void fill_from(float *src, int64_t n, int round)
{
    fill_floats(src, n, (fill)(round % FILL_COUNT), 60000);
    if (round % 3 == 1) /* halves of the step of a block whose largest is 127 or 8: ties */
        for (int64_t i = 0; i < n; i++)
            src[i] = i % 32 == 5 ? (round & 1 ? 127.0f : -8.0f) : (float)random_between(-16, 16) * 0.5f;
    if (round % 5 == 4)
        src[random_below((uint32_t)n)] = round & 1 ? NAN : INFINITY;
    if (round % 7 == 6) /* any bits at all */
        random_bytes(src, (size_t)n * 4);
}

static bool check_from(const subject *s)
{
    int64_t block = qk_block_elements(s->format);
    for (int round = 0; round < 300; round++) {
        int64_t n = block * (round < 70 ? round + 1 : random_between(1, 200));
        float *src = round & 1 ? input_at_front(IN, (size_t)n * 4) : input_at_end(IN, (size_t)n * 4, 4);
        fill_from(src, n, round);
        describe("n=%lld round %d fill %s", (long long)n, round, fill_name((fill)(round % FILL_COUNT)));
        if (!compare_from(s, src, n))
            return false;
    }
    return true;
}

/* ---- packing ---- */

/* Reads the panel as the comment in kernels.h lays it out. */
static int unsigned_quant(int bits, const uint8_t *block, int r, int e)
{
    int g = e / 4, byte = r * 4 + e % 4;
    switch (bits) {
    case 8: return block[g * 64 + byte];
    case 6: return (block[g / 2 * 64 + byte] >> g % 2 * 4 & 15) | (block[256 + g / 4 * 64 + byte] >> g % 4 * 2 & 3) << 4;
    case 5: return (block[g / 2 * 64 + byte] >> g % 2 * 4 & 15) | (block[256 + byte] >> g & 1) << 4;
    case 4: return block[g / 2 * 64 + byte] >> g % 2 * 4 & 15;
    case 3: return (block[g / 4 * 64 + byte] >> g % 4 * 2 & 3) | (block[128 + byte] >> g & 1) << 2;
    default: return block[g / 4 * 64 + byte] >> g % 4 * 2 & 3;
    }
}

/* The same of a block of points. */
static int point_code(int grid, const uint8_t *block, int r, int e)
{
    int signs = grid & 1, each = qk_point_elements(grid), p = e / each, width = qk_upper_bits(grid), code = 0;
    if (signs)
        code = (block[r * 4 + e % 4] >> e / 4 & 1) << 3;
    block += 64 * signs;
    int number = block[p * 16 + r];
    if (width)
        number |= (block[512 / each + p * width / 8 * 16 + r] >> p * width % 8 & ((1 << width) - 1)) << 8;
    return code | (int)(qk_points(grid)[number] >> (e % 4 * 8 + (each == 8 ? e / 4 % 2 * 4 : 0)) & 15);
}

/* Elements where they should be; with them qk_panel_block_at gives the values of the rows, and zeros after the last. */
static bool panel_as_documented(qp_format format, const uint8_t *panel, const float *want, int64_t k, int rows)
{
    static const qk_format all[] = {
#define INIT(name, ...) QK_PANEL_FORMAT_INIT(name, __VA_ARGS__),
        QK_PANEL_FORMATS(INIT)
#undef INIT
    };
    const qk_format *f = all;
    while (f->format != format)
        f++;
    for (int64_t b = 0; b < k / 32; b++) {
        qk_panel_block block;
        qk_panel_block_at(format, panel, k, b, &block);
        for (int r = 0; r < QK_PANEL_ROWS; r++)
            for (int e = 0; e < 32; e++) {
                const uint8_t *at = panel + b * f->quant_bytes;
                int q = f->grid ? point_code(f->grid, at, r, e) : unsigned_quant(f->bits, at, r, e);
                int part = f->parts == 1 ? 0 : e / 16;
                q = f->looked_up ? f->table[q] : q;
                if (q != block.quants[r][e])
                    return fail("row %d element %lld of a panel is %d, taken apart %d", r, (long long)(b * 32 + e), q, block.quants[r][e]);
                float value = block.scale[part][r] * (float)(q - f->bias) - (f->mins ? block.min[part][r] : 0);
                if (r < rows ? !same(value, want[r * k + b * 32 + e]) : value != 0)
                    return fail("row %d element %lld of a panel is %a", r, (long long)(b * 32 + e), (double)value);
            }
    }
    return true;
}

/* Bytes of 16 rows of a block that a panel has and the file has not. */
static uint64_t more_than_file(qp_format format)
{
    switch (format) {
    case QP_FORMAT_TQ1_0: return 192;
    case QP_FORMAT_IQ2_XS: return 128;
    case QP_FORMAT_IQ1_S:
    case QP_FORMAT_IQ2_XXS:
    case QP_FORMAT_IQ3_XXS: return 64;
    case QP_FORMAT_IQ1_M: return 32;
    default: return 0;
    }
}

static bool round_trip(qp_format format, int64_t k, int64_t m)
{
    uint64_t panel = qk_panel_bytes(format, k), panels = (uint64_t)(m + 15) / 16;
    size_t bytes = row_bytes(format, k);
    char *src = input_at_end(IN, bytes * (size_t)m, 2);
    for (int64_t r = 0; r < m; r++)
        fill_format(format, src + (size_t)r * bytes, k, (fill)(r % FILL_COUNT), 1000);
    float *want = calloc((size_t)(m * k), sizeof *want);
    qr_dequantise(format, src, want, m * k);
    uint8_t *dst = output(OUT, panel * panels, 64);
    for (int64_t row = 0; row < m;) { /* in stretches of random length, all but the last whole panels */
        int64_t rows = random_between(1, 3) * 16;
        rows = rows > m - row ? m - row : rows;
        qk_panel_pack(format, dst, src + (size_t)row * bytes, k, row, rows);
        row += rows;
    }
    bool right = output_intact(OUT);
    for (uint64_t p = 0; right && p < panels; p++)
        right = panel_as_documented(format, dst + p * panel, want + (int64_t)p * 16 * k, k, (int)(m - (int64_t)p * 16));
    for (int64_t r = 0; right && r < m; r++) {
        float *row = output(WANT, (size_t)k * 4, 4);
        qk_panel_row(format, row, dst, k, r);
        right = output_intact(WANT);
        for (int64_t i = 0; right && i < k; i++)
            right = same(row[i], want[r * k + i]) || fail("panel_row %lld element %lld", (long long)r, (long long)i);
    }
    free(want);
    return right;
}

bool check_panels(qp_format format)
{
    static const int64_t ks[] = {32, 64, 96, 256, 288, 1056};
    for (int round = 0; round < 60; round++) {
        int64_t unit = qk_block_elements(format), k = (ks[round % 6] + unit - 1) / unit * unit;
        int64_t m = round < 40 ? round + 1 : random_between(1, 100);
        describe("k=%lld rows=%lld", (long long)k, (long long)m);
        uint64_t least = 16 * row_bytes(format, k) + (uint64_t)(k / unit) * more_than_file(format);
        uint64_t bytes = qk_panel_bytes(format, k);
        if (bytes % 64 != 0 || bytes < least || bytes >= least + 64)
            return fail("qk_panel_bytes says %llu", (unsigned long long)bytes);
        if (!round_trip(format, k, m))
            return false;
    }
    return true;
}

/* ---- rows ---- */

static any_fn get_to(const qk_kernels *k, qp_format format)
{
    return (any_fn)k->to_f32[format];
}

static any_fn get_from(const qk_kernels *k, qp_format format)
{
    return (any_fn)k->from_f32[format];
}

typedef struct timing {
    const subject *s;
    void *packed;
    float *floats;
} timing;

enum { BENCH_N = 4096 };

static void run_to(void *ctx, uint64_t i)
{
    timing *t = ctx;
    (void)i;
    ((to_fn)t->s->fn)(t->floats, t->packed, BENCH_N);
}

static void run_from(void *ctx, uint64_t i)
{
    timing *t = ctx;
    (void)i;
    ((from_fn)t->s->fn)(t->packed, t->floats, BENCH_N);
}

static void bench_rows(const subject *s, void (*run)(void *, uint64_t))
{
    static float floats[BENCH_N];
    static char packed[BENCH_N * 8];
    timing t = {s, packed, floats};
    fill_floats(floats, BENCH_N, FILL_NORMAL, 0);
    fill_format(s->format, packed, BENCH_N, FILL_NORMAL, 0);
    bench(s, "n=4096", run, &t, BENCH_N, "G elements/s");
}

static void bench_to(const subject *s)
{
    bench_rows(s, run_to);
}

static void bench_from(const subject *s)
{
    bench_rows(s, run_from);
}

const family convert_families[2] = {
    {"to_f32", true, get_to, check_to, bench_to},
    {"from_f32", true, get_from, check_from, bench_from},
};
