/* SPDX-License-Identifier: MIT
 * engine/sampler.c: from logits to a token. In this order: repetition penalty, top-k, temperature, softmax, then top-p and min-p,
 * both measured on that softmax.
 *
 * The same on every machine: candidates are ordered by logit and then by token, sums run in a fixed order in double, exp is our
 * own, and random numbers come from a generator of integers (SplitMix64: Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195). */
#include <quern/engine.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WINDOW = 1 << 24 };

typedef struct candidate {
    float logit;
    int32_t token;
    double weight;
} candidate;

struct quern_sampler {
    quern_sampler_options options;
    uint32_t vocabulary;
    uint64_t random; /* generator's state */
    float *logits;   /* a copy, where there is a penalty */
    candidate *candidates;
    int32_t *window; /* ring of the last tokens */
    uint32_t window_count, window_next;
    uint32_t *stamps; /* generation in which a token was penalised */
    uint32_t generation;
};

/* ---- creation ----------------------------------------------------------------------------------------------------- */

static quern_status check_options(const quern_sampler_options *o, uint32_t vocabulary, quern_error *error)
{
    if (vocabulary == 0 || vocabulary > INT32_MAX)
        return quern_fail(error, QP_ERR_INVALID, "a vocabulary of %u tokens cannot be sampled from", vocabulary);
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return quern_fail(error, QP_ERR_INVALID, "temperature is %g; it must be 0 or more", (double)o->temperature);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return quern_fail(error, QP_ERR_INVALID, "top-p is %g; it must be more than 0 and at most 1", (double)o->top_p);
    if (!(o->min_p >= 0 && o->min_p <= 1))
        return quern_fail(error, QP_ERR_INVALID, "min-p is %g; it must be from 0 to 1", (double)o->min_p);
    if (!(o->repetition_penalty > 0) || isinf(o->repetition_penalty))
        return quern_fail(error, QP_ERR_INVALID, "repetition penalty is %g; it must be more than 0", (double)o->repetition_penalty);
    if (o->repetition_window > MAX_WINDOW)
        return quern_fail(error, QP_ERR_INVALID, "repetition window is %u tokens; it must be at most %d", o->repetition_window,
                          MAX_WINDOW);
    return QP_OK;
}

static int has_penalty(const quern_sampler *s)
{
    return s->options.repetition_window > 0 && (s->options.repetition_penalty < 1 || s->options.repetition_penalty > 1);
}

static int allocate(quern_sampler *s)
{
    size_t n = s->vocabulary;
    if (s->options.temperature > 0) {
        s->candidates = malloc(n * sizeof *s->candidates);
        if (!s->candidates)
            return 0;
    }
    if (!has_penalty(s))
        return 1;
    s->logits = malloc(n * sizeof *s->logits);
    s->stamps = calloc(n, sizeof *s->stamps);
    s->window = malloc(s->options.repetition_window * sizeof *s->window);
    return s->logits && s->stamps && s->window;
}

/* The next of 2^64 numbers. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

quern_status quern_sampler_create(const quern_sampler_options *options, uint32_t vocabulary, quern_sampler **out,
                                  quern_error *error)
{
    quern_sampler_options all = {.struct_size = sizeof all, .top_p = 1, .repetition_penalty = 1};
    if (!out)
        return quern_fail(error, QP_ERR_INVALID, "no place for the sampler was given");
    if (options)
        memcpy(&all, options, options->struct_size < sizeof all ? options->struct_size : sizeof all);
    quern_status status = check_options(&all, vocabulary, error);
    if (status != QP_OK)
        return status;
    quern_sampler *s = calloc(1, sizeof *s);
    if (s) {
        s->options = all;
        s->vocabulary = vocabulary;
        s->random = all.seed;
        s->random = next_random(&s->random); /* neighbouring seeds part here */
        if (allocate(s)) {
            *out = s;
            return QP_OK;
        }
    }
    quern_sampler_destroy(s);
    return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a sampler over %u tokens", vocabulary);
}

void quern_sampler_destroy(quern_sampler *sampler)
{
    if (!sampler)
        return;
    free(sampler->logits);
    free(sampler->candidates);
    free(sampler->window);
    free(sampler->stamps);
    free(sampler);
}

int quern_sampler_is_greedy(const quern_sampler *sampler)
{
    return sampler && !(sampler->options.temperature > 0) && !has_penalty(sampler);
}

void quern_sampler_accept(quern_sampler *sampler, int32_t token)
{
    if (!sampler || !sampler->window || token < 0 || (uint32_t)token >= sampler->vocabulary)
        return;
    uint32_t size = sampler->options.repetition_window;
    sampler->window[sampler->window_next] = token;
    sampler->window_next = (sampler->window_next + 1) % size;
    sampler->window_count += sampler->window_count < size;
}

/* ---- the steps ---------------------------------------------------------------------------------------------------- */

static const float *penalise(quern_sampler *s, const float *logits)
{
    if (!has_penalty(s))
        return logits;
    memcpy(s->logits, logits, s->vocabulary * sizeof *logits);
    if (++s->generation == 0) {
        memset(s->stamps, 0, s->vocabulary * sizeof *s->stamps);
        s->generation = 1;
    }
    for (uint32_t i = 0; i < s->window_count; i++) {
        int32_t token = s->window[i];
        if (s->stamps[token] == s->generation)
            continue;
        s->stamps[token] = s->generation;
        float x = s->logits[token];
        s->logits[token] = x > 0 ? x / s->options.repetition_penalty : x * s->options.repetition_penalty;
    }
    return s->logits;
}

