#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_texels.comp: W x with the epilogue, in plain float, for processors that pose as GPUs: they run a load by
 * address lane by lane, with a branch for each, but fetch a texel of 16 bytes for all lanes at once. The lanes of a subgroup, which
 * is a workgroup, take neighbouring units along K, of ROWS rows of W and TOKENS tokens, and add up at the end. K is a multiple of
 * 32. x: rows of W; y: groups of tokens, all of them: there is no loop over groups, in which such devices would mask every
 * instruction. Of a gated matmul this is half: the second one multiplies what the first left in dst.
 *
 * As expert_matmul_texels (QV_EXPERTS) tokens are those of one expert, sorted by expert_group.comp, or y the experts of one token. */
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

#ifdef QV_EXPERTS
layout(push_constant, scalar) uniform block { qv_expert_texels_params p; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer params { qv_expert_matmul_params p; };

#define RARE(name) params(p.rare).p.name
#define HAS_BIAS ((p.has & QV_HAS_BIAS) != 0)
#define HAS_SCALES ((p.has & QV_HAS_SCALES) != 0)

uint expert; /* p.experts for numbers that none has */

uint pair_at(uint t)
{
    return p.tiles != 0 ? u32s(p.list).v[t] : t;
}

uint64_t result_at(uint t)
{
    uint pair = pair_at(t);
    return row_of(p.dst, pair % p.chosen, p.dst_head, pair / p.chosen, p.dst_row);
}

uint x_at(uint t)
{
    uint pair = pair_at(t);
    return p.x + pair % p.chosen * p.x_head + pair / p.chosen * p.x_row;
}

/* Places in the list; none where the expert is another dispatch's. */
uvec2 find_span()
{
    uint group = p.first_group + gl_WorkGroupID.y;
    uvec2 span;
    if (p.tiles != 0) {
        u32s tile = u32s(p.tiles + 16 * uint64_t(group));
        expert = tile.v[0];
        span = uvec2(tile.v[1], tile.v[2]);
    } else {
        float number = f32s(p.list).v[group];
        expert = number >= 0.0 && number < float(p.experts) ? uint(number) : p.experts;
        span = uvec2(group, group + live_rows(p.live, 1, p.dst));
    }
    bool mine = expert >= p.first_expert && (expert < p.end_expert || p.end_expert == p.experts);
    return mine ? span : uvec2(0);
}

/* Units along K are those of rows of W. */
uint unit_count(uvec2 span)
{
    return span.x < span.y && expert < p.experts ? p.k / 32 / UNIT_PIECES : 0;
}

uint w_start()
{
    return p.w + (clamp(expert, p.first_expert, p.end_expert - 1) - p.first_expert) * p.w_expert;
}

#else
layout(push_constant, scalar) uniform block { qv_matmul_texels_params p; };

uint x_at(uint t)
{
    return p.x + t * p.x_row;
}

uvec2 find_span()
{
    uint first = gl_WorkGroupID.y * TOKENS;
    return uvec2(first, min(first + TOKENS, live_rows(p.live, p.rows, p.dst)));
}

uint unit_count(uvec2 span)
{
    return span.x < span.y ? p.k / 32 / UNIT_PIECES : 0;
}

uint w_start()
{
    return p.w;
}
#endif

#include "matmul_epilogue.glsl"

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

void dot_rows(uvec2 span)
{
    uint blocks = p.k / BLOCK_ELEMENTS, lane = gl_SubgroupInvocationID;
    uint units = unit_count(span), start = w_start();
    uint w_rows[ROWS], x_rows[TOKENS];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        w_rows[r] = start + min(gl_WorkGroupID.x * ROWS + r, p.m - 1) * p.w_row;
    [[unroll]] for (uint t = 0; t < TOKENS; t++)
        x_rows[t] = x_at(span.x < span.y ? min(span.x + t, span.y - 1) : 0);
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

void main()
{
#ifdef QV_GRID
#ifdef QV_EXPERTS
    grid = p.rare + RARE(grid);
#else
    grid = p.grid;
#endif
#endif
    uint lane = gl_SubgroupInvocationID;
    uvec2 span = find_span();
    dot_rows(span);
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i += LANES) { /* a number for each lane */
        float sum = add_lanes(i);
        uint r = (i + lane) / TOKENS, t = (i + lane) % TOKENS, m = gl_WorkGroupID.x * ROWS + r;
        if (r < ROWS && m < p.m && span.x + t < span.y)
            finish(p.first + m, span.x + t, sum);
    }
}
