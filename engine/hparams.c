/* SPDX-License-Identifier: MIT */
#include "engine/hparams.h"

#include "engine/arch/arch.h"
#include "engine/metadata_features.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *metadata_key(const metadata *md, const char *suffix, char key[METADATA_KEY_SIZE])
{
    snprintf(key, METADATA_KEY_SIZE, "%s.%s", md->architecture, suffix);
    return key;
}

void metadata_fail(metadata *md, quern_status status, const char *format, ...)
{
    if (md->status != QP_OK)
        return;
    char text[300];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    md->status = quern_fail(md->error, status, "%.200s: %s", quern_gguf_path(md->gguf), text);
}

int metadata_has(const metadata *md, const char *suffix)
{
    char key[METADATA_KEY_SIZE];
    return quern_gguf_find(md->gguf, metadata_key(md, suffix, key)) != NULL;
}

/* Is there something to read? Notes a required key that is missing. */
static int wanted(metadata *md, const char *suffix, int required)
{
    features_note(md, suffix);
    if (md->status != QP_OK)
        return 0;
    if (metadata_has(md, suffix))
        return 1;
    if (required)
        metadata_fail(md, QP_ERR_FORMAT, "the metadata has no %s.%s, which this architecture needs", md->architecture, suffix);
    return 0;
}

static uint32_t count_at(metadata *md, const char *suffix, uint64_t index, int zero, uint32_t missing)
{
    char key[METADATA_KEY_SIZE];
    uint64_t value = 0;
    md->status = quern_gguf_get_u64(md->gguf, metadata_key(md, suffix, key), index, &value, md->error);
    if (md->status != QP_OK)
        return missing;
    if ((value == 0 && !zero) || value > INT32_MAX) {
        metadata_fail(md, QP_ERR_FORMAT, "%s is %llu, which is outside %d..%d", key, (unsigned long long)value, zero ? 0 : 1,
                      INT32_MAX);
        return missing;
    }
    return (uint32_t)value;
}

/* wanted() where one number is to hold for the whole model: an array may say nothing else, layer by layer. */
static int wanted_alike(metadata *md, const char *suffix, int required)
{
    char key[METADATA_KEY_SIZE];
    const quern_gguf_kv *kv = wanted(md, suffix, required) ? quern_gguf_find(md->gguf, metadata_key(md, suffix, key)) : NULL;
    double first = 0, other = 0;
    if (kv && kv->count > quern_gguf_tensor_count(md->gguf)) /* each layer has a tensor; longer ones only cost time */
        metadata_fail(md, QP_ERR_FORMAT, "%s has %llu entries, but the file holds only %llu tensors", key,
                      (unsigned long long)kv->count, (unsigned long long)quern_gguf_tensor_count(md->gguf));
    for (uint64_t i = 0; kv && i < kv->count && md->status == QP_OK; i++) {
        md->status = quern_gguf_get_f64(md->gguf, key, i, &other, md->error);
        first = i ? first : other;
        if (md->status == QP_OK && i && first != other)
            metadata_fail(md, QP_ERR_UNSUPPORTED, "%s is %g in layer 0 and %g in layer %llu: this difference is not supported", key,
                          first, other, (unsigned long long)i);
    }
    return kv && md->status == QP_OK;
}

uint32_t metadata_count(metadata *md, const char *suffix, int required, int zero, uint32_t missing)
{
    return wanted_alike(md, suffix, required) ? count_at(md, suffix, 0, zero, missing) : missing;
}

float metadata_float(metadata *md, const char *suffix, int required, float missing)
{
    if (!wanted_alike(md, suffix, required))
        return missing;
    char key[METADATA_KEY_SIZE];
    double value = 0;
    md->status = quern_gguf_get_f64(md->gguf, metadata_key(md, suffix, key), 0, &value, md->error);
    if (md->status != QP_OK)
        return missing;
    if (!isfinite(value) || fabs(value) > 3e38) {
        metadata_fail(md, QP_ERR_FORMAT, "%s is %g, which is not a usable number", key, value);
        return missing;
    }
    return (float)value;
}

