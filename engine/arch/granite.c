/* SPDX-License-Identifier: MIT
 * Granite 3: Llama with four multipliers, of the embedding, the attention scores, the residual and the logits (these by division).
 * IBM Granite team 2024; the multipliers after Yang et al. 2022, arXiv:2203.03466. */
#include "engine/arch/arch.h"

/* 0 means that it is not used. */
static float multiplier(metadata *md, const char *suffix)
{
    float value = hparams_read_cap(md, suffix, 0);
    return value > 0 ? value : 1;
}

static void read_metadata(metadata *md, hparams *hp)
{
    hparams_read_dense(md, hp, QP_NORM_RMS, QP_ROPE_NORMAL);
    hp->embedding_scale = multiplier(md, "embedding_scale");
    hp->residual_scale = multiplier(md, "residual_scale");
    hp->logit_scale = 1 / multiplier(md, "logit_scale");
    /* here this key tells whether there are rotary positions at all */
    int rope = metadata_count(md, "rope.scaling.finetuned", KEY_OPTIONAL, 1, 1) != 0;
    for (uint32_t i = 0; i < hp->layers && !rope; i++)
        hp->layer[i].rope = HPARAMS_NO_ROPE;
}

/* The experts' weights add up to 1; some models have a shared expert, without a gate. */
static void read_moe_metadata(metadata *md, hparams *hp)
{
    hp->mixture = 1;
    read_metadata(md, hp);
    int shared = metadata_count(md, "expert_shared_feed_forward_length", KEY_OPTIONAL, 1, 0) > 0;
    hparams_read_experts(md, hp,
                         &(expert_defaults){.required = 1, .gate = QP_GATE_SOFTMAX, .normalise = 1, .shared = shared, .all = 1});
}

static void declare(weight_set *set, const hparams *hp, model_weights *weights)
{
    declare_ends(set, hp, weights);
    weights->rope_factors = declare_vector(set, TENSOR_OPTIONAL, hp->rope[0].n_dims / 2, "rope_freqs.weight");
    for (uint32_t i = 0; i < hp->layers; i++) {
        declare_attention(set, hp, i, &weights->layer[i].attention);
        declare_feed_forward(set, hp, i, LINEAR_UNSCALED, &weights->layer[i]);
    }
}

const arch arch_granite = {"granite", read_metadata, declare, block_dense};
const arch arch_granitemoe = {"granitemoe", read_moe_metadata, declare, block_dense};
