#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/attention_rows.comp: attention of few queries to a KV head, made for GPUs, on which such work is bound by memory.
 * A team of invocations, a subgroup or part of one, reads the row of a cell side by side, 16 bytes each, once for all queries of
 * the tile, and several cells at a time; loads of the next ones are under way while these are used. Queries and sums of values stay
 * in registers. Scores of several queries and cells are added up together, each team member keeping half of what it had at each
 * step, until a query belongs to one or a few; these know its maximum and sum, and hand the weights back the same way.
 *
 * Each team has softmax states of its own, put together at the end. Blocks of cells go around all subgroups of all parts in turn,
 * by their number alone: who adds up what depends on no row. */
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common.glsl"
#include "activations.glsl"
#include "convert.glsl"
#include "wide.glsl"
#include "cache.glsl"
#include "pieces.glsl"
#include "attention.glsl"

layout(constant_id = 1) const uint FORMAT_K = 0;
layout(constant_id = 2) const uint FORMAT_V = 0;
layout(constant_id = 3) const uint QUERIES = 1; /* of a tile, at most 8 */
layout(constant_id = 4) const uint LANES = 8;   /* of a subgroup, all there */
layout(constant_id = 5) const uint TEAM = 8;    /* invocations to a cell: 8 to 32 */
layout(constant_id = 6) const uint PIECES_K = 1; /* of eight features, to an invocation */
layout(constant_id = 7) const uint PIECES_V = 1;
layout(constant_id = 8) const uint SUBGROUPS = 1;
layout(constant_id = 9) const uint WIDE = 0;      /* 1: K, 2: V, see pieces.glsl; 4: queries, in fours at multiples of 16 bytes */
layout(constant_id = 10) const uint MANY_ROWS = 0; /* queries of a tile may see different cells */
layout(constant_id = 11) const uint CELLS = 2;     /* that a team has under way: 2 or 4 */

const uint PADDED = QUERIES > 4 ? 8 : QUERIES > 2 ? 4 : QUERIES;
const uint COUNT = PADDED * CELLS;
const uint SHARE = TEAM / PADDED;                        /* invocations that weigh the scores of one query */
const uint HELD = CELLS > SHARE ? CELLS / SHARE : 1;     /* scores of each of them */
const uint SAME = SHARE > CELLS ? SHARE / CELLS : 1;     /* of them, that hold the same score */
const uint TEAMS = LANES / TEAM;
const uint BLOCK = TEAMS * CELLS;
const uint SLICE = 8 * TEAM * PIECES_V;
const bool WIDE_K = (WIDE & 1) != 0, WIDE_V = (WIDE & 2) != 0;

vec4 q[QUERIES * PIECES_K * 2], values[QUERIES * PIECES_V * 2];
piece k_pieces[CELLS * PIECES_K], v_pieces[CELLS * PIECES_V];
float scores[COUNT]; /* of query t and cell c: t·CELLS + c; then weights */
float fades[PADDED];
uvec2 sees, all_see; /* what the query that this invocation weighs sees; what any of the tile does */
float most, sum;     /* of that query; sum: of the scores held here */

shared float mosts[SUBGROUPS * LANES], totals[SUBGROUPS * LANES]; /* of each team's queries */
shared float merged[SUBGROUPS * SLICE];

uint lane()
{
    return gl_SubgroupInvocationID % TEAM;
}

uint team()
{
    return gl_SubgroupInvocationID / TEAM;
}

/* Cell c of this team. */
uint cell_of(uint block, uint c)
{
    return block * BLOCK + c * TEAMS + team();
}

uint v_piece(item_place at, uint i)
{
    return (at.slice * PIECES_V + i) * TEAM + lane();
}

/* ---- the parts of a block ---- */

void load_keys(item_place at, uint block)
{
    uint64_t base = p.k + uint64_t(at.kv) * p.k_head;
    uint last = max(all_see.y, 1u) - 1;
    [[unroll]] for (uint c = 0; c < CELLS; c++)
        [[unroll]] for (uint i = 0; i < PIECES_K; i++)
            k_pieces[c * PIECES_K + i] =
                load_piece(FORMAT_K, WIDE_K, base + uint64_t(min(cell_of(block, c), last)) * p.k_cell, i * TEAM + lane(), p.k_size);
}

void load_values(item_place at, uint block)
{
    uint64_t base = p.v + uint64_t(at.kv) * p.v_head;
    uint last = max(all_see.y, 1u) - 1;
    [[unroll]] for (uint c = 0; c < CELLS; c++)
        [[unroll]] for (uint i = 0; i < PIECES_V; i++)
            v_pieces[c * PIECES_V + i] =
                load_piece(FORMAT_V, WIDE_V, base + uint64_t(min(cell_of(block, c), last)) * p.v_cell, v_piece(at, i), p.v_size);
}

