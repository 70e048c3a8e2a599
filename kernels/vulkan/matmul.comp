#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul.comp: W x with the epilogue, in plain float: the kernel for any device. Each invocation computes one
 * row of W for TOKENS tokens, so that a weight is unpacked once for all of them. x: rows of W; y: groups of tokens. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"
#include "weights.glsl"

layout(constant_id = 1) const uint TOKENS = 1;
layout(constant_id = 2) const uint GATED = 0;

layout(push_constant, scalar) uniform block { qv_matmul_params p; };

#include "matmul_epilogue.glsl"

void dot_rows(uint64_t w_row, uint first, uint rows, out float sums[TOKENS])
{
    [[unroll]] for (uint t = 0; t < TOKENS; t++)
        sums[t] = 0.0;
    for (uint i = 0; i < p.k / 32; i++) {
        vec4 w[8];
        weights_32(w_row, p.k / BLOCK_ELEMENTS, i, w);
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            f32s x = f32s(p.x + uint64_t(min(first + t, rows - 1)) * p.x_row + 128 * i);
            float sum = 0.0;
            [[unroll]] for (uint j = 0; j < 8; j++)
                [[unroll]] for (uint e = 0; e < 4; e++)
                    sum += w[j][e] * x.v[4 * j + e];
            sums[t] += sum;
        }
    }
#ifdef QV_PLAIN
    for (uint i = p.k & ~31u; i < p.k; i++) {
        float w = weight(w_row, i);
        [[unroll]] for (uint t = 0; t < TOKENS; t++)
            sums[t] += w * f32s(p.x + uint64_t(min(first + t, rows - 1)) * p.x_row).v[i];
    }
#endif
}

void main()
{
#ifdef QV_GRID
    grid = p.grid;
#endif
    uint rows = live_rows(p.live, p.rows, p.x), groups = (rows + TOKENS - 1) / TOKENS;
    uint m = p.first + gl_GlobalInvocationID.x;
    if (m >= p.m)
        return;
    for (uint group = gl_WorkGroupID.y; group < groups; group += gl_NumWorkGroups.y) {
        float sums[TOKENS], sums2[TOKENS];
        dot_rows(p.w + uint64_t(m) * p.w_row, group * TOKENS, rows, sums);
        if (GATED != 0)
            dot_rows(p.w2 + uint64_t(m) * p.w_row, group * TOKENS, rows, sums2);
        [[unroll]] for (uint t = 0; t < TOKENS; t++)
            if (group * TOKENS + t < rows)
                finish(m, group * TOKENS + t, sums[t], GATED != 0 ? sums2[t] : 0.0);
    }
}
