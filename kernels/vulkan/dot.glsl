/* SPDX-License-Identifier: MIT
 * kernels/vulkan/dot.glsl: the sum of the products of four signed bytes with four others: the instruction of
 * SPV_KHR_integer_dot_product by its number, because not all compilers of GLSL know a name for it. */
#extension GL_EXT_spirv_intrinsics : require

spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int dot_of_bytes(uint a, uint b, spirv_literal int packed_4x8);
