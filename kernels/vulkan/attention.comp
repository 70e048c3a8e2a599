#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/attention.comp: causal attention with grouped heads, window, soft cap and sinks, for any device. One workgroup a
 * row of a query head. It goes through the cells in tiles of its own size: each invocation scores one cell, then each adds up some
 * features of the values. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"
#include "convert.glsl"
#include "attention.glsl"

layout(constant_id = 1) const uint FORMAT_K = 0;
layout(constant_id = 2) const uint FORMAT_V = 0;
layout(constant_id = 3) const uint BLOCK_K = 4; /* bytes of a block of the cache */
layout(constant_id = 4) const uint BLOCK_V = 4;
layout(constant_id = 5) const uint FEATURES = 1; /* of a value, that one invocation adds up at a time */

shared float scores[gl_WorkGroupSize.x];

float dot_of(f32s q, uint64_t k)
{
    float sum = 0.0;
    for (uint i = 0; i < p.k_size / 32; i++) {
        vec4 v[8];
        load_32(FORMAT_K, k, BLOCK_K, i, v);
        [[unroll]] for (uint j = 0; j < 8; j++)
            [[unroll]] for (uint e = 0; e < 4; e++)
                sum += v[j][e] * q.v[32 * i + 4 * j + e];
    }
    if (!has_blocks(FORMAT_K))
        for (uint i = p.k_size & ~31u; i < p.k_size; i++)
            sum += load_one(FORMAT_K, k, BLOCK_K, i) * q.v[i];
    return sum;
}

void attend(item_place at)
{
    uint mine = gl_LocalInvocationID.x, size = gl_WorkGroupSize.x, slice = at.slice * FEATURES * size + mine;
    uvec2 cells = cells_of(at.row);
    uint64_t k = p.k + uint64_t(at.kv) * p.k_head, v = p.v + uint64_t(at.kv) * p.v_head;
    f32s q = f32s(row_of(p.q, at.head, p.q_head, at.row, p.q_row));
    float most = first_score(at, at.head), sum = first_sum(at), values[FEATURES];
    [[unroll]] for (uint f = 0; f < FEATURES; f++)
        values[f] = 0.0;
    for (uint tile = cells.x; tile < cells.y; tile += size) {
        uint count = min(size, cells.y - tile);
        scores[mine] = mine < count ? score_of(dot_of(q, k + uint64_t(tile + mine) * p.k_cell)) : MINUS_INFINITY;
        barrier();
        float highest = most;
        for (uint c = 0; c < count; c++)
            highest = max(highest, scores[c]);
        float fade = weight_of(most, highest);
        sum *= fade;
        [[unroll]] for (uint f = 0; f < FEATURES; f++)
            values[f] *= fade;
        most = highest;
        for (uint c = 0; c < count; c++) {
            float weight = weight_of(scores[c], most);
            uint64_t from = v + uint64_t(tile + c) * p.v_cell;
            sum += weight;
            [[unroll]] for (uint f = 0; f < FEATURES; f++)
                if (slice + f * size < p.v_size)
                    values[f] += weight * load_one(FORMAT_V, from, BLOCK_V, slice + f * size);
        }
        barrier();
    }
    [[unroll]] for (uint f = 0; f < FEATURES; f++)
        if (slice + f * size < p.v_size)
            f32s(values_of(at, at.row, at.head)).v[slice + f * size] = values[f] * factor_of(cells, sum);
}

void main()
{
    p = params(push.params).p;
    uint items = item_count();
    for (uint item = push.first + gl_WorkGroupID.x; item < items; item += gl_NumWorkGroups.x)
        attend(place_of(item));
}
