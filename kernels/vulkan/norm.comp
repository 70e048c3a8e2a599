#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/norm.comp: RMS, layer and L2 norm. One workgroup a row of a head; sums have a fixed order. The first KEPT numbers of
 * each invocation are loaded all at once and stay in registers: where there are few rows, waiting for memory is all that takes time. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint KIND = 0; /* as in quern/plugin.h */
layout(constant_id = 2) const uint KEPT = 8;

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

float kept[KEPT];

float origin = 0.0, centre = 0.0; /* what numbers are told from */

/* The sum over the row of the differences to these, or of their squares. */
float sum_of(f32s x, bool squares)
{
    uint here = gl_LocalInvocationID.x;
    float sum = 0.0;
    [[unroll]] for (uint j = 0; j < KEPT; j++) {
        float d = here + j * gl_WorkGroupSize.x < p.n ? kept[j] - origin - centre : 0.0;
        sum += squares ? d * d : d;
    }
    for (uint i = here + KEPT * gl_WorkGroupSize.x; i < p.n; i += gl_WorkGroupSize.x) {
        float d = x.v[i] - origin - centre;
        sum += squares ? d * d : d;
    }
    return total(sum);
}

void put(f32s to, uint i, float y)
{
    if (p.weight != 0)
        y *= f32s(p.weight).v[i] + p.weight_offset;
    if (p.bias != 0)
        y += f32s(p.bias).v[i];
    to.v[i] = y;
}

void norm_row(f32s x, f32s to)
{
    uint here = gl_LocalInvocationID.x;
    [[unroll]] for (uint j = 0; j < KEPT; j++)
        kept[j] = x.v[min(here + j * gl_WorkGroupSize.x, p.n - 1)];
    /* The mean is told from the first number on: far from zero the numbers' differences are exact, their sum is not. */
    if (KIND == 1u) {
        origin = x.v[0];
        centre = 0.0;
        centre = sum_of(x, false) / float(p.n);
    }
    float squares = sum_of(x, true), divisor;
    if (KIND == 2u) {
        divisor = sqrt(squares);
        divisor = divisor < p.eps ? p.eps : divisor;
    } else {
        divisor = sqrt(squares / float(p.n) + p.eps);
    }
    float factor = 1.0 / divisor;
    [[unroll]] for (uint j = 0; j < KEPT; j++)
        if (here + j * gl_WorkGroupSize.x < p.n)
            put(to, here + j * gl_WorkGroupSize.x, (kept[j] - origin - centre) * factor);
    for (uint i = here + KEPT * gl_WorkGroupSize.x; i < p.n; i += gl_WorkGroupSize.x)
        put(to, i, (x.v[i] - origin - centre) * factor);
}

void main()
{
    uint items = live_rows(p.live, p.rows, p.x) * p.heads;
    for (uint item = gl_WorkGroupID.x; item < items; item += gl_NumWorkGroups.x) {
        uint row = item / p.heads, head = item % p.heads;
        norm_row(f32s(row_of(p.x, head, p.x_head, row, p.x_row)), f32s(row_of(p.dst, head, p.dst_head, row, p.dst_row)));
    }
}