void metadata_string(metadata *md, const char *key, char *dst, size_t size)
{
    quern_string value;
    dst[0] = '\0';
    if (md->status != QP_OK || !quern_gguf_find(md->gguf, key))
        return;
    md->status = quern_gguf_get_string(md->gguf, key, 0, &value, md->error);
    if (md->status == QP_OK)
        snprintf(dst, size, "%.*s", (int)(value.size < size ? value.size : size - 1), value.data);
}

uint32_t metadata_layer_count(metadata *md, const char *suffix, uint32_t layer, uint32_t layers, int required, uint32_t missing)
{
    if (!wanted(md, suffix, required))
        return missing;
    char key[METADATA_KEY_SIZE];
    const quern_gguf_kv *kv = quern_gguf_find(md->gguf, metadata_key(md, suffix, key));
    if (kv->type != QUERN_GGUF_ARRAY)
        return count_at(md, suffix, 0, 0, missing);
    if (kv->count < layers) {
        metadata_fail(md, QP_ERR_FORMAT, "%s has %llu entries for %u layers", key, (unsigned long long)kv->count, layers);
        return missing;
    }
    return count_at(md, suffix, layer, 0, missing);
}

/* ---- shape ---- */

enum { MOST_HEAD_SIZE = 1 << 16 };

static void read_layer_count(metadata *md, hparams *hp)
{
    hp->layers = metadata_count(md, "block_count", KEY_REQUIRED, 0, 0);
    /* Each layer has tensors of its own: this bounds what the file can make us allocate. */
    if (md->status == QP_OK && hp->layers > quern_gguf_tensor_count(md->gguf))
        metadata_fail(md, QP_ERR_FORMAT, "%s.block_count is %u, but the file holds only %llu tensors", md->architecture, hp->layers,
                      (unsigned long long)quern_gguf_tensor_count(md->gguf));
    hp->layer = md->status == QP_OK ? calloc(hp->layers, sizeof *hp->layer) : NULL;
    if (!hp->layer) {
        metadata_fail(md, QP_ERR_OUT_OF_MEMORY, "no host memory for %u layers", hp->layers); /* unless it failed before */
        hp->layers = 0; /* so that a loop over layers is safe after a failure */
    }
}

/* The head size where no key tells it: the embedding split over the heads. */
static uint32_t default_head_size(metadata *md, const hparams *hp, const layer_hparams *layer, const char *suffix)
{
    if (md->status == QP_OK && !metadata_has(md, suffix) && hp->embedding % layer->heads)
        metadata_fail(md, QP_ERR_FORMAT,
                      "%s.embedding_length %u is not a multiple of %s.attention.head_count %u, and %s.%s is missing",
                      md->architecture, hp->embedding, md->architecture, layer->heads, md->architecture, suffix);
    return md->status == QP_OK ? hp->embedding / layer->heads : 0;
}

static void read_layer(metadata *md, hparams *hp, uint32_t index)
{
    layer_hparams *layer = &hp->layer[index];
    layer->heads = metadata_layer_count(md, "attention.head_count", index, hp->layers, KEY_REQUIRED, 1);
    layer->kv_heads = metadata_layer_count(md, "attention.head_count_kv", index, hp->layers, KEY_OPTIONAL, layer->heads);
    layer->feed_forward =
        metadata_layer_count(md, "feed_forward_length", index, hp->layers, hp->mixture ? KEY_OPTIONAL : KEY_REQUIRED, 0);
    layer->head_k =
        metadata_count(md, "attention.key_length", KEY_OPTIONAL, 0, default_head_size(md, hp, layer, "attention.key_length"));
    layer->head_v =
        metadata_count(md, "attention.value_length", KEY_OPTIONAL, 0, default_head_size(md, hp, layer, "attention.value_length"));
    if (md->status != QP_OK)
        return;
    if (layer->head_k > MOST_HEAD_SIZE || layer->head_v > MOST_HEAD_SIZE) /* sums of head counts times sizes stay in 63 bits */
        metadata_fail(md, QP_ERR_FORMAT, "layer %u: heads of %u and %u numbers; at most %d are supported", index, layer->head_k,
                      layer->head_v, MOST_HEAD_SIZE);
    if (layer->kv_heads > layer->heads || layer->heads % layer->kv_heads)
        metadata_fail(md, QP_ERR_FORMAT, "layer %u: %s.attention.head_count %u is not a multiple of head_count_kv %u", index,
                      md->architecture, layer->heads, layer->kv_heads);
}

