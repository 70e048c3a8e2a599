/* SPDX-License-Identifier: MIT
 * SmolLM3: Llama in which each fourth layer has no positions. Hugging Face 2025; the layers without after Yang et al. 2025,
 * arXiv:2501.18795. */
#include "engine/arch/arch.h"

enum { WITHOUT_POSITIONS = 4 }; /* the metadata has no key for it */

static void read_metadata(metadata *md, hparams *hp)
{
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NORMAL);
    for (uint32_t i = WITHOUT_POSITIONS - 1; i < hp->layers; i += WITHOUT_POSITIONS)
        hp->layer[i].rope = HPARAMS_NO_ROPE;
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_mlp(set, hp, i, LINEAR_UNSCALED, &weights->layer[i].mlp);
    }
}

const arch arch_smollm3 = {"smollm3", read_metadata, declare, block_dense};
