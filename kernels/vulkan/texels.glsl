/* SPDX-License-Identifier: MIT
 * kernels/vulkan/texels.glsl: memory as arrays of texels: the same bytes of W in texels of 16, 4 and 2 bytes, and x in fours. */
layout(binding = 0) uniform usamplerBuffer w_quads;
layout(binding = 1) uniform usamplerBuffer w_words;
layout(binding = 2) uniform usamplerBuffer w_halves;
layout(binding = 3) uniform samplerBuffer x_fours;

uvec4 quad_texel(uint i)
{
    return texelFetch(w_quads, int(i));
}

uint word_texel(uint i)
{
    return texelFetch(w_words, int(i)).x;
}

uint half_texel(uint i)
{
    return texelFetch(w_halves, int(i)).x;
}

vec4 x_texel(uint i)
{
    return texelFetch(x_fours, int(i));
}
