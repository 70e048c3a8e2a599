/* SPDX-License-Identifier: MIT
 * Phi-3, Phi-3.5 and Phi-4-mini: Llama with one matrix for Q, K and V and one for gate and up, positions on a part of each head,
 * and longrope. Abdin et al. 2024, arXiv:2404.14219; Ding et al. 2024, arXiv:2402.13753. */
#include "engine/arch/arch.h"

static void read_metadata(metadata *md, hparams *hp)
{
    hp->long_rope = 1;
    hp->mlp = MLP_FUSED;
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NEOX);
    hparams_read_window(md, hp);
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    int64_t pairs = hp->rope[0].n_dims / 2;
    /* both sets or none */
    int either = quern_gguf_tensor_find(set->gguf, "rope_factors_short.weight") ||
                 quern_gguf_tensor_find(set->gguf, "rope_factors_long.weight");
    int required = either ? TENSOR_REQUIRED : TENSOR_OPTIONAL;
    weights->rope_factors = declare_vector(set, required, pairs, "rope_factors_short.weight");
    weights->long_rope_factors = declare_vector(set, required, pairs, "rope_factors_long.weight");
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_mlp(set, hp, i, LINEAR_UNSCALED, &weights->layer[i].mlp);
    }
}

const arch arch_phi3 = {"phi3", read_metadata, declare, block_dense};
