/* SPDX-License-Identifier: MIT
 * tests/unit/test_sampler.c: every option against the plain way to compute it, distributions, ranges, repeatability. */
#include <quern/engine.h>
#include "tap.h"

#include <math.h>

enum { VOCABULARY = 50, DRAWS = 40000 };

static uint64_t random_state = 7;

static double random_unit(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}

static quern_sampler_options defaults(void)
{
    return (quern_sampler_options){
        .struct_size = sizeof(quern_sampler_options), .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 42};
}

static void random_logits(float *logits, size_t count)
{
    for (size_t i = 0; i < count; i++)
        logits[i] = (float)(8 * random_unit() - 4);
    for (size_t i = 5; i < count; i += 7)
        logits[i] = logits[i - 5]; /* equals */
}

/* ---- the plain way ------------------------------------------------------------------------------------------------ */

static const float *order_logits;

static int by_logit(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    if (order_logits[x] > order_logits[y] || order_logits[x] < order_logits[y])
        return order_logits[x] > order_logits[y] ? -1 : 1;
    return x - y;
}

static void expected(const quern_sampler_options *o, const float *logits, double *p)
{
    int order[VOCABULARY];
    double sum = 0, have = 0;
    for (int i = 0; i < VOCABULARY; i++)
        order[i] = i;
    order_logits = logits;
    qsort(order, VOCABULARY, sizeof *order, by_logit);
    for (int i = 0; i < VOCABULARY; i++) {
        p[order[i]] = o->top_k && i >= (int)o->top_k
                          ? 0
                          : exp(((double)logits[order[i]] - (double)logits[order[0]]) / (double)o->temperature);
        sum += p[order[i]];
    }
    double kept = 0;
    for (int i = 0; i < VOCABULARY; i++) {
        double weight = p[order[i]];
        if (weight < (double)o->min_p || have >= (double)o->top_p * sum)
            p[order[i]] = 0;
        have += weight;
        kept += p[order[i]];
    }
    for (int i = 0; i < VOCABULARY; i++)
        p[i] /= kept;
}

/* Pearson's test; tokens of probability 0 must never come. */
static void test_distribution(const char *name, const quern_sampler_options *options)
{
    float logits[VOCABULARY];
    double p[VOCABULARY], chi = 0;
    int seen[VOCABULARY] = {0}, impossible = 0, kinds = 0;
    random_logits(logits, VOCABULARY);
    expected(options, logits, p);
    quern_sampler *s = NULL;
    quern_error error = {0};
    if (!ok(!quern_sampler_create(options, VOCABULARY, &s, &error), "%s: created %s", name, error.text))
        return;
    for (int i = 0; i < DRAWS; i++) {
        int32_t token = -1;
        if (quern_sampler_sample(s, logits, &token, &error) || token < 0 || token >= VOCABULARY)
            break;
        seen[token]++;
    }
    for (int i = 0; i < VOCABULARY; i++) {
        impossible += seen[i] > 0 && !(p[i] > 0);
        if (p[i] * DRAWS < 5)
            continue;
        chi += (seen[i] - p[i] * DRAWS) * (seen[i] - p[i] * DRAWS) / (p[i] * DRAWS);
        kinds++;
    }
    /* mean kinds − 1, deviation sqrt(2·(kinds − 1)): the seed is fixed, so this passes always or never */
    ok(chi < (kinds - 1) + 4 * sqrt(2.0 * kinds) + 1 && !impossible, "%s: chi² %.1f over %d tokens, %d impossible", name, chi,
       kinds, impossible);
    quern_sampler_destroy(s);
}

static void test_distributions(void)
{
    quern_sampler_options o = defaults();
    test_distribution("plain", &o);
    o.temperature = 0.5f;
    test_distribution("temperature 0.5", &o);
    o.temperature = 3;
    test_distribution("temperature 3", &o);
    o = defaults(), o.top_k = 1;
    test_distribution("top-k 1", &o);
    o.top_k = 7;
    test_distribution("top-k 7", &o);
    o.top_k = 1000;
    test_distribution("top-k 1000", &o);
    o = defaults(), o.top_p = 0.7f;
    test_distribution("top-p 0.7", &o);
    o.top_p = 1e-6f;
    test_distribution("top-p 1e-6", &o);
    o = defaults(), o.min_p = 0.2f;
    test_distribution("min-p 0.2", &o);
    o.min_p = 1;
    test_distribution("min-p 1", &o);
    o = defaults(), o.top_k = 20, o.top_p = 0.9f, o.min_p = 0.05f, o.temperature = 1.5f;
    test_distribution("all together", &o);
}

