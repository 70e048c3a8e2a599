#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/get_rows.comp: rows of a table by number; a number outside the table gives zeros. Each invocation takes 32
 * elements (of plain numbers: one). x: pieces of a row; y: rows. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "weights.glsl"

layout(push_constant, scalar) uniform block { qv_get_rows_params p; };

void main()
{
#ifdef QV_GRID
    grid = p.grid;
#endif
    uint rows = live_rows(p.live, p.rows, p.ids);
    for (uint row = gl_WorkGroupID.y; row < rows; row += gl_NumWorkGroups.y) {
        f32s to = f32s(p.dst + uint64_t(row) * p.dst_row);
        uint id = uint(i32s(p.ids).v[row]);
        bool known = id < p.table_rows;
        uint64_t from = p.table + uint64_t(known ? id : 0u) * p.table_row;
        uint step = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
#ifdef QV_PLAIN
        for (uint i = gl_GlobalInvocationID.x; i < p.n; i += step)
            to.v[i] = known ? weight(from, i) * p.scale : 0.0;
#else
        for (uint i = gl_GlobalInvocationID.x; i < p.n / 32; i += step) {
            vec4 w[8];
            weights_32(from, p.n / BLOCK_ELEMENTS, i, w);
            [[unroll]] for (uint j = 0; j < 8; j++)
                [[unroll]] for (uint e = 0; e < 4; e++)
                    to.v[32 * i + 4 * j + e] = known ? w[j][e] * p.scale : 0.0;
        }
#endif
    }
}
