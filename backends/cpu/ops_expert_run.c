/* SPDX-License-Identifier: MIT
 * Running the nodes of EXPERT_MATMUL. Where the units are cut depends on shapes and threads, but no sum does: the results of a
 * row's experts are added up in the order in which the route has them. */
#include "backends/cpu/ops_experts.h"

#include <string.h>

enum { STRIP = QK_PANEL_ROWS };

/* The number of expert i of row r; −1 for one that W has not, or NaN. */
static int64_t expert_at(const qc_rows *route, int64_t experts, int64_t i, int64_t r)
{
    float number = qc_row_at(route, 1, r)[i];
    return number >= 0 && number < (float)experts ? (int64_t)number : -1;
}

static int64_t blocks_of(const qc_expert_node *u)
{
    return (u->m + u->group * STRIP - 1) / (u->group * STRIP);
}

static int sums(const qc_expert_node *u)
{
    return (u->p.flags & QP_EXPERT_SUM) != 0;
}

/* ---- sorting and gathering ------------------------------------------------------------------------------------------ */

static int64_t sort_units(const qc_node *node, int64_t live)
{
    (void)node;
    return live > 0;
}

/* By counting: entries of one expert stay in their order. */
static void run_sort(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)begin;
    (void)end;
    (void)work;
    const qc_sort_node *u = &node->u.sort;
    int32_t *start = u->sorted.start;
    int64_t buckets = u->experts + 1, entries = live * u->used;
    memset(start, 0, (size_t)(buckets + 1) * sizeof *start);
    for (int64_t n = 0; n < entries; n++) {
        int64_t e = expert_at(&u->route, u->experts, n % u->used, n / u->used);
        start[(e < 0 ? u->experts : e) + 1]++;
    }
    for (int64_t e = 0; e < buckets; e++)
        start[e + 1] += start[e];
    for (int64_t n = 0; n < entries; n++) { /* start[e] runs from its own to the next one's */
        int64_t e = expert_at(&u->route, u->experts, n % u->used, n / u->used);
        int32_t place = start[e < 0 ? u->experts : e]++;
        u->sorted.place[n] = place;
        u->sorted.entry[place] = (int32_t)n;
    }
    memmove(start + 1, start, (size_t)buckets * sizeof *start);
    start[0] = 0;
}

const qc_kind qc_sort_kind = {run_sort, sort_units};

static void convert(const qc_node *node, const qc_gather_node *u, char *to, const float *x)
{
    if (u->quantise)
        node->kernels->quantise_activations(to, x, u->k);
    else
        memcpy(to, x, (size_t)u->k * sizeof *x);
}

static void run_gather(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_gather_node *u = &node->u.gather;
    for (int64_t r = begin; r < end; r++) {
        const char *first = NULL;
        for (int64_t i = 0; i < u->used; i++) {
            char *to = u->dst + u->bytes * (u->place ? u->place[r * u->used + i] : r * u->used + i);
            if (u->heads > 1 || !first)
                convert(node, u, to, qc_row_at(&u->x, u->heads > 1 ? i : 0, r));
            else
                memcpy(to, first, (size_t)u->bytes);
            first = first ? first : to;
        }
    }
}

const qc_kind qc_gather_kind = {run_gather, NULL};

/* ---- one product ---------------------------------------------------------------------------------------------------- */

/* A thread's scratch. */
typedef struct room {
    float *kept, *y2, *more;
} room;

static room room_of(const qc_work *work, int64_t rows, int64_t entries, int64_t tile)
{
    room s = {.kept = (float *)(void *)work->scratch};
    s.y2 = s.kept + rows * entries;
    s.more = s.y2 + rows * tile * 2;
    return s;
}

static void scale_and_bias(const qc_tile *t, float *y, float scale, const float *bias)
{
    if (scale == 1 && !bias)
        return;
    for (int64_t i = 0; i < t->tokens; i++)
        for (int64_t r = 0; r < t->rows; r++) {
            float a = y[i * t->stride + r] * scale;
            y[i * t->stride + r] = bias ? a + bias[t->row + r] : a;
        }
}

static void activate(const qc_node *node, const qc_tile *t, float *y, const float *y2)
{
    const qp_expert_matmul_params *p = &node->u.expert.p;
    qp_elementwise_params e = {.function = y2 ? QP_ELEMENTWISE_GLU : QP_ELEMENTWISE_ACT, .act = p->act, .scale = 1};
    if (!y2 && p->act == QP_ACT_NONE)
        return;
    if (p->act == QP_ACT_SWIGLU_CLAMPED) {
        e.scale = p->alpha;
        e.offset = p->limit;
    }
    for (int64_t i = 0; i < t->tokens; i++, y += t->stride, y2 = y2 ? y2 + t->stride : NULL)
        node->kernels->elementwise(y, y, y2, t->rows, &e);
}

