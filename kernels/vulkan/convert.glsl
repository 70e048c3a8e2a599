/* SPDX-License-Identifier: MIT
 * kernels/vulkan/convert.glsl: formats that are read and written: those of KV caches and copies. The format is a
 * specialisation constant at the place of use, so that nothing but its own branch is left in the pipeline. Blocks lie as on
 * disk, `block` bytes apart.
 *
 * Elements come in pieces of 32, eight vectors of four; what is left of a row of plain numbers comes one by one. */
const uint F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, BF16 = 30;

bool has_blocks(uint format)
{
    return format == Q4_0 || format == Q8_0;
}

float load_one(uint format, uint64_t row, uint block, uint i)
{
    uint64_t at;
    switch (format) {
    case F32: return f32s(row + uint64_t(i) * block).v[0];
    case F16: return f32_from_f16(uint(u16s(row + uint64_t(i) * block).v[0]));
    case BF16: return f32_from_bf16(uint(u16s(row + uint64_t(i) * block).v[0]));
    case Q8_0:
        at = row + uint64_t(i / 32) * block;
        return f32_from_f16(uint(u16s(at).v[0])) * float(int(uint(u8s(at + 2 + i % 32).v[0]) << 24) >> 24);
    default: {
        at = row + uint64_t(i / 32) * block;
        uint two = uint(u8s(at + 2 + i % 16).v[0]);
        return f32_from_f16(uint(u16s(at).v[0])) * float(int(i % 32 < 16 ? two & 15u : two >> 4) - 8);
    }
    }
}

/* Bytes 2·i of the words w[] as signed numbers times d. */
vec4 scaled_bytes(uint low, uint high, float d)
{
    return d * vec4(int(low << 24) >> 24, int(low << 16) >> 24, int(high << 24) >> 24, int(high << 16) >> 24);
}

vec4 scaled_nibbles(uint low, uint high, uint shift, float d)
{
    uvec4 bytes = uvec4(low, low >> 8, high, high >> 8) >> shift & 15u;
    return d * vec4(ivec4(bytes) - 8);
}

/* Elements [32·i, 32·i + 32) of a row. */
void load_32(uint format, uint64_t row, uint block, uint i, out vec4 v[8])
{
    uint64_t at = row + uint64_t(i) * (has_blocks(format) ? block : 32 * block);
    if (format == Q8_0) {
        u16s words = u16s(at);
        float d = f32_from_f16(uint(words.v[0]));
        [[unroll]] for (uint j = 0; j < 8; j++)
            v[j] = scaled_bytes(uint(words.v[1 + 2 * j]), uint(words.v[2 + 2 * j]), d);
    } else if (format == Q4_0) {
        u16s words = u16s(at);
        float d = f32_from_f16(uint(words.v[0]));
        [[unroll]] for (uint j = 0; j < 4; j++) {
            uint low = uint(words.v[1 + 2 * j]), high = uint(words.v[2 + 2 * j]);
            v[j] = scaled_nibbles(low, high, 0, d);
            v[j + 4] = scaled_nibbles(low, high, 4, d);
        }
    } else {
        [[unroll]] for (uint j = 0; j < 8; j++)
            [[unroll]] for (uint e = 0; e < 4; e++)
                v[j][e] = load_one(format, at, block, 4 * j + e);
    }
}

void store_one(uint format, uint64_t row, uint block, uint i, float value)
{
    uint64_t at = row + uint64_t(i) * block;
    if (format == F32)
        f32s(at).v[0] = value;
    else
        u16s(at).v[0] = uint16_t(format == F16 ? f16_from_f32(value) : bf16_from_f32(value));
}

/* The element that is furthest from zero, the first of equals; NaN where one is not finite. */
float extreme_of(vec4 v[8])
{
    float best = 0.0;
    bool finite = true;
    [[unroll]] for (uint j = 0; j < 8; j++)
        [[unroll]] for (uint e = 0; e < 4; e++) {
            finite = finite && (floatBitsToUint(v[j][e]) & 0x7f800000u) != 0x7f800000u;
            best = abs(v[j][e]) > abs(best) ? v[j][e] : best;
        }
    return finite ? best : uintBitsToFloat(0x7fc00000u);
}

/* 1/d; 0 for a block of zeros, or where it overflows: d is then 0 in 16 bits anyway */
float inverse(float d)
{
    return abs(d) < 2.9387359e-39 ? 0.0 : 1.0 / d;
}

void store_q8_0(uint64_t at, vec4 v[8])
{
    float d = abs(extreme_of(v)) / 127.0, id = inverse(d);
    bool finite = (floatBitsToUint(d) & 0x7f800000u) != 0x7f800000u;
    u16s words = u16s(at);
    words.v[0] = uint16_t(finite ? f16_from_f32(d) : 0x7e00u);
    [[unroll]] for (uint j = 0; j < 8; j++) {
        /* half away from zero */
        vec4 scaled = v[j] * id;
        ivec4 q = finite ? ivec4(scaled + mix(vec4(0.5), vec4(-0.5), lessThan(scaled, vec4(0.0)))) : ivec4(0);
        uvec4 bytes = uvec4(q) & 255u;
        words.v[1 + 2 * j] = uint16_t(bytes.x | bytes.y << 8);
        words.v[2 + 2 * j] = uint16_t(bytes.z | bytes.w << 8);
    }
}

void store_q4_0(uint64_t at, vec4 v[8])
{
    float d = extreme_of(v) / -8.0, id = inverse(d);
    bool finite = (floatBitsToUint(d) & 0x7f800000u) != 0x7f800000u;
    u16s words = u16s(at);
    words.v[0] = uint16_t(finite ? f16_from_f32(d) : 0x7e00u);
    [[unroll]] for (uint j = 0; j < 4; j++) {
        uvec4 low = uvec4(clamp(v[j] * id + 8.5, 0.0, 15.0)), high = uvec4(clamp(v[j + 4] * id + 8.5, 0.0, 15.0));
        uvec4 bytes = finite ? low | high << 4 : uvec4(0);
        words.v[1 + 2 * j] = uint16_t(bytes.x | bytes.y << 8);
        words.v[2 + 2 * j] = uint16_t(bytes.z | bytes.w << 8);
    }
}

void store_32(uint format, uint64_t row, uint block, uint i, vec4 v[8])
{
    uint64_t at = row + uint64_t(i) * (has_blocks(format) ? block : 32 * block);
    if (format == Q8_0) {
        store_q8_0(at, v);
    } else if (format == Q4_0) {
        store_q4_0(at, v);
    } else {
        [[unroll]] for (uint j = 0; j < 8; j++)
            [[unroll]] for (uint e = 0; e < 4; e++)
                store_one(format, at, block, 4 * j + e, v[j][e]);
    }
}
