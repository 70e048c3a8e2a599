/* SPDX-License-Identifier: MIT
 * kernels/vulkan/bounds.glsl: what no weight of a block is larger than, from the block's scales alone: a bound that may be too
 * high, but not by much. Formats without scales are looked through. */

#if defined(QV_PLAIN) || defined(QV_FORMAT_IQ1_M)
#define QV_NO_BOUNDS 1

/* The bits of a magnitude, which are in its order, NaN last; of elements [32·i, 32·i + 32). */
uint bound_of(uint64_t row, uint blocks, uint i)
{
    vec4 w[8];
    uvec4 most = uvec4(0);
    weights_32(row, blocks, i, w);
    [[unroll]] for (uint j = 0; j < 8; j++)
        most = max(most, floatBitsToUint(w[j]) & 0x7fffffffu);
    return max(max(most.x, most.y), max(most.z, most.w));
}

#else

/* QV_D: the part that the scale d is in, with QV_MINIMUM followed by that of minima; QV_MOST: a weight over d. */
#if defined(QV_FORMAT_Q4_0)
#define QV_D 1
#define QV_MOST 8.0
#elif defined(QV_FORMAT_Q4_1)
#define QV_D 1
#define QV_MOST 15.0
#define QV_MINIMUM 1.0
#elif defined(QV_FORMAT_Q5_0)
#define QV_D 2
#define QV_MOST 16.0
#elif defined(QV_FORMAT_Q5_1)
#define QV_D 2
#define QV_MOST 31.0
#define QV_MINIMUM 1.0
#elif defined(QV_FORMAT_Q8_0)
#define QV_D 1
#define QV_MOST 128.0
#elif defined(QV_FORMAT_IQ4_NL)
#define QV_D 1
#define QV_MOST 127.0
#elif defined(QV_FORMAT_Q2_K)
#define QV_D 2
#define QV_MOST (15.0 * 3.0)
#define QV_MINIMUM 15.0
#elif defined(QV_FORMAT_Q3_K)
#define QV_D 3
#define QV_MOST (32.0 * 4.0)
#elif defined(QV_FORMAT_Q4_K)
#define QV_D 2
#define QV_MOST (63.0 * 15.0)
#define QV_MINIMUM 63.0
#elif defined(QV_FORMAT_Q5_K)
#define QV_D 3
#define QV_MOST (63.0 * 31.0)
#define QV_MINIMUM 63.0
#elif defined(QV_FORMAT_Q6_K)
#define QV_D 3
#define QV_MOST (128.0 * 32.0)
#elif defined(QV_FORMAT_IQ4_XS)
#define QV_D 2
#define QV_MOST (32.0 * 127.0)
#elif defined(QV_FORMAT_TQ1_0)
#define QV_D 2
#define QV_MOST 1.0
#elif defined(QV_FORMAT_TQ2_0)
#define QV_D 1
#define QV_MOST 1.0
#elif defined(QV_FORMAT_IQ1_S)
#define QV_D 2
#define QV_MOST (15.0 * 1.125)
#elif defined(QV_FORMAT_IQ2_XXS)
#define QV_D 1
#define QV_MOST (15.5 * 0.25 * 43.0)
#elif defined(QV_FORMAT_IQ2_XS)
#define QV_D 2
#define QV_MOST (15.5 * 0.25 * 43.0)
#elif defined(QV_FORMAT_IQ2_S)
#define QV_D 3
#define QV_MOST (15.5 * 0.25 * 43.0)
#elif defined(QV_FORMAT_IQ3_XXS)
#define QV_D 2
#define QV_MOST (15.5 * 0.5 * 62.0)
#elif defined(QV_FORMAT_IQ3_S)
#define QV_D 3
#define QV_MOST (31.0 * 15.0)
#endif

/* The bits of a magnitude, which are in its order, NaN last; of block b. */
uint bound_of(uint64_t row, uint blocks, uint b)
{
#ifdef QV_FORMAT_MXFP4
    float bound = 12.0 * uintBitsToFloat(max(byte_at(part(row, blocks, b, 1), 0), 2u) - 1u << 23); /* numbers are in halves */
#elif defined(QV_MINIMUM)
    vec2 dm = abs(halves_at(part(row, blocks, b, QV_D)));
    float bound = QV_MOST * dm.x + QV_MINIMUM * dm.y;
#else
    float bound = QV_MOST * f32_from_f16(half_at(part(row, blocks, b, QV_D)));
#endif
    return floatBitsToUint(bound) & 0x7fffffffu;
}
#endif
