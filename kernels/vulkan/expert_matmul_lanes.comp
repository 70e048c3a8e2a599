#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/expert_matmul_lanes.comp: W x with the matrix of each row's chosen experts, for many tokens on devices with small
 * subgroups: a subgroup looks through the route for tokens of its expert and takes TOKENS of them at a time, so that weights are
 * unpacked once for these, as in matmul_lanes.comp. What is to be added up goes to scratch memory, for expert_sum.comp. K is a
 * multiple of 32. x: rows of W; y: experts, and one more for numbers that no expert has, whose results are zeros. */
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common.glsl"
#include "activations.glsl"
#include "weights.glsl"

layout(constant_id = 1) const uint SUM = 0;
layout(constant_id = 2) const uint GATED = 0;
layout(constant_id = 4) const uint LANES = 8; /* of a subgroup: 8 or 16 */

const uint TOKENS = 8, ROWS = 4;
const uint EACH = 32 / LANES; /* activations that one invocation loads of 32 */

layout(push_constant, scalar) uniform block { qv_expert_matmul_push push; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer params { qv_expert_matmul_params p; };

qv_expert_matmul_params p; /* main() fetches it */

/* Pairs of a token and one of its experts, by their number. Loops over them work on the first and turn all of them around: code that
 * is written out for all takes such a device long to compile. */
uint items[TOKENS];
float sums[ROWS * TOKENS];

void turn()
{
    float first[ROWS];
    uint first_item = items[0];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        first[r] = sums[r];
    [[unroll]] for (uint i = ROWS; i < ROWS * TOKENS; i++)
        sums[i - ROWS] = sums[i];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        sums[ROWS * (TOKENS - 1) + r] = first[r];
    [[unroll]] for (uint t = 1; t < TOKENS; t++)
        items[t - 1] = items[t];
    items[TOKENS - 1] = first_item;
}

uint expert_of(uint item)
{
    float number = f32s(row_of(p.route, 1, p.route_head, item / p.chosen, p.route_row)).v[item % p.chosen];
    return number >= 0.0 && number < float(p.experts) ? uint(number) : p.experts;
}

/* The next pairs of expert e from `from` on; how many, and where to go on. */
uvec2 find(uint e, uint from, uint end)
{
    uint count = 0;
    while (from < end && count < TOKENS) {
        uint mine = from + gl_SubgroupInvocationID;
        uint mask = subgroupBallot(mine < end && expert_of(min(mine, end - 1)) == e).x, next = from + LANES;
        while (mask != 0 && count < TOKENS) {
            uint bit = findLSB(mask);
            [[unroll]] for (uint t = 0; t < TOKENS; t++)
                items[t] = t >= count ? from + bit : items[t]; /* what stays empty repeats the last one */
            mask &= mask - 1;
            count++;
            next = mask != 0 ? from + bit + 1 : from + LANES;
        }
        from = next;
    }
    return uvec2(count, from);
}

uint row_number(uint j)
{
    return push.first + (gl_WorkGroupID.x * ROWS + j) * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
}

void dot_rows(uint64_t weights, uint64_t w_row)
{
    uint blocks = p.k / BLOCK_ELEMENTS;
    [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++)
        sums[i] = 0.0;
    for (uint i = 0; i < p.k / 32; i++) {
        vec4 w[8 * ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            vec4 one[8];
            weights_32(weights + uint64_t(min(row_number(r), push.m - 1)) * w_row, blocks, i, one);
            [[unroll]] for (uint j = 0; j < 8; j++)
                w[8 * r + j] = one[j];
        }
        [[dont_unroll]] for (uint t = 0; t < TOKENS; t++) {
            uint64_t row = row_of(p.x, items[0] % p.chosen, p.x_head, items[0] / p.chosen, p.x_row);
            u64s from = u64s(row + 128 * i + 4 * EACH * gl_SubgroupInvocationID);
            float x[EACH];
            [[unroll]] for (uint e = 0; e < EACH / 2; e++) {
                uvec2 two = unpackUint2x32(from.v[e]);
                x[2 * e] = uintBitsToFloat(two.x);
                x[2 * e + 1] = uintBitsToFloat(two.y);
            }
            [[unroll]] for (uint lane = 0; lane < LANES; lane++)
                [[unroll]] for (uint e = 0; e < EACH; e++) {
                    uint k = lane * EACH + e;
                    float shared_x = subgroupShuffle(x[e], lane);
                    [[unroll]] for (uint r = 0; r < ROWS; r++)
                        sums[r] += w[8 * r + k / 4][k % 4] * shared_x;
                }
            turn();
        }
    }
}

float result(uint e, uint m, float sum, float gate_sum)
{
    float y = GATED != 0 ? gate_sum : sum, other = sum;
    if (p.scales != 0)
        y *= f32s(p.scales).v[e];
    if (p.bias != 0)
        y += f32s(p.bias + uint64_t(e) * p.bias_expert).v[m];
    if (GATED == 0)
        return activate(p.act, y);
    if (p.bias2 != 0)
        other += f32s(p.bias2 + uint64_t(e) * p.bias2_expert).v[m];
    return gate(p.act, y, other, p.alpha, p.limit);
}

void put(uint e, uint m, uint item, float sum, float gate_sum)
{
    uint64_t to = SUM != 0 ? p.partials + 4 * uint64_t(item) * p.all
                           : row_of(p.dst, item % p.chosen, p.dst_head, item / p.chosen, p.dst_row);
    float y = 0.0;
    if (e < p.experts)
        y = result(e, m, sum, gate_sum);
    f32s(to).v[m] = y;
}

void multiply(uint e, uint count)
{
    float gates[ROWS * TOKENS];
    if (e < p.experts)
        dot_rows(p.w + uint64_t(e) * p.w_expert, p.w_row);
    if (GATED != 0) {
        [[unroll]] for (uint i = 0; i < ROWS * TOKENS; i++)
            gates[i] = sums[i];
        if (e < p.experts)
            dot_rows(p.w2 + uint64_t(e) * p.w2_expert, p.w2_row);
    }
    [[dont_unroll]] for (uint t = 0; t < count; t++) {
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            if (row_number(r) < push.m)
                put(e, row_number(r), items[0], sums[r], gates[r]);
        turn();
        if (GATED != 0) {
            [[unroll]] for (uint i = ROWS; i < ROWS * TOKENS; i++)
                gates[i - ROWS] = gates[i];
        }
    }
}

void main()
{
    p = params(push.params).p;
#ifdef QV_GRID
    grid = push.params + p.grid;
#endif
    uint end = min(live_rows(p.live, p.rows, p.x) * p.chosen, push.end_item);
    for (uint e = gl_WorkGroupID.y; e <= p.experts; e += gl_NumWorkGroups.y) {
        uvec2 found = uvec2(0, push.first_item);
        while (found.y < end) {
            found = find(e, found.y, end);
            if (found.x > 0)
                multiply(e, found.x);
        }
    }
}
