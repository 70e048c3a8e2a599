/* SPDX-License-Identifier: MIT */
#include "engine/tiny_model.h"

#include "kernels/common/formats.h"

#include <math.h>

enum { ALIGNMENT = 32 };

const tiny_spec tiny_plain = {.layers = 2,
                              .embedding = 32,
                              .heads = 4,
                              .kv_heads = 2,
                              .head_k = 8,
                              .head_v = 8,
                              .feed_forward = 48,
                              .vocabulary = 20,
                              .context = 64};
const tiny_spec tiny_recurrent = {.architecture = "qwen35",
                                  .layers = 3,
                                  .embedding = 32,
                                  .heads = 4,
                                  .kv_heads = 2,
                                  .head_k = 32,
                                  .head_v = 32,
                                  .feed_forward = 48,
                                  .vocabulary = 40,
                                  .context = 64,
                                  .halves = 1,
                                  .qk_norms = 1,
                                  .attention_period = 3,
                                  .delta_keys = 2,
                                  .delta_values = 4,
                                  .delta_k = 8,
                                  .delta_v = 12,
                                  .conv_width = 4};

uint64_t tiny_random(uint64_t *state) /* splitmix64, by Sebastiano Vigna, public domain */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Uniform in [−1, 1). */
static double uniform(tiny_model *m)
{
    return (double)(tiny_random(&m->random) >> 11) * 0x1p-52 - 1;
}

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "no memory\n");
        exit(1);
    }
    return p;
}

/* ---- tensors ---- */

static void encode_block(tiny_model *m, tiny_tensor *t, size_t block, double size)
{
    /* random blocks rather than quantised numbers: what they mean is exact by construction */
    uint16_t d = qk_f16_from_f32((float)(size * (0.5 + 0.5 * fabs(uniform(m)))));
    double scale = (double)qk_f32_from_f16(d);
    unsigned char *at = t->data + block * (t->bytes / (t->ne[0] * t->ne[1] * t->ne[2] / QK_BLOCK));
    memcpy(at, &d, sizeof d);
    for (size_t i = 0; i < QK_BLOCK; i++) {
        uint64_t r = tiny_random(&m->random);
        double *value = &t->values[block * QK_BLOCK + i];
        if (t->format == QP_FORMAT_Q8_0) {
            int8_t q = (int8_t)(r % 255 - 127);
            at[2 + i] = (unsigned char)q;
            *value = scale * q;
        } else {
            unsigned q = r % 16;
            at[2 + i % 16] = (unsigned char)(i < 16 ? q : at[2 + i % 16] | q << 4);
            *value = scale * ((int)q - 8);
        }
    }
}

void tiny_set(tiny_tensor *t, size_t index, double value)
{
    float f = (float)value;
    uint16_t h = t->format == QP_FORMAT_F16 ? qk_f16_from_f32(f) : qk_bf16_from_f32(f);
    if (t->format == QP_FORMAT_F32) {
        memcpy(t->data + index * 4, &f, 4);
        t->values[index] = (double)f;
    } else {
        memcpy(t->data + index * 2, &h, 2);
        t->values[index] = (double)(t->format == QP_FORMAT_F16 ? qk_f32_from_f16(h) : qk_f32_from_bf16(h));
    }
}

/* The size of a number is about `spread`, by powers of two. */
static void encode_mxfp4(tiny_model *m, tiny_tensor *t, size_t block, double spread)
{
    static const double numbers[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6}; /* OCP Microscaling formats, 2023: E2M1 */
    int exponent = (int)floor(log2(spread)) - (int)(tiny_random(&m->random) % 2);
    unsigned char *at = t->data + block * 17;
    at[0] = (unsigned char)(exponent + 127);
    for (size_t i = 0; i < QK_BLOCK; i++) {
        unsigned q = tiny_random(&m->random) % 16;
        at[1 + i % 16] = (unsigned char)(i < 16 ? q : at[1 + i % 16] | q << 4);
        t->values[block * QK_BLOCK + i] = ldexp(numbers[q % 8], exponent) * (q < 8 ? 1 : -1);
    }
}

