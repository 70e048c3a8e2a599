/* SPDX-License-Identifier: MIT
 * Which experts a row goes to. Rows are independent; of a row's experts the best is looked for as often as one is chosen. */
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"

#include <math.h>
#include <string.h>

static qp_status check_groups(const qp_op *op, qp_text *reason)
{
    const qp_expert_route_params *p = &op->p.expert_route;
    int64_t experts = op->src[QP_EXPERT_ROUTE_LOGITS].ne[0], groups = p->groups > 1 ? p->groups : 1;
    int64_t used = groups > 1 ? p->groups_used : 1;
    if (experts % groups || used < 1 || used > groups)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%lld experts cannot be split into %lld groups of which %lld are used",
                       (long long)experts, (long long)groups, (long long)used);
    if (op->dst.ne[0] > experts / groups * used)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%lld experts are to be chosen out of %lld", (long long)op->dst.ne[0],
                       (long long)(experts / groups * used));
    return QP_OK;
}

static qp_status check_route(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *logits = &op->src[QP_EXPERT_ROUTE_LOGITS], *bias = &op->src[QP_EXPERT_ROUTE_BIAS];
    const qp_expert_route_params *p = &op->p.expert_route;
    if (p->gate > QP_GATE_SOFTMAX_CHOSEN || p->flags & ~(uint32_t)QP_EXPERT_NORMALISE)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "gate %u with flags 0x%x is not known", p->gate, p->flags);
    qp_status status = qc_need_format(logits, "logits", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_format(&op->dst, "dst", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(logits, "logits", logits->ne[0], 1, op->dst.ne[2], reason);
    if (!status)
        status = qc_need_shape(&op->dst, "dst", op->dst.ne[0], 2, op->dst.ne[2], reason);
    if (!status && qc_present(bias))
        status = qc_need_floats(bias, "the bias", logits->ne[0], reason);
    if (!status)
        status = check_groups(op, reason);
    if (status)
        return status;
    qc_name_kernel(info, "expert_route", NULL, device->kernels.isa);
    info->operations = (uint64_t)(logits->ne[0] * logits->ne[2]) * (uint64_t)op->dst.ne[0];
    return QP_OK;
}

/* ---- one row ------------------------------------------------------------------------------------------------------- */

typedef struct router {
    const qc_expert_route_node *u;
    const float *logits;
    float *score;   /* p + bias, or the logits */
    uint8_t *taken; /* chosen already, or not to be */
    double most, sum;
} router;

/* In double: weights that are divided by their sum may all be tiny. */
static double probability(const router *r, int64_t e)
{
    double x = (double)r->logits[e];
    switch (r->u->p.gate) {
    case QP_GATE_SIGMOID: return 1 / (1 + exp(-x));
    case QP_GATE_SOFTMAX: return exp(x - r->most) / r->sum;
    default: return x;
    }
}

/* Is all that is left the quotient of the chosen ones, so that the sum over all does not matter? */
static int sum_matters(const qc_expert_route_node *u)
{
    return u->p.gate == QP_GATE_SOFTMAX && (u->bias || u->p.groups > 1 || !(u->p.flags & QP_EXPERT_NORMALISE));
}

/* 0: the row has a number that is not finite. */
static int begin_row(router *r)
{
    r->sum = 1;
    r->most = (double)r->logits[0];
    for (int64_t e = 0; e < r->u->experts; e++) {
        if (!isfinite(r->logits[e]) || (r->u->bias && !isfinite(r->u->bias[e])))
            return 0;
        r->most = fmax(r->most, (double)r->logits[e]);
    }
    if (sum_matters(r->u)) {
        r->sum = 0;
        for (int64_t e = 0; e < r->u->experts; e++)
            r->sum += exp((double)r->logits[e] - r->most);
    }
    return 1;
}

static float biased(const router *r, int64_t e)
{
    return (float)(r->u->bias ? probability(r, e) + (double)r->u->bias[e] : probability(r, e));
}

/* The sum of a group's two best. */
static float group_score(const router *r, int64_t g, int64_t size)
{
    float first = -INFINITY, second = -INFINITY;
    for (int64_t e = g * size; e < (g + 1) * size; e++) {
        float s = biased(r, e);
        second = s > first ? first : s > second ? s : second;
        first = s > first ? s : first;
    }
    return size > 1 ? first + second : first;
}

/* Takes all groups out and the best ones back in. score is not needed yet and holds theirs. */
static void choose_groups(router *r)
{
    int64_t groups = r->u->p.groups, size = r->u->experts / groups;
    for (int64_t g = 0; g < groups; g++)
        r->score[g] = group_score(r, g, size);
    memset(r->taken, 1, (size_t)r->u->experts);
    for (uint32_t i = 0; i < r->u->p.groups_used; i++) {
        int64_t best = -1;
        for (int64_t g = 0; g < groups; g++)
            if (r->taken[g * size] && (best < 0 || r->score[g] > r->score[best]))
                best = g;
        memset(r->taken + best * size, 0, (size_t)size);
    }
}

static int64_t take_best(router *r)
{
    int64_t best = -1;
    for (int64_t e = 0; e < r->u->experts; e++)
        if (!r->taken[e] && (best < 0 || r->score[e] > r->score[best]))
            best = e;
    r->taken[best] = 1;
    return best;
}

static void weigh(const router *r, float *weights, const float *numbers)
{
    const qp_expert_route_params *p = &r->u->p;
    int chosen = p->gate == QP_GATE_SOFTMAX_CHOSEN, divide = chosen || p->flags & QP_EXPERT_NORMALISE;
    double most = (double)r->logits[(int64_t)numbers[0]], sum = 0;
    for (int64_t i = 1; i < r->u->used; i++)
        most = fmax(most, (double)r->logits[(int64_t)numbers[i]]);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < r->u->used; i++) {
            int64_t e = (int64_t)numbers[i];
            double w = chosen ? exp((double)r->logits[e] - most) : probability(r, e);
            if (!pass)
                sum += w;
            else
                weights[i] = (float)((divide && sum != 0 ? w / sum : w) * (double)p->scale);
        }
}

