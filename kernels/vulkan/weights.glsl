/* SPDX-License-Identifier: MIT
 * kernels/vulkan/weights.glsl: the values of a row of weights, 32 at a time. The format is the macro QV_FORMAT_<name>, one
 * module each; QV_ELEMENTS, QV_BYTES, QV_OFFSETS and QV_SIZES tell its blocks (fields.h). What the blocks mean is told in
 * kernels/common/dequantise.c; the names here are the same. Weights lie as on disk or in planes, by the constant PACKED. */
#include "fields.h"

#ifndef QV_TEXELS
layout(constant_id = 10) const uint PACKED = 0;
#endif

/* Where weights are: an address, or with QV_TEXELS, which reads planes and plain numbers alone, bytes from where the views of them
 * begin (texels.glsl). */
#ifdef QV_TEXELS
#define place uint
#include "texels.glsl"
#else
#define place uint64_t
#endif

#if defined(QV_FORMAT_F32) || defined(QV_FORMAT_F16) || defined(QV_FORMAT_BF16)
#define QV_PLAIN 1

#ifdef QV_FORMAT_F32
const uint BLOCK_BYTES = 4, BLOCK_ELEMENTS = 1;
#else
const uint BLOCK_BYTES = 2, BLOCK_ELEMENTS = 1;
#endif

#ifdef QV_TEXELS
/* Elements [32·i, 32·i + 32). */
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
#ifdef QV_FORMAT_F32
    [[unroll]] for (uint j = 0; j < 8; j++)
        w[j] = uintBitsToFloat(quad_texel((row >> 4) + 8 * i + j));
#else
    [[unroll]] for (uint j = 0; j < 4; j++) {
        uvec4 eight = quad_texel((row >> 4) + 4 * i + j);
        [[unroll]] for (uint e = 0; e < 8; e++) {
            uint h = eight[e / 2] >> 16 * (e % 2) & 0xffffu;
#ifdef QV_FORMAT_F16
            w[2 * j + e / 4][e % 4] = f32_from_f16(h);
#else
            w[2 * j + e / 4][e % 4] = f32_from_bf16(h);
#endif
        }
    }
#endif
}

#else
float weight(uint64_t row, uint i)
{
#if defined(QV_FORMAT_F32)
    return f32s(row).v[i];
#elif defined(QV_FORMAT_F16)
    return f32_from_f16(uint(u16s(row).v[i]));
#else
    return f32_from_bf16(uint(u16s(row).v[i]));
#endif
}

/* Elements [32·i, 32·i + 32). */
void weights_32(uint64_t row, uint blocks, uint i, out vec4 w[8])
{
    [[unroll]] for (uint j = 0; j < 8; j++)
        [[unroll]] for (uint e = 0; e < 4; e++)
            w[j][e] = weight(row, 32 * i + 4 * j + e);
}
#endif

#else

const uint BLOCK_BYTES = QV_BYTES, BLOCK_ELEMENTS = QV_ELEMENTS;
const uint offsets[4] = uint[](QV_OFFSETS);
const uint sizes[4] = uint[](QV_SIZES);

/* Where part f of block b of a row of so many blocks begins. */
place part(place row, uint blocks, uint b, uint f)
{
#ifndef QV_TEXELS
    if (PACKED == 0)
        return row + uint64_t(b) * BLOCK_BYTES + offsets[f];
#endif
    uint plane = 0;
    [[unroll]] for (uint g = 0; g < f; g++)
        plane += (blocks * sizes[g] + QV_PLANE_ALIGN - 1) / QV_PLANE_ALIGN * QV_PLANE_ALIGN;
    return row + plane + b * sizes[f];
}

#ifdef QV_TEXELS
uint half_at(place at)
{
    return half_texel(at >> 1);
}

uint byte_at(place at, uint j)
{
    return half_at(at + j) >> 8 * (at + j & 1u) & 255u;
}

uint word_at(place at, uint j)
{
    return word_texel((at >> 2) + j);
}

void words_16(place at, out uint w[4])
{
    uvec4 four = quad_texel(at >> 4);
    [[unroll]] for (uint j = 0; j < 4; j++)
        w[j] = four[j];
}

void words_32(place at, out uint w[8])
{
    uvec4 first = quad_texel(at >> 4), second = quad_texel((at >> 4) + 1);
    [[unroll]] for (uint j = 0; j < 8; j++)
        w[j] = j < 4 ? first[j] : second[j - 4];
}

#else
uint half_at(uint64_t at)
{
    return uint(u16s(at).v[0]);
}

