#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_matrices.comp: W x with the epilogue for many tokens, by the cooperative matrices of a GPU: products of
 * 16-bit floats, sums of floats. Written for GL_NV_cooperative_matrix, which every compiler knows; khr_matrices.c makes it the
 * extension of Khronos.
 *
 * A workgroup computes a tile of rows of W times tokens, its subgroups side by side in DOWN × ACROSS. 64 elements along K at a time
 * lie in shared memory as 16-bit floats; those that come next are loaded before these are multiplied and put away afterwards, so
 * that no one waits for memory. Two invocations share a row of W, so that what they load lies together. Activations are what
 * halve_activations.comp left. Weights are multiplied by a power of two for each row that brings the largest that its scales allow
 * to [2^14, 2^15), so that none is infinite and few lose bits; it is undone with the activations' at the end. K is whole 32. */
#extension GL_GOOGLE_include_directive : require
#extension GL_NV_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#pragma use_vulkan_memory_model
#include "common.glsl"
#include "activations.glsl"
#include "wide.glsl"
#include "weights.glsl"
#include "chunks.glsl"

layout(constant_id = 1) const uint TOKENS = 2; /* matrices of a subgroup, across */
layout(constant_id = 2) const uint GATED = 0;
layout(constant_id = 3) const uint ROWS = 4;    /* matrices of a subgroup, down */
layout(constant_id = 4) const uint LANES = 32;  /* of a subgroup */
layout(constant_id = 5) const uint DOWN = 2;    /* subgroups */
layout(constant_id = 6) const uint ACROSS = 4;
layout(constant_id = 7) const uint HEIGHT = 16; /* of a matrix of results: the device's M, N and K */
layout(constant_id = 8) const uint WIDTH = 16;
layout(constant_id = 9) const uint DEPTH = 16;

const uint SUBGROUPS = DOWN * ACROSS, GROUP = SUBGROUPS * LANES;
const uint TALL = DOWN * ROWS * HEIGHT, BROAD = ACROSS * TOKENS * WIDTH; /* rows of W and tokens in a tile */
const uint STEP = 64, PIECE = 8;         /* elements along K; of 16 bytes */
const uint LINE = STEP / PIECE + 1;      /* so that lines begin in other banks */
const uint CHUNKS = STEP / 32, LINES = (TALL + BROAD) * LINE;
const uint CELLS = HEIGHT * WIDTH / 4, RESULTS = SUBGROUPS * CELLS * (1 + GATED); /* of 16 bytes; they take the lines' place */
const uint OF_W = (TALL * CHUNKS + GROUP - 1) / GROUP, OF_X = (BROAD * STEP / PIECE + GROUP - 1) / GROUP; /* an invocation's */

layout(push_constant, scalar) uniform block { qv_matmul_params p; };

#include "matmul_epilogue.glsl"

#ifndef QV_FORMAT_F16
#define QV_POWERS 1
#include "bounds.glsl"
#endif

shared uvec4 lines[LINES > RESULTS ? LINES : RESULTS];
shared uint bounds[TALL * (1 + GATED)]; /* bits of floats: first what rows of W are below, then what they are multiplied by */

#define WEIGHTS fcoopmatNV<16, gl_ScopeSubgroup, HEIGHT, DEPTH>
#define ACTIVATIONS fcoopmatNV<16, gl_ScopeSubgroup, DEPTH, WIDTH>
#define SUMS fcoopmatNV<32, gl_ScopeSubgroup, HEIGHT, WIDTH>

SUMS sums[ROWS * TOKENS], gates[ROWS * TOKENS];

/* ---- 32 weights: as loaded, and as 16-bit floats ---- */

uvec4 halves_of(vec4 a, vec4 b)
{
    return uvec4(packFloat2x16(f16vec2(a.xy)), packFloat2x16(f16vec2(a.zw)), packFloat2x16(f16vec2(b.xy)),
                 packFloat2x16(f16vec2(b.zw)));
}

#if defined(QV_INTS)
#define RAW 3

void load_weights(uint64_t row, uint chunk, out uvec4 raw[RAW])
{
    load_chunk(row, p.k / BLOCK_ELEMENTS, chunk, raw);
}

void store_weights(uint at, uvec4 raw[RAW], uint chunk, float power)
{
    uvec4 q[2];
    vec2 scale, low;
    ints_of(raw, chunk, q, scale, low);
    scale *= power;
    low = low * power - scale * float(ZERO);
    [[unroll]] for (uint j = 0; j < 4; j++) {
        uvec2 words = j % 2 == 0 ? q[j / 2].xy : q[j / 2].zw;
        vec4 a = scale[j / 2] * signed_bytes(words.x) + low[j / 2], b = scale[j / 2] * signed_bytes(words.y) + low[j / 2];
        lines[at + j] = halves_of(a, b);
    }
}

#elif defined(QV_PLAIN)
#define RAW 4

