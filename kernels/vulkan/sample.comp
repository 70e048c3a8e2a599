#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/sample.comp: greedy sampling, one workgroup a row: the lowest index of the largest logit, −1 if there is a NaN.
 * Logits are compared as integers in the floats' order, so that nothing is flushed or taken for unordered. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant, scalar) uniform block { qv_sample_params p; };

shared uint keys[gl_WorkGroupSize.x];
shared uint indices[gl_WorkGroupSize.x];

const uint NOT_A_NUMBER = 0xffffffffu; /* above the key of +infinity */

uint key_of(uint bits)
{
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return NOT_A_NUMBER;
    if (bits == 0x80000000u)
        bits = 0u;
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}

void keep(uint mine, uint key, uint index)
{
    if (key > keys[mine] || key == keys[mine] && index < indices[mine]) {
        keys[mine] = key;
        indices[mine] = index;
    }
}

void main()
{
    uint mine = gl_LocalInvocationID.x, rows = live_rows(p.live, p.rows, p.logits);
    for (uint row = gl_WorkGroupID.x; row < rows; row += gl_NumWorkGroups.x) {
        u32s logits = u32s(p.logits + uint64_t(row) * p.logits_row);
        uint best = 0u, at = 0xffffffffu;
        for (uint i = mine; i < p.n; i += gl_WorkGroupSize.x) {
            uint key = key_of(logits.v[i]);
            if (key > best) {
                best = key;
                at = i;
            }
        }
        keys[mine] = best;
        indices[mine] = at;
        barrier();
        for (uint half_size = gl_WorkGroupSize.x / 2; half_size > 0; half_size /= 2) {
            if (mine < half_size)
                keep(mine, keys[mine + half_size], indices[mine + half_size]);
            barrier();
        }
        if (mine == 0)
            i32s(p.dst + uint64_t(row) * p.dst_step).v[0] = keys[0] == NOT_A_NUMBER ? -1 : int(indices[0]);
        barrier();
    }
}
