/* SPDX-License-Identifier: MIT
 * engine/confidence.c: how likely a token was, and how open the choice, from the logits it was chosen from.
 *
 * With m the largest logit and d = x − m: Z = Σ e^d, log p = d − log Z, and the entropy −Σ p log p is log Z − (Σ d·e^d) / Z. Both
 * sums run in one pass over LANES partial sums in a fixed order, so that compilers make vectors of the loop and every machine
 * gives the same bits up to the last step's log. */
#include <quern/engine.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* e^x underflows far below this; what is smaller counts as nothing next to the largest logit, whose weight is 1. */
#define LEAST (-700.0)
enum { LANES = 8, BLOCK = 256 };

/* e^x for LEAST <= x <= 0, to about 1e-14: 2^n · e^r, |r| <= ln 2 / 2, e^r by its series; n comes out of the low bits of a sum with
 * 1.5 · 2^52, and goes into the exponent. Only what every processor has as a vector. */
static inline double exp_negative(double x)
{
    const double magic = 0x1.8p52;
    double sum, shifted = x * 1.4426950408889634 + magic, n = shifted - magic,
                r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    uint64_t bits, one = (uint64_t)1023 << 52;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + one;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    sum = 1 + r * (1.0 / 11);
    sum = 1 + r * (1.0 / 10) * sum;
    sum = 1 + r * (1.0 / 9) * sum;
    sum = 1 + r * (1.0 / 8) * sum;
    sum = 1 + r * (1.0 / 7) * sum;
    sum = 1 + r * (1.0 / 6) * sum;
    sum = 1 + r * (1.0 / 5) * sum;
    sum = 1 + r * (1.0 / 4) * sum;
    sum = 1 + r * (1.0 / 3) * sum;
    sum = 1 + r * (1.0 / 2) * sum;
    sum = 1 + r * sum;
    return sum * scale;
}

static quern_status find_largest(const float *x, uint32_t count, float *largest, quern_error *error)
{
    float most = -INFINITY, lanes[LANES];
    uint32_t wrong = 0, i = 0;
    for (uint32_t lane = 0; lane < LANES; lane++)
        lanes[lane] = -INFINITY;
    for (; i + LANES <= count; i += LANES)
        for (uint32_t lane = 0; lane < LANES; lane++)
            lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    for (uint32_t lane = 0; lane < LANES; lane++)
        most = lanes[lane] > most ? lanes[lane] : most;
    for (; i < count; i++)
        most = x[i] > most ? x[i] : most;
    for (i = 0; i < count; i++)
        wrong += !(x[i] < INFINITY); /* NaN too */
    *largest = most;
    if (wrong)
        return quern_fail(error, QP_ERR_FORMAT, "%u of %u logits are NaN or infinite: the model's weights are damaged", wrong,
                          count);
    if (!(most > -INFINITY))
        return quern_fail(error, QP_ERR_FORMAT, "all %u logits are minus infinity: the model's weights are damaged", count);
    return QP_OK;
}

/* z = Σ e^d, dz = Σ d·e^d. In blocks, and one simple loop after another: compilers make vectors of those. */
static void sum_weights(const float *x, uint32_t count, float largest, double *z, double *dz)
{
    double sums[LANES] = {0}, moments[LANES] = {0}, d[BLOCK], e[BLOCK], most = (double)largest;
    for (uint32_t at = 0; at < count; at += BLOCK) {
        uint32_t n = count - at < BLOCK ? count - at : BLOCK;
        for (uint32_t i = 0; i < n; i++) {
            double below = (double)x[at + i] - most;
            d[i] = below > LEAST ? below : LEAST;
        }
        for (uint32_t i = 0; i < n; i++)
            e[i] = exp_negative(d[i]);
        for (uint32_t i = n; i < BLOCK; i++)
            d[i] = e[i] = 0;
        for (uint32_t i = 0; i < BLOCK; i += LANES)
            for (uint32_t lane = 0; lane < LANES; lane++) {
                sums[lane] += e[i + lane];
                moments[lane] += d[i + lane] * e[i + lane];
            }
    }
    *z = *dz = 0;
    for (uint32_t lane = 0; lane < LANES; lane++) {
        *z += sums[lane];
        *dz += moments[lane];
    }
}

static uint32_t count_larger(const float *x, uint32_t count, float than)
{
    uint32_t larger = 0;
    for (uint32_t i = 0; i < count; i++)
        larger += x[i] > than;
    return larger;
}

/* The best ones in order, by insertion: there are few, and most logits are passed over by one comparison. */
static uint32_t find_top(const float *x, uint32_t count, quern_alternative *top, uint32_t room)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        double value = (double)x[i];
        if (used == room && !(value > top[used - 1].logprob))
            continue;
        uint32_t at = used < room ? used++ : used - 1;
        for (; at && value > top[at - 1].logprob; at--)
            top[at] = top[at - 1];
        top[at] = (quern_alternative){(int32_t)i, value};
    }
    return used;
}

quern_status quern_score_token(const float *logits, uint32_t vocabulary, int32_t token, quern_score *score, quern_alternative *top,
                               uint32_t *top_count, quern_error *error)
{
    float largest;
    if (!logits || !score || (top && !top_count))
        return quern_fail(error, QP_ERR_INVALID, "quern_score_token: logits, score and, with top, top_count must not be NULL");
    if (token < 0 || (uint32_t)token >= vocabulary)
        return quern_fail(error, QP_ERR_INVALID, "token %d is outside the vocabulary of %u", token, vocabulary);
    quern_status status = find_largest(logits, vocabulary, &largest, error);
    if (status != QP_OK)
        return status;
    double z, dz;
    sum_weights(logits, vocabulary, largest, &z, &dz);
    double log_z = log(z), entropy = log_z - dz / z;
    *score = (quern_score){.token = token,
                           .rank = count_larger(logits, vocabulary, logits[token]),
                           .logprob = (double)logits[token] - (double)largest - log_z,
                           .entropy = entropy > 0 ? entropy : 0};
    if (top) {
        *top_count = *top_count ? find_top(logits, vocabulary, top, *top_count) : 0;
        for (uint32_t i = 0; i < *top_count; i++)
            top[i].logprob = top[i].logprob - (double)largest - log_z;
    }
    return QP_OK;
}

void quern_confidence_add(quern_confidence *c, const quern_score *score)
{
    if (!c || !score || c->struct_size < sizeof *c)
        return;
    if (!c->tokens || score->logprob < c->min_logprob) {
        c->min_logprob = score->logprob;
        c->min_at = c->tokens;
    }
    if (!c->tokens || score->entropy > c->max_entropy)
        c->max_entropy = score->entropy;
    c->tokens++;
    c->unsure_tokens += c->unsure > 0 && exp(score->logprob) < (double)c->unsure;
    c->sum_logprob += score->logprob;
    c->sum_entropy += score->entropy;
    c->mean_logprob = c->sum_logprob / (double)c->tokens;
    c->mean_entropy = c->sum_entropy / (double)c->tokens;
    c->perplexity = exp(-c->mean_logprob);
}
