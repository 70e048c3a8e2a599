/* SPDX-License-Identifier: MIT
 * StarCoder2: layer norms and biases everywhere, a feed-forward part without a gate. Lozhkov et al. 2024, arXiv:2402.19173. */
#include "engine/arch/arch.h"

static void read_metadata(metadata *md, hparams *hp)
{
    hp->mlp = MLP_UNGATED;
    hp->activation = QP_ACT_GELU_TANH;
    hparams_read_dense(md, hp, QP_NORM_LAYER, QP_ROPE_NEOX);
    hparams_read_window(md, hp);
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_mlp(set, hp, i, LINEAR_UNSCALED, &weights->layer[i].mlp);
    }
}

const arch arch_starcoder2 = {"starcoder2", read_metadata, declare, block_dense};