/* ---- single steps ------------------------------------------------------------------------------------------------- */

static int32_t sample(quern_sampler *s, const float *logits)
{
    int32_t token = -1;
    return quern_sampler_sample(s, logits, &token, NULL) ? -1 : token;
}

static void test_greedy(void)
{
    quern_sampler_options o = defaults();
    quern_sampler *s = NULL;
    o.temperature = 0, o.top_k = 3, o.min_p = 0.5f;
    float logits[VOCABULARY] = {0};
    logits[9] = logits[30] = 2;
    ok(!quern_sampler_create(&o, VOCABULARY, &s, NULL) && quern_sampler_is_greedy(s), "temperature 0 is greedy");
    ok(sample(s, logits) == 9, "the lowest of equals");
    logits[30] = 2.5f;
    ok(sample(s, logits) == 30, "the largest");
    quern_sampler_destroy(s);
    ok(!quern_sampler_create(NULL, VOCABULARY, &s, NULL) && quern_sampler_is_greedy(s), "no options: greedy");
    quern_sampler_destroy(s);
}

static void test_penalty(void)
{
    quern_sampler_options o = defaults();
    quern_sampler *s = NULL;
    o.temperature = 0, o.repetition_penalty = 2, o.repetition_window = 2;
    float logits[4] = {3, 2, 1.9f, -1};
    ok(!quern_sampler_create(&o, 4, &s, NULL) && !quern_sampler_is_greedy(s), "a penalty needs the logits");
    int32_t a = sample(s, logits), b = sample(s, logits), c = sample(s, logits), d = sample(s, logits);
    /* 3 → 1.5, then 2 → 1, then the window has forgotten 0 */
    ok(a == 0 && b == 1 && c == 2 && d == 0, "positive logits are divided within the window: %d %d %d %d", a, b, c, d);
    quern_sampler_accept(s, 99), quern_sampler_accept(s, -1);
    ok(logits[0] == 3, "the caller's logits stay as they are");
    quern_sampler_destroy(s);
    const float negative[3] = {-1, -1.5f, -9};
    ok(!quern_sampler_create(&o, 3, &s, NULL), "created");
    quern_sampler_accept(s, 0);
    quern_sampler_accept(s, 0); /* twice in the window counts once: -2, not -4 */
    ok(sample(s, negative) == 1, "negative logits are multiplied");
    quern_sampler_destroy(s);
    const float once[3] = {-1, -3, -9};
    ok(!quern_sampler_create(&o, 3, &s, NULL), "created");
    quern_sampler_accept(s, 0), quern_sampler_accept(s, 0);
    ok(sample(s, once) == 0, "a token in the window twice is penalised once");
    quern_sampler_destroy(s);
    o.repetition_window = 0;
    ok(!quern_sampler_create(&o, 3, &s, NULL) && quern_sampler_is_greedy(s), "a window of 0 means none");
    quern_sampler_destroy(s);
}

static void test_repeatability(void)
{
    /* written down once: they must be the same on every machine and for ever */
    static const int32_t known[12] = {26, 18, 8, 6, 13, 6, 44, 41, 39, 13, 13, 44};
    quern_sampler_options o = defaults();
    float logits[VOCABULARY];
    int same = 1, differ = 0;
    int32_t got[12];
    for (int i = 0; i < VOCABULARY; i++)
        logits[i] = (float)((i * 37) % 23) * 0.25f;
    quern_sampler *s[3] = {NULL, NULL, NULL};
    o.temperature = 0.8f, o.top_k = 40, o.top_p = 0.95f;
    int made = !quern_sampler_create(&o, VOCABULARY, &s[0], NULL) && !quern_sampler_create(&o, VOCABULARY, &s[1], NULL);
    o.seed++;
    made = made && !quern_sampler_create(&o, VOCABULARY, &s[2], NULL);
    for (int i = 0; made && i < 12; i++) {
        got[i] = sample(s[0], logits);
        same &= got[i] == sample(s[1], logits);
        differ += got[i] != sample(s[2], logits);
    }
    ok(made && same, "one seed, one text");
    ok(differ > 3, "another seed, another text");
    if (!ok(made && !memcmp(got, known, sizeof got), "seed 42 draws what it always drew"))
        for (int i = 0; i < 12; i++)
            diag("drew %d", got[i]);
    for (int i = 0; i < 3; i++)
        quern_sampler_destroy(s[i]);
}

