/* SPDX-License-Identifier: MIT */
#include "engine/model.h"

#include "engine/load.h"
#include "engine/options.h"

#include <quern/log.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- loading ---- */

/* A file without a vocabulary is a model all the same; one with a vocabulary of another size than the embedding is not. */
static quern_status make_tokenizer(quern_model *model, quern_error *error)
{
    quern_error why = {0};
    quern_status status = quern_tokenizer_create(model->gguf, &model->tokenizer, &why);
    if (status == QP_ERR_NOT_FOUND) {
        model->tokenizer = NULL;
        return QP_OK;
    }
    if (status != QP_OK) {
        if (error)
            *error = why;
        return status;
    }
    uint32_t size = quern_tokenizer_size(model->tokenizer);
    if (size != model->hp.vocabulary)
        return quern_fail(
            error, QP_ERR_FORMAT,
            "%.200s: the tokenizer has %u tokens, but token_embd.weight has rows for %u: the vocabulary does not match",
            quern_gguf_path(model->gguf), size, model->hp.vocabulary);
    return QP_OK;
}

static quern_status declare_weights(quern_model *model, quern_error *error)
{
    quern_status status = weight_set_init(&model->set, model->gguf, error);
    if (status != QP_OK)
        return status;
    model->weights.layer = calloc(model->hp.layers, sizeof *model->weights.layer);
    if (!model->weights.layer)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for %u layers", model->hp.layers);
    model->arch->weights(&model->set, &model->hp, &model->weights);
    weight_set_refuse_unused(&model->set, &model->hp);
    return model->set.status;
}

/* Before anything is allocated: would the weights fit? */
static quern_status check_memory(quern_model *model, quern_error *error)
{
    uint64_t need = placement_bytes(&model->placement), available = 0;
    quern_status status = heap_available(model->device, model->placement.heap, &available, error);
    if (status != QP_OK || need <= available)
        return status;
    return quern_fail(error, QP_ERR_OUT_OF_MEMORY,
                      "%.200s: the weights need %s on device %s, which has %s left: close other programs, or use a smaller or more "
                      "quantised model",
                      quern_gguf_path(model->gguf), bytes_words(need).text, quern_device_id(model->device),
                      bytes_words(available).text);
}

/* All that can be known without a device. */
static quern_status read_header(quern_model *model, quern_error *error)
{
    quern_status status = hparams_read(model->gguf, &model->hp, error);
    if (status != QP_OK)
        return status;
    model->arch = arch_find(model->hp.architecture);
    status = make_tokenizer(model, error);
    return status == QP_OK ? declare_weights(model, error) : status;
}

quern_status model_prepare(quern_model *model, int refusals, quern_error *error)
{
    const qp_device_info *info = quern_device_info(model->device);
    quern_status status = read_header(model, error);
    placement_init(&model->placement, info, info->weight_heap);
    return status == QP_OK ? weights_plan(&model->set, model->device, refusals, &model->placement, error) : status;
}

static quern_status load(quern_model *model, const quern_model_options *options, quern_error *error)
{
    quern_status status = model_prepare(model, 0, error);
    if (status == QP_OK)
        status = check_memory(model, error);
    if (status == QP_OK)
        status = placement_allocate(&model->placement, model->device, error);
    if (status != QP_OK)
        return status;
    weights_bind(&model->set, &model->placement);
    return weights_load(&model->set, model->device, &model->placement, options, error);
}

quern_status quern_model_load(quern_device *device, const quern_gguf *gguf, const quern_model_options *options, quern_model **out,
                              quern_error *error)
{
    if (!device || !gguf || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_model_load: device, gguf and out must not be NULL");
    quern_model_options known;
    options_copy(&known, sizeof known, options);
    quern_model *model = calloc(1, sizeof *model);
    if (!model)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a model");
    model->device = device;
    model->gguf = gguf;
    quern_status status = load(model, &known, error);
    if (status != QP_OK) {
        quern_model_destroy(model);
        return status;
    }
    *out = model;
    return QP_OK;
}

void quern_model_destroy(quern_model *model)
{
    if (!model)
        return;
    placement_free(&model->placement);
    weight_set_free(&model->set);
    free(model->weights.layer);
    hparams_free(&model->hp);
    quern_tokenizer_destroy(model->tokenizer);
    free(model);
}

quern_status quern_model_check(const quern_gguf *gguf, quern_error *error)
{
    if (!gguf)
        return quern_fail(error, QP_ERR_INVALID, "quern_model_check: gguf must not be NULL");
    quern_model *model = calloc(1, sizeof *model);
    if (!model)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a model");
    model->gguf = gguf;
    quern_status status = read_header(model, error);
    quern_model_destroy(model);
    return status;
}

const quern_tokenizer *quern_model_tokenizer(const quern_model *model)
{
    return model ? model->tokenizer : NULL;
}

/* ---- what it is ---- */

/* Of experts' tensors, ending in _exps.*, only the chosen ones are active. */
static void count_active(const quern_gguf *gguf, quern_model_info *info)
{
    double share = info->experts ? (double)info->experts_used / info->experts : 1;
    uint64_t stacked = 0;
    for (uint64_t i = 0; i < quern_gguf_tensor_count(gguf); i++) {
        const quern_gguf_tensor *t = quern_gguf_tensor_at(gguf, i);
        if (strstr(t->name.data, "_exps."))
            stacked += (uint64_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]);
    }
    info->active_parameters = info->parameters - stacked + (uint64_t)((double)stacked * share);
}

