#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/elementwise.comp: functions of one or two tensors, element by element. x: elements of a row; y: rows of all
 * heads. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"

layout(constant_id = 1) const uint FUNCTION = 0;
layout(constant_id = 2) const uint ACT = 0;

layout(push_constant, scalar) uniform block { qv_elementwise_params p; };

float evaluate(float a, float b)
{
    switch (FUNCTION) {
    case 0u: return a + b;
    case 1u: return a * b;
    case 2u: return p.scale * a + p.offset;
    case 3u: return activate(ACT, a);
    case 4u: return gate(ACT, a, b, p.scale, p.offset);
    default: return p.scale * exact_tanh(a / p.scale);
    }
}

void main()
{
    uint items = live_rows(p.live, p.rows, p.a) * p.heads;
    for (uint item = gl_WorkGroupID.y; item < items; item += gl_NumWorkGroups.y) {
        uint row = item / p.heads, head = item % p.heads;
        f32s a = f32s(row_of(p.a, head, p.a_head, row, p.a_row));
        f32s b = f32s(row_of(p.b, head, p.b_head, row, p.b_row));
        f32s to = f32s(row_of(p.dst, head, p.dst_head, row, p.dst_row));
        for (uint i = gl_GlobalInvocationID.x; i < p.n; i += gl_NumWorkGroups.x * gl_WorkGroupSize.x)
            to.v[i] = evaluate(a.v[i], p.b != 0 ? b.v[i] : 0.0);
    }
}
