/* SPDX-License-Identifier: MIT
 * Graphs and the arena: random graphs against brute force, and every refusal. */
#include <quern/format.h>
#include <quern/graph.h>

#include "core/arena.h"
#include "tests/tap.h"

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

/* ---- the arena alone ---- */

static int blocks_clash(const arena_block *blocks, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++) {
            const arena_block *a = &blocks[i], *b = &blocks[j];
            if (a->first <= b->last && b->first <= a->last && a->offset < b->offset + b->size && b->offset < a->offset + a->size)
                return 1;
        }
    return 0;
}

static uint64_t most_alive(const arena_block *blocks, uint32_t n, uint32_t times, uint64_t alignment)
{
    uint64_t most = 0;
    for (uint32_t t = 0; t < times; t++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < n; i++)
            if (blocks[i].first <= t && t <= blocks[i].last)
                sum += (blocks[i].size + alignment - 1) / alignment * alignment;
        most = sum > most ? sum : most;
    }
    return most;
}

static void test_arena(void)
{
    enum { N = 60, TIMES = 40, ROUNDS = 300 };
    int clash = 0, misaligned = 0, outside = 0, differs = 0, below = 0;
    double worst = 1, sum_ratio = 0;
    for (int round = 0; round < ROUNDS; round++) {
        arena_block blocks[N], again[N];
        uint64_t alignment = 1u << random_below(9), total = 0, total_again = 0;
        for (int i = 0; i < N; i++) {
            uint32_t first = random_below(TIMES), last = first + random_below(random_below(4) ? 4 : TIMES);
            blocks[i] = (arena_block){
                .size = random_below(8) ? random_below(5000) : 0, .first = first, .last = last < TIMES ? last : TIMES - 1};
        }
        memcpy(again, blocks, sizeof again);
        arena_place(blocks, N, alignment, &total);
        arena_place(again, N, alignment, &total_again);
        differs += total != total_again || memcmp(blocks, again, sizeof again) != 0;
        clash += blocks_clash(blocks, N);
        for (int i = 0; i < N; i++) {
            misaligned += blocks[i].offset % alignment != 0;
            outside += blocks[i].offset + blocks[i].size > total;
        }
        uint64_t bound = most_alive(blocks, N, TIMES, alignment);
        below += total < bound;
        double ratio = (double)total / (double)bound;
        worst = ratio > worst ? ratio : worst;
        sum_ratio += ratio;
    }
    ok(!clash, "no two blocks alive together share a byte");
    ok(!misaligned && !outside, "offsets are aligned and inside the total");
    ok(!differs, "the same blocks get the same offsets");
    ok(!below && worst < 1.35 && sum_ratio / ROUNDS < 1.10,
       "the total is near what is alive at once: %.3f times it on average, %.3f at worst", sum_ratio / ROUNDS, worst);
}

static void test_arena_edges(void)
{
    uint64_t total = 99;
    ok(arena_place(NULL, 0, 64, &total) == 0 && total == 0, "no blocks need no bytes");
    arena_block same[3] = {
        {.size = 100, .first = 0, .last = 0}, {.size = 100, .first = 1, .last = 1}, {.size = 100, .first = 2, .last = 2}};
    ok(arena_place(same, 3, 64, &total) == 0 && total == 128, "blocks that never meet share their room");
    arena_block big[2] = {{.size = UINT64_MAX - 10, .first = 0, .last = 0}, {.size = 4096, .first = 0, .last = 0}};
    ok(arena_place(big, 2, 64, &total) == -1, "sizes that overflow are refused");
}

/* ---- random graphs ---- */

enum { VALUES = 80, OPS = 120 };

typedef struct model { /* what the test knows of a graph, apart from the graph */
    quern_value id[VALUES];
    uint64_t bytes[VALUES];
    int root[VALUES]; /* −1: bound */
    uint32_t count;
    int first[VALUES], last[VALUES]; /* of roots, −1: never */
    int64_t n[VALUES];
} model;