uint byte_at(uint64_t at, uint j)
{
    return uint(u8s(at).v[j]);
}

/* Word j of a part on disk. */
uint disk_word(uint64_t at, uint j)
{
#ifdef QV_FORMAT_MXFP4
    u8s b = u8s(at + 4 * j);
    return uint(b.v[0]) | uint(b.v[1]) << 8 | uint(b.v[2]) << 16 | uint(b.v[3]) << 24;
#else
    u16s h = u16s(at + 4 * j);
    return uint(h.v[0]) | uint(h.v[1]) << 16;
#endif
}

uint word_at(uint64_t at, uint j)
{
    return PACKED != 0 ? u32s(at).v[j] : disk_word(at, j);
}

/* 16 bytes of a part, or 32: in planes these begin at a multiple of 16. Loads of 64 bits: devices that load lane by lane count
 * loads. */
void words_16(uint64_t at, out uint w[4])
{
    [[unroll]] for (uint j = 0; j < 2; j++) {
        uvec2 two = PACKED != 0 ? unpackUint2x32(u64s(at).v[j]) : uvec2(disk_word(at, 2 * j), disk_word(at, 2 * j + 1));
        w[2 * j] = two.x;
        w[2 * j + 1] = two.y;
    }
}

void words_32(uint64_t at, out uint w[8])
{
    [[unroll]] for (uint j = 0; j < 4; j++) {
        uvec2 two = PACKED != 0 ? unpackUint2x32(u64s(at).v[j]) : uvec2(disk_word(at, 2 * j), disk_word(at, 2 * j + 1));
        w[2 * j] = two.x;
        w[2 * j + 1] = two.y;
    }
}
#endif

/* Two halves that lie together: a scale and a minimum. */
vec2 halves_at(place at)
{
    uint both = word_at(at, 0);
    return vec2(f32_from_f16(both & 0xffffu), f32_from_f16(both >> 16));
}

/* Four numbers of some bits each, one in each byte of a word, from bit `shift` of the byte. */
uvec4 bytes_of(uint word, uint shift, uint mask)
{
    return uvec4(word, word >> 8, word >> 16, word >> 24) >> shift & mask;
}

vec4 signed_bytes(uint word)
{
    return vec4(int(word << 24) >> 24, int(word << 16) >> 24, int(word << 8) >> 24, int(word) >> 24);
}

#if defined(QV_FORMAT_Q4_0) || defined(QV_FORMAT_Q4_1) || defined(QV_FORMAT_Q5_0) || defined(QV_FORMAT_Q5_1) || \
    defined(QV_FORMAT_IQ4_NL) || defined(QV_FORMAT_MXFP4)
#if defined(QV_FORMAT_IQ4_NL)
#define QV_STEPS float[](-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
#elif defined(QV_FORMAT_MXFP4)
#define QV_STEPS float[](0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
#endif

/* Sixteen bytes of nibbles: the low ones are the first half of the block. */
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint words[4];
    words_16(part(row, blocks, i, 0), words);
#if defined(QV_FORMAT_Q4_1)
    vec2 dm = halves_at(part(row, blocks, i, 1));
    float d = dm.x, m = dm.y;
#elif defined(QV_FORMAT_Q5_1)
    vec2 dm = halves_at(part(row, blocks, i, 2));
    float d = dm.x, m = dm.y;
#elif defined(QV_FORMAT_Q5_0)
    float d = f32_from_f16(half_at(part(row, blocks, i, 2)));
#elif defined(QV_FORMAT_MXFP4)
    uint e = byte_at(part(row, blocks, i, 1), 0);
    float d = uintBitsToFloat(e < 2 ? 0x00200000u << e : e - 1 << 23); /* half of 2^(e − 127) */
#else
    float d = f32_from_f16(half_at(part(row, blocks, i, 1)));
#endif
#if defined(QV_FORMAT_Q5_0) || defined(QV_FORMAT_Q5_1)
    uint qh = word_at(part(row, blocks, i, 1), 0);
#endif
    [[unroll]] for (uint j = 0; j < 4; j++) {
        [[unroll]] for (uint upper = 0; upper < 2; upper++) {
            uvec4 q = bytes_of(words[j], 4 * upper, 15u);
            uint to = j + 4 * upper;
#if defined(QV_FORMAT_Q5_0) || defined(QV_FORMAT_Q5_1)
            q |= (uvec4(qh, qh >> 1, qh >> 2, qh >> 3) >> 4 * to & 1u) << 4;
#endif
#if defined(QV_FORMAT_Q4_0)
            w[to] = d * vec4(ivec4(q) - 8);
#elif defined(QV_FORMAT_Q5_0)
            w[to] = d * vec4(ivec4(q) - 16);
#elif defined(QV_FORMAT_Q4_1) || defined(QV_FORMAT_Q5_1)
            w[to] = d * vec4(q) + m;
#else
            const float steps[16] = QV_STEPS;
            w[to] = d * vec4(steps[q.x], steps[q.y], steps[q.z], steps[q.w]);
#endif
        }
    }
}

