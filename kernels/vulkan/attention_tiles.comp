#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/attention_tiles.comp: attention in tiles, for any device. Blocks of 64 cells are unpacked into shared memory, 32
 * features at a time, for all queries of the tile: rows, and the query heads that share the KV head. Each invocation computes a
 * small rectangle of the scores, then some features of some queries. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"
#include "convert.glsl"
#include "cache.glsl"
#include "attention.glsl"

layout(constant_id = 1) const uint FORMAT_K = 0;
layout(constant_id = 2) const uint FORMAT_V = 0;
layout(constant_id = 3) const uint QUERIES = 1; /* of a tile */
layout(constant_id = 4) const uint CHUNKS = 1;  /* of 32 features of a value, to a slice */
layout(constant_id = 5) const uint QUERY_SIDE = 1; /* the rectangle of scores: so many queries */
layout(constant_id = 6) const uint CELL_SIDE = 1;  /* and cells; the workgroup is 64 · QUERIES over both */
layout(constant_id = 7) const uint WIDE = 0;       /* 1: K may be read in whole words, 2: V */

const uint BLOCK = 64, CHUNK = 32, STEP = CHUNK + 1; /* an odd distance: neighbours lie in different banks */
const uint SIZE = BLOCK * QUERIES / (QUERY_SIDE * CELL_SIDE);
const uint TEAM = SIZE / QUERIES; /* invocations that weigh the scores of a query */
const uint ACROSS = BLOCK / CELL_SIDE;
const uint OWN = QUERIES * CHUNK > SIZE ? QUERIES * CHUNK / SIZE : 1; /* queries of which one adds up a feature of each chunk */

shared float queries[QUERIES * STEP];
shared float cells[BLOCK * STEP];
shared float scores[QUERIES * (BLOCK + 1)];
shared float team[SIZE];
shared float fades[QUERIES];
shared uint begins[QUERIES], ends[QUERIES];

float most, own_sum; /* of query mine / TEAM */
float values[CHUNKS * OWN];
float rectangle[QUERY_SIDE * CELL_SIDE];

void load_queries(item_place at, uint from)
{
    for (uint i = gl_LocalInvocationID.x; i < QUERIES * CHUNK; i += SIZE) {
        uint row, head, f = from + i % CHUNK;
        bool there = query_of(at, i / CHUNK, row, head) && f < p.k_size;
        queries[i / CHUNK * STEP + i % CHUNK] = there ? f32s(row_of(p.q, head, p.q_head, row, p.q_row)).v[f] : 0.0;
    }
}

/* Features from `from` on of the block's cells. What lies behind the end, or is seen by nobody, is zero. */
void load_cells(uint format, bool wide, uint64_t base, uint step, uint n, uint from, uint first, uint end)
{
    for (uint i = gl_LocalInvocationID.x; i < BLOCK * CHUNK / 4; i += SIZE) {
        uint cell = i / (CHUNK / 4), f = from + i % (CHUNK / 4) * 4;
        vec4 four = vec4(0.0);
        if (first + cell < end && f < n)
            four = cache_4_of(format, wide, base + uint64_t(first + cell) * step, f / 4, n);
        [[unroll]] for (uint e = 0; e < 4; e++)
            cells[cell * STEP + f - from + e] = f + e < n ? four[e] : 0.0;
    }
}

void score_block(item_place at, uint first, uint end)
{
    uint mine = gl_LocalInvocationID.x, x = mine % ACROSS, y = mine / ACROSS * QUERY_SIDE;
    [[unroll]] for (uint i = 0; i < QUERY_SIDE * CELL_SIDE; i++)
        rectangle[i] = 0.0;
    for (uint from = 0; from < p.k_size; from += CHUNK) {
        barrier();
        load_queries(at, from);
        load_cells(FORMAT_K, (WIDE & 1) != 0, p.k + uint64_t(at.kv) * p.k_head, p.k_cell, p.k_size, from, first, end);
        barrier();
        for (uint f = 0; f < CHUNK; f++) {
            float k[CELL_SIDE];
            [[unroll]] for (uint c = 0; c < CELL_SIDE; c++)
                k[c] = cells[(x + c * ACROSS) * STEP + f];
            [[unroll]] for (uint t = 0; t < QUERY_SIDE; t++) {
                float q = queries[(y + t) * STEP + f];
                [[unroll]] for (uint c = 0; c < CELL_SIDE; c++)
                    rectangle[t * CELL_SIDE + c] += q * k[c];
            }
        }
    }
    [[unroll]] for (uint t = 0; t < QUERY_SIDE; t++)
        [[unroll]] for (uint c = 0; c < CELL_SIDE; c++) {
            uint cell = first + x + c * ACROSS;
            bool seen = cell >= begins[y + t] && cell < ends[y + t];
            scores[(y + t) * (BLOCK + 1) + x + c * ACROSS] = seen ? score_of(rectangle[t * CELL_SIDE + c]) : MINUS_INFINITY;
        }
    barrier();
}

