/* SPDX-License-Identifier: MIT
 * Qwen3.5 (text): layers of the gated delta rule with a layer of attention after each few of them, whose output is gated by a
 * second half of the queries' projection. Yang et al. 2024, arXiv:2412.06464; Qwen team 2025, arXiv:2505.09388 (Qwen3).
 *
 * Rope is a multi-section one: pairs of features take turns between the positions in time, height and width. Of text all three are
 * the token's position, so that it is the plain rope on halves; rope.dimension_sections says nothing more.
 *
 * Qwen3.5-MoE is the same with a mixture of experts, whose weights add up to 1, and a gated shared expert. */
#include "engine/arch/arch.h"

static void read_metadata(metadata *md, hparams *hp)
{
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NEOX);
    hparams_read_delta(md, hp, 4);
    hparams_drop_prediction_layers(md, hp);
    hparams_gate_attention(md, hp);
}

static void read_moe_metadata(metadata *md, hparams *hp)
{
    hp->mixture = 1;
    read_metadata(md, hp);
    hparams_read_experts(md, hp, &(expert_defaults){.required = 1, .gate = QP_GATE_SOFTMAX, .normalise = 1, .shared = 1});
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        layer_weights *l = &weights->layer[i];
        if (hp->layer[i].delta.value_heads) {
            declare_delta(set, hp, i, &l->delta);
        } else {
            declare_gated_attention(set, hp, i, &l->attention);
            declare_qk_norms(set, hp, i, &l->attention);
        }
        l->mlp.norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "blk.%u.post_attention_norm", i);
        if (hp->layer[i].experts)
            declare_experts(set, hp, i, LINEAR_SCALED_BIAS, &l->experts);
        else
            declare_mlp_matrices(set, hp, i, LINEAR_SCALED_BIAS, &l->mlp);
    }
}

static void build(builder *b)
{
    quern_value x = block_embedding(b);
    for (uint32_t i = 0; i < b->hp->layers; i++) {
        x = b->hp->layer[i].delta.value_heads ? block_delta(b, i, x) : block_attention(b, i, x);
        x = block_mlp(b, i, x);
    }
    block_logits(b, x);
}

const arch arch_qwen35 = {"qwen35", read_metadata, declare, build};
const arch arch_qwen35moe = {"qwen35moe", read_moe_metadata, declare, build};