#elif defined(QV_FORMAT_Q8_0)
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    float d = f32_from_f16(half_at(part(row, blocks, i, 1)));
    uint words[8];
    words_32(part(row, blocks, i, 0), words);
    [[unroll]] for (uint j = 0; j < 8; j++)
        w[j] = d * signed_bytes(words[j]);
}

#elif defined(QV_FORMAT_Q2_K)
/* Piece i%8 of a block: bits 2·(i%4) of 32 bytes; a scale and a minimum for each 16 elements. */
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8;
    uint words[8], both = half_at(part(row, blocks, b, 1) + piece * 2);
    words_32(part(row, blocks, b, 0) + piece / 4 * 32, words);
    vec2 d = halves_at(part(row, blocks, b, 2));
    [[unroll]] for (uint j = 0; j < 8; j++) {
        uint s = both >> j / 4 * 8 & 255u;
        w[j] = d.x * float(s & 15u) * vec4(bytes_of(words[j], piece % 4 * 2, 3u)) - d.y * float(s >> 4);
    }
}

#elif defined(QV_FORMAT_Q3_K)
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8;
    uint words[8], masks[8];
    words_32(part(row, blocks, b, 0) + piece / 4 * 32, words);
    words_32(part(row, blocks, b, 1), masks);
    place scales = part(row, blocks, b, 2);
    uint lows = half_at(scales + piece * 2 % 8) >> piece / 4 * 4, highs = half_at(scales + 8 + piece * 2 % 4) >> piece / 2 * 2;
    float d = f32_from_f16(half_at(part(row, blocks, b, 3)));
    [[unroll]] for (uint j = 0; j < 8; j++) {
        uint low = lows >> j / 4 * 8 & 15u, high = highs >> j / 4 * 8 & 3u;
        uvec4 q = bytes_of(words[j], piece % 4 * 2, 3u) | bytes_of(masks[j], piece, 1u) << 2;
        w[j] = d * float(int(low | high << 4) - 32) * vec4(ivec4(q) - 4);
    }
}

#elif defined(QV_FORMAT_Q4_K) || defined(QV_FORMAT_Q5_K)
/* Of a piece of 32: six bits each. */
vec2 scale_and_minimum(place row, uint blocks, uint b, uint piece)
{
#ifdef QV_FORMAT_Q4_K
    place scales = part(row, blocks, b, 1), ds = part(row, blocks, b, 2);
#else
    place scales = part(row, blocks, b, 2), ds = part(row, blocks, b, 3);
#endif
    uint k = piece % 4;
    uint low = word_at(scales, 0) >> 8 * k & 255u, middle = word_at(scales, 1) >> 8 * k & 255u;
    uint last = word_at(scales, 2) >> 8 * k & 255u;
    /* without a branch, which would keep the loads that follow from being issued */
    uint s = piece < 4 ? low & 63u : last & 15u | low >> 6 << 4, m = piece < 4 ? middle & 63u : last >> 4 | middle >> 6 << 4;
    return halves_at(ds) * vec2(s, m);
}

/* Two pieces of 32 share 32 bytes, the first as low nibbles. */
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8;
    uint words[8];
    words_32(part(row, blocks, b, 0) + piece / 2 * 32, words);
#ifdef QV_FORMAT_Q5_K
    uint fifths[8];
    words_32(part(row, blocks, b, 1), fifths);
#endif
    vec2 d = scale_and_minimum(row, blocks, b, piece);
    [[unroll]] for (uint j = 0; j < 8; j++) {
        uvec4 q = bytes_of(words[j], piece % 2 * 4, 15u);
#ifdef QV_FORMAT_Q5_K
        q |= bytes_of(fifths[j], piece, 1u) << 4;
#endif
        w[j] = d.x * vec4(q) - d.y;
    }
}

