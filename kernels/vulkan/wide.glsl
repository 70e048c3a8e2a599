/* SPDX-License-Identifier: MIT
 * kernels/vulkan/wide.glsl: 16 bytes in one load, for devices on which that is one access and neighbouring invocations share it. */

layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer vec4s { vec4 v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 16) readonly buffer uvec4s { uvec4 v[]; };

/* Four activations from element i of a row on, which is a multiple of 4; wide: the row begins at a multiple of 16 bytes. */
vec4 four_floats(uint64_t row, uint i, bool wide)
{
    if (wide)
        return vec4s(row + 4 * i).v[0];
    f32s x = f32s(row + 4 * i);
    return vec4(x.v[0], x.v[1], x.v[2], x.v[3]);
}
