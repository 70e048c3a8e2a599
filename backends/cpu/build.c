/* SPDX-License-Identifier: MIT
 * Finds which pieces of work may run at the same time. Accesses are compared as addresses, so two buffers over the same imported
 * memory are seen to be the same. */
#include "backends/cpu/build.h"

#include "backends/cpu/buffer.h"
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"
#include "kernels/ref/ref.h"

#include <stdio.h>
#include <string.h>

enum { NONE = -1 };
#define ONE_ROW (UINTPTR_MAX / 2) /* the pitch of what has one row */

typedef struct node_meta {
    uint32_t first_access, access_count;
    int32_t next; /* in the chain */
    int by_row;
} node_meta;

typedef struct chain {
    int32_t head, tail, next; /* next: in the phase */
} chain;

typedef struct phase {
    int32_t chains; /* the newest one */
    uint32_t count;
} phase;

typedef struct cache {
    size_t key_size; /* 0: holds nothing */
    unsigned char key[QC_CACHE_KEY];
    uint32_t node; /* that computed it */
} cache;

typedef struct list {
    void *data;
    uint32_t count, room;
} list;

struct qc_builder {
    qc_build_info info;
    qp_program *program;
    list nodes, metas, accesses, chains, phases;
    cache caches[QC_CACHE_SLOTS];
    int failed; /* no memory */
};

/* ---- growing lists ------------------------------------------------------------------------------------------------- */

/* Room for one more element; NULL: no memory. */
static void *list_add(qc_builder *b, list *l, size_t element)
{
    if (l->count == l->room) {
        uint32_t room = l->room ? l->room * 2 : 64;
        char *data = qc_alloc(room * element);
        if (!data) {
            b->failed = 1;
            return NULL;
        }
        if (l->count)
            memcpy(data, l->data, l->count * element);
        qc_free(l->data);
        l->data = data;
        l->room = room;
    }
    void *place = (char *)l->data + l->count++ * element;
    memset(place, 0, element);
    return place;
}

static qc_node *node_at(const qc_builder *b, uint32_t i)
{
    return (qc_node *)b->nodes.data + i;
}
static node_meta *meta_at(const qc_builder *b, uint32_t i)
{
    return (node_meta *)b->metas.data + i;
}
static chain *chain_at(const qc_builder *b, uint32_t i)
{
    return (chain *)b->chains.data + i;
}
static const qc_access *access_at(const qc_builder *b, uint32_t i)
{
    return (const qc_access *)b->accesses.data + i;
}

const qc_build_info *qc_build_get(const qc_builder *builder)
{
    return &builder->info;
}

typedef struct side_block {
    alignas(64) struct side_block *next;
    alignas(64) char data[];
} side_block;

void *qc_build_alloc(qc_builder *builder, size_t size)
{
    side_block *block = size < SIZE_MAX - sizeof *block ? qc_alloc(sizeof *block + size) : NULL;
    if (!block) {
        builder->failed = 1;
        return NULL;
    }
    block->next = builder->program->side;
    builder->program->side = block;
    return block->data;
}

/* ---- what touches what --------------------------------------------------------------------------------------------- */

enum { APART, SAME_ROW, CLASH };

static int compare_access(const qc_access *a, const qc_access *b)
{
    if ((!a->write && !b->write) || a->hi <= b->lo || b->hi <= a->lo)
        return APART;
    if (!a->pitch || a->pitch != b->pitch)
        return CLASH;
    /* The first rows of both inside one pitch: then row r of one meets row r of the other only. */
    uintptr_t a_end = a->lo + a->bytes, b_end = b->lo + b->bytes;
    uintptr_t lo = a->lo < b->lo ? a->lo : b->lo, end = a_end > b_end ? a_end : b_end;
    if (end - lo > a->pitch)
        return CLASH;
    if (a_end <= b->lo || b_end <= a->lo)
        return APART; /* columns beside each other */
    return a->by_row && b->by_row ? SAME_ROW : CLASH;
}

