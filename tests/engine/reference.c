/* SPDX-License-Identifier: MIT
 * tests/engine/reference.c: the forward pass, once more, in double and without a thought for speed. Written from the papers
 * (Touvron et al. 2023; Su et al. 2021; Peng et al. 2023; Gemma team 2024 and 2025), sharing nothing with engine/ or kernels/. */
#include "engine/tiny_model.h"

#include <math.h>

typedef struct pass {
    const tiny_model *m;
    uint32_t position;
    double *keys, *values; /* [layer][position][head][feature], at the widest */
    size_t layer_stride, cell_stride;
    double *inputs, *states; /* of the delta rule: [layer][position][channel], [layer][value head][V][K] */
} pass;

static double *fresh(size_t n)
{
    double *p = calloc(n ? n : 1, sizeof *p);
    if (!p)
        exit(1);
    return p;
}

static const double *numbers(const tiny_model *m, uint32_t layer, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "blk.%u.%s", layer, name);
    const tiny_tensor *t = tiny_find(m, full);
    return t ? t->values : NULL;
}

/* The norm of that name, over n numbers; y may be x. */
static void normalise(const tiny_model *m, const char *name, const double *x, double *y, uint32_t n)
{
    char full[96];
    snprintf(full, sizeof full, "%s.weight", name);
    const double *w = tiny_find(m, full)->values;
    snprintf(full, sizeof full, "%s.bias", name);
    const tiny_tensor *bias = tiny_find(m, full);
    float epsilon = m->spec.epsilon != 0 ? m->spec.epsilon : 1e-5f;
    double mean = 0, square = 0;
    for (uint32_t i = 0; i < n && m->spec.layer_norms; i++)
        mean += x[i] / n;
    for (uint32_t i = 0; i < n; i++)
        square += (x[i] - mean) * (x[i] - mean) / n;
    for (uint32_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) / sqrt(square + (double)epsilon) * w[i] + (bias ? bias->values[i] : 0);
}

static void normalise_in(const tiny_model *m, uint32_t layer, const char *name, const double *x, double *y, uint32_t n)
{
    char full[96];
    snprintf(full, sizeof full, "blk.%u.%s", layer, name);
    normalise(m, full, x, y, n);
}

/* y = scale·(W x) + bias, or scale·(W x + bias) in the feed-forward part; of the rows from `first` on. */
static double *apply(const tiny_model *m, uint32_t layer, const char *name, const double *x, uint32_t n, uint32_t first,
                     uint32_t rows)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    const double *w = numbers(m, layer, full);
    snprintf(full, sizeof full, "%s.bias", name);
    const double *bias = numbers(m, layer, full);
    snprintf(full, sizeof full, "%s.scale", name);
    const double *scale = numbers(m, layer, full);
    double s = scale ? *scale : 1, *y = fresh(rows);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < n; i++)
            y[r] += w[((size_t)first + r) * n + i] * x[i];
        y[r] = y[r] * s + (bias ? bias[first + r] * (!strncmp(name, "ffn", 3) || m->spec.attention_period ? s : 1) : 0);
    }
    return y;
}

/* How much of a frequency is extrapolated (1) rather than interpolated (0): by the turns it makes within the original context. */
static double yarn_mix(const tiny_spec *s, double dims, double base, uint32_t pair)
{
    double turns_fast = 32, turns_slow = 1, context = s->original_context ? s->original_context : s->context;
    double low = floor(dims * log(context / (turns_fast * 2 * M_PI)) / (2 * log(base)));
    double high = ceil(dims * log(context / (turns_slow * 2 * M_PI)) / (2 * log(base)));
    low = fmax(low, 0);
    high = fmin(high, dims - 1);
    double ramp = (pair - low) / fmax(0.001, high - low);
    return 1 - fmin(1, fmax(0, ramp));
}

static int is_local(const tiny_spec *s, uint32_t layer)
{
    return s->window && (!s->window_period || (layer + 1) % s->window_period);
}

