/* SPDX-License-Identifier: MIT
 * Gemma: the embedding times the root of its size, a gate with GELU, tied output. Files store the norms' weights as they are used
 * (1 added). Gemma team 2024, arXiv:2403.08295. */
#include "engine/arch/arch.h"

#include <math.h>

static void read_metadata(metadata *md, hparams *hp)
{
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NEOX);
    hp->activation = QP_ACT_GELU_TANH;
    hp->embedding_scale = sqrtf((float)hp->embedding);
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_mlp(set, hp, i, LINEAR_UNSCALED, &weights->layer[i].mlp);
    }
}

const arch arch_gemma = {"gemma", read_metadata, declare, block_dense};