static void fill(tiny_model *m, tiny_tensor *t, double middle, double spread)
{
    size_t n = (size_t)(t->ne[0] * t->ne[1] * t->ne[2]);
    uint64_t bytes = 0;
    quern_format_bytes(t->format, (int64_t)n, &bytes);
    t->bytes = (size_t)bytes;
    t->values = must(calloc(n ? n : 1, sizeof *t->values));
    t->data = must(calloc(1, t->bytes ? t->bytes : 1));
    if (t->format == QP_FORMAT_MXFP4)
        for (size_t i = 0; i < n / QK_BLOCK; i++)
            encode_mxfp4(m, t, i, spread / 4);
    else if (t->format == QP_FORMAT_Q8_0 || t->format == QP_FORMAT_Q4_0)
        for (size_t i = 0; i < n / QK_BLOCK; i++)
            encode_block(m, t, i, t->format == QP_FORMAT_Q8_0 ? spread / 100 : spread / 7);
    else
        for (size_t i = 0; i < n; i++)
            tiny_set(t, i, middle + spread * uniform(m));
}

static void add(tiny_model *m, qp_format format, uint64_t ne0, uint64_t ne1, double middle, double spread, const char *name)
{
    m->tensors = must(realloc(m->tensors, (m->count + 1) * sizeof *m->tensors));
    tiny_tensor *t = &m->tensors[m->count++];
    *t = (tiny_tensor){.dims = ne1 ? 2 : 1, .ne = {ne0, ne1 ? ne1 : 1}, .format = format};
    snprintf(t->name, sizeof t->name, "%s", name);
    t->ne[2] = 1;
    fill(m, t, middle, spread);
}

/* One matrix after another. */
static void add_stack(tiny_model *m, qp_format format, uint64_t ne0, uint64_t ne1, uint64_t ne2, double spread, const char *name)
{
    m->tensors = must(realloc(m->tensors, (m->count + 1) * sizeof *m->tensors));
    tiny_tensor *t = &m->tensors[m->count++];
    *t = (tiny_tensor){.dims = 3, .ne = {ne0, ne1, ne2}, .format = format};
    snprintf(t->name, sizeof t->name, "%s", name);
    fill(m, t, 0, spread);
}

static void add_matrix(tiny_model *m, qp_format format, uint32_t k, uint32_t rows, const char *base, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s.weight", base, name);
    add(m, format, k, rows, 0, 1.7 / sqrt(k), full);
    if (m->spec.biases) {
        snprintf(full, sizeof full, "%s%s.bias", base, name);
        add(m, QP_FORMAT_F32, rows, 0, 0, 0.3, full);
    }
    if (m->spec.scales) {
        snprintf(full, sizeof full, "%s%s.scale", base, name);
        add(m, QP_FORMAT_F32, 1, 0, 1, 0.4, full);
    }
}

static void add_norm(tiny_model *m, uint32_t n, const char *base, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s.weight", base, name);
    add(m, QP_FORMAT_F32, n, 0, 1, 0.4, full);
    if (m->spec.layer_norms) {
        snprintf(full, sizeof full, "%s%s.bias", base, name);
        add(m, QP_FORMAT_F32, n, 0, 0, 0.3, full);
    }
}

static void add_heads(tiny_model *m, uint32_t heads, uint32_t kv, const char *base)
{
    const tiny_spec *s = &m->spec;
    if (s->fused) {
        add_matrix(m, s->format, s->embedding, heads * s->head_k + kv * (s->head_k + s->head_v), base, "attn_qkv");
    } else {
        add_matrix(m, s->format, s->embedding, heads * s->head_k * (s->attention_period ? 2 : 1), base, "attn_q");
        add_matrix(m, s->format, s->embedding, kv * s->head_k, base, "attn_k");
        add_matrix(m, s->format, s->embedding, kv * s->head_v, base, "attn_v");
    }
    if (s->qk_norms) {
        add_norm(m, s->head_k, base, "attn_q_norm");
        add_norm(m, s->head_k, base, "attn_k_norm");
    }
}

static void add_experts(tiny_model *m, uint32_t k, uint32_t rows, const char *base, const char *name)
{
    char full[64];
    uint32_t n = m->spec.experts;
    snprintf(full, sizeof full, "%s%s.weight", base, name);
    add_stack(m, m->spec.expert_format, k, rows, n, 1.7 / sqrt(k), full);
    if (m->spec.expert_biases) {
        snprintf(full, sizeof full, "%s%s.bias", base, name);
        add(m, QP_FORMAT_F32, rows, n, 0, 0.3, full);
    }
    if (m->spec.expert_scales) {
        snprintf(full, sizeof full, "%s%s.scale", base, name);
        add(m, QP_FORMAT_F32, n, 0, 1, 0.4, full);
    }
}