void load_weights(uint64_t row, uint chunk, out uvec4 raw[RAW])
{
    [[unroll]] for (uint j = 0; j < 4; j++) {
        if (WIDE_WEIGHTS != 0) {
            raw[j] = uvec4s(row).v[4 * chunk + j];
        } else {
            u16s h = u16s(row + 64 * chunk + 16 * j);
            [[unroll]] for (uint e = 0; e < 4; e++)
                raw[j][e] = uint(h.v[2 * e]) | uint(h.v[2 * e + 1]) << 16;
        }
    }
}

void store_weights(uint at, uvec4 raw[RAW], uint chunk, float power)
{
    [[unroll]] for (uint j = 0; j < 4; j++) {
#ifdef QV_POWERS
        uvec4 low = raw[j] << 16, high = raw[j] & 0xffff0000u;
        raw[j] = halves_of(power * uintBitsToFloat(uvec4(low.x, high.x, low.y, high.y)),
                           power * uintBitsToFloat(uvec4(low.z, high.z, low.w, high.w)));
#endif
        lines[at + j] = raw[j];
    }
}

#else
#define RAW 8

void load_weights(uint64_t row, uint chunk, out uvec4 raw[RAW])
{
    vec4 w[8];
    weights_32(row, p.k / BLOCK_ELEMENTS, chunk, w);
    [[unroll]] for (uint j = 0; j < 8; j++)
        raw[j] = floatBitsToUint(w[j]);
}

void store_weights(uint at, uvec4 raw[RAW], uint chunk, float power)
{
    [[unroll]] for (uint j = 0; j < 4; j++)
        lines[at + j] = halves_of(power * uintBitsToFloat(raw[2 * j]), power * uintBitsToFloat(raw[2 * j + 1]));
}
#endif

/* Where piece `part` of 0 to 3 of a chunk of activations begins: in the order of the weights. */
uint activations_at(uint chunk, uint part)
{
#ifdef QV_PLAIN
    return 32 * chunk + PIECE * part;
#else
    return chunk_start(chunk) + PIECE * part + (part < 2 ? 0 : GAP - 16);
#endif
}

/* ---- powers of two ---- */

uint64_t row_at(uint64_t weights, uint row)
{
    return weights + uint64_t(min(row, p.m - 1)) * p.w_row; /* rows behind the last are not written */
}

/* Of each row of the tile, into `to` and what follows. */
void find_powers(uint64_t weights, uint first_row, uint to)
{
#ifdef QV_POWERS
#ifdef QV_NO_BOUNDS
    uint count = p.k / 32;
#else
    uint count = p.k / BLOCK_ELEMENTS;
#endif
    barrier(); /* those of the tile before have been read */
    const uint SHARE = GROUP / TALL > 1 ? GROUP / TALL : 1; /* invocations for a row */
    for (uint n = gl_LocalInvocationID.x; n < TALL; n += GROUP)
        bounds[to + n] = 0;
    barrier();
    for (uint n = gl_LocalInvocationID.x; n < TALL * SHARE; n += GROUP) {
        uint64_t row = row_at(weights, first_row + n / SHARE);
        uint most = 0;
        for (uint b = n % SHARE; b < count; b += 4 * SHARE)
            [[unroll]] for (uint e = 0; e < 4; e++)
                most = max(most, bound_of(row, p.k / BLOCK_ELEMENTS, min(b + e * SHARE, count - 1)));
        atomicMax(bounds[to + n / SHARE], most);
    }
    barrier();
    for (uint n = gl_LocalInvocationID.x; n < TALL; n += GROUP) {
        uint most = bounds[to + n];
        /* 2^(14 − e) for a number of exponent e, but a normal number; 1 where there is nothing, or no number */
        int power = most == 0 || most >= 0x7f800000u ? 0 : clamp(14 - (int(most >> 23) - 127), -126, 126);
        bounds[to + n] = uint(127 + power) << 23;
    }
    barrier();
#endif
}

float power_of(uint at)
{
#ifdef QV_POWERS
    return uintBitsToFloat(bounds[at]);
#else
    return 1.0;
#endif
}

/* One over a power of two, exactly. */
float undone(float power)
{
    return uintBitsToFloat((254u << 23) - floatBitsToUint(power));
}

/* ---- a tile ---- */

void multiply()
{
    uint row = gl_SubgroupID / ACROSS * ROWS * HEIGHT, column = gl_SubgroupID % ACROSS * TOKENS * WIDTH;
    [[unroll]] for (uint k = 0; k < STEP / PIECE; k += DEPTH / PIECE) {
        WEIGHTS w[ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            coopMatLoadNV(w[r], lines, (row + r * HEIGHT) * LINE + k, LINE, false);
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            ACTIVATIONS x;
            coopMatLoadNV(x, lines, (TALL + column + t * WIDTH) * LINE + k, LINE, true);
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                sums[r * TOKENS + t] = coopMatMulAddNV(w[r], x, sums[r * TOKENS + t]);
        }
    }
}

