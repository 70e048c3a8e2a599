/* SPDX-License-Identifier: MIT
 * kernels/vulkan/cache.glsl: reading KV caches in few loads. WIDE: rows and what is read of them lie so that whole words may be
 * taken: F32, F16 and BF16 at multiples of 8 bytes, Q8_0 and Q4_0 at multiples of 4 with blocks in pairs (which are 68 and 36
 * bytes). Needs convert.glsl. */

uint cache_block(uint format)
{
    return format == F32 ? 4 : format == Q8_0 ? 34 : format == Q4_0 ? 18 : 2;
}

vec4 four_of(uint format, uint low, uint high)
{
    if (format == BF16)
        return uintBitsToFloat(uvec4(low << 16, low & 0xffff0000u, high << 16, high & 0xffff0000u));
    return vec4(f32_from_f16(low & 0xffffu), f32_from_f16(low >> 16), f32_from_f16(high & 0xffffu), f32_from_f16(high >> 16));
}

vec4 bytes_of(uint word, float d)
{
    ivec4 shifted = ivec4(word << 24, word << 16, word << 8, word);
    return d * vec4(shifted >> 24);
}

vec4 nibbles_of(uint word, uint shift, float d)
{
    return d * vec4(ivec4(uvec4(word, word >> 8, word >> 16, word >> 24) >> shift & 15u) - 8);
}

/* Elements [4·i, 4·i + 4) of a row. */
vec4 cache_4(uint format, bool wide, uint64_t row, uint i)
{
    vec4 v;
    if (has_blocks(format)) {
        uint j = 4 * i;
        u16s block = u16s(row + uint64_t(j / 32) * cache_block(format));
        float d = f32_from_f16(uint(block.v[0]));
        uint k = 1 + j % (format == Q8_0 ? 32 : 16) / 2, low = uint(block.v[k]), high = uint(block.v[k + 1]);
        return format == Q8_0 ? scaled_bytes(low, high, d) : scaled_nibbles(low, high, j % 32 < 16 ? 0 : 4, d);
    }
    if (!wide) {
        [[unroll]] for (uint e = 0; e < 4; e++)
            v[e] = load_one(format, row, cache_block(format), 4 * i + e);
        return v;
    }
    uint64_t at = row + uint64_t(4 * i) * cache_block(format);
    if (format == F32)
        return uintBitsToFloat(uvec4(unpackUint2x32(u64s(at).v[0]), unpackUint2x32(u64s(at).v[1])));
    uvec2 two = unpackUint2x32(u64s(at).v[0]);
    return four_of(format, two.x, two.y);
}

/* Elements [16·i, 16·i + 16) of a row of Q8_0 or Q4_0. An odd block begins in the middle of a word. */
void block_16(uint format, uint64_t row, uint i, out vec4 v[4])
{
    bool odd = (i / 2 & 1u) != 0, second = (i & 1u) != 0;
    u32s from = u32s(row + i / 2 * cache_block(format) - (odd ? 2 : 0));
    uint words[5], begin = format == Q8_0 && second ? 4 : 0;
    [[unroll]] for (uint j = 0; j < 5; j++)
        words[j] = from.v[begin + j];
    uint scale = begin > 0 ? from.v[0] : words[0];
    float d = f32_from_f16(odd ? scale >> 16 : scale & 0xffffu);
    [[unroll]] for (uint j = 0; j < 4; j++) {
        uint word = odd ? words[j + 1] : words[j] >> 16 | words[j + 1] << 16;
        v[j] = format == Q8_0 ? bytes_of(word, d) : nibbles_of(word, second ? 4 : 0, d);
    }
}

/* Elements [16·i, 16·i + 16) of a row. */
void cache_16(uint format, bool wide, uint64_t row, uint i, out vec4 v[4])
{
    if (wide && has_blocks(format)) {
        block_16(format, row, i, v);
        return;
    }
    [[unroll]] for (uint j = 0; j < 4; j++)
        v[j] = cache_4(format, wide, row, 4 * i + j);
}

/* Elements [4·i, 4·i + 4) of a row of n, at least 4 where there are blocks or it is wide; those behind its end are anything. */
vec4 cache_4_of(uint format, bool wide, uint64_t row, uint i, uint n)
{
    if (has_blocks(format) || wide)
        return cache_4(format, wide, row, min(i, n / 4 - 1));
    vec4 v;
    [[unroll]] for (uint e = 0; e < 4; e++)
        v[e] = load_one(format, row, cache_block(format), min(4 * i + e, n - 1));
    return v;
}