void hparams_read_shape(metadata *md, hparams *hp)
{
    hp->context = metadata_count(md, "context_length", KEY_REQUIRED, 0, 0);
    hp->embedding = metadata_count(md, "embedding_length", KEY_REQUIRED, 0, 0);
    read_layer_count(md, hp);
    for (uint32_t i = 0; i < hp->layers && md->status == QP_OK; i++)
        read_layer(md, hp, i);
}

void hparams_read_norm(metadata *md, hparams *hp, uint32_t kind)
{
    const char *suffix = kind == QP_NORM_LAYER ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    hp->norm.kind = kind;
    hp->norm.eps = metadata_float(md, suffix, KEY_REQUIRED, 0);
    if (md->status == QP_OK && !(hp->norm.eps >= 0))
        metadata_fail(md, QP_ERR_FORMAT, "%s.%s is %g, which is below 0", md->architecture, suffix, (double)hp->norm.eps);
}

/* Is layer `index` one with a window, by the metadata's own list or period, else by `period` (0: every layer is)? */
static int layer_is_local(metadata *md, const hparams *hp, uint32_t index, uint32_t period)
{
    char key[METADATA_KEY_SIZE];
    const char *suffix = "attention.sliding_window_pattern";
    if (!wanted(md, suffix, KEY_OPTIONAL))
        return !period || index % period != period - 1;
    const quern_gguf_kv *kv = quern_gguf_find(md->gguf, metadata_key(md, suffix, key));
    if (kv->type != QUERN_GGUF_ARRAY) {
        period = metadata_count(md, suffix, KEY_REQUIRED, 0, period);
        return index % period != period - 1;
    }
    uint64_t local = 0;
    if (kv->count < hp->layers)
        metadata_fail(md, QP_ERR_FORMAT, "%s has %llu entries for %u layers", key, (unsigned long long)kv->count, hp->layers);
    else
        md->status = quern_gguf_get_u64(md->gguf, key, index, &local, md->error);
    return local != 0;
}

static void set_windows(metadata *md, hparams *hp, uint32_t window, uint32_t period)
{
    for (uint32_t i = 0; window && i < hp->layers && md->status == QP_OK; i++)
        hp->layer[i].window = layer_is_local(md, hp, i, period) ? window : 0;
}

void hparams_read_window(metadata *md, hparams *hp)
{
    set_windows(md, hp, metadata_count(md, "attention.sliding_window", KEY_OPTIONAL, 1, 0), 0);
}

void hparams_read_window_pattern(metadata *md, hparams *hp, uint32_t period, uint32_t missing)
{
    set_windows(md, hp, metadata_count(md, "attention.sliding_window", missing ? KEY_OPTIONAL : KEY_REQUIRED, 0, missing), period);
}

