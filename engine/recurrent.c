/* SPDX-License-Identifier: MIT */
#include "engine/recurrent.h"

#include <stdio.h>
#include <stdlib.h>

/* A contiguous F32 tensor whose bytes are added to *sum; 0 when they overflow. */
static int shape(qp_tensor *t, int64_t ne0, int64_t ne1, int64_t ne2, uint64_t *sum)
{
    *t = (qp_tensor){.format = QP_FORMAT_F32, .ne = {ne0, ne1, ne2, 1}, .nb = {sizeof(float)}};
    for (int i = 1; i < 4; i++)
        if (__builtin_mul_overflow(t->nb[i - 1], t->ne[i - 1], &t->nb[i]))
            return 0;
    return !__builtin_add_overflow(*sum, (uint64_t)t->nb[3], sum) && *sum <= INT64_MAX;
}

quern_status recurrent_init(recurrent_state *state, const hparams *hp, uint64_t *bytes, quern_error *error)
{
    *bytes = 0;
    *state = (recurrent_state){.layers = hp->layers};
    state->conv = calloc(2 * (size_t)hp->layers, sizeof *state->conv);
    state->conv_place = calloc(2 * (size_t)hp->layers, sizeof *state->conv_place);
    if (!state->conv || !state->conv_place)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for the recurrent states of %u layers", hp->layers);
    state->rule = state->conv + hp->layers;
    state->rule_place = state->conv_place + hp->layers;
    for (uint32_t i = 0; i < hp->layers; i++) {
        const delta_hparams *d = &hp->layer[i].delta;
        if (d->value_heads && (!shape(&state->conv[i], delta_channels(d), d->conv_width - 1, 1, bytes) ||
                               !shape(&state->rule[i], d->value_size, d->key_size, d->value_heads, bytes)))
            return quern_fail(error, QP_ERR_OUT_OF_MEMORY,
                              "the recurrent state of layer %u (%u heads of %u x %u) is larger than any memory", i, d->value_heads,
                              d->key_size, d->value_size);
    }
    return QP_OK;
}

void recurrent_free(recurrent_state *state)
{
    free(state->conv);
    free(state->conv_place);
    *state = (recurrent_state){0};
}

quern_status recurrent_plan(recurrent_state *state, placement *p, quern_error *error)
{
    for (uint32_t i = 0; i < state->layers; i++) {
        char what[64];
        if (!state->rule[i].ne[0])
            continue;
        snprintf(what, sizeof what, "the recurrent state of layer %u", i);
        quern_status status = placement_add(p, (uint64_t)state->conv[i].nb[3], 0, what, &state->conv_place[i], error);
        if (status == QP_OK)
            status = placement_add(p, (uint64_t)state->rule[i].nb[3], 0, what, &state->rule_place[i], error);
        if (status != QP_OK)
            return status;
    }
    return QP_OK;
}

void recurrent_bind(recurrent_state *state, const placement *p)
{
    for (uint32_t i = 0; i < state->layers; i++) {
        if (!state->rule[i].ne[0])
            continue;
        placement_bind(p, state->conv_place[i], (uint64_t)state->conv[i].nb[3], &state->conv[i]);
        placement_bind(p, state->rule_place[i], (uint64_t)state->rule[i].nb[3], &state->rule[i]);
    }
}
