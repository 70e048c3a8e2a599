/* SPDX-License-Identifier: MIT
 * engine/snapshot.c: what a session holds, without its device: to go on elsewhere. */
#include "engine/options.h"
#include "engine/session.h"

#include <stdlib.h>

struct quern_snapshot {
    quern_session_options options;
    uint32_t vocabulary;
    uint32_t count;
    int32_t tokens[];
};

quern_status quern_session_snapshot(const quern_session *session, quern_snapshot **out, quern_error *error)
{
    if (!session || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_session_snapshot: session and out must not be NULL");
    uint32_t count = session->length + session->pending;
    quern_snapshot *s = malloc(sizeof *s + count * sizeof *s->tokens);
    if (!s)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to keep %u tokens", count);
    *s = (quern_snapshot){.options = {.struct_size = sizeof s->options,
                                      .context = session->cells,
                                      .chunk = session->chunk,
                                      .kv_k = session->kv.k_format,
                                      .kv_v = session->kv.v_format,
                                      .kv_set = 1,
                                      .flags = session->flags | (session->decode.floats_anyway ? QUERN_SESSION_FLOAT : 0)},
                          .vocabulary = session->model->hp.vocabulary,
                          .count = count};
    if (count)
        memcpy(s->tokens, session->tokens, count * sizeof *s->tokens);
    *out = s;
    return QP_OK;
}

void quern_snapshot_destroy(quern_snapshot *snapshot)
{
    free(snapshot);
}

const int32_t *quern_snapshot_tokens(const quern_snapshot *snapshot, uint32_t *count)
{
    if (count)
        *count = snapshot ? snapshot->count : 0;
    return snapshot ? snapshot->tokens : NULL;
}

/* A chunk at a time, so that the caller hears how far it is. */
static quern_status run_tokens(quern_session *session, const quern_snapshot *from, const quern_restore_options *options,
                               quern_error *error)
{
    for (uint32_t done = 0;;) {
        if (options->progress && options->progress(options->progress_ctx, done, from->count))
            return quern_fail(error, QP_ERR_CANCELLED, "stopped after %u of the %u tokens so far", done, from->count);
        if (done == from->count)
            return QP_OK;
        uint32_t left = from->count - done, n = left < session->chunk ? left : session->chunk;
        quern_status status = quern_session_eval(session, from->tokens + done, n, NULL, error);
        if (status != QP_OK)
            return status;
        done += n;
    }
}

quern_status quern_snapshot_restore(const quern_snapshot *snapshot, quern_model *model, const quern_restore_options *options,
                                    quern_session **out, quern_error *error)
{
    if (!snapshot || !model || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_snapshot_restore: snapshot, model and out must not be NULL");
    quern_restore_options known;
    options_copy(&known, sizeof known, options);
    if (model->hp.vocabulary != snapshot->vocabulary)
        return quern_fail(error, QP_ERR_INVALID,
                          "the snapshot is of a model with a vocabulary of %u tokens, and this one's has %u: it is another model",
                          snapshot->vocabulary, model->hp.vocabulary);
    quern_session_options wanted = snapshot->options;
    wanted.flags = (wanted.flags | known.flags) & ~known.without;
    quern_session *session = NULL;
    quern_status status = quern_session_create(model, &wanted, &session, error);
    if (status == QP_OK)
        status = run_tokens(session, snapshot, &known, error);
    if (status == QP_OK || (status == QP_ERR_CANCELLED && session)) {
        *out = session;
        return status;
    }
    quern_session_destroy(session);
    return status;
}