static void touch(model *m, uint32_t i, int op)
{
    int root = m->root[i];
    if (root < 0)
        return;
    if (m->first[root] < 0)
        m->first[root] = op;
    m->last[root] = op;
}

static uint32_t add_random_value(quern_graph *g, model *m, uint32_t choice)
{
    uint32_t i = m->count++;
    int64_t n = 1 + random_below(300), rows = 1 + random_below(9);
    m->first[i] = m->last[i] = -1;
    m->n[i] = n;
    m->bytes[i] = (uint64_t)(n * rows) * 4;
    m->root[i] = (int)i;
    uint32_t base = i ? random_below(i) : 0;
    if (choice == 0) { /* bound */
        qp_tensor t = {
            .buffer = (qp_buffer *)(uintptr_t)(0x1000 + 16 * i), .ne = {n, 1, rows, 1}, .nb = {4, 4 * n, 4 * n, 4 * n * rows}};
        m->root[i] = -1;
        m->id[i] = quern_graph_bind(g, &t);
    } else if (choice == 1 && i && m->root[base] >= 0) { /* a view of the base's first half, or of the whole */
        int64_t part = (int64_t)(m->bytes[base] / 4 + random_below(2)) / (1 + random_below(2)),
                ne[4] = {part > 0 ? part : 1, 1, 1, 1};
        if ((uint64_t)ne[0] * 4 > m->bytes[base])
            ne[0] = (int64_t)(m->bytes[base] / 4);
        m->bytes[i] = (uint64_t)ne[0] * 4;
        m->root[i] = m->root[base];
        m->id[i] = quern_graph_view(g, m->id[base], 0, ne, NULL);
    } else {
        m->id[i] = quern_graph_temp(g, QP_FORMAT_F32, n, 1, rows);
    }
    return i;
}

/* Ops that are valid by construction: every source was written before, the result is in place or of another root. */
static int add_random_ops(quern_graph *g, model *m)
{
    int op = 0;
    for (; op < OPS; op++) {
        uint32_t src[3], dst = random_below(m->count);
        quern_value ids[3];
        uint32_t sources = 0;
        for (int tries = 0; tries < 20 && sources < 2; tries++) {
            uint32_t i = random_below(m->count);
            if (m->root[i] == -1 ? i != dst : m->root[i] != m->root[dst] && m->first[m->root[i]] >= 0)
                src[sources++] = i;
        }
        /* In place only where the source is the very value, and whole roots were written at first. */
        if (m->root[dst] == (int)dst && m->first[dst] >= 0 && random_below(2) && sources < 2)
            src[sources++] = dst;
        if (m->root[dst] >= 0 && m->root[dst] != (int)dst && m->first[m->root[dst]] < 0)
            dst = (uint32_t)m->root[dst];
        for (uint32_t s = 0; s < sources; s++) {
            ids[s] = m->id[src[s]];
            touch(m, src[s], op);
        }
        touch(m, dst, op);
        qp_elementwise_params p = {.function = QP_ELEMENTWISE_ADD};
        quern_graph_op(g, QP_OP_ELEMENTWISE, &p, sizeof p, m->id[dst], ids, sources, 0, (uint32_t)op);
    }
    return op;
}

static int check_offsets(const quern_graph *g, const model *m, uint64_t alignment, uint64_t total)
{
    int bad = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        qp_tensor a, b;
        if (m->root[i] != (int)i || m->first[i] < 0)
            continue;
        quern_graph_tensor(g, m->id[i], &a, NULL);
        bad += a.offset % alignment != 0 || a.offset + m->bytes[i] > total;
        for (uint32_t j = 0; j < i; j++) {
            if (m->root[j] != (int)j || m->first[j] < 0 || m->first[j] > m->last[i] || m->first[i] > m->last[j])
                continue;
            quern_graph_tensor(g, m->id[j], &b, NULL);
            bad += a.offset < b.offset + m->bytes[j] && b.offset < a.offset + m->bytes[i];
        }
    }
    return bad;
}

