/* SPDX-License-Identifier: MIT
 * kernels/vulkan/common.glsl: what all kernels share. Memory is reached by 64-bit addresses; there are no descriptors. */
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_int32 : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_8bit_storage : require

#define QV_GLSL 1
#include "params.h"

/* The size of a workgroup is the host's to choose. */
layout(local_size_x_id = 0) in;

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer f32s { float v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer i32s { int v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer u32s { uint v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer u64s { uint64_t v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 2) buffer u16s { uint16_t v[]; };
layout(buffer_reference, scalar, buffer_reference_align = 1) buffer u8s { uint8_t v[]; };

/* readable: an address that can be read. lavapipe of Mesa 26.1 and 26.2 loads from addresses that all invocations share before it
 * looks at the condition, so there must always be something to load. */
uint live_rows(uint64_t live, uint rows, uint64_t readable)
{
    int given = i32s(live == 0 ? readable & ~uint64_t(3) : live).v[0];
    return live == 0 ? rows : uint(clamp(given, 0, int(rows)));
}

/* The start of a row: dimensions 1 and 2 at these indices. */
uint64_t row_of(uint64_t tensor, uint head, uint head_step, uint row, uint row_step)
{
    return tensor + uint64_t(head) * head_step + uint64_t(row) * row_step;
}

/* ---- 16-bit floats, exact on any device: built-in conversions may round toward zero or flush ---- */

/* With integers, because unpackHalf2x16 may give 0 for a subnormal number, and the scales of weights are some. */
float f32_from_f16(uint h)
{
    uint magnitude = h & 0x7fffu;
    uint normal = (magnitude << 13) + (magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u);
    uint bits = magnitude < 0x400u ? floatBitsToUint(float(magnitude) * 5.9604644775390625e-8) : normal;
    return uintBitsToFloat(bits | (h & 0x8000u) << 16);
}

/* To nearest even; overflow to infinity, NaN stays NaN. */
uint f16_from_f32(float f)
{
    uint bits = floatBitsToUint(f), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u)
        return sign | 0x7c00u;
    if (magnitude < 0x38800000u) { /* subnormal: whole steps of 2^-24 */
        uint shift = 126u - (magnitude >> 23), mantissa = magnitude & 0x7fffffu | 0x800000u;
        if (shift > 24u)
            return sign;
        uint half_step = 1u << (shift - 1u), rest = mantissa & ((1u << shift) - 1u), steps = mantissa >> shift;
        if (rest > half_step || rest == half_step && (steps & 1u) != 0u)
            steps++;
        return sign | steps;
    }
    uint rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return sign | rounded - 0x38000000u >> 13;
}

float f32_from_bf16(uint h)
{
    return uintBitsToFloat(h << 16);
}

uint bf16_from_f32(float f)
{
    uint bits = floatBitsToUint(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return bits >> 16 | 64u;
    return bits + 0x7fffu + (bits >> 16 & 1u) >> 16;
}
