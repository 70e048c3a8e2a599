#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_tiles.comp: W x with the epilogue for many tokens, made for GPUs. A workgroup computes a tile of rows of W
 * times tokens: 32 elements along K at a time it unpacks weights and loads activations into shared memory, each invocation one row
 * and some tokens, while it multiplies the 32 before. An invocation has ROWS × TOKENS results in registers: rows 8 apart, tokens
 * ROWS apart, so that neighbours read neighbouring lines of shared memory, which are an odd number of 16 bytes long.
 * Workgroups that follow each other take the same rows of W.
 *
 * As matmul_dot_tiles (QV_DOT) the products are of int8 with int8; x is then what quantise_activations.comp left. As
 * expert_matmul_tiles and expert_matmul_dot_tiles (QV_EXPERTS) tokens are those of one expert: operands.glsl. As matmul_half_tiles
 * (QV_HALF) products are of 16-bit floats, of two tokens at once; x is what pair_activations.comp left. */
#extension GL_GOOGLE_include_directive : require
#ifdef QV_HALF
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif
#include "common.glsl"
#include "activations.glsl"
#include "wide.glsl"
#include "weights.glsl"
#include "chunks.glsl"

layout(constant_id = 1) const uint TOKENS = 2;  /* of x that one invocation multiplies */
layout(constant_id = 2) const uint GATED = 0;
layout(constant_id = 3) const uint ROWS = 8;    /* of W that one invocation multiplies: an eighth of the workgroup's invocations */
layout(constant_id = 4) const uint BUFFERS = 1; /* tiles in shared memory: with 2, one is written while the other is read */
layout(constant_id = 5) const uint WIDE = 0;    /* rows of x begin at multiples of 16 bytes */

const uint GROUP = 8 * ROWS;           /* invocations, and rows of W in a tile */
const uint COLUMNS = TOKENS * ROWS;    /* tokens in a tile */
const uint STEP = 32;                  /* elements along K */

#include "operands.glsl"
#include "matmul_epilogue.glsl"

float sums[ROWS * TOKENS], gates[ROWS * TOKENS]; /* gates: W's sums where there is a W2 */

/* ---- a line: 32 elements of a row of W or of PER_LINE rows of x, in registers and in shared memory ---- */

#ifdef QV_HALF
#include "activation_blocks.glsl"
#include "half_lines.glsl"

#elif defined(QV_DOT)
#include "activation_blocks.glsl"
#include "dot.glsl"

const uint PER_LINE = 1, LINE = 3, X_LINE = LINE;
#define activation_part uvec4
struct weight_line {
    uvec4 q[2];
    vec2 scale, low;
};
const uint PARTS = 3;

shared uvec4 w_lines[BUFFERS * GROUP * LINE];
shared uvec4 x_lines[BUFFERS * COLUMNS * LINE];

void load_weights(uint64_t row, uint i, out weight_line w)
{
    chunk_ints(row, p.k / BLOCK_ELEMENTS, i, w.q, w.scale, w.low);
}

void store_weights(uint at, weight_line w)
{
    w_lines[at] = w.q[0];
    w_lines[at + 1] = w.q[1];
    w_lines[at + 2] = floatBitsToUint(vec4(w.scale, w.low));
}

uvec4 load_activations(uint64_t row, uint i, uint part)
{
    uint start = chunk_start(i);
    if (part < 2)
        return uvec4s(row + (start + part * GAP)).v[0];
    vec2 d;
    ivec2 sum;
    half_block(row, p.k, start, d.x, sum.x);
    half_block(row, p.k, start + GAP, d.y, sum.y);
    return uvec4(floatBitsToUint(d), uvec2(sum));
}

/* Half a line at a time, so that few numbers are alive beside the results: 16 bytes of each token stay, and those of the rows pass.
 * Compilers that saw the rows pass once a token would keep all of them. */
