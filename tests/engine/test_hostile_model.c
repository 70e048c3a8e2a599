/* SPDX-License-Identifier: MIT
 * Models that are wrong: each must end in an error that names what is wrong, before anything is computed with it. */
#include "engine/help.h"
#include "engine/tiny_model.h"

#include <math.h>
#include <sys/resource.h>

/* Gives what loading says, and the words. */
static quern_status try_load(quern_device *device, const tiny_model *tiny, test_model *m, builder *file, quern_error *error)
{
    *m = (test_model){0};
    *error = (quern_error){0};
    *file = tiny_write(tiny);
    quern_status status = quern_gguf_open_memory(file->data, file->size, "tiny.gguf", &m->gguf, error);
    return status == QP_OK ? quern_model_load(device, m->gguf, NULL, &m->model, error) : status;
}

static void expect(quern_device *device, const tiny_model *tiny, const char *what, quern_status status, const char *words)
{
    test_model m;
    builder file;
    quern_error error;
    quern_status got = try_load(device, tiny, &m, &file, &error);
    ok(got == status && (status == QP_OK || (strstr(error.text, words) && strstr(error.text, "tiny.gguf"))), "%s: %s", what,
       got == QP_OK ? "loads" : error.text);
    unload(&m);
    builder_free(&file);
}

/* ---- tensors ---- */

static void remove_tensor(tiny_model *m, const char *name)
{
    tiny_find(m, name)->removed = 1;
}

static void swap_shape(tiny_model *m, const char *name)
{
    tiny_tensor *t = tiny_find(m, name);
    uint64_t ne0 = t->ne[0];
    t->ne[0] = t->ne[1];
    t->ne[1] = ne0;
}

static void widen(tiny_model *m, const char *name) /* {n, m} becomes {n / 2, 2·m}: the same bytes */
{
    tiny_tensor *t = tiny_find(m, name);
    t->ne[0] /= 2;
    t->ne[1] *= 2;
    t->dims = 2;
}

/* The metadata after the tensors are made. */
static void count_eight_experts(tiny_model *m, const char *name)
{
    (void)name;
    m->spec.experts = 8;
}

static void count_two_billion_experts(tiny_model *m, const char *name)
{
    (void)name;
    m->spec.experts = INT32_MAX;
}

static void double_expert_sizes(tiny_model *m, const char *name)
{
    (void)name;
    m->spec.expert_feed_forward *= 2;
}

static void as_i32(tiny_model *m, const char *name)
{
    tiny_find(m, name)->format = QP_FORMAT_I32;
}

static void as_f16(tiny_model *m, const char *name)
{
    tiny_tensor *t = tiny_find(m, name);
    t->format = QP_FORMAT_F16;
    t->bytes /= 2;
}

static void bad_scale(tiny_model *m, const char *name)
{
    tiny_set(tiny_find(m, name), 0, (double)NAN);
}

static const struct tensor_case {
    const char *what;
    void (*spoil)(tiny_model *m, const char *name);
    const char *name;
    quern_status status;
    const char *words;
} tensor_cases[] = {
    {"a missing matrix", remove_tensor, "blk.1.attn_q.weight", QP_ERR_FORMAT, "tensor blk.1.attn_q.weight is missing"},
    {"a missing embedding", remove_tensor, "token_embd.weight", QP_ERR_FORMAT, "tensor token_embd.weight is missing"},
    {"a missing norm", remove_tensor, "blk.0.ffn_norm.weight", QP_ERR_FORMAT, "tensor blk.0.ffn_norm.weight is missing"},
    {"a missing output norm", remove_tensor, "output_norm.weight", QP_ERR_FORMAT, "tensor output_norm.weight is missing"},
    {"no output matrix: the embedding serves", remove_tensor, "output.weight", QP_OK, ""},
    {"a missing bias", remove_tensor, "blk.0.attn_q.bias", QP_OK, ""},
    {"a matrix turned over", swap_shape, "blk.0.ffn_down.weight", QP_ERR_FORMAT, "has the shape 32 x 48, expected 48 x 32"},
    {"an embedding turned over", swap_shape, "token_embd.weight", QP_ERR_FORMAT, "token_embd.weight has the shape 20 x 32"},
    {"a norm of another shape", widen, "blk.1.attn_norm.weight", QP_ERR_FORMAT, "has the shape 16 x 2, expected 32"},
    {"an output matrix for other tokens", widen, "output.weight", QP_ERR_FORMAT,
     "tensor output.weight has the shape 16 x 40, expected 32 x 20"},
    {"a bias of another shape", widen, "blk.0.attn_k.bias", QP_ERR_FORMAT, "blk.0.attn_k.bias"},
    {"a matrix of integers", as_i32, "blk.0.ffn_up.weight", QP_ERR_UNSUPPORTED, "tensor blk.0.ffn_up.weight"},
    {"a norm in F16", as_f16, "blk.0.attn_norm.weight", QP_ERR_UNSUPPORTED, "blk.0.attn_norm.weight is F16"},
    {"a scale that is NaN", bad_scale, "blk.0.attn_q.scale", QP_ERR_FORMAT, "blk.0.attn_q.scale holds"},
};