static void add_mixture(tiny_model *m, const char *base)
{
    const tiny_spec *s = &m->spec;
    uint32_t ff = s->expert_feed_forward ? s->expert_feed_forward : s->feed_forward, e = s->embedding,
             shared = s->shared_feed_forward;
    char full[64];
    snprintf(full, sizeof full, "%sffn_gate_inp.weight", base);
    add(m, QP_FORMAT_F32, e, s->experts, 0, 3 / sqrt(e), full);
    if (s->expert_biases) {
        snprintf(full, sizeof full, "%sffn_gate_inp.bias", base);
        add(m, QP_FORMAT_F32, s->experts, 0, 0, 0.5, full);
    }
    if (s->choice_bias) {
        snprintf(full, sizeof full, "%sexp_probs_b.bias", base);
        add(m, QP_FORMAT_F32, s->experts, 0, 0, 0.3, full);
    }
    add_experts(m, e, ff, base, "ffn_gate_exps");
    add_experts(m, e, ff, base, "ffn_up_exps");
    add_experts(m, ff, e, base, "ffn_down_exps");
    if (!shared)
        return;
    const char *const names[] = {"ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"};
    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s%s.weight", base, names[i]);
        add(m, s->format, i < 2 ? e : shared, i < 2 ? shared : e, 0, 1.7 / sqrt(i < 2 ? e : shared), full);
    }
    snprintf(full, sizeof full, "%sffn_gate_inp_shexp.weight", base);
    if (s->shared_gate)
        add(m, QP_FORMAT_F32, e, 0, 0, 1.7 / sqrt(e), full);
}

static void add_named(tiny_model *m, uint64_t ne0, uint64_t ne1, double middle, double spread, const char *base, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", base, name);
    add(m, QP_FORMAT_F32, ne0, ne1, middle, spread, full);
}

static void add_delta(tiny_model *m, const char *base)
{
    const tiny_spec *s = &m->spec;
    uint32_t values = s->delta_values * s->delta_v, channels = 2 * s->delta_keys * s->delta_k + values;
    add_matrix(m, s->format, s->embedding, channels, base, "attn_qkv");
    add_matrix(m, s->format, s->embedding, values, base, "attn_gate");
    add_matrix(m, s->format, s->embedding, s->delta_values, base, "ssm_alpha");
    add_matrix(m, s->format, s->embedding, s->delta_values, base, "ssm_beta");
    add_named(m, s->delta_values, 0, 0, 1, base, "ssm_dt.bias");
    add_named(m, s->delta_values, 0, -0.5, 0.5, base, "ssm_a");
    add_named(m, s->conv_width, channels, 0, 0.7, base, "ssm_conv1d.weight");
    add_norm(m, s->delta_v, base, "ssm_norm");
    add_matrix(m, s->format, values, s->embedding, base, "ssm_out");
}

static void add_layer(tiny_model *m, uint32_t layer)
{
    const tiny_spec *s = &m->spec;
    uint32_t heads = s->layer_heads ? s->layer_heads[layer] : s->heads,
             kv = s->layer_kv_heads ? s->layer_kv_heads[layer] : s->kv_heads;
    uint32_t ff = s->layer_feed_forward ? s->layer_feed_forward[layer] : s->feed_forward;
    char base[32];
    snprintf(base, sizeof base, "blk.%u.", layer);
    add_norm(m, s->embedding, base, "attn_norm");
    if (tiny_is_delta(s, layer)) {
        add_delta(m, base);
    } else {
        add_heads(m, heads, kv, base);
        add_matrix(m, s->format, heads * s->head_v, s->embedding, base, "attn_output");
    }
    if (s->sinks) {
        char full[64];
        snprintf(full, sizeof full, "%sattn_sinks.weight", base);
        add(m, QP_FORMAT_F32, heads, 0, 0, 2, full);
    }
    add_norm(m, s->embedding, base, s->clamped || s->attention_period ? "post_attention_norm" : "ffn_norm");
    if (s->experts && layer >= s->dense_layers) {
        add_mixture(m, base);
        return;
    }
    if (!s->fused && !s->ungated)
        add_matrix(m, s->format, s->embedding, ff, base, "ffn_gate");
    add_matrix(m, s->up_differs ? s->up_format : s->format, s->embedding, s->fused ? 2 * ff : ff, base, "ffn_up");
    add_matrix(m, s->format, ff, s->embedding, base, "ffn_down");
    if (s->post_norms) {
        add_norm(m, s->embedding, base, "post_attention_norm");
        add_norm(m, s->embedding, base, "post_ffw_norm");
    }
}