static float *bias_of(const qc_rows *bias, int64_t e)
{
    return bias->data ? qc_row_at(bias, e, 0) : NULL;
}

/* y = act(…) of expert e for a tile; x: the activations of its token 0. */
static void product(const qc_node *node, int64_t e, const char *x, const qc_tile *t, float *y, const room *s)
{
    const qc_expert_node *u = &node->u.expert;
    qc_weight w = u->w, w2 = u->w2;
    w.data += e * u->expert_bytes;
    w.x = w2.x = x;
    qc_multiply(&w, u->k, t, y, s->more);
    scale_and_bias(t, y, u->scales ? u->scales[e] : 1, bias_of(&u->bias, e));
    if (w2.data) {
        w2.data += e * u->expert_bytes2;
        qc_multiply(&w2, u->k, t, s->y2, s->more);
        scale_and_bias(t, s->y2, 1, bias_of(&u->bias2, e));
    }
    activate(node, t, y, w2.data ? s->y2 : NULL);
}

static void add(float *sum, const float *y, float weight, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += weight * y[i];
}

/* A finished stretch of row r's result. */
static void store(const qc_expert_node *u, int64_t i, int64_t r, int64_t row, int64_t rows, const float *y)
{
    float *to = qc_row_at(&u->dst, i, r) + row;
    if (!u->residual.data) {
        memcpy(to, y, (size_t)rows * sizeof *y);
        return;
    }
    const float *residual = qc_row_at(&u->residual, 0, r) + row;
    for (int64_t m = 0; m < rows; m++)
        to[m] = y[m] + residual[m];
}

static int64_t rows_at(const qc_expert_node *u, int64_t row, int64_t most)
{
    return u->m - row < most ? u->m - row : most;
}

/* ---- one row: units are blocks, with sums, or else blocks of one expert after another --------------------------------- */

static int64_t row_units(const qc_node *node, int64_t live)
{
    const qc_expert_node *u = &node->u.expert;
    return live > 0 ? blocks_of(u) * (sums(u) ? 1 : u->used) : 0;
}

/* Neighbouring blocks are done as one, so that each matrix is read in long runs. */
static void row_sum(const qc_node *node, int64_t begin, int64_t end, const room *s)
{
    const qc_expert_node *u = &node->u.expert;
    qc_tile t = {.row = begin * u->group * STRIP, .tokens = 1};
    t.rows = rows_at(u, t.row, (end - begin) * u->group * STRIP);
    t.stride = (t.rows + STRIP - 1) / STRIP * STRIP;
    float *sum = s->y2 + t.stride;
    memset(sum, 0, (size_t)t.rows * sizeof *sum);
    for (int64_t i = 0; i < u->used; i++) {
        int64_t e = expert_at(&u->route, u->experts, i, 0);
        if (e < 0)
            continue;
        product(node, e, u->w.x + i * u->x_head, &t, s->kept, s);
        add(sum, s->kept, qc_row_at(&u->route, 0, 0)[i], t.rows);
    }
    store(u, 0, 0, t.row, t.rows, sum);
}

static void row_apart(const qc_node *node, int64_t i, int64_t begin, int64_t end, const room *s)
{
    const qc_expert_node *u = &node->u.expert;
    qc_tile t = {.row = begin * u->group * STRIP, .tokens = 1};
    t.rows = rows_at(u, t.row, (end - begin) * u->group * STRIP);
    t.stride = (t.rows + STRIP - 1) / STRIP * STRIP;
    int64_t e = expert_at(&u->route, u->experts, i, 0);
    if (e < 0)
        memset(s->kept, 0, (size_t)t.rows * sizeof *s->kept);
    else
        product(node, e, u->w.x + i * u->x_head, &t, s->kept, s);
    store(u, i, 0, t.row, t.rows, s->kept);
}

static void run_row(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    const qc_expert_node *u = &node->u.expert;
    int64_t blocks = blocks_of(u);
    room s = room_of(work, (u->m + STRIP - 1) / STRIP * STRIP, 1, 1);
    if (sums(u)) {
        row_sum(node, begin, end, &s);
        return;
    }
    for (int64_t next; begin < end; begin = next) {
        int64_t i = begin / blocks;
        next = (i + 1) * blocks < end ? (i + 1) * blocks : end;
        row_apart(node, i, begin - i * blocks, next - i * blocks, &s);
    }
}

const qc_kind qc_expert_row_kind = {run_row, row_units};

/* ---- one expert alone: units are blocks times tiles of rows ------------------------------------------------------------ */

static int64_t tiles_at(const qc_expert_node *u, int64_t live)
{
    return (live + u->tile - 1) / u->tile;
}

static int64_t alone_units(const qc_node *node, int64_t live)
{
    const qc_expert_node *u = &node->u.expert;
    return blocks_of(u) * tiles_at(u, live);
}