void multiply(uint w_at, uint x_at)
{
    [[unroll]] for (uint h = 0; h < 2; h++) {
        uvec4 x[TOKENS];
        float d[TOKENS], low[TOKENS];
        int start[TOKENS];
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            uint column = x_at + t * ROWS * LINE;
            x[t] = x_lines[column + h];
            d[t] = uintBitsToFloat(x_lines[column + 2][h]);
            int sum = int(x_lines[column + 2][2 + h]);
            low[t] = d[t] * float(sum);
            start[t] = -ZERO * sum;
        }
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            uint row = w_at + r * 8 * LINE;
            uvec4 w = w_lines[row + h];
            vec2 scale = uintBitsToFloat(h == 0 ? w_lines[row + 2].xz : w_lines[row + 2].yw);
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                int whole = start[t];
                [[unroll]] for (uint j = 0; j < 4; j++)
                    whole += dot_of_bytes(w[j], x[t][j], 0);
                float sum = sums[r * TOKENS + t] + scale.x * d[t] * float(whole);
#ifdef QV_HAS_LOW
                sum += scale.y * low[t];
#endif
                sums[r * TOKENS + t] = sum;
            }
        }
    }
}

#else

const uint PER_LINE = 1, LINE = 9, X_LINE = LINE; /* 8 of them used */
#define activation_part vec4
struct weight_line {
    vec4 v[8];
};
const uint PARTS = 8;

shared vec4 w_lines[BUFFERS * GROUP * LINE];
shared vec4 x_lines[BUFFERS * COLUMNS * LINE];

void load_weights(uint64_t row, uint i, out weight_line w)
{
#ifdef QV_PLAIN
    if (STEP * i + STEP <= p.k) {
        [[unroll]] for (uint c = 0; c < 4; c++) {
            vec4 two[2];
            chunk(row, 0, 4 * i + c, two);
            w.v[2 * c] = two[0];
            w.v[2 * c + 1] = two[1];
        }
        return;
    }
    [[unroll]] for (uint j = 0; j < 8; j++)
        [[unroll]] for (uint e = 0; e < 4; e++) {
            uint k = STEP * i + 4 * j + e;
            w.v[j][e] = k < p.k ? weight(row, k) : 0.0;
        }
#else
    chunk(row, p.k / BLOCK_ELEMENTS, i, w.v);
#endif
}

void store_weights(uint at, weight_line w)
{
    [[unroll]] for (uint j = 0; j < 8; j++)
        w_lines[at + j] = w.v[j];
}

vec4 load_activations(uint64_t row, uint i, uint part)
{
#ifdef QV_PLAIN
    uint k = STEP * i + 4 * part;
    if (k + 4 > p.k) {
        vec4 x;
        [[unroll]] for (uint e = 0; e < 4; e++)
            x[e] = k + e < p.k ? f32s(row).v[k + e] : 0.0;
        return x;
    }
    return four_floats(row, k, WIDE != 0);
#else
    return four_floats(row, chunk_start(i) + 4 * part + (part < 4 ? 0 : GAP - 16), WIDE != 0);
#endif
}

void multiply(uint w_at, uint x_at)
{
    for (uint j = 0; j < 8; j++) {
        vec4 x[TOKENS];
        [[unroll]] for (uint t = 0; t < TOKENS; t++)
            x[t] = x_lines[x_at + t * ROWS * LINE + j];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            vec4 w = w_lines[w_at + r * 8 * LINE + j];
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                float sum = sums[r * TOKENS + t];
                sum += w.x * x[t].x;
                sum += w.y * x[t].y;
                sum += w.z * x[t].z;
                sum += w.w * x[t].w;
                sums[r * TOKENS + t] = sum;
            }
        }
    }
}
#endif

/* ---- a tile ---- */

const uint X_LINES = COLUMNS / PER_LINE;
const uint LOADS = (X_LINES * PARTS + GROUP - 1) / GROUP; /* parts of lines of x that one invocation brings */

