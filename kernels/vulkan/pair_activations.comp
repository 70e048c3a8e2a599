#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/pair_activations.comp: rows of floats to 16-bit floats, two rows side by side so that one instruction multiplies
 * both: the pairs of each of K elements; then for each 16 elements the two sums of what was written, floats; then, at the next
 * multiple of 16 bytes, the two floats that undo what each row was multiplied with: the power of two that brings its largest number
 * to [8, 16), so that 16 products with numbers of up to 128 add up to what 16 bits hold. That float is NaN for a row with a NaN or
 * infinity, so that it shows. A workgroup two rows; K is whole 16. */
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "common.glsl"
#include "wide.glsl"

layout(constant_id = 5) const uint WIDE = 0;   /* rows of x begin at multiples of 16 bytes */
layout(constant_id = 6) const uint GROUP = 64; /* the same as constant 0 */

layout(push_constant, scalar) uniform block { qv_quantise_params p; };

layout(buffer_reference, scalar, buffer_reference_align = 16) writeonly buffer pairs { uvec4 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) writeonly buffer vec2s { vec2 v[]; };

const int TOP = 3; /* the exponent of a row's largest number */

shared uvec2 largest[GROUP];

/* Bits of the largest magnitude of each row: they are ordered as the numbers are, NaN last. */
uvec2 largest_of(uint64_t from[2])
{
    uint here = gl_LocalInvocationID.x;
    uvec2 most = uvec2(0);
    for (uint i = here; i < p.k / 4; i += GROUP)
        [[unroll]] for (uint t = 0; t < 2; t++) {
            uvec4 bits = floatBitsToUint(four_floats(from[t], 4 * i, WIDE != 0)) & 0x7fffffffu;
            most[t] = max(most[t], max(max(bits.x, bits.y), max(bits.z, bits.w)));
        }
    largest[here] = most;
    for (uint step = GROUP / 2; step > 0; step /= 2) {
        barrier();
        if (here < step)
            largest[here] = max(largest[here], largest[here + step]);
    }
    barrier();
    return largest[0];
}

void main()
{
    uint rows = live_rows(p.live, p.rows, p.x), here = gl_LocalInvocationID.x;
    for (uint pair = gl_WorkGroupID.x; 2 * pair < rows; pair += gl_NumWorkGroups.x) {
        uint64_t from[2], to = p.dst + uint64_t(pair) * p.dst_row;
        from[0] = p.x + uint64_t(2 * pair) * p.x_row;
        from[1] = p.x + uint64_t(min(2 * pair + 1, rows - 1)) * p.x_row; /* of an odd number the last one twice */
        uvec2 most = largest_of(from);
        bvec2 odd = greaterThanEqual(most, uvec2(0x7f800000u));
        ivec2 power = mix(clamp(TOP + 127 - ivec2(most >> 23), -126, 126), ivec2(0), odd);
        vec2 scale = uintBitsToFloat(uvec2(127 + power) << 23);
        for (uint i = here; i < p.k / 16; i += GROUP) {
            vec2 sum = vec2(0.0);
            [[unroll]] for (uint j = 0; j < 4; j++) {
                vec4 first = four_floats(from[0], 16 * i + 4 * j, WIDE != 0);
                vec4 second = four_floats(from[1], 16 * i + 4 * j, WIDE != 0);
                uvec4 words;
                [[unroll]] for (uint e = 0; e < 4; e++) {
                    f16vec2 both = f16vec2(mix(vec2(first[e], second[e]) * scale, vec2(0.0), odd));
                    sum += vec2(both);
                    words[e] = packFloat2x16(both);
                }
                pairs(to).v[4 * i + j] = words;
            }
            vec2s(to + 4 * p.k).v[i] = sum;
        }
        vec2 undo = mix(uintBitsToFloat(uvec2(127 - power) << 23), uintBitsToFloat(uvec2(0x7fc00000u)), odd);
        if (here == 0)
            vec2s(to + (9 * p.k / 2 + 15) / 16 * 16).v[0] = undo;
        barrier();
    }
}
