#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/norm.comp: RMS, layer and L2 norm. One workgroup a row of a head; sums have a fixed order. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint KIND = 0; /* as in quern/plugin.h */

layout(push_constant, scalar) uniform block { qv_norm_params p; };

shared float parts[gl_WorkGroupSize.x];

/* The sum over the workgroup, known to all of it. */
float total(float part)
{
    parts[gl_LocalInvocationID.x] = part;
    barrier();
    for (uint half_size = gl_WorkGroupSize.x / 2; half_size > 0; half_size /= 2) {
        if (gl_LocalInvocationID.x < half_size)
            parts[gl_LocalInvocationID.x] += parts[gl_LocalInvocationID.x + half_size];
        barrier();
    }
    float sum = parts[0];
    barrier();
    return sum;
}

void norm_row(f32s x, f32s to)
{
    /* The mean is told from the first number on: far from zero the numbers' differences are exact, their sum is not. */
    float origin = 0.0, centre = 0.0, sum = 0.0;
    if (KIND == 1u) {
        origin = x.v[0];
        for (uint i = gl_LocalInvocationID.x; i < p.n; i += gl_WorkGroupSize.x)
            sum += x.v[i] - origin;
        centre = total(sum) / float(p.n);
        sum = 0.0;
    }
    for (uint i = gl_LocalInvocationID.x; i < p.n; i += gl_WorkGroupSize.x) {
        float d = x.v[i] - origin - centre;
        sum += d * d;
    }
    float squares = total(sum), divisor;
    if (KIND == 2u) {
        divisor = sqrt(squares);
        divisor = divisor < p.eps ? p.eps : divisor;
    } else {
        divisor = sqrt(squares / float(p.n) + p.eps);
    }
    float factor = 1.0 / divisor;
    for (uint i = gl_LocalInvocationID.x; i < p.n; i += gl_WorkGroupSize.x) {
        float y = (x.v[i] - origin - centre) * factor;
        if (p.weight != 0)
            y *= f32s(p.weight).v[i] + p.weight_offset;
        if (p.bias != 0)
            y += f32s(p.bias).v[i];
        to.v[i] = y;
    }
}

void main()
{
    uint items = live_rows(p.live, p.rows, p.x) * p.heads;
    for (uint item = gl_WorkGroupID.x; item < items; item += gl_NumWorkGroups.x) {
        uint row = item / p.heads, head = item % p.heads;
        norm_row(f32s(row_of(p.x, head, p.x_head, row, p.x_row)), f32s(row_of(p.dst, head, p.dst_head, row, p.dst_row)));
    }
}