static void rotate(const pass *p, uint32_t layer, double *x, uint32_t heads)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t dims = s->rope_dims ? s->rope_dims : s->head_k;
    const tiny_tensor *factors = tiny_find(p->m, !s->factor_sets ? "rope_freqs.weight"
                                                 : s->long_set   ? "rope_factors_long.weight"
                                                                 : "rope_factors_short.weight");
    double base = s->freq_base != 0 ? (double)s->freq_base : 10000, magnitude = s->attn_factor != 0 ? (double)s->attn_factor : 1;
    int scaled = s->scaling && strcmp(s->scaling, "none") && s->factor > 0, yarn = scaled && !strcmp(s->scaling, "yarn");
    if (s->unturned_period && (layer + 1) % s->unturned_period == 0)
        return;
    if (is_local(s, layer) && s->local_base != 0) {
        base = (double)s->local_base;
        scaled = 0;
    }
    if (yarn)
        magnitude *= 1 + 0.1 * log((double)s->factor);
    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t i = 0; i < dims / 2; i++) {
            double angle = p->position * pow(base, -2.0 * i / dims) / (factors ? factors->values[i] : 1);
            double mix = yarn ? yarn_mix(s, dims, base, i) : 0;
            if (scaled)
                angle = angle / (double)s->factor * (1 - mix) + angle * mix;
            double *a = &x[(size_t)h * s->head_k + (s->halves ? i : 2 * i)], *b = a + (s->halves ? dims / 2 : 1), x0 = *a, x1 = *b;
            *a = (x0 * cos(angle) - x1 * sin(angle)) * magnitude;
            *b = (x0 * sin(angle) + x1 * cos(angle)) * magnitude;
        }
}

