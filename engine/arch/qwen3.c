/* SPDX-License-Identifier: MIT
 * Qwen3: Qwen2 without the biases and with a norm over each head of Q and K. Qwen team 2025, arXiv:2505.09388. */
#include "engine/arch/arch.h"

static void read_metadata(metadata *md, hparams *hp)
{
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NEOX);
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_qk_norms(set, hp, i, &weights->layer[i].attention);
        declare_mlp(set, hp, i, LINEAR_SCALED_BIAS, &weights->layer[i].mlp);
    }
}

const arch arch_qwen3 = {"qwen3", read_metadata, declare, block_dense};
