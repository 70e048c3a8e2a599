#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/halve_activations.comp: rows of floats to 16-bit floats, each row times the power of two that brings its largest
 * number to [2^14, 2^15); what undoes that, a float, lies behind the row at the next multiple of 16 bytes. It is NaN for a row with a
 * NaN or infinity, so that it shows. A workgroup a row. */
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "common.glsl"

layout(constant_id = 6) const uint GROUP = 64; /* the same as constant 0 */

layout(push_constant, scalar) uniform block { qv_quantise_params p; };

layout(buffer_reference, scalar, buffer_reference_align = 2) writeonly buffer f16s { float16_t v[]; };

shared uint largest[GROUP];

void main()
{
    uint rows = live_rows(p.live, p.rows, p.x), here = gl_LocalInvocationID.x;
    for (uint row = gl_WorkGroupID.x; row < rows; row += gl_NumWorkGroups.x) {
        uint64_t from = p.x + uint64_t(row) * p.x_row, to = p.dst + uint64_t(row) * p.dst_row;
        uint most = 0; /* magnitudes are ordered as their bits are, NaN last */
        for (uint i = here; i < p.k; i += GROUP)
            most = max(most, floatBitsToUint(f32s(from).v[i]) & 0x7fffffffu);
        largest[here] = most;
        for (uint step = GROUP / 2; step > 0; step /= 2) {
            barrier();
            if (here < step)
                largest[here] = max(largest[here], largest[here + step]);
        }
        barrier();
        most = largest[0];
        bool odd = most >= 0x7f800000u;
        /* 2^(14 − e) for a number of exponent e, but a normal number */
        int power = odd || most == 0 ? 0 : clamp(14 - (int(most >> 23) - 127), -126, 126);
        float scale = uintBitsToFloat(uint(127 + power) << 23);
        for (uint i = here; i < p.k; i += GROUP)
            f16s(to).v[i] = float16_t(odd ? 0.0 : f32s(from).v[i] * scale);
        if (here == 0)
            f32s(to + (2 * p.k + 15) / 16 * 16).v[0] = odd ? uintBitsToFloat(0x7fc00000u) : uintBitsToFloat(uint(127 - power) << 23);
        barrier();
    }
}
