/* SPDX-License-Identifier: MIT
 * Models of shapes that nobody trained, against a forward pass in double (reference.c): nothing may be fitted to common sizes. */
#include "engine/help.h"
#include "engine/tiny_model.h"

enum { TOKENS = 37 };

typedef struct shape_case {
    const char *name;
    tiny_spec spec;
    double limit;
} shape_case;

#define FLOAT_LIMIT 1e-8 /* everything is float but for the order of sums */
#define INT8_LIMIT 4e-4  /* activations are rounded to 8 bits, and random weights cancel less than trained ones */

static const uint32_t heads_by_layer[] = {4, 2, 6}, kv_by_layer[] = {2, 1, 3}, ff_by_layer[] = {64, 160, 33};

#define SMALL                                                                                                                      \
    .layers = 1, .embedding = 96, .heads = 3, .kv_heads = 1, .head_k = 32, .head_v = 32, .feed_forward = 64, .vocabulary = 50

static const shape_case cases[] = {
    {"one KV head, odd layers, head 80",
     {.layers = 3, .embedding = 160, .heads = 2, .kv_heads = 1, .head_k = 80, .head_v = 80, .feed_forward = 200, .vocabulary = 101},
     FLOAT_LIMIT},
    {"head 96, as many KV heads as heads",
     {.layers = 2,
      .embedding = 288,
      .heads = 3,
      .kv_heads = 3,
      .head_k = 96,
      .head_v = 96,
      .feed_forward = 130,
      .vocabulary = 77,
      .tied = 1},
     FLOAT_LIMIT},
    {"head 112, sizes that are no multiple of anything",
     {.layers = 1,
      .embedding = 118,
      .heads = 5,
      .kv_heads = 1,
      .head_k = 112,
      .head_v = 112,
      .feed_forward = 51,
      .vocabulary = 259,
      .biases = 1},
     FLOAT_LIMIT},
    {"head 64, an odd embedding, four layers",
     {.layers = 4, .embedding = 75, .heads = 3, .kv_heads = 1, .head_k = 64, .head_v = 64, .feed_forward = 91, .vocabulary = 53},
     FLOAT_LIMIT},
    {"head 128, one KV head for seven",
     {.layers = 1, .embedding = 98, .heads = 7, .kv_heads = 1, .head_k = 128, .head_v = 128, .feed_forward = 64, .vocabulary = 71},
     FLOAT_LIMIT},
    {"head 256, five layers",
     {.layers = 5, .embedding = 48, .heads = 2, .kv_heads = 1, .head_k = 256, .head_v = 256, .feed_forward = 40, .vocabulary = 45},
     FLOAT_LIMIT},
    {"K of 192 and V of 128",
     {.layers = 1, .embedding = 64, .heads = 3, .kv_heads = 3, .head_k = 192, .head_v = 128, .feed_forward = 64, .vocabulary = 40},
     FLOAT_LIMIT},
    {"K and V of different sizes, partial rope",
     {.layers = 2,
      .embedding = 96,
      .heads = 6,
      .kv_heads = 2,
      .head_k = 40,
      .head_v = 24,
      .feed_forward = 96,
      .vocabulary = 33,
      .rope_dims = 16},
     FLOAT_LIMIT},
    {"V wider than K, F16 matrices, scales and biases",
     {.layers = 3,
      .embedding = 64,
      .heads = 4,
      .kv_heads = 2,
      .head_k = 16,
      .head_v = 48,
      .feed_forward = 80,
      .vocabulary = 65,
      .biases = 1,
      .scales = 1,
      .format = QP_FORMAT_F16},
     1e-6},
    {"BF16 matrices, no shape keys",
     {.layers = 2,
      .embedding = 128,
      .heads = 4,
      .kv_heads = 4,
      .head_k = 32,
      .head_v = 32,
      .feed_forward = 90,
      .vocabulary = 50,
      .format = QP_FORMAT_BF16,
      .omit_shape_keys = 1},
     1e-5},
    {"frequency factors of any size",
     {.layers = 2,
      .embedding = 64,
      .heads = 2,
      .kv_heads = 1,
      .head_k = 32,
      .head_v = 32,
      .feed_forward = 64,
      .vocabulary = 40,
      .rope_factors = 1,
      .freq_base = 500000},
     FLOAT_LIMIT},
    {"linear rope scaling",
     {.layers = 2,
      .embedding = 64,
      .heads = 2,
      .kv_heads = 2,
      .head_k = 32,
      .head_v = 32,
      .feed_forward = 64,
      .vocabulary = 40,
      .scaling = "linear",
      .factor = 4},
     FLOAT_LIMIT},
    {"YaRN with an attention factor",
     {.layers = 2,
      .embedding = 64,
      .heads = 2,
      .kv_heads = 2,
      .head_k = 64,
      .head_v = 32,
      .feed_forward = 64,
      .vocabulary = 40,
      .scaling = "yarn",
      .factor = 8,
      .original_context = 16,
      .attn_factor = 0.9f,
      .freq_base = 1000},
     FLOAT_LIMIT},
    {"scaling \"none\" with a factor, which is ignored",
     {.layers = 1,
      .embedding = 64,
      .heads = 2,
      .kv_heads = 2,
      .head_k = 32,
      .head_v = 32,
      .feed_forward = 64,
      .vocabulary = 40,
      .scaling = "none",
      .factor = 4},
     FLOAT_LIMIT},
    {"a sliding window and an attention scale",
     {.layers = 2,
      .embedding = 64,
      .heads = 4,
      .kv_heads = 2,
      .head_k = 16,
      .head_v = 16,
      .feed_forward = 64,
      .vocabulary = 40,
      .window = 5,
      .attention_scale = 0.4f},
     FLOAT_LIMIT},
    {"heads, KV heads and feed-forward sizes by layer",
     {.layers = 3,
      .embedding = 64,
      .heads = 4,
      .kv_heads = 2,
      .head_k = 16,
      .head_v = 16,
      .feed_forward = 64,
      .vocabulary = 40,
      .layer_heads = heads_by_layer,
      .layer_kv_heads = kv_by_layer,
      .layer_feed_forward = ff_by_layer},
     FLOAT_LIMIT},
    {"Q8_0, K a multiple of 32 only",
     {.layers = 2,
      .embedding = 160,
      .heads = 5,
      .kv_heads = 1,
      .head_k = 32,
      .head_v = 32,
      .feed_forward = 224,
      .vocabulary = 101,
      .format = QP_FORMAT_Q8_0},
     INT8_LIMIT},
    {"Q8_0, rows that fill no panel, tied",
     {.layers = 1,
      .embedding = 96,
      .heads = 3,
      .kv_heads = 1,
      .head_k = 32,
      .head_v = 64,
      .feed_forward = 32,
      .vocabulary = 17,
      .format = QP_FORMAT_Q8_0,
      .tied = 1,
      .biases = 1},
     INT8_LIMIT},
    {"Q4_0, head 96",
     {.layers = 2,
      .embedding = 288,
      .heads = 3,
      .kv_heads = 1,
      .head_k = 96,
      .head_v = 96,
      .feed_forward = 352,
      .vocabulary = 203,
      .format = QP_FORMAT_Q4_0},
     INT8_LIMIT},
    {"Q8_0, fused QKV and gate",
     {.architecture = "phi3",
      .layers = 2,
      .embedding = 96,
      .heads = 3,
      .kv_heads = 1,
      .head_k = 32,
      .head_v = 32,
      .feed_forward = 160,
      .vocabulary = 40,
      .format = QP_FORMAT_Q8_0,
      .halves = 1,
      .fused = 1},
     INT8_LIMIT},
    {"gate and up of different formats",
     {.layers = 2,
      .embedding = 64,
      .heads = 2,
      .kv_heads = 1,
      .head_k = 32,
      .head_v = 32,
      .feed_forward = 96,
      .vocabulary = 40,
      .format = QP_FORMAT_Q8_0,
      .up_differs = 1,
      .up_format = QP_FORMAT_F32,
      .biases = 1,
      .scales = 1},
     INT8_LIMIT},
    {"Q8_0 experts in panels", /* one layer: a router after int8 products may choose another expert */
     {SMALL, .architecture = "qwen3moe", .halves = 1, .qk_norms = 1, .experts = 5, .experts_used = 2, .expert_sum = 1,
      .expert_feed_forward = 96, .expert_format = QP_FORMAT_Q8_0},
     INT8_LIMIT},
    {"Q4_0, one expert of three",
     {SMALL, .architecture = "qwen3moe", .halves = 1, .qk_norms = 1, .experts = 3, .experts_used = 1, .expert_sum = 1,
      .expert_feed_forward = 96, .expert_format = QP_FORMAT_Q4_0},
     INT8_LIMIT},
    {"Q8_0 shared expert",
     {SMALL, .architecture = "qwen2moe", .halves = 1, .experts = 4, .experts_used = 4, .expert_feed_forward = 32,
      .shared_feed_forward = 224, .shared_gate = 1, .format = QP_FORMAT_Q8_0, .expert_format = QP_FORMAT_Q8_0},
     INT8_LIMIT},
    {"MXFP4 experts of gpt-oss",
     {SMALL, .architecture = "gpt-oss", .halves = 1, .biases = 1, .sinks = 1, .clamped = 1, .window = 5, .window_period = 2,
      .experts = 6, .experts_used = 2, .expert_gate = QP_GATE_SOFTMAX_CHOSEN, .expert_biases = 1, .expert_feed_forward = 160,
      .expert_format = QP_FORMAT_MXFP4},
     INT8_LIMIT},
    {"one head of two features, one layer",
     {.layers = 1, .embedding = 2, .heads = 1, .kv_heads = 1, .head_k = 2, .head_v = 2, .feed_forward = 1, .vocabulary = 2},
     FLOAT_LIMIT},
};

