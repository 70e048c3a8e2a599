/* SPDX-License-Identifier: MIT
 * engine/eval.c: running tokens through a session. Nothing here allocates. */
#include "engine/session.h"

#include <math.h>
#include <string.h>

/* ---- one run ---- */

static void put(quern_session *s, uint64_t offset, uint32_t index, int32_t value)
{
    memcpy(s->step + offset + index * sizeof value, &value, sizeof value);
}

/* The numbers of the tokens' rows in each part of the embedding. */
static void put_tokens(quern_session *s, const program *p, const int32_t *tokens, uint32_t count)
{
    const weight *table = s->model->weights.embedding;
    memcpy(s->step + p->layout.tokens, tokens, count * sizeof *tokens);
    for (uint32_t i = 1; i < table->parts; i++)
        for (uint32_t t = 0; t < count; t++) {
            int64_t row = tokens[t] - table->part[i].first; /* below 0 in the parts before it */
            put(s, p->layout.tokens, i * p->rows + t, (int32_t)row);
        }
}

/* The step block of `count` tokens behind those in the cache. wanted: their last one's logits will be read. */
static void fill_step(quern_session *s, const program *p, const int32_t *tokens, uint32_t count, int wanted)
{
    put(s, p->layout.live, 0, (int32_t)count);
    put(s, p->layout.selected_live, 0, wanted);
    put(s, p->layout.selected, 0, (int32_t)count - 1);
    put_tokens(s, p, tokens, count);
    for (uint32_t i = 0; i < count; i++)
        put(s, p->layout.positions, i, (int32_t)(s->length + i));
}

/* A run that was started and failed may have written a part of the cache, and its timeline value may never come. */
static quern_status give_up(quern_session *s, quern_error *error)
{
    s->lost = *error;
    quern_fail_prefix(&s->lost, error->status, "this session must be made anew, because a run failed: ");
    return error->status;
}

static quern_status run(quern_session *s, const program *p, quern_error *error)
{
    quern_status status = quern_program_run(p->made, s->step, s->timeline, s->submitted + 1, error);
    if (status != QP_OK)
        return status == QP_ERR_DEVICE_LOST ? give_up(s, error) : status; /* it did not start: the cache is as it was */
    s->submitted++;
    status = quern_timeline_wait(s->timeline, s->submitted, UINT64_MAX, error);
    return status == QP_OK ? QP_OK : give_up(s, error);
}

/* ---- results ---- */

static quern_status read_sampled(quern_session *s, uint32_t row, int32_t *token, quern_error *error)
{
    if (s->sampled_map) {
        *token = s->sampled_map[row];
        return QP_OK;
    }
    return quern_buffer_read(s->memory.sampled.buffer, s->memory.sampled.offset + row * sizeof *token, token, sizeof *token, error);
}

static quern_status read_logit(quern_session *s, uint64_t index, float *logit, quern_error *error)
{
    if (s->logits_map) {
        *logit = s->logits_map[index];
        return QP_OK;
    }
    return quern_buffer_read(s->memory.logits.buffer, s->memory.logits.offset + index * sizeof *logit, logit, sizeof *logit, error);
}

/* The row of the results that belongs to the last token. */
static uint32_t last_row(const quern_session *s)
{
    return s->flags & QUERN_SESSION_ALL_LOGITS ? s->result_rows - 1 : 0;
}

/* The device's choice tells whether numbers went wrong: it is −1 where a logit is NaN, and an infinite one would be chosen. */
static quern_status check_finite(quern_session *s, quern_error *error)
{
    int32_t token = -1;
    float logit = NAN;
    quern_status status = read_sampled(s, last_row(s), &token, error);
    if (status == QP_OK && token >= 0 && (uint32_t)token < s->model->hp.vocabulary)
        status = read_logit(s, (uint64_t)last_row(s) * s->model->hp.vocabulary + (uint32_t)token, &logit, error);
    if (status != QP_OK || isfinite(logit))
        return status;
    return quern_fail(
        error, QP_ERR_FORMAT,
        "%.200s: the logits after position %u are not finite numbers: the weights hold NaN or infinity, or overflow on this input",
        quern_gguf_path(s->model->gguf), s->result_position);
}

/* ---- the interface ---- */

/* Can the session go on from so many tokens? Attention only forgets cells; a recurrent state goes on from where it is, or begins
 * anew. */