static void test_random_graphs(void)
{
    int failed = 0, bad = 0, above = 0, lost = 0;
    for (int round = 0; round < 200; round++) {
        quern_graph *g;
        quern_error error = {0};
        static model m;
        memset(&m, 0, sizeof m);
        quern_graph_create(&g, NULL);
        for (int i = 0; i < VALUES; i++)
            add_random_value(g, &m, random_below(4));
        int ops = add_random_ops(g, &m);
        uint64_t alignment = 1u << random_below(9), total = 0, sum = 0;
        if (quern_graph_plan(g, alignment, &total, &error) != QP_OK) {
            if (!failed++)
                diag("%s", error.text);
        } else {
            bad += check_offsets(g, &m, alignment, total);
            for (uint32_t i = 0; i < m.count; i++)
                if (m.root[i] == (int)i && m.first[i] >= 0)
                    sum += (m.bytes[i] + alignment - 1) / alignment * alignment;
            above += total > sum;
            const qp_op *list;
            uint32_t count;
            lost += quern_graph_ops(g, NULL, 0, &list, &count, &error) != QP_OK || (int)count != ops ||
                    list[count - 1].tag != count - 1;
        }
        quern_graph_destroy(g);
    }
    ok(!failed, "200 random valid graphs are planned");
    ok(!bad, "no two values alive at once overlap, offsets are aligned and inside the arena");
    ok(!above, "never more than all values side by side");
    ok(!lost, "every op comes back in its order");
}

/* ---- single cases ---- */

static quern_graph *fresh(void)
{
    quern_graph *g = NULL;
    quern_graph_create(&g, NULL);
    return g;
}

static void add(quern_graph *g, quern_value dst, quern_value a, quern_value b)
{
    qp_elementwise_params p = {.function = QP_ELEMENTWISE_ADD};
    quern_value src[2] = {a, b};
    quern_graph_op(g, QP_OP_ELEMENTWISE, &p, sizeof p, dst, src, 2, 0, 0);
}

static quern_value bound(quern_graph *g, uintptr_t buffer, uint64_t offset, int64_t n, int64_t rows)
{
    qp_tensor t = {.buffer = (qp_buffer *)buffer, .offset = offset, .ne = {n, 1, rows, 1}, .nb = {4, 4 * n, 4 * n, 4 * n * rows}};
    return quern_graph_bind(g, &t);
}

/* Plans, destroys, and says whether it was refused with these words. */
static void refused(quern_graph *g, const char *words, const char *what)
{
    quern_error error = {0};
    quern_status status = quern_graph_plan(g, 64, NULL, &error);
    ok(status == QP_ERR_INVALID && strstr(error.text, words), "refused: %s (%s)", what,
       status == QP_OK ? "it was planned" : error.text);
    quern_graph_destroy(g);
}

static void test_bad_values(void)
{
    quern_graph *g = fresh();
    quern_graph_temp(g, QP_FORMAT_F32, 0, 1, 1);
    refused(g, "smaller than 1", "a dimension of 0");
    g = fresh();
    quern_graph_temp(g, QP_FORMAT_F32, 4, -7, 1);
    refused(g, "smaller than 1", "a negative dimension");
    g = fresh();
    quern_graph_temp(g, QP_FORMAT_Q8_0, 33, 1, 1);
    refused(g, "whole number of blocks", "a row that is not whole blocks");
    g = fresh();
    quern_graph_temp(g, 63, 32, 1, 1);
    refused(g, "no format", "an unknown format");
    g = fresh();
    quern_graph_temp(g, QP_FORMAT_F32, INT64_MAX / 2, INT64_MAX / 2, 3);
    refused(g, "overflow", "a size past 64 bits");
    g = fresh();
    qp_tensor t = {.ne = {4, 1, 1, 1}, .nb = {4, -16, 16, 16}};
    quern_graph_bind(g, &t);
    refused(g, "stride", "a negative stride");
    g = fresh();
    quern_graph_bind(g, NULL);
    refused(g, "no tensor", "binding NULL");
    g = fresh();
    int64_t ne[4] = {5, 1, 1, 1};
    quern_graph_view(g, quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 1), 16, ne, NULL);
    refused(g, "past its base", "a view past its base");
    g = fresh();
    quern_graph_view(g, 7, 0, ne, NULL);
    refused(g, "does not exist", "a view of an unknown value");
    g = fresh();
    quern_graph_view(g, quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 1), UINT64_MAX - 3, ne, NULL);
    refused(g, "overflow", "a view whose offset overflows");
}