/* Stacks of 360 KiB, for a device that takes LITTLE in one allocation: they are cut by rows, with what belongs to these. */
enum { LITTLE = 256 << 10 };
static const shape_case stacks[] = {
    {"stacks in parts, biases and a clamped gate",
     {SMALL, .architecture = "gpt-oss", .halves = 1, .biases = 1, .sinks = 1, .clamped = 1, .window = 5, .window_period = 2,
      .experts = 6, .experts_used = 3, .expert_gate = QP_GATE_SOFTMAX_CHOSEN, .expert_biases = 1, .expert_feed_forward = 160},
     FLOAT_LIMIT},
    {"stacks in parts, scales",
     {SMALL, .experts = 6, .experts_used = 2, .expert_sum = 1, .expert_scales = 1, .expert_feed_forward = 160},
     FLOAT_LIMIT},
};

/* Logits of all tokens, fed in pieces of `chunk`. */
static int run(quern_model *model, const tiny_spec *spec, const int32_t *tokens, uint32_t chunk, float *out, quern_error *error)
{
    quern_session_options options = {.struct_size = sizeof options,
                                     .context = TOKENS,
                                     .chunk = chunk,
                                     .kv_k = QP_FORMAT_F32,
                                     .kv_v = QP_FORMAT_F32,
                                     .kv_set = 1,
                                     .flags = QUERN_SESSION_ALL_LOGITS};
    quern_session *s = NULL;
    int fine = quern_session_create(model, &options, &s, error) == QP_OK;
    for (uint32_t at = 0; fine && at < TOKENS; at += chunk) {
        uint32_t n = TOKENS - at < chunk ? TOKENS - at : chunk;
        const float *logits;
        size_t rows = 0;
        fine = quern_session_eval(s, tokens + at, n, NULL, error) == QP_OK &&
               quern_session_all_logits(s, &logits, &rows, error) == QP_OK && rows == n;
        if (fine)
            memcpy(out + (size_t)at * spec->vocabulary, logits, (size_t)n * spec->vocabulary * sizeof *out);
    }
    quern_session_destroy(s);
    return fine;
}

