#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/delta_rule.comp: the gated delta rule, row after row. One invocation a feature of the value (a column of the
 * state, which no other column meets), neighbours beside each other in memory. The state is read twice and written once a row. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant, scalar) uniform block { uint64_t address; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer params { qv_delta_rule_params p; };

float state_at(uint64_t column, uint step, uint i, bool begins)
{
    return begins ? 0.0 : f32s(column + uint64_t(i) * step).v[0];
}

void do_row(params a, uint64_t column, uint head, uint key_head, uint feature, uint r)
{
    f32s k = f32s(row_of(a.p.k, key_head, a.p.k_head, r, a.p.k_row)), q = f32s(row_of(a.p.q, key_head, a.p.q_head, r, a.p.q_row));
    float value = f32s(row_of(a.p.v, head, a.p.v_head, r, a.p.v_row)).v[feature];
    float decay = exp(f32s(a.p.gate + uint64_t(r) * a.p.gate_row).v[head]);
    float beta = f32s(a.p.beta + uint64_t(r) * a.p.beta_row).v[head];
    bool begins = i32s(a.p.positions).v[r] == 0;
    uint size = a.p.k_size, step = a.p.state_row;
    float known = 0.0, sum = 0.0;
    for (uint i = 0; i < size; i++)
        known += state_at(column, step, i, begins) * decay * k.v[i];
    float d = beta * (value - known);
    for (uint i = 0; i < size; i++) {
        float s = state_at(column, step, i, begins) * decay + d * k.v[i];
        f32s(column + uint64_t(i) * step).v[0] = s;
        sum += s * q.v[i];
    }
    f32s(row_of(a.p.dst, head, a.p.dst_head, r, a.p.dst_row)).v[feature] = a.p.scale * sum;
}

void main()
{
    params a = params(address);
    uint rows = live_rows(a.p.live, a.p.rows, a.p.q), feature = gl_GlobalInvocationID.x;
    if (feature >= a.p.v_size)
        return;
    for (uint head = gl_WorkGroupID.y; head < a.p.heads; head += gl_NumWorkGroups.y) {
        uint key_head = a.p.grouped != 0 ? head / (a.p.heads / a.p.key_heads) : head % a.p.key_heads;
        uint64_t column = a.p.state + uint64_t(head) * a.p.state_head + 4 * feature;
        for (uint r = 0; r < rows; r++)
            do_row(a, column, head, key_head, feature, r);
    }
}