static int continues(const quern_session *s, uint32_t length)
{
    return !s->state_bytes || !length || length == s->state_length;
}

/* Whether the session can run at all, and all tokens are of its vocabulary. */
static quern_status check_tokens(const quern_session *s, const int32_t *tokens, size_t count, quern_error *error)
{
    if (s->lost.status != QP_OK) {
        if (error)
            *error = s->lost;
        return s->lost.status;
    }
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= s->model->hp.vocabulary)
            return quern_fail(error, QP_ERR_INVALID, "token %d (number %zu of %zu) is outside the vocabulary of %u", tokens[i], i,
                              count, s->model->hp.vocabulary);
    return QP_OK;
}

static quern_status check_input(const quern_session *s, const int32_t *tokens, size_t count, quern_error *error)
{
    if (count && !tokens)
        return quern_fail(error, QP_ERR_INVALID, "quern_session_eval: no tokens were given");
    quern_status status = check_tokens(s, tokens, count, error);
    if (status != QP_OK)
        return status;
    if (count && !continues(s, s->length))
        return quern_fail(error, QP_ERR_INVALID,
                          "the recurrent layers of this model have seen %u tokens, and the session was put back to %u: they cannot "
                          "go back, so cut the session to 0 and run all tokens again",
                          s->state_length, s->length);
    if (count > s->cells - s->length)
        return quern_fail(
            error, QP_ERR_OUT_OF_MEMORY,
            "the context holds %u tokens, %u are in use and %zu more do not fit: use a larger --ctx or a shorter text", s->cells,
            s->length, count);
    return QP_OK;
}

/* What a lost device was asked for stays known: a snapshot has it run on another one. check_input saw that it fits. */
static void remember_pending(quern_session *s, const int32_t *tokens, uint32_t count)
{
    memmove(s->tokens + s->length, tokens, count * sizeof *tokens);
    s->pending = count;
}

static quern_status eval(quern_session *s, const int32_t *tokens, size_t count, const volatile int *stop, quern_error *error)
{
    for (size_t done = 0; done < count;) {
        if (stop && *stop)
            return quern_fail(error, QP_ERR_CANCELLED, "stopped after %zu of %zu tokens", done, count);
        uint32_t n = count - done < s->chunk ? (uint32_t)(count - done) : s->chunk;
        const program *p = n == 1 ? &s->decode : &s->prefill;
        int wanted = done + n == count || s->flags & QUERN_SESSION_ALL_LOGITS;
        fill_step(s, p, tokens + done, n, wanted);
        quern_status status = run(s, p, error);
        if (status == QP_ERR_DEVICE_LOST)
            remember_pending(s, tokens + done, (uint32_t)(count - done));
        if (status != QP_OK)
            return status;
        memcpy(s->tokens + s->length, tokens + done, n * sizeof *tokens);
        s->length += n;
        s->state_length = s->length;
        done += n;
        if (done == count) {
            s->result_rows = n;
            s->result_count = count;
            s->result_position = s->length - 1;
        }
    }
    return QP_OK;
}

quern_status quern_session_eval(quern_session *session, const int32_t *tokens, size_t count, const volatile int *stop,
                                quern_error *error)
{
    quern_error local = {0};
    if (!session)
        return quern_fail(error, QP_ERR_INVALID, "quern_session_eval: session must not be NULL");
    quern_status status = check_input(session, tokens, count, error);
    if (status != QP_OK || !count)
        return status;
    uint32_t before = session->length;
    session->result_rows = 0;
    status = eval(session, tokens, count, stop, &local);
    if (status == QP_OK) {
        status = check_finite(session, &local);
        if (status != QP_OK)
            session->result_rows = 0;
        if (status != QP_OK && status != QP_ERR_DEVICE_LOST) /* a snapshot of a lost session has these tokens */
            session->length = before;
    }
    if (status != QP_OK && error)
        *error = local;
    return status;
}

static quern_status check_results(const quern_session *s, const void *out, quern_error *error)
{
    if (!s || !out)
        return quern_fail(error, QP_ERR_INVALID,
                          "reading a session's results: neither the session nor the place for them may be NULL");
    if (s->result_rows)
        return QP_OK;
    return quern_fail(error, QP_ERR_INVALID,
                      "there are no results to read: no eval has succeeded since the session was made or cut back");
}

