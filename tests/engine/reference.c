/* SPDX-License-Identifier: MIT
 * tests/engine/reference.c: the Llama forward pass, once more, in double and without a thought for speed. Written from the papers
 * (Touvron et al. 2023; Su et al. 2021; Peng et al. 2023), sharing nothing with engine/ or kernels/. */
#include "engine/tiny_model.h"

#include <math.h>

typedef struct pass {
    const tiny_model *m;
    uint32_t position;
    double *keys, *values; /* [layer][position][head][feature], at the widest */
    size_t layer_stride, cell_stride;
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

static void rms(const tiny_model *m, const double *w, const double *x, double *y)
{
    double sum = 0;
    uint32_t n = m->spec.embedding;
    float epsilon = m->spec.epsilon != 0 ? m->spec.epsilon : 1e-5f;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(sum / n + (double)epsilon) * w[i];
}

/* y = scale·(W x) + bias, or scale·(W x + bias) in the feed-forward part. */
static double *apply(const tiny_model *m, uint32_t layer, const char *name, const double *x, uint32_t n, uint32_t rows)
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
            y[r] += w[(size_t)r * n + i] * x[i];
        y[r] = y[r] * s + (bias ? bias[r] * (!strncmp(name, "ffn", 3) ? s : 1) : 0);
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

static void rotate(const pass *p, double *x, uint32_t heads)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t dims = s->rope_dims ? s->rope_dims : s->head_k;
    const tiny_tensor *factors = tiny_find(p->m, "rope_freqs.weight");
    double base = s->freq_base != 0 ? (double)s->freq_base : 10000, magnitude = s->attn_factor != 0 ? (double)s->attn_factor : 1;
    int scaled = s->scaling && strcmp(s->scaling, "none") && s->factor > 0, yarn = scaled && !strcmp(s->scaling, "yarn");
    if (yarn)
        magnitude *= 1 + 0.1 * log((double)s->factor);
    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t i = 0; i < dims / 2; i++) {
            double angle = p->position * pow(base, -2.0 * i / dims) / (factors ? factors->values[i] : 1);
            double mix = yarn ? yarn_mix(s, dims, base, i) : 0;
            if (scaled)
                angle = angle / (double)s->factor * (1 - mix) + angle * mix;
            double *a = &x[(size_t)h * s->head_k + 2 * i], *b = a + 1, x0 = *a, x1 = *b;
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

static void attend_head(const pass *p, uint32_t layer, const double *q, uint32_t kv_head, double *out)
{
    const tiny_spec *s = &p->m->spec;
    double scale = s->attention_scale != 0 ? (double)s->attention_scale : 1 / sqrt(s->head_k), total = 0,
           largest = -(double)INFINITY;
    uint32_t first = s->window && p->position + 1 > s->window ? p->position + 1 - s->window : 0;
    double *weight = fresh(p->position + 1);
    for (uint32_t c = first; c <= p->position; c++) {
        weight[c] = scale * dot(q, p->keys + layer * p->layer_stride + c * p->cell_stride + (size_t)kv_head * s->head_k, s->head_k);
        largest = fmax(largest, weight[c]);
    }
    for (uint32_t c = first; c <= p->position; c++)
        total += weight[c] = exp(weight[c] - largest);
    for (uint32_t c = first; c <= p->position; c++)
        for (uint32_t i = 0; i < s->head_v; i++)
            out[i] += weight[c] / total * p->values[layer * p->layer_stride + c * p->cell_stride + (size_t)kv_head * s->head_v + i];
    free(weight);
}

static void attention(const pass *p, uint32_t layer, double *x)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t heads = s->layer_heads ? s->layer_heads[layer] : s->heads,
             kv = s->layer_kv_heads ? s->layer_kv_heads[layer] : s->kv_heads;
    double *h = fresh(s->embedding), *mixed = fresh((size_t)heads * s->head_v);
    rms(p->m, numbers(p->m, layer, "attn_norm.weight"), x, h);
    double *q = apply(p->m, layer, "attn_q", h, s->embedding, heads * s->head_k);
    double *k = apply(p->m, layer, "attn_k", h, s->embedding, kv * s->head_k);
    double *v = apply(p->m, layer, "attn_v", h, s->embedding, kv * s->head_v);
    rotate(p, q, heads);
    rotate(p, k, kv);
    memcpy(p->keys + layer * p->layer_stride + p->position * p->cell_stride, k, (size_t)kv * s->head_k * sizeof *k);
    memcpy(p->values + layer * p->layer_stride + p->position * p->cell_stride, v, (size_t)kv * s->head_v * sizeof *v);
    for (uint32_t i = 0; i < heads; i++)
        attend_head(p, layer, q + (size_t)i * s->head_k, i / (heads / kv), mixed + (size_t)i * s->head_v);
    double *o = apply(p->m, layer, "attn_output", mixed, heads * s->head_v, s->embedding);
    for (uint32_t i = 0; i < s->embedding; i++)
        x[i] += o[i];
    free(h), free(mixed), free(q), free(k), free(v), free(o);
}

static void feed_forward(const pass *p, uint32_t layer, double *x)
{
    const tiny_spec *s = &p->m->spec;
    uint32_t n = s->layer_feed_forward ? s->layer_feed_forward[layer] : s->feed_forward;
    double *h = fresh(s->embedding);
    rms(p->m, numbers(p->m, layer, "ffn_norm.weight"), x, h);
    double *gate = apply(p->m, layer, "ffn_gate", h, s->embedding, n), *up = apply(p->m, layer, "ffn_up", h, s->embedding, n);
    for (uint32_t i = 0; i < n; i++)
        gate[i] *= up[i] / (1 + exp(-gate[i]));
    double *down = apply(p->m, layer, "ffn_down", gate, n, s->embedding);
    for (uint32_t i = 0; i < s->embedding; i++)
        x[i] += down[i];
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
    const double *table = tiny_find(m, "token_embd.weight")->values, *out = s->tied ? table : tiny_find(m, "output.weight")->values;
    double *x = fresh(s->embedding), *h = fresh(s->embedding);
    for (p.position = 0; p.position < count; p.position++) {
        memcpy(x, table + (size_t)tokens[p.position] * s->embedding, s->embedding * sizeof *x);
        for (uint32_t layer = 0; layer < s->layers; layer++) {
            attention(&p, layer, x);
            feed_forward(&p, layer, x);
        }
        rms(m, tiny_find(m, "output_norm.weight")->values, x, h);
        for (uint32_t i = 0; i < s->vocabulary; i++)
            logits[(size_t)p.position * s->vocabulary + i] = dot(out + (size_t)i * s->embedding, h, s->embedding);
    }
    free(p.keys), free(p.values), free(x), free(h);
}
