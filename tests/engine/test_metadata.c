/* SPDX-License-Identifier: MIT
 * What metadata can say: each key that changes a model's numbers is honoured or refused by name, whichever it is. That what is
 * honoured is honoured rightly is for test_references.c and test_shapes.c. */
#include "engine/help.h"
#include "engine/tiny_model.h"

/* ---- keys beside those of the model ---- */

typedef struct entry {
    const char *suffix;
    double value;
    char type; /* u, i, f, b: one number; U, F: an array with the value in its last place; A: in each; s: words */
} entry;

static const entry *current; /* what `write_current` writes: tiny_spec.extra takes no argument */
static const char *current_architecture;

static void write_current(builder *b)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", current_architecture, current->suffix);
    const int32_t number = (int32_t)current->value, ints[3] = {0, 0, number}, alike[3] = {number, number, number};
    const float floats[3] = {0, 0, (float)current->value};
    switch (current->type) {
    case 'b': put_kv_bool(b, key, current->value != 0); break;
    case 's': put_kv_string(b, key, "many"); break;
    case 'U': put_kv_ints(b, key, ints, 3); break;
    case 'A': put_kv_ints(b, key, alike, 3); break;
    case 'F': put_kv_floats(b, key, floats, 3); break;
    case 'f':
        put_key(b, key, QUERN_GGUF_FLOAT32);
        put_f32(b, floats[2]);
        break;
    case 'i':
        put_key(b, key, QUERN_GGUF_INT32);
        put_u32(b, (uint32_t)ints[2]);
        break;
    default: put_kv_u32(b, key, (uint32_t)current->value); break;
    }
}

static void expect(quern_device *device, const tiny_spec *spec, quern_status status, const char *what, const char *words)
{
    tiny_model tiny = tiny_make(spec, 1);
    builder file = tiny_write(&tiny);
    test_model m = {0};
    quern_error error = {0};
    quern_status got = quern_gguf_open_memory(file.data, file.size, "tiny.gguf", &m.gguf, &error);
    if (got == QP_OK)
        got = quern_model_load(device, m.gguf, NULL, &m.model, &error);
    ok(got == status && (status == QP_OK || strstr(error.text, words)), "%s: %s", what, got == QP_OK ? "loads" : error.text);
    quern_error told = {0}; /* without a device */
    if (m.gguf && (quern_model_check(m.gguf, &told) != got || strcmp(told.text, error.text)))
        ok(0, "%s: what a check says is what loading says: %s", what, told.text);
    unload(&m);
    builder_free(&file);
    tiny_free(&tiny);
}

/* The model with one entry more. */
static void expect_entry(quern_device *device, const tiny_spec *spec, const entry *e, quern_status status)
{
    char what[160], words[128];
    tiny_spec s = *spec;
    current = e;
    current_architecture = s.architecture ? s.architecture : "llama";
    s.extra = write_current;
    s.extra_count = 1;
    snprintf(what, sizeof what, "%s.%s, %g", current_architecture, e->suffix, e->value);
    snprintf(words, sizeof words, "%s.%s is ", current_architecture, e->suffix);
    expect(device, &s, status, what, words);
}