#elif defined(QV_FORMAT_Q6_K)
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8;
    uint lows[8], highs[8], both = half_at(part(row, blocks, b, 2) + piece * 2);
    words_32(part(row, blocks, b, 0) + piece / 4 * 64 + piece % 2 * 32, lows);
    words_32(part(row, blocks, b, 1) + piece / 4 * 32, highs);
    float d = f32_from_f16(half_at(part(row, blocks, b, 3)));
    [[unroll]] for (uint j = 0; j < 8; j++) {
        int s = int(both << (j < 4 ? 24 : 16)) >> 24;
        uvec4 q = bytes_of(lows[j], piece / 2 % 2 * 4, 15u) | bytes_of(highs[j], piece % 4 * 2, 3u) << 4;
        w[j] = d * float(s) * vec4(ivec4(q) - 32);
    }
}

#elif defined(QV_FORMAT_IQ4_XS)
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    const float steps[16] = float[](-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    uint b = i / 8, piece = i % 8;
    uint words[4];
    words_16(part(row, blocks, b, 0) + piece * 16, words);
    place ds = part(row, blocks, b, 2);
    uint low = byte_at(part(row, blocks, b, 1), piece / 2) >> piece % 2 * 4 & 15u, high = half_at(ds + 2) >> 2 * piece & 3u;
    float scale = f32_from_f16(half_at(ds)) * float(int(low | high << 4) - 32);
    [[unroll]] for (uint j = 0; j < 4; j++)
        [[unroll]] for (uint upper = 0; upper < 2; upper++) {
            uvec4 q = bytes_of(words[j], 4 * upper, 15u);
            w[j + 4 * upper] = scale * vec4(steps[q.x], steps[q.y], steps[q.z], steps[q.w]);
        }
}

#elif defined(QV_FORMAT_TQ1_0)
/* Digit n to base three of a byte, as −1, 0 or 1. */
float ternary(uint byte, uint digit)
{
    uint power = digit == 0 ? 1 : digit == 1 ? 3 : digit == 2 ? 9 : digit == 3 ? 27 : 81;
    return float(int((byte * power & 255u) * 3 >> 8) - 1);
}

void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8;
    place qs = part(row, blocks, b, 0), qh = part(row, blocks, b, 1);
    float d = f32_from_f16(half_at(part(row, blocks, b, 2)));
    [[unroll]] for (uint j = 0; j < 8; j++) {
        uint at = 4 * j, rest = 32 * piece + at - 160; /* past the first five pieces */
        bool first = piece < 5, second = rest < 80;
        place from = first ? qs + at : second ? qs + 32 + rest % 16 : qh;
        uint digit = first ? piece : second ? rest / 16 : (rest - 80) / 4;
        [[unroll]] for (uint e = 0; e < 4; e++)
            w[j][e] = d * ternary(byte_at(from, e), digit);
    }
}

#elif defined(QV_FORMAT_TQ2_0)
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8;
    uint words[8];
    words_32(part(row, blocks, b, 0) + piece / 4 * 32, words);
    float d = f32_from_f16(half_at(part(row, blocks, b, 1)));
    [[unroll]] for (uint j = 0; j < 8; j++)
        w[j] = d * vec4(ivec4(bytes_of(words[j], piece % 4 * 2, 3u)) - 1);
}

#else
#define QV_GRID 1
#include "grids.glsl"
#endif
#endif

/* ---- units, for kernels that fetch texels: the pieces of a row that share bytes, one or two ---- */
#ifdef QV_TEXELS

/* A unit's bytes are loaded once and its pieces made from them one after the other, which keeps few numbers alive. Element e of a
 * unit is scales[e / QV_SPAN] · q − minima[e / 32]. Formats that are not here come as units of one piece, scales in the numbers. */
#if defined(QV_FORMAT_Q4_K) || defined(QV_FORMAT_Q5_K)
const uint UNIT_PIECES = 2, UNIT_WORDS = 16;
#define QV_SPAN 32
#define QV_MINIMA 1

/* The piece of x that piece s of unit u goes with. */
uint unit_piece(uint u, uint s)
{
    return 2 * u + s;
}