/* Is layer `index` one of the gated delta rule? */
static int layer_is_recurrent(metadata *md, const hparams *hp, uint32_t index, uint32_t interval)
{
    char key[METADATA_KEY_SIZE];
    const char *suffix = "attention.recurrent_layers";
    if (!wanted(md, suffix, KEY_OPTIONAL))
        return index % interval != interval - 1;
    const quern_gguf_kv *kv = quern_gguf_find(md->gguf, metadata_key(md, suffix, key));
    uint64_t recurrent = 0;
    if (kv->type != QUERN_GGUF_ARRAY || kv->count < hp->layers)
        metadata_fail(md, QP_ERR_FORMAT, "%s has %llu entries for %u layers", key,
                      (unsigned long long)(kv->type == QUERN_GGUF_ARRAY ? kv->count : 1), hp->layers);
    else
        md->status = quern_gguf_get_u64(md->gguf, key, index, &recurrent, md->error);
    return recurrent != 0;
}

static delta_hparams read_delta_sizes(metadata *md)
{
    enum { MOST_WIDTH = 16 };
    delta_hparams d = {.conv_width = metadata_count(md, "ssm.conv_kernel", KEY_REQUIRED, 0, 0),
                       .key_size = metadata_count(md, "ssm.state_size", KEY_REQUIRED, 0, 0),
                       .key_heads = metadata_count(md, "ssm.group_count", KEY_REQUIRED, 0, 0),
                       .value_heads = metadata_count(md, "ssm.time_step_rank", KEY_REQUIRED, 0, 0)};
    uint32_t inner = metadata_count(md, "ssm.inner_size", KEY_REQUIRED, 0, 0);
    if (md->status != QP_OK)
        return d;
    if (d.conv_width < 2 || d.conv_width > MOST_WIDTH)
        metadata_fail(md, QP_ERR_UNSUPPORTED, "%s.ssm.conv_kernel is %u; 2 to %d are supported", md->architecture, d.conv_width,
                      MOST_WIDTH);
    else if (d.value_heads % d.key_heads)
        metadata_fail(md, QP_ERR_FORMAT,
                      "%s.ssm.time_step_rank %u (value heads) is not a multiple of ssm.group_count %u (key heads)",
                      md->architecture, d.value_heads, d.key_heads);
    else if (inner % d.value_heads)
        metadata_fail(md, QP_ERR_FORMAT, "%s.ssm.inner_size %u cannot be split over ssm.time_step_rank %u heads", md->architecture,
                      inner, d.value_heads);
    d.value_size = inner / d.value_heads;
    return d;
}

void hparams_read_delta(metadata *md, hparams *hp, uint32_t interval)
{
    delta_hparams d = read_delta_sizes(md);
    interval = metadata_count(md, "full_attention_interval", KEY_OPTIONAL, 0, interval);
    for (uint32_t i = 0; i < hp->layers && md->status == QP_OK; i++) {
        if (!layer_is_recurrent(md, hp, i, interval))
            continue;
        hp->layer[i].delta = d;
        hp->layer[i].heads = hp->layer[i].kv_heads = 0;
    }
}

void hparams_gate_attention(metadata *md, hparams *hp)
{
    hp->attention_gate = 1;
    for (uint32_t i = 0; i < hp->layers && md->status == QP_OK; i++)
        if (hp->layer[i].head_k != hp->layer[i].head_v)
            metadata_fail(
                md, QP_ERR_UNSUPPORTED,
                "%s.attention.value_length is %u and key_length %u: a gate of attention is as wide as a query, so the two "
                "must be equal",
                md->architecture, hp->layer[i].head_v, hp->layer[i].head_k);
}

void hparams_drop_prediction_layers(metadata *md, hparams *hp)
{
    char name[64];
    uint32_t more = metadata_count(md, "nextn_predict_layers", KEY_OPTIONAL, 1, 0);
    if (md->status != QP_OK || !more)
        return;
    /* Files differ in whether block_count counts them; their tensors tell. */
    snprintf(name, sizeof name, "blk.%u.nextn.eh_proj.weight", hp->layers - 1);
    if (!quern_gguf_tensor_find(md->gguf, name))
        return;
    if (more >= hp->layers)
        metadata_fail(md, QP_ERR_FORMAT, "%s.nextn_predict_layers is %u of %u layers: none is left to run", md->architecture, more,
                      hp->layers);
    else {
        hp->layers -= more;
        hp->prediction_layers = more;
    }
}