/* Values that ask for something which a Llama model does not compute. */
static const entry asks[] = {
    {"expert_shared_count", 1, 'u'},
    {"expert_shared_feed_forward_length", 64, 'u'},
    {"expert_group_count", 4, 'u'},
    {"expert_gating_func", 2, 'u'},
    {"expert_weights_scale", 2.5, 'f'},
    {"leading_dense_block_count", 1, 'u'},
    {"moe_every_n_layers", 2, 'u'},
    {"interleave_moe_layer_step", 2, 'u'},
    {"swiglu_clamp_exp", 7, 'F'},
    {"nextn_predict_layers", 1, 'u'},
    {"n_deepstack_layers", 3, 'u'},
    {"full_attention_interval", 4, 'u'},
    {"embedding_length_out", 64, 'u'},
    {"embedding_length_per_layer_input", 16, 'u'},
    {"activation_sparsity_scale", 1.6, 'F'},
    {"use_parallel_residual", 1, 'b'},
    {"swin_norm", 1, 'b'},
    {"embedding_scale", 12, 'f'},
    {"residual_scale", 0.22, 'f'},
    {"logit_scale", 0.0625, 'f'},
    {"attn_logit_softcapping", 30, 'f'},
    {"final_logit_softcapping", 15, 'f'},
    {"router_logit_softcapping", 5, 'f'},
    {"attention.causal", 0, 'b'},
    {"attention.max_alibi_bias", 8, 'f'},
    {"attention.clamp_kqv", 6, 'f'},
    {"attention.output_scale", 0.08, 'f'},
    {"attention.value_scale", 0.6, 'f'},
    {"attention.temperature_scale", 0.1, 'f'},
    {"attention.temperature_length", 1024, 'u'},
    {"attention.relative_buckets_count", 32, 'u'},
    {"attention.q_lora_rank", 16, 'u'},
    {"attention.kv_lora_rank", 16, 'u'},
    {"attention.key_length_mla", 16, 'u'},
    {"attention.value_length_mla", 16, 'u'},
    {"attention.shared_kv_layers", 1, 'u'},
    {"attention.recurrent_layers", 1, 'U'},
    {"attention.indexer.head_count", 2, 'u'},
    {"rope.scaling.alpha", 1000, 'f'},
    {"rope.scaling.yarn_ext_factor", 1, 'f'},
    {"ssm.inner_size", 64, 'u'},
    {"ssm.conv_kernel", 4, 'u'},
    {"kda.head_dim", 16, 'u'},
    {"wkv.head_size", 16, 'u'},
    {"shortconv.l_cache", 3, 'u'},
};

/* What writers that fill in every key put where there is nothing to say, and what makes no difference to text. */
static const entry neutral[] = {
    {"expert_count", 0, 'u'},
    {"expert_weights_norm", 0, 'b'},
    {"swiglu_clamp_exp", 0, 'F'},
    {"logit_scale", 0, 'f'},
    {"logit_scale", 1, 'f'},
    {"residual_scale", 1, 'f'},
    {"attn_logit_softcapping", 50, 'f'},
    {"final_logit_softcapping", 30, 'f'},
    {"attention.causal", 1, 'b'},
    {"attention.sliding_window", 0, 'u'},
    {"attention.recurrent_layers", 0, 'U'},
    {"attention.key_length_swa", 64, 'u'}, /* no layer has a window */
    {"rope.scaling.yarn_ext_factor", -1, 'f'},
    {"rope.scaling.yarn_log_multiplier", 0, 'f'},
    {"rope.dimension_sections", 4, 'U'}, /* text has the same position in every section */
    {"rope.scaling.finetuned", 0, 'b'},
    {"some.key.of.tomorrow", 5, 'u'},
};

static void check_llama(quern_device *device)
{
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++)
        expect_entry(device, &tiny_plain, &asks[i], QP_ERR_UNSUPPORTED);
    for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++)
        expect_entry(device, &tiny_plain, &neutral[i], QP_OK);
    static const entry words = {"ssm.inner_size", 0, 's'};
    expect_entry(device, &tiny_plain, &words, QP_ERR_FORMAT);
    /* one number for all layers, as an array */
    static const entry alike = {"attention.key_length", 8, 'A'}, different = {"attention.key_length", 8, 'U'};
    tiny_spec arrays = tiny_plain;
    arrays.omit_shape_keys = 1;
    expect_entry(device, &arrays, &alike, QP_OK);
    expect_entry(device, &arrays, &different, QP_ERR_UNSUPPORTED);
    tiny_spec s = tiny_plain; /* a feature says more than what goes missing with it */
    s.kv_heads = 3;
    expect_entry(device, &s, &asks[0], QP_ERR_UNSUPPORTED);
}

