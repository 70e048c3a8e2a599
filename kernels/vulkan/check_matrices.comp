#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/check_matrices.comp: no kernel: whether it compiles tells the build if the compiler knows cooperative matrices. */
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
layout(local_size_x = 32) in;
layout(constant_id = 7) const uint HEIGHT = 16;
shared float16_t from[256];

void main()
{
    coopmat<float16_t, gl_ScopeSubgroup, HEIGHT, 16, gl_MatrixUseA> m;
    coopMatLoad(m, from, 0, 16, gl_CooperativeMatrixLayoutRowMajor);
}