static void check(quern_device *device, const shape_case *c, uint64_t seed)
{
    tiny_spec spec = c->spec;
    spec.context = 64;
    tiny_model tiny = tiny_make(&spec, seed);
    builder file = tiny_write(&tiny);
    quern_error error = {0};
    test_model m = {0};
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)(tiny_random(&tiny.random) % spec.vocabulary);
    double *expected = calloc((size_t)TOKENS * spec.vocabulary, sizeof *expected);
    float *logits = calloc((size_t)TOKENS * spec.vocabulary, sizeof *logits);
    tiny_reference(&tiny, tokens, TOKENS, expected);
    int loaded = quern_gguf_open_memory(file.data, file.size, c->name, &m.gguf, &error) == QP_OK &&
                 quern_model_load(device, m.gguf, NULL, &m.model, &error) == QP_OK;
    static const uint32_t chunks[] = {1, 6, TOKENS};
    for (size_t i = 0; i < 3; i++) {
        int fine = loaded && run(m.model, &spec, tokens, chunks[i], logits, &error);
        double e = fine ? nmse(logits, expected, (size_t)TOKENS * spec.vocabulary) : 1e300;
        ok(e <= c->limit, "%s, chunk %u: NMSE %.2e <= %.0e%s%s", c->name, chunks[i], e, c->limit, fine ? "" : ": ",
           fine ? "" : error.text);
    }
    unload(&m);
    builder_free(&file);
    tiny_free(&tiny);
    free(expected);
    free(logits);
}

