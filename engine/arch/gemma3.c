/* SPDX-License-Identifier: MIT
 * Gemma 3 (text): Gemma 2 with norms over each head of Q and K in place of the caps, and five layers with a window and a rope base
 * of their own before each one without. Gemma team 2025, arXiv:2503.19786. */
#include "engine/arch/arch.h"

#include <math.h>

enum { WINDOW_PERIOD = 6, LAYERS_27B = 62 };

static void read_metadata(metadata *md, hparams *hp)
{
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NEOX);
    hparams_read_window_pattern(md, hp, WINDOW_PERIOD, 0);
    hparams_read_local_rope(md, hp, 10000);
    hp->activation = QP_ACT_GELU_TANH;
    hp->embedding_scale = sqrtf((float)hp->embedding);
    hp->attention_softcap = hparams_read_cap(md, "attn_logit_softcapping", 0);
    hp->logit_softcap = hparams_read_cap(md, "final_logit_softcapping", 0);
    /* files do not tell the scale of the one model, 27B, where it is not that of the head size */
    if (md->status == QP_OK && hp->attention_scale == 0 && hp->layers == LAYERS_27B)
        hp->attention_scale = sqrtf((float)hp->layer[0].heads / (float)hp->embedding);
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_qk_norms(set, hp, i, &weights->layer[i].attention);
        declare_mlp(set, hp, i, LINEAR_UNSCALED, &weights->layer[i].mlp);
        declare_post_norms(set, hp, i, &weights->layer[i]);
    }
}

const arch arch_gemma3 = {"gemma3", read_metadata, declare, block_dense};
