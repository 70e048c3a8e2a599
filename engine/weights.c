/* SPDX-License-Identifier: MIT */
#include "engine/weights.h"

#include "engine/gguf.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 128 };

quern_status weight_set_init(weight_set *set, const quern_gguf *gguf, quern_error *error)
{
    *set = (weight_set){.gguf = gguf, .count = quern_gguf_tensor_count(gguf), .error = error};
    set->weight = calloc(set->count ? set->count : 1, sizeof *set->weight);
    if (!set->weight)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a table of %llu tensors",
                          (unsigned long long)set->count);
    for (uint64_t i = 0; i < set->count; i++)
        set->weight[i].tensor = quern_gguf_tensor_at(gguf, i);
    return QP_OK;
}

void weight_set_free(weight_set *set)
{
    for (uint64_t i = 0; set->weight && i < set->count; i++)
        free(set->weight[i].part);
    free(set->weight);
    *set = (weight_set){0};
}

/* ---- declarations ---- */

QUERN_PRINTF(3, 4) static void set_fail(weight_set *set, quern_status status, const char *format, ...)
{
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    set->status = quern_fail(set->error, status, "%.200s: %s", quern_gguf_path(set->gguf), text);
}

static const char *shape_words(const int64_t ne[4], uint32_t dims, char dst[96])
{
    int used = 0;
    dst[0] = '\0';
    for (uint32_t i = 0; i < dims && i < 4; i++)
        used += snprintf(dst + used, 96 - (size_t)used, "%s%lld", i ? " x " : "", (long long)ne[i]);
    return dst;
}

static int shape_matches(const quern_gguf_tensor *tensor, const int64_t ne[4])
{
    return !memcmp(tensor->ne, ne, sizeof tensor->ne);
}

/* The tensor of that name if it is there and has the shape; what is wrong otherwise stays in the set. */
static const quern_gguf_tensor *find(weight_set *set, int required, const int64_t ne[4], const char *name)
{
    if (set->status != QP_OK)
        return NULL;
    const quern_gguf_tensor *tensor = quern_gguf_tensor_find(set->gguf, name);
    uint32_t dims = ne[3] > 1 ? 4 : ne[2] > 1 ? 3 : ne[1] > 1 ? 2 : 1;
    char expected[96], actual[96];
    if (!tensor) {
        if (required)
            set_fail(set, QP_ERR_FORMAT, "tensor %s is missing (expected %s)", name, shape_words(ne, dims, expected));
        return NULL;
    }
    if (!shape_matches(tensor, ne)) {
        set_fail(set, QP_ERR_FORMAT, "tensor %s has the shape %s, expected %s", name, shape_words(tensor->ne, tensor->dims, actual),
                 shape_words(ne, dims, expected));
        return NULL;
    }
    return tensor;
}

static weight *use(weight_set *set, const quern_gguf_tensor *tensor, uint32_t uses)
{
    if (!tensor)
        return NULL;
    weight *w = &set->weight[tensor - set->gguf->tensors];
    w->uses |= uses;
    return w;
}

weight *declare_matrix(weight_set *set, int required, uint32_t uses, int64_t k, int64_t m, const char *name, ...)
{
    char full[NAME_SIZE];
    va_list args;
    va_start(args, name);
    vsnprintf(full, sizeof full, name, args);
    va_end(args);
    return use(set, find(set, required, (int64_t[4]){k, m, 1, 1}, full), uses);
}

/* Numbers that ops take as they are. */
static weight *plain(weight_set *set, int required, const int64_t ne[4], const char *name)
{
    const quern_gguf_tensor *tensor = find(set, required, ne, name);
    if (tensor && tensor->format != QP_FORMAT_F32) {
        const quern_format_info *format = quern_format_get(tensor->format);
        set_fail(set, QP_ERR_UNSUPPORTED, "tensor %s is %s, and vectors must be F32", name, format ? format->name : "unknown");
        return NULL;
    }
    return use(set, tensor, QP_WEIGHT_PLAIN);
}