static double dot(const double *a, const double *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static void attend_head(const pass *p, uint32_t layer, const double *q, uint32_t head, uint32_t kv_head, double *out)
{
    const tiny_spec *s = &p->m->spec;
    double scale = s->attention_scale != 0 ? (double)s->attention_scale : 1 / sqrt(s->head_k), total = 0,
           largest = -(double)INFINITY;
    uint32_t first = is_local(s, layer) && p->position + 1 > s->window ? p->position + 1 - s->window : 0;
    double *weight = fresh(p->position + 1);
    for (uint32_t c = first; c <= p->position; c++) {
        weight[c] = scale * dot(q, p->keys + layer * p->layer_stride + c * p->cell_stride + (size_t)kv_head * s->head_k, s->head_k);
        if (s->attention_cap != 0)
            weight[c] = (double)s->attention_cap * tanh(weight[c] / (double)s->attention_cap);
        largest = fmax(largest, weight[c]);
    }
    const double *sinks = numbers(p->m, layer, "attn_sinks.weight");
    for (uint32_t c = first; c <= p->position; c++)
        total += weight[c] = exp(weight[c] - largest);
    total += sinks ? exp(sinks[head] - largest) : 0; /* takes a share and gives nothing */
    for (uint32_t c = first; c <= p->position; c++)
        for (uint32_t i = 0; i < s->head_v; i++)
            out[i] += weight[c] / total * p->values[layer * p->layer_stride + c * p->cell_stride + (size_t)kv_head * s->head_v + i];
    free(weight);
}

/* Adds what a block gives to the residual stream. */
static void add_block(const pass *p, uint32_t layer, const char *norm, double *y, double *x)
{
    const tiny_spec *s = &p->m->spec;
    if (s->post_norms)
        normalise_in(p->m, layer, norm, y, y, s->embedding);
    for (uint32_t i = 0; i < s->embedding; i++)
        x[i] += y[i] * (s->residual_factor != 0 ? (double)s->residual_factor : 1);
}

/* Norm over each head where there is one, and positions. */
static void turn(const pass *p, uint32_t layer, const char *norm, double *x, uint32_t heads)
{
    const tiny_spec *s = &p->m->spec;
    for (uint32_t i = 0; i < heads && s->qk_norms; i++)
        normalise_in(p->m, layer, norm, x + (size_t)i * s->head_k, x + (size_t)i * s->head_k, s->head_k);
    rotate(p, layer, x, heads);
}

/* Each head's query comes before its gate: the gates go into a list of their own, the queries move together. */
static double *part_gates(double *q, uint32_t heads, uint32_t size)
{
    double *gate = fresh((size_t)heads * size);
    for (uint32_t h = 0; h < heads; h++) {
        memcpy(gate + (size_t)h * size, q + (size_t)(2 * h + 1) * size, size * sizeof *q);
        memmove(q + (size_t)h * size, q + (size_t)2 * h * size, size * sizeof *q);
    }
    return gate;
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void to_length_one(const tiny_spec *s, double *x, uint32_t n)
{
    double length = sqrt(dot(x, x, n)), least = s->epsilon != 0 ? (double)s->epsilon : (double)1e-5f;
    for (uint32_t i = 0; i < n; i++)
        x[i] /= length > least ? length : least;
}

/* One head of Yang et al. 2024, arXiv:2412.06464, equation 10, with S {V, K}. */
static void delta_head(const tiny_spec *s, double *state, const double *q, const double *k, const double *v, double fade,
                       double beta, double *out)
{
    for (uint32_t i = 0; i < s->delta_v; i++) {
        double *row = state + (size_t)i * s->delta_k, seen = fade * dot(row, k, s->delta_k);
        for (uint32_t j = 0; j < s->delta_k; j++)
            row[j] = fade * row[j] + beta * (v[i] - seen) * k[j];
        out[i] = dot(row, q, s->delta_k) / sqrt(s->delta_k);
    }
}

static void delta(const pass *p, uint32_t layer, double *x)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t keys = s->delta_keys * s->delta_k, values = s->delta_values * s->delta_v, channels = 2 * keys + values;
    const double *conv = numbers(p->m, layer, "ssm_conv1d.weight"), *a = numbers(p->m, layer, "ssm_a");
    const double *dt = numbers(p->m, layer, "ssm_dt.bias");
    double *h = fresh(s->embedding), *mixed = fresh(channels), *out = fresh(values);
    normalise_in(p->m, layer, "attn_norm", x, h, s->embedding);
    double *all = apply(p->m, layer, "attn_qkv", h, s->embedding, 0, channels);
    double *gate = apply(p->m, layer, "attn_gate", h, s->embedding, 0, values);
    double *alpha = apply(p->m, layer, "ssm_alpha", h, s->embedding, 0, s->delta_values);
    double *beta = apply(p->m, layer, "ssm_beta", h, s->embedding, 0, s->delta_values);
    double *past = p->inputs + (size_t)layer * p->m->spec.context * channels;
    memcpy(past + (size_t)p->position * channels, all, channels * sizeof *all);
    for (uint32_t c = 0; c < channels; c++) {
        for (uint32_t back = 0; back < s->conv_width && back <= p->position; back++)
            mixed[c] +=
                conv[(size_t)c * s->conv_width + s->conv_width - 1 - back] * past[(size_t)(p->position - back) * channels + c];
        mixed[c] *= sigmoid(mixed[c]);
    }
    for (uint32_t i = 0; i < 2 * s->delta_keys; i++)
        to_length_one(s, mixed + (size_t)i * s->delta_k, s->delta_k);
    for (uint32_t i = 0; i < s->delta_values; i++) {
        size_t key = (size_t)(i % s->delta_keys) * s->delta_k;
        double *o = out + (size_t)i * s->delta_v;
        delta_head(s, p->states + ((size_t)layer * s->delta_values + i) * s->delta_k * s->delta_v, mixed + key, mixed + keys + key,
                   mixed + 2 * keys + (size_t)i * s->delta_v, exp(a[i] * log(1 + exp(alpha[i] + dt[i]))), sigmoid(beta[i]), o);
        normalise_in(p->m, layer, "ssm_norm", o, o, s->delta_v);
    }
    for (uint32_t i = 0; i < values; i++)
        out[i] *= gate[i] * sigmoid(gate[i]);
    double *y = apply(p->m, layer, "ssm_out", out, values, 0, s->embedding);
    add_block(p, layer, "", y, x);
    free(h), free(mixed), free(out), free(all), free(gate), free(alpha), free(beta), free(y);
}

static void attention(const pass *p, uint32_t layer, double *x)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t heads = s->layer_heads ? s->layer_heads[layer] : s->heads,
             kv = s->layer_kv_heads ? s->layer_kv_heads[layer] : s->kv_heads;
    double *h = fresh(s->embedding), *mixed = fresh((size_t)heads * s->head_v);
    normalise_in(p->m, layer, "attn_norm", x, h, s->embedding);
    uint32_t at_k = s->fused ? heads * s->head_k : 0, at_v = s->fused ? at_k + kv * s->head_k : 0;
    double *q =
        apply(p->m, layer, s->fused ? "attn_qkv" : "attn_q", h, s->embedding, 0, heads * s->head_k * (s->attention_period ? 2 : 1));
    double *gate = s->attention_period ? part_gates(q, heads, s->head_k) : NULL;
    double *k = apply(p->m, layer, s->fused ? "attn_qkv" : "attn_k", h, s->embedding, at_k, kv * s->head_k);
    double *v = apply(p->m, layer, s->fused ? "attn_qkv" : "attn_v", h, s->embedding, at_v, kv * s->head_v);
    turn(p, layer, "attn_q_norm", q, heads);
    turn(p, layer, "attn_k_norm", k, kv);
    memcpy(p->keys + layer * p->layer_stride + p->position * p->cell_stride, k, (size_t)kv * s->head_k * sizeof *k);
    memcpy(p->values + layer * p->layer_stride + p->position * p->cell_stride, v, (size_t)kv * s->head_v * sizeof *v);
    for (uint32_t i = 0; i < heads; i++)
        attend_head(p, layer, q + (size_t)i * s->head_k, i, i / (heads / kv), mixed + (size_t)i * s->head_v);
    for (uint32_t i = 0; gate && i < heads * s->head_v; i++)
        mixed[i] /= 1 + exp(-gate[i]);
    double *o = apply(p->m, layer, "attn_output", mixed, heads * s->head_v, 0, s->embedding);
    add_block(p, layer, "post_attention_norm", o, x);
    free(h), free(mixed), free(q), free(k), free(v), free(o), free(gate);
}

