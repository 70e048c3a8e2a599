#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/short_conv.comp: causal convolution of each channel with a few weights, and the rows that the next run will
 * look back on. One invocation a channel, row after row. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "activations.glsl"

layout(push_constant, scalar) uniform block { qv_short_conv_params p; };

/* The input at row t; rows before 0 are in the state, the newest last; those before `begin` count as zeros. */
float input_at(uint c, int t, int begin)
{
    if (t < begin)
        return 0.0;
    int kept = int(p.width) - 1;
    return t < 0 ? f32s(p.state + uint64_t(uint(kept + t)) * p.state_row).v[c] : f32s(p.x + uint64_t(uint(t)) * p.x_row).v[c];
}

void main()
{
    int rows = int(live_rows(p.live, p.rows, p.x)), kept = int(p.width) - 1;
    for (uint c = gl_GlobalInvocationID.x; c < p.channels; c += gl_NumWorkGroups.x * gl_WorkGroupSize.x) {
        f32s w = f32s(p.w + uint64_t(c) * p.w_row);
        int begin = -kept;
        for (int r = 0; r < rows; r++) {
            if (i32s(p.positions).v[r] == 0)
                begin = r;
            float sum = p.bias != 0 ? f32s(p.bias).v[c] : 0.0;
            for (int j = 0; j <= kept; j++)
                sum += w.v[j] * input_at(c, r - kept + j, begin);
            f32s(p.dst + uint64_t(uint(r)) * p.dst_row).v[c] = activate(p.act, sum);
        }
        /* oldest first: a row of the state is read before it is written */
        for (int i = 0; i < kept && rows > 0; i++)
            f32s(p.state + uint64_t(uint(i)) * p.state_row).v[c] = input_at(c, rows - kept + i, begin);
    }
}