weight *declare_vector(weight_set *set, int required, int64_t n, const char *name, ...)
{
    char full[NAME_SIZE];
    va_list args;
    va_start(args, name);
    vsnprintf(full, sizeof full, name, args);
    va_end(args);
    return plain(set, required, (int64_t[4]){n, 1, 1, 1}, full);
}

/* A tensor of one number, which becomes a parameter of an op and never goes to the device. */
static float scalar(weight_set *set, float missing, const char *name)
{
    const quern_gguf_tensor *tensor = find(set, TENSOR_OPTIONAL, (int64_t[4]){1, 1, 1, 1}, name);
    if (!tensor)
        return missing;
    float value = 0;
    set->weight[tensor - set->gguf->tensors].read = 1;
    if (tensor->format != QP_FORMAT_F32)
        set_fail(set, QP_ERR_UNSUPPORTED, "tensor %s must be F32", name);
    else
        set->status = quern_gguf_read(set->gguf, tensor, 0, &value, sizeof value, set->error);
    if (set->status == QP_OK && !isfinite(value))
        set_fail(set, QP_ERR_FORMAT, "tensor %s holds %g, which is not a finite number", name, (double)value);
    return value;
}

linear declare_linear(weight_set *set, int required, int kind, int64_t k, int64_t m, const char *name, ...)
{
    char base[NAME_SIZE - 16], full[NAME_SIZE];
    va_list args;
    va_start(args, name);
    vsnprintf(base, sizeof base, name, args);
    va_end(args);
    linear l = {.scale = 1, .bias_scale = 1};
    l.w = declare_matrix(set, required, QP_WEIGHT_MATMUL, k, m, "%s.weight", base);
    if (!l.w)
        return l;
    l.bias = declare_vector(set, TENSOR_OPTIONAL, m, "%s.bias", base);
    snprintf(full, sizeof full, "%s.scale", base);
    if (kind != LINEAR_UNSCALED)
        l.scale = scalar(set, 1, full);
    else
        declare_unused(set, full);
    if (kind == LINEAR_SCALED_BIAS)
        l.bias_scale = l.scale;
    return l;
}

norm_weights declare_norm(weight_set *set, int required, int64_t n, const char *name, ...)
{
    char base[NAME_SIZE - 16];
    va_list args;
    va_start(args, name);
    vsnprintf(base, sizeof base, name, args);
    va_end(args);
    norm_weights norm = {.w = declare_vector(set, required, n, "%s.weight", base)};
    if (norm.w)
        norm.bias = declare_vector(set, TENSOR_OPTIONAL, n, "%s.bias", base);
    return norm;
}

void declare_ends(weight_set *set, const hparams *hp, model_weights *weights)
{
    weights->embedding = declare_matrix(set, TENSOR_REQUIRED, QP_WEIGHT_ROWS, hp->embedding, hp->vocabulary, "token_embd.weight");
    weights->norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "output_norm");
    weights->output = declare_linear(set, TENSOR_OPTIONAL, LINEAR_PLAIN, hp->embedding, hp->vocabulary, "output");
    if (!weights->output.w && set->status == QP_OK) {
        weights->output = (linear){.w = weights->embedding, .scale = 1, .bias_scale = 1};
        weights->embedding->uses |= QP_WEIGHT_MATMUL;
    }
}

/* q_rows: of the matrix for Q, in which a gate may lie beside each head. */
static void declare_apart(weight_set *set, const hparams *hp, uint32_t layer, int kind, int64_t q_rows, attention_weights *weights)
{
    const layer_hparams *l = &hp->layer[layer];
    int64_t e = hp->embedding;
    weights->q = declare_linear(set, TENSOR_REQUIRED, kind, e, q_rows, "blk.%u.attn_q", layer);
    weights->k = declare_linear(set, TENSOR_REQUIRED, kind, e, (int64_t)l->kv_heads * l->head_k, "blk.%u.attn_k", layer);
    weights->v = declare_linear(set, TENSOR_REQUIRED, kind, e, (int64_t)l->kv_heads * l->head_v, "blk.%u.attn_v", layer);
}