static int compare_nodes(const qc_builder *b, uint32_t x, uint32_t y)
{
    const node_meta *m = meta_at(b, x), *n = meta_at(b, y);
    int worst = APART;
    for (uint32_t i = 0; i < m->access_count; i++)
        for (uint32_t j = 0; j < n->access_count; j++) {
            int how = compare_access(access_at(b, m->first_access + i), access_at(b, n->first_access + j));
            worst = how > worst ? how : worst;
        }
    return worst;
}

static int compare_chain(const qc_builder *b, const chain *c, uint32_t node)
{
    int worst = APART;
    for (int32_t i = c->head; i != NONE && worst != CLASH; i = meta_at(b, (uint32_t)i)->next) {
        int how = compare_nodes(b, (uint32_t)i, node);
        worst = how > worst ? how : worst;
    }
    return worst;
}

/* May the node be done row by row with the chain's? */
static int joins(const qc_builder *b, const chain *c, uint32_t node)
{
    const qc_node *head = node_at(b, (uint32_t)c->head), *n = node_at(b, node);
    return meta_at(b, (uint32_t)c->head)->by_row && meta_at(b, node)->by_row && head->live == n->live && head->rows == n->rows;
}

/* ---- phases -------------------------------------------------------------------------------------------------------- */

static phase *phase_at(const qc_builder *b, uint32_t i)
{
    return (phase *)b->phases.data + i;
}

/* A later phase than need be is as good: a full one sends the chain on. */
static void add_chain(qc_builder *b, uint32_t node, uint32_t index)
{
    while (index < b->phases.count && phase_at(b, index)->count == QC_PHASE_CHAINS)
        index++;
    phase *to = index < b->phases.count ? phase_at(b, index) : list_add(b, &b->phases, sizeof *to);
    chain *c = to ? list_add(b, &b->chains, sizeof *c) : NULL;
    if (!c)
        return;
    if (!to->count)
        to->chains = NONE;
    *c = (chain){.head = (int32_t)node, .tail = (int32_t)node, .next = to->chains};
    to->chains = (int32_t)b->chains.count - 1;
    to->count++;
}

/* The last phase that has something to do with the node decides: the node joins the one chain it continues there, or goes into the
 * next phase. */
static void place(qc_builder *b, uint32_t node)
{
    for (uint32_t at = b->phases.count; at-- > 0;) {
        int clash = 0, touched = 0;
        chain *partner = NULL;
        for (int32_t i = phase_at(b, at)->chains; i != NONE && !clash; i = chain_at(b, (uint32_t)i)->next) {
            int how = compare_chain(b, chain_at(b, (uint32_t)i), node);
            clash = how == CLASH;
            if (how != APART) {
                touched++;
                partner = chain_at(b, (uint32_t)i);
            }
        }
        if (!touched)
            continue;
        if (!clash && touched == 1 && joins(b, partner, node)) {
            meta_at(b, (uint32_t)partner->tail)->next = (int32_t)node;
            partner->tail = (int32_t)node;
        } else {
            add_chain(b, node, at + 1);
        }
        return;
    }
    add_chain(b, node, 0);
}

qc_node *qc_node_begin(qc_builder *b, const qc_kind *kind, int64_t rows, int by_row)
{
    node_meta *meta = list_add(b, &b->metas, sizeof *meta);
    qc_node *node = meta ? list_add(b, &b->nodes, sizeof *node) : NULL;
    if (!node)
        return NULL;
    *meta = (node_meta){.first_access = b->accesses.count, .next = NONE, .by_row = by_row};
    node->kind = kind;
    node->rows = rows;
    node->grain = 1;
    node->kernels = b->info.kernels;
    node->live = b->info.live;
    if (node->live)
        qc_node_touches(b, node->live, 0, sizeof *node->live, 1, 0, 0);
    return node;
}

void qc_node_touches(qc_builder *b, const void *data, uint64_t pitch, uint64_t bytes, int64_t rows, int write, int by_row)
{
    qc_access *access = list_add(b, &b->accesses, sizeof *access);
    if (!access)
        return;
    uintptr_t lo = (uintptr_t)data;
    *access =
        (qc_access){.lo = lo, .hi = lo + (uintptr_t)(rows - 1) * pitch + bytes, .bytes = bytes, .write = write, .by_row = by_row};
    if (rows == 1)
        access->pitch = ONE_ROW;
    else if (bytes <= pitch)
        access->pitch = pitch;
    meta_at(b, b->metas.count - 1)->access_count++;
}

