/* SPDX-License-Identifier: MIT
 * engine/kv_cache.h: the shape and place of a session's keys and values. For each layer one tensor of keys and one of values,
 * {head size, KV heads, cells}, or none where it has no attention (ne[0] == 0); the cells of a head lie one after another, so that attention reads each head as one stream. */
#ifndef ENGINE_KV_CACHE_H
#define ENGINE_KV_CACHE_H

#include "engine/hparams.h"
#include "engine/placement.h"

typedef struct kv_cache {
    uint32_t layers, cells;
    qp_format k_format, v_format;
    qp_tensor *k, *v; /* one each for every layer; no buffer before kv_cache_bind */
    place *k_place, *v_place;
} kv_cache;

/* The formats a cache can have: QP_ERR_UNSUPPORTED for others, and, with the layer and the sizes, where a head is not whole blocks.
 */
quern_status kv_cache_init(kv_cache *kv, const hparams *hp, qp_format k_format, qp_format v_format, quern_error *error);
void kv_cache_free(kv_cache *kv);
/* Sets the shapes for so many cells, and gives the bytes they take together. */
quern_status kv_cache_shape(kv_cache *kv, const hparams *hp, uint32_t cells, uint64_t *bytes, quern_error *error);
quern_status kv_cache_plan(kv_cache *kv, placement *p, quern_error *error);
void kv_cache_bind(kv_cache *kv, const placement *p);

#endif