static void declare_attention_output(weight_set *set, const hparams *hp, uint32_t layer, int kind, attention_weights *weights)
{
    const layer_hparams *l = &hp->layer[layer];
    weights->output =
        declare_linear(set, TENSOR_REQUIRED, kind, (int64_t)l->heads * l->head_v, hp->embedding, "blk.%u.attn_output", layer);
}

void declare_attention(weight_set *set, const hparams *hp, uint32_t layer, attention_weights *weights)
{
    const layer_hparams *l = &hp->layer[layer];
    int64_t q = (int64_t)l->heads * l->head_k, kv = (int64_t)l->kv_heads * ((int64_t)l->head_k + l->head_v);
    weights->norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "blk.%u.attn_norm", layer);
    weights->qkv = declare_linear(set, TENSOR_OPTIONAL, LINEAR_PLAIN, hp->embedding, q + kv, "blk.%u.attn_qkv", layer);
    if (!weights->qkv.w)
        declare_apart(set, hp, layer, LINEAR_PLAIN, q, weights);
    declare_attention_output(set, hp, layer, LINEAR_PLAIN, weights);
}

void declare_gated_attention(weight_set *set, const hparams *hp, uint32_t layer, attention_weights *weights)
{
    const layer_hparams *l = &hp->layer[layer];
    weights->norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "blk.%u.attn_norm", layer);
    declare_apart(set, hp, layer, LINEAR_SCALED_BIAS, 2 * (int64_t)l->heads * l->head_k, weights);
    declare_attention_output(set, hp, layer, LINEAR_SCALED_BIAS, weights);
}

void declare_qk_norms(weight_set *set, const hparams *hp, uint32_t layer, attention_weights *weights)
{
    int64_t n = hp->layer[layer].head_k;
    weights->q_norm = declare_norm(set, TENSOR_REQUIRED, n, "blk.%u.attn_q_norm", layer);
    weights->k_norm = declare_norm(set, TENSOR_REQUIRED, n, "blk.%u.attn_k_norm", layer);
}

void declare_delta(weight_set *set, const hparams *hp, uint32_t layer, delta_weights *weights)
{
    const delta_hparams *d = &hp->layer[layer].delta;
    int64_t e = hp->embedding, heads = d->value_heads, values = heads * d->value_size, channels = delta_channels(d);
    char conv[NAME_SIZE];
    snprintf(conv, sizeof conv, "blk.%u.ssm_conv1d.weight", layer);
    weights->norm = declare_norm(set, TENSOR_REQUIRED, e, "blk.%u.attn_norm", layer);
    weights->qkv = declare_linear(set, TENSOR_REQUIRED, LINEAR_PLAIN, e, channels, "blk.%u.attn_qkv", layer);
    weights->gate = declare_linear(set, TENSOR_REQUIRED, LINEAR_PLAIN, e, values, "blk.%u.attn_gate", layer);
    weights->conv = plain(set, TENSOR_REQUIRED, (int64_t[4]){d->conv_width, channels, 1, 1}, conv);
    weights->conv_bias = declare_vector(set, TENSOR_OPTIONAL, channels, "blk.%u.ssm_conv1d.bias", layer);
    weights->alpha = declare_linear(set, TENSOR_REQUIRED, LINEAR_PLAIN, e, heads, "blk.%u.ssm_alpha", layer);
    if (weights->alpha.bias && set->status == QP_OK)
        set_fail(set, QP_ERR_UNSUPPORTED, "tensor blk.%u.ssm_alpha.bias is not supported: blk.%u.ssm_dt.bias has its place", layer,
                 layer);
    weights->alpha.bias = declare_vector(set, TENSOR_REQUIRED, heads, "blk.%u.ssm_dt.bias", layer);
    weights->a = declare_vector(set, TENSOR_REQUIRED, heads, "blk.%u.ssm_a", layer);
    weights->beta = declare_linear(set, TENSOR_REQUIRED, LINEAR_PLAIN, e, heads, "blk.%u.ssm_beta", layer);
    weights->head_norm = declare_norm(set, TENSOR_REQUIRED, d->value_size, "blk.%u.ssm_norm", layer);
    weights->output = declare_linear(set, TENSOR_REQUIRED, LINEAR_PLAIN, values, e, "blk.%u.ssm_out", layer);
}

