/* SPDX-License-Identifier: MIT
 * Qwen1.5-MoE and Qwen2-MoE: Qwen2 with a mixture of experts, whose weights are those of the softmax over all, and a shared expert
 * behind a gate of its own. Qwen team 2024, arXiv:2407.10671. */
#include "engine/arch/arch.h"

static void read_metadata(metadata *md, hparams *hp)
{
    hp->mixture = 1;
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NEOX);
    hparams_read_experts(md, hp, &(expert_defaults){.required = 1, .gate = QP_GATE_SOFTMAX, .split = 1, .shared = 1});
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_feed_forward(set, hp, i, LINEAR_UNSCALED, &weights->layer[i]);
    }
}

const arch arch_qwen2moe = {"qwen2moe", read_metadata, declare, block_dense};