static void route_row(router *r, float *weights, float *numbers)
{
    if (!begin_row(r)) {
        for (int64_t i = 0; i < r->u->used; i++) {
            weights[i] = NAN;
            numbers[i] = (float)i;
        }
        return;
    }
    memset(r->taken, 0, (size_t)r->u->experts);
    if (r->u->p.groups > 1)
        choose_groups(r);
    for (int64_t e = 0; e < r->u->experts; e++)
        r->score[e] = r->u->bias ? biased(r, e) : r->logits[e];
    for (int64_t i = 0; i < r->u->used; i++)
        numbers[i] = (float)take_best(r);
    weigh(r, weights, numbers);
}

static void run_route(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    const qc_expert_route_node *u = &node->u.expert_route;
    float *score = (float *)(void *)work->scratch;
    router r = {.u = u, .score = score, .taken = (uint8_t *)(score + u->experts)};
    for (int64_t row = begin; row < end; row++) {
        r.logits = qc_row_at(&u->logits, 0, row);
        route_row(&r, qc_row_at(&u->dst, 0, row), qc_row_at(&u->dst, 1, row));
    }
}

static qp_status measure(const qp_device *device, const qp_op *op, qc_scratch *scratch, qp_text *error)
{
    (void)device;
    (void)error;
    uint64_t bytes = (uint64_t)op->src[QP_EXPERT_ROUTE_LOGITS].ne[0] * (sizeof(float) + 1);
    scratch->thread_bytes = bytes > scratch->thread_bytes ? bytes : scratch->thread_bytes;
    return QP_OK;
}

static qp_status launch(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind kind = {run_route, NULL};
    const qk_tensor *logits = &r->src[QP_EXPERT_ROUTE_LOGITS];
    qc_node *node = qc_node_begin(b, &kind, r->dst.ne[2], 1);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.expert_route = (qc_expert_route_node){.logits = qc_rows_of(logits),
                                                  .dst = qc_rows_of(&r->dst),
                                                  .bias = r->src[QP_EXPERT_ROUTE_BIAS].data,
                                                  .experts = logits->ne[0],
                                                  .used = r->dst.ne[0],
                                                  .p = op->p.expert_route};
    node->grain = qc_row_grain(qc_build_get(b)->device, r->dst.ne[2]);
    qc_node_reads(b, logits);
    qc_node_touches_all(b, &r->src[QP_EXPERT_ROUTE_BIAS], 0);
    qc_node_writes(b, &r->dst);
    return qc_node_end(b);
}

static const char *const route_sources[] = {"logits", "the bias"};
const qc_op_row qc_expert_route_row = {.kind = QP_OP_EXPERT_ROUTE,
                                       .name = "expert_route",
                                       .sources = route_sources,
                                       .required = 1u << QP_EXPERT_ROUTE_LOGITS,
                                       .optional = 1u << QP_EXPERT_ROUTE_BIAS,
                                       .check = check_route,
                                       .measure = measure,
                                       .launch = launch};