void declare_post_norms(weight_set *set, const hparams *hp, uint32_t layer, layer_weights *weights)
{
    weights->attention.post_norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "blk.%u.post_attention_norm", layer);
    weights->mlp.post_norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "blk.%u.post_ffw_norm", layer);
}

void declare_mlp(weight_set *set, const hparams *hp, uint32_t layer, int kind, mlp_weights *weights)
{
    weights->norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "blk.%u.ffn_norm", layer);
    declare_mlp_matrices(set, hp, layer, kind, weights);
}

void declare_mlp_matrices(weight_set *set, const hparams *hp, uint32_t layer, int kind, mlp_weights *weights)
{
    int64_t e = hp->embedding, f = hp->layer[layer].feed_forward;
    if (hp->mlp == MLP_GATED)
        weights->gate = declare_linear(set, TENSOR_REQUIRED, kind, e, f, "blk.%u.ffn_gate", layer);
    weights->up = declare_linear(set, TENSOR_REQUIRED, kind, e, hp->mlp == MLP_FUSED ? 2 * f : f, "blk.%u.ffn_up", layer);
    weights->down = declare_linear(set, TENSOR_REQUIRED, kind, f, e, "blk.%u.ffn_down", layer);
}

/* {k, m, experts} with the optional bias {m, experts} and scales {experts}. */
static expert_linear declare_stack(weight_set *set, const hparams *hp, uint32_t layer, int kind, int64_t k, int64_t m,
                                   const char *part)
{
    char name[NAME_SIZE];
    int64_t n = hp->experts.count;
    snprintf(name, sizeof name, "blk.%u.%s.weight", layer, part);
    expert_linear l = {.w = use(set, find(set, TENSOR_REQUIRED, (int64_t[4]){k, m, n, 1}, name), QP_WEIGHT_MATMUL)};
    snprintf(name, sizeof name, "blk.%u.%s.bias", layer, part);
    l.bias = plain(set, TENSOR_OPTIONAL, (int64_t[4]){m, n, 1, 1}, name);
    snprintf(name, sizeof name, "blk.%u.%s.scale", layer, part);
    if (kind != LINEAR_UNSCALED)
        l.scales = plain(set, TENSOR_OPTIONAL, (int64_t[4]){n, 1, 1, 1}, name);
    else
        declare_unused(set, name);
    if (set->status == QP_OK && kind == LINEAR_SCALED_BIAS && l.scales && l.bias)
        set_fail(set, QP_ERR_UNSUPPORTED, "blk.%u.%s has scales and biases, which experts cannot have both", layer, part);
    return l;
}

static void declare_shared(weight_set *set, const hparams *hp, uint32_t layer, int kind, expert_weights *weights)
{
    int64_t e = hp->embedding, f = hp->experts.shared;
    weights->shared.gate = declare_linear(set, TENSOR_REQUIRED, kind, e, f, "blk.%u.ffn_gate_shexp", layer);
    weights->shared.up = declare_linear(set, TENSOR_REQUIRED, kind, e, f, "blk.%u.ffn_up_shexp", layer);
    weights->shared.down = declare_linear(set, TENSOR_REQUIRED, kind, f, e, "blk.%u.ffn_down_shexp", layer);
    weights->shared_gate = declare_linear(set, TENSOR_OPTIONAL, LINEAR_UNSCALED, e, 1, "blk.%u.ffn_gate_inp_shexp", layer);
    const linear *down = &weights->shared.down;
    if (down->w && weights->shared_gate.w)
        down->w->whole = 1; /* it is multiplied as the matrix of one expert */
    if (set->status == QP_OK && weights->shared_gate.w && down->bias && down->scale != down->bias_scale)
        set_fail(set, QP_ERR_UNSUPPORTED, "blk.%u.ffn_down_shexp has a scale and a bias, which a gated shared expert cannot have",
                 layer);
}