static quern_status get_logits(quern_session *s, uint32_t rows, const float **logits, quern_error *error)
{
    if (s->logits_map) {
        *logits = s->logits_map;
        return QP_OK;
    }
    *logits = s->logits_copy;
    return quern_buffer_read(s->memory.logits.buffer, s->memory.logits.offset, s->logits_copy,
                             (uint64_t)rows * s->model->hp.vocabulary * sizeof **logits, error);
}

quern_status quern_session_logits(quern_session *session, const float **logits, quern_error *error)
{
    quern_status status = check_results(session, logits, error);
    if (status == QP_OK)
        status = get_logits(session, last_row(session) + 1, logits, error);
    if (status == QP_OK)
        *logits += (size_t)last_row(session) * session->model->hp.vocabulary;
    return status;
}

quern_status quern_session_all_logits(quern_session *session, const float **logits, size_t *rows, quern_error *error)
{
    if (!session || !logits || !rows)
        return quern_fail(error, QP_ERR_INVALID, "quern_session_all_logits: session, logits and rows must not be NULL");
    if (!(session->flags & QUERN_SESSION_ALL_LOGITS))
        return quern_fail(error, QP_ERR_INVALID,
                          "the session was made without QUERN_SESSION_ALL_LOGITS: only the last token's logits are there");
    quern_status status = check_results(session, logits, error);
    if (status == QP_OK && session->result_count > session->chunk)
        return quern_fail(error, QP_ERR_INVALID,
                          "the last eval took %zu tokens in chunks of %u, and only those of the last chunk have logits: eval at "
                          "most a chunk at a time",
                          session->result_count, session->chunk);
    if (status == QP_OK)
        status = get_logits(session, session->result_rows, logits, error);
    if (status == QP_OK)
        *rows = session->result_rows;
    return status;
}

quern_status quern_session_greedy(quern_session *session, int32_t *token, quern_error *error)
{
    quern_status status = check_results(session, token, error);
    return status == QP_OK ? read_sampled(session, last_row(session), token, error) : status;
}

uint32_t quern_session_length(const quern_session *session)
{
    return session ? session->length : 0;
}

const int32_t *quern_session_tokens(const quern_session *session)
{
    return session ? session->tokens : NULL;
}

uint32_t quern_session_common_prefix(const quern_session *session, const int32_t *tokens, size_t count)
{
    uint32_t same = 0;
    while (session && tokens && same < session->length && same < count && session->tokens[same] == tokens[same])
        same++;
    return same;
}

quern_status quern_session_truncate(quern_session *session, uint32_t length, quern_error *error)
{
    if (!session)
        return quern_fail(error, QP_ERR_INVALID, "quern_session_truncate: session must not be NULL");
    if (length > session->length)
        return quern_fail(error, QP_ERR_INVALID, "cannot cut a session of %u tokens back to %u", session->length, length);
    if (!continues(session, length))
        return quern_fail(error, QP_ERR_UNSUPPORTED,
                          "the recurrent layers of this model have seen %u tokens and cannot go back to %u, only to 0",
                          session->state_length, length);
    if (length < session->length)
        session->result_rows = 0;
    session->length = length;
    session->pending = 0;
    return QP_OK;
}

/* Goes back to `kept` tokens, or to none where the state of a session cannot go back so far. */
static quern_status go_back(quern_session *s, uint32_t *kept, quern_error *error)
{
    quern_status status = quern_session_truncate(s, *kept, error);
    if (status != QP_ERR_UNSUPPORTED)
        return status;
    *kept = 0;
    return quern_session_truncate(s, 0, error);
}

quern_status quern_session_prefill(quern_session *session, const int32_t *tokens, size_t count, const volatile int *stop,
                                   uint32_t *reused, quern_error *error)
{
    if (!session || !tokens || !count)
        return quern_fail(error, QP_ERR_INVALID, "quern_session_prefill: a session and at least one token are needed");
    if (count > session->cells)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY,
                          "%zu tokens do not fit into a context of %u: use a larger --ctx or a shorter text", count,
                          session->cells);
    uint32_t kept = quern_session_common_prefix(session, tokens, count);
    int there = kept == count && kept == session->length && session->result_rows;
    if (kept == count && !there)
        kept--;
    quern_status status = check_tokens(session, tokens, count, error);
    if (status == QP_OK)
        status = go_back(session, &kept, error);
    if (status == QP_OK && !there)
        status = quern_session_eval(session, tokens + kept, count - kept, stop, error);
    if (status == QP_OK && reused)
        *reused = kept;
    return status;
}