static double activation(const tiny_spec *s, double x)
{
    if (s->gelu)
        return x / 2 * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    return x / (1 + exp(-x));
}

/* ---- experts ---- */

static double gated(const tiny_spec *s, double gate, double up)
{
    if (!s->clamped)
        return activation(s, gate) * up;
    gate = fmin(gate, 7);
    return gate / (1 + exp(-(double)1.702f * gate)) * (fmax(-7, fmin(7, up)) + 1);
}

/* scale_e·(W_e x) + bias_e */
static double *apply_expert(const tiny_model *m, uint32_t layer, const char *name, const double *x, uint32_t n, uint32_t e,
                            uint32_t rows)
{
    char full[64];
    snprintf(full, sizeof full, "%s.weight", name);
    const double *w = numbers(m, layer, full) + (size_t)e * n * rows;
    snprintf(full, sizeof full, "%s.bias", name);
    const double *bias = numbers(m, layer, full);
    snprintf(full, sizeof full, "%s.scale", name);
    const double *scale = numbers(m, layer, full);
    double *y = fresh(rows);
    for (uint32_t r = 0; r < rows; r++)
        y[r] = dot(w + (size_t)r * n, x, n) * (scale ? scale[e] : 1) + (bias ? bias[(size_t)e * rows + r] : 0);
    return y;
}

