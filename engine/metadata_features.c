/* SPDX-License-Identifier: MIT */
#include "engine/metadata_features.h"

#include <stdio.h>
#include <string.h>

/* Two values that mean "not used": writers that fill in every key disagree. Arrays are looked through, number by number. */
typedef struct feature {
    const char *suffix;
    double neutral, also_neutral;
    const char *what;
} feature;

static const feature features[] = {
    {"expert_count", 0, 0, "a mixture of experts"},
    {"expert_shared_count", 0, 0, "shared experts"},
    {"expert_shared_feed_forward_length", 0, 0, "a shared expert"},
    {"expert_chunk_feed_forward_length", 0, 0, "experts in chunks"},
    {"expert_group_count", 0, 1, "groups of experts"},
    {"experts_per_group", 0, 1, "groups of experts"},
    {"expert_gating_func", 0, 1, "gates other than a softmax"},
    {"expert_weights_scale", 0, 1, "a scale of the experts' weights"},
    {"leading_dense_block_count", 0, 0, "layers without experts before those with them"},
    {"moe_every_n_layers", 0, 1, "experts in some layers only"},
    {"interleave_moe_layer_step", 0, 1, "experts in some layers only"},
    {"moe_latent_size", 0, 0, "experts in a smaller space"},
    {"router_logit_softcapping", 0, 30, "a soft cap on the router"},
    {"swiglu_clamp_exp", 0, 0, "a clamped gate"},
    {"swiglu_clamp_shexp", 0, 0, "a clamped gate"},
    {"nextn_predict_layers", 0, 0, "layers that predict further tokens"},
    {"n_deepstack_layers", 0, 0, "layers that take in pictures"},
    {"full_attention_interval", 0, 1, "layers without attention"},
    {"embedding_length_out", 0, 0, "an output of another size"},
    {"embedding_length_per_layer_input", 0, 0, "embeddings for each layer"},
    {"altup.num_inputs", 0, 1, "alternating updates"},
    {"activation_sparsity_scale", 0, 0, "sparse activations"},
    {"decoder_block_count", 0, 0, "an encoder and a decoder"},
    {"use_parallel_residual", 0, 0, "a parallel residual"},
    {"swin_norm", 0, 0, "Swin's norms"},
    {"rescale_every_n_layers", 0, 0, "rescaling between layers"},
    {"embedding_scale", 0, 1, "a scale of the embedding"},
    {"residual_scale", 0, 1, "a scale of the residual"},
    {"logit_scale", 0, 1, "a scale of the logits"},
    {"attn_logit_softcapping", 0, 50, "a soft cap on scores"},
    {"final_logit_softcapping", 0, 30, "a soft cap on logits"},
    {"attention.causal", 1, 1, "attention that is not causal"},
    {"attention.sliding_window", 0, 0, "a sliding window"},
    {"attention.scale", 0, 0, "a scale of the scores"},
    {"attention.output_scale", 0, 1, "a scale of attention's output"},
    {"attention.value_scale", 0, 1, "a scale of V"},
    {"attention.temperature_scale", 0, 0, "attention temperature by position"},
    {"attention.temperature_length", 0, 0, "attention temperature by position"},
    {"attention.max_alibi_bias", 0, 0, "ALiBi"},
    {"attention.clamp_kqv", 0, 0, "clamping of Q, K and V"},
    {"attention.relative_buckets_count", 0, 0, "relative positions"},
    {"attention.group_norm_groups", 0, 0, "group norms"},
    {"attention.q_lora_rank", 0, 0, "latent attention"},
    {"attention.kv_lora_rank", 0, 0, "latent attention"},
    {"attention.key_length_mla", 0, 0, "latent attention"},
    {"attention.value_length_mla", 0, 0, "latent attention"},
    {"attention.shared_kv_layers", 0, 0, "layers that share their KV cache"},
    {"attention.recurrent_layers", 0, 0, "layers without attention"},
    {"attention.indexer.head_count", 0, 0, "sparse attention"},
    {"rope.scaling.alpha", 0, 1, "a rope scaled by alpha"},
    {"ssm.inner_size", 0, 0, "a state space"},
    {"ssm.conv_kernel", 0, 0, "a state space"},
    {"kda.head_dim", 0, 0, "a delta net with a gate for each feature"},
    {"wkv.head_size", 0, 0, "RWKV"},
    {"shortconv.l_cache", 0, 0, "short convolutions"},
};

enum { FEATURES = sizeof features / sizeof *features };
_Static_assert(FEATURES <= 8 * sizeof((metadata *)NULL)->asked, "a bit for each feature");

void features_note(metadata *md, const char *suffix)
{
    for (size_t i = 0; i < FEATURES; i++)
        if (!strcmp(features[i].suffix, suffix))
            md->asked[i / 64] |= UINT64_C(1) << i % 64;
}

static void refuse(metadata *md, const char *key, double value, const char *what)
{
    md->status = QP_OK; /* an earlier failure is forgotten */
    metadata_fail(md, QP_ERR_UNSUPPORTED, "%s is %g: %s is not supported in architecture \"%s\"", key, value, what,
                  md->architecture);
}

/* Gives back whether the file was refused. */
static int refuse_feature(metadata *md, const feature *f)
{
    char key[METADATA_KEY_SIZE];
    const quern_gguf_kv *kv = quern_gguf_find(md->gguf, metadata_key(md, f->suffix, key));
    for (uint64_t i = 0; kv && i < kv->count; i++) {
        double value = 0;
        quern_error ignored;
        if (quern_gguf_get_f64(md->gguf, key, i, &value, &ignored) != QP_OK) {
            md->status = QP_OK;
            metadata_fail(md, QP_ERR_FORMAT, "%s is not a number", key);
            return 1;
        }
        if (value == f->neutral || value == f->also_neutral)
            continue;
        refuse(md, key, value, f->what);
        return 1;
    }
    return 0;
}

void features_refuse_unread(metadata *md)
{
    for (size_t i = 0; i < FEATURES; i++)
        if (!(md->asked[i / 64] >> i % 64 & 1) && refuse_feature(md, &features[i]))
            return;
}
