/* SPDX-License-Identifier: MIT
 * Llama 1, 2, 3 and their many relatives (Mistral 7B, SmolLM, …): pre-norm transformer, RMS norm, rotary positions on neighbouring
 * pairs, grouped heads, gated MLP. Touvron et al. 2023, arXiv:2302.13971 and arXiv:2307.09288. */
#include "engine/arch/arch.h"

static const refused_key refused[] = {
    {"expert_count", 0, "a mixture of experts"},
    {"attention.max_alibi_bias", 0, "ALiBi"},
    {"attention.clamp_kqv", 0, "clamping of Q, K and V"},
    {"attention.causal", 1, "attention that is not causal"},
    {"attention.kv_lora_rank", 0, "latent attention"},
    {"attention.temperature_scale", 0, "attention temperature by position"},
    {"use_parallel_residual", 0, "a parallel residual"},
    {"rope.scaling.yarn_log_multiplier", 0, "a YaRN log multiplier"},
    {0},
};

static void read_metadata(metadata *md, hparams *hp)
{
    hparams_refuse(md, refused);
    hparams_read_shape(md, hp);
    hparams_read_norm(md, hp, QP_NORM_RMS);
    hparams_read_rope(md, hp, QP_ROPE_NORMAL);
    hparams_read_window(md, hp);
    hp->attention_scale = metadata_float(md, "attention.scale", KEY_OPTIONAL, 0);
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    weights->rope_factors = declare_vector(set, TENSOR_OPTIONAL, hp->rope[0].n_dims / 2, "rope_freqs.weight");
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_mlp(set, hp, i, &weights->layer[i].mlp);
    }
}

static void build(builder *b)
{
    quern_value x = block_embedding(b);
    for (uint32_t i = 0; i < b->hp->layers; i++) {
        x = block_attention(b, i, x);
        x = block_mlp(b, i, x);
    }
    block_logits(b, x);
}

const arch arch_llama = {"llama", read_metadata, declare, build};