static void check_tensors(quern_device *device)
{
    tiny_spec spec = tiny_plain;
    spec.biases = spec.scales = 1;
    for (size_t i = 0; i < sizeof tensor_cases / sizeof *tensor_cases; i++) {
        const struct tensor_case *c = &tensor_cases[i];
        tiny_model tiny = tiny_make(&spec, i);
        c->spoil(&tiny, c->name);
        expect(device, &tiny, c->what, c->status, c->words);
        tiny_free(&tiny);
    }
}

/* ---- other architectures ---- */

static void pattern_too_short(builder *b)
{
    put_kv_array(b, "gemma3.attention.sliding_window_pattern", QUERN_GGUF_BOOL, 1);
    put(b, "\1", 1);
}

static void pattern_of_zero(builder *b)
{
    put_kv_u32(b, "gemma3.attention.sliding_window_pattern", 0);
}

static void pattern_of_words(builder *b)
{
    put_kv_string(b, "gemma3.attention.sliding_window_pattern", "every other");
}

static void pattern_by_layer(builder *b)
{
    put_kv_array(b, "gemma3.attention.sliding_window_pattern", QUERN_GGUF_BOOL, 2);
    put(b, "\0\1", 2);
}

static void recurrent_layers(builder *b)
{
    put_kv_array(b, "qwen35.attention.recurrent_layers", QUERN_GGUF_BOOL, 2);
    put(b, "\1\0", 2);
}

static void recurrent_too_short(builder *b)
{
    put_kv_array(b, "qwen35.attention.recurrent_layers", QUERN_GGUF_BOOL, 1);
    put(b, "\1", 1);
}

static void recurrent_number(builder *b)
{
    put_kv_u32(b, "qwen35.attention.recurrent_layers", 1);
}

static void recurrent_words(builder *b)
{
    put_kv_string(b, "qwen35.attention.recurrent_layers", "all");
}

static void no_window(builder *b)
{
    put_kv_u32(b, "gemma2.attention.sliding_window", 0);
}

static void nothing(tiny_model *m, const char *name)
{
    (void)m, (void)name;
}

static void halve(tiny_model *m, const char *name)
{
    tiny_tensor *t = tiny_find(m, name);
    t->ne[1] /= 2;
    t->bytes /= 2;
}

#define SIZES                                                                                                                      \
    .layers = 2, .embedding = 32, .heads = 4, .kv_heads = 2, .head_k = 8, .head_v = 8, .feed_forward = 48, .vocabulary = 20,       \
    .context = 64
#define QWEN3                                                                                                                      \
    {                                                                                                                              \
        SIZES, .architecture = "qwen3", .qk_norms = 1                                                                              \
    }
#define PHI3                                                                                                                       \
    {                                                                                                                              \
        SIZES, .architecture = "phi3", .fused = 1, .factor_sets = 1                                                                \
    }
#define QWEN35(keys, values, k, v, width, ...)                                                                                     \
    {                                                                                                                              \
        SIZES, .architecture = "qwen35", .qk_norms = 1, .attention_period = 2, .delta_keys = keys, .delta_values = values,         \
               .delta_k = k, .delta_v = v, .conv_width = width, __VA_ARGS__                                                        \
    }
#define GEMMA3                                                                                                                     \
    {                                                                                                                              \
        SIZES, .architecture = "gemma3", .tied = 1, .qk_norms = 1, .post_norms = 1, .window = 4                                    \
    }

#define MIXTURE .experts = 4, .experts_used = 2, .expert_feed_forward = 16
#define MIXTRAL                                                                                                                    \
    {                                                                                                                              \
        SIZES, MIXTURE                                                                                                             \
    }
#define GPT_OSS                                                                                                                    \
    {                                                                                                                              \
        SIZES, MIXTURE, .architecture = "gpt-oss", .biases = 1, .sinks = 1, .clamped = 1, .expert_biases = 1, .window = 4          \
    }

