/* SPDX-License-Identifier: MIT
 * kernels/vulkan/chunks.glsl: what one invocation takes of a row of weights at a time, so that neighbouring invocations read
 * neighbouring 16 bytes and each byte is read once.
 *
 * A chunk is CHUNK elements in CHUNK / 4 vectors; its second half begins GAP elements behind the first, because 16 bytes of
 * nibbles hold elements that lie apart. Formats with QV_INTS also give the numbers as they are stored, four bytes a word:
 * element = scale·(byte − ZERO) + low, with a scale and a low for each half, without QV_HAS_LOW low is 0; and what they are made
 * from, so that it can be loaded long before it is needed. */

#if defined(QV_PLAIN)
layout(constant_id = 11) const uint WIDE_WEIGHTS = 0; /* rows begin at multiples of 16 bytes */

const uint CHUNK = 8, GAP = 4;

uint chunk_start(uint i)
{
    return CHUNK * i;
}

void chunk(uint64_t row, uint blocks, uint i, out vec4 w[CHUNK / 4])
{
    if (WIDE_WEIGHTS != 0) {
#ifdef QV_FORMAT_F32
        w[0] = vec4s(row + 32 * i).v[0];
        w[1] = vec4s(row + 32 * i).v[1];
#else
        uvec4 words = uvec4s(row + 16 * i).v[0];
        [[unroll]] for (uint j = 0; j < 2; j++) {
            uvec2 two = j == 0 ? words.xy : words.zw;
#ifdef QV_FORMAT_F16
            w[j] = vec4(unpackHalf2x16(two.x), unpackHalf2x16(two.y));
#else
            w[j] = uintBitsToFloat(uvec4(two.x << 16, two.x & 0xffff0000u, two.y << 16, two.y & 0xffff0000u));
#endif
        }
#endif
    } else {
        [[unroll]] for (uint j = 0; j < 2; j++)
            [[unroll]] for (uint e = 0; e < 4; e++)
                w[j][e] = weight(row, CHUNK * i + 4 * j + e);
    }
}

#else

const uint CHUNK = 32;

/* Word j of four of 16 bytes that begin at a multiple of 16 in planes. */
uvec4 four_words(uint64_t at)
{
    if (PACKED != 0)
        return uvec4s(at).v[0];
    return uvec4(disk_word(at, 0), disk_word(at, 1), disk_word(at, 2), disk_word(at, 3));
}

#if defined(QV_FORMAT_Q4_0) || defined(QV_FORMAT_Q4_1) || defined(QV_FORMAT_Q5_0) || defined(QV_FORMAT_Q5_1)
#define QV_INTS 1
#if defined(QV_FORMAT_Q4_0)
const int ZERO = 8;
#elif defined(QV_FORMAT_Q5_0)
const int ZERO = 16;
#else
const int ZERO = 0;
#define QV_HAS_LOW 1
#endif
const uint GAP = 16;

void load_chunk(uint64_t row, uint blocks, uint i, out uvec4 raw[3])
{
    raw[0] = four_words(part(row, blocks, i, 0));
#if defined(QV_FORMAT_Q5_0) || defined(QV_FORMAT_Q5_1)
    raw[1].x = word_at(part(row, blocks, i, 1), 0);
#endif
#if defined(QV_FORMAT_Q4_0)
    raw[1].y = half_at(part(row, blocks, i, 1));
#elif defined(QV_FORMAT_Q5_0)
    raw[1].y = half_at(part(row, blocks, i, 2));
#elif defined(QV_FORMAT_Q4_1)
    raw[1].y = word_at(part(row, blocks, i, 1), 0);
#else
    raw[1].y = word_at(part(row, blocks, i, 2), 0);
#endif
}

void ints_of(uvec4 raw[3], uint i, out uvec4 q[2], out vec2 scale, out vec2 low)
{
    q[0] = raw[0] & 0x0f0f0f0fu;
    q[1] = raw[0] >> 4 & 0x0f0f0f0fu;
#if defined(QV_FORMAT_Q5_0) || defined(QV_FORMAT_Q5_1)
    uint fifths = raw[1].x;
    /* four bits to bit 4 of four bytes */
    [[unroll]] for (uint h = 0; h < 2; h++)
        q[h] |= ((uvec4(fifths, fifths >> 4, fifths >> 8, fifths >> 12) >> 16 * h & 15u) * 0x00204081u & 0x01010101u) << 4;
#endif
    scale = vec2(f32_from_f16(raw[1].y & 0xffffu));
#if defined(QV_FORMAT_Q4_1) || defined(QV_FORMAT_Q5_1)
    low = vec2(f32_from_f16(raw[1].y >> 16));
#else
    low = vec2(0.0);
#endif
}

#elif defined(QV_FORMAT_Q8_0)
#define QV_INTS 1
const int ZERO = 0;
const uint GAP = 16;

void load_chunk(uint64_t row, uint blocks, uint i, out uvec4 raw[3])
{
    uint64_t at = part(row, blocks, i, 0);
    raw[0] = four_words(at);
    raw[1] = four_words(at + 16);
    raw[2].x = half_at(part(row, blocks, i, 1));
}

void ints_of(uvec4 raw[3], uint i, out uvec4 q[2], out vec2 scale, out vec2 low)
{
    q[0] = raw[0];
    q[1] = raw[1];
    scale = vec2(f32_from_f16(raw[2].x));
    low = vec2(0.0);
}