void score_cells()
{
    [[unroll]] for (uint i = 0; i < COUNT; i++)
        scores[i] = 0.0;
    [[unroll]] for (uint c = 0; c < CELLS; c++)
        [[unroll]] for (uint i = 0; i < PIECES_K; i++) {
            vec4 k[2];
            uint at = i * TEAM + lane();
            unpack_piece(FORMAT_K, WIDE_K, k_pieces[c * PIECES_K + i], at, 8 * at < p.k_size, k);
            [[unroll]] for (uint t = 0; t < QUERIES; t++)
                [[unroll]] for (uint j = 0; j < 2; j++)
                    [[unroll]] for (uint e = 0; e < 4; e++)
                        scores[t * CELLS + c] += q[(t * PIECES_K + i) * 2 + j][e] * k[j][e];
        }
}

/* Sums over invocations `step` apart. Of several each keeps half: the upper ones the upper half. */
void fold_scores(uint count, uint step)
{
    bool upper = (gl_SubgroupInvocationID & step) != 0;
    if (count <= 1) {
        scores[0] += subgroupShuffleXor(scores[0], step);
        return;
    }
    [[unroll]] for (uint j = 0; j < count / 2; j++) {
        float keep = upper ? scores[j + count / 2] : scores[j], give = upper ? scores[j] : scores[j + count / 2];
        scores[j] = keep + subgroupShuffleXor(give, step);
    }
}

/* The way back. */
void spread_weights(uint step)
{
    bool upper = (gl_SubgroupInvocationID & step) != 0;
    uint count = step * COUNT / TEAM;
    [[unroll]] for (uint j = 0; j < count; j++) {
        float own = scores[j], other = subgroupShuffleXor(own, step);
        scores[j] = upper ? other : own;
        scores[j + count] = upper ? own : other;
    }
}

void spread_fades(uint step)
{
    bool upper = (gl_SubgroupInvocationID & step) != 0;
    uint count = step / SHARE;
    [[unroll]] for (uint j = 0; j < count; j++) {
        float own = fades[j], other = subgroupShuffleXor(own, step);
        fades[j] = upper ? other : own;
        fades[j + count] = upper ? own : other;
    }
}

/* Scores to weights, relative to the highest score of a query so far: each invocation those it holds, then all of them. */
void weigh_cells(uint block)
{
    fold_scores(COUNT, TEAM / 2);
    fold_scores(COUNT / 2, TEAM / 4);
    fold_scores(COUNT / 4, TEAM / 8);
    if (TEAM >= 16)
        fold_scores(COUNT / 8, TEAM / 16);
    if (TEAM >= 32)
        fold_scores(COUNT / 16, TEAM / 32);
    float highest = most;
    [[unroll]] for (uint j = 0; j < HELD; j++) {
        uint cell = cell_of(block, lane() % SHARE * CELLS / SHARE + j);
        scores[j] = cell >= sees.x && cell < sees.y ? score_of(scores[j]) : MINUS_INFINITY;
        highest = max(highest, scores[j]);
    }
    [[unroll]] for (uint i = 0; i < 5; i++)
        if (1u << i >= SAME && 1u << i < SHARE)
            highest = max(highest, subgroupShuffleXor(highest, 1u << i));
    fades[0] = weight_of(most, highest);
    most = highest;
    sum *= fades[0];
    [[unroll]] for (uint j = 0; j < HELD; j++) {
        scores[j] = weight_of(scores[j], highest);
        sum += scores[j];
    }
    spread_weights(1);
    spread_weights(2);
    spread_weights(4);
    spread_fades(1);
    spread_fades(2);
    spread_fades(4);
    if (TEAM >= 16) {
        spread_weights(8);
        spread_fades(8);
    }
    if (TEAM >= 32) {
        spread_weights(16);
        spread_fades(16);
    }
}

void add_values(item_place at, uint block)
{
    [[unroll]] for (uint t = 0; t < QUERIES; t++)
        [[unroll]] for (uint i = 0; i < 2 * PIECES_V; i++)
            values[t * 2 * PIECES_V + i] *= fades[t];
    [[unroll]] for (uint c = 0; c < CELLS; c++) {
        bool seen = cell_of(block, c) >= all_see.x && cell_of(block, c) < all_see.y;
        [[unroll]] for (uint i = 0; i < PIECES_V; i++) {
            vec4 v[2];
            unpack_piece(FORMAT_V, WIDE_V, v_pieces[c * PIECES_V + i], v_piece(at, i), seen, v);
            [[unroll]] for (uint t = 0; t < QUERIES; t++)
                if (MANY_ROWS == 0 || scores[t * CELLS + c] != 0.0) /* what a row does not see may be anything, also no number */
                    [[unroll]] for (uint j = 0; j < 2; j++)
                        values[(t * PIECES_V + i) * 2 + j] += scores[t * CELLS + c] * v[j];
        }
    }
}

/* ---- a tile ---- */

void load_query(uint t, uint row, uint head)
{
    uint64_t from = row_of(p.q, head, p.q_head, row, p.q_row);
    [[unroll]] for (uint i = 0; i < PIECES_K; i++)
        [[unroll]] for (uint j = 0; j < 2; j++) {
            uint f = 8 * (i * TEAM + lane()) + 4 * j;
            vec4 four;
            if ((WIDE & 4) != 0)
                four = vec4s(from).v[min(f, p.k_size - 4) / 4];
            else
                [[unroll]] for (uint e = 0; e < 4; e++)
                    four[e] = f32s(from).v[min(f + e, p.k_size - 1)];
            [[unroll]] for (uint e = 0; e < 4; e++)
                q[(t * PIECES_K + i) * 2 + j][e] = f + e < p.k_size ? four[e] : 0.0;
        }
}

