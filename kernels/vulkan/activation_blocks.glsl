/* SPDX-License-Identifier: MIT
 * kernels/vulkan/activation_blocks.glsl: a row of activations in int8, as quantise_activations.comp leaves it in scratch memory:
 * the K numbers, then for each 32 of them eight bytes: the scale d (value = d·number) and the sums of the two halves' numbers, 16
 * bits each. Rows begin at multiples of 16 bytes. */

layout(buffer_reference, scalar, buffer_reference_align = 8) buffer uvec2s { uvec2 v[]; };

/* The scale, and the sum of the 16 numbers, of the half block that element i is in. */
void half_block(uint64_t row, uint k, uint i, out float d, out int sum)
{
    uvec2 facts = uvec2s(row + (k + i / 32 * 8)).v[0]; /* a distance of 32 bits: some devices add it while they load */
    d = uintBitsToFloat(facts.x);
    sum = int(facts.y << 16 * (1 - i / 16 % 2)) >> 16;
}
