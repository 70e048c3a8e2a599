/* SPDX-License-Identifier: MIT
 * engine/hparams.h: what a model's metadata says about its shape, in one form for every architecture, and the words to read it
 * with.
 *
 * Nothing here is trusted: numbers are bounded so that products of two of them fit in 64 bits; whether the tensors agree is for
 * weights.h to check. */
#ifndef ENGINE_HPARAMS_H
#define ENGINE_HPARAMS_H

#include <quern/engine.h>

enum { HPARAMS_ROPES = 2, HPARAMS_NO_ROPE = 255 };

/* A layer of the gated delta rule. */
typedef struct delta_hparams {
    uint32_t key_heads, value_heads; /* value_heads 0: the layer is none of these */
    uint32_t key_size, value_size;   /* features of a head */
    uint32_t conv_width;
} delta_hparams;

/* What the convolution goes over: queries, keys and values. */
static inline int64_t delta_channels(const delta_hparams *d)
{
    return 2 * (int64_t)d->key_heads * d->key_size + (int64_t)d->value_heads * d->value_size;
}

typedef struct layer_hparams {
    uint32_t heads, kv_heads; /* 0: no attention in this layer */
    uint32_t head_k, head_v;  /* features of a head in Q and K, and in V */
    uint32_t feed_forward;
    uint32_t window; /* cells that attention looks back on, itself included; 0: all */
    uint32_t rope;   /* index into hparams.rope, or HPARAMS_NO_ROPE */
    delta_hparams delta;
    uint32_t experts; /* 1: the feed-forward part is a mixture of hparams.experts */
} layer_hparams;

/* The feed-forward part of every layer. */
enum {
    MLP_GATED = 0,   /* act(gate x) · (up x) */
    MLP_FUSED = 1,   /* the same, with the rows of gate and then those of up in one matrix, ffn_up */
    MLP_UNGATED = 2, /* act(up x) */
};

/* The mixtures of experts; count 0: every layer is dense. */
typedef struct expert_hparams {
    uint32_t count, used;
    uint32_t feed_forward;        /* features of one expert */
    uint32_t shared;              /* of the one that every token goes to; 0: there is none */
    float clamp_alpha, clamp_limit; /* of QP_ACT_SWIGLU_CLAMPED */
    qp_expert_route_params route; /* without the residual's scale */
} expert_hparams;

typedef struct hparams {
    char architecture[64];
    char name[128];
    uint32_t layers, embedding, vocabulary, context;
    uint32_t prediction_layers; /* of the file, after the others: known and not used */
    layer_hparams *layer;       /* one each of `layers`, owned */
    qp_norm_params norm;
    qp_rope_params rope[HPARAMS_ROPES]; /* [0] for most models; the second is for layers of another kind */
    qp_activation activation;           /* of the gate, or of what is not gated */
    uint32_t mlp;                       /* MLP_* */
    int attention_gate;                 /* attn_q has for each head its query, then a gate for what it attends to */
    uint32_t delta_flags;               /* QP_DELTA_* */
    int mixture;                        /* layers may be mixtures of experts: feed_forward_length need not be there */
    expert_hparams experts;
    int long_rope;                      /* rope[0] has two sets of factors, one for contexts above its original_context */
    float attention_scale;              /* 0: 1 / sqrt(head_k) */
    float attention_softcap;            /* 0: none */
    float embedding_scale;              /* 1: none; likewise below */
    float residual_scale;               /* of what a block adds to the residual stream, where no norm comes after the block */
    float logit_scale;
    float logit_softcap; /* 0: none */
} hparams;

/* A reader of "ARCHITECTURE.suffix" keys. The first failure is kept in `status` and *error, and later reads do nothing, so that an
 * architecture's reader is a list of statements. */
typedef struct metadata {
    const quern_gguf *gguf;
    const char *architecture;
    quern_error *error;
    quern_status status;
    uint64_t asked[2]; /* of the keys in metadata_features.c, those that were asked for */
} metadata;

enum { KEY_REQUIRED = 1, KEY_OPTIONAL = 0, METADATA_KEY_SIZE = 192 };

