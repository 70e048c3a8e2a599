#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/attention_tiles.comp: attention in tiles, for any device with some shared memory. It holds the queries of a tile
 * (rows, and the query heads that share the KV head) and, in turn, 32 features of the keys of a block of 64 cells and 64 features of
 * half its values, unpacked once for all queries. What comes next is on its way from memory while the products of what is there are
 * added up: each invocation those of a few queries with four cells, then with four features, four numbers to an access. Rows lie so
 * far apart that neighbours read different banks. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"
#include "convert.glsl"
#include "wide.glsl"
#include "cache.glsl"
#include "pieces.glsl"
#include "attention.glsl"

layout(constant_id = 1) const uint FORMAT_K = 0;
layout(constant_id = 2) const uint FORMAT_V = 0;
layout(constant_id = 3) const uint QUERIES = 8;  /* of a tile: 8, 16 or 32 */
layout(constant_id = 4) const uint K_CHUNKS = 1; /* of 32 features of a key */
layout(constant_id = 5) const uint V_CHUNKS = 1; /* of 64 features of a value, to a slice */
layout(constant_id = 6) const uint WIDE = 0;     /* 1: K, 2: V, see pieces.glsl */

const uint SIZE = 128, BLOCK = 64, SIDE = 4;     /* SIDE: cells, or features, of one invocation's products */
const uint OWN = QUERIES / 8;                    /* and queries */
const uint TEAM = SIZE / QUERIES;                /* invocations that weigh the scores of a query */
const uint ACROSS = 16;                          /* invocations along cells or features */
const uint Q_STEP = 8 * K_CHUNKS + 1, K_STEP = 9, V_STEP = 17, S_STEP = QUERIES == 32 ? 20 : 17; /* fours from row to row */
const bool WIDE_K = (WIDE & 1) != 0, WIDE_V = (WIDE & 2) != 0;

shared vec4 queries[QUERIES * Q_STEP];
shared vec4 cells[BLOCK * K_STEP];
shared vec4 scores[QUERIES * S_STEP];
shared float team[SIZE];
shared float fades[QUERIES];
shared uint begins[QUERIES], ends[QUERIES];

float most, own_sum; /* of query mine / TEAM */
vec4 values[V_CHUNKS * OWN];
float rectangle[OWN * SIDE];
piece ahead[2];      /* of what shared memory holds next */
uvec2 all_see, each_sees; /* the cells that some query of the tile sees; those that every one does */

/* ---- from memory to registers to shared memory: two pieces each ---- */

/* Of 64 cells four pieces. */
void fetch_keys(item_place at, uint first, uint chunk)
{
    uint64_t base = p.k + uint64_t(at.kv) * p.k_head;
    [[unroll]] for (uint j = 0; j < 2; j++) {
        uint i = gl_LocalInvocationID.x + j * SIZE, cell = min(first + i / 4, p.cells - 1);
        ahead[j] = load_piece(FORMAT_K, WIDE_K, base + uint64_t(cell) * p.k_cell, 4 * chunk + i % 4, p.k_size);
    }
}

void put_keys(uint first, uint chunk)
{
    [[unroll]] for (uint j = 0; j < 2; j++) {
        uint i = gl_LocalInvocationID.x + j * SIZE, cell = first + i / 4, n = 4 * chunk + i % 4;
        vec4 v[2];
        unpack_piece(FORMAT_K, WIDE_K, ahead[j], n, 8 * n < p.k_size && cell >= all_see.x && cell < all_see.y, v);
        cells[i / 4 * K_STEP + i % 4 * 2] = v[0];
        cells[i / 4 * K_STEP + i % 4 * 2 + 1] = v[1];
    }
}

/* Of 32 cells eight pieces. */
uint v_piece(item_place at, uint chunk, uint i)
{
    return 8 * (at.slice * V_CHUNKS + chunk) + i % 8;
}

void fetch_values(item_place at, uint first, uint chunk)
{
    uint64_t base = p.v + uint64_t(at.kv) * p.v_head;
    [[unroll]] for (uint j = 0; j < 2; j++) {
        uint i = gl_LocalInvocationID.x + j * SIZE, cell = min(first + i / 8, p.cells - 1);
        ahead[j] = load_piece(FORMAT_V, WIDE_V, base + uint64_t(cell) * p.v_cell, v_piece(at, chunk, i), p.v_size);
    }
}

void put_values(item_place at, uint first, uint chunk)
{
    [[unroll]] for (uint j = 0; j < 2; j++) {
        uint i = gl_LocalInvocationID.x + j * SIZE, cell = first + i / 8;
        vec4 v[2];
        unpack_piece(FORMAT_V, WIDE_V, ahead[j], v_piece(at, chunk, i), cell >= all_see.x && cell < all_see.y, v);
        cells[i / 8 * V_STEP + i % 8 * 2] = v[0];
        cells[i / 8 * V_STEP + i % 8 * 2 + 1] = v[1];
    }
}