/* The same key is refused by one architecture and read by another. */
static void check_windows(quern_device *device)
{
    static const entry window = {"attention.sliding_window", 4, 'u'}, scale = {"embedding_scale", 12, 'f'},
                       cap = {"final_logit_softcapping", 15, 'f'}, experts = {"expert_count", 8, 'u'};
    static const char *const without[] = {"qwen2", "granite", "smollm3", "gemma"};
    tiny_spec s = tiny_plain;
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        s.architecture = without[i];
        expect_entry(device, &s, &window, QP_ERR_UNSUPPORTED);
        expect_entry(device, &s, &scale, !strcmp(without[i], "granite") ? QP_OK : QP_ERR_UNSUPPORTED);
        expect_entry(device, &s, &cap, QP_ERR_UNSUPPORTED);
        expect_entry(device, &s, &experts, QP_ERR_UNSUPPORTED);
    }
    expect_entry(device, &tiny_plain, &window, QP_OK);
    /* layers with a window that would differ in more than that */
    static const entry same[] = {
        {"attention.key_length_swa", 8, 'u'}, {"rope.dimension_count_swa", 8, 'u'}, {"rope.freq_base_swa", 10000, 'f'}};
    static const entry other[] = {{"attention.key_length_swa", 16, 'u'},
                                  {"attention.value_length_swa", 16, 'u'},
                                  {"rope.dimension_count_swa", 4, 'u'},
                                  {"rope.freq_base_swa", 500, 'f'}};
    s = tiny_plain;
    s.window = 4;
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        expect_entry(device, &s, &same[i], QP_OK);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        expect_entry(device, &s, &other[i], QP_ERR_UNSUPPORTED);
}

static void check_yarn(quern_device *device)
{
    static const entry fast = {"rope.scaling.yarn_beta_fast", 0.5, 'f'}, slow = {"rope.scaling.yarn_beta_slow", -1, 'f'},
                       magnitude = {"rope.scaling.yarn_attn_factor", -1, 'f'}, log = {"rope.scaling.yarn_log_multiplier", -9, 'f'},
                       off = {"rope.scaling.yarn_ext_factor", 0, 'f'};
    tiny_spec s = tiny_plain;
    s.scaling = "yarn";
    s.factor = 4;
    s.original_context = 16;
    expect(device, &s, QP_OK, "YaRN", "");
    expect_entry(device, &s, &off, QP_OK);
    tiny_spec more = s;
    current_architecture = "llama";
    more.extra = write_current;
    more.extra_count = 1;
    current = &fast;
    expect(device, &more, QP_ERR_FORMAT, "a ramp that falls", "yarn_beta_fast 0.5 must be above yarn_beta_slow 1");
    current = &slow;
    expect(device, &more, QP_ERR_FORMAT, "a beta below 0", "yarn_beta_slow -1");
    current = &magnitude;
    expect(device, &more, QP_ERR_FORMAT, "a magnitude below 0", "yarn_attn_factor -1");
    current = &log;
    expect(device, &more, QP_ERR_FORMAT, "a logarithm's multiplier that turns it over", "yarn_log_multiplier -9");
    s.factor = 0.5f;
    expect(device, &s, QP_ERR_UNSUPPORTED, "YaRN with a factor of a half", "rope.scaling.factor is 0.5");
}

/* ---- longrope and the session's context ---- */

static void check_long_context(quern_device *device)
{
    tiny_spec s = tiny_plain;
    s.architecture = "phi3";
    s.fused = s.halves = s.factor_sets = 1;
    s.original_context = 24;
    tiny_model tiny = tiny_make(&s, 1);
    builder file = tiny_write(&tiny);
    test_model m = {0};
    quern_error error = {0};
    quern_session *session = NULL;
    quern_session_info info = {.struct_size = sizeof info};
    quern_session_options options = {.struct_size = sizeof options, .context = 40};
    int fine = quern_gguf_open_memory(file.data, file.size, "tiny.gguf", &m.gguf, &error) == QP_OK &&
               quern_model_load(device, m.gguf, NULL, &m.model, &error) == QP_OK &&
               quern_session_create(m.model, NULL, &session, &error) == QP_OK;
    quern_session_get_info(session, &info);
    quern_model_info model_info = {.struct_size = sizeof model_info};
    quern_model_get_info(m.model, &model_info);
    ok(fine && info.context == 24 && model_info.default_context == 24 && model_info.context == 64,
       "a longrope session that nobody sized has the original context: %u %s", info.context, error.text);
    quern_session_destroy(session);
    session = NULL;
    fine = fine && quern_session_create(m.model, &options, &session, &error) == QP_OK;
    quern_session_get_info(session, &info);
    ok(fine && info.context == 40, "one that somebody sized has that: %u %s", info.context, error.text);
    quern_session_destroy(session);
    unload(&m);
    builder_free(&file);
    tiny_free(&tiny);
}

int main(void)
{
    test_device d = open_cpu();
    if (!d.device)
        return tap_done();
    check_llama(d.device);
    check_windows(d.device);
    check_yarn(d.device);
    check_long_context(d.device);
    close_cpu(&d);
    return tap_done();
}