static void llama_period_of_three(builder *b)
{
    put_kv_u32(b, "llama.attention.sliding_window_pattern", 3);
}

static void no_positions(builder *b)
{
    put_kv_bool(b, "granite.rope.scaling.finetuned", 0);
}

static void period_of_three(builder *b)
{
    put_kv_u32(b, "gemma2.attention.sliding_window_pattern", 3);
}

/* What is particular to an architecture; the sizes are drawn. `layers` is how many it takes to see all of it. */
static const tiny_spec kinds[] = {
    {.architecture = "llama", .layers = 4, .window = 6, .window_period = 3, .extra = llama_period_of_three, .extra_count = 1},
    {.architecture = "qwen2", .halves = 1, .biases = 1},
    {.architecture = "qwen3", .halves = 1, .qk_norms = 1, .scales = 1, .biases = 1},
    {.architecture = "granite",
     .embedding_factor = 12,
     .residual_factor = 0.22f,
     .logit_divisor = 8,
     .attention_scale = 0.05f,
     .biases = 1},
    {.architecture = "granite", .residual_factor = 0.5f, .unturned_period = 1, .extra = no_positions, .extra_count = 1},
    {.architecture = "smollm3", .layers = 5, .unturned_period = 4},
    {.architecture = "gemma", .halves = 1, .root_factor = 1, .gelu = 1, .tied = 1},
    {.architecture = "gemma2",
     .layers = 3,
     .halves = 1,
     .root_factor = 1,
     .gelu = 1,
     .tied = 1,
     .post_norms = 1,
     .window = 7,
     .window_period = 2,
     .attention_cap = 1.5f,
     .logit_cap = 4},
    {.architecture = "gemma2",
     .layers = 4,
     .halves = 1,
     .root_factor = 1,
     .gelu = 1,
     .tied = 1,
     .post_norms = 1,
     .window = 3,
     .window_period = 3,
     .attention_cap = 50,
     .logit_cap = 30,
     .extra = period_of_three,
     .extra_count = 1},
    {.architecture = "gemma3",
     .layers = 8,
     .halves = 1,
     .root_factor = 1,
     .gelu = 1,
     .tied = 1,
     .qk_norms = 1,
     .post_norms = 1,
     .window = 5,
     .window_period = 6,
     .freq_base = 1000000,
     .local_base = 300,
     .scaling = "linear",
     .factor = 8},
    {.architecture = "phi3", .halves = 1, .fused = 1, .window = 11},
    {.architecture = "phi3", .halves = 1, .fused = 1, .factor_sets = 1, .original_context = TOKENS, .attn_factor = 1.2f},
    {.architecture = "phi3",
     .halves = 1,
     .fused = 1,
     .factor_sets = 1,
     .long_set = 1,
     .original_context = TOKENS - 1,
     .scaling = "longrope",
     .attn_factor = 1.2f},
    {.architecture = "llama", .experts = 5, .experts_used = 2, .expert_sum = 1, .window = 9},
    {.architecture = "llama", .experts = 3, .experts_used = 1, .expert_sum = 1, .expert_scales = 1},
    {.architecture = "llama", .experts = 1, .experts_used = 1, .expert_sum = 1},
    {.architecture = "llama",
     .layers = 3,
     .experts = 12,
     .experts_used = 4,
     .expert_sum = 1,
     .expert_gate = QP_GATE_SIGMOID,
     .expert_groups = 4,
     .expert_groups_used = 2,
     .expert_factor = 2.5f,
     .choice_bias = 1,
     .dense_layers = 1,
     .expert_feed_forward = 19},
    {.architecture = "llama", .experts = 9, .experts_used = 9, .expert_sum = 1, .choice_bias = 1, .expert_format = QP_FORMAT_F16},
    {.architecture = "qwen2moe",
     .halves = 1,
     .experts = 6,
     .experts_used = 4,
     .expert_feed_forward = 33,
     .shared_feed_forward = 70,
     .shared_gate = 1},
    {.architecture = "qwen2moe", .halves = 1, .experts = 4, .experts_used = 1, .expert_feed_forward = 8, .shared_feed_forward = 5},
    {.architecture = "qwen3moe",
     .halves = 1,
     .qk_norms = 1,
     .experts = 17,
     .experts_used = 5,
     .expert_sum = 1,
     .expert_feed_forward = 21},
    {.architecture = "granitemoe",
     .embedding_factor = 12,
     .residual_factor = 0.22f,
     .logit_divisor = 8,
     .experts = 8,
     .experts_used = 3,
     .expert_sum = 1},
    {.architecture = "granitemoe",
     .residual_factor = 0.5f,
     .experts = 5,
     .experts_used = 2,
     .expert_sum = 1,
     .shared_feed_forward = 37},
    {.architecture = "gpt-oss",
     .layers = 4,
     .halves = 1,
     .biases = 1,
     .sinks = 1,
     .clamped = 1,
     .window = 5,
     .window_period = 2,
     .experts = 7,
     .experts_used = 3,
     .expert_gate = QP_GATE_SOFTMAX_CHOSEN,
     .expert_biases = 1,
     .expert_feed_forward = 40},
    {.architecture = "qwen35", .layers = 4, .halves = 1, .qk_norms = 1, .scales = 1, .attention_period = 4},
    {.architecture = "qwen35", .layers = 3, .halves = 1, .qk_norms = 1, .tied = 1, .attention_period = 2},
    {.architecture = "qwen35moe",
     .layers = 3,
     .halves = 1,
     .qk_norms = 1,
     .attention_period = 3,
     .experts = 6,
     .experts_used = 2,
     .expert_sum = 1,
     .expert_feed_forward = 14,
     .shared_feed_forward = 9,
     .shared_gate = 1},
    {.architecture = "starcoder2", .halves = 1, .layer_norms = 1, .biases = 1, .gelu = 1, .ungated = 1, .tied = 1},
};

