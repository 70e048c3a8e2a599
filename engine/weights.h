/* SPDX-License-Identifier: MIT
 * engine/weights.h: which tensors a model has, what shapes they must have and where they lie on the device.
 *
 * An architecture declares its tensors; a declaration finds the tensor in the file, checks it and notes its use. One tensor
 * declared twice (tied embeddings) is one weight with both uses. */
#ifndef ENGINE_WEIGHTS_H
#define ENGINE_WEIGHTS_H

#include "engine/hparams.h"
#include "engine/placement.h"

/* Rows of a weight that lie together on the device: a tensor of its own there. */
typedef struct weight_part {
    int64_t first; /* row of the matrix, or of each matrix of a stack, of which it has desc.ne[1] */
    qp_weight_desc desc;
    qp_weight_info info;
    place at;
    qp_tensor place; /* once it is allocated */
} weight_part;

/* One tensor of the file that the model uses. */
typedef struct weight {
    const quern_gguf_tensor *tensor;
    uint32_t uses; /* QP_WEIGHT_*, 0: it does not go to the device */
    int read;      /* dealt with while declaring: its one number was read, or it is known to be of no use */
    int whole;     /* its ops take it in one part only */
    /* After weights_plan: one part, or several where the tensor is larger than the device's largest allocation and its ops can do
     * with some rows at a time. Owned. */
    weight_part *part;
    uint32_t parts;
} weight;

enum { WEIGHT_MOST_PARTS = 64 };

/* y = scale·(W x) + bias_scale·bias */
typedef struct linear {
    weight *w, *bias;
    float scale, bias_scale;
} linear;

typedef struct norm_weights {
    weight *w, *bias; /* w NULL: there is no such norm */
} norm_weights;

typedef struct attention_weights {
    norm_weights norm, q_norm, k_norm, post_norm;
    linear qkv; /* w NULL: q, k and v apart, else they have none; the rows of Q, then of K, then of V */
    linear q, k, v, output;
    weight *sinks; /* NULL: none */
} attention_weights;

typedef struct delta_weights {
    norm_weights norm, head_norm;
    linear qkv, gate, alpha, beta, output;
    weight *a, *conv, *conv_bias; /* conv_bias NULL: none */
} delta_weights;

typedef struct mlp_weights {
    norm_weights norm, post_norm;
    linear gate, up, down; /* gate.w NULL: not gated, or in up (hparams.mlp says which) */
} mlp_weights;

/* The matrices of all experts in one tensor {k, m, experts}; y_e = scales[e]·(W_e x) + bias_e */
typedef struct expert_linear {
    weight *w, *bias, *scales; /* bias {m, experts}, scales {experts}, each NULL: none */
} expert_linear;

/* The norm before it is in mlp. */
typedef struct expert_weights {
    linear router;
    weight *router_bias; /* counts in the choice alone; NULL: none */
    expert_linear gate, up, down;
    mlp_weights shared; /* without norms; up.w NULL: no shared expert */
    linear shared_gate; /* what the shared expert's result is multiplied by, through a sigmoid; w NULL: nothing */
} expert_weights;

typedef struct layer_weights {
    attention_weights attention;
    delta_weights delta;
    mlp_weights mlp;
    expert_weights experts;
} layer_weights;

typedef struct model_weights {
    weight *embedding;
    norm_weights norm;
    linear output;
    weight *rope_factors;      /* NULL: none; likewise the next */
    weight *long_rope_factors; /* in place of rope_factors in contexts above the original one */
    layer_weights *layer;      /* one each, owned */
} model_weights;

/* The declarations so far. weight[i] belongs to the file's tensor i. The first failure is kept, later declarations do nothing. */
typedef struct weight_set {
    const quern_gguf *gguf;
    weight *weight;
    uint64_t count;
    quern_error *error;
    quern_status status;
} weight_set;

quern_status weight_set_init(weight_set *set, const quern_gguf *gguf, quern_error *error);
void weight_set_free(weight_set *set);

