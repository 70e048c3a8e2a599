#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/attention_lanes.comp: attention in tiles, for devices with small subgroups on which a load costs as much as dozens
 * of multiplications. A workgroup is one subgroup and keeps everything in registers: of a block of cells each invocation scores
 * some against all queries of the tile, which are loaded together and handed around; then the weights are handed around, and each
 * invocation adds up some features of the values. */
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common.glsl"
#include "activations.glsl"
#include "convert.glsl"
#include "cache.glsl"
#include "attention.glsl"

layout(constant_id = 1) const uint FORMAT_K = 0;
layout(constant_id = 2) const uint FORMAT_V = 0;
layout(constant_id = 3) const uint QUERIES = 1; /* of a tile */
layout(constant_id = 4) const uint PIECES = 1;  /* of four features of a value, that one invocation adds up */
layout(constant_id = 5) const uint LANES = 8;   /* of a subgroup: 8 or 16 */
layout(constant_id = 6) const uint WIDE_K = 0;
layout(constant_id = 7) const uint WIDE_V = 0;

const uint CELLS = 4; /* of a block, that one invocation scores */
const uint BLOCK = CELLS * LANES;
const uint EACH = 16 / LANES; /* features of a query that one invocation loads of 16 */

/* Registers cannot be numbered at run time, and code that is written out for all queries takes such a device minutes to compile.
 * So loops over queries work on the first one of these and then move all of them on. */
uvec2 sees[QUERIES];
float scores[QUERIES * CELLS]; /* then weights */
float most[QUERIES], sums[QUERIES]; /* sums: each invocation's own */
vec4 values[QUERIES * PIECES];

void turn_scores(uint by)
{
    float first[CELLS];
    [[unroll]] for (uint i = 0; i < by; i++)
        first[i] = scores[i];
    [[unroll]] for (uint i = by; i < QUERIES * CELLS; i++)
        scores[i - by] = scores[i];
    [[unroll]] for (uint i = 0; i < by; i++)
        scores[QUERIES * CELLS - by + i] = first[i];
}

void turn_states()
{
    uvec2 first_sees = sees[0];
    float first_most = most[0], first_sum = sums[0];
    [[unroll]] for (uint t = 1; t < QUERIES; t++) {
        sees[t - 1] = sees[t];
        most[t - 1] = most[t];
        sums[t - 1] = sums[t];
    }
    sees[QUERIES - 1] = first_sees;
    most[QUERIES - 1] = first_most;
    sums[QUERIES - 1] = first_sum;
}

/* Not around: only when they are put away. */
void move_values()
{
    [[unroll]] for (uint i = PIECES; i < QUERIES * PIECES; i++)
        values[i - PIECES] = values[i];
}

/* No branch chooses the address: lavapipe of Mesa 26 also loads from it where no invocation does, and must find memory there. */
uint64_t query_at(item_place at, uint t)
{
    uint row, head;
    bool there = query_of(at, t, row, head);
    head = there ? head : at.head;
    row = there ? row : at.row;
    return row_of(p.q, head, p.q_head, row, p.q_row);
}

void dots_16(item_place at, uint64_t k_at[CELLS], uint i)
{
    vec4 k[4 * CELLS];
    [[unroll]] for (uint j = 0; j < CELLS; j++) {
        vec4 one[4];
        cache_16(FORMAT_K, WIDE_K != 0, k_at[j], i, one);
        [[unroll]] for (uint e = 0; e < 4; e++)
            k[4 * j + e] = one[e];
    }
    [[dont_unroll]] for (uint t = 0; t < QUERIES; t++) {
        float x[EACH];
        uint64_t from = query_at(at, t) + 64 * i + 4 * EACH * gl_SubgroupInvocationID;
        if (EACH == 2) {
            uvec2 two = unpackUint2x32(u64s(from).v[0]);
            x[0] = uintBitsToFloat(two.x);
            x[EACH - 1] = uintBitsToFloat(two.y);
        } else {
            x[0] = f32s(from).v[0];
        }
        [[unroll]] for (uint lane = 0; lane < LANES; lane++)
            [[unroll]] for (uint e = 0; e < EACH; e++) {
                uint f = lane * EACH + e;
                float q = subgroupShuffle(x[e], lane);
                [[unroll]] for (uint j = 0; j < CELLS; j++)
                    scores[j] += k[4 * j + f / 4][f % 4] * q;
            }
        turn_scores(CELLS);
    }
}

void score_block(item_place at, uint first)
{
    uint64_t k_at[CELLS], base = p.k + uint64_t(at.kv) * p.k_head;
    [[unroll]] for (uint j = 0; j < CELLS; j++)
        k_at[j] = base + uint64_t(min(first + j * LANES + gl_SubgroupInvocationID, p.cells - 1)) * p.k_cell;
    [[unroll]] for (uint i = 0; i < QUERIES * CELLS; i++)
        scores[i] = 0.0;
    for (uint i = 0; i < p.k_size / 16; i++)
        dots_16(at, k_at, i);
    if (!has_blocks(FORMAT_K))
        for (uint i = p.k_size & ~15u; i < p.k_size; i++) {
            float k[CELLS];
            [[unroll]] for (uint j = 0; j < CELLS; j++)
                k[j] = load_one(FORMAT_K, k_at[j], cache_block(FORMAT_K), i);
            [[dont_unroll]] for (uint t = 0; t < QUERIES; t++) {
                float q = f32s(query_at(at, t)).v[min(i, p.k_size - 1)];
                [[unroll]] for (uint j = 0; j < CELLS; j++)
                    scores[j] += k[j] * q;
                turn_scores(CELLS);
            }
        }
}