/* ---- a block ---- */

void multiply_keys(uint x, uint y, uint chunk)
{
    [[unroll]] for (uint f = 0; f < 8; f++) {
        vec4 k[SIDE];
        [[unroll]] for (uint c = 0; c < SIDE; c++)
            k[c] = cells[(x + c * ACROSS) * K_STEP + f];
        [[unroll]] for (uint t = 0; t < OWN; t++) {
            vec4 q = queries[(y + t) * Q_STEP + 8 * chunk + f];
            [[unroll]] for (uint c = 0; c < SIDE; c++)
                [[unroll]] for (uint e = 0; e < 4; e++)
                    rectangle[t * SIDE + c] += q[e] * k[c][e];
        }
    }
}

/* Leaves the first of the values ahead. */
void score_block(item_place at, uint first)
{
    uint mine = gl_LocalInvocationID.x, x = mine % ACROSS, y = mine / ACROSS * OWN;
    [[unroll]] for (uint i = 0; i < OWN * SIDE; i++)
        rectangle[i] = 0.0;
    [[dont_unroll]] for (uint chunk = 0; chunk < K_CHUNKS; chunk++) {
        barrier();
        put_keys(first, chunk);
        barrier();
        if (chunk + 1 < K_CHUNKS)
            fetch_keys(at, first, chunk + 1);
        else
            fetch_values(at, first, 0);
        multiply_keys(x, y, chunk);
    }
    [[unroll]] for (uint t = 0; t < OWN; t++)
        [[unroll]] for (uint c = 0; c < SIDE; c++) {
            uint n = x + c * ACROSS, cell = first + n;
            bool seen = cell >= begins[y + t] && cell < ends[y + t];
            scores[(y + t) * S_STEP + n / 4][n % 4] = seen ? score_of(rectangle[t * SIDE + c]) : MINUS_INFINITY;
        }
    barrier();
}

/* Scores to weights, relative to the highest score so far. */
void weigh_block()
{
    uint mine = gl_LocalInvocationID.x, t = mine / TEAM, own = t * S_STEP + mine % TEAM;
    vec4 s[16 / TEAM > 0 ? 16 / TEAM : 1];
    float highest = MINUS_INFINITY;
    [[unroll]] for (uint i = 0; i < 16 / TEAM; i++) {
        s[i] = scores[own + i * TEAM];
        highest = max(max(highest, max(s[i].x, s[i].y)), max(s[i].z, s[i].w));
    }
    team[mine] = highest;
    barrier();
    highest = most;
    for (uint i = 0; i < TEAM; i++)
        highest = max(highest, team[t * TEAM + i]);
    float fade = weight_of(most, highest);
    most = highest;
    own_sum *= fade;
    [[unroll]] for (uint i = 0; i < 16 / TEAM; i++) {
        [[unroll]] for (uint e = 0; e < 4; e++) {
            s[i][e] = weight_of(s[i][e], highest);
            own_sum += s[i][e];
        }
        scores[own + i * TEAM] = s[i];
    }
    if (mine % TEAM == 0)
        fades[t] = fade;
}

/* Four cells of half a block. What a row does not see may be anything, also no number; whole: every query sees all of the block. */
void multiply_values(uint x, uint y, uint side, uint four, uint chunk, bool whole)
{
    vec4 v[4];
    [[unroll]] for (uint c = 0; c < 4; c++)
        v[c] = cells[(4 * four + c) * V_STEP + x];
    [[unroll]] for (uint t = 0; t < OWN; t++) {
        vec4 weights = scores[(y + t) * S_STEP + 8 * side + four];
        [[unroll]] for (uint c = 0; c < 4; c++)
            if (whole || weights[c] != 0.0)
                values[chunk * OWN + t] = fma(vec4(weights[c]), v[c], values[chunk * OWN + t]);
    }
}

/* The chunk is a number that compilers know: only then are its sums registers. Leaves what comes after it ahead: of another chunk,
 * or the first keys of block `next`. */
void add_chunk(item_place at, uint first, uint next, bool whole, uint chunk)
{
    uint x = gl_LocalInvocationID.x % ACROSS, y = gl_LocalInvocationID.x / ACROSS * OWN;
    [[unroll]] for (uint t = 0; t < OWN; t++)
        values[chunk * OWN + t] *= fades[y + t];
    [[dont_unroll]] for (uint side = 0; side < 2; side++) {
        barrier();
        put_values(at, first + side * BLOCK / 2, chunk);
        barrier();
        if (side == 0)
            fetch_values(at, first + BLOCK / 2, chunk);
        else if (chunk + 1 < V_CHUNKS)
            fetch_values(at, first, chunk + 1);
        else
            fetch_keys(at, next * BLOCK, 0);
        if (whole)
            [[dont_unroll]] for (uint four = 0; four < BLOCK / 8; four++)
                multiply_values(x, y, side, four, chunk, true);
        else
            [[dont_unroll]] for (uint four = 0; four < BLOCK / 8; four++)
                multiply_values(x, y, side, four, chunk, false);
    }
}