static void test_bad_ops(void)
{
    quern_graph *g = fresh();
    quern_value a = quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 2), b = quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 2);
    add(g, a, b, 0);
    refused(g, "no op before it writes", "a temporary read before it is written");
    g = fresh();
    add(g, quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 2), 99, 0);
    refused(g, "does not exist", "an unknown source");
    g = fresh();
    add(g, 0, bound(g, 0x10, 0, 8, 2), 0);
    refused(g, "does not exist", "no result");
    g = fresh();
    a = quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 2);
    add(g, a, 0, 0);
    int64_t half[4] = {8, 1, 1, 1};
    add(g, quern_graph_view(g, a, 0, half, NULL), a, 0);
    refused(g, "overlaps source 0", "a result over a part of its source");
    g = fresh();
    a = bound(g, 0x10, 0, 8, 2);
    add(g, bound(g, 0x10, 32, 8, 2), a, 0);
    refused(g, "overlaps source 0", "bound tensors that overlap in one buffer");
    g = fresh();
    a = bound(g, 0x10, 0, 8, 2);
    quern_value src[2] = {bound(g, 0x20, 0, 8, 8), a};
    quern_graph_op(g, QP_OP_MATMUL, NULL, 0, a, src, 2, 0, 0);
    refused(g, "cannot write it in place", "a matmul over its own x");
    g = fresh();
    a = bound(g, 0x10, 0, 8, 2);
    quern_value many[9] = {a, a, a, a, a, a, a, a, a};
    quern_graph_op(g, QP_OP_ELEMENTWISE, NULL, 0, a, many, 9, 0, 0);
    refused(g, "9 sources", "too many sources");
    g = fresh();
    a = bound(g, 0x10, 0, 8, 2);
    quern_graph_op(g, QP_OP_ELEMENTWISE, many, 4096, a, &a, 1, 0, 0);
    refused(g, "4096 bytes", "too many parameter bytes");
    g = fresh();
    a = bound(g, 0x10, 0, 8, 2);
    quern_graph_op(g, QP_OP_NORM, NULL, 0, quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 2), &a, 1, a, 0);
    refused(g, "not I32", "a live row count of floats");
}

static void test_first_error_stays(void)
{
    quern_graph *g = fresh();
    quern_error error = {0};
    quern_value bad = quern_graph_temp(g, QP_FORMAT_F32, 0, 1, 1);
    ok(bad == 0, "a refused value is 0");
    add(g, bad, bad, bad);
    quern_graph_plan(g, 64, NULL, &error);
    ok(strstr(error.text, "value 1, a temporary"), "the first error comes out of plan: %s", error.text);
    const qp_op *ops;
    uint32_t count;
    ok(quern_graph_ops(g, NULL, 0, &ops, &count, &error) == QP_ERR_INVALID, "and there are no ops");
    quern_graph_destroy(g);
    quern_graph_destroy(NULL);
}