/* The largest logit, the lowest token of equals. */
static quern_status find_best(const quern_sampler *s, const float *logits, int32_t *best, quern_error *error)
{
    int32_t found = 0;
    for (uint32_t i = 0; i < s->vocabulary; i++) {
        if (isnan(logits[i]))
            return quern_fail(error, QP_ERR_FORMAT, "the logit of token %u is not a number: the model's weights are damaged", i);
        if (logits[i] > logits[found])
            found = (int32_t)i;
    }
    if (isinf(logits[found]))
        return quern_fail(error, QP_ERR_FORMAT, "the largest logit (token %d) is %s: the model's weights are damaged", found,
                          logits[found] > 0 ? "infinite" : "minus infinity");
    *best = found;
    return QP_OK;
}

static int better(const candidate *a, const candidate *b)
{
    return a->logit > b->logit || (!(a->logit < b->logit) && a->token < b->token);
}

static int worse(const candidate *a, const candidate *b)
{
    return better(b, a);
}

/* A heap whose first element no other one is `above`. */
static void sift(candidate *heap, size_t count, size_t i, int (*above)(const candidate *, const candidate *))
{
    candidate moved = heap[i];
    size_t child;
    while ((child = 2 * i + 1) < count) {
        if (child + 1 < count && above(&heap[child + 1], &heap[child]))
            child++;
        if (!above(&heap[child], &moved))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moved;
}

static void make_heap(candidate *heap, size_t count, int (*above)(const candidate *, const candidate *))
{
    for (size_t i = count / 2; i-- > 0;)
        sift(heap, count, i, above);
}

/* Fills candidates with the k best, in no order: in a heap with the worst of them in front, so that most logits are passed over
 * by one comparison. */
static size_t keep_top_k(quern_sampler *s, const float *logits)
{
    candidate *c = s->candidates;
    size_t n = s->vocabulary, k = s->options.top_k;
    if (k == 0 || k >= n) {
        for (size_t i = 0; i < n; i++)
            c[i] = (candidate){logits[i], (int32_t)i, 0};
        return n;
    }
    for (size_t i = 0; i < k; i++)
        c[i] = (candidate){logits[i], (int32_t)i, 0};
    make_heap(c, k, worse);
    for (size_t i = k; i < n; i++) {
        if (logits[i] > c[0].logit) { /* an equal one has the higher token: it stays out */
            c[0] = (candidate){logits[i], (int32_t)i, 0};
            sift(c, k, 0, worse);
        }
    }
    return k;
}

/* e^x for x <= 0, to about 1e-15: 2^n · e^r with |r| <= ln 2 / 2, e^r by its series. Only +, × and exact scaling, so that every
 * machine gives the same bits. */
static double exp_negative(double x)
{
    if (!(x > -700))
        return 0;
    double n = floor(x * 1.4426950408889634 + 0.5);
    double r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    double sum = 1;
    for (int i = 13; i > 0; i--)
        sum = 1 + sum * r / i;
    return ldexp(sum, (int)n);
}

/* Gives each candidate its unnormalised probability, 1 for the best; returns the sum. */
static double weigh(const quern_sampler *s, size_t count, float best)
{
    double sum = 0, temperature = (double)s->options.temperature;
    for (size_t i = 0; i < count; i++) {
        s->candidates[i].weight = exp_negative(((double)s->candidates[i].logit - (double)best) / temperature);
        sum += s->candidates[i].weight;
    }
    return sum;
}

static size_t keep_min_p(const quern_sampler *s, size_t count)
{
    size_t kept = 0;
    double least = (double)s->options.min_p; /* of the best one's weight, which is 1 */
    for (size_t i = 0; i < count; i++)
        if (s->candidates[i].weight >= least)
            s->candidates[kept++] = s->candidates[i];
    return kept;
}

/* The best ones, taken from a heap until they have the share p of `sum`: they end up at the end of the array. */
static size_t keep_top_p(const quern_sampler *s, size_t count, double sum, candidate **out)
{
    candidate *c = s->candidates;
    double want = (double)s->options.top_p * sum, have = 0;
    size_t left = count;
    make_heap(c, count, better);
    while (left && have < want) {
        candidate best = c[0];
        c[0] = c[--left];
        if (left)
            sift(c, left, 0, better);
        c[left] = best;
        have += best.weight;
    }
    *out = c + left;
    return count - left;
}

static int32_t draw(quern_sampler *s, const candidate *c, size_t count)
{
    double sum = 0, have = 0;
    for (size_t i = 0; i < count; i++)
        sum += c[i].weight;
    double point = (double)(next_random(&s->random) >> 11) * 0x1p-53 * sum;
    int32_t last = c[0].token;
    for (size_t i = 0; i < count; i++) {
        if (!(c[i].weight > 0))
            continue;
        have += c[i].weight;
        last = c[i].token;
        if (have > point)
            break;
    }
    return last;
}

quern_status quern_sampler_sample(quern_sampler *sampler, const float *logits, int32_t *token, quern_error *error)
{
    if (!sampler || !logits || !token)
        return quern_fail(error, QP_ERR_INVALID, "no sampler, no logits to sample from, or no place for the token, were given");
    int32_t best = 0;
    logits = penalise(sampler, logits);
    quern_status status = find_best(sampler, logits, &best, error);
    if (status != QP_OK)
        return status;
    if (sampler->options.temperature > 0) {
        size_t count = keep_top_k(sampler, logits);
        double sum = weigh(sampler, count, logits[best]);
        candidate *kept = sampler->candidates;
        if (sampler->options.min_p > 0)
            count = keep_min_p(sampler, count);
        if (sampler->options.top_p < 1)
            count = keep_top_p(sampler, count, sum, &kept);
        best = draw(sampler, kept, count);
    }
    *token = best;
    quern_sampler_accept(sampler, best);
    return QP_OK;
}
