/* SPDX-License-Identifier: MIT
 * tests/engine/tiny_model.h: random models of any shape, as GGUF bytes and as numbers, and what their logits must be. */
#ifndef TESTS_ENGINE_TINY_MODEL_H
#define TESTS_ENGINE_TINY_MODEL_H

#include <quern/engine.h>

#include "gguf_builder.h"

/* What a tiny model is like. Zeros mean: as said, or none. */
typedef struct tiny_spec {
    uint32_t layers, embedding, heads, kv_heads, head_k, head_v, feed_forward, vocabulary, context;
    uint32_t rope_dims;        /* 0: head_k */
    float freq_base;           /* 0: 10000 */
    float epsilon;             /* of the norms; 0: 1e-5 */
    const char *scaling;       /* rope.scaling.type; NULL: no such key */
    float factor;              /* of the scaling */
    uint32_t original_context; /* of YaRN */
    float attn_factor;         /* 0: no such key */
    uint32_t window;
    uint32_t window_period; /* each such layer has no window; 0: all have it */
    float attention_scale;  /* 0: no such key; likewise the next five */
    float attention_cap, logit_cap;
    float embedding_factor, residual_factor, logit_divisor;
    float local_base;          /* rope base of layers with a window; 0: as the others */
    uint32_t unturned_period;  /* each such layer has no rope; 0: all have it */
    int halves;                /* rope turns pairs of halves, not of neighbours */
    int root_factor;           /* the embedding times the root of its size */
    int qk_norms, post_norms;  /* norms over the heads of Q and K; norms after each block */
    int layer_norms;           /* with biases, in place of RMS norms */
    int gelu, ungated;         /* GELU for SiLU; no gate */
    int fused;                 /* attn_qkv for Q, K and V, and gate and up in ffn_up */
    int factor_sets, long_set; /* two sets of rope factors; the long one is the one to use */
    int tied, biases, scales, rope_factors;
    uint32_t experts, experts_used;             /* 0: no layer is a mixture */
    uint32_t expert_feed_forward;               /* 0: no such key, feed_forward is theirs */
    uint32_t dense_layers;                      /* the first ones, without experts */
    uint32_t shared_feed_forward;               /* of a shared expert; 0: none */
    uint32_t expert_gate;                       /* QP_GATE_* */
    uint32_t expert_groups, expert_groups_used; /* 0: no groups */
    float expert_factor;                        /* of the weights; 0: none */
    int expert_sum;                             /* the weights are divided by their sum */
    int shared_gate, choice_bias, expert_scales, expert_biases;
    int sinks, clamped;      /* clamped SwiGLU; the norm before the experts is called post_attention_norm */
    qp_format expert_format; /* of the experts' matrices */
    qp_format format;        /* of the matrices */
    qp_format up_format;     /* of ffn_up where it differs: set with up_differs */
    int up_differs;
    uint32_t vocab_tokens;                                             /* tokens of a SentencePiece vocabulary; 0: no_vocab */
    const uint32_t *layer_heads, *layer_kv_heads, *layer_feed_forward; /* arrays of one for each layer; NULL: all alike */
    void (*extra)(builder *b);                                         /* writes `extra_count` more metadata entries */
    uint32_t extra_count;
    const char *architecture;  /* NULL: "llama" */
    uint32_t attention_period; /* only each such layer is attention, with a gate; the others are of the delta rule. 0: no such */
    uint32_t delta_keys, delta_values, delta_k, delta_v, conv_width; /* heads and their sizes */
    int omit_shape_keys; /* leave out key_length, value_length and rope.dimension_count */
} tiny_spec;

/* Two of the plainest: a small llama, and one of recurrent layers and one of attention. */
extern const tiny_spec tiny_plain, tiny_recurrent;

static inline int tiny_is_delta(const tiny_spec *s, uint32_t layer)
{
    return s->attention_period && (layer + 1) % s->attention_period != 0;
}

typedef struct tiny_tensor {
    char name[64];
    uint32_t dims;
    uint64_t ne[3];
    qp_format format;
    double *values; /* what the bytes mean */
    unsigned char *data;
    size_t bytes;
    int removed;
} tiny_tensor;

typedef struct tiny_model {
    tiny_spec spec;
    tiny_tensor *tensors;
    size_t count;
    uint64_t random;
} tiny_model;

tiny_model tiny_make(const tiny_spec *spec, uint64_t seed);
void tiny_free(tiny_model *m);
tiny_tensor *tiny_find(const tiny_model *m, const char *name);
/* Changes one number of an F32 or F16 tensor. */
void tiny_set(tiny_tensor *t, size_t index, double value);
/* The file. builder_free it after the model that was loaded from it is gone. */
builder tiny_write(const tiny_model *m);
uint64_t tiny_random(uint64_t *state);

/* Straight from the papers, in double, a token at a time: logits[count][vocabulary]. */
void tiny_reference(const tiny_model *m, const int32_t *tokens, uint32_t count, double *logits);

#endif
