/* SPDX-License-Identifier: MIT
 * engine/session.h: the KV cache, the programs and the memory of one conversation. session.c makes it, eval.c runs it. */
#ifndef ENGINE_SESSION_H
#define ENGINE_SESSION_H

#include "engine/kv_cache.h"
#include "engine/program.h"
#include "engine/recurrent.h"

struct quern_session {
    quern_model *model;
    uint32_t cells, chunk, flags;
    kv_cache kv;
    recurrent_state state;
    uint64_t kv_bytes, state_bytes;       /* state_bytes 0: no layer is recurrent */
    program decode;                       /* one row */
    program prefill;                      /* `chunk` rows; rows 0: there is none, chunk is 1 */
    placement device_memory, host_memory; /* of the heap for weights, and of the one that the host reads and writes often */
    program_memory memory;
    quern_timeline *timeline;
    uint64_t submitted;      /* the timeline's value after the last run */
    unsigned char *step;     /* host copy of the step block */
    const float *logits_map; /* where the host sees the logits; NULL: it reads them into logits_copy */
    const int32_t *sampled_map;
    float *logits_copy;
    int32_t *tokens;          /* those in the cache, room for `cells` */
    uint32_t length;          /* how many they are */
    uint32_t state_length;    /* tokens that the recurrent state has seen; it can go on from there or begin anew, nothing else */
    uint32_t result_rows;     /* rows of logits that the last run left, 0: none */
    size_t result_count;      /* tokens of the last eval, which may have taken several runs */
    uint32_t result_position; /* of the last of them */
    uint32_t pending;         /* tokens behind those that a lost device was still to run */
    quern_error lost;         /* status not QP_OK: a run failed in a way after which the cache cannot be trusted */
};

/* What a session's options ask for, with the defaults in place of what they leave open: quern_explain tells of the programs that
 * quern_session_create would make. */
typedef struct session_wishes {
    uint32_t context; /* 0: nobody chose one */
    uint32_t chunk;
    qp_format k, v; /* of the KV cache */
} session_wishes;
quern_status session_wishes_read(session_wishes *wishes, const quern_session_options *options, quern_error *error);

#endif