static void add_expert(const pass *p, uint32_t layer, uint32_t e, double weight, const double *h, double *sum)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t n = s->expert_feed_forward ? s->expert_feed_forward : s->feed_forward;
    double *gate = apply_expert(p->m, layer, "ffn_gate_exps", h, s->embedding, e, n);
    double *up = apply_expert(p->m, layer, "ffn_up_exps", h, s->embedding, e, n);
    for (uint32_t i = 0; i < n; i++)
        gate[i] = gated(s, gate[i], up[i]);
    double *down = apply_expert(p->m, layer, "ffn_down_exps", gate, n, e, s->embedding);
    for (uint32_t i = 0; i < s->embedding; i++)
        sum[i] += weight * down[i];
    free(gate), free(up), free(down);
}

/* The expert that every token goes to. */
static void add_shared(const pass *p, uint32_t layer, const double *h, double *sum)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t n = s->shared_feed_forward;
    double *gate = apply(p->m, layer, "ffn_gate_shexp", h, s->embedding, 0, n);
    double *up = apply(p->m, layer, "ffn_up_shexp", h, s->embedding, 0, n);
    for (uint32_t i = 0; i < n; i++)
        gate[i] = activation(s, gate[i]) * up[i];
    double *down = apply(p->m, layer, "ffn_down_shexp", gate, n, 0, s->embedding);
    double share = s->shared_gate ? 1 / (1 + exp(-dot(numbers(p->m, layer, "ffn_gate_inp_shexp.weight"), h, s->embedding))) : 1;
    for (uint32_t i = 0; i < s->embedding; i++)
        sum[i] += share * down[i];
    free(gate), free(up), free(down);
}

/* Of the groups those whose two best experts score highest; DeepSeek-AI 2024. */
static int in_best_groups(const tiny_spec *s, const double *score, uint32_t expert)
{
    uint32_t size = s->experts / s->expert_groups, better = 0;
    double mine = 0;
    for (uint32_t turn = 0; turn <= s->expert_groups; turn++) { /* its own group first */
        uint32_t g = turn ? turn - 1 : expert / size;
        double first = -(double)INFINITY, second = -(double)INFINITY;
        for (uint32_t e = g * size; e < (g + 1) * size; e++) {
            second = score[e] > first ? first : fmax(second, score[e]);
            first = fmax(first, score[e]);
        }
        double sum = size > 1 ? first + second : first;
        if (!turn)
            mine = sum;
        else
            better += sum > mine;
    }
    return better < s->expert_groups_used;
}

/* Weights of all experts, 0 for those that the token does not go to. */
static double *route(const pass *p, uint32_t layer, const double *h)
{
    const tiny_spec *s = &p->m->spec;
    double *logit = apply(p->m, layer, "ffn_gate_inp", h, s->embedding, 0, s->experts), *weight = fresh(s->experts);
    double *score = fresh(s->experts), all = 0, chosen = 0;
    const double *bias = numbers(p->m, layer, "exp_probs_b.bias");
    for (uint32_t e = 0; e < s->experts; e++)
        all += exp(logit[e]);
    for (uint32_t e = 0; e < s->experts; e++) {
        double probability = s->expert_gate == QP_GATE_SIGMOID ? 1 / (1 + exp(-logit[e])) : exp(logit[e]) / all;
        score[e] = probability + (bias ? bias[e] : 0);
    }
    for (uint32_t e = 0; e < s->experts; e++) {
        uint32_t before = 0;
        for (uint32_t other = 0; other < s->experts; other++)
            before += score[other] > score[e] && (!s->expert_groups || in_best_groups(s, score, other));
        if (before < s->experts_used && (!s->expert_groups || in_best_groups(s, score, e)))
            weight[e] = score[e] - (bias ? bias[e] : 0);
        chosen += weight[e];
    }
    int divide = s->expert_sum || s->expert_gate == QP_GATE_SOFTMAX_CHOSEN; /* e^a / (e^a + e^b): the same */
    for (uint32_t e = 0; e < s->experts; e++)
        weight[e] *= (divide ? 1 / chosen : 1) * (s->expert_factor != 0 ? (double)s->expert_factor : 1);
    free(logit), free(score);
    return weight;
}