static void draw_sizes(uint64_t *random, tiny_spec *spec)
{
    uint32_t kv = 1 + tiny_random(random) % 3, group = 1 + tiny_random(random) % 4;
    spec->embedding = 2 + tiny_random(random) % 150;
    spec->heads = kv * group;
    spec->kv_heads = kv;
    spec->head_k = 2 + 2 * (tiny_random(random) % 60);
    spec->head_v = 1 + tiny_random(random) % 120;
    spec->feed_forward = 1 + tiny_random(random) % 200;
    spec->vocabulary = 2 + tiny_random(random) % 300;
    if (!spec->attention_period)
        return;
    spec->head_v = spec->head_k; /* the gate of what is attended to is as wide as the query */
    spec->delta_keys = 1 + tiny_random(random) % 3;
    spec->delta_values = spec->delta_keys * (1 + tiny_random(random) % 3);
    spec->delta_k = 1 + tiny_random(random) % 60;
    spec->delta_v = 1 + tiny_random(random) % 60;
    spec->conv_width = 2 + tiny_random(random) % 5;
}

/* A kind with sizes drawn at random. */
static shape_case draw_kind(uint64_t *random, const tiny_spec *kind)
{
    shape_case c = {.name = kind->architecture, .spec = *kind, .limit = FLOAT_LIMIT};
    draw_sizes(random, &c.spec);
    if (!c.spec.layers)
        c.spec.layers = 1 + tiny_random(random) % 3;
    c.spec.rope_dims = 2 + 2 * (tiny_random(random) % (c.spec.head_k / 2));
    return c;
}