/* Scores to weights, relative to the highest score so far. */
void weigh_block()
{
    uint mine = gl_LocalInvocationID.x, t = mine / TEAM, member = mine % TEAM;
    float highest = MINUS_INFINITY;
    for (uint c = member; c < BLOCK; c += TEAM)
        highest = max(highest, scores[t * (BLOCK + 1) + c]);
    team[mine] = highest;
    barrier();
    highest = most;
    for (uint i = 0; i < TEAM; i++)
        highest = max(highest, team[t * TEAM + i]);
    float fade = weight_of(most, highest);
    most = highest;
    own_sum *= fade;
    for (uint c = member; c < BLOCK; c += TEAM) {
        float weight = weight_of(scores[t * (BLOCK + 1) + c], highest);
        scores[t * (BLOCK + 1) + c] = weight;
        own_sum += weight;
    }
    if (member == 0)
        fades[t] = fade;
}

void add_block(item_place at, uint first, uint end)
{
    uint mine = gl_LocalInvocationID.x, feature = mine % CHUNK, y = mine / CHUNK * OWN;
    [[unroll]] for (uint chunk = 0; chunk < CHUNKS; chunk++) {
        barrier();
        load_cells(FORMAT_V, (WIDE & 2) != 0, p.v + uint64_t(at.kv) * p.v_head, p.v_cell, p.v_size,
                   (at.slice * CHUNKS + chunk) * CHUNK, first, end);
        barrier();
        if (y < QUERIES) {
            [[unroll]] for (uint t = 0; t < OWN; t++)
                values[chunk * OWN + t] *= fades[y + t];
            for (uint c = 0; c < min(BLOCK, end - first); c++) {
                float v = cells[c * STEP + feature];
                [[unroll]] for (uint t = 0; t < OWN; t++) {
                    /* what a row does not see may be anything, also no number */
                    float weight = scores[(y + t) * (BLOCK + 1) + c], more = values[chunk * OWN + t] + weight * v;
                    values[chunk * OWN + t] = weight != 0.0 ? more : values[chunk * OWN + t];
                }
            }
        }
    }
}

void finish(item_place at)
{
    uint mine = gl_LocalInvocationID.x, feature = mine % CHUNK, y = mine / CHUNK * OWN, row, head;
    team[mine] = own_sum;
    barrier();
    if (mine % TEAM == 0) {
        float sum = 0.0;
        for (uint i = 0; i < TEAM; i++)
            sum += team[mine + i];
        fades[mine / TEAM] = sum;
        if (query_of(at, mine / TEAM, row, head))
            put_state(at, row, head, most, sum);
    }
    barrier();
    [[unroll]] for (uint t = 0; t < OWN; t++)
        if (y < QUERIES && query_of(at, y + t, row, head)) {
            uint64_t to = values_of(at, row, head);
            float factor = factor_of(uvec2(begins[y + t], ends[y + t]), fades[y + t]);
            [[unroll]] for (uint chunk = 0; chunk < CHUNKS; chunk++) {
                uint f = (at.slice * CHUNKS + chunk) * CHUNK + feature;
                if (f < p.v_size)
                    f32s(to).v[f] = values[chunk * OWN + t] * factor;
            }
        }
    barrier();
}

/* What the tile's queries see; the cells that any of them does. */
uvec2 begin_tile(item_place at)
{
    uint mine = gl_LocalInvocationID.x, row, head;
    for (uint t = mine; t < QUERIES; t += SIZE) {
        uvec2 sees = query_of(at, t, row, head) ? cells_of(row) : uvec2(0);
        begins[t] = sees.x;
        ends[t] = sees.y;
    }
    bool there = query_of(at, mine / TEAM, row, head);
    most = there ? first_score(at, head) : MINUS_INFINITY;
    own_sum = mine % TEAM == 0 ? first_sum(at) : 0.0;
    [[unroll]] for (uint i = 0; i < CHUNKS * OWN; i++)
        values[i] = 0.0;
    barrier();
    uint begin = 0xffffffffu, end = 0;
    for (uint t = 0; t < QUERIES; t++) {
        begin = ends[t] > 0 ? min(begin, begins[t]) : begin;
        end = max(end, ends[t]);
    }
    return uvec2(min(begin, end), end);
}

bool is_hidden(uint first)
{
    bool hidden = true;
    for (uint t = 0; t < QUERIES; t++)
        hidden = hidden && (begins[t] >= first + BLOCK || ends[t] <= first);
    return hidden;
}

void main()
{
    p = params(push.params).p;
    uint items = item_count();
    for (uint item = push.first + gl_WorkGroupID.x; item < items; item += gl_NumWorkGroups.x) {
        item_place at = place_of(item);
        uvec2 sees = begin_tile(at), blocks = blocks_of(sees.x / BLOCK, (sees.y + BLOCK - 1) / BLOCK, at.part);
        for (uint b = blocks.x; b < blocks.y; b++) {
            if (is_hidden(b * BLOCK))
                continue;
            score_block(at, b * BLOCK, sees.y);
            weigh_block();
            add_block(at, b * BLOCK, sees.y);
            barrier();
        }
        finish(at);
    }
}