static void test_views(void)
{
    quern_graph *g = fresh();
    quern_error error = {0};
    quern_value x = bound(g, 0x10, 0, 96, 4), qkv = quern_graph_temp(g, QP_FORMAT_F32, 96, 1, 4), other;
    add(g, qkv, x, 0);
    int64_t head[4] = {16, 2, 4, 1}, strides[4] = {0, 64, 0, 0}, one[4] = {16, 1, 4, 1};
    quern_value q = quern_graph_view(g, qkv, 0, head, strides), k = quern_graph_view(g, qkv, 128, head, strides);
    quern_value k1 = quern_graph_view(g, k, 64, one, strides);
    other = quern_graph_temp(g, QP_FORMAT_F32, 96, 1, 4);
    add(g, other, x, 0);
    add(g, q, q, k); /* columns of one matrix: woven, but no byte shared */
    add(g, k1, k1, q);
    uint64_t bytes = 0;
    quern_status status = quern_graph_plan(g, 256, &bytes, &error);
    ok(status == QP_OK, "column ranges of one temporary are apart from each other%s%s", status ? ": " : "", error.text);
    qp_tensor t = {0}, base = {0}, o = {0};
    quern_graph_tensor(g, k1, &t, NULL);
    quern_graph_tensor(g, qkv, &base, NULL);
    quern_graph_tensor(g, other, &o, NULL);
    ok(t.offset == base.offset + 192 && t.nb[1] == 64 && t.nb[2] == 384,
       "a view of a view keeps the base's strides where 0 is given");
    ok(o.offset != base.offset && bytes == 2 * 1536, "a view keeps its base alive");
    status = quern_graph_tensor(g, 77, &t, &error);
    ok(status == QP_ERR_NOT_FOUND, "an unknown value is not found: %s", error.text);
    status = quern_graph_plan(g, 48, NULL, &error);
    ok(status == QP_ERR_INVALID, "an alignment that is no power of two: %s", error.text);
    const qp_op *ops;
    uint32_t count;
    ok(quern_graph_ops(g, NULL, 0, &ops, &count, &error) == QP_OK && count == 4, "the plan before it stands");
    int64_t flat[4] = {32, 1, 12, 1};
    quern_graph_tensor(g, quern_graph_view(g, qkv, 0, flat, NULL), &t, NULL);
    ok(t.nb[0] == 4 && t.nb[1] == 128 && t.nb[2] == 128 && t.nb[3] == 1536, "without strides a view is contiguous");
    ok(quern_graph_ops(g, NULL, 0, &ops, &count, &error) == QP_ERR_INVALID, "after a change there are no ops before the next plan");
    quern_graph_destroy(g);
}

static void test_written_part(void)
{
    quern_graph *g = fresh();
    quern_value a = quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 2), x = bound(g, 0x10, 0, 8, 1);
    int64_t row[4] = {8, 1, 1, 1};
    quern_value first = quern_graph_view(g, a, 0, row, NULL), second = quern_graph_view(g, a, 32, row, NULL);
    add(g, first, x, 0);
    add(g, quern_graph_temp(g, QP_FORMAT_F32, 8, 1, 1), second, 0);
    refused(g, "no op before it writes", "the part of a temporary that no op wrote");
}

static void test_growth(void)
{
    quern_graph *g = fresh();
    quern_error error = {0};
    quern_value x = bound(g, 0x10, 0, 64, 2);
    for (int i = 0; i < 2000; i++) {
        quern_value y = quern_graph_temp(g, QP_FORMAT_F32, 64, 1, 2);
        add(g, y, x, 0);
        x = y;
    }
    uint64_t bytes = 0;
    quern_status status = quern_graph_plan(g, 64, &bytes, &error);
    ok(status == QP_OK && bytes == 2 * 512, "a chain of 2000 values needs room for two (%llu bytes)", (unsigned long long)bytes);
    quern_graph_destroy(g);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 20240601;
    diag("seed %llu", (unsigned long long)seed);
    random_state = seed;
    test_arena();
    test_arena_edges();
    test_random_graphs();
    test_bad_values();
    test_bad_ops();
    test_first_error_stays();
    test_views();
    test_written_part();
    test_growth();
    return tap_done();
}
