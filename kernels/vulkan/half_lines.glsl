/* SPDX-License-Identifier: MIT
 * kernels/vulkan/half_lines.glsl: lines of matmul_tiles.comp in 16-bit floats, two tokens side by side as pair_activations.comp
 * left them. An instruction multiplies one weight with both, and 16 such products are added up in 16 bits before they are
 * multiplied with the weights' scale as floats and added to float sums.
 *
 * Formats with QV_INTS come as the whole numbers that are stored, less a CENTRE so that they are small: element = scale·(byte −
 * CENTRE) + low, and what low adds is low times the sum of the activations. Others come as floats and are multiplied by the power
 * of two that brings the largest of 32 to [64, 128). Either way no sum of 16 passes 2^15, and no scale is ever a 16-bit float. */

#ifdef QV_INTS
#if defined(QV_FORMAT_Q4_1) || defined(QV_FORMAT_Q4_K)
#define QV_LOW 1
const int CENTRE = 8;
#elif defined(QV_FORMAT_Q5_1) || defined(QV_FORMAT_Q5_K)
#define QV_LOW 1
const int CENTRE = 16;
#else
const int CENTRE = ZERO;
#endif
#endif

const uint PER_LINE = 2; /* tokens */
const uint LINE = 5, X_LINE = 9;
#ifdef QV_LOW
const uint PARTS = 9;
#else
const uint PARTS = 8; /* lines are an odd number of 16 bytes all the same */
#endif

/* Halves of 16 elements; a word has elements 0 and 2 or 1 and 3 of four. */
struct weight_line {
    uvec4 q[4];
    vec2 scale, low;
};
#define activation_part uvec4

shared uvec4 w_lines[BUFFERS * GROUP * LINE];
shared uvec4 x_lines[BUFFERS * COLUMNS / PER_LINE * X_LINE];

#ifdef QV_INTS
/* Two bytes each are put behind the leading bits of 1024, where the steps of a 16-bit float are 1. */
void load_weights(uint64_t row, uint i, out weight_line w)
{
    uvec4 q[2];
    chunk_ints(row, p.k / BLOCK_ELEMENTS, i, q, w.scale, w.low);
#ifdef QV_FORMAT_Q8_0
    const uint flip = 0x80808080u; /* from signed bytes to such that begin at 0 */
    const float offset = 1024.0 + 128.0;
#else
    const uint flip = 0;
    const float offset = 1024.0 + float(CENTRE);
#endif
    [[unroll]] for (uint j = 0; j < 8; j++) {
        uint four = q[j / 4][j % 4] ^ flip;
        f16vec2 even = unpackFloat2x16(four & 0x00ff00ffu | 0x64006400u);
        f16vec2 odd = unpackFloat2x16(four >> 8 & 0x00ff00ffu | 0x64006400u);
        w.q[j / 2][2 * (j % 2)] = packFloat2x16(even - float16_t(offset));
        w.q[j / 2][2 * (j % 2) + 1] = packFloat2x16(odd - float16_t(offset));
    }
    w.low += float(CENTRE - ZERO) * w.scale;
}

#else
void load_weights(uint64_t row, uint i, out weight_line w)
{
    vec4 v[8];
#ifdef QV_PLAIN
    [[unroll]] for (uint c = 0; c < 4; c++) {
        vec4 two[2];
        chunk(row, 0, 4 * i + c, two);
        v[2 * c] = two[0];
        v[2 * c + 1] = two[1];
    }
#else
    chunk(row, p.k / BLOCK_ELEMENTS, i, v);
#endif
    vec4 four = abs(v[0]);
    [[unroll]] for (uint j = 1; j < 8; j++)
        four = max(four, abs(v[j]));
    float most = max(max(four.x, four.y), max(four.z, four.w));
    int power = clamp(6 + 127 - int(floatBitsToUint(most) >> 23 & 255u), -126, 126);
    float scale = uintBitsToFloat(uint(127 + power) << 23);
    [[unroll]] for (uint j = 0; j < 8; j++) {
        f16vec4 h = f16vec4(v[j] * scale);
        w.q[j / 2][2 * (j % 2)] = packFloat2x16(h.xz);
        w.q[j / 2][2 * (j % 2) + 1] = packFloat2x16(h.yw);
    }
    w.scale = vec2(uintBitsToFloat(uint(127 - power) << 23));
    w.low = vec2(0.0);
}
#endif

void store_weights(uint at, weight_line w)
{
    [[unroll]] for (uint j = 0; j < 4; j++)
        w_lines[at + j] = w.q[j];
    w_lines[at + 4] = floatBitsToUint(vec4(w.scale, w.low));
}

uvec4 load_activations(uint64_t row, uint i, uint part)
{
#ifdef QV_PLAIN
    uint start = STEP * i, second = start + 16;
#else
    uint start = chunk_start(i), second = start + GAP;
#endif
#ifdef QV_LOW
    if (part == 8)
        return uvec4(uvec2s(row + 4 * p.k).v[start / 16], uvec2s(row + 4 * p.k).v[second / 16]);
#endif
    return uvec4s(row).v[(part < 4 ? start : second) / 4 + part % 4];
}

/* What undoes the power of two that a token was multiplied with. */
float scale_of(uint token)
{
    return f32s(p.x + uint64_t(token / 2) * p.x_row + (9 * p.k / 2 + 15) / 16 * 16).v[token % 2];
}

/* Half a line at a time, row by row, so that few numbers are alive. */
void multiply(uint w_at, uint x_at)
{
    [[dont_unroll]] for (uint h = 0; h < 2; h++) {
        f16vec2 x[TOKENS / 2][16];
        [[unroll]] for (uint t = 0; t < TOKENS / 2; t++)
            [[unroll]] for (uint j = 0; j < 16; j++)
                x[t][j] = unpackFloat2x16(x_lines[x_at + t * ROWS * X_LINE + 4 * h + j / 4][j % 4]);
#ifdef QV_LOW
        vec2 x_sums[TOKENS / 2];
        [[unroll]] for (uint t = 0; t < TOKENS / 2; t++) {
            vec4 facts = uintBitsToFloat(x_lines[x_at + t * ROWS * X_LINE + 8]);
            x_sums[t] = h == 0 ? facts.xy : facts.zw;
        }
#endif
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            uint row = w_at + r * 8 * LINE;
            f16vec2 run[TOKENS / 2];
            [[unroll]] for (uint j = 0; j < 16; j++) {
                f16vec2 two = unpackFloat2x16(w_lines[row + 2 * h + j / 8][j / 4 % 2 * 2 + j % 2]);
                float16_t w = j / 2 % 2 == 0 ? two.x : two.y;
                [[unroll]] for (uint t = 0; t < TOKENS / 2; t++)
                    run[t] = j == 0 ? w * x[t][j] : run[t] + w * x[t][j];
            }
            vec4 facts = uintBitsToFloat(w_lines[row + 4]);
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                float sum = sums[r * TOKENS + t] + (h == 0 ? facts.x : facts.y) * float(run[t / 2][t % 2]);
#ifdef QV_LOW
                sum += (h == 0 ? facts.z : facts.w) * x_sums[t / 2][t % 2];
#endif
                sums[r * TOKENS + t] = sum;
            }
        }
    }
}