float hparams_read_cap(metadata *md, const char *suffix, float missing)
{
    float value = metadata_float(md, suffix, KEY_OPTIONAL, missing);
    if (md->status == QP_OK && value < 0)
        metadata_fail(md, QP_ERR_FORMAT, "%s.%s is %g, which is below 0", md->architecture, suffix, (double)value);
    return value;
}

/* ---- rope ---- */

static void read_rope_dims(metadata *md, hparams *hp, qp_rope_params *rope)
{
    uint32_t head = UINT32_MAX; /* the smallest of all layers */
    for (uint32_t i = 0; i < hp->layers && md->status == QP_OK; i++)
        head = hp->layer[i].head_k < head ? hp->layer[i].head_k : head;
    rope->n_dims = metadata_count(md, "rope.dimension_count", KEY_OPTIONAL, 0, head);
    if (md->status == QP_OK && (rope->n_dims % 2 || rope->n_dims > head))
        metadata_fail(md, QP_ERR_FORMAT, "%s.rope.dimension_count is %u, which must be even and at most the head size %u",
                      md->architecture, rope->n_dims, head);
}

/* What cos and sin are multiplied by with YaRN: what the file says, or 1 + 0.1·ln s (Peng et al. 2023, section 3.4), divided by
 * 1 + 0.1·m·ln s where the file has m, the logarithm's multiplier that DeepSeek's and Mistral's models scale all features by. The
 * op multiplies by 1 + 0.1·ln s itself, so that the rest is returned. */
static float yarn_magnitude(metadata *md, double s)
{
    double said = (double)metadata_float(md, "rope.scaling.yarn_attn_factor", KEY_OPTIONAL, 1);
    double multiplier = (double)metadata_float(md, "rope.scaling.yarn_log_multiplier", KEY_OPTIONAL, 0);
    double by_op = 1 + 0.1 * log(s), wanted = said != 1 ? said : by_op / (1 + 0.1 * multiplier * log(s));
    if (md->status == QP_OK && !(isfinite(wanted) && wanted > 0))
        metadata_fail(md, QP_ERR_FORMAT,
                      "%s.rope.scaling.yarn_attn_factor %g and yarn_log_multiplier %g make a scale of %g, which is not above 0",
                      md->architecture, said, multiplier, wanted);
    return (float)(wanted / by_op);
}

/* YaRN: the keys name what Peng et al. 2023 call s (factor), beta and alpha; an ext_factor below 0 means "as YaRN does". */
static void read_yarn(metadata *md, qp_rope_params *rope, float ext)
{
    rope->ext_factor = ext < 0 ? 1 : ext;
    rope->beta_fast = metadata_float(md, "rope.scaling.yarn_beta_fast", KEY_OPTIONAL, 32);
    rope->beta_slow = metadata_float(md, "rope.scaling.yarn_beta_slow", KEY_OPTIONAL, 1);
    if (md->status == QP_OK && rope->freq_scale > 1)
        metadata_fail(md, QP_ERR_UNSUPPORTED, "%s.rope.scaling.factor is %g: YaRN that shortens the context is not supported",
                      md->architecture, 1 / (double)rope->freq_scale);
    if (md->status == QP_OK && !(rope->beta_fast > rope->beta_slow && rope->beta_slow > 0))
        metadata_fail(md, QP_ERR_FORMAT, "%s.rope.scaling.yarn_beta_fast %g must be above yarn_beta_slow %g, and both above 0",
                      md->architecture, (double)rope->beta_fast, (double)rope->beta_slow);
    if (md->status == QP_OK && rope->ext_factor != 0)
        rope->attn_factor *= yarn_magnitude(md, 1 / (double)rope->freq_scale);
    else
        rope->attn_factor *= metadata_float(md, "rope.scaling.yarn_attn_factor", KEY_OPTIONAL, 1);
}

