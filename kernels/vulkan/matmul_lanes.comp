#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_lanes.comp: W x with the epilogue, in plain float, for devices with small subgroups on which a load
 * costs as much as dozens of multiplications. A subgroup loads 32 activations of a token once, a few by each invocation, and
 * hands them around; each invocation keeps ROWS rows of W and TOKENS tokens. K is a multiple of 32. x: rows of W; y: groups of
 * tokens. */
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common.glsl"
#include "activations.glsl"
#include "weights.glsl"

layout(constant_id = 1) const uint TOKENS = 1;
layout(constant_id = 2) const uint GATED = 0;
layout(constant_id = 3) const uint ROWS = 1;
layout(constant_id = 4) const uint LANES = 8; /* of a subgroup: 8, 16 or 32 */

const uint EACH = 32 / LANES; /* activations that one invocation loads of 32 */

layout(push_constant, scalar) uniform block { qv_matmul_params p; };

#include "matmul_epilogue.glsl"

void load_x(uint64_t at, out float x[EACH])
{
    if (EACH % 2 == 0) {
        [[unroll]] for (uint e = 0; e < EACH / 2; e++) {
            uvec2 two = unpackUint2x32(u64s(at).v[e]);
            x[2 * e] = uintBitsToFloat(two.x);
            x[2 * e + 1] = uintBitsToFloat(two.y);
        }
    } else {
        [[unroll]] for (uint e = 0; e < EACH; e++)
            x[e] = f32s(at).v[e];
    }
}

/* Row j of this invocation: those of a workgroup are neighbours for each j. */
uint row_number(uint j)
{
    return p.first + (gl_WorkGroupID.x * ROWS + j) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
}

/* What dot_rows gives: ROWS times TOKENS numbers. (Arrays of a size that the host chooses are not parameters.) */
float sums[ROWS * TOKENS];

void dot_rows(uint64_t weights, uint first, uint rows)
{
    uint blocks = p.k / BLOCK_ELEMENTS;
    uint64_t w_rows[ROWS];
    [[unroll]] for (uint j = 0; j < ROWS; j++)
        w_rows[j] = weights + uint64_t(min(row_number(j), p.m - 1)) * p.w_row; /* all take part in handing around */
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++)
        sums[i] = 0.0;
    for (uint i = 0; i < p.k / 32; i++) {
        vec4 w[8 * ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            vec4 one[8];
            weights_32(w_rows[r], blocks, i, one);
            [[unroll]] for (uint j = 0; j < 8; j++)
                w[8 * r + j] = one[j];
        }
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            float x[EACH];
            load_x(p.x + uint64_t(min(first + t, rows - 1)) * p.x_row + 128 * i + 4 * EACH * gl_SubgroupInvocationID, x);
            [[unroll]] for (uint lane = 0; lane < LANES; lane++)
                [[unroll]] for (uint e = 0; e < EACH; e++) {
                    uint k = lane * EACH + e;
                    float shared_x = subgroupShuffle(x[e], lane);
                    [[unroll]] for (uint r = 0; r < ROWS; r++)
                        sums[r * TOKENS + t] += w[8 * r + k / 4][k % 4] * shared_x;
                }
        }
    }
}

void main()
{
#ifdef QV_GRID
    grid = p.grid;
#endif
    uint rows = live_rows(p.live, p.rows, p.x), groups = (rows + TOKENS - 1) / TOKENS;
    for (uint group = gl_WorkGroupID.y; group < groups; group += gl_NumWorkGroups.y) {
        float gates[ROWS * TOKENS];
        dot_rows(p.w, group * TOKENS, rows);
        if (GATED != 0) {
            [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++)
                gates[i] = sums[i];
            dot_rows(p.w2, group * TOKENS, rows);
        }
        [[unroll]] for (uint j = 0; j < ROWS; j++)
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                uint i = j * TOKENS + t;
                if (group * TOKENS + t < rows && row_number(j) < p.m)
                    finish(row_number(j), group * TOKENS + t, GATED != 0 ? gates[i] : sums[i], GATED != 0 ? sums[i] : 0.0);
            }
    }
}
