#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_texels.comp: W x with the epilogue, in plain float, for processors that pose as GPUs: they run a load by
 * address lane by lane, with a branch for each, but fetch a texel of 16 bytes for all lanes at once. The lanes of a subgroup, which
 * is a workgroup, take neighbouring units along K, of ROWS rows of W and TOKENS tokens, and add up at the end. K is a multiple of
 * 32. x: rows of W; y: groups of tokens, all of them: there is no loop over groups, in which such devices would mask every
 * instruction. Of a gated matmul this is half: the second one multiplies what the first left in dst. */
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define QV_TEXELS 1
#include "common.glsl"
#include "activations.glsl"
#include "weights.glsl"

layout(constant_id = 1) const uint TOKENS = 1;
layout(constant_id = 3) const uint ROWS = 1;
layout(constant_id = 4) const uint LANES = 8; /* of a subgroup */

layout(push_constant, scalar) uniform block { qv_matmul_texels_params p; };

const uint STAGES = LANES == 16 ? 4 : 3, UNIT_FOURS = 8 * UNIT_PIECES, SPANS = 32 / QV_SPAN; /* those that have a scale, of a piece */

/* What dot_rows gives, of each lane's units. (Arrays of a size that the host chooses are not parameters.) */
float sums[ROWS * TOKENS];

/* The unit u of a token's x, and its sums over pieces, for the formats with minima. */
void load_x(uint row, uint u, out vec4 x[UNIT_FOURS], out float piece_sums[UNIT_PIECES])
{
    [[unroll]] for (uint s = 0; s < UNIT_PIECES; s++) {
        uint at = row + 8 * unit_piece(u, s);
        [[unroll]] for (uint j = 0; j < 8; j++)
            x[8 * s + j] = x_texel(at + j);
#ifdef QV_MINIMA
        vec4 four = x[8 * s];
        [[unroll]] for (uint j = 1; j < 8; j++)
            four += x[8 * s + j];
        piece_sums[s] = four.x + four.y + four.z + four.w;
#endif
    }
}

void dot_rows(uint first, uint rows)
{
    uint blocks = p.k / BLOCK_ELEMENTS, lane = gl_SubgroupInvocationID;
    uint units = first < rows ? p.k / 32 / UNIT_PIECES : 0;
    uint w_rows[ROWS], x_rows[TOKENS];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        w_rows[r] = p.w + min(gl_WorkGroupID.x * ROWS + r, p.m - 1) * p.w_row;
    [[unroll]] for (uint t = 0; t < TOKENS; t++)
        x_rows[t] = p.x + min(first + t, rows - 1) * p.x_row;
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++)
        sums[i] = 0.0;
    for (uint u = lane; u < units; u += LANES) {
        vec4 x[UNIT_FOURS * TOKENS];
        float x_sums[UNIT_PIECES * TOKENS];
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            vec4 one[UNIT_FOURS];
            float pieces[UNIT_PIECES];
            load_x(x_rows[t], u, one, pieces);
            [[unroll]] for (uint j = 0; j < UNIT_FOURS; j++)
                x[UNIT_FOURS * t + j] = one[j];
            [[unroll]] for (uint s = 0; s < UNIT_PIECES; s++)
                x_sums[UNIT_PIECES * t + s] = pieces[s];
        }
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
#ifndef QV_WHOLE_UNITS
            uint raw[UNIT_WORDS];
            float scales[SPANS * UNIT_PIECES], minima[UNIT_PIECES];
            unit_load(w_rows[r], blocks, u, raw, scales, minima);
#endif
            [[unroll]] for (uint s = 0; s < UNIT_PIECES; s++) {
                vec4 q[8];
#ifdef QV_WHOLE_UNITS
                weights_32(w_rows[r], blocks, u, q);
#else
                unit_quants(raw, s, q);
#endif
                [[unroll]] for (uint t = 0; t < TOKENS; t++)
                    [[unroll]] for (uint g = 0; g < SPANS; g++) {
                        uint from = 8 / SPANS * g, of_x = UNIT_FOURS * t + 8 * s + from;
                        vec4 four = q[from] * x[of_x];
                        [[unroll]] for (uint j = 1; j < 8 / SPANS; j++)
                            four += q[from + j] * x[of_x + j];
                        float sum = four.x + four.y + four.z + four.w;
#ifndef QV_WHOLE_UNITS
                        sum *= scales[SPANS * s + g];
#endif
#ifdef QV_MINIMA
                        sum -= minima[s] * x_sums[UNIT_PIECES * t + s];
#endif
                        sums[r * TOKENS + t] += sum;
                    }
            }
        }
    }
}

/* Sums over lanes of LANES numbers from `at` on, the j-th of them in lane j: half of what is left changes hands in each stage. (All
 * loops are of fixed length, which unrolls them; what a late stage computes for nothing is dropped.) */
float add_lanes(uint at)
{
    float v[LANES];
    [[unroll]] for (uint j = 0; j < LANES; j++)
        v[j] = at + j < ROWS * TOKENS ? sums[min(at + j, ROWS * TOKENS - 1)] : 0.0;
    [[unroll]] for (uint stage = 0; stage < STAGES; stage++) {
        bool odd = (gl_SubgroupInvocationID >> stage & 1u) != 0u;
        [[unroll]] for (uint j = 0; j < LANES / 2; j++) {
            float mine = odd ? v[2 * j + 1] : v[2 * j], other = odd ? v[2 * j] : v[2 * j + 1];
            v[j] = mine + subgroupShuffleXor(other, 1u << stage);
        }
    }
    return v[0];
}

void finish(uint m, uint row, float sum)
{
    float y = p.scale * sum;
    if (p.bias != 0)
        y += p.bias_scale * f32s(p.bias).v[m];
    y = activate(p.act, y);
    f32s dst = f32s(p.dst + uint64_t(row) * p.dst_row);
    if (p.second != 0)
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
    uint rows = live_rows(p.live, p.rows, p.dst), first = gl_WorkGroupID.y * TOKENS, lane = gl_SubgroupInvocationID;
    dot_rows(first, rows);
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i += LANES) { /* a number for each lane */
        float sum = add_lanes(i);
        uint r = (i + lane) / TOKENS, t = (i + lane) % TOKENS, m = gl_WorkGroupID.x * ROWS + r;
        if (r < ROWS && m < p.m && first + t < rows)
            finish(p.first + m, first + t, sum);
    }
}
