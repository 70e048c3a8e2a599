/* SPDX-License-Identifier: MIT
 * Attention of many queries on any device with room in shared memory: attention_tiles.comp. Tiles are as large as leaves room for
 * several workgroups to a processor. */
#include "backends/vulkan/attention.h"
#include "backends/vulkan/device.h"

enum {
    GROUP = 128, /* as in attention_tiles.comp, and the rest */
    LEAST_QUERIES = 8,
    MOST_QUERIES = 32,
    BLOCK = 64,
    PIECE = 8,
    K_CHUNK = 32,
    V_CHUNK = 64,
    K_STEP = 9, /* fours from row to row */
    MOST_SHARED = 40 << 10, /* bytes: more of it would leave a GPU few workgroups to turn to */
};

static uint32_t k_chunks(const qp_op *op)
{
    return (uint32_t)qv_groups((uint64_t)op->src[QP_ATTENTION_K].ne[0], K_CHUNK);
}

static uint64_t shared_bytes(uint64_t queries, uint64_t chunks)
{
    uint64_t fours = queries * (8 * chunks + 1) + BLOCK * K_STEP + queries * (queries == MOST_QUERIES ? 20 : 17);
    return 16 * fours + 4 * (GROUP + 3 * queries);
}

static qv_attention_kernel kernel_of(const qp_device *device, const qp_op *op)
{
    uint32_t queries = MOST_QUERIES, limit = device->physical->properties.limits.maxComputeSharedMemorySize;
    if (limit > MOST_SHARED)
        limit = MOST_SHARED;
    while (queries > LEAST_QUERIES && shared_bytes(queries, k_chunks(op)) > limit)
        queries /= 2;
    return (qv_attention_kernel){"attention_tiles", queries, V_CHUNK, QV_ATTENTION_SLICE, 0};
}

const char *qv_attention_tiles_refuses(const qp_device *device, const qp_op *op)
{
    uint32_t limit = device->physical->properties.limits.maxComputeSharedMemorySize;
    return shared_bytes(LEAST_QUERIES, k_chunks(op)) > limit ? "shared memory has no room for queries of this size" : NULL;
}

uint64_t qv_attention_tiles_scratch(const qp_device *device, const qp_op *op)
{
    qv_attention_kernel kernel = kernel_of(device, op);
    return qv_attention_scratch(device, op, &kernel);
}

qp_status qv_attention_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    qv_attention_kernel kernel = kernel_of(plan->device, op);
    qv_attention_cut c = qv_attention_cut_up(plan->device, op, &kernel);
    uint32_t queries = qv_attention_places(&c);
    qv_constants constants = qv_make_constants(
        GROUP, 6,
        (const uint32_t[][2]){{1, k->format},
                              {2, v->format},
                              {3, queries > LEAST_QUERIES ? queries : LEAST_QUERIES},
                              {4, k_chunks(op)},
                              {5, c.slice / V_CHUNK},
                              {6, qv_attention_is_wide(k, 16, PIECE) | qv_attention_is_wide(v, 16, PIECE) << 1}});
    return qv_attention_launch(plan, op, &kernel, &c, &constants, error);
}
