/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_epilogue.glsl: what becomes of a matmul's sum: scales, biases, activation, the gate, the residual. Reads
 * the push constants p and the constant GATED of the kernel that includes it. */

void finish(uint m, uint row, float sum, float sum2)
{
    float y = p.scale * sum;
    if (p.bias != 0)
        y += p.bias_scale * f32s(p.bias).v[m];
    y = activate(p.act, y);
    if (GATED != 0) {
        float other = p.scale2 * sum2;
        if (p.bias2 != 0)
            other += p.bias_scale2 * f32s(p.bias2).v[m];
        y *= other;
    }
    if (p.residual != 0)
        y += f32s(p.residual + uint64_t(row) * p.residual_row).v[m];
    f32s(p.dst + uint64_t(row) * p.dst_row).v[m] = y;
}