/* Scores to weights, relative to the highest score so far. */
void weigh_block(uint first)
{
    float own[QUERIES], highest[QUERIES];
    [[unroll]] for (uint t = 0; t < QUERIES; t++) {
        highest[t] = MINUS_INFINITY;
        [[unroll]] for (uint j = 0; j < CELLS; j++) {
            uint cell = first + j * LANES + gl_SubgroupInvocationID, i = t * CELLS + j;
            scores[i] = cell >= sees[t].x && cell < sees[t].y ? score_of(scores[i]) : MINUS_INFINITY;
            highest[t] = max(highest[t], scores[i]);
        }
        own[t] = highest[t];
    }
    [[dont_unroll]] for (uint lane = 0; lane < LANES; lane++)
        [[unroll]] for (uint t = 0; t < QUERIES; t++)
            highest[t] = max(highest[t], subgroupShuffle(own[t], lane));
    [[unroll]] for (uint t = 0; t < QUERIES; t++) {
        highest[t] = max(highest[t], most[t]);
        float fade = weight_of(most[t], highest[t]);
        most[t] = highest[t];
        sums[t] *= fade;
        [[unroll]] for (uint j = 0; j < CELLS; j++) {
            scores[t * CELLS + j] = weight_of(scores[t * CELLS + j], highest[t]);
            sums[t] += scores[t * CELLS + j];
        }
        [[unroll]] for (uint i = 0; i < PIECES; i++)
            values[t * PIECES + i] *= fade;
    }
}

uint piece_of(item_place at, uint i)
{
    return (at.slice * PIECES + i) * LANES + gl_SubgroupInvocationID;
}

void add_block(item_place at, uint first, uint end)
{
    uint64_t v_at = p.v + uint64_t(at.kv) * p.v_head;
    [[dont_unroll]] for (uint begin = first; begin < min(end, first + BLOCK); begin += LANES) {
        for (uint c = 0; c < min(end - begin, LANES); c++) {
            vec4 v[PIECES];
            [[unroll]] for (uint i = 0; i < PIECES; i++)
                v[i] = cache_4_of(FORMAT_V, WIDE_V != 0, v_at + uint64_t(begin + c) * p.v_cell, piece_of(at, i), p.v_size);
            [[unroll]] for (uint t = 0; t < QUERIES; t++) {
                float weight = subgroupShuffle(scores[t * CELLS], c);
                /* what a row does not see may be anything, also no number */
                [[unroll]] for (uint i = 0; i < PIECES; i++)
                    values[t * PIECES + i] = weight != 0.0 ? values[t * PIECES + i] + weight * v[i] : values[t * PIECES + i];
            }
        }
        turn_scores(1); /* the next cell of each query comes first */
    }
}

void finish(item_place at)
{
    [[dont_unroll]] for (uint t = 0; t < QUERIES; t++) {
        uint row, head;
        float sum = 0.0;
        [[dont_unroll]] for (uint lane = 0; lane < LANES; lane++)
            sum += subgroupShuffle(sums[0], lane);
        if (query_of(at, t, row, head)) {
            uint64_t to = values_of(at, row, head);
            float factor = factor_of(sees[0], sum);
            [[unroll]] for (uint i = 0; i < PIECES; i++) {
                uint f = 4 * piece_of(at, i);
                [[unroll]] for (uint e = 0; e < 4; e++)
                    if (f + e < p.v_size)
                        f32s(to).v[f + e] = values[i][e] * factor;
            }
            if (gl_SubgroupInvocationID == 0)
                put_state(at, row, head, most[0], sum);
        }
        turn_states();
        move_values();
    }
}

/* The cells that any of the tile's queries sees. */
uvec2 begin_tile(item_place at)
{
    uvec2 all = uvec2(0xffffffffu, 0);
    [[unroll]] for (uint i = 0; i < QUERIES * PIECES; i++)
        values[i] = vec4(0.0);
    [[dont_unroll]] for (uint t = 0; t < QUERIES; t++) {
        uint row, head;
        bool there = query_of(at, t, row, head);
        sees[0] = there ? cells_of(row) : uvec2(0);
        most[0] = there ? first_score(at, head) : MINUS_INFINITY;
        sums[0] = gl_SubgroupInvocationID == 0 ? first_sum(at) : 0.0;
        all = uvec2(sees[0].y > 0 ? min(all.x, sees[0].x) : all.x, max(all.y, sees[0].y));
        turn_states();
    }
    return uvec2(min(all.x, all.y), all.y);
}

void attend(item_place at)
{
    uvec2 all = begin_tile(at), blocks = blocks_of(all.x / BLOCK, (all.y + BLOCK - 1) / BLOCK, at.part);
    for (uint b = blocks.x; b < blocks.y; b++) {
        bool hidden = true;
        [[unroll]] for (uint t = 0; t < QUERIES; t++)
            hidden = hidden && (sees[t].x >= (b + 1) * BLOCK || sees[t].y <= b * BLOCK);
        if (hidden)
            continue;
        score_block(at, b * BLOCK);
        weigh_block(b * BLOCK);
        add_block(at, b * BLOCK, all.y);
    }
    finish(at);
}

void main()
{
    p = params(push.params).p;
    uint items = item_count();
    for (uint item = push.first + gl_WorkGroupID.x; item < items; item += gl_NumWorkGroups.x)
        attend(place_of(item));
}
