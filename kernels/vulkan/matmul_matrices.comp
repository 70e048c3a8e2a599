#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_matrices.comp: W x with the epilogue for many tokens, by the cooperative matrices of a GPU: products of
 * 16-bit floats, sums of floats. Weights are unpacked into shared memory, 32 elements along K at a time, as 16-bit floats;
 * activations are what halve_activations.comp left. Four subgroups compute a tile, each a quarter. Weights of more than 65504 become
 * infinite; K is whole 32. */
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "common.glsl"
#include "activations.glsl"
#include "wide.glsl"
#include "weights.glsl"
#include "chunks.glsl"

layout(constant_id = 1) const uint TOKENS = 2; /* matrices of a subgroup, across */
layout(constant_id = 2) const uint GATED = 0;
layout(constant_id = 3) const uint ROWS = 4;   /* matrices of a subgroup, down */
layout(constant_id = 4) const uint LANES = 32; /* of a subgroup */
layout(constant_id = 7) const uint HEIGHT = 16; /* of a matrix of results: the device's M, N and K */
layout(constant_id = 8) const uint WIDTH = 16;
layout(constant_id = 9) const uint DEPTH = 16;

const uint SUBGROUPS = 4; /* two by two */
const uint GROUP = SUBGROUPS * LANES;
const uint DOWN = 2 * ROWS * HEIGHT, ACROSS = 2 * TOKENS * WIDTH; /* rows of W and tokens in a tile */
const uint STEP = 32, LINE = STEP / 4 + 2;                        /* four elements a piece; lines begin in other banks */
const uint CELLS = HEIGHT * WIDTH;

layout(push_constant, scalar) uniform block { qv_matmul_params p; };

#include "matmul_epilogue.glsl"

layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer f16vec4s { f16vec4 v[]; };

shared f16vec4 w_lines[DOWN * LINE], x_lines[ACROSS * LINE];
shared float results[SUBGROUPS * CELLS * (1 + GATED)];

#define WEIGHTS coopmat<float16_t, gl_ScopeSubgroup, HEIGHT, DEPTH, gl_MatrixUseA>
#define ACTIVATIONS coopmat<float16_t, gl_ScopeSubgroup, DEPTH, WIDTH, gl_MatrixUseB>
#define SUMS coopmat<float, gl_ScopeSubgroup, HEIGHT, WIDTH, gl_MatrixUseAccumulator>

SUMS sums[ROWS * TOKENS], gates[ROWS * TOKENS];

void bring_weights(uint64_t weights, uint first_row, uint i)
{
    for (uint n = gl_LocalInvocationID.x; n < DOWN; n += GROUP) {
        uint64_t row = weights + uint64_t(min(first_row + n, p.m - 1)) * p.w_row; /* rows behind the last are not written */
#ifdef QV_PLAIN
        [[unroll]] for (uint c = 0; c < 4; c++) {
            vec4 w[2];
            chunk(row, 0, 4 * i + c, w);
            w_lines[n * LINE + 2 * c] = f16vec4(w[0]);
            w_lines[n * LINE + 2 * c + 1] = f16vec4(w[1]);
        }
#else
        vec4 w[8];
        chunk(row, p.k / BLOCK_ELEMENTS, i, w);
        [[unroll]] for (uint j = 0; j < 8; j++)
            w_lines[n * LINE + j] = f16vec4(w[j]);
#endif
    }
}

void bring_activations(uint first, uint rows, uint i)
{
    for (uint n = gl_LocalInvocationID.x; n < ACROSS * 8; n += GROUP) {
        uint64_t row = p.x + uint64_t(min(first + n / 8, rows - 1)) * p.x_row;
        uint part = n % 8;
#ifdef QV_PLAIN
        uint k = STEP * i + 4 * part;
#else
        uint k = chunk_start(i) + 4 * part + (part < 4 ? 0 : GAP - 16);
#endif
        x_lines[n / 8 * LINE + part] = f16vec4s(row).v[k / 4];
    }
}

void add_products(uint64_t weights, uint first_row, uint first, uint rows)
{
    uint quarter = gl_SubgroupID, row = quarter / 2 * ROWS * HEIGHT, column = quarter % 2 * TOKENS * WIDTH;
    [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++)
        sums[s] = SUMS(0.0);
    for (uint i = 0; i < p.k / STEP; i++) {
        barrier(); /* the lines before have been read */
        bring_weights(weights, first_row, i);
        bring_activations(first, rows, i);
        barrier();
        [[unroll]] for (uint k = 0; k < STEP / 4; k += DEPTH / 4) {
            WEIGHTS w[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                coopMatLoad(w[r], w_lines, (row + r * HEIGHT) * LINE + k, LINE, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                ACTIVATIONS x;
                coopMatLoad(x, x_lines, (column + t * WIDTH) * LINE + k, LINE, gl_CooperativeMatrixLayoutColumnMajor);
                [[unroll]] for (uint r = 0; r < ROWS; r++)
                    sums[r * TOKENS + t] = coopMatMulAdd(w[r], x, sums[r * TOKENS + t]);
            }
        }
    }
}

float scale_of(uint row)
{
    return f32s(p.x + uint64_t(row) * p.x_row + (2 * p.k + 15) / 16 * 16).v[0];
}

/* Matrix by matrix through shared memory: which invocation has which element is the device's to know. */
void write(uint first_row, uint first, uint rows)
{
    uint quarter = gl_SubgroupID, mine = quarter * CELLS, other = (GATED != 0 ? SUBGROUPS + quarter : quarter) * CELLS;
    for (uint i = 0; i < ROWS * TOKENS; i++) {
        barrier();
        [[unroll]] for (uint j = 0; j < ROWS * TOKENS; j++)
            if (i == j) {
                coopMatStore(sums[j], results, mine, HEIGHT, gl_CooperativeMatrixLayoutColumnMajor);
                if (GATED != 0)
                    coopMatStore(gates[j], results, other, HEIGHT, gl_CooperativeMatrixLayoutColumnMajor);
            }
        barrier();
        uint row = first_row + (quarter / 2 * ROWS + i / TOKENS) * HEIGHT;
        uint column = first + (quarter % 2 * TOKENS + i % TOKENS) * WIDTH;
        for (uint n = gl_SubgroupInvocationID; n < CELLS; n += LANES) {
            uint m = row + n % HEIGHT, t = column + n / HEIGHT;
            if (m < p.m && t < rows) {
                float scale = scale_of(t);
                finish(m, t, scale * results[other + n], scale * results[mine + n]);
            }
        }
    }
}

void main()
{
#ifdef QV_GRID
    grid = p.grid;
#endif
    uint rows = live_rows(p.live, p.rows, p.x), across = (rows + ACROSS - 1) / ACROSS, down = (p.m - p.first + DOWN - 1) / DOWN;
    uint number = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x, step = gl_NumWorkGroups.x * gl_NumWorkGroups.y;
    for (uint tile = number; tile < across * down; tile += step) {
        uint first_row = p.first + tile / across * DOWN, first = tile % across * ACROSS;
        add_products(p.w, first_row, first, rows);
        if (GATED != 0) {
            [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++)
                gates[s] = sums[s];
            add_products(p.w2, first_row, first, rows);
        }
        write(first_row, first, rows);
    }
}
