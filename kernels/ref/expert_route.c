/* SPDX-License-Identifier: MIT
 * kernels/ref/expert_route.c: which experts a row goes to. Everything is found by looking through all experts once more: no lists,
 * no limit on their number. */
#include "kernels/ref/access.h"

#include <math.h>

typedef struct router {
    const qp_expert_route_params *p;
    const qk_tensor *logits, *bias;
    const char *row;
    int64_t experts, groups, group; /* group: experts in one */
    double most, sum;               /* of the softmax over all experts */
} router;

static double logit(const router *r, int64_t e)
{
    return (double)qr_f32(r->logits, r->row, e);
}

/* What the weight comes from. */
static double probability(const router *r, int64_t e)
{
    switch (r->p->gate) {
    case QP_GATE_SIGMOID: return 1 / (1 + exp(-logit(r, e)));
    case QP_GATE_SOFTMAX: return exp(logit(r, e) - r->most) / r->sum;
    default: return logit(r, e); /* the softmax comes once they are chosen */
    }
}

/* p + bias, as a float: two experts that are equal there are taken in the order of their numbers. */
static float biased(const router *r, int64_t e)
{
    double p = probability(r, e);
    return (float)(r->bias->data ? p + (double)qr_f32(r->bias, r->bias->data, e) : p);
}

/* What experts are compared by: without a bias the logits are in the same order and exact. */
static float score(const router *r, int64_t e)
{
    return r->bias->data ? biased(r, e) : (float)logit(r, e);
}

/* Does a come before b? Of equals the lower number does. */
static int before(float score_a, int64_t a, float score_b, int64_t b)
{
    return score_a > score_b || (score_a == score_b && a < b);
}

/* The sum of a group's two best. */
static float group_score(const router *r, int64_t g)
{
    float first = -INFINITY, second = -INFINITY;
    for (int64_t e = g * r->group; e < (g + 1) * r->group; e++) {
        float s = biased(r, e);
        if (s > first) {
            second = first;
            first = s;
        } else if (s > second) {
            second = s;
        }
    }
    return r->group > 1 ? first + second : first;
}

static int group_taken(const router *r, int64_t g)
{
    int64_t better = 0;
    if (r->groups <= 1)
        return 1;
    for (int64_t other = 0; other < r->groups; other++)
        better += before(group_score(r, other), other, group_score(r, g), g);
    return better < r->p->groups_used;
}

/* The best one of those after `last`, the one chosen before; −1: none was. */
static int64_t next_best(const router *r, int64_t last)
{
    int64_t best = -1;
    for (int64_t e = 0; e < r->experts; e++)
        if ((last < 0 || before(score(r, last), last, score(r, e), e)) &&
            (best < 0 || before(score(r, e), e, score(r, best), best)) && group_taken(r, e / r->group))
            best = e;
    return best;
}

static int all_finite(const router *r)
{
    for (int64_t e = 0; e < r->experts; e++)
        if (!isfinite(logit(r, e)) || (r->bias->data && !isfinite(qr_f32(r->bias, r->bias->data, e))))
            return 0;
    return 1;
}

static void sum_softmax(router *r)
{
    r->most = logit(r, 0);
    r->sum = 0;
    for (int64_t e = 1; e < r->experts; e++)
        r->most = logit(r, e) > r->most ? logit(r, e) : r->most;
    for (int64_t e = 0; e < r->experts; e++)
        r->sum += exp(logit(r, e) - r->most);
}

/* The weights of those whose numbers are written already, before scale and division. */
static double raw_weight(const router *r, const qk_tensor *dst, const char *numbers, int64_t i, double most)
{
    double p = probability(r, (int64_t)qr_f32(dst, numbers, i));
    return r->p->gate == QP_GATE_SOFTMAX_CHOSEN ? exp(p - most) : p;
}

static void weigh(const router *r, const qk_tensor *dst, char *weights, const char *numbers)
{
    double sum = 0, most = -(double)INFINITY;
    int divide = r->p->gate == QP_GATE_SOFTMAX_CHOSEN || r->p->flags & QP_EXPERT_NORMALISE;
    for (int64_t i = 0; i < dst->ne[0]; i++)
        most = fmax(most, logit(r, (int64_t)qr_f32(dst, numbers, i)));
    for (int64_t i = 0; i < dst->ne[0]; i++)
        sum += raw_weight(r, dst, numbers, i, most);
    for (int64_t i = 0; i < dst->ne[0]; i++) {
        double w = raw_weight(r, dst, numbers, i, most);
        qr_set_f32(dst, weights, i, (divide && sum != 0 ? w / sum : w) * (double)r->p->scale);
    }
}

static void route_row(router *r, const qk_tensor *dst, char *weights, char *numbers)
{
    int64_t last = -1;
    int sound = all_finite(r);
    if (sound)
        sum_softmax(r);
    for (int64_t i = 0; i < dst->ne[0]; i++) {
        last = sound ? next_best(r, last) : i;
        qr_set_f32(dst, numbers, i, (double)last);
        qr_set_f32(dst, weights, i, (double)NAN);
    }
    if (sound)
        weigh(r, dst, weights, numbers);
}

void qr_expert_route(const qk_op *op)
{
    const qk_tensor *logits = &op->src[QP_EXPERT_ROUTE_LOGITS];
    router r = {.p = &op->p.expert_route, .logits = logits, .bias = &op->src[QP_EXPERT_ROUTE_BIAS], .experts = logits->ne[0]};
    r.groups = r.p->groups > 1 ? r.p->groups : 1;
    r.group = r.experts / r.groups;
    for (int64_t row = 0; row < op->live; row++) {
        r.row = qr_row(logits, 0, row, 0);
        route_row(&r, &op->dst, qr_row(&op->dst, 0, row, 0), qr_row(&op->dst, 1, row, 0));
    }
}
