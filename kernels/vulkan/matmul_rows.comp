#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/matmul_rows.comp: W x with the epilogue for a few tokens, made for GPUs: a team of invocations goes along K, each
 * on the 16 bytes beside its neighbour's, for ROWS rows of W and TOKENS tokens, so that activations are loaded once for several
 * rows and weights once for several tokens. A team is a subgroup where the host knows that all of one are there (LANES), else the
 * whole workgroup. Partial sums are added in a fixed order. x: groups of rows; y: groups of tokens.
 *
 * As matmul_dot (QV_DOT) the products are of int8 with int8, four in one instruction; x is then what quantise_activations.comp
 * left. As expert_matmul_rows and expert_matmul_dot (QV_EXPERTS) tokens are those of one expert: operands.glsl. */
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common.glsl"
#include "activations.glsl"
#include "wide.glsl"
#include "weights.glsl"
#include "chunks.glsl"

layout(constant_id = 1) const uint TOKENS = 1;
layout(constant_id = 2) const uint GATED = 0;
layout(constant_id = 3) const uint ROWS = 1;
layout(constant_id = 4) const uint LANES = 0;  /* of a subgroup, all there; 0: the driver does not tell */
layout(constant_id = 5) const uint WIDE = 0;   /* rows of x begin at multiples of 16 bytes */
layout(constant_id = 6) const uint GROUP = 64; /* the same as constant 0 */

const uint LINES = ROWS * (1 + GATED); /* rows of W, then the same of W2 */
const uint RESULTS = ROWS * TOKENS;
const uint TEAM = LANES != 0 ? LANES : GROUP;

#include "operands.glsl"
#include "matmul_epilogue.glsl"

float sums[LINES * TOKENS];
shared float parts[LANES != 0 ? 1 : GROUP * LINES * TOKENS];

/* ---- one chunk of a line times the same of a token ---- */

#ifdef QV_DOT
#include "activation_blocks.glsl"
#include "dot.glsl"

struct weight_chunk {
    uvec4 q[2];
    vec2 scale, low;
};

struct activation_chunk {
    uvec4 q[2];
    vec2 d;
    ivec2 sum;
};

void load_weights(uint64_t line, uint i, out weight_chunk w)
{
    chunk_ints(line, p.k / BLOCK_ELEMENTS, i, w.q, w.scale, w.low);
}

void load_activations(uint64_t row, uint i, out activation_chunk x)
{
    uint start = chunk_start(i);
    [[unroll]] for (uint h = 0; h < 2; h++) {
        x.q[h] = uvec4s(row + (start + h * GAP)).v[0];
        half_block(row, p.k, start + h * GAP, x.d[h], x.sum[h]);
    }
}

float product(weight_chunk w, activation_chunk x)
{
    vec2 both;
    [[unroll]] for (uint h = 0; h < 2; h++) {
        int sum = -ZERO * x.sum[h];
        [[unroll]] for (uint j = 0; j < 4; j++)
            sum += dot_of_bytes(w.q[h][j], x.q[h][j], 0);
        both[h] = x.d[h] * (w.scale[h] * float(sum) + w.low[h] * float(x.sum[h]));
    }
    return both.x + both.y;
}

#else

struct weight_chunk {
    vec4 v[CHUNK / 4];
};

struct activation_chunk {
    vec4 v[CHUNK / 4];
};

void load_weights(uint64_t line, uint i, out weight_chunk w)
{
    chunk(line, p.k / BLOCK_ELEMENTS, i, w.v);
}

void load_activations(uint64_t row, uint i, out activation_chunk x)
{
    uint start = chunk_start(i);
    [[unroll]] for (uint j = 0; j < CHUNK / 4; j++)
        x.v[j] = four_floats(row, start + 4 * j + (j < CHUNK / 8 ? 0 : GAP - CHUNK / 2), WIDE != 0);
}

float product(weight_chunk w, activation_chunk x)
{
    vec4 four = vec4(0.0);
    [[unroll]] for (uint j = 0; j < CHUNK / 4; j++)
        four += w.v[j] * x.v[j];
    return four.x + four.y + (four.z + four.w);
}
#endif

/* ---- */