void declare_experts(weight_set *set, const hparams *hp, uint32_t layer, int kind, expert_weights *weights)
{
    int64_t e = hp->embedding, f = hp->experts.feed_forward, n = hp->experts.count;
    char first[NAME_SIZE];
    snprintf(first, sizeof first, "blk.%u.ffn_gate.0.weight", layer);
    if (set->status == QP_OK && quern_gguf_tensor_find(set->gguf, first))
        set_fail(set, QP_ERR_UNSUPPORTED,
                 "tensor %s: each expert has tensors of its own, as in files of early 2024 and before: convert the "
                 "model again",
                 first);
    weights->router = declare_linear(set, TENSOR_REQUIRED, LINEAR_UNSCALED, e, n, "blk.%u.ffn_gate_inp", layer);
    weights->router_bias = declare_vector(set, TENSOR_OPTIONAL, n, "blk.%u.exp_probs_b.bias", layer);
    weights->gate = declare_stack(set, hp, layer, kind, e, f, "ffn_gate_exps");
    weights->up = declare_stack(set, hp, layer, kind, e, f, "ffn_up_exps");
    weights->down = declare_stack(set, hp, layer, kind, f, e, "ffn_down_exps");
    if (hp->experts.shared)
        declare_shared(set, hp, layer, kind, weights);
}

void declare_feed_forward(weight_set *set, const hparams *hp, uint32_t layer, int kind, layer_weights *weights)
{
    if (!hp->layer[layer].experts) {
        declare_mlp(set, hp, layer, kind, &weights->mlp);
        return;
    }
    weights->mlp.norm = declare_norm(set, TENSOR_REQUIRED, hp->embedding, "blk.%u.ffn_norm", layer);
    declare_experts(set, hp, layer, kind, &weights->experts);
}

/* ---- what nobody declared ---- */

void declare_unused(weight_set *set, const char *prefix)
{
    for (uint64_t i = 0; i < set->count && set->status == QP_OK; i++)
        if (!strncmp(set->weight[i].tensor->name.data, prefix, strlen(prefix)))
            set->weight[i].read = 1;
}

/* Scales of activations in formats that are not those of the weights here, and heads for classification. */
static int changes_nothing(const char *name)
{
    static const char ending[] = ".input_scale";
    size_t size = strlen(name), tail = sizeof ending - 1;
    return !strncmp(name, "cls.", 4) || (size > tail && !strcmp(name + size - tail, ending));
}

void weight_set_refuse_unused(weight_set *set, const hparams *hp)
{
    for (uint32_t i = 0; i < hp->prediction_layers; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "blk.%u.", hp->layers + i);
        declare_unused(set, prefix);
    }
    for (uint64_t i = 0; i < set->count && set->status == QP_OK; i++) {
        const weight *w = &set->weight[i];
        const char *name = w->tensor->name.data;
        if (!w->uses && !w->read && !changes_nothing(name))
            set_fail(set, QP_ERR_UNSUPPORTED,
                     "tensor %s is not known in architecture \"%s\": the model has a part that is not supported", name,
                     hp->architecture);
    }
}

/* ---- the plan ---- */

