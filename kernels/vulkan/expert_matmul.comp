#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/expert_matmul.comp: W x with the matrix of each row's chosen experts, in plain float. Each invocation
 * computes one row of W for one token: for one of its experts, or for all of them in turn where they are added up. x: rows of
 * W; y: tokens and experts. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"
#include "weights.glsl"

layout(constant_id = 1) const uint SUM = 0;
layout(constant_id = 2) const uint GATED = 0;

layout(push_constant, scalar) uniform block { qv_expert_matmul_push push; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer params { qv_expert_matmul_params p; };

float dot_row(uint64_t w_row, f32s x, uint k)
{
    float total = 0.0;
    for (uint i = 0; i < k / 32; i++) {
        vec4 w[8];
        float sum = 0.0;
        weights_32(w_row, k / BLOCK_ELEMENTS, i, w);
        [[unroll]] for (uint j = 0; j < 8; j++)
            [[unroll]] for (uint e = 0; e < 4; e++)
                sum += w[j][e] * x.v[32 * i + 4 * j + e];
        total += sum;
    }
#ifdef QV_PLAIN
    for (uint i = k & ~31u; i < k; i++)
        total += weight(w_row, i) * x.v[i];
#endif
    return total;
}

float element(params a, f32s x, uint e, uint m)
{
    float y = dot_row(a.p.w + uint64_t(e) * a.p.w_expert + uint64_t(m) * a.p.w_row, x, a.p.k);
    if (a.p.scales != 0)
        y *= f32s(a.p.scales).v[e];
    if (a.p.bias != 0)
        y += f32s(a.p.bias + uint64_t(e) * a.p.bias_expert).v[m];
    if (GATED == 0)
        return activate(a.p.act, y);
    float other = dot_row(a.p.w2 + uint64_t(e) * a.p.w2_expert + uint64_t(m) * a.p.w2_row, x, a.p.k);
    if (a.p.bias2 != 0)
        other += f32s(a.p.bias2 + uint64_t(e) * a.p.bias2_expert).v[m];
    return gate(a.p.act, y, other, a.p.alpha, a.p.limit);
}

/* Expert i of a row; past the last one where W has no such number. */
uint expert(params a, uint row, uint i)
{
    float number = f32s(row_of(a.p.route, 1, a.p.route_head, row, a.p.route_row)).v[i];
    return number >= 0.0 && number < float(a.p.experts) ? uint(number) : a.p.experts;
}

void main()
{
    params a = params(push.params);
#ifdef QV_GRID
    grid = push.params + a.p.grid;
#endif
    uint m = push.first + gl_GlobalInvocationID.x, each = SUM != 0 ? 1 : a.p.chosen;
    uint items = min(live_rows(a.p.live, a.p.rows, a.p.x) * each, push.end_item);
    if (m >= push.m)
        return;
    for (uint item = push.first_item + gl_WorkGroupID.y; item < items; item += gl_NumWorkGroups.y) {
        uint row = item / each, begin = SUM != 0 ? 0 : item % each, end = SUM != 0 ? a.p.chosen : begin + 1;
        float y = 0.0;
        for (uint i = begin; i < end; i++) {
            uint e = expert(a, row, i);
            if (e == a.p.experts)
                continue;
            float one = element(a, f32s(row_of(a.p.x, i, a.p.x_head, row, a.p.x_row)), e, m);
            y += SUM != 0 ? one * f32s(a.p.route + uint64_t(row) * a.p.route_row).v[i] : one;
        }
        if (SUM != 0 && a.p.residual != 0)
            y += f32s(a.p.residual + uint64_t(row) * a.p.residual_row).v[m];
        f32s(row_of(a.p.dst, begin, a.p.dst_head, row, a.p.dst_row)).v[m] = y;
    }
}
