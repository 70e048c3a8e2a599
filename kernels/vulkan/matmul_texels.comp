#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_texels.comp: W x with the epilogue, in plain float, for processors that pose as GPUs: they run a load by
 * address lane by lane, with a branch for each, but fetch a texel of 16 bytes for all lanes at once. The lanes of a subgroup take
 * neighbouring pieces of 32 along K, of ROWS rows of W and TOKENS tokens, and add up at the end. A subgroup is a workgroup. K is
 * a multiple of 32. x: rows of W; y: groups of tokens. Of a gated matmul this is half: the second one multiplies what the first
 * left in dst. */
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#define QV_TEXELS 1
#include "common.glsl"
#include "activations.glsl"
#include "weights.glsl"

layout(binding = 3) uniform samplerBuffer x_texels;

layout(constant_id = 1) const uint TOKENS = 1;
layout(constant_id = 2) const uint SECOND = 0; /* dst holds the gate */
layout(constant_id = 3) const uint ROWS = 1;
layout(constant_id = 4) const uint LANES = 8; /* of a subgroup */

layout(push_constant, scalar) uniform block { qv_matmul_texels_params p; };

/* What dot_rows gives, the same in all lanes. (Arrays of a size that the host chooses are not parameters.) */
float sums[ROWS * TOKENS];

void dot_rows(uint first, uint rows)
{
    uint blocks = p.k / BLOCK_ELEMENTS, pieces = p.k / 32, lane = gl_SubgroupInvocationID;
    uint w_rows[ROWS], x_rows[TOKENS];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        w_rows[r] = p.w + min(gl_WorkGroupID.x * ROWS + r, p.m - 1) * p.w_row;
    [[unroll]] for (uint t = 0; t < TOKENS; t++)
        x_rows[t] = p.x + min(first + t, rows - 1) * p.x_row;
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++)
        sums[i] = 0.0;
    for (uint base = 0; base < pieces; base += LANES) {
        uint i = min(base + lane, pieces - 1);
        bool there = base + lane < pieces; /* a lane past the end repeats the last piece */
        vec4 x[8 * TOKENS];
        [[unroll]] for (uint t = 0; t < TOKENS; t++)
            [[unroll]] for (uint j = 0; j < 8; j++)
                x[8 * t + j] = texelFetch(x_texels, int(x_rows[t] + 8 * i + j));
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            vec4 w[8];
            weights_32(w_rows[r], blocks, i, w);
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                vec4 four = w[0] * x[8 * t];
                [[unroll]] for (uint j = 1; j < 8; j++)
                    four += w[j] * x[8 * t + j];
                float sum = four.x + four.y + (four.z + four.w);
                sums[r * TOKENS + t] += there ? sum : 0.0;
            }
        }
    }
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++)
        sums[i] = subgroupAdd(sums[i]);
}

void finish(uint m, uint row, float sum)
{
    float y = p.scale * sum;
    if (p.bias != 0)
        y += p.bias_scale * f32s(p.bias).v[m];
    y = activate(p.act, y);
    f32s dst = f32s(p.dst + uint64_t(row) * p.dst_row);
    if (SECOND != 0)
        y *= dst.v[m];
    if (p.residual != 0)
        y += f32s(p.residual + uint64_t(row) * p.residual_row).v[m];
    dst.v[m] = y;
}

void main()
{
#ifdef QV_GRID
    grid = p.grid;
#endif
    uint rows = live_rows(p.live, p.rows), groups = (rows + TOKENS - 1) / TOKENS, lane = gl_SubgroupInvocationID;
    for (uint group = gl_WorkGroupID.y; group < groups; group += gl_NumWorkGroups.y) {
        dot_rows(group * TOKENS, rows);
        [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i += LANES) { /* a number for each lane */
            float sum = sums[i];
            [[unroll]] for (uint j = 1; j < LANES && i + j < ROWS * TOKENS; j++)
                sum = lane == j ? sums[i + j] : sum;
            uint r = (i + lane) / TOKENS, t = (i + lane) % TOKENS, m = gl_WorkGroupID.x * ROWS + r;
            if (r < ROWS && m < p.m && group * TOKENS + t < rows)
                finish(p.first + m, group * TOKENS + t, sum);
        }
    }
}