#elif defined(QV_FORMAT_Q4_K) || defined(QV_FORMAT_Q5_K)
/* 16 bytes are half of piece 2·pair as low nibbles, and of the next piece as high ones. */
#define QV_INTS 1
#define QV_HAS_LOW 1
#define QV_CHUNK_START 256 * (i / 8) + 64 * (i % 8 / 2) + 16 * (i % 2)
const int ZERO = 0;
const uint GAP = 32;

void load_chunk(uint64_t row, uint blocks, uint i, out uvec4 raw[3])
{
    uint b = i / 8, c = i % 8;
    raw[0] = four_words(part(row, blocks, b, 0) + 16 * c);
#ifdef QV_FORMAT_Q5_K
    raw[1] = four_words(part(row, blocks, b, 1) + 16 * (c % 2));
    uint64_t scales = part(row, blocks, b, 2), ds = part(row, blocks, b, 3);
#else
    uint64_t scales = part(row, blocks, b, 1), ds = part(row, blocks, b, 2);
#endif
    raw[2] = uvec4(word_at(scales, 0), word_at(scales, 1), word_at(scales, 2), word_at(ds, 0));
}

void ints_of(uvec4 raw[3], uint i, out uvec4 q[2], out vec2 scale, out vec2 low)
{
    uint pair = i % 8 / 2, shift = 16 * (pair % 2);
    q[0] = raw[0] & 0x0f0f0f0fu;
    q[1] = raw[0] >> 4 & 0x0f0f0f0fu;
#ifdef QV_FORMAT_Q5_K
    q[0] |= (raw[1] >> 2 * pair & 0x01010101u) << 4;
    q[1] |= (raw[1] >> 2 * pair + 1 & 0x01010101u) << 4;
#endif
    /* six bits each: of the first four pieces together, of the others four and two */
    uvec2 one = uvec2(raw[2].x >> shift, raw[2].x >> shift + 8) & 255u;
    uvec2 two = uvec2(raw[2].y >> shift, raw[2].y >> shift + 8) & 255u;
    uvec2 last = uvec2(raw[2].z >> shift, raw[2].z >> shift + 8) & 255u;
    uvec2 s = pair < 2 ? one & 63u : last & 15u | one >> 6 << 4, m = pair < 2 ? two & 63u : last >> 4 | two >> 6 << 4;
    scale = f32_from_f16(raw[2].w & 0xffffu) * vec2(s);
    low = -f32_from_f16(raw[2].w >> 16) * vec2(m);
}

#elif defined(QV_FORMAT_Q6_K)
/* 16 bytes of low nibbles are 16 elements, and as high nibbles the 16 that come 64 later. */
#define QV_INTS 1
#define QV_CHUNK_START 256 * (i / 8) + 128 * (i % 8 / 4) + 16 * (i % 4)
const int ZERO = 32;
const uint GAP = 64;

void load_chunk(uint64_t row, uint blocks, uint i, out uvec4 raw[3])
{
    uint b = i / 8, c = i % 8;
    raw[0] = four_words(part(row, blocks, b, 0) + 16 * c);
    raw[1] = four_words(part(row, blocks, b, 1) + 32 * (c / 4) + 16 * (c % 2));
    uint64_t scales = part(row, blocks, b, 2) + 8 * (c / 4) + c % 4;
    raw[2].xyz = uvec3(byte_at(scales, 0), byte_at(scales, 4), half_at(part(row, blocks, b, 3)));
}

void ints_of(uvec4 raw[3], uint i, out uvec4 q[2], out vec2 scale, out vec2 low)
{
    uint shift = i % 8 / 2 % 2 * 2;
    q[0] = raw[0] & 0x0f0f0f0fu | (raw[1] >> shift & 0x03030303u) << 4;
    q[1] = raw[0] >> 4 & 0x0f0f0f0fu | (raw[1] >> shift + 4 & 0x03030303u) << 4;
    scale = f32_from_f16(raw[2].z) * vec2(int(raw[2].x << 24) >> 24, int(raw[2].y << 24) >> 24);
    low = vec2(0.0);
}

#else
const uint GAP = 16;

void chunk(uint64_t row, uint blocks, uint i, out vec4 w[CHUNK / 4])
{
    weights_32(row, blocks, i, w);
}
#endif

uint chunk_start(uint i)
{
#ifdef QV_CHUNK_START
    return QV_CHUNK_START;
#else
    return CHUNK * i;
#endif
}

#ifdef QV_INTS
void chunk_ints(uint64_t row, uint blocks, uint i, out uvec4 q[2], out vec2 scale, out vec2 low)
{
    uvec4 raw[3];
    load_chunk(row, blocks, i, raw);
    ints_of(raw, i, q, scale, low);
}

void chunk(uint64_t row, uint blocks, uint i, out vec4 w[CHUNK / 4])
{
    uvec4 q[2];
    vec2 scale, low;
    chunk_ints(row, blocks, i, q, scale, low);
    [[unroll]] for (uint j = 0; j < CHUNK / 4; j++)
        w[j] = scale[j / 4] * (signed_bytes(q[j / 4][j % 4]) - float(ZERO)) + low[j / 4];
}
#endif
#endif