static const struct kind_case {
    const char *what;
    tiny_spec spec;
    void (*spoil)(tiny_model *m, const char *name);
    const char *name;
    quern_status status;
    const char *words;
} kind_cases[] = {
    {"qwen2", {SIZES, .architecture = "qwen2", .biases = 1}, nothing, "", QP_OK, ""},
    {"qwen2 with a window of layers unknown",
     {SIZES, .architecture = "qwen2", .window = 5},
     nothing,
     "",
     QP_ERR_UNSUPPORTED,
     "qwen2.attention.sliding_window is 5: a sliding window is not supported"},
    {"llama with norms of Q and K",
     {SIZES, .qk_norms = 1},
     nothing,
     "",
     QP_ERR_UNSUPPORTED,
     "tensor blk.0.attn_q_norm.weight is not known in architecture \"llama\""},
    {"llama with norms after the blocks", {SIZES, .post_norms = 1}, nothing, "", QP_ERR_UNSUPPORTED, "blk.0.post_attention_norm"},
    {"qwen2 with rope factors",
     {SIZES, .architecture = "qwen2", .rope_factors = 1},
     nothing,
     "",
     QP_ERR_UNSUPPORTED,
     "tensor rope_freqs.weight is not known"},
    {"llama with longrope's factors", {SIZES, .factor_sets = 1}, nothing, "", QP_ERR_UNSUPPORTED, "rope_factors_short.weight"},
    {"qwen3 without a norm of Q", QWEN3, remove_tensor, "blk.1.attn_q_norm.weight", QP_ERR_FORMAT,
     "tensor blk.1.attn_q_norm.weight is missing"},
    {"qwen3 with a norm of K over half a head", QWEN3, widen, "blk.0.attn_k_norm.weight", QP_ERR_FORMAT,
     "blk.0.attn_k_norm.weight has the shape 4 x 2, expected 8"},
    {"mixtral", MIXTRAL, nothing, "", QP_OK, ""},
    {"mixtral without a router", MIXTRAL, remove_tensor, "blk.1.ffn_gate_inp.weight", QP_ERR_FORMAT,
     "tensor blk.1.ffn_gate_inp.weight is missing (expected 32 x 4)"},
    {"mixtral without the experts' gate", MIXTRAL, remove_tensor, "blk.0.ffn_gate_exps.weight", QP_ERR_FORMAT,
     "tensor blk.0.ffn_gate_exps.weight is missing (expected 32 x 16 x 4)"},
    {"mixtral with experts of another shape", MIXTRAL, swap_shape, "blk.0.ffn_down_exps.weight", QP_ERR_FORMAT,
     "tensor blk.0.ffn_down_exps.weight has the shape 32 x 16 x 4, expected 16 x 32 x 4"},
    {"mixtral with experts' matrices in integers", MIXTRAL, as_i32, "blk.0.ffn_up_exps.weight", QP_ERR_UNSUPPORTED,
     "tensor blk.0.ffn_up_exps.weight"},
    {"mixtral with more experts than matrices", MIXTRAL, count_eight_experts, "", QP_ERR_FORMAT,
     "tensor blk.0.ffn_gate_inp.weight has the shape 32 x 4, expected 32 x 8"},
    {"mixtral with two billion experts", MIXTRAL, count_two_billion_experts, "", QP_ERR_FORMAT,
     "tensor blk.0.ffn_gate_inp.weight has the shape 32 x 4"},
    {"mixtral with larger experts than matrices", MIXTRAL, double_expert_sizes, "", QP_ERR_FORMAT,
     "tensor blk.0.ffn_gate_exps.weight has the shape 32 x 16 x 4, expected 32 x 32 x 4"},
    {"mixtral that uses no expert", {SIZES, .experts = 4}, nothing, "", QP_ERR_FORMAT, "has no llama.expert_used_count"},
    {"mixtral that uses more experts than there are",
     {SIZES, .experts = 4, .experts_used = 5},
     nothing,
     "",
     QP_ERR_FORMAT,
     "llama.expert_used_count is 5 of 4 experts"},
    {"mixtral with a gate that nobody knows",
     {SIZES, MIXTURE, .expert_gate = 8},
     nothing,
     "",
     QP_ERR_UNSUPPORTED,
     "llama.expert_gating_func is 9"},
    {"mixtral with groups that do not come out even",
     {SIZES, MIXTURE, .expert_groups = 3, .expert_groups_used = 2},
     nothing,
     "",
     QP_ERR_FORMAT,
     "llama.expert_group_count: 2 of 4 experts cannot be chosen from 2 of 3 groups"},
    {"mixtral with groups too small for what is chosen",
     {SIZES, MIXTURE, .expert_groups = 4, .expert_groups_used = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "cannot be chosen from 1 of 4 groups"},
    {"mixtral with groups of which none is used",
     {SIZES, MIXTURE, .expert_groups = 2},
     nothing,
     "",
     QP_ERR_FORMAT,
     "has no llama.expert_group_used_count"},
    {"mixtral with a shared expert",
     {SIZES, MIXTURE, .shared_feed_forward = 16},
     nothing,
     "",
     QP_ERR_UNSUPPORTED,
     "llama.expert_shared_feed_forward_length is 16: a shared expert is not supported"},
    {"mixtral with scales and biases of experts",
     {SIZES, MIXTURE, .expert_scales = 1, .expert_biases = 1},
     nothing,
     "",
     QP_ERR_UNSUPPORTED,
     "blk.0.ffn_gate_exps has scales and biases"},
    {"qwen3moe without experts",
     {SIZES, .architecture = "qwen3moe", .qk_norms = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "has no qwen3moe.expert_count"},
    {"qwen2moe without its shared expert",
     {SIZES, MIXTURE, .architecture = "qwen2moe"},
     nothing,
     "",
     QP_ERR_FORMAT,
     "tensor blk.0.ffn_gate_shexp.weight is missing"},
    {"gpt-oss", GPT_OSS, nothing, "", QP_OK, ""},
    {"gpt-oss without sinks", GPT_OSS, remove_tensor, "blk.1.attn_sinks.weight", QP_ERR_FORMAT,
     "tensor blk.1.attn_sinks.weight is missing (expected 4)"},
    {"gpt-oss with experts' biases of another shape", GPT_OSS, swap_shape, "blk.0.ffn_up_exps.bias", QP_ERR_FORMAT,
     "tensor blk.0.ffn_up_exps.bias has the shape 4 x 16, expected 16 x 4"},
    {"gpt-oss with a dense layer",
     {SIZES, MIXTURE, .architecture = "gpt-oss", .dense_layers = 1, .window = 4},
     nothing,
     "",
     QP_ERR_UNSUPPORTED,
     "gpt-oss.leading_dense_block_count is 1"},
    {"granite with a negative factor",
     {SIZES, .architecture = "granite", .residual_factor = -1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "granite.residual_scale is -1"},
    {"granite with a factor that is not finite",
     {SIZES, .architecture = "granite", .logit_divisor = (float)INFINITY},
     nothing,
     "",
     QP_ERR_FORMAT,
     "granite.logit_scale is inf"},
    {"phi3", PHI3, nothing, "", QP_OK, ""},
    {"phi3 with a QKV of too few rows", PHI3, halve, "blk.0.attn_qkv.weight", QP_ERR_FORMAT,
     "blk.0.attn_qkv.weight has the shape 32 x 32, expected 32 x 64"},
    {"phi3 with neither QKV nor Q", PHI3, remove_tensor, "blk.1.attn_qkv.weight", QP_ERR_FORMAT,
     "tensor blk.1.attn_q.weight is missing"},
    {"phi3 without a gate", PHI3, halve, "blk.1.ffn_up.weight", QP_ERR_FORMAT,
     "blk.1.ffn_up.weight has the shape 32 x 48, expected 32 x 96"},
    {"phi3 with long factors alone", PHI3, remove_tensor, "rope_factors_short.weight", QP_ERR_FORMAT,
     "tensor rope_factors_short.weight is missing"},
    {"phi3 with short factors alone", PHI3, remove_tensor, "rope_factors_long.weight", QP_ERR_FORMAT,
     "tensor rope_factors_long.weight is missing"},
    {"phi3 with factors of another size", PHI3, widen, "rope_factors_long.weight", QP_ERR_FORMAT, "rope_factors_long.weight has"},
    {"phi3 with longrope and no factors",
     {SIZES, .architecture = "phi3", .fused = 1, .scaling = "longrope", .factor = 4},
     nothing,
     "",
     QP_ERR_FORMAT,
     "but tensor rope_factors_long.weight is missing"},
    {"gemma2 with a negative cap",
     {SIZES, .architecture = "gemma2", .tied = 1, .post_norms = 1, .attention_cap = -50},
     nothing,
     "",
     QP_ERR_FORMAT,
     "gemma2.attn_logit_softcapping is -50"},
    {"gemma2 with a window of nothing",
     {SIZES, .architecture = "gemma2", .tied = 1, .post_norms = 1, .extra = no_window, .extra_count = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "gemma2.attention.sliding_window is 0"},
    {"gemma2 without a norm after the blocks",
     {SIZES, .architecture = "gemma2", .tied = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "tensor blk.0.post_attention_norm.weight is missing"},
    {"gemma3", GEMMA3, nothing, "", QP_OK, ""},
    {"gemma3 without a norm after one block", GEMMA3, remove_tensor, "blk.1.post_ffw_norm.weight", QP_ERR_FORMAT,
     "tensor blk.1.post_ffw_norm.weight is missing"},
    {"gemma3 without a window",
     {SIZES, .architecture = "gemma3", .tied = 1, .qk_norms = 1, .post_norms = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "no gemma3.attention.sliding_window"},
    {"gemma3 with a negative local base",
     {SIZES, .architecture = "gemma3", .tied = 1, .qk_norms = 1, .post_norms = 1, .window = 4, .local_base = -2},
     nothing,
     "",
     QP_ERR_FORMAT,
     "gemma3.rope.freq_base_swa is -2"},
    {"gemma3 with a pattern by layer",
     {SIZES, .architecture = "gemma3", .tied = 1, .qk_norms = 1, .post_norms = 1, .window = 4, .extra = pattern_by_layer,
      .extra_count = 1},
     nothing,
     "",
     QP_OK,
     ""},
    {"gemma3 with a pattern for one layer",
     {SIZES, .architecture = "gemma3", .tied = 1, .qk_norms = 1, .post_norms = 1, .window = 4, .extra = pattern_too_short,
      .extra_count = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "sliding_window_pattern has 1 entries for 2 layers"},
    {"gemma3 with a period of 0",
     {SIZES, .architecture = "gemma3", .tied = 1, .qk_norms = 1, .post_norms = 1, .window = 4, .extra = pattern_of_zero,
      .extra_count = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "sliding_window_pattern is 0"},
    {"gemma3 with a pattern in words",
     {SIZES, .architecture = "gemma3", .tied = 1, .qk_norms = 1, .post_norms = 1, .window = 4, .extra = pattern_of_words,
      .extra_count = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "sliding_window_pattern"},
    {"qwen35", QWEN35(2, 4, 8, 12, 4, .tied = 0), nothing, "", QP_OK, ""},
    {"qwen35 by a list of layers", QWEN35(2, 4, 8, 12, 4, .extra = recurrent_layers, .extra_count = 1), nothing, "", QP_OK, ""},
    {"qwen35 by a list of too few layers", QWEN35(2, 4, 8, 12, 4, .extra = recurrent_too_short, .extra_count = 1), nothing, "",
     QP_ERR_FORMAT, "recurrent_layers has 1 entries for 2 layers"},
    {"qwen35 by one number for all layers", QWEN35(2, 4, 8, 12, 4, .extra = recurrent_number, .extra_count = 1), nothing, "",
     QP_ERR_FORMAT, "recurrent_layers has 1 entries"},
    {"qwen35 by a list of words", QWEN35(2, 4, 8, 12, 4, .extra = recurrent_words, .extra_count = 1), nothing, "", QP_ERR_FORMAT,
     "recurrent_layers"},
    {"qwen35 without sizes of its state",
     {SIZES, .architecture = "qwen35", .qk_norms = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "no qwen35.ssm."},
    {"qwen35 with no key heads", QWEN35(0, 4, 8, 12, 4, .tied = 0), nothing, "", QP_ERR_FORMAT, "qwen35.ssm.group_count is 0"},
    {"qwen35 with no value heads", QWEN35(2, 0, 8, 12, 4, .tied = 0), nothing, "", QP_ERR_FORMAT,
     "blk.0.ssm_dt.bias' has 0 elements"},
    {"qwen35 with keys of no size", QWEN35(2, 4, 0, 12, 4, .tied = 0), nothing, "", QP_ERR_FORMAT, "qwen35.ssm.state_size is 0"},
    {"qwen35 with values of no size", QWEN35(2, 4, 8, 0, 4, .tied = 0), nothing, "", QP_ERR_FORMAT,
     "blk.0.ssm_norm.weight' has 0 elements"},
    {"qwen35 with value heads that key heads cannot share", QWEN35(3, 4, 8, 12, 4, .tied = 0), nothing, "", QP_ERR_FORMAT,
     "time_step_rank 4 (value heads) is not a multiple of ssm.group_count 3"},
    {"qwen35 with a convolution of nothing", QWEN35(2, 4, 8, 12, 1, .tied = 0), nothing, "", QP_ERR_UNSUPPORTED,
     "qwen35.ssm.conv_kernel is 1; 2 to 16"},
    {"qwen35 with a long convolution", QWEN35(2, 4, 8, 12, 17, .tied = 0), nothing, "", QP_ERR_UNSUPPORTED,
     "qwen35.ssm.conv_kernel is 17"},
    {"qwen35 without a convolution", QWEN35(2, 4, 8, 12, 4, .tied = 0), remove_tensor, "blk.0.ssm_conv1d.weight", QP_ERR_FORMAT,
     "tensor blk.0.ssm_conv1d.weight is missing"},
    {"qwen35 with a convolution of F16", QWEN35(2, 4, 8, 12, 4, .tied = 0), as_f16, "blk.0.ssm_conv1d.weight", QP_ERR_UNSUPPORTED,
     "blk.0.ssm_conv1d.weight is F16"},
    {"qwen35 with a convolution turned over", QWEN35(2, 4, 8, 12, 4, .tied = 0), swap_shape, "blk.0.ssm_conv1d.weight",
     QP_ERR_FORMAT, "blk.0.ssm_conv1d.weight has the shape 80 x 4, expected 4 x 80"},
    {"qwen35 without a decay", QWEN35(2, 4, 8, 12, 4, .tied = 0), remove_tensor, "blk.0.ssm_a", QP_ERR_FORMAT,
     "tensor blk.0.ssm_a is missing"},
    {"qwen35 with decays of another number", QWEN35(2, 4, 8, 12, 4, .tied = 0), widen, "blk.0.ssm_a", QP_ERR_FORMAT,
     "blk.0.ssm_a has the shape 2 x 2"},
    {"qwen35 without a step", QWEN35(2, 4, 8, 12, 4, .tied = 0), remove_tensor, "blk.0.ssm_dt.bias", QP_ERR_FORMAT,
     "tensor blk.0.ssm_dt.bias is missing"},
    {"qwen35 with too few rows of QKV", QWEN35(2, 4, 8, 12, 4, .tied = 0), halve, "blk.0.attn_qkv.weight", QP_ERR_FORMAT,
     "blk.0.attn_qkv.weight has the shape 32 x 40, expected 32 x 80"},
    {"qwen35 without a gate of attention", QWEN35(2, 4, 8, 12, 4, .tied = 0), halve, "blk.1.attn_q.weight", QP_ERR_FORMAT,
     "blk.1.attn_q.weight has the shape 32 x 32, expected 32 x 64"},
    {"qwen35 whose values are narrower than its queries",
     {.layers = 2,
      .embedding = 32,
      .heads = 4,
      .kv_heads = 2,
      .head_k = 8,
      .head_v = 4,
      .feed_forward = 48,
      .vocabulary = 20,
      .context = 64,
      .architecture = "qwen35",
      .qk_norms = 1,
      .attention_period = 2,
      .delta_keys = 2,
      .delta_values = 4,
      .delta_k = 8,
      .delta_v = 12,
      .conv_width = 4},
     nothing,
     "",
     QP_ERR_UNSUPPORTED,
     "attention.value_length"},
    {"starcoder2 with the epsilon of another norm",
     {SIZES, .architecture = "starcoder2", .ungated = 1},
     nothing,
     "",
     QP_ERR_FORMAT,
     "no starcoder2.attention.layer_norm_epsilon"},
    {"starcoder2 with a bias of the norm that does not fit",
     {SIZES, .architecture = "starcoder2", .ungated = 1, .layer_norms = 1},
     widen,
     "blk.1.ffn_norm.bias",
     QP_ERR_FORMAT,
     "blk.1.ffn_norm.bias has the shape 16 x 2, expected 32"},
};

static void check_kinds(quern_device *device)
{
    for (size_t i = 0; i < sizeof kind_cases / sizeof *kind_cases; i++) {
        const struct kind_case *c = &kind_cases[i];
        tiny_model tiny = tiny_make(&c->spec, i);
        c->spoil(&tiny, c->name);
        expect(device, &tiny, c->what, c->status, c->words);
        tiny_free(&tiny);
    }
}

/* ---- metadata ---- */

static void experts(builder *b)
{
    put_kv_u32(b, "llama.expert_count", 8);
}

static void alibi(builder *b)
{
    put_key(b, "llama.attention.max_alibi_bias", QUERN_GGUF_FLOAT32);
    put_f32(b, 8);
}

static void clamp(builder *b)
{
    put_key(b, "llama.attention.clamp_kqv", QUERN_GGUF_FLOAT32);
    put_f32(b, 6);
}

static void both_ways(builder *b)
{
    put_kv_bool(b, "llama.attention.causal", 0);
}

/* What other architectures' files also carry: values that mean "not used", and keys that Llama does not have. */
static void neutral(builder *b)
{
    put_kv_u32(b, "llama.expert_count", 0);
    put_kv_bool(b, "llama.attention.causal", 1);
    put_kv_bool(b, "llama.use_parallel_residual", 0);
    put_key(b, "llama.attn_logit_softcapping", QUERN_GGUF_FLOAT32);
    put_f32(b, 50);
}

static const uint32_t odd_heads[] = {4, 3};

/* One model whose metadata differs from tiny_plain by the given statements about `s`; its tensors are those of tiny_plain. */
#define TRY(what, status, words, ...)                                                                                              \
    {                                                                                                                              \
        tiny_spec s = tiny_plain;                                                                                                  \
        __VA_ARGS__                                                                                                                \
        try_spec(device, &s, what, status, words);                                                                                 \
    }

static void try_spec(quern_device *device, const tiny_spec *spec, const char *what, quern_status status, const char *words)
{
    tiny_model tiny = tiny_make(&tiny_plain, 1);
    tiny.spec = *spec;
    expect(device, &tiny, what, status, words);
    tiny_free(&tiny);
}

static void check_features(quern_device *device)
{
    TRY("nothing wrong", QP_OK, "", )
    TRY("neutral keys of other architectures", QP_OK, "", s.extra = neutral; s.extra_count = 4;)
    TRY("a vocabulary of the right size", QP_OK, "", s.vocab_tokens = 20;)
    TRY("a vocabulary that does not match", QP_ERR_FORMAT, "the tokenizer has 21 tokens, but token_embd.weight has rows for 20",
        s.vocab_tokens = 21;)
    TRY("an architecture that nobody knows", QP_ERR_UNSUPPORTED, "architecture \"gorilla\" is not supported",
        s.architecture = "gorilla";)
    TRY("no architecture", QP_ERR_FORMAT, "general.architecture", s.architecture = "";)
    TRY("a mixture of experts without their number", QP_ERR_FORMAT, "the metadata has no llama.expert_used_count",
        s.extra = experts;
        s.extra_count = 1;)
    TRY("ALiBi", QP_ERR_UNSUPPORTED, "ALiBi", s.extra = alibi; s.extra_count = 1;)
    TRY("clamping", QP_ERR_UNSUPPORTED, "llama.attention.clamp_kqv is 6", s.extra = clamp; s.extra_count = 1;)
    TRY("attention both ways", QP_ERR_UNSUPPORTED, "llama.attention.causal", s.extra = both_ways; s.extra_count = 1;)
}

static void check_numbers(quern_device *device)
{
    TRY("a kind of rope scaling that Llama has not", QP_ERR_UNSUPPORTED, "rope.scaling.type is \"longrope\"",
        s.scaling = "longrope";
        s.factor = 2;)
    TRY("a negative rope scale", QP_ERR_FORMAT, "rope.scaling.factor is -1", s.scaling = "linear"; s.factor = -1;)
    TRY("a negative rope base", QP_ERR_FORMAT, "rope.freq_base is -5", s.freq_base = -5;)
    TRY("an odd rope dimension", QP_ERR_FORMAT, "rope.dimension_count is 7", s.rope_dims = 7;)
    TRY("a rope dimension above the head size", QP_ERR_FORMAT, "rope.dimension_count is 10", s.rope_dims = 10;)
    TRY("NaN as epsilon", QP_ERR_FORMAT, "epsilon", s.epsilon = (float)NAN;)
    TRY("a negative epsilon", QP_ERR_FORMAT, "epsilon is -1", s.epsilon = -1;)
    TRY("infinite attention scale", QP_ERR_FORMAT, "attention.scale is inf", s.attention_scale = (float)INFINITY;)
}

static void check_sizes(quern_device *device)
{
    TRY("no layers", QP_ERR_FORMAT, "llama.block_count is 0", s.layers = 0;)
    TRY("more layers than tensors", QP_ERR_FORMAT, "llama.block_count is 1000, but the file holds only", s.layers = 1000;)
    for (uint32_t i = 0; quern_architecture_at(i); i++) {
        char words[64];
        snprintf(words, sizeof words, "%s.block_count is 1000, but the file holds only", quern_architecture_at(i));
        TRY(quern_architecture_at(i), QP_ERR_FORMAT, words, s.layers = 1000; s.architecture = quern_architecture_at(i);)
    }
    TRY("four billion layers", QP_ERR_FORMAT, "llama.block_count is 4294967295", s.layers = UINT32_MAX;)
    TRY("one layer too many", QP_ERR_FORMAT, "tensor blk.2.attn_norm.weight is missing", s.layers = 3;)
    TRY("one layer fewer than there are", QP_ERR_UNSUPPORTED,
        "tensor blk.1.attn_norm.weight is not known in architecture \"llama\"", s.layers = 1;)
    TRY("no embedding", QP_ERR_FORMAT, "llama.embedding_length is 0", s.embedding = 0;)
    TRY("another embedding", QP_ERR_FORMAT, "token_embd.weight has the shape 32 x 20, expected 48", s.embedding = 48;)
    TRY("an absurd embedding", QP_ERR_FORMAT, "embedding_length is 4000000000", s.embedding = 4000000000u;)
}

static void check_heads(quern_device *device)
{
    TRY("no heads", QP_ERR_FORMAT, "llama.attention.head_count is 0", s.heads = 0;)
    TRY("no KV heads", QP_ERR_FORMAT, "llama.attention.head_count_kv is 0", s.kv_heads = 0;)
    TRY("more KV heads than heads", QP_ERR_FORMAT, "head_count 4 is not a multiple of head_count_kv 8", s.kv_heads = 8;)
    TRY("heads that KV heads do not divide", QP_ERR_FORMAT, "head_count 4 is not a multiple of head_count_kv 3", s.kv_heads = 3;)
    TRY("the same in one layer", QP_ERR_FORMAT, "layer 1: llama.attention.head_count 3 is not a multiple",
        s.layer_heads = odd_heads;)
    TRY("heads that do not divide the embedding", QP_ERR_FORMAT, "embedding_length 32 is not a multiple of", s.heads = 6;
        s.omit_shape_keys = 1;)
    TRY("two billion heads of two billion numbers", QP_ERR_FORMAT, "heads of 2147483646 and 8 numbers", s.heads = INT32_MAX;
        s.kv_heads = 1; s.head_k = INT32_MAX - 1;)
    TRY("another number of heads", QP_ERR_FORMAT, "tensor blk.0.attn_q.weight has the shape 32 x 32, expected 32 x 64",
        s.heads = 8;)
    TRY("a head size of 0", QP_ERR_FORMAT, "llama.attention.key_length is 0", s.head_k = 0; s.rope_dims = 8;)
}

static void check_lengths(quern_device *device)
{
    TRY("no feed-forward", QP_ERR_FORMAT, "llama.feed_forward_length is 0", s.feed_forward = 0;)
    TRY("an absurd feed-forward", QP_ERR_FORMAT, "tensor blk.0.ffn_gate.weight has the shape 32 x 48", s.feed_forward = 1u << 30;)
    TRY("no context", QP_ERR_FORMAT, "llama.context_length is 0", s.context = 0;)
    TRY("a context beyond any position", QP_ERR_FORMAT, "llama.context_length is 4294967295", s.context = UINT32_MAX;)
}

/* ---- numbers that are none ---- */

static void check_not_finite(quern_device *device, const char *name, double value, const char *what)
{
    tiny_model tiny = tiny_make(&tiny_plain, 3);
    test_model m;
    builder file;
    quern_error error;
    quern_session *s = NULL;
    const int32_t tokens[] = {1, 2, 3, 4, 5};
    for (size_t i = 0; i < 64; i++)
        tiny_set(tiny_find(&tiny, name), i % 32, value);
    int fine = try_load(device, &tiny, &m, &file, &error) == QP_OK && quern_session_create(m.model, NULL, &s, &error) == QP_OK;
    quern_status prefill = fine ? quern_session_eval(s, tokens, 5, NULL, &error) : QP_OK;
    ok(prefill == QP_ERR_FORMAT && strstr(error.text, "after position 4 are not finite"), "%s, prefill: %s", what, error.text);
    quern_status decode = fine ? quern_session_eval(s, tokens, 1, NULL, &error) : QP_OK;
    ok(decode == QP_ERR_FORMAT && strstr(error.text, "after position 0 are not finite") && quern_session_length(s) == 0,
       "%s, decode: %s", what, error.text);
    quern_session_destroy(s);
    unload(&m);
    builder_free(&file);
    tiny_free(&tiny);
}

/* ---- memory ---- */

static void check_session_options(quern_device *device)
{
    tiny_model tiny = tiny_make(&tiny_plain, 4);
    test_model m;
    builder file;
    quern_error error;
    quern_session *s = NULL;
    try_load(device, &tiny, &m, &file, &error);
    quern_session_options options = {.struct_size = sizeof options, .context = INT32_MAX};
    ok(quern_session_create(m.model, &options, &s, &error) == QP_ERR_OUT_OF_MEMORY && strstr(error.text, "--ctx") && !s,
       "a context of 2^31: %s", error.text);
    options.context = UINT32_MAX;
    ok(quern_session_create(m.model, &options, &s, &error) == QP_ERR_INVALID && !s, "a context of 2^32: %s", error.text);
    options = (quern_session_options){.struct_size = sizeof options, .kv_set = 1, .kv_k = QP_FORMAT_Q8_0, .kv_v = QP_FORMAT_F16};
    ok(quern_session_create(m.model, &options, &s, &error) == QP_ERR_UNSUPPORTED &&
           strstr(error.text, "keys of layer 0 have heads of 8 numbers"),
       "heads that are no whole blocks: %s", error.text);
    options.kv_k = QP_FORMAT_Q4_0;
    ok(quern_session_create(m.model, &options, &s, &error) == QP_ERR_UNSUPPORTED &&
           strstr(error.text, "keys cannot be kept as Q4_0"),
       "%s", error.text);
    options.kv_k = 999;
    ok(quern_session_create(m.model, &options, &s, &error) == QP_ERR_UNSUPPORTED, "%s", error.text);
    options = (quern_session_options){.struct_size = sizeof options, .chunk = UINT32_MAX, .context = 3};
    ok(quern_session_create(m.model, &options, &s, &error) == QP_OK, "a chunk of 2^32 is cut to the context");
    quern_session_destroy(s);
    unload(&m);
    builder_free(&file);
    tiny_free(&tiny);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* A model made for two billion tokens, in a process that may have 1 GiB more: the context is lowered to what fits. */
static void check_lowered_context(quern_device *device)
{
#ifdef SANITIZED
    (void)device;
    skip("a sanitizer needs the address space", "a context that memory does not allow is lowered");
#else
    tiny_spec spec = tiny_plain;
    spec.context = INT32_MAX;
    tiny_model tiny = tiny_make(&spec, 5);
    test_model m;
    builder file;
    quern_error error;
    quern_session *s = NULL;
    quern_session_info info = {.struct_size = sizeof info};
    struct rlimit before, after;
    int fine = try_load(device, &tiny, &m, &file, &error) == QP_OK;
    getrlimit(RLIMIT_AS, &before);
    long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm && fscanf(statm, "%ld", &pages) != 1)
        pages = 0;
    if (statm)
        fclose(statm);
    after = before;
    after.rlim_cur = (rlim_t)pages * 4096 + ((rlim_t)1 << 30);
    fine = fine && pages && !setrlimit(RLIMIT_AS, &after) && quern_session_create(m.model, NULL, &s, &error) == QP_OK;
    setrlimit(RLIMIT_AS, &before);
    if (fine)
        quern_session_get_info(s, &info);
    ok(fine && info.context >= 64 && info.kv_bytes < (uint64_t)1 << 30,
       "a context that memory does not allow is lowered: to %u tokens%s%s", info.context, fine ? "" : ": ", fine ? "" : error.text);
    const int32_t token = 1;
    ok(fine && quern_session_eval(s, &token, 1, NULL, &error) == QP_OK, "and works");
    quern_session_destroy(s);
    unload(&m);
    builder_free(&file);
    tiny_free(&tiny);
#endif
}

int main(void)
{
    test_device d = open_cpu();
    if (!d.device)
        return tap_done();
    check_features(d.device);
    check_numbers(d.device);
    check_sizes(d.device);
    check_heads(d.device);
    check_lengths(d.device);
    check_tensors(d.device);
    check_kinds(d.device);
    check_not_finite(d.device, "blk.1.ffn_down.weight", (double)NAN, "NaN in a matrix");
    check_not_finite(d.device, "blk.0.attn_norm.weight", (double)NAN, "NaN in a norm");
    check_not_finite(d.device, "blk.0.attn_v.weight", (double)INFINITY, "infinity in a matrix");
    check_not_finite(d.device, "output.weight", (double)INFINITY, "infinity in the output matrix");
    check_session_options(d.device);
    check_lowered_context(d.device);
    close_cpu(&d);
    return tap_done();
}
