#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/attention_combine.comp: puts the parts of attention together, in their order. One workgroup a row of a query
 * head; its parts are at most as many as it has invocations. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"
#include "attention.glsl"

shared float mosts[gl_WorkGroupSize.x];
shared float weights[gl_WorkGroupSize.x];

void combine(uint row, uint head)
{
    uint mine = gl_LocalInvocationID.x, size = gl_WorkGroupSize.x;
    bool sees = cells_of(row).y > 0;
    float sum = 0.0;
    if (mine < p.parts) {
        f32s state = partial_of(row, head, mine);
        mosts[mine] = state.v[0];
        sum = state.v[1];
    }
    barrier();
    float highest = MINUS_INFINITY, total = 0.0;
    for (uint part = 0; part < p.parts; part++)
        highest = max(highest, mosts[part]);
    barrier();
    if (mine < p.parts) {
        weights[mine] = weight_of(mosts[mine], highest);
        mosts[mine] = sum;
    }
    barrier();
    for (uint part = 0; part < p.parts; part++)
        total += weights[part] * mosts[part];
    f32s to = f32s(row_of(p.dst, head, p.dst_head, row, p.dst_row));
    for (uint i = mine; i < p.v_size; i += size) {
        float value = 0.0;
        for (uint part = 0; part < p.parts; part++)
            value += weights[part] * partial_of(row, head, part).v[2 + i];
        to.v[i] = sees ? value / total : 0.0;
    }
    barrier();
}

void main()
{
    p = params(push.params).p;
    uint items = min(push.end, live_rows(p.live, p.rows, p.dst) * p.heads);
    for (uint item = push.first + gl_WorkGroupID.x; item < items; item += gl_NumWorkGroups.x)
        combine(item / p.heads, item % p.heads);
}