static void alone_tile(const qc_node *node, const qc_tile *t, const room *s)
{
    const qc_expert_node *u = &node->u.expert;
    qc_tile here = *t;
    here.token = 0;
    product(node, 0, u->w.x + t->token * u->w.x_stride, &here, s->kept, s);
    for (int64_t j = 0; j < t->tokens; j++) {
        float *y = s->kept + j * t->stride;
        int64_t r = t->token + j;
        if (expert_at(&u->route, 1, 0, r) < 0)
            memset(y, 0, (size_t)t->rows * sizeof *y);
        else if (sums(u))
            for (int64_t m = 0; m < t->rows; m++)
                y[m] = qc_row_at(&u->route, 0, r)[0] * y[m];
        store(u, 0, r, t->row, t->rows, y);
    }
}

static void run_alone(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    const qc_expert_node *u = &node->u.expert;
    int64_t tiles = tiles_at(u, live), rows = u->group * STRIP;
    room s = room_of(work, rows, u->tile, u->tile);
    for (int64_t i = begin; i < end; i++) {
        qc_tile t = {.row = i / tiles * rows, .token = i % tiles * u->tile, .stride = rows};
        t.rows = rows_at(u, t.row, rows);
        t.tokens = live - t.token < u->tile ? live - t.token : u->tile;
        alone_tile(node, &t, &s);
    }
}

const qc_kind qc_expert_alone_kind = {run_alone, alone_units};

/* ---- sorted rows that stay apart: units are blocks of one expert after another, then of the entries that have none ------ */

static int64_t sorted_units(const qc_node *node, int64_t live)
{
    const qc_expert_node *u = &node->u.expert;
    return live > 0 ? (u->experts + 1) * blocks_of(u) : 0;
}

static void sorted_tile(const qc_node *node, int64_t e, int64_t first, const qc_tile *t, const room *s)
{
    const qc_expert_node *u = &node->u.expert;
    if (e < u->experts)
        product(node, e, u->w.x + first * u->w.x_stride, t, s->kept, s);
    else
        memset(s->kept, 0, (size_t)(t->tokens * t->stride) * sizeof *s->kept);
    for (int64_t j = 0; j < t->tokens; j++) {
        int64_t n = u->sorted.entry[first + j];
        store(u, n % u->used, n / u->used, t->row, t->rows, s->kept + j * t->stride);
    }
}

static void run_sorted(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    const qc_expert_node *u = &node->u.expert;
    int64_t blocks = blocks_of(u), rows = u->group * STRIP;
    room s = room_of(work, rows, u->tile, u->tile);
    for (int64_t i = begin; i < end; i++) {
        int64_t e = i / blocks, last = u->sorted.start[e + 1];
        qc_tile t = {.row = i % blocks * rows, .stride = rows};
        t.rows = rows_at(u, t.row, rows);
        for (int64_t first = u->sorted.start[e]; first < last; first += u->tile) {
            t.tokens = last - first < u->tile ? last - first : u->tile;
            sorted_tile(node, e, first, &t, &s);
        }
    }
}

const qc_kind qc_expert_sorted_kind = {run_sorted, sorted_units};

/* ---- sorted rows that are added up: units are blocks, over all experts -------------------------------------------------- */

static int64_t sum_units(const qc_node *node, int64_t live)
{
    return live > 0 ? blocks_of(&node->u.expert) : 0;
}

static void add_entries(const qc_expert_node *u, int64_t r, const qc_tile *t, const room *s)
{
    float *sum = s->y2;
    memset(sum, 0, (size_t)t->rows * sizeof *sum);
    for (int64_t i = 0; i < u->used; i++) {
        int64_t place = u->sorted.place[r * u->used + i];
        if (place < u->sorted.start[u->experts])
            add(sum, s->kept + place * t->stride, qc_row_at(&u->route, 0, r)[i], t->rows);
    }
    store(u, 0, r, t->row, t->rows, sum);
}

static void run_sum(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    const qc_expert_node *u = &node->u.expert;
    int64_t rows = u->group * STRIP;
    room s = room_of(work, rows, node->rows * u->used, u->tile);
    for (int64_t i = begin; i < end; i++) {
        qc_tile t = {.row = i * rows, .stride = rows};
        t.rows = rows_at(u, t.row, rows);
        for (int64_t e = 0; e < u->experts; e++)
            for (int64_t first = u->sorted.start[e], last = u->sorted.start[e + 1]; first < last; first += u->tile) {
                t.tokens = last - first < u->tile ? last - first : u->tile;
                product(node, e, u->w.x + first * u->w.x_stride, &t, s.kept + first * rows, &s);
            }
        for (int64_t r = 0; r < live; r++)
            add_entries(u, r, &t, &s);
    }
}

const qc_kind qc_expert_sum_kind = {run_sum, sum_units};
