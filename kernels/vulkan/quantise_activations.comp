#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/quantise_activations.comp: rows of floats to int8 in blocks of 32 along K, the numbers of the CPU's kernels
 * (kernels/cpu/kernels.h) but for the rounding of a division: d = max|x|/127, to nearest even; a block with a NaN or infinity gets
 * d = NaN, one whose largest magnitude is under 2^-119 counts as zeros. An invocation a block. x: blocks; y: rows. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "wide.glsl"
#include "activation_blocks.glsl"

layout(constant_id = 5) const uint WIDE = 0; /* rows of x begin at multiples of 16 bytes */

layout(push_constant, scalar) uniform block { qv_quantise_params p; };

void quantise(uint64_t from, uint64_t to, uint b)
{
    vec4 x[8];
    float largest = 0.0;
    bool odd = false;
    [[unroll]] for (uint j = 0; j < 8; j++) {
        x[j] = four_floats(from, 32 * b + 4 * j, WIDE != 0);
        [[unroll]] for (uint e = 0; e < 4; e++) {
            uint magnitude = floatBitsToUint(x[j][e]) & 0x7fffffffu;
            odd = odd || magnitude >= 0x7f800000u;
            largest = max(largest, uintBitsToFloat(magnitude));
        }
    }
    bool zero = odd || floatBitsToUint(largest) < 0x04000000u; /* 2^-119 */
    float inverse = 127.0 / largest;
    int sums[2] = int[](0, 0);
    [[unroll]] for (uint j = 0; j < 8; j++) {
        ivec4 q = zero ? ivec4(0) : ivec4(roundEven(x[j] * inverse));
        sums[j / 4] += q.x + q.y + q.z + q.w;
        uvec4 bytes = uvec4(q) & 255u;
        u32s(to + 32 * b).v[j] = bytes.x | bytes.y << 8 | bytes.z << 16 | bytes.w << 24;
    }
    uint d = odd ? 0x7fc00000u : zero ? 0u : floatBitsToUint(largest / 127.0);
    uvec2s(to + p.k).v[b] = uvec2(d, uint(sums[0]) & 0xffffu | uint(sums[1]) << 16);
}

void main()
{
    uint rows = live_rows(p.live, p.rows, p.x), blocks = p.k / 32, step = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = gl_WorkGroupID.y; i < rows * p.heads; i += gl_NumWorkGroups.y)
        for (uint b = gl_GlobalInvocationID.x; b < blocks; b += step)
            quantise(row_of(p.x, i % p.heads, p.x_head, i / p.heads, p.x_row), p.dst + uint64_t(i) * p.dst_row, b);
}