void unit_load(place row, uint blocks, uint u, out uint raw[UNIT_WORDS], out float scales[2], out float minima[2])
{
    uint b = u / 4, pair = u % 4;
    uint words[8];
    words_32(part(row, blocks, b, 0) + 32 * pair, words);
    [[unroll]] for (uint j = 0; j < 8; j++)
        raw[j] = words[j];
#ifdef QV_FORMAT_Q4_K
    place packed = part(row, blocks, b, 1), ds = part(row, blocks, b, 2);
#else
    place packed = part(row, blocks, b, 2), ds = part(row, blocks, b, 3);
    words_32(part(row, blocks, b, 1), words);
    [[unroll]] for (uint j = 0; j < 8; j++)
        raw[8 + j] = words[j] >> 2 * pair;
#endif
    uint shift = 16 * (pair % 2), low = word_at(packed, 0) >> shift, middle = word_at(packed, 1) >> shift;
    uint last = word_at(packed, 2) >> shift;
    vec2 d = halves_at(ds);
    [[unroll]] for (uint s = 0; s < 2; s++) {
        uint one = low >> 8 * s & 255u, two = middle >> 8 * s & 255u, rest = last >> 8 * s & 255u;
        scales[s] = d.x * float(pair < 2 ? one & 63u : rest & 15u | one >> 6 << 4);
        minima[s] = d.y * float(pair < 2 ? two & 63u : rest >> 4 | two >> 6 << 4);
    }
}

void unit_quants(uint raw[UNIT_WORDS], uint s, out vec4 q[8])
{
    [[unroll]] for (uint j = 0; j < 8; j++) {
        uint four = raw[j] >> 4 * s & 0x0f0f0f0fu;
#ifdef QV_FORMAT_Q5_K
        four |= (raw[8 + j] >> s & 0x01010101u) << 4;
#endif
        q[j] = vec4(bytes_of(four, 0, 255u));
    }
}

#elif defined(QV_FORMAT_Q6_K)
const uint UNIT_PIECES = 2, UNIT_WORDS = 16;
#define QV_SPAN 16

uint unit_piece(uint u, uint s)
{
    return u / 2 * 4 + u % 2 + 2 * s;
}

void unit_load(place row, uint blocks, uint u, out uint raw[UNIT_WORDS], out float scales[4], out float minima[2])
{
    uint b = u / 4, upper = u / 2 % 2, odd = u % 2;
    uint words[8];
    words_32(part(row, blocks, b, 0) + 64 * upper + 32 * odd, words);
    [[unroll]] for (uint j = 0; j < 8; j++)
        raw[j] = words[j];
    words_32(part(row, blocks, b, 1) + 32 * upper, words);
    [[unroll]] for (uint j = 0; j < 8; j++)
        raw[8 + j] = words[j] >> 2 * odd;
    place at = part(row, blocks, b, 2) + 8 * upper + 2 * odd;
    float d = 0.25 * f32_from_f16(half_at(part(row, blocks, b, 3)));
    [[unroll]] for (uint s = 0; s < 2; s++) {
        uint both = half_at(at + 4 * s);
        scales[2 * s] = d * float(int(both << 24) >> 24);
        scales[2 * s + 1] = d * float(int(both << 16) >> 24);
    }
}

/* Four numbers at once, as signed bytes of four times q: scales are a quarter. */
void unit_quants(uint raw[UNIT_WORDS], uint s, out vec4 q[8])
{
    [[unroll]] for (uint j = 0; j < 8; j++) {
        uint four = raw[j] >> 4 * s & 0x0f0f0f0fu | (raw[8 + j] >> 4 * s & 0x03030303u) << 4;
        q[j] = signed_bytes((four ^ 0x20202020u) << 2);
    }
}

#elif defined(QV_FORMAT_Q8_0) || defined(QV_FORMAT_Q4_0)
const uint UNIT_PIECES = 1, UNIT_WORDS = 8;
#define QV_SPAN 32

uint unit_piece(uint u, uint s)
{
    return u;
}

void unit_load(place row, uint blocks, uint u, out uint raw[UNIT_WORDS], out float scales[1], out float minima[1])
{
    scales[0] = f32_from_f16(half_at(part(row, blocks, u, 1)));
#if defined(QV_FORMAT_Q8_0)
    words_32(part(row, blocks, u, 0), raw);
#else
    uint words[4];
    words_16(part(row, blocks, u, 0), words);
    [[unroll]] for (uint j = 0; j < 4; j++)
        raw[j] = words[j];
#endif
}

void unit_quants(uint raw[UNIT_WORDS], uint s, out vec4 q[8])
{
#if defined(QV_FORMAT_Q8_0)
    [[unroll]] for (uint j = 0; j < 8; j++)
        q[j] = signed_bytes(raw[j]);
#else
    [[unroll]] for (uint j = 0; j < 8; j++)
        q[j] = vec4(ivec4(bytes_of(raw[j % 4], j / 4 * 4, 15u)) - 8);
#endif
}

#else
#define QV_WHOLE_UNITS 1 /* weights_32 is all there is */
const uint UNIT_PIECES = 1;
#define QV_SPAN 32

uint unit_piece(uint u, uint s)
{
    return u;
}
#endif
#endif