/* "ARCHITECTURE.suffix" into key; returns key. */
const char *metadata_key(const metadata *md, const char *suffix, char key[METADATA_KEY_SIZE]);

int metadata_has(const metadata *md, const char *suffix);
/* One number for the whole model; an array whose elements differ is refused. A count: 1..2^31-1, or also 0 where `zero` is set. A missing optional key gives `missing`. */
uint32_t metadata_count(metadata *md, const char *suffix, int required, int zero, uint32_t missing);
float metadata_float(metadata *md, const char *suffix, int required, float missing);
/* Copies a string, cut to size; "" when it is missing. */
void metadata_string(metadata *md, const char *key, char *dst, size_t size);
/* A number of one layer, from a key that holds either one number for all layers or one for each. */
uint32_t metadata_layer_count(metadata *md, const char *suffix, uint32_t layer, uint32_t layers, int required, uint32_t missing);
QUERN_PRINTF(3, 4) void metadata_fail(metadata *md, quern_status status, const char *format, ...);

/* context, embedding, layers, heads, head sizes, feed-forward sizes, with the defaults that all architectures share. */
void hparams_read_shape(metadata *md, hparams *hp);
void hparams_read_norm(metadata *md, hparams *hp, uint32_t kind);
/* rope[0] for all layers: base, dimension count and scaling (none, linear, YaRN; longrope where hp->long_rope is set). */
void hparams_read_rope(metadata *md, hparams *hp, uint32_t mode);
/* rope[1] for the layers that have a window: rope[0] with a base of its own and without scaling. After the window is read. */
void hparams_read_local_rope(metadata *md, hparams *hp, float base);
/* The dense transformers' list: shape, norm, rope and attention.scale. */
void hparams_read_dense(metadata *md, hparams *hp, uint32_t norm, uint32_t rope);
/* One sliding window for all layers, but for those that attention.sliding_window_pattern (see below) leaves without. */
void hparams_read_window(metadata *md, hparams *hp);
/* A sliding window for all layers but each `period`th; attention.sliding_window_pattern, a period or one truth value for each
 * layer, overrides that. `missing` is the window where the metadata has none, 0: it must have one. */
void hparams_read_window_pattern(metadata *md, hparams *hp, uint32_t period, uint32_t missing);
/* Which layers are of the gated delta rule, and their sizes: attention.recurrent_layers (a truth value each) or
 * full_attention_interval, where each nth is attention; `interval` is for files with neither. */
void hparams_read_delta(metadata *md, hparams *hp, uint32_t interval);
/* Sets hp->attention_gate. */
void hparams_gate_attention(metadata *md, hparams *hp);
/* Layers that predict further tokens (nextn_predict_layers) come last and are not run. */
void hparams_drop_prediction_layers(metadata *md, hparams *hp);
/* What files of an architecture leave unsaid. */
typedef struct expert_defaults {
    int required;  /* a model without experts is not one of this architecture */
    uint32_t gate; /* QP_GATE_* */
    int normalise; /* the weights of the chosen experts add up to 1 */
    int split;     /* feed_forward_length counts all experts that a token goes to */
    int shared;    /* there is a shared expert */
    int all;       /* no layer is dense */
} expert_defaults;
/* hp->experts and which layers have them: all but the first leading_dense_block_count. After hparams_read_dense with hp->mixture
 * set. */
void hparams_read_experts(metadata *md, hparams *hp, const expert_defaults *defaults);
/* A soft cap or a scale, never below 0; 0 where it is missing. */
float hparams_read_cap(metadata *md, const char *suffix, float missing);

/* general.architecture into dst; QP_ERR_FORMAT when there is none. */
quern_status hparams_architecture(const quern_gguf *gguf, char *dst, size_t size, quern_error *error);
/* All of it, by the architecture's row of the table (arch/arch.h). On failure *hp holds nothing to free. */
quern_status hparams_read(const quern_gguf *gguf, hparams *hp, quern_error *error);
void hparams_free(hparams *hp);

#endif
