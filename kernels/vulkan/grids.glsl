/* SPDX-License-Identifier: MIT
 * kernels/vulkan/grids.glsl: the formats whose elements are points of a grid. The points are too many for constants of a
 * kernel: they are in memory, at `grid`, as in kernels/common/grids.h. */

uint64_t grid; /* kernels set it from their parameters */

uint point_at(uint i)
{
    return uint(u16s(grid).v[i]);
}

/* Seven signs and the eighth that makes their number even. */
uint even_signs(uint seven)
{
    uint signs = seven & 127u;
    return signs | (uint(bitCount(signs)) & 1u) << 7;
}

float sign_of(uint signs, uint i)
{
    return (signs >> i & 1u) != 0u ? -1.0 : 1.0;
}

#if defined(QV_FORMAT_IQ2_XXS) || defined(QV_FORMAT_IQ2_XS) || defined(QV_FORMAT_IQ2_S)
/* Elements 4·half_of … of a point of eight. */
vec4 four_of_eight(float scale, uint point, uint signs, uint half_of)
{
    vec4 v;
    [[unroll]] for (uint e = 0; e < 4; e++) {
        uint step = point >> 2 * (4 * half_of + e) & 3u;
        v[e] = scale * sign_of(signs, 4 * half_of + e) * (step == 0u ? 8.0 : step == 1u ? 25.0 : step == 2u ? 43.0 : 0.0);
    }
    return v;
}

void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8;
#ifdef QV_FORMAT_IQ2_S
    place qs = part(row, blocks, b, 0) + piece * 4;
    float d = f32_from_f16(half_at(part(row, blocks, b, 3)));
    uint low = word_at(qs, 0), all_signs = word_at(qs + 32, 0), high = byte_at(part(row, blocks, b, 1), piece);
    uint nibbles = byte_at(part(row, blocks, b, 2), piece);
#else
    place qs = part(row, blocks, b, 0) + piece * 8;
    uint first = word_at(qs, 0), second = word_at(qs, 1);
#ifdef QV_FORMAT_IQ2_XS
    float d = f32_from_f16(half_at(part(row, blocks, b, 2)));
    uint nibbles = byte_at(part(row, blocks, b, 1), piece);
#else
    float d = f32_from_f16(half_at(part(row, blocks, b, 1)));
    float scale = d * (0.5 + float(second >> 28)) * 0.25;
#endif
#endif
    [[unroll]] for (uint g = 0; g < 4; g++) {
#if defined(QV_FORMAT_IQ2_XXS)
        uint point = point_at(first >> 8 * g & 255u), signs = even_signs(second >> 7 * g);
#else
        float scale = d * (0.5 + float(nibbles >> g / 2 * 4 & 15u)) * 0.25;
#if defined(QV_FORMAT_IQ2_XS)
        uint q = (g < 2 ? first : second) >> g % 2 * 16 & 0xffffu;
        uint point = point_at(q & 511u), signs = even_signs(q >> 9);
#else
        uint point = point_at(low >> 8 * g & 255u | (high >> 2 * g & 3u) << 8), signs = all_signs >> 8 * g & 255u;
#endif
#endif
        w[2 * g] = four_of_eight(scale, point, signs, 0);
        w[2 * g + 1] = four_of_eight(scale, point, signs, 1);
    }
}

#elif defined(QV_FORMAT_IQ3_XXS) || defined(QV_FORMAT_IQ3_S)
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8;
    place qs = part(row, blocks, b, 0) + piece * 8;
    uint first = word_at(qs, 0), second = word_at(qs, 1);
#ifdef QV_FORMAT_IQ3_XXS
    uint rest = word_at(part(row, blocks, b, 1), piece);
    float scale = f32_from_f16(half_at(part(row, blocks, b, 2))) * (0.5 + float(rest >> 28)) * 0.5;
#else
    place more = part(row, blocks, b, 1);
    uint ninth = byte_at(more, piece), all_signs = word_at(more + 8, piece);
    uint nibble = byte_at(part(row, blocks, b, 2), piece / 2) >> piece % 2 * 4 & 15u;
    float scale = f32_from_f16(half_at(part(row, blocks, b, 3))) * float(1 + 2 * nibble);
#endif
    [[unroll]] for (uint j = 0; j < 8; j++) {
        uint low = (j < 4 ? first : second) >> j % 4 * 8 & 255u;
#ifdef QV_FORMAT_IQ3_XXS
        uint point = point_at(low), signs = even_signs(rest >> j / 2 * 7) >> j % 2 * 4;
#else
        uint point = point_at(low | (ninth >> j & 1u) << 8), signs = all_signs >> 4 * j;
#endif
        [[unroll]] for (uint e = 0; e < 4; e++) {
            uint step = point >> 4 * e & 7u;
#ifdef QV_FORMAT_IQ3_XXS
            float value = step == 7u ? 62.0 : float(4 + 8 * step);
#else
            float value = float(1 + 2 * step);
#endif
            w[j][e] = scale * sign_of(signs, e) * value;
        }
    }
}

#else
/* IQ1: elements of −1, 0 or 1, all moved by an eighth. */
void weights_32(place row, uint blocks, uint i, out vec4 w[8])
{
    uint b = i / 8, piece = i % 8, low = word_at(part(row, blocks, b, 0), piece);
#ifdef QV_FORMAT_IQ1_S
    uint all = half_at(part(row, blocks, b, 1) + 2 * piece);
    float scale = f32_from_f16(half_at(part(row, blocks, b, 2))) * float(2 * (all >> 12 & 7u) + 1);
#else
    place scales = part(row, blocks, b, 2);
    uint one = word_at(scales, 0), two = word_at(scales, 1), highs = half_at(part(row, blocks, b, 1) + 2 * piece);
    float d = f32_from_f16(one >> 12 & 15u | one >> 28 << 4 | (two >> 12 & 15u) << 8 | two >> 28 << 12);
    uint fourth = half_at(scales + piece / 2 * 2);
#endif
    [[unroll]] for (uint g = 0; g < 4; g++) {
#ifdef QV_FORMAT_IQ1_S
        uint high = all >> 3 * g & 7u;
        bool down = all >> 15 != 0u;
#else
        uint nibble = highs >> 4 * g & 15u, high = nibble & 7u;
        bool down = nibble >> 3 != 0u;
        float scale = d * float(2 * (fourth >> (piece * 2 + g / 2) % 4 * 3 & 7u) + 1);
#endif
        uint point = point_at(low >> 8 * g & 255u | high << 8);
        [[unroll]] for (uint e = 0; e < 8; e++)
            w[2 * g + e / 4][e % 4] = scale * (float(int(point >> 2 * e & 3u) - 1) + (down ? -0.125 : 0.125));
    }
}
#endif
