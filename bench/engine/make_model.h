/* SPDX-License-Identifier: MIT
 * bench/engine/make_model.h: writes a Llama-shaped GGUF with random weights, so that a benchmark needs no download. */
#ifndef BENCH_MAKE_MODEL_H
#define BENCH_MAKE_MODEL_H

#include <quern/plugin.h>

typedef struct bench_shape {
    const char *name;
    uint32_t layers, embedding, feed_forward, heads, kv_heads, head_size, vocabulary, context;
    uint32_t experts, used; /* 0: none; feed_forward is that of one */
} bench_shape;

/* "1b" (Llama 3.2 1B), "3b", "8b", "moe" (four layers of 128 experts, of which a token goes to 8, in the sizes of Qwen3-30B-A3B),
 * "tiny"; NULL when there is none. */
const bench_shape *bench_shape_find(const char *name);
const bench_shape *bench_shape_at(unsigned index);

/* Matrices in `format`, norms in F32, output tied to the embedding. Weights are drawn so that activations keep about their size.
 * mixed: as in the mixed recipes, the embedding and in half of the layers attn_v and ffn_down are Q6_K. 0, or −1 with errno set. */
int bench_make_model(const char *path, const bench_shape *shape, qp_format format, int mixed);
/* F32, F16, BF16 and every format that the CPU keeps in panels. */
int bench_can_make(qp_format format);

/* Multiply-adds' weights a token passes through (embedding rows left out, tied output counted). */
double bench_shape_parameters(const bench_shape *shape);

#endif