static qp_tensor contiguous(qp_format format, uint32_t layout, int64_t ne0, int64_t ne1, int64_t ne2)
{
    const quern_format_info *info = quern_format_get(format);
    qp_tensor t = {.format = format, .layout = layout, .ne = {ne0, ne1, ne2, 1}};
    t.nb[0] = info->block_bytes;
    t.nb[1] = ne0 / info->block_elements * t.nb[0];
    t.nb[2] = t.nb[1] * ne1;
    t.nb[3] = t.nb[2] * ne2;
    return t;
}

/* One token that goes to one expert. */
static quern_status check_experts(const weight_part *p, quern_device *device, quern_error *error)
{
    const int64_t *ne = p->desc.ne;
    qp_op op = {.struct_size = sizeof op, .version = 1, .kind = QP_OP_EXPERT_MATMUL};
    op.src[QP_EXPERT_MATMUL_W] = contiguous(p->desc.format, p->info.layout, ne[0], ne[1], ne[2]);
    op.src[QP_EXPERT_MATMUL_X] = contiguous(QP_FORMAT_F32, QP_LAYOUT_GGUF, ne[0], 1, 1);
    op.src[QP_EXPERT_MATMUL_ROUTE] = contiguous(QP_FORMAT_F32, QP_LAYOUT_GGUF, 1, 2, 1);
    op.dst = contiguous(QP_FORMAT_F32, QP_LAYOUT_GGUF, ne[1], 1, 1);
    return quern_op_query(device, &op, NULL, error);
}

/* Would the device compute with the weight at all? Asked with one row, so that a refusal names the tensor and not an op. */
static quern_status check_use(const weight_part *p, uint32_t use, quern_device *device, quern_error *error)
{
    const int64_t *ne = p->desc.ne;
    qp_op op = {.struct_size = sizeof op, .version = 1, .kind = use == QP_WEIGHT_ROWS ? QP_OP_GET_ROWS : QP_OP_MATMUL};
    op.src[0] = contiguous(p->desc.format, p->info.layout, ne[0], ne[1], 1);
    if (use == QP_WEIGHT_ROWS) {
        op.src[QP_GET_ROWS_IDS] = contiguous(QP_FORMAT_I32, QP_LAYOUT_GGUF, 1, 1, 1);
        op.dst = contiguous(QP_FORMAT_F32, QP_LAYOUT_GGUF, ne[0], 1, 1);
        op.p.get_rows.scale = 1;
    } else {
        op.src[QP_MATMUL_X] = contiguous(QP_FORMAT_F32, QP_LAYOUT_GGUF, ne[0], 1, 1);
        op.dst = contiguous(QP_FORMAT_F32, QP_LAYOUT_GGUF, ne[1], 1, 1);
        op.p.matmul.scale = 1;
    }
    return quern_op_query(device, &op, NULL, error);
}

static quern_status check_uses(const weight *w, const weight_part *p, quern_device *device, quern_error *error)
{
    quern_status status = QP_OK;
    if (w->uses & QP_WEIGHT_MATMUL && w->tensor->dims > 2)
        status = check_experts(p, device, error);
    else if (w->uses & QP_WEIGHT_MATMUL)
        status = check_use(p, QP_WEIGHT_MATMUL, device, error);
    if (status == QP_OK && w->uses & QP_WEIGHT_ROWS)
        status = check_use(p, QP_WEIGHT_ROWS, device, error);
    return status;
}

/* How rows [first, first + rows) of a matrix, or of each of a stack, would lie. */
static quern_status lay_out(const weight *w, int64_t first, int64_t rows, quern_device *device, weight_part *out,
                            quern_error *error)
{
    *out = (weight_part){.first = first, .info = {.struct_size = sizeof out->info}};
    out->desc = (qp_weight_desc){.struct_size = sizeof out->desc, .format = w->tensor->format, .uses = w->uses};
    memcpy(out->desc.ne, w->tensor->ne, sizeof out->desc.ne);
    if (rows)
        out->desc.ne[1] = rows;
    return quern_weight_layout(device, &out->desc, &out->info, error);
}