static void test_bad_logits(void)
{
    quern_sampler_options o = defaults();
    quern_error error = {0};
    for (int greedy = 0; greedy < 2; greedy++) {
        quern_sampler *s = NULL;
        int32_t token = 77;
        float logits[4] = {1, NAN, 2, 0};
        o.temperature = greedy ? 0.0f : 1.0f;
        ok(!quern_sampler_create(&o, 4, &s, NULL), "created");
        ok(quern_sampler_sample(s, logits, &token, &error) == QP_ERR_FORMAT && token == 77, "NaN: %s", error.text);
        logits[0] = NAN, logits[1] = 0;
        ok(quern_sampler_sample(s, logits, &token, &error) == QP_ERR_FORMAT, "NaN in front: %s", error.text);
        logits[0] = logits[1] = logits[2] = logits[3] = -INFINITY;
        ok(quern_sampler_sample(s, logits, &token, &error) == QP_ERR_FORMAT, "all are -inf: %s", error.text);
        logits[3] = -5;
        ok(sample(s, logits) == 3, "one is not");
        logits[2] = INFINITY;
        ok(quern_sampler_sample(s, logits, &token, &error) == QP_ERR_FORMAT, "one is +inf: %s", error.text);
        quern_sampler_destroy(s);
    }
}

static void expect_refusal(const quern_sampler_options *o, uint32_t vocabulary, const char *word)
{
    quern_sampler *s = NULL;
    quern_error error = {0};
    ok(quern_sampler_create(o, vocabulary, &s, &error) == QP_ERR_INVALID && !s && strstr(error.text, word), "refused: %s",
       error.text);
}

static void test_ranges(void)
{
    quern_sampler_options o = defaults();
    expect_refusal(&o, 0, "vocabulary");
    o.temperature = -0.1f, expect_refusal(&o, 9, "temperature");
    o.temperature = NAN, expect_refusal(&o, 9, "temperature");
    o.temperature = INFINITY, expect_refusal(&o, 9, "temperature");
    o = defaults(), o.top_p = 0, expect_refusal(&o, 9, "top-p");
    o.top_p = 1.01f, expect_refusal(&o, 9, "top-p");
    o.top_p = NAN, expect_refusal(&o, 9, "top-p");
    o = defaults(), o.min_p = -1, expect_refusal(&o, 9, "min-p");
    o.min_p = 2, expect_refusal(&o, 9, "min-p");
    o = defaults(), o.repetition_penalty = 0, expect_refusal(&o, 9, "repetition penalty");
    o.repetition_penalty = NAN, expect_refusal(&o, 9, "repetition penalty");
    o = defaults(), o.repetition_window = UINT32_MAX, expect_refusal(&o, 9, "repetition window");
}

static void test_extremes(void)
{
    quern_sampler_options o = defaults();
    quern_sampler *s = NULL;
    float logits[VOCABULARY];
    random_logits(logits, VOCABULARY);
    logits[17] = 5;
    o.temperature = 1e-40f;
    ok(!quern_sampler_create(&o, VOCABULARY, &s, NULL) && sample(s, logits) == 17, "a temperature near 0 is nearly greedy");
    quern_sampler_destroy(s);
    o.temperature = 3e38f;
    ok(!quern_sampler_create(&o, VOCABULARY, &s, NULL) && sample(s, logits) >= 0, "a huge temperature");
    quern_sampler_destroy(s);
    ok(!quern_sampler_create(&o, 1, &s, NULL) && sample(s, logits) == 0, "a vocabulary of one");
    quern_sampler_destroy(s);
}

int main(void)
{
    test_greedy();
    test_penalty();
    test_distributions();
    test_repeatability();
    test_bad_logits();
    test_ranges();
    test_extremes();
    quern_sampler_destroy(NULL);
    return tap_done();
}