void begin_tile(item_place at)
{
    uint own = lane() / SHARE;
    all_see = uvec2(0xffffffffu, 0);
    sees = uvec2(0);
    most = MINUS_INFINITY; /* places for no query */
    sum = 0.0;
    [[unroll]] for (uint i = 0; i < 2 * QUERIES * PIECES_V; i++)
        values[i] = vec4(0.0);
    [[unroll]] for (uint t = 0; t < QUERIES; t++) {
        uint row, head;
        bool there = query_of(at, t, row, head);
        row = there ? row : at.row; /* no branch chooses an address: see attention_lanes.comp */
        head = there ? head : at.head;
        uvec2 see = cells_of(row);
        see = there ? see : uvec2(0);
        all_see = uvec2(see.y > 0 ? min(all_see.x, see.x) : all_see.x, max(all_see.y, see.y));
        load_query(t, row, head);
        bool first = there && gl_SubgroupID == 0 && team() == 0; /* a sink counts once */
        float sink = first_score(at, head);
        if (t == own) {
            sees = see;
            most = first ? sink : MINUS_INFINITY;
            sum = first && lane() % SHARE == 0 ? first_sum(at) : 0.0;
        }
    }
    all_see.x = min(all_see.x, all_see.y);
}

/* What a team has added up of a query counts for this much; total: of all teams. */
float factor_of_team(uint t, uint mine, out float highest, out float total)
{
    highest = MINUS_INFINITY;
    total = 0.0;
    for (uint i = 0; i < SUBGROUPS * TEAMS; i++)
        highest = max(highest, mosts[i * PADDED + t]);
    for (uint i = 0; i < SUBGROUPS * TEAMS; i++)
        total += weight_of(mosts[i * PADDED + t], highest) * totals[i * PADDED + t];
    return weight_of(mosts[mine * PADDED + t], highest);
}

/* Of the first query. Teams of a subgroup are added here, subgroups where they are written. */
void merge_values(float factor)
{
    [[unroll]] for (uint i = 0; i < 2 * PIECES_V; i++) {
        vec4 v = values[i] * factor;
        [[unroll]] for (uint b = 3; b < 7; b++)
            if (1u << b >= TEAM && 1u << b < LANES)
                v += subgroupShuffleXor(v, 1u << b);
        uint to = gl_SubgroupID * SLICE + 8 * (i / 2 * TEAM + lane()) + 4 * (i % 2);
        if (team() == 0)
            [[unroll]] for (uint e = 0; e < 4; e++)
                merged[to + e] = v[e];
    }
}

void write_query(item_place at, uint t, float highest, float total)
{
    uint row, head;
    if (!query_of(at, t, row, head))
        return;
    f32s to = f32s(values_of(at, row, head));
    float factor = factor_of(cells_of(row), total);
    for (uint i = gl_LocalInvocationID.x; i < min(SLICE, p.v_size - at.slice * SLICE); i += SUBGROUPS * LANES) {
        float value = 0.0;
        [[unroll]] for (uint s = 0; s < SUBGROUPS; s++)
            value += merged[s * SLICE + i];
        to.v[at.slice * SLICE + i] = value * factor;
    }
    if (gl_LocalInvocationID.x == 0)
        put_state(at, row, head, highest, total);
}

/* Registers cannot be numbered at run time: the query whose turn it is comes first. */
void turn_values()
{
    [[unroll]] for (uint i = 2 * PIECES_V; i < 2 * QUERIES * PIECES_V; i++)
        values[i - 2 * PIECES_V] = values[i];
}

void finish(item_place at)
{
    uint mine = gl_SubgroupID * TEAMS + team();
    [[unroll]] for (uint i = 0; i < 5; i++)
        if (1u << i >= SAME && 1u << i < SHARE)
            sum += subgroupShuffleXor(sum, 1u << i);
    if (lane() % SHARE == 0) {
        mosts[mine * PADDED + lane() / SHARE] = most;
        totals[mine * PADDED + lane() / SHARE] = sum;
    }
    barrier();
    [[dont_unroll]] for (uint t = 0; t < QUERIES; t++) {
        float highest, total, factor = factor_of_team(t, mine, highest, total);
        merge_values(factor);
        barrier();
        write_query(at, t, highest, total);
        turn_values();
        barrier();
    }
}

void attend(item_place at)
{
    begin_tile(at);
    uint begin = all_see.x / BLOCK, end = (all_see.y + BLOCK - 1) / BLOCK, step = p.parts * SUBGROUPS;
    uint own = at.part * SUBGROUPS + gl_SubgroupID;
    uint block = begin + (own + step - begin % step) % step; /* the first whose turn it is */
    load_keys(at, block);
    for (; block < end; block += step) {
        load_values(at, block);
        score_cells();
        load_keys(at, block + step);
        weigh_cells(block);
        add_values(at, block);
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