/* The rows of each part of a matrix, or of all those of a stack, that is larger than an allocation: whole steps of what the device
 * packs, and of what kernels take at a time; 0 where not even one step fits. */
static quern_status rows_of_part(const weight *w, const weight_part *whole, uint64_t most, quern_device *device, int64_t *rows,
                                 quern_error *error)
{
    enum { STEP = 64 };
    int64_t m = w->tensor->ne[1], step = whole->info.row_step > 1 ? whole->info.row_step : 1;
    step *= (STEP + step - 1) / step;
    quern_status status = QP_OK;
    weight_part part;
    for (int64_t parts = (int64_t)(whole->info.bytes / most) + 1; parts <= WEIGHT_MOST_PARTS; parts++) {
        *rows = ((m + parts - 1) / parts + step - 1) / step * step;
        status = lay_out(w, 0, *rows < m ? *rows : m, device, &part, error);
        if (status != QP_OK || part.info.bytes <= most)
            return status;
    }
    *rows = 0;
    return QP_OK;
}

/* The parts, without places. */
static quern_status cut(weight *w, uint64_t most, quern_device *device, quern_error *error)
{
    int64_t m = w->tensor->ne[1], rows = 0;
    w->part = calloc(1, sizeof *w->part);
    if (!w->part)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for its place");
    w->parts = 1;
    quern_status status = lay_out(w, 0, 0, device, w->part, error);
    if (status != QP_OK || w->part->info.bytes <= most || w->whole || w->uses & QP_WEIGHT_PLAIN)
        return status;
    if (w->tensor->dims > 2 && w->part->info.row_step > 1 && m % w->part->info.row_step)
        return status; /* steps of rows that are packed together would reach from one matrix of the stack to the next */
    status = rows_of_part(w, w->part, most, device, &rows, error);
    if (status != QP_OK || !rows)
        return status;
    weight_part *parts = realloc(w->part, (size_t)((m + rows - 1) / rows) * sizeof *parts);
    if (!parts)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for its places");
    w->part = parts;
    w->parts = (uint32_t)((m + rows - 1) / rows);
    for (uint32_t i = 0; i < w->parts && status == QP_OK; i++) {
        int64_t first = i * rows;
        status = lay_out(w, first, m - first < rows ? m - first : rows, device, &parts[i], error);
    }
    return status;
}

static quern_status plan_one(weight *w, const char *path, quern_device *device, int refusals, placement *p, quern_error *error)
{
    const char *name = w->tensor->name.data;
    quern_status status = cut(w, p->max_block, device, error);
    for (uint32_t i = 0; i < w->parts && status == QP_OK; i++) {
        weight_part *part = &w->part[i];
        const int64_t *ne = part->desc.ne;
        if (!refusals)
            status = check_uses(w, part, device, error);
        part->place = contiguous(part->desc.format, part->info.layout, ne[0], ne[1], ne[2]);
        if (status == QP_OK)
            status = placement_add(p, part->info.bytes, part->info.alignment, "it", &part->at, error);
    }
    return status == QP_OK ? QP_OK : quern_fail_prefix(error, status, "%.200s: tensor %s: ", path, name);
}

quern_status weights_plan(weight_set *set, quern_device *device, int refusals, placement *p, quern_error *error)
{
    for (uint64_t i = 0; i < set->count; i++) {
        weight *w = &set->weight[i];
        quern_status status = w->uses ? plan_one(w, quern_gguf_path(set->gguf), device, refusals, p, error) : QP_OK;
        if (status != QP_OK)
            return status;
    }
    return QP_OK;
}

void weights_bind(weight_set *set, const placement *p)
{
    for (uint64_t i = 0; i < set->count; i++) {
        weight *w = &set->weight[i];
        for (uint32_t j = 0; j < w->parts; j++)
            placement_bind(p, w->part[j].at, w->part[j].info.bytes, &w->part[j].place);
    }
}