static uint64_t count_parameters(const quern_gguf *gguf, uint64_t *bytes)
{
    uint64_t sum = 0;
    *bytes = 0;
    for (uint64_t i = 0; i < quern_gguf_tensor_count(gguf); i++) {
        const quern_gguf_tensor *t = quern_gguf_tensor_at(gguf, i);
        sum += (uint64_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]);
        *bytes += t->bytes;
    }
    return sum;
}

/* Longrope has one set of factors for texts within the original context and another beyond it, and a session takes one for good:
 * short texts, the most, stay as the model was trained on them. */
uint32_t model_default_context(const quern_model *model)
{
    uint32_t whole = model->hp.context, original = model->hp.rope[0].original_context;
    return model->weights.long_rope_factors && original < whole ? original : whole;
}

void quern_model_get_info(const quern_model *model, quern_model_info *info)
{
    if (!model || !info)
        return;
    const hparams *hp = &model->hp;
    const layer_hparams *first = &hp->layer[0];
    for (uint32_t i = 1; i < hp->layers && !first->heads; i++) /* the first one with attention */
        first = &hp->layer[i];
    uint64_t file_bytes;
    quern_model_info full = {
        .struct_size = sizeof full,
        .parameters = count_parameters(model->gguf, &file_bytes),
        .weight_bytes = placement_bytes(&model->placement),
        .layers = hp->layers,
        .embedding = hp->embedding,
        .heads = first->heads,
        .kv_heads = first->kv_heads,
        .head_size_k = first->head_k,
        .head_size_v = first->head_v,
        .feed_forward = first->feed_forward,
        .vocabulary = hp->vocabulary,
        .context = hp->context,
        .experts = hp->experts.count,
        .experts_used = hp->experts.used,
        .default_context = model_default_context(model),
    };
    count_active(model->gguf, &full);
    memcpy(full.architecture, hp->architecture, sizeof full.architecture);
    memcpy(full.name, hp->name, sizeof full.name);
    info_copy(info, &full, sizeof full);
}

/* A number of the first layer. */
static uint32_t peek(metadata *md, const char *suffix, uint32_t missing)
{
    char key[METADATA_KEY_SIZE];
    uint64_t value = 0;
    if (md->status != QP_OK || !quern_gguf_find(md->gguf, metadata_key(md, suffix, key)))
        return missing;
    md->status = quern_gguf_get_u64(md->gguf, key, 0, &value, md->error);
    if (md->status == QP_OK && value > INT32_MAX)
        metadata_fail(md, QP_ERR_FORMAT, "%s is %llu, which is above %d", key, (unsigned long long)value, INT32_MAX);
    return md->status == QP_OK ? (uint32_t)value : missing;
}

/* Reads what the common keys say, for any architecture: a file that this build cannot run can still be described. */
quern_status quern_model_inspect(const quern_gguf *gguf, quern_model_info *info, quern_error *error)
{
    if (!gguf || !info)
        return quern_fail(error, QP_ERR_INVALID, "quern_model_inspect: gguf and info must not be NULL");
    quern_model_info full = {.struct_size = sizeof full};
    quern_status status = hparams_architecture(gguf, full.architecture, sizeof full.architecture, error);
    if (status != QP_OK)
        return status;
    metadata md = {.gguf = gguf, .architecture = full.architecture, .error = error};
    metadata_string(&md, "general.name", full.name, sizeof full.name);
    full.parameters = count_parameters(gguf, &full.weight_bytes);
    full.layers = peek(&md, "block_count", 0);
    full.experts = peek(&md, "expert_count", 0);
    full.experts_used = full.experts ? peek(&md, "expert_used_count", 0) : 0;
    if (full.experts_used > full.experts)
        full.experts_used = full.experts;
    count_active(gguf, &full);
    full.context = peek(&md, "context_length", 0);
    uint32_t original = peek(&md, "rope.scaling.original_context_length", full.context);
    int long_rope = quern_gguf_tensor_find(gguf, "rope_factors_long.weight") != NULL;
    full.default_context = long_rope && original < full.context ? original : full.context;
    full.embedding = peek(&md, "embedding_length", 0);
    full.feed_forward = peek(&md, "feed_forward_length", 0);
    full.heads = peek(&md, "attention.head_count", 0);
    full.kv_heads = peek(&md, "attention.head_count_kv", full.heads);
    uint32_t head_size = full.heads ? full.embedding / full.heads : 0;
    full.head_size_k = peek(&md, "attention.key_length", head_size);
    full.head_size_v = peek(&md, "attention.value_length", head_size);
    const quern_gguf_tensor *table = quern_gguf_tensor_find(gguf, "token_embd.weight");
    if (table && table->ne[1] <= UINT32_MAX)
        full.vocabulary = (uint32_t)table->ne[1];
    if (md.status == QP_OK)
        info_copy(info, &full, sizeof full);
    return md.status;
}
