/* SPDX-License-Identifier: MIT
 * Llama 1, 2, 3 and their many relatives (Mistral 7B, SmolLM, …): pre-norm transformer, RMS norm, rotary positions on neighbouring
 * pairs, grouped heads, gated MLP. Touvron et al. 2023, arXiv:2302.13971 and arXiv:2307.09288. With experts in place of the MLP it is
 * Mixtral: Jiang et al. 2024, arXiv:2401.04088. */
#include "engine/arch/arch.h"

static void read_metadata(metadata *md, hparams *hp)
{
    hp->mixture = metadata_has(md, "expert_count");
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NORMAL);
    hparams_read_window(md, hp);
    hparams_read_experts(md, hp, &(expert_defaults){.gate = QP_GATE_SOFTMAX, .normalise = 1});
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    weights->rope_factors = declare_vector(set, TENSOR_OPTIONAL, hp->rope[0].n_dims / 2, "rope_freqs.weight");
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_feed_forward(set, hp, i, LINEAR_SCALED_BIAS, &weights->layer[i]);
    }
}

const arch arch_llama = {"llama", read_metadata, declare, block_dense};