/* A shape drawn at random: sizes that need not be a multiple of anything. */
static shape_case draw(uint64_t *random)
{
    shape_case c = {.name = "drawn at random", .limit = FLOAT_LIMIT};
    draw_sizes(random, &c.spec);
    c.spec.layers = 1 + tiny_random(random) % 4;
    c.spec.tied = tiny_random(random) % 2;
    c.spec.biases = tiny_random(random) % 2;
    c.spec.scales = tiny_random(random) % 2;
    c.spec.rope_factors = tiny_random(random) % 2;
    c.spec.window = tiny_random(random) % 3 ? 0 : 1 + tiny_random(random) % 40;
    c.spec.rope_dims = 2 + 2 * (tiny_random(random) % (c.spec.head_k / 2));
    return c;
}

static int check_stacks(const char *plugin)
{
    quern_error error = {0};
    test_device d = open_device(plugin, &error);
    if (!d.device)
        return tap_skip_all(error.text);
    uint64_t most = quern_device_info(d.device)->heaps[0].max_allocation;
    ok(most == LITTLE, "%s takes %llu bytes in one allocation", plugin, (unsigned long long)most);
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++)
        check(d.device, &stacks[i], 1 + i);
    close_cpu(&d);
    return tap_done();
}

/* A seed, or the name of a plugin whose device takes LITTLE. */
int main(int argc, char **argv)
{
    if (argc > 1 && strchr("0123456789", argv[1][0]) == NULL)
        return check_stacks(argv[1]);
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    test_device d = open_cpu();
    if (!d.device)
        return tap_done();
    diag("seed %llu (the first argument)", (unsigned long long)seed);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(d.device, &cases[i], seed + i);
    enum { KINDS = sizeof kinds / sizeof *kinds, PLAIN = 8 };
    for (uint64_t i = 0; i < PLAIN + 2 * KINDS; i++) {
        uint64_t random = seed * 1000 + i;
        shape_case c = i < PLAIN ? draw(&random) : draw_kind(&random, &kinds[(i - PLAIN) % KINDS]);
        diag("layers %u embedding %u heads %u/%u head %u/%u rope %u feed-forward %u vocabulary %u window %u", c.spec.layers,
             c.spec.embedding, c.spec.heads, c.spec.kv_heads, c.spec.head_k, c.spec.head_v, c.spec.rope_dims, c.spec.feed_forward,
             c.spec.vocabulary, c.spec.window);
        check(d.device, &c, random);
    }
    close_cpu(&d);
    return tap_done();
}