/* rows of it, bytes of one and the distance between them; pitch 0 where rows are not told apart. */
static void describe(const qk_tensor *t, qc_access *out)
{
    qp_tensor all = {.format = t->format, .layout = t->layout};
    memcpy(all.ne, t->ne, sizeof all.ne);
    memcpy(all.nb, t->nb, sizeof all.nb);
    uintptr_t lo = (uintptr_t)t->data;
    *out = (qc_access){.lo = lo, .hi = lo + qc_tensor_bytes(&all)};
    int flat = t->layout != QP_LAYOUT_GGUF || t->ne[3] != 1;
    if (!flat)
        all.ne[2] = 1;
    out->bytes = qc_tensor_bytes(&all);
    if (flat || t->ne[2] == 1) /* one row: whatever shape the others have, it is row 0 that they meet */
        out->pitch = flat ? 0 : ONE_ROW;
    else if (out->bytes <= (uint64_t)t->nb[2])
        out->pitch = (uintptr_t)t->nb[2];
}

static void touches(qc_builder *b, const qk_tensor *t, int write, int by_row)
{
    qc_access *access = t->data ? list_add(b, &b->accesses, sizeof *access) : NULL;
    if (!access)
        return;
    describe(t, access);
    access->write = write;
    access->by_row = by_row;
    meta_at(b, b->metas.count - 1)->access_count++;
}

/* A tensor of one row that an op of many uses for all of them (b of elementwise) is only ever read. */
void qc_node_reads(qc_builder *b, const qk_tensor *tensor)
{
    const qc_node *node = node_at(b, b->nodes.count - 1);
    touches(b, tensor, 0, tensor->data && tensor->ne[2] == node->rows);
}

void qc_node_writes(qc_builder *b, const qk_tensor *tensor)
{
    touches(b, tensor, 1, 1);
}

void qc_node_touches_all(qc_builder *b, const qk_tensor *tensor, int write)
{
    touches(b, tensor, write, 0);
}

/* What the node writes makes what was computed from it stale. */
static void drop_stale(qc_builder *b, uint32_t node)
{
    const node_meta *m = meta_at(b, node);
    for (uint32_t slot = 0; slot < QC_CACHE_SLOTS; slot++) {
        cache *c = &b->caches[slot];
        if (!c->key_size)
            continue;
        const node_meta *from = meta_at(b, c->node);
        for (uint32_t i = 0; i < m->access_count && c->key_size; i++)
            for (uint32_t j = 0; j < from->access_count; j++) {
                const qc_access *mine = access_at(b, m->first_access + i), *its = access_at(b, from->first_access + j);
                if (mine->write && !its->write && compare_access(mine, its) != APART)
                    c->key_size = 0;
            }
    }
}

qp_status qc_node_end(qc_builder *b)
{
    if (b->failed)
        return QP_ERR_OUT_OF_MEMORY;
    uint32_t node = b->nodes.count - 1;
    place(b, node);
    drop_stale(b, node);
    return b->failed ? QP_ERR_OUT_OF_MEMORY : QP_OK;
}

int qc_cache_has(const qc_builder *b, uint32_t slot, const void *key, size_t size)
{
    const cache *c = &b->caches[slot];
    return c->key_size == size && !memcmp(c->key, key, size);
}

void qc_cache_set(qc_builder *b, uint32_t slot, const void *key, size_t size)
{
    cache *c = &b->caches[slot];
    c->node = b->nodes.count - 1;
    c->key_size = size;
    memcpy(c->key, key, size);
}

/* ---- scratch ------------------------------------------------------------------------------------------------------- */

static uint64_t pad(uint64_t bytes)
{
    return (bytes + QC_ALIGNMENT - 1) / QC_ALIGNMENT * QC_ALIGNMENT;
}

