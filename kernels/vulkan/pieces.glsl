/* SPDX-License-Identifier: MIT
 * kernels/vulkan/pieces.glsl: rows of KV caches in pieces of eight elements, loaded as they lie and unpacked later, so that many
 * loads are under way at once. WIDE: F32, F16 and BF16 lie at multiples of 16 bytes, in whole pieces; Q8_0 and Q4_0 as cache.glsl
 * says. Needs convert.glsl, cache.glsl and wide.glsl. */

struct piece {
    uvec4 a, b; /* b: of F32 only */
};

/* Two words with eight bytes of a block that begins in the middle of a word, what lies beside them, and the word with its scale. */
uvec4 block_words(uint format, bool wide, uint64_t row, uint i)
{
    uint block = i / 4, part = format == Q8_0 ? i % 4 : i % 2;
    uint64_t at = row + uint64_t(block) * cache_block(format);
    if (wide) {
        u32s words = u32s(at - (block & 1u) * 2);
        return uvec4(words.v[2 * part], words.v[2 * part + 1], words.v[2 * part + 2], words.v[0]);
    }
    u16s halves = u16s(at);
    uint h = 1 + 4 * part;
    return uvec4(uint(halves.v[h]) | uint(halves.v[h + 1]) << 16, uint(halves.v[h + 2]) | uint(halves.v[h + 3]) << 16, 0,
                 uint(halves.v[0]));
}

/* Elements one by one; what lies behind the end of the row is zero. */
piece narrow_piece(uint format, uint64_t row, uint i, uint n)
{
    uint words[8];
    [[unroll]] for (uint e = 0; e < 8; e++) {
        uint at = min(8 * i + e, n - 1), word;
        if (format == F32)
            word = u32s(row).v[at];
        else
            word = uint(u16s(row).v[at]);
        words[e] = 8 * i + e < n ? word : 0;
    }
    if (format == F32)
        return piece(uvec4(words[0], words[1], words[2], words[3]), uvec4(words[4], words[5], words[6], words[7]));
    return piece(uvec4(words[0] | words[1] << 16, words[2] | words[3] << 16, words[4] | words[5] << 16, words[6] | words[7] << 16),
                 uvec4(0));
}

/* Elements [8·i, 8·i + 8) of a row of n; of one with i behind its end the last ones. */
piece load_piece(uint format, bool wide, uint64_t row, uint i, uint n)
{
    uint j = min(i, (n - 1) / 8);
    if (has_blocks(format))
        return piece(block_words(format, wide, row, j), uvec4(0));
    if (!wide)
        return narrow_piece(format, row, j, n);
    if (format == F32)
        return piece(uvec4s(row).v[2 * j], uvec4s(row).v[2 * j + 1]);
    return piece(uvec4s(row).v[j], uvec4(0));
}

/* there: else zeros, whatever has been loaded. */
void unpack_piece(uint format, bool wide, piece p, uint i, bool there, out vec4 v[2])
{
    uvec4 a = there ? p.a : uvec4(0), b = there ? p.b : uvec4(0);
    if (has_blocks(format)) {
        bool odd = (i / 4 & 1u) != 0;
        uint scale = wide && odd ? a.w >> 16 : a.w & 0xffffu;
        uvec2 bytes = !wide ? a.xy : odd ? a.yz : uvec2(a.x >> 16 | a.y << 16, a.y >> 16 | a.z << 16);
        float d = f32_from_f16(scale);
        [[unroll]] for (uint j = 0; j < 2; j++)
            v[j] = format == Q8_0 ? bytes_of(bytes[j], d) : nibbles_of(bytes[j], i % 4 < 2 ? 0 : 4, d);
    } else if (format == F32) {
        v[0] = uintBitsToFloat(a);
        v[1] = uintBitsToFloat(b);
    } else {
        v[0] = four_of(format, a.x, a.y);
        v[1] = four_of(format, a.z, a.w);
    }
}
