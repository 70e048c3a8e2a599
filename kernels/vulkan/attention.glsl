/* SPDX-License-Identifier: MIT
 * kernels/vulkan/attention.glsl: what the attention kernels share: their parameters, how work is cut, what a row sees, and the
 * online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867) in tiles (Dao et al. 2022, arXiv:2205.14135).
 *
 * Blocks of cells begin at multiples of their size, whatever the rows see of them, and what a row does not see changes nothing of
 * its sums: a row's result depends on shapes and its own position alone, not on the rows beside it or how many are live. */

layout(push_constant, scalar) uniform block { qv_attention_push push; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer params { qv_attention_params p; };

qv_attention_params p; /* main() fetches it */

#define MINUS_INFINITY uintBitsToFloat(0xff800000u)

struct item_place {
    uint row, kv, head, slice, part; /* row, head: the first of the tile */
};

uint item_count()
{
    uint tiles = (live_rows(p.live, p.rows, p.q) + p.tile_rows - 1) / p.tile_rows;
    return min(push.end, tiles * (p.heads / p.group) * p.head_tiles * p.slices * p.parts);
}

item_place place_of(uint item)
{
    item_place at;
    at.part = item % p.parts;
    item /= p.parts;
    at.slice = item % p.slices;
    item /= p.slices;
    uint tile = item % p.head_tiles;
    item /= p.head_tiles;
    at.kv = item % (p.heads / p.group);
    at.head = at.kv * p.group + tile * p.tile_heads;
    at.row = item / (p.heads / p.group) * p.tile_rows;
    return at;
}

/* Query t of a tile: its row and head; false where the tile has no such query. */
bool query_of(item_place at, uint t, out uint row, out uint head)
{
    row = at.row + t / p.tile_heads;
    head = at.head + t % p.tile_heads;
    return t / p.tile_heads < p.tile_rows && row < live_rows(p.live, p.rows, p.q) && head < (at.kv + 1) * p.group;
}

/* The cells that a row sees: first and end; none where its position is negative. */
uvec2 cells_of(uint row)
{
    int position = i32s(p.positions).v[row];
    if (position < 0)
        return uvec2(0);
    uint end = min(uint(position), p.cells - 1) + 1;
    return uvec2(p.window > 0 && end > p.window ? end - p.window : 0, end);
}

/* Of blocks [x, y), those of a part. */
uvec2 blocks_of(uint x, uint y, uint part)
{
    uint each = (y - x + p.parts - 1) / p.parts;
    return uvec2(min(x + part * each, y), min(x + (part + 1) * each, y));
}

float score_of(float dot)
{
    float s = p.scale * dot;
    return p.softcap > 0.0 ? p.softcap * exact_tanh(s / p.softcap) : s;
}

/* e^(s − most), where nothing weighs nothing even if there is nothing else */
float weight_of(float s, float most)
{
    return s == MINUS_INFINITY ? 0.0 : exp(s - most);
}

/* A sink is a score without a value, the first of all. */
float first_score(item_place at, uint head)
{
    float sink = f32s(p.sinks != 0 ? p.sinks + 4 * uint64_t(head) : p.q).v[0]; /* something to load in any case: see live_rows */
    return p.sinks != 0 && at.part == 0 ? sink : MINUS_INFINITY;
}

float first_sum(item_place at)
{
    return p.sinks != 0 && at.part == 0 ? 1.0 : 0.0;
}

f32s partial_of(uint row, uint head, uint part)
{
    return f32s(p.partials + 4 * ((uint64_t(row) * p.heads + head) * p.parts + part) * (p.v_size + 2));
}

/* Where a query's result goes, and what its sums are multiplied by: a part is not divided yet. */
uint64_t values_of(item_place at, uint row, uint head)
{
    return p.parts > 1 ? uint64_t(partial_of(row, head, at.part)) + 8 : row_of(p.dst, head, p.dst_head, row, p.dst_row);
}

float factor_of(uvec2 sees, float sum)
{
    return sees.y == 0 ? 0.0 : p.parts > 1 ? 1.0 : 1.0 / sum;
}

void put_state(item_place at, uint row, uint head, float most, float sum)
{
    if (p.parts == 1 || at.slice > 0)
        return;
    f32s to = partial_of(row, head, at.part);
    to.v[0] = most;
    to.v[1] = sum;
}
