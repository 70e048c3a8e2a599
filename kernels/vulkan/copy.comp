#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/copy.comp: copies between tensors of one shape, and new keys and values into cells of the cache. Each invocation
 * moves one block, or one number. Between two tensors of one format nothing is converted: every bit stays as it was. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "convert.glsl"

layout(constant_id = 1) const uint FROM = 0;
layout(constant_id = 2) const uint TO = 0;
layout(constant_id = 3) const uint BYTES = 0; /* of a block that is moved as it is; 0: convert */

layout(push_constant, scalar) uniform block { qv_copy_params p; };

void move(uint64_t from, uint64_t to)
{
    if (BYTES % 4 == 0)
        [[unroll]] for (uint i = 0; i < BYTES / 4; i++)
            u32s(to).v[i] = u32s(from).v[i];
    else if (BYTES % 2 == 0)
        [[unroll]] for (uint i = 0; i < BYTES / 2; i++)
            u16s(to).v[i] = u16s(from).v[i];
    else
        [[unroll]] for (uint i = 0; i < BYTES; i++)
            u8s(to).v[i] = u8s(from).v[i];
}

void convert(uint64_t from, uint64_t to, uint i)
{
    if (has_blocks(FROM) || has_blocks(TO)) {
        vec4 v[8];
        load_32(FROM, from, p.src_block, i, v);
        store_32(TO, to, p.dst_block, i, v);
    } else {
        store_one(TO, to, p.dst_block, i, load_one(FROM, from, p.src_block, i));
    }
}

/* The row of dst that row r goes to; a number past the last one: nowhere. */
uint target(uint row)
{
    int cell = i32s(p.cells != 0 ? p.cells + 4 * uint64_t(row) : p.src & ~uint64_t(3)).v[0]; /* see live_rows */
    return p.cells != 0 ? uint(cell) : row;
}

void main()
{
    uint items = live_rows(p.live, p.rows, p.src) * p.heads;
    for (uint item = gl_WorkGroupID.y; item < items; item += gl_NumWorkGroups.y) {
        uint row = item / p.heads, head = item % p.heads, to_row = target(row);
        if (to_row >= p.dst_rows)
            continue;
        uint64_t from = p.src + uint64_t(head) * p.src_head + row * p.src_row;
        uint64_t to = p.dst + uint64_t(head) * p.dst_head + to_row * p.dst_row;
        for (uint i = gl_GlobalInvocationID.x; i < p.n; i += gl_NumWorkGroups.x * gl_WorkGroupSize.x) {
            if (BYTES != 0)
                move(from + uint64_t(i) * p.src_block, to + uint64_t(i) * p.dst_block);
            else
                convert(from, to, i);
        }
    }
}