static void read_rope_scaling(metadata *md, qp_rope_params *rope, int long_rope)
{
    char key[METADATA_KEY_SIZE], type[32];
    metadata_string(md, metadata_key(md, "rope.scaling.type", key), type, sizeof type);
    float factor = metadata_float(md, "rope.scaling.factor", KEY_OPTIONAL, 0);
    if (factor == 0) /* the older name of the linear factor */
        factor = metadata_float(md, "rope.scale_linear", KEY_OPTIONAL, 0);
    if (md->status == QP_OK && factor < 0)
        metadata_fail(md, QP_ERR_FORMAT, "%s.rope.scaling.factor is %g, which is below 0", md->architecture, (double)factor);
    rope->attn_factor = metadata_float(md, "rope.scaling.attn_factor", KEY_OPTIONAL, 1);
    if (!strcmp(type, "none") || md->status != QP_OK)
        return;
    if (long_rope && !strcmp(type, "longrope")) { /* its factors are tensors */
        if (!quern_gguf_tensor_find(md->gguf, "rope_factors_long.weight"))
            metadata_fail(md, QP_ERR_FORMAT, "%s is \"%s\", but tensor rope_factors_long.weight is missing", key, type);
        return;
    }
    rope->freq_scale = factor > 0 ? 1 / factor : 1;
    float ext = metadata_float(md, "rope.scaling.yarn_ext_factor", KEY_OPTIONAL, -1);
    if (!strcmp(type, "yarn"))
        read_yarn(md, rope, ext);
    else if (md->status == QP_OK && ext > 0)
        metadata_fail(
            md, QP_ERR_UNSUPPORTED,
            "%s.rope.scaling.yarn_ext_factor is %g, but %s is \"%s\": YaRN in rope scaling of another type is not supported",
            md->architecture, (double)ext, key, type);
    else if (type[0] && strcmp(type, "linear"))
        metadata_fail(md, QP_ERR_UNSUPPORTED, "%s is \"%s\": this kind of rope scaling is not supported in architecture \"%s\"",
                      key, type, md->architecture);
}

void hparams_read_rope(metadata *md, hparams *hp, uint32_t mode)
{
    qp_rope_params *rope = &hp->rope[0];
    *rope = (qp_rope_params){.mode = mode, .freq_scale = 1, .attn_factor = 1};
    read_rope_dims(md, hp, rope);
    rope->freq_base = metadata_float(md, "rope.freq_base", KEY_OPTIONAL, 10000);
    if (md->status == QP_OK && !(rope->freq_base > 0))
        metadata_fail(md, QP_ERR_FORMAT, "%s.rope.freq_base is %g, which is not above 0", md->architecture,
                      (double)rope->freq_base);
    rope->original_context = metadata_count(md, "rope.scaling.original_context_length", KEY_OPTIONAL, 0, hp->context);
    read_rope_scaling(md, rope, hp->long_rope);
}

void hparams_read_local_rope(metadata *md, hparams *hp, float base)
{
    hp->rope[1] = hp->rope[0];
    hp->rope[1].freq_scale = hp->rope[1].attn_factor = 1;
    hp->rope[1].ext_factor = 0;
    hp->rope[1].freq_base = metadata_float(md, "rope.freq_base_swa", KEY_OPTIONAL, base);
    if (md->status == QP_OK && !(hp->rope[1].freq_base > 0))
        metadata_fail(md, QP_ERR_FORMAT, "%s.rope.freq_base_swa is %g, which is not above 0", md->architecture,
                      (double)hp->rope[1].freq_base);
    for (uint32_t i = 0; i < hp->layers && md->status == QP_OK; i++)
        hp->layer[i].rope = hp->layer[i].window ? 1 : 0;
}

