/* SPDX-License-Identifier: MIT
 * gpt-oss (20B, 120B): biases everywhere, a sink for each head, a window in every other layer beginning with the first, experts with
 * a clamped gate, weighed by a softmax over the chosen ones, and YaRN whose ramp is not rounded to whole pairs. OpenAI 2025,
 * arXiv:2508.10925. The norm before the experts is called post_attention_norm in files. */
#include "engine/arch/arch.h"

enum { WINDOW_PERIOD = 2 };

static void read_metadata(metadata *md, hparams *hp)
{
    hp->mixture = 1;
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NEOX);
    hp->rope[0].flags |= QP_ROPE_EXACT_RAMP;
    hparams_read_window_pattern(md, hp, WINDOW_PERIOD, 0);
    hparams_read_experts(md, hp, &(expert_defaults){.required = 1, .gate = QP_GATE_SOFTMAX_CHOSEN, .all = 1});
    hp->activation = QP_ACT_SWIGLU_CLAMPED;
    hp->experts.clamp_alpha = 1.702f;
    hp->experts.clamp_limit = 7;
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        layer_weights *l = &weights->layer[i];
        declare_attention(set, hp, i, &l->attention);
        l->attention.sinks = declare_vector(set, TENSOR_REQUIRED, hp->layer[i].heads, "blk.%u.attn_sinks.weight", i);
        l->mlp.norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "blk.%u.post_attention_norm", i);
        declare_experts(set, hp, i, LINEAR_UNSCALED, &l->experts);
    }
}

const arch arch_gpt_oss = {"gpt-oss", read_metadata, declare, block_dense};