tiny_model tiny_make(const tiny_spec *spec, uint64_t seed)
{
    tiny_model m = {.spec = *spec, .random = seed};
    add(&m, spec->format, spec->embedding, spec->vocabulary, 0, 1, "token_embd.weight");
    for (uint32_t i = 0; i < spec->layers; i++)
        add_layer(&m, i);
    add_norm(&m, spec->embedding, "", "output_norm");
    if (!spec->tied)
        add(&m, spec->format, spec->embedding, spec->vocabulary, 0, 1.7 / sqrt(spec->embedding), "output.weight");
    uint32_t pairs = (spec->rope_dims ? spec->rope_dims : spec->head_k) / 2;
    if (spec->rope_factors)
        add(&m, QP_FORMAT_F32, pairs, 0, 2, 1.5, "rope_freqs.weight");
    if (spec->factor_sets) {
        add(&m, QP_FORMAT_F32, pairs, 0, 2, 0.7, "rope_factors_short.weight");
        add(&m, QP_FORMAT_F32, pairs, 0, 5, 3, "rope_factors_long.weight");
    }
    return m;
}

void tiny_free(tiny_model *m)
{
    for (size_t i = 0; i < m->count; i++) {
        free(m->tensors[i].values);
        free(m->tensors[i].data);
    }
    free(m->tensors);
    *m = (tiny_model){0};
}

tiny_tensor *tiny_find(const tiny_model *m, const char *name)
{
    for (size_t i = 0; i < m->count; i++)
        if (!strcmp(m->tensors[i].name, name))
            return &m->tensors[i];
    return NULL;
}

/* ---- metadata ---- */

typedef struct meta_writer {
    builder bytes;
    uint64_t count;
    const char *architecture;
} meta_writer;

static const char *key_of(meta_writer *w, const char *suffix, char key[96])
{
    snprintf(key, 96, "%s.%s", w->architecture, suffix);
    w->count++;
    return key;
}

static void meta_u32(meta_writer *w, const char *suffix, uint32_t value)
{
    char key[96];
    put_kv_u32(&w->bytes, key_of(w, suffix, key), value);
}

static void meta_f32(meta_writer *w, const char *suffix, float value)
{
    char key[96];
    put_key(&w->bytes, key_of(w, suffix, key), QUERN_GGUF_FLOAT32);
    put_f32(&w->bytes, value);
}

static void meta_layers(meta_writer *w, const char *suffix, uint32_t value, const uint32_t *by_layer, uint32_t layers)
{
    char key[96];
    if (!by_layer) {
        meta_u32(w, suffix, value);
        return;
    }
    put_kv_array(&w->bytes, key_of(w, suffix, key), QUERN_GGUF_UINT32, layers);
    put(&w->bytes, by_layer, layers * sizeof *by_layer);
}

static void meta_vocabulary(meta_writer *w, uint32_t tokens)
{
    put_kv_string(&w->bytes, "tokenizer.ggml.model", tokens ? "llama" : "no_vocab");
    w->count++;
    if (!tokens)
        return;
    put_kv_array(&w->bytes, "tokenizer.ggml.tokens", QUERN_GGUF_STRING, tokens);
    for (uint32_t i = 0; i < tokens; i++) {
        char text[16];
        snprintf(text, sizeof text, i ? "t%u" : "<unk>", i);
        put_string(&w->bytes, text);
    }
    put_kv_array(&w->bytes, "tokenizer.ggml.scores", QUERN_GGUF_FLOAT32, tokens);
    for (uint32_t i = 0; i < tokens; i++)
        put_f32(&w->bytes, -(float)i);
    put_kv_array(&w->bytes, "tokenizer.ggml.token_type", QUERN_GGUF_INT32, tokens);
    for (uint32_t i = 0; i < tokens; i++)
        put_u32(&w->bytes, i ? QUERN_TOKEN_NORMAL : QUERN_TOKEN_UNKNOWN);
    w->count += 3;
}

static void meta_rope(meta_writer *w, const tiny_spec *s)
{
    char key[96];
    if (s->freq_base != 0)
        meta_f32(w, "rope.freq_base", s->freq_base);
    if (s->scaling) {
        put_kv_string(&w->bytes, key_of(w, "rope.scaling.type", key), s->scaling);
        meta_f32(w, "rope.scaling.factor", s->factor);
    }
    if (s->original_context)
        meta_u32(w, "rope.scaling.original_context_length", s->original_context);
    if (s->attn_factor != 0)
        meta_f32(w, "rope.scaling.attn_factor", s->attn_factor);
}