int qc_scratch_rope(qc_scratch *scratch, const qp_rope_params *p)
{
    for (uint32_t i = 0; i < scratch->rope_tables; i++)
        if (!memcmp(&scratch->rope[i].p, p, sizeof *p))
            return (int)i;
    if (scratch->rope_tables == QC_MAX_ROPE_TABLES)
        return -1;
    scratch->rope[scratch->rope_tables].p = *p;
    return (int)scratch->rope_tables++;
}

uint64_t qc_scratch_partial_offset(const qc_scratch *scratch)
{
    return pad(scratch->activations);
}

uint64_t qc_scratch_sorted_offset(const qc_scratch *scratch)
{
    return qc_scratch_partial_offset(scratch) + pad(scratch->partial);
}

uint64_t qc_scratch_rope_offset(const qc_scratch *scratch, uint32_t table)
{
    uint64_t offset = qc_scratch_sorted_offset(scratch) + pad(scratch->sorted);
    for (uint32_t i = 0; i < table; i++)
        offset += pad(scratch->rope[i].bytes);
    return offset;
}

uint64_t qc_scratch_threads_offset(const qc_scratch *scratch)
{
    return qc_scratch_rope_offset(scratch, scratch->rope_tables);
}

uint64_t qc_scratch_bytes(const qc_scratch *scratch, uint32_t threads)
{
    return qc_scratch_threads_offset(scratch) + pad(scratch->thread_bytes) * threads;
}

/* ---- ops ----------------------------------------------------------------------------------------------------------- */

static qp_status resolve(const qp_tensor *t, const char *op, const char *name, qk_tensor *out, qp_text *error)
{
    if (!qc_present(t))
        return QP_OK;
    char what[96];
    snprintf(what, sizeof what, "%s of %s", name, op);
    qp_range range = {t->buffer, t->offset, qc_tensor_bytes(t)};
    char *data;
    qp_status status = qc_range_address(&range, what, &data, error);
    if (status)
        return status;
    uint32_t alignment = t->layout == QP_LAYOUT_GGUF ? qc_format_alignment(t->format) : QC_ALIGNMENT;
    if ((uintptr_t)data % alignment)
        return qc_fail(error, QP_ERR_INVALID, "%s: offset %llu is not a multiple of %u bytes in memory", what,
                       (unsigned long long)t->offset, alignment);
    *out = (qk_tensor){.data = data, .format = t->format, .layout = t->layout};
    memcpy(out->ne, t->ne, sizeof out->ne);
    memcpy(out->nb, t->nb, sizeof out->nb);
    return QP_OK;
}

static qp_status resolve_op(qc_builder *b, const qc_op_row *row, const qp_op *op, qk_op *out, qp_text *error)
{
    *out = (qk_op){.kind = op->kind, .live = qc_op_rows(op)};
    memcpy(&out->p, &op->p, sizeof out->p);
    qk_tensor live = {0};
    qp_status status = resolve(&op->live, row->name, "live", &live, error);
    if (!status)
        status = resolve(&op->dst, row->name, "dst", &out->dst, error);
    for (uint32_t i = 0; i < QP_OP_SOURCES && !status; i++)
        if ((row->required | row->optional) >> i & 1)
            status = resolve(&op->src[i], row->name, row->sources[i], &out->src[i], error);
    b->info.live = live.data;
    return status;
}

/* A source that the op changes shares no byte with another. */
static qp_status check_written(const qc_op_row *row, const qk_op *op, uint32_t which, qp_text *error)
{
    qc_access state, other;
    describe(&op->src[which], &state);
    state.write = 1;
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++) {
        if (i == which || !op->src[i].data)
            continue;
        describe(&op->src[i], &other);
        if (compare_access(&state, &other) != APART)
            return qc_fail(error, QP_ERR_INVALID, "%s, which the op changes, shares bytes with %s", row->sources[which],
                           row->sources[i]);
    }
    return QP_OK;
}