/* Layers with a window could differ from the others in more than their rope's base; here they do not. */
static void check_local_keys(metadata *md, const hparams *hp)
{
    const layer_hparams *local = NULL;
    for (uint32_t i = 0; i < hp->layers && md->status == QP_OK && !local; i++)
        local = hp->layer[i].window ? &hp->layer[i] : NULL;
    if (!local)
        return;
    const qp_rope_params *rope = &hp->rope[local->rope == 1];
    const struct {
        const char *suffix;
        double expected;
    } keys[] = {
        {"attention.key_length_swa", local->head_k},
        {"attention.value_length_swa", local->head_v},
        {"rope.dimension_count_swa", rope->n_dims},
        {"rope.freq_base_swa", (double)rope->freq_base},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double value = (double)metadata_float(md, keys[i].suffix, KEY_OPTIONAL, (float)keys[i].expected);
        if (md->status == QP_OK && value != keys[i].expected && local->rope != HPARAMS_NO_ROPE)
            metadata_fail(md, QP_ERR_UNSUPPORTED,
                          "%s.%s is %g, and %g in layers without a window: this difference is not supported in architecture \"%s\"",
                          md->architecture, keys[i].suffix, value, keys[i].expected, md->architecture);
    }
}

void hparams_read_dense(metadata *md, hparams *hp, uint32_t norm, uint32_t rope)
{
    hparams_read_shape(md, hp);
    hparams_read_norm(md, hp, norm);
    hparams_read_rope(md, hp, rope);
    hp->attention_scale = metadata_float(md, "attention.scale", KEY_OPTIONAL, 0);
}

/* ---- all of it ---- */

quern_status hparams_architecture(const quern_gguf *gguf, char *dst, size_t size, quern_error *error)
{
    metadata md = {.gguf = gguf, .architecture = "", .error = error};
    metadata_string(&md, "general.architecture", dst, size);
    if (md.status == QP_OK && !dst[0])
        metadata_fail(&md, QP_ERR_FORMAT, "the metadata has no general.architecture: this is not a language model");
    return md.status;
}

/* The vocabulary is what the embedding table has rows for. */
static void read_vocabulary(metadata *md, hparams *hp)
{
    const quern_gguf_tensor *table = quern_gguf_tensor_find(md->gguf, "token_embd.weight");
    if (md->status != QP_OK)
        return;
    if (!table)
        metadata_fail(md, QP_ERR_FORMAT, "tensor token_embd.weight is missing");
    else if (table->dims != 2 || table->ne[0] != (int64_t)hp->embedding || table->ne[1] < 1 || table->ne[1] > INT32_MAX)
        metadata_fail(md, QP_ERR_FORMAT, "tensor token_embd.weight has the shape %lld x %lld, expected %u x the vocabulary",
                      (long long)table->ne[0], (long long)table->ne[1], hp->embedding);
    else
        hp->vocabulary = (uint32_t)table->ne[1];
}

quern_status hparams_read(const quern_gguf *gguf, hparams *hp, quern_error *error)
{
    *hp = (hparams){.embedding_scale = 1, .residual_scale = 1, .logit_scale = 1, .activation = QP_ACT_SILU};
    quern_status status = hparams_architecture(gguf, hp->architecture, sizeof hp->architecture, error);
    if (status != QP_OK)
        return status;
    metadata md = {.gguf = gguf, .architecture = hp->architecture, .error = error};
    const arch *row = arch_find(hp->architecture);
    if (!row) {
        char known[240];
        metadata_fail(&md, QP_ERR_UNSUPPORTED, "the architecture \"%s\" is not supported; this build knows: %s", hp->architecture,
                      arch_names(known, sizeof known));
        return md.status;
    }
    metadata_string(&md, "general.name", hp->name, sizeof hp->name);
    row->read(&md, hp);
    features_refuse_unread(&md);
    check_local_keys(&md, hp);
    read_vocabulary(&md, hp);
    if (md.status != QP_OK)
        hparams_free(hp);
    return md.status;
}

void hparams_free(hparams *hp)
{
    free(hp->layer);
    *hp = (hparams){0};
}