/* Numbers of which 0 means that there is no such key. */
static void meta_factors(meta_writer *w, const tiny_spec *s)
{
    const struct {
        const char *suffix;
        float value;
    } keys[] = {
        {"attention.scale", s->attention_scale},   {"attn_logit_softcapping", s->attention_cap},
        {"final_logit_softcapping", s->logit_cap}, {"embedding_scale", s->embedding_factor},
        {"residual_scale", s->residual_factor},    {"logit_scale", s->logit_divisor},
        {"rope.freq_base_swa", s->local_base},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].value != 0)
            meta_f32(w, keys[i].suffix, keys[i].value);
}

static void meta_experts(meta_writer *w, const tiny_spec *s)
{
    const struct {
        const char *suffix;
        uint32_t value;
    } keys[] = {
        {"expert_count", s->experts},
        {"expert_used_count", s->experts_used},
        {"expert_feed_forward_length", s->expert_feed_forward},
        {"expert_shared_feed_forward_length", s->shared_feed_forward},
        {"expert_gating_func", s->expert_gate ? s->expert_gate + 1 : 0},
        {"expert_weights_norm", (uint32_t)s->expert_sum},
        {"expert_group_count", s->expert_groups},
        {"expert_group_used_count", s->expert_groups_used},
        {"leading_dense_block_count", s->dense_layers},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].value)
            meta_u32(w, keys[i].suffix, keys[i].value);
    if (s->expert_factor != 0)
        meta_f32(w, "expert_weights_scale", s->expert_factor);
}

static meta_writer metadata(const tiny_spec *s)
{
    meta_writer w = {.architecture = s->architecture ? s->architecture : "llama"};
    put_kv_string(&w.bytes, "general.architecture", w.architecture);
    put_kv_string(&w.bytes, "general.name", "tiny");
    w.count = 2;
    meta_u32(&w, "context_length", s->context);
    meta_u32(&w, "embedding_length", s->embedding);
    meta_u32(&w, "block_count", s->layers);
    meta_layers(&w, "feed_forward_length", s->feed_forward, s->layer_feed_forward, s->layers);
    meta_layers(&w, "attention.head_count", s->heads, s->layer_heads, s->layers);
    meta_layers(&w, "attention.head_count_kv", s->kv_heads, s->layer_kv_heads, s->layers);
    meta_f32(&w, s->layer_norms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
             s->epsilon != 0 ? s->epsilon : 1e-5f);
    if (!s->omit_shape_keys) {
        meta_u32(&w, "attention.key_length", s->head_k);
        meta_u32(&w, "attention.value_length", s->head_v);
        meta_u32(&w, "rope.dimension_count", s->rope_dims ? s->rope_dims : s->head_k);
    }
    if (s->window)
        meta_u32(&w, "attention.sliding_window", s->window);
    if (s->attention_period) {
        meta_u32(&w, "full_attention_interval", s->attention_period);
        meta_u32(&w, "ssm.group_count", s->delta_keys);
        meta_u32(&w, "ssm.time_step_rank", s->delta_values);
        meta_u32(&w, "ssm.state_size", s->delta_k);
        meta_u32(&w, "ssm.inner_size", s->delta_v * s->delta_values);
        meta_u32(&w, "ssm.conv_kernel", s->conv_width);
    }
    meta_factors(&w, s);
    meta_experts(&w, s);
    meta_rope(&w, s);
    meta_vocabulary(&w, s->vocab_tokens);
    if (s->extra) {
        s->extra(&w.bytes);
        w.count += s->extra_count;
    }
    return w;
}

builder tiny_write(const tiny_model *m)
{
    meta_writer w = metadata(&m->spec);
    builder b = {0};
    uint64_t tensors = 0, offset = 0;
    for (size_t i = 0; i < m->count; i++)
        tensors += !m->tensors[i].removed;
    put_header(&b, 3, tensors, w.count);
    put(&b, w.bytes.data, w.bytes.size);
    builder_free(&w.bytes);
    for (size_t i = 0; i < m->count; i++) {
        const tiny_tensor *t = &m->tensors[i];
        if (t->removed)
            continue;
        put_tensor(&b, t->name, t->dims, t->ne, t->format, offset);
        offset = (offset + t->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    for (size_t i = 0; i < m->count; i++)
        if (!m->tensors[i].removed) {
            put_padding(&b, ALIGNMENT);
            put(&b, m->tensors[i].data, m->tensors[i].bytes);
        }
    put_padding(&b, ALIGNMENT);
    return b;
}