void add_products(uint64_t weights, uint first_row, uint first, uint rows, uint powers)
{
    uint here = gl_LocalInvocationID.x, chunks = p.k / 32;
    uvec4 w[OF_W * RAW], x[OF_X];
    find_powers(weights, first_row, powers);
    [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++)
        sums[s] = SUMS(0.0);
    /* loads what belongs to i, multiplies what lies in shared memory, puts i there */
    for (uint i = 0; i < chunks + CHUNKS; i += CHUNKS) {
        bool more = i < chunks;
        if (more) {
            [[unroll]] for (uint l = 0; l < OF_W; l++) {
                uint n = min(here + l * GROUP, TALL * CHUNKS - 1), chunk = min(i + n % CHUNKS, chunks - 1);
                uvec4 raw[RAW];
                load_weights(row_at(weights, first_row + n / CHUNKS), chunk, raw);
                [[unroll]] for (uint j = 0; j < RAW; j++)
                    w[l * RAW + j] = raw[j];
            }
            [[unroll]] for (uint l = 0; l < OF_X; l++) {
                uint n = min(here + l * GROUP, BROAD * STEP / PIECE - 1), part = n % (STEP / PIECE);
                uint64_t row = p.x + uint64_t(min(first + n / (STEP / PIECE), rows - 1)) * p.x_row;
                x[l] = i + part / 4 < chunks ? uvec4s(row).v[activations_at(i + part / 4, part % 4) / PIECE] : uvec4(0);
            }
        }
        if (i > 0)
            multiply();
        barrier();
        if (more) {
            [[unroll]] for (uint l = 0; l < OF_W; l++) {
                uint n = here + l * GROUP;
                uvec4 raw[RAW];
                [[unroll]] for (uint j = 0; j < RAW; j++)
                    raw[j] = w[l * RAW + j];
                if (n < TALL * CHUNKS)
                    store_weights(n / CHUNKS * LINE + n % CHUNKS * 4, raw, i + n % CHUNKS, power_of(powers + n / CHUNKS));
            }
            [[unroll]] for (uint l = 0; l < OF_X; l++) {
                uint n = here + l * GROUP;
                if (n < BROAD * STEP / PIECE)
                    lines[(TALL + n / (STEP / PIECE)) * LINE + n % (STEP / PIECE)] = x[l];
            }
            barrier();
        }
    }
}

float undoing(uint row)
{
    return f32s(p.x + uint64_t(row) * p.x_row + (2 * p.k + 15) / 16 * 16).v[0];
}

/* By both powers that undo, the smaller one first: one may be too large alone. NaN stays one. */
float undo(float sum, float a, float b)
{
    return a < b ? sum * a * b : sum * b * a;
}

float result_at(uint base, uint n)
{
    return uintBitsToFloat(lines[base + n / 4][n % 4]);
}

/* Matrix by matrix through shared memory, a subgroup its own: which invocation has which element is the device's to know. */
void write(uint first_row, uint first, uint rows)
{
    uint down = gl_SubgroupID / ACROSS * ROWS, across = gl_SubgroupID % ACROSS * TOKENS;
    uint other = gl_SubgroupID * CELLS * (1 + GATED), mine = other + CELLS * GATED;
    for (uint i = 0; i < ROWS * TOKENS; i++) {
        [[unroll]] for (uint j = 0; j < ROWS * TOKENS; j++)
            if (i == j) {
                coopMatStoreNV(sums[j], lines, mine, HEIGHT / 4, true);
                if (GATED != 0)
                    coopMatStoreNV(gates[j], lines, other, HEIGHT / 4, true);
            }
        subgroupBarrier();
        uint row = (down + i / TOKENS) * HEIGHT, column = first + (across + i % TOKENS) * WIDTH;
        for (uint n = gl_SubgroupInvocationID; n < 4 * CELLS; n += LANES) {
            uint at = row + n % HEIGHT, m = first_row + at, t = column + n / HEIGHT;
            if (m < p.m && t < rows) {
                float x = undoing(t), w = undone(power_of(at)), w2 = undone(power_of(GATED * TALL + at));
                finish(m, t, undo(result_at(other, n), x, w), undo(result_at(mine, n), x, w2));
            }
        }
        subgroupBarrier();
    }
}

void main()
{
#ifdef QV_GRID
    grid = p.grid;
#endif
    uint rows = live_rows(p.live, p.rows, p.x), across = (rows + BROAD - 1) / BROAD, down = (p.m - p.first + TALL - 1) / TALL;
    uint number = gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x, step = gl_NumWorkGroups.x * gl_NumWorkGroups.y;
    for (uint tile = number; tile < across * down; tile += step) {
        uint first_row = p.first + tile / across * TALL, first = tile % across * BROAD;
        add_products(p.w, first_row, first, rows, 0);
        if (GATED != 0) {
            [[unroll]] for (uint s = 0; s < ROWS * TOKENS; s++)
                gates[s] = sums[s];
            add_products(p.w2, first_row, first, rows, TALL);
        }
        write(first_row, first, rows);
    }
}