void add_block(item_place at, uint first, uint next)
{
    bool whole = first >= each_sees.x && first + BLOCK <= each_sees.y;
    barrier(); /* weights and fades are there */
    add_chunk(at, first, next, whole, 0);
    if (V_CHUNKS > 1)
        add_chunk(at, first, next, whole, 1);
    if (V_CHUNKS > 2)
        add_chunk(at, first, next, whole, 2);
    if (V_CHUNKS > 3)
        add_chunk(at, first, next, whole, 3);
}

/* ---- a tile ---- */

void finish(item_place at)
{
    uint mine = gl_LocalInvocationID.x, x = mine % ACROSS, y = mine / ACROSS * OWN, row, head;
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
        if (query_of(at, y + t, row, head)) {
            uint64_t to = values_of(at, row, head);
            float factor = factor_of(uvec2(begins[y + t], ends[y + t]), fades[y + t]);
            [[unroll]] for (uint chunk = 0; chunk < V_CHUNKS; chunk++)
                [[unroll]] for (uint e = 0; e < 4; e++) {
                    uint f = (at.slice * V_CHUNKS + chunk) * 64 + 4 * x + e;
                    if (f < p.v_size)
                        f32s(to).v[f] = values[chunk * OWN + t][e] * factor;
                }
        }
    barrier();
}

/* No branch chooses an address: lavapipe of Mesa 26 loads also what no invocation needs. */
void load_queries(item_place at)
{
    for (uint i = gl_LocalInvocationID.x; i < QUERIES * 8 * K_CHUNKS; i += SIZE) {
        uint t = i / (8 * K_CHUNKS), f = 4 * (i % (8 * K_CHUNKS)), row, head;
        bool there = query_of(at, t, row, head);
        f32s from = f32s(row_of(p.q, there ? head : at.head, p.q_head, there ? row : at.row, p.q_row));
        vec4 four;
        [[unroll]] for (uint e = 0; e < 4; e++) {
            float one = from.v[min(f + e, p.k_size - 1)];
            four[e] = there && f + e < p.k_size ? one : 0.0;
        }
        queries[t * Q_STEP + f / 4] = four;
    }
}

void begin_tile(item_place at)
{
    uint mine = gl_LocalInvocationID.x, row, head;
    if (mine < QUERIES) {
        bool there = query_of(at, mine, row, head);
        uvec2 sees = cells_of(there ? row : at.row);
        begins[mine] = there ? sees.x : 0;
        ends[mine] = there ? sees.y : 0;
    }
    bool there = query_of(at, mine / TEAM, row, head);
    float sink = first_score(at, there ? head : at.head);
    most = there ? sink : MINUS_INFINITY;
    own_sum = mine % TEAM == 0 ? first_sum(at) : 0.0;
    [[unroll]] for (uint i = 0; i < V_CHUNKS * OWN; i++)
        values[i] = vec4(0.0);
    load_queries(at);
    barrier();
    all_see = uvec2(0xffffffffu, 0);
    each_sees = uvec2(0, 0xffffffffu);
    for (uint t = 0; t < QUERIES; t++) {
        all_see = uvec2(ends[t] > 0 ? min(all_see.x, begins[t]) : all_see.x, max(all_see.y, ends[t]));
        each_sees = uvec2(max(each_sees.x, begins[t]), query_of(at, t, row, head) ? min(each_sees.y, ends[t]) : each_sees.y);
    }
    all_see.x = min(all_see.x, all_see.y);
}

/* The first block from this one on that a query sees something of; `end` if there is none. */
uint next_seen(uint block, uint end)
{
    for (; block < end; block++)
        for (uint t = 0; t < QUERIES; t++)
            if (begins[t] < (block + 1) * BLOCK && ends[t] > block * BLOCK)
                return block;
    return end;
}

void main()
{
    p = params(push.params).p;
    uint items = item_count();
    for (uint item = push.first + gl_WorkGroupID.x; item < items; item += gl_NumWorkGroups.x) {
        item_place at = place_of(item);
        begin_tile(at);
        uvec2 blocks = blocks_of(all_see.x / BLOCK, (all_see.y + BLOCK - 1) / BLOCK, at.part);
        uint block = next_seen(blocks.x, blocks.y);
        fetch_keys(at, block * BLOCK, 0);
        while (block < blocks.y) {
            uint next = next_seen(block + 1, blocks.y);
            score_block(at, block * BLOCK);
            weigh_block();
            add_block(at, block * BLOCK, next);
            block = next;
        }
        finish(at);
    }
}
