#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/pack.comp: rows of weights as they are on disk, in blocks, to rows in planes (fields.h): first one part of all
 * blocks, then the next, each filled up with zeros to a multiple of QV_PLANE_ALIGN. Each invocation gathers one word of the
 * result. x: words of a row; y: rows. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "fields.h"

/* Parts of a block on disk in the order of their planes: size, and offset in the upper half; 0: there is no such part. */
layout(constant_id = 1) const uint PART_0 = 0;
layout(constant_id = 2) const uint PART_1 = 0;
layout(constant_id = 3) const uint PART_2 = 0;
layout(constant_id = 4) const uint PART_3 = 0;
layout(constant_id = 5) const uint BLOCK_BYTES = 1;
layout(constant_id = 6) const uint UNIT = 1; /* 4, 2 or 1: sizes, offsets and BLOCK_BYTES are multiples of it */

layout(push_constant, scalar) uniform block { qv_pack_params p; };

uint unit_at(uint64_t at)
{
    return UNIT == 4 ? u32s(at).v[0] : UNIT == 2 ? uint(u16s(at).v[0]) : uint(u8s(at).v[0]);
}

/* Four bytes of a plane from byte `at` on, of a part of this size and offset. */
uint gather(uint64_t row, uint at, uint size, uint offset)
{
    uint word = 0;
    [[unroll]] for (uint i = 0; i < 4; i += UNIT) {
        uint from = at + i, b = from / size;
        if (b < p.blocks)
            word |= unit_at(row + uint64_t(b) * BLOCK_BYTES + offset + from % size) << 8 * i;
    }
    return word;
}

void main()
{
    uint parts[4] = uint[](PART_0, PART_1, PART_2, PART_3);
    for (uint row = gl_WorkGroupID.y; row < p.rows; row += gl_NumWorkGroups.y) {
        uint64_t from = p.src + uint64_t(row) * p.src_row;
        u32s to = u32s(p.dst + uint64_t(row) * p.dst_row);
        for (uint i = gl_GlobalInvocationID.x; i < p.dst_row / 4; i += gl_NumWorkGroups.x * gl_WorkGroupSize.x) {
            uint plane = 0, word = 0;
            [[unroll]] for (uint f = 0; f < 4; f++) {
                uint size = parts[f] & 0xffffu;
                uint end = plane + (p.blocks * size + QV_PLANE_ALIGN - 1) / QV_PLANE_ALIGN * QV_PLANE_ALIGN;
                if (size != 0 && 4 * i >= plane && 4 * i < end)
                    word = gather(from, 4 * i - plane, size, parts[f] >> 16);
                plane = end;
            }
            to.v[i] = word;
        }
    }
}
