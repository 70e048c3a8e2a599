/* SPDX-License-Identifier: MIT
 * kernels/vulkan/fields.h: the parts of a block of each format, read by C and GLSL alike.
 *
 * Blocks of 18, 34 or 210 bytes are only 2-byte aligned on disk, which costs a GPU several loads for each. On the device a row
 * of a weight is laid out in planes (layout 1): first the first part of all its blocks, then the second, and so on, each plane
 * beginning at a multiple of 16 bytes from the row's start. A block's parts are named in the order of their planes, the
 * largest first, by offset in the block on disk and size. Kernels read either layout with the same code: part f of block b is
 * at base(f) + b·stride(f). */
#ifndef QUERN_KERNELS_VULKAN_FIELDS_H
#define QUERN_KERNELS_VULKAN_FIELDS_H

#define QV_PLANE_ALIGN 16

/* Elements and bytes of a block; offsets and sizes of its parts, of which there are always four (empty ones at the end). */
/* qs d */
#define QV_Q4_0_ELEMENTS 32
#define QV_Q4_0_BYTES 18
#define QV_Q4_0_OFFSETS 2, 0, 0, 0
#define QV_Q4_0_SIZES 16, 2, 0, 0
/* qs d+m */
#define QV_Q4_1_ELEMENTS 32
#define QV_Q4_1_BYTES 20
#define QV_Q4_1_OFFSETS 4, 0, 0, 0
#define QV_Q4_1_SIZES 16, 4, 0, 0
/* qs qh d */
#define QV_Q5_0_ELEMENTS 32
#define QV_Q5_0_BYTES 22
#define QV_Q5_0_OFFSETS 6, 2, 0, 0
#define QV_Q5_0_SIZES 16, 4, 2, 0
/* qs qh d+m */
#define QV_Q5_1_ELEMENTS 32
#define QV_Q5_1_BYTES 24
#define QV_Q5_1_OFFSETS 8, 4, 0, 0
#define QV_Q5_1_SIZES 16, 4, 4, 0
/* qs d */
#define QV_Q8_0_ELEMENTS 32
#define QV_Q8_0_BYTES 34
#define QV_Q8_0_OFFSETS 2, 0, 0, 0
#define QV_Q8_0_SIZES 32, 2, 0, 0
/* qs d */
#define QV_IQ4_NL_ELEMENTS 32
#define QV_IQ4_NL_BYTES 18
#define QV_IQ4_NL_OFFSETS 2, 0, 0, 0
#define QV_IQ4_NL_SIZES 16, 2, 0, 0
/* qs e */
#define QV_MXFP4_ELEMENTS 32
#define QV_MXFP4_BYTES 17
#define QV_MXFP4_OFFSETS 1, 0, 0, 0
#define QV_MXFP4_SIZES 16, 1, 0, 0
/* qs scales d+dmin */
#define QV_Q2_K_ELEMENTS 256
#define QV_Q2_K_BYTES 84
#define QV_Q2_K_OFFSETS 16, 0, 80, 0
#define QV_Q2_K_SIZES 64, 16, 4, 0
/* qs hmask scales d */
#define QV_Q3_K_ELEMENTS 256
#define QV_Q3_K_BYTES 110
#define QV_Q3_K_OFFSETS 32, 0, 96, 108
#define QV_Q3_K_SIZES 64, 32, 12, 2
/* qs scales d+dmin */
#define QV_Q4_K_ELEMENTS 256
#define QV_Q4_K_BYTES 144
#define QV_Q4_K_OFFSETS 16, 4, 0, 0
#define QV_Q4_K_SIZES 128, 12, 4, 0
/* qs qh scales d+dmin */
#define QV_Q5_K_ELEMENTS 256
#define QV_Q5_K_BYTES 176
#define QV_Q5_K_OFFSETS 48, 16, 4, 0
#define QV_Q5_K_SIZES 128, 32, 12, 4
/* ql qh scales d */
#define QV_Q6_K_ELEMENTS 256
#define QV_Q6_K_BYTES 210
#define QV_Q6_K_OFFSETS 0, 128, 192, 208
#define QV_Q6_K_SIZES 128, 64, 16, 2
/* qs scales_l d+scales_h */
#define QV_IQ4_XS_ELEMENTS 256
#define QV_IQ4_XS_BYTES 136
#define QV_IQ4_XS_OFFSETS 8, 4, 0, 0
#define QV_IQ4_XS_SIZES 128, 4, 4, 0
/* qs qh d */
#define QV_TQ1_0_ELEMENTS 256
#define QV_TQ1_0_BYTES 54
#define QV_TQ1_0_OFFSETS 0, 48, 52, 0
#define QV_TQ1_0_SIZES 48, 4, 2, 0
/* qs d */
#define QV_TQ2_0_ELEMENTS 256
#define QV_TQ2_0_BYTES 66
#define QV_TQ2_0_OFFSETS 0, 64, 0, 0
#define QV_TQ2_0_SIZES 64, 2, 0, 0
/* qs qh d */
#define QV_IQ1_S_ELEMENTS 256
#define QV_IQ1_S_BYTES 50
#define QV_IQ1_S_OFFSETS 2, 34, 0, 0
#define QV_IQ1_S_SIZES 32, 16, 2, 0
/* qs qh scales */
#define QV_IQ1_M_ELEMENTS 256
#define QV_IQ1_M_BYTES 56
#define QV_IQ1_M_OFFSETS 0, 32, 48, 0
#define QV_IQ1_M_SIZES 32, 16, 8, 0
/* qs d */
#define QV_IQ2_XXS_ELEMENTS 256
#define QV_IQ2_XXS_BYTES 66
#define QV_IQ2_XXS_OFFSETS 2, 0, 0, 0
#define QV_IQ2_XXS_SIZES 64, 2, 0, 0
/* qs scales d */
#define QV_IQ2_XS_ELEMENTS 256
#define QV_IQ2_XS_BYTES 74
#define QV_IQ2_XS_OFFSETS 2, 66, 0, 0
#define QV_IQ2_XS_SIZES 64, 8, 2, 0
/* qs+signs qh scales d: d is the fourth */
#define QV_IQ2_S_ELEMENTS 256
#define QV_IQ2_S_BYTES 82
#define QV_IQ2_S_OFFSETS 2, 66, 74, 0
#define QV_IQ2_S_SIZES 64, 8, 8, 2
/* qs signs d */
#define QV_IQ3_XXS_ELEMENTS 256
#define QV_IQ3_XXS_BYTES 98
#define QV_IQ3_XXS_OFFSETS 2, 66, 0, 0
#define QV_IQ3_XXS_SIZES 64, 32, 2, 0
/* qs qh+signs scales d */
#define QV_IQ3_S_ELEMENTS 256
#define QV_IQ3_S_BYTES 110
#define QV_IQ3_S_OFFSETS 2, 66, 106, 0
#define QV_IQ3_S_SIZES 64, 40, 4, 2

#endif
