/* SPDX-License-Identifier: MIT
 * Qwen3-MoE (30B-A3B, 235B-A22B, Coder): Qwen3 with a mixture of experts, whose weights add up to 1. Qwen team 2025,
 * arXiv:2505.09388. */
#include "engine/arch/arch.h"

static void read_metadata(metadata *md, hparams *hp)
{
    hp->mixture = 1;
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NEOX);
    hparams_read_experts(md, hp, &(expert_defaults){.required = 1, .gate = QP_GATE_SOFTMAX, .normalise = 1, .split = 1});
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_qk_norms(set, hp, i, &weights->layer[i].attention);
        declare_feed_forward(set, hp, i, LINEAR_SCALED_BIAS, &weights->layer[i]);
    }
}

const arch arch_qwen3moe = {"qwen3moe", read_metadata, declare, block_dense};
