/* SPDX-License-Identifier: MIT
 * What the metadata says about mixtures of experts. */
#include "engine/hparams.h"

enum { GATE_DEFAULT = 0, GATE_SOFTMAX = 1, GATE_SIGMOID = 2, GATE_SOFTMAX_CHOSEN = 3 }; /* as files number them */

static void read_counts(metadata *md, expert_hparams *e, int required)
{
    e->count = metadata_count(md, "expert_count", required ? KEY_REQUIRED : KEY_OPTIONAL, !required, 0);
    if (md->status != QP_OK || !e->count)
        return;
    e->used = metadata_count(md, "expert_used_count", KEY_REQUIRED, 0, 0);
    if (md->status == QP_OK && e->used > e->count)
        metadata_fail(md, QP_ERR_FORMAT, "%s.expert_used_count is %u of %u experts", md->architecture, e->used, e->count);
}

static uint32_t read_gate(metadata *md, uint32_t gate)
{
    uint32_t value = metadata_count(md, "expert_gating_func", KEY_OPTIONAL, 1, GATE_DEFAULT);
    switch (value) {
    case GATE_DEFAULT: return gate;
    case GATE_SOFTMAX: return QP_GATE_SOFTMAX;
    case GATE_SIGMOID: return QP_GATE_SIGMOID;
    case GATE_SOFTMAX_CHOSEN: return QP_GATE_SOFTMAX_CHOSEN;
    default:
        metadata_fail(md, QP_ERR_UNSUPPORTED, "%s.expert_gating_func is %u: this gate is not supported", md->architecture, value);
        return gate;
    }
}

static void read_groups(metadata *md, const expert_hparams *e, qp_expert_route_params *route)
{
    route->groups = metadata_count(md, "expert_group_count", KEY_OPTIONAL, 1, 0);
    if (route->groups <= 1 || md->status != QP_OK)
        return;
    route->groups_used = metadata_count(md, "expert_group_used_count", KEY_REQUIRED, 0, 0);
    if (md->status == QP_OK &&
        (e->count % route->groups || route->groups_used > route->groups || e->used > e->count / route->groups * route->groups_used))
        metadata_fail(md, QP_ERR_FORMAT, "%s.expert_group_count: %u of %u experts cannot be chosen from %u of %u groups",
                      md->architecture, e->used, e->count, route->groups_used, route->groups);
}

static void read_route(metadata *md, expert_hparams *e, const expert_defaults *defaults)
{
    qp_expert_route_params *route = &e->route;
    route->gate = read_gate(md, defaults->gate);
    /* false says nothing: writers that fill in every key put it also where weights are normalised */
    int normalise = metadata_count(md, "expert_weights_norm", KEY_OPTIONAL, 1, 0) || defaults->normalise;
    route->flags = normalise ? QP_EXPERT_NORMALISE : 0;
    float scale = metadata_float(md, "expert_weights_scale", KEY_OPTIONAL, 0);
    route->scale = scale != 0 ? scale : 1;
    read_groups(md, e, route);
}

/* Features of one expert. */
static void read_sizes(metadata *md, const hparams *hp, expert_hparams *e, const expert_defaults *defaults)
{
    uint32_t dense = hp->layer[0].feed_forward, all = defaults->split ? e->used : 1;
    e->feed_forward = metadata_count(md, "expert_feed_forward_length", KEY_OPTIONAL, 1, 0);
    if (!e->feed_forward)
        e->feed_forward = dense / all;
    if (defaults->shared) {
        e->shared = metadata_count(md, "expert_shared_feed_forward_length", KEY_OPTIONAL, 1, 0);
        e->shared = e->shared ? e->shared : dense;
        if (metadata_count(md, "expert_shared_count", KEY_OPTIONAL, 1, 0) > 1)
            metadata_fail(md, QP_ERR_UNSUPPORTED, "%s.expert_shared_count: more than one shared expert is not supported",
                          md->architecture);
    }
    if (md->status == QP_OK && (!e->feed_forward || (defaults->shared && !e->shared)))
        metadata_fail(md, QP_ERR_FORMAT, "the metadata has neither %s.expert_feed_forward_length nor feed_forward_length",
                      md->architecture);
}

void hparams_read_experts(metadata *md, hparams *hp, const expert_defaults *defaults)
{
    expert_hparams e = {0};
    read_counts(md, &e, defaults->required);
    if (md->status != QP_OK || !e.count)
        return;
    read_route(md, &e, defaults);
    read_sizes(md, hp, &e, defaults);
    uint32_t first = defaults->all ? 0 : metadata_count(md, "leading_dense_block_count", KEY_OPTIONAL, 1, 0);
    for (uint32_t i = 0; i < hp->layers && md->status == QP_OK; i++) {
        hp->layer[i].experts = i >= first;
        if (i < first && !hp->layer[i].feed_forward)
            metadata_fail(md, QP_ERR_FORMAT, "layer %u is dense, but the metadata has no %s.feed_forward_length", i,
                          md->architecture);
    }
    hp->experts = e;
}
