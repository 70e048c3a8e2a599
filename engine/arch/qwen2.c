/* SPDX-License-Identifier: MIT
 * Qwen2 and Qwen2.5: Llama with biases on Q, K and V and rotary positions on halves. Qwen team 2024, arXiv:2407.10671. */
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
        declare_mlp(set, hp, i, LINEAR_UNSCALED, &weights->layer[i].mlp);
    }
}

const arch arch_qwen2 = {"qwen2", read_metadata, declare, block_dense};