uint64_t line_at(uint line, uint first_row)
{
    return weights_at(min(first_row + line % ROWS, p.m - 1), line >= ROWS); /* rows behind the last are computed and not written */
}

/* This invocation's part of the sums. For one token its activations stay and lines come one by one, else the lines stay. */
void add_products(uint first_row, uvec2 span, uint lane)
{
    uint64_t tokens[TOKENS];
    [[unroll]] for (uint t = 0; t < TOKENS; t++)
        tokens[t] = activations_at(min(span.x + t, span.y - 1));
    [[unroll]] for (uint i = 0; i < LINES * TOKENS; i++)
        sums[i] = 0.0;
    for (uint i = lane; i < elements / CHUNK; i += TEAM) {
        if (TOKENS == 1) {
            activation_chunk x;
            load_activations(tokens[0], i, x);
            [[unroll]] for (uint l = 0; l < LINES; l++) {
                weight_chunk w;
                load_weights(line_at(l, first_row), i, w);
                sums[l] += product(w, x);
            }
        } else {
            weight_chunk w[LINES];
            [[unroll]] for (uint l = 0; l < LINES; l++)
                load_weights(line_at(l, first_row), i, w[l]);
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                activation_chunk x;
                load_activations(tokens[t], i, x);
                [[unroll]] for (uint l = 0; l < LINES; l++)
                    sums[l * TOKENS + t] += product(w[l], x);
            }
        }
    }
#ifdef QV_PLAIN
    for (uint i = elements / CHUNK * CHUNK + lane; i < elements; i += TEAM)
        [[unroll]] for (uint l = 0; l < LINES; l++) {
            float w = weight(line_at(l, first_row), i);
            [[unroll]] for (uint t = 0; t < TOKENS; t++)
                sums[l * TOKENS + t] += w * f32s(tokens[t]).v[i];
        }
#endif
}

/* All invocations of the team end up with the whole sums. */
void add_up(uint lane)
{
    if (LANES != 0) {
        for (uint step = LANES / 2; step > 0; step /= 2)
            [[unroll]] for (uint i = 0; i < LINES * TOKENS; i++)
                sums[i] += subgroupShuffleXor(sums[i], step);
        return;
    }
    barrier(); /* the last round's are read */
    [[unroll]] for (uint i = 0; i < LINES * TOKENS; i++)
        parts[i * GROUP + lane] = sums[i];
    for (uint step = GROUP / 2; step > 0; step /= 2) {
        barrier();
        if (lane < step)
            [[unroll]] for (uint i = 0; i < LINES * TOKENS; i++)
                parts[i * GROUP + lane] += parts[i * GROUP + lane + step];
    }
    barrier();
    [[unroll]] for (uint i = 0; i < LINES * TOKENS; i++)
        sums[i] = parts[i * GROUP];
}

/* Result i (of row i / TOKENS and token i % TOKENS) is finished by invocation i of the team. */
void write(uint first_row, uvec2 span, uint lane)
{
    for (uint i = lane; i < RESULTS; i += TEAM) {
        float sum = 0.0, sum2 = 0.0;
        [[unroll]] for (uint j = 0; j < RESULTS; j++)
            if (i == j) {
                sum = sums[j];
                sum2 = sums[GATED * RESULTS + j];
            }
        uint m = first_row + i / TOKENS, t = span.x + i % TOKENS;
        if (m < p.m && t < span.y)
            finish(m, t, sum, sum2);
    }
}

void main()
{
    begin();
#ifdef QV_GRID
    grid = grid_address();
#endif
    uint groups = behind_groups(TOKENS);
    uint lane = LANES != 0 ? gl_SubgroupInvocationID : gl_LocalInvocationID.x, teams = GROUP / TEAM;
    uint team = gl_WorkGroupID.x * teams + (LANES != 0 ? gl_SubgroupID : 0), step = gl_NumWorkGroups.x * teams;
    for (uint group = first_group() + gl_WorkGroupID.y; group < groups; group += gl_NumWorkGroups.y) {
        uvec2 span = group_span(group, TOKENS);
        for (uint row = p.first + team * ROWS; row < p.m && span.x < span.y; row += step * ROWS) {
            add_products(row, span, lane);
            add_up(lane);
            write(row, span, lane);
        }
    }
}