#ifdef QV_EXPERTS
shared uint64_t columns[COLUMNS]; /* where the tokens of the tile begin */

void find_columns(uvec2 span)
{
    barrier(); /* those of the tile before are read */
    for (uint i = gl_LocalInvocationID.x; i < COLUMNS; i += GROUP)
        columns[i] = activations_at(min(span.x + i, span.y - 1));
}

uint64_t column_at(uint i, uvec2 span)
{
    return columns[i];
}
#else
void find_columns(uvec2 span)
{
}

uint64_t column_at(uint i, uvec2 span)
{
    return activations_at(min(span.x / PER_LINE + i, (span.y - 1) / PER_LINE));
}
#endif

/* The products of one tile with W or W2: rows of W from first_row on. */
void add_products(bool second, uint first_row, uvec2 span)
{
    uint here = gl_LocalInvocationID.x, steps = (elements + STEP - 1) / STEP;
    uint64_t row = weights_at(min(first_row + here, p.m - 1), second); /* rows behind the last are not written */
    weight_line w;
    activation_part x[LOADS];
    [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++)
        sums[s] = 0.0;
    barrier(); /* the tile before has been read */
    for (uint i = 0; i <= steps; i++) { /* in each round the next lines are loaded while those at hand are multiplied */
        uint buffer_now = (i + BUFFERS - 1) % BUFFERS, buffer_next = i % BUFFERS;
        if (i < steps) {
            load_weights(row, i, w);
            [[unroll]] for (uint l = 0; l < LOADS; l++) {
                uint n = here + l * GROUP;
                x[l] = load_activations(column_at(min(n / PARTS, X_LINES - 1), span), i, n % PARTS);
            }
        }
        if (i > 0)
            multiply((buffer_now * GROUP + here % 8) * LINE, (buffer_now * X_LINES + here / 8) * X_LINE);
        if (BUFFERS == 1)
            barrier();
        if (i < steps) {
            store_weights((buffer_next * GROUP + here) * LINE, w);
            [[unroll]] for (uint l = 0; l < LOADS; l++) {
                uint n = here + l * GROUP;
                if (n < X_LINES * PARTS)
                    x_lines[(buffer_next * X_LINES + n / PARTS) * X_LINE + n % PARTS] = x[l];
            }
        }
        barrier();
    }
}

void write(uint first_row, uvec2 span)
{
    uint here = gl_LocalInvocationID.x;
    for (uint i = 0; i < ROWS * TOKENS; i++) {
        float sum = 0.0, sum2 = 0.0;
        [[unroll]] for (uint j = 0; j < ROWS * TOKENS; j++)
            if (i == j) {
                sum = GATED != 0 ? gates[j] : sums[j];
                sum2 = sums[j];
            }
        uint column = here / 8 + i % TOKENS / PER_LINE * ROWS;
        uint m = first_row + here % 8 + i / TOKENS * 8, t = span.x + column * PER_LINE + i % PER_LINE;
        if (m < p.m && t < span.y) {
#ifdef QV_HALF
            float scale = scale_of(t);
            sum *= scale;
            sum2 *= scale;
#endif
            finish(m, t, sum, sum2);
        }
    }
}

void main()
{
    begin();
#ifdef QV_GRID
    grid = grid_address();
#endif
    uint across = behind_groups(COLUMNS) - first_group(), down = (p.m - p.first + GROUP - 1) / GROUP;
    uint number = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x, step = gl_NumWorkGroups.x * gl_NumWorkGroups.y;
    for (uint tile = number; tile < across * down; tile += step) {
        uint first_row = p.first + tile / across * GROUP;
        uvec2 span = group_span(first_group() + tile % across, COLUMNS);
        if (span.x >= span.y)
            continue;
        find_columns(span);
        add_products(false, first_row, span);
        if (GATED != 0) {
            [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++)
                gates[s] = sums[s];
            add_products(true, first_row, span);
        }
        write(first_row, span);
    }
}