static void mixture(const pass *p, uint32_t layer, double *x)
{
    const tiny_spec *s = &p->m->spec;
    double *h = fresh(s->embedding), *sum = fresh(s->embedding);
    normalise_in(p->m, layer, s->clamped || s->attention_period ? "post_attention_norm" : "ffn_norm", x, h, s->embedding);
    double *weight = route(p, layer, h);
    for (uint32_t e = 0; e < s->experts; e++)
        if (weight[e] != 0)
            add_expert(p, layer, e, weight[e], h, sum);
    if (s->shared_feed_forward)
        add_shared(p, layer, h, sum);
    add_block(p, layer, "", sum, x);
    free(h), free(sum), free(weight);
}

static void feed_forward(const pass *p, uint32_t layer, double *x)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t n = s->layer_feed_forward ? s->layer_feed_forward[layer] : s->feed_forward;
    double *h = fresh(s->embedding);
    normalise_in(p->m, layer, s->attention_period ? "post_attention_norm" : "ffn_norm", x, h, s->embedding);
    double *gate = apply(p->m, layer, s->fused || s->ungated ? "ffn_up" : "ffn_gate", h, s->embedding, 0, n);
    double *up = apply(p->m, layer, "ffn_up", h, s->embedding, s->fused ? n : 0, n);
    for (uint32_t i = 0; i < n; i++)
        gate[i] = activation(s, gate[i]) * (s->ungated ? 1 : up[i]);
    double *down = apply(p->m, layer, "ffn_down", gate, n, 0, s->embedding);
    add_block(p, layer, "post_ffw_norm", down, x);
    free(h), free(gate), free(up), free(down);
}

void tiny_reference(const tiny_model *m, const int32_t *tokens, uint32_t count, double *logits)
{
    const tiny_spec *s = &m->spec;
    uint32_t widest = s->kv_heads;
    for (uint32_t i = 0; s->layer_kv_heads && i < s->layers; i++)
        widest = s->layer_kv_heads[i] > widest ? s->layer_kv_heads[i] : widest;
    pass p = {.m = m, .cell_stride = (size_t)widest * (s->head_k > s->head_v ? s->head_k : s->head_v)};
    p.layer_stride = p.cell_stride * count;
    p.keys = fresh(p.layer_stride * s->layers);
    p.values = fresh(p.layer_stride * s->layers);
    p.inputs = fresh((size_t)s->layers * s->context * (2 * s->delta_keys * s->delta_k + s->delta_values * s->delta_v));
    p.states = fresh((size_t)s->layers * s->delta_values * s->delta_k * s->delta_v);
    const double *table = tiny_find(m, "token_embd.weight")->values, *out = s->tied ? table : tiny_find(m, "output.weight")->values;
    double *x = fresh(s->embedding), *h = fresh(s->embedding);
    for (p.position = 0; p.position < count; p.position++) {
        for (uint32_t i = 0; i < s->embedding; i++)
            x[i] = table[(size_t)tokens[p.position] * s->embedding + i] * (s->root_factor ? sqrt(s->embedding) : 1) *
                   (s->embedding_factor != 0 ? (double)s->embedding_factor : 1);
        for (uint32_t layer = 0; layer < s->layers; layer++) {
            if (tiny_is_delta(s, layer))
                delta(&p, layer, x);
            else
                attention(&p, layer, x);
            if (s->experts && layer >= s->dense_layers)
                mixture(&p, layer, x);
            else
                feed_forward(&p, layer, x);
        }
        normalise(m, "output_norm", x, h, s->embedding);
        for (uint32_t i = 0; i < s->vocabulary; i++) {
            double logit = dot(out + (size_t)i * s->embedding, h, s->embedding);
            logit /= s->logit_divisor != 0 ? (double)s->logit_divisor : 1;
            logits[(size_t)p.position * s->vocabulary + i] =
                s->logit_cap != 0 ? (double)s->logit_cap * tanh(logit / (double)s->logit_cap) : logit;
        }
    }
    free(p.keys), free(p.values), free(p.inputs), free(p.states), free(x), free(h);
}