/* dst may be a source only where the op says so, and then it is the whole of it. */
static qp_status check_overlap(const qc_op_row *row, const qk_op *op, qp_text *error)
{
    qc_access dst, source;
    describe(&op->dst, &dst);
    dst.write = 1;
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++) {
        const qk_tensor *t = &op->src[i];
        if (!t->data)
            continue;
        describe(t, &source);
        if (compare_access(&dst, &source) == APART)
            continue;
        int same = t->data == op->dst.data && !memcmp(t->ne, op->dst.ne, sizeof t->ne) && !memcmp(t->nb, op->dst.nb, sizeof t->nb);
        if (!same || !(qk_op_in_place(op->kind) >> i & 1))
            return qc_fail(error, QP_ERR_INVALID, "dst shares bytes with %s%s", row->sources[i],
                           qk_op_in_place(op->kind) >> i & 1 ? ", but is not the same tensor" : "");
    }
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        if (op->src[i].data && qk_op_written(op->kind) >> i & 1) {
            qp_status status = check_written(row, op, i, error);
            if (status)
                return status;
        }
    return QP_OK;
}

static void reference_run(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)begin;
    (void)end;
    (void)work;
    qk_op op = *(const qk_op *)node->u.reference.op;
    op.live = live;
    qr_run(&op);
}

static int64_t one_unit(const qc_node *node, int64_t live)
{
    (void)node;
    (void)live;
    return 1;
}

static qp_status launch_reference(qc_builder *b, const qk_op *op)
{
    static const qc_kind kind = {reference_run, one_unit};
    qk_op *copy = qc_build_alloc(b, sizeof *copy);
    qc_node *node = copy ? qc_node_begin(b, &kind, op->live, 0) : NULL;
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    *copy = *op;
    node->u.reference.op = copy;
    qc_node_touches_all(b, &op->dst, 1);
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        qc_node_touches_all(b, &op->src[i], qk_op_written(op->kind) >> i & 1);
    return qc_node_end(b);
}

/* The i-th op, checked. */
static qp_status op_at(const qp_device *device, const qp_program_desc *desc, uint32_t i, qp_op *op, uint64_t *work, qp_text *error)
{
    char words[256] = "";
    qp_text text = {words, sizeof words};
    qp_op_info info = {.struct_size = sizeof info};
    *op = (qp_op){0}; /* its kind is looked at also when it cannot be read */
    qp_status status = qc_op_load(op, (const char *)desc->ops + (size_t)i * desc->op_stride, desc->op_stride, &text);
    if (!status)
        status = qc_op_check(device, op, &info, &text);
    const qc_op_row *row = qc_op_find(op->kind);
    *work = info.bytes_moved + info.operations / 8;
    return status ? qc_fail(error, status, "op %u (%s): %s", i, row ? row->name : "of unknown kind", words) : QP_OK;
}

static qp_status check_desc(const qp_program_desc *desc, qp_text *error)
{
    if (!desc || !QP_HAS(desc, scratch))
        return qc_fail(error, QP_ERR_INVALID, "a program needs a qp_program_desc whose struct_size is set");
    if (desc->op_count && (!desc->ops || desc->op_stride < sizeof(qp_op) || desc->op_stride % alignof(qp_op)))
        return qc_fail(error, QP_ERR_INVALID,
                       "a program of %u ops needs their list and an op_stride of at least %zu bytes, a multiple of %zu; it is %u",
                       desc->op_count, sizeof(qp_op), alignof(qp_op), desc->op_stride);
    return QP_OK;
}

qp_status qc_build_measure(qp_device *device, const qp_program_desc *desc, qc_scratch *scratch, qp_text *error)
{
    *scratch = (qc_scratch){0};
    qp_status status = check_desc(desc, error);
    for (uint32_t i = 0; !status && i < desc->op_count; i++) {
        qp_op op;
        uint64_t work;
        status = op_at(device, desc, i, &op, &work, error);
        const qc_op_row *row = qc_op_find(op.kind);
        if (!status && row->measure && !device->reference)
            status = row->measure(device, &op, scratch, error);
    }
    return status;
}

