#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/attention.comp: causal attention with grouped heads, window, soft cap and sinks (online softmax: Milakov &
 * Gimelshein 2018, arXiv:1805.02867). One workgroup a row of a query head. It goes through the cells in tiles of its own size:
 * each invocation scores one cell, then each adds up some features of the values. The order of all sums depends on shapes and
 * positions alone. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"
#include "convert.glsl"

layout(constant_id = 1) const uint FORMAT = 0;
layout(constant_id = 2) const uint BLOCK = 4;    /* bytes of a block of the cache */
layout(constant_id = 3) const uint FEATURES = 1; /* of a value, that one invocation adds up: v_size over the workgroup's size */

layout(push_constant, scalar) uniform block { qv_attention_params p; };

shared float scores[gl_WorkGroupSize.x];

#define MINUS_INFINITY uintBitsToFloat(0xff800000u)

float score(f32s q, uint64_t k)
{
    float sum = 0.0;
    for (uint i = 0; i < p.k_size / 32; i++) {
        vec4 v[8];
        load_32(FORMAT, k, BLOCK, i, v);
        [[unroll]] for (uint j = 0; j < 8; j++)
            [[unroll]] for (uint e = 0; e < 4; e++)
                sum += v[j][e] * q.v[32 * i + 4 * j + e];
    }
    if (!has_blocks(FORMAT))
        for (uint i = p.k_size & ~31u; i < p.k_size; i++)
            sum += load_one(FORMAT, k, BLOCK, i) * q.v[i];
    sum *= p.scale;
    return p.softcap > 0.0 ? p.softcap * exact_tanh(sum / p.softcap) : sum;
}

/* e^(s − most), where nothing weighs nothing even if there is nothing else */
float weight_of(float s, float most)
{
    return s == MINUS_INFINITY ? 0.0 : exp(s - most);
}

void attend(uint row, uint head, int position)
{
    uint mine = gl_LocalInvocationID.x, size = gl_WorkGroupSize.x, kv = head / p.group;
    uint end = min(uint(position), p.cells - 1) + 1, begin = p.window > 0 && end > p.window ? end - p.window : 0;
    uint64_t k = p.k + uint64_t(kv) * p.k_head, v = p.v + uint64_t(kv) * p.v_head;
    f32s q = f32s(row_of(p.q, head, p.q_head, row, p.q_row));
    float most = p.sinks != 0 ? f32s(p.sinks).v[head] : MINUS_INFINITY, sum = p.sinks != 0 ? 1.0 : 0.0, values[FEATURES];
    [[unroll]] for (uint f = 0; f < FEATURES; f++)
        values[f] = 0.0;
    for (uint tile = begin; tile < end; tile += size) {
        uint count = min(size, end - tile);
        scores[mine] = mine < count ? score(q, k + uint64_t(tile + mine) * p.k_cell) : MINUS_INFINITY;
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
            uint64_t at = v + uint64_t(tile + c) * p.v_cell;
            sum += weight;
            [[unroll]] for (uint f = 0; f < FEATURES; f++)
                if (mine + f * size < p.v_size)
                    values[f] += weight * load_one(FORMAT, at, BLOCK, mine + f * size);
        }
        barrier();
    }
    f32s to = f32s(row_of(p.dst, head, p.dst_head, row, p.dst_row));
    [[unroll]] for (uint f = 0; f < FEATURES; f++)
        if (mine + f * size < p.v_size)
            to.v[mine + f * size] = values[f] / sum;
}

void main()
{
    uint items = live_rows(p.live, p.rows) * p.heads;
    for (uint item = gl_WorkGroupID.x; item < items; item += gl_NumWorkGroups.x) {
        uint row = item / p.heads, head = item % p.heads;
        int position = i32s(p.positions).v[row];
        if (position >= 0) {
            attend(row, head, position);
            continue;
        }
        f32s to = f32s(row_of(p.dst, head, p.dst_head, row, p.dst_row));
        for (uint i = gl_LocalInvocationID.x; i < p.v_size; i += gl_WorkGroupSize.x)
            to.v[i] = 0.0;
    }
}
