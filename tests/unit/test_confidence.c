/* SPDX-License-Identifier: MIT
 * Scores of tokens against the plain formulas in long double, and what damaged or extreme logits give. */
#include "tap.h"
#include <quern/engine.h>

#include <math.h>

static uint64_t state = 11;

static double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

/* By the book: p = e^x / Σ e^x. */
static void plainly(const float *x, uint32_t n, int32_t token, long double *logprob, long double *entropy, uint32_t *rank)
{
    long double most = -(long double)INFINITY, z = 0;
    *entropy = 0;
    *rank = 0;
    for (uint32_t i = 0; i < n; i++)
        most = (long double)x[i] > most ? (long double)x[i] : most;
    for (uint32_t i = 0; i < n; i++)
        z += expl((long double)x[i] - most);
    for (uint32_t i = 0; i < n; i++) {
        long double p = expl((long double)x[i] - most) / z;
        *entropy -= p > 0 ? p * logl(p) : 0;
        *rank += x[i] > x[token];
    }
    *logprob = (long double)x[token] - most - logl(z);
}

static int order(const float *x, const quern_alternative *top, uint32_t count, uint32_t n)
{
    for (uint32_t i = 1; i < count; i++)
        if (x[top[i].token] > x[top[i - 1].token] || (!(x[top[i].token] < x[top[i - 1].token]) && top[i].token < top[i - 1].token))
            return 0;
    uint32_t better = 0;
    for (uint32_t i = 0; i < n; i++)
        better += x[i] > x[top[count - 1].token];
    return better < count;
}

static void test_random(void)
{
    static float x[4099];
    double worst = 0;
    int bad = 0;
    for (int round = 0; round < 400; round++) {
        uint32_t n = 1 + (uint32_t)(uniform() * 4098);
        double scale = pow(10, uniform() * 5 - 2);
        for (uint32_t i = 0; i < n; i++)
            x[i] = uniform() < 0.02 ? -INFINITY : round % 5 ? (float)((uniform() - 0.5) * scale) : (float)(int)(uniform() * 4);
        x[n / 2] = 0.25f;
        int32_t token = (int32_t)(uniform() * n);
        long double logprob, entropy;
        uint32_t rank, count = 1 + (uint32_t)round % 20;
        quern_alternative top[20];
        quern_score score;
        plainly(x, n, token, &logprob, &entropy, &rank);
        if (quern_score_token(x, n, token, &score, top, &count, NULL) != QP_OK || score.token != token || score.rank != rank ||
            count != (n < 1 + (uint32_t)round % 20 ? n : 1 + (uint32_t)round % 20) || !order(x, top, count, n)) {
            bad++;
            continue;
        }
        double off =
            isinf(x[token]) ? (isinf(score.logprob) ? 0 : 1) : fabs(score.logprob - (double)logprob) / (1 + fabs((double)logprob));
        worst = fmax(worst, fmax(off, fabs(score.entropy - (double)entropy)));
        plainly(x, n, top[0].token, &logprob, &entropy, &rank);
        bad += rank != 0 || fabs(top[0].logprob - (double)logprob) > 1e-12 * (1 + fabs((double)logprob));
    }
    ok(!bad && worst < 1e-12, "400 random rows agree with the plain formulas to 1e-12 (%.1e; %d do not)", worst, bad);
}

static void expect_error(const char *name, const float *x, uint32_t n, int32_t token, quern_status want)
{
    quern_error error = {0};
    quern_score score;
    ok(quern_score_token(x, n, token, &score, NULL, NULL, &error) == want && error.text[0], "%s: %s", name, error.text);
}

static void test_extremes(void)
{
    quern_score s;
    float equal[1000], far[] = {3e38f, -3e38f, 0}, one[] = {-5};
    for (int i = 0; i < 1000; i++)
        equal[i] = 7.5f;
    ok(!quern_score_token(equal, 1000, 3, &s, NULL, NULL, NULL) && fabs(s.entropy - log(1000)) < 1e-12 &&
           fabs(s.logprob + log(1000)) < 1e-12 && s.rank == 0,
       "1000 equal logits: entropy and −logprob are log 1000");
    ok(!quern_score_token(far, 3, 0, &s, NULL, NULL, NULL) && fabs(s.logprob) < 1e-12 && s.entropy < 1e-12 && s.rank == 0,
       "one far above the others is certain");
    ok(!quern_score_token(far, 3, 1, &s, NULL, NULL, NULL) && s.logprob < -5e38 && isfinite(s.logprob) && s.rank == 2,
       "and the one far below them has a finite log-probability");
    ok(!quern_score_token(one, 1, 0, &s, NULL, NULL, NULL) && fabs(s.logprob) < 1e-15 && s.entropy < 1e-15, "a vocabulary of one");
    expect_error("NaN", (float[]){1, NAN, 2}, 3, 0, QP_ERR_FORMAT);
    expect_error("infinity", (float[]){1, INFINITY, 2}, 3, 0, QP_ERR_FORMAT);
    expect_error("nothing is possible", (float[]){-INFINITY, -INFINITY}, 2, 0, QP_ERR_FORMAT);
    expect_error("a token outside", (float[]){1, 2}, 2, 2, QP_ERR_INVALID);
    expect_error("a negative token", (float[]){1, 2}, 2, -1, QP_ERR_INVALID);
    expect_error("no logits", NULL, 2, 0, QP_ERR_INVALID);
    uint32_t none = 0;
    quern_alternative top[1];
    ok(!quern_score_token(one, 1, 0, &s, top, &none, NULL) && none == 0, "no alternatives asked for");
}

static void test_summary(void)
{
    quern_confidence c = {.struct_size = sizeof c, .unsure = 0.1f};
    const double logprobs[] = {-0.5, -3, -0.01, -2.5}, entropies[] = {1, 2.5, 0.1, 2};
    for (int i = 0; i < 4; i++)
        quern_confidence_add(&c, &(quern_score){.logprob = logprobs[i], .entropy = entropies[i]});
    ok(c.tokens == 4 && c.unsure_tokens == 2 && c.min_at == 1,
       "four tokens, two of them below a tenth, the second the least likely");
    ok(fabs(c.mean_logprob + 1.5025) < 1e-12 && fabs(c.perplexity - exp(1.5025)) < 1e-12 && fabs(c.min_logprob + 3) < 1e-15 &&
           fabs(c.mean_entropy - 1.4) < 1e-12 && fabs(c.max_entropy - 2.5) < 1e-15,
       "means, perplexity, least and most");
    quern_confidence_add(NULL, NULL);
    quern_confidence none = {.struct_size = 8};
    quern_confidence_add(&none, &(quern_score){.logprob = -1});
    ok(none.tokens == 0, "a struct too short is left alone");
}

int main(void)
{
    test_random();
    test_extremes();
    test_summary();
    return tap_done();
}