static qp_status add_op(qc_builder *b, const qp_program_desc *desc, uint32_t i, qp_text *error)
{
    qp_op op;
    qk_op resolved;
    char words[256] = "";
    qp_text text = {words, sizeof words};
    uint64_t work;
    qp_status status = op_at(b->info.device, desc, i, &op, &work, error);
    if (status)
        return status;
    const qc_op_row *row = qc_op_find(op.kind);
    status = resolve_op(b, row, &op, &resolved, &text);
    if (!status)
        status = check_overlap(row, &resolved, &text);
    if (!status)
        status = b->info.device->reference || !row->launch ? launch_reference(b, &resolved) : row->launch(b, &op, &resolved, &text);
    if (!status) {
        node_at(b, b->nodes.count - 1)->work = work; /* the last node is the one that does most of it */
        return QP_OK;
    }
    return qc_fail(error, status, "op %u (%s): %s", i, row->name, *words ? words : "no host memory for the program's records");
}

/* ---- the finished lists -------------------------------------------------------------------------------------------- */

/* Work that is over before a sleeping thread is awake is not worth waking it for. */
enum { WIDE_PHASE = 256 << 10, WIDE_PROGRAM = 512 << 10 };

static void link_phase(const qc_builder *b, qp_program *p, uint32_t index)
{
    const phase *from = phase_at(b, index);
    qc_phase *to = &p->phases[index];
    uint64_t work = 0;
    to->count = from->count;
    to->first = index ? p->phases[index - 1].first + p->phases[index - 1].count : 0;
    /* The list is newest first; the pieces that come first in the program are to be started first. */
    uint32_t at = to->first + to->count;
    for (int32_t i = from->chains; i != NONE; i = chain_at(b, (uint32_t)i)->next) {
        p->chains[--at] = &p->nodes[chain_at(b, (uint32_t)i)->head];
        for (int32_t n = chain_at(b, (uint32_t)i)->head; n != NONE; n = meta_at(b, (uint32_t)n)->next)
            work += node_at(b, (uint32_t)n)->work;
    }
    to->wide = work >= WIDE_PHASE;
}

static void link_all(const qc_builder *b, qp_program *p)
{
    uint64_t work = 0;
    for (uint32_t i = 0; i < b->phases.count; i++)
        link_phase(b, p, i);
    for (uint32_t i = 0; i < b->nodes.count; i++) {
        int32_t next = meta_at(b, i)->next;
        p->nodes[i].next = next == NONE ? NULL : &p->nodes[next];
        work += p->nodes[i].work;
    }
    p->wide = work >= WIDE_PROGRAM;
}

static qp_status finish(const qc_builder *b, qp_program *p, qp_text *error)
{
    p->node_count = b->nodes.count;
    p->chain_count = b->chains.count;
    p->phase_count = b->phases.count;
    p->nodes = qc_alloc(p->node_count * sizeof *p->nodes);
    p->chains = qc_alloc(p->chain_count * sizeof *p->chains);
    p->phases = qc_alloc(p->phase_count * sizeof *p->phases);
    if (!p->nodes || !p->chains || !p->phases)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a program of %u pieces of work", p->node_count);
    if (p->node_count)
        memcpy(p->nodes, b->nodes.data, p->node_count * sizeof *p->nodes);
    link_all(b, p);
    return QP_OK;
}

static qp_status build_all(qc_builder *b, const qp_program_desc *desc, qp_program *program, qp_text *error)
{
    for (uint32_t i = 0; i < desc->op_count; i++) {
        qp_status status = add_op(b, desc, i, error);
        if (status)
            return status;
    }
    return finish(b, program, error);
}

qp_status qc_build(qp_device *device, const qp_program_desc *desc, const qc_scratch *scratch, char *scratch_data,
                   qp_program *program, qp_text *error)
{
    qc_builder *b = qc_alloc(sizeof *b);
    if (!b)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to build a program");
    b->info = (qc_build_info){.device = device, .kernels = &device->kernels, .scratch = scratch, .scratch_data = scratch_data};
    b->program = program;
    qp_status status = build_all(b, desc, program, error);
    qc_free(b->nodes.data);
    qc_free(b->metas.data);
    qc_free(b->accesses.data);
    qc_free(b->chains.data);
    qc_free(b->phases.data);
    qc_free(b);
    return status;
}

void qc_build_free(qp_program *program)
{
    for (side_block *block = program->side, *next; block; block = next) {
        next = block->next;
        qc_free(block);
    }
    qc_free(program->nodes);
    qc_free(program->chains);
    qc_free(program->phases);
}
