#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/rope.comp: rotary position embedding. The table tells for each pair how much of a turn a position is, in units of
 * 2^-64: a product with the position that wraps around is the fraction of a turn, exact for any position. x: pairs and the features
 * after them; y: rows of all heads. Built-in sines are only good to 2^-11, so there is one of our own. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint NEOX = 0;
layout(constant_id = 2) const uint DIVIDES = 0; /* there are factors */

layout(push_constant, scalar) uniform block { qv_rope_params p; };

/* The next so many bits of a long division by m, of 24 bits: at most 8, which an inverse that is off by a few units tells to one. */
uint divide_digit(inout uint rest, uint m, float inverse, uint bits, uint next)
{
    uint n = rest << bits | next, q = uint(float(n) * inverse);
    int left = int(n - q * m), step = left < 0 ? -1 : left >= int(m) ? 1 : 0;
    rest = uint(left - step * int(m));
    return q + uint(step);
}

/* units / factor. The quotient is taken in integers: a float's mantissa is one, and its exponent a shift. By digits, because devices
 * divide numbers of 64 bits bit by bit. */
uint64_t divide(uint64_t units, float factor)
{
    uint bits = floatBitsToUint(factor), rest = 0;
    int shift = 150 - int(bits >> 23 & 255u); /* factor = mantissa·2^-shift */
    uint mantissa = bits & 0x7fffffu | 0x800000u;
    float inverse = 1.0 / float(mantissa);
    uint64_t q = 0;
    for (int at = 56; at >= 0; at -= 8)
        q = q << 8 | divide_digit(rest, mantissa, inverse, 8, uint(units >> at) & 255u);
    if (shift <= 0)
        return shift > -64 ? q >> uint(-shift) : 0;
    if (shift > 40)
        return shift < 64 ? q << uint(shift) : 0;
    for (; shift >= 8; shift -= 8)
        q = q << 8 | divide_digit(rest, mantissa, inverse, 8, 0);
    return shift > 0 ? q << uint(shift) | divide_digit(rest, mantissa, inverse, uint(shift), 0) : q;
}

/* cos and sin of a fraction of a turn: an eighth of a turn around each quarter, then the Taylor series */
vec2 turn(uint fraction)
{
    uint quarter = fraction + 0x20000000u >> 30;
    float r = float(int(fraction - (quarter << 30))) * 1.4629180792671596e-9; /* 2π/2^32 */
    float s = r * r;
    float sine = r + r * s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s / 362880.0)));
    float cosine = 1.0 + s * (-0.5 + s * (1.0 / 24.0 + s * (-1.0 / 720.0 + s * (1.0 / 40320.0 - s / 3628800.0))));
    switch (quarter) {
    case 1u: return vec2(-sine, cosine);
    case 2u: return vec2(-cosine, -sine);
    case 3u: return vec2(sine, -cosine);
    default: return vec2(cosine, sine);
    }
}

void rotate(f32s x, f32s to, uint pair, int position)
{
    uint64_t units = u64s(p.table).v[pair];
    if (DIVIDES != 0)
        units = divide(units, f32s(p.factors).v[pair]);
    vec2 cs = turn(uint(uint64_t(int64_t(position)) * units >> 32)) * p.magnitude;
    uint first = NEOX != 0 ? pair : 2 * pair, second = NEOX != 0 ? pair + p.n_dims / 2 : 2 * pair + 1;
    float a = x.v[first], b = x.v[second];
    to.v[first] = a * cs.x - b * cs.y;
    to.v[second] = a * cs.y + b * cs.x;
}

void main()
{
    uint items = live_rows(p.live, p.rows, p.x) * p.heads, pairs = p.n_dims / 2, rest = p.n - p.n_dims;
    for (uint item = gl_WorkGroupID.y; item < items; item += gl_NumWorkGroups.y) {
        uint row = item / p.heads, head = item % p.heads;
        f32s x = f32s(row_of(p.x, head, p.x_head, row, p.x_row)), to = f32s(row_of(p.dst, head, p.dst_head, row, p.dst_row));
        int position = i32s(p.positions).v[row];
        for (uint i = gl_GlobalInvocationID.x; i < pairs + rest; i += gl_NumWorkGroups.x * gl_WorkGroupSize.x) {
            if (i < pairs)
                rotate(x, to, i, position);
            else
                to.v[p.n_dims + i - pairs] = x.v[p.n_dims + i - pairs];
        }
    }
}
