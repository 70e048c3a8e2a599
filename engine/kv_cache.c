/* SPDX-License-Identifier: MIT */
#include "engine/kv_cache.h"

#include <stdio.h>
#include <stdlib.h>

static quern_status check_format(const hparams *hp, qp_format format, const char *which, quern_error *error)
{
    const quern_format_info *info = quern_format_get(format);
    if (format != QP_FORMAT_F32 && format != QP_FORMAT_F16 && format != QP_FORMAT_BF16 && format != QP_FORMAT_Q8_0)
        return quern_fail(error, QP_ERR_UNSUPPORTED, "%s cannot be kept as %s: use f16, f32, bf16 or q8_0", which,
                          info ? info->name : "an unknown format");
    for (uint32_t i = 0; i < hp->layers; i++) {
        uint32_t size = which[0] == 'k' ? hp->layer[i].head_k : hp->layer[i].head_v;
        if (hp->layer[i].kv_heads && size % info->block_elements)
            return quern_fail(
                error, QP_ERR_UNSUPPORTED,
                "%s of layer %u have heads of %u numbers, and %s stores blocks of %u: use f16, f32 or bf16 for the KV cache", which,
                i, size, info->name, info->block_elements);
    }
    return QP_OK;
}

quern_status kv_cache_init(kv_cache *kv, const hparams *hp, qp_format k_format, qp_format v_format, quern_error *error)
{
    *kv = (kv_cache){.layers = hp->layers, .k_format = k_format, .v_format = v_format};
    quern_status status = check_format(hp, k_format, "keys", error);
    if (status == QP_OK)
        status = check_format(hp, v_format, "values", error);
    if (status != QP_OK)
        return status;
    kv->k = calloc(2 * (size_t)hp->layers, sizeof *kv->k);
    kv->k_place = calloc(2 * (size_t)hp->layers, sizeof *kv->k_place);
    if (!kv->k || !kv->k_place)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for the KV caches of %u layers", hp->layers);
    kv->v = kv->k + hp->layers;
    kv->v_place = kv->k_place + hp->layers;
    return QP_OK;
}

void kv_cache_free(kv_cache *kv)
{
    free(kv->k);
    free(kv->k_place);
    *kv = (kv_cache){0};
}

/* Fills in the shape and adds its bytes to *sum; 0 when they overflow. */
static int shape(qp_tensor *t, qp_format format, int64_t size, int64_t heads, int64_t cells, uint64_t *sum)
{
    const quern_format_info *info = quern_format_get(format);
    int64_t row = size / info->block_elements * info->block_bytes;
    *t = (qp_tensor){.format = format, .ne = {size, heads, cells, 1}, .nb = {info->block_bytes, 0, row, 0}};
    return !__builtin_mul_overflow(row, cells, &t->nb[1]) && !__builtin_mul_overflow(t->nb[1], heads, &t->nb[3]) &&
           !__builtin_add_overflow(*sum, (uint64_t)t->nb[3], sum) && *sum <= INT64_MAX;
}

quern_status kv_cache_shape(kv_cache *kv, const hparams *hp, uint32_t cells, uint64_t *bytes, quern_error *error)
{
    *bytes = 0;
    kv->cells = cells;
    for (uint32_t i = 0; i < kv->layers; i++) {
        const layer_hparams *l = &hp->layer[i];
        if (!l->kv_heads) /* no attention, no cache */
            continue;
        if (!shape(&kv->k[i], kv->k_format, l->head_k, l->kv_heads, cells, bytes) ||
            !shape(&kv->v[i], kv->v_format, l->head_v, l->kv_heads, cells, bytes))
            return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "a KV cache of %u tokens is larger than any memory: use a smaller --ctx",
                              cells);
    }
    return QP_OK;
}

quern_status kv_cache_plan(kv_cache *kv, placement *p, quern_error *error)
{
    for (uint32_t i = 0; i < kv->layers; i++) {
        char what[96];
        if (!kv->k[i].ne[0])
            continue;
        snprintf(what, sizeof what, "the KV cache of layer %u for %u tokens (a smaller --ctx helps)", i, kv->cells);
        quern_status status = placement_add(p, (uint64_t)kv->k[i].nb[3], 0, what, &kv->k_place[i], error);
        if (status == QP_OK)
            status = placement_add(p, (uint64_t)kv->v[i].nb[3], 0, what, &kv->v_place[i], error);
        if (status != QP_OK)
            return status;
    }
    return QP_OK;
}

void kv_cache_bind(kv_cache *kv, const placement *p)
{
    for (uint32_t i = 0; i < kv->layers; i++) {
        if (!kv->k[i].ne[0])
            continue;
        placement_bind(p, kv->k_place[i], (uint64_t)kv->k[i].nb[3], &kv->k[i]);
        placement_bind(p, kv->v_place[i], (uint64_t)kv->v[i].nb[3], &kv->v[i]);
    }
}
