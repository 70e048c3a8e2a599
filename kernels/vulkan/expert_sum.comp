#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/expert_sum.comp: adds up what a token's experts gave, in the route's order, with the route's weights, and the
 * residual. x: rows of W; y: tokens. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant, scalar) uniform block { qv_expert_matmul_push push; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer params { qv_expert_matmul_params p; };

void main()
{
    params a = params(push.params);
    uint m = push.first + gl_GlobalInvocationID.x, rows = min(live_rows(a.p.live, a.p.rows, a.p.x), push.end_item);
    if (m >= push.m)
        return;
    for (uint row = push.first_item + gl_WorkGroupID.y; row < rows; row += gl_NumWorkGroups.y) {
        f32s weights = f32s(row_of(a.p.route, 0, a.p.route_head, row, a.p.route_row));
        f32s numbers = f32s(row_of(a.p.route, 1, a.p.route_head, row, a.p.route_row));
        float y = 0.0;
        for (uint i = 0; i < a.p.chosen; i++)
            if (numbers.v[i] >= 0.0 && numbers.v[i] < float(a.p.experts))
                y += f32s(a.p.partials + 4 * (uint64_t(row) * a.p.chosen + i) * a.p.all).v[m] * weights.v[i];
        if (a.p.residual != 0)
            y += f32s(a.p.residual + uint64_t(row) * a.p.residual_row).v[m];
        f32s(a.p.dst + uint64_t(row) * a.p.dst_row).v[m] = y;
    }
}