enum { TENSOR_OPTIONAL = 0, TENSOR_REQUIRED = 1 };
/* What a NAME.scale applies to: the product, the bias too, nothing. */
enum { LINEAR_PLAIN = 0, LINEAR_SCALED_BIAS = 1, LINEAR_UNSCALED = 2 };

/* Names are printf formats, so that a layer's number can be written in. A weight that is optional and missing is NULL. */
QUERN_PRINTF(6, 7)
weight *declare_matrix(weight_set *set, int required, uint32_t uses, int64_t k, int64_t m, const char *name, ...);
QUERN_PRINTF(4, 5) weight *declare_vector(weight_set *set, int required, int64_t n, const char *name, ...);
/* NAME.weight {k, m} with the optional NAME.bias {m} and NAME.scale, one number that is read here. */
QUERN_PRINTF(6, 7) linear declare_linear(weight_set *set, int required, int kind, int64_t k, int64_t m, const char *name, ...);
/* NAME.weight {n} with the optional NAME.bias {n}. */
QUERN_PRINTF(4, 5) norm_weights declare_norm(weight_set *set, int required, int64_t n, const char *name, ...);

/* Tensors whose name begins with that are known and not used. */
void declare_unused(weight_set *set, const char *prefix);
/* After all declarations: fails for a tensor that nobody declared, so that no part of a model is left out in silence. */
void weight_set_refuse_unused(weight_set *set, const hparams *hp);

/* What comes before the first layer and after the last one: token_embd, output_norm, output (or the embedding once more). */
void declare_ends(weight_set *set, const hparams *hp, model_weights *weights);
/* attn_norm, attn_q, attn_k, attn_v (or attn_qkv) and attn_output. */
void declare_attention(weight_set *set, const hparams *hp, uint32_t layer, attention_weights *weights);
/* The same where hp->attention_gate is set: attn_q has twice the rows. A scale applies to the biases too. */
void declare_gated_attention(weight_set *set, const hparams *hp, uint32_t layer, attention_weights *weights);
/* attn_norm, attn_qkv, attn_gate, ssm_conv1d, ssm_alpha, ssm_dt, ssm_a, ssm_beta, ssm_norm and ssm_out. */
void declare_delta(weight_set *set, const hparams *hp, uint32_t layer, delta_weights *weights);
/* attn_q_norm and attn_k_norm, over the features of a head. */
void declare_qk_norms(weight_set *set, const hparams *hp, uint32_t layer, attention_weights *weights);
/* ffn_gate_inp, exp_probs_b and the experts' ffn_gate_exps, ffn_up_exps and ffn_down_exps; with a shared expert ffn_gate_shexp,
 * ffn_up_shexp, ffn_down_shexp and, if the file has it, ffn_gate_inp_shexp. Not the norm. kind: what a scale applies to. */
void declare_experts(weight_set *set, const hparams *hp, uint32_t layer, int kind, expert_weights *weights);
/* ffn_norm, ffn_gate, ffn_up and ffn_down, as hp->mlp has it. kind is what a scale applies to. */
void declare_mlp(weight_set *set, const hparams *hp, uint32_t layer, int kind, mlp_weights *weights);
/* The same without ffn_norm. */
void declare_mlp_matrices(weight_set *set, const hparams *hp, uint32_t layer, int kind, mlp_weights *weights);
/* ffn_norm and what comes after it: experts in the layers that have them, an MLP in the others. */
void declare_feed_forward(weight_set *set, const hparams *hp, uint32_t layer, int kind, layer_weights *weights);
/* post_attention_norm and post_ffw_norm, between a block and the residual stream. */
void declare_post_norms(weight_set *set, const hparams *hp, uint32_t layer, layer_weights *weights);

/* Asks the device how each declared weight will lie and gives it a shape and a place, cut by rows where it must be. Nothing is
 * allocated on the device. A weight that it would refuse to compute with fails, unless `refusals` is set. */
quern_status weights_plan(weight_set *set, quern_device *device, int refusals, placement *p, quern_error *error);
/* After placement_allocate: fills in where each weight's qp_tensor lies. */
void weights_bind(weight_set *set, const placement *p);

#endif
