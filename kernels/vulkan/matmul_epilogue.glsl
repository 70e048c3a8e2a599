/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_epilogue.glsl: what becomes of a matmul's sum: scales, biases, activation, the gate, the residual. Reads
 * the parameters p and the constant GATED of the kernel that includes it; with QV_EXPERTS also `expert` and result_at of
 * operands.glsl, and has no residual: expert_sum.comp adds it. With QV_TEXELS p.part says of what the sum is. */

/* What the activation takes, of the sum of row m of W. */
float biased(uint m, float sum)
{
#ifdef QV_EXPERTS
    float y = sum;
    uint64_t e = min(expert, p.experts - 1);
    if (HAS_SCALES) /* there must be something to load, as in live_rows */
        y *= f32s(RARE(scales) != 0 ? RARE(scales) + 4 * e : p.dst).v[0];
    if (HAS_BIAS)
        y += f32s(RARE(bias) + e * RARE(bias_expert)).v[m];
#else
    float y = p.scale * sum;
    if (p.bias != 0)
        y += p.bias_scale * f32s(p.bias).v[m];
#endif
    return y;
}

float joined(float y, float other)
{
#ifdef QV_EXPERTS
    return p.act == 8u ? gate(p.act, y, other, RARE(alpha), RARE(limit)) : activate(p.act, y) * other;
#else
    return activate(p.act, y) * other;
#endif
}

#ifdef QV_EXPERTS
f32s result_row(uint row)
{
    return f32s(result_at(row));
}
#else
f32s result_row(uint row)
{
    return f32s(p.dst + uint64_t(row) * p.dst_row);
}
#endif

void put(uint m, uint row, float y)
{
#ifdef QV_EXPERTS
    y = expert < p.experts ? y : 0.0;
#else
    if (p.residual != 0)
        y += f32s(p.residual + uint64_t(row) * p.residual_row).v[m];
#endif
    result_row(row).v[m] = y;
}

#ifdef QV_TEXELS
void finish(uint m, uint row, float sum)
{
    float y = biased(m, sum);
    if (p.part == 0)
        y = activate(p.act, y);
    if (p.part == 2)
        y = joined(result_row(row).v[m], y);
    put(m, row, y);
}
#else
void finish(uint m, uint row, float sum, float sum2)
{
    float y = biased(m, sum);
    if (GATED == 0) {
        put(m, row, activate(p.act, y));
        return;
    }
#ifdef QV_EXPERTS
    float other = sum2;
    if (p.bias2 != 0)
        other += f32s(p.bias2 + uint64_t(min(expert, p.experts - 1)) * p.bias2_expert).v[m];
#else
    float other = p.scale2 * sum2;
    if (p.bias2 != 0)
        other += p.bias_scale2 * f32s(p.bias2).v[m];
#endif
    put(m, row, joined(y, other));
}
#endif
