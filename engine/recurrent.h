/* SPDX-License-Identifier: MIT
 * engine/recurrent.h: the shape and place of what a session's recurrent layers remember: for each of them the last inputs of its
 * convolution, {channels, width - 1}, and the state of its delta rule, {value size, key size, value heads}. Their size does not
 * depend on the context, and there is one for the whole of the past: a session can go on or begin anew, never back. */
#ifndef ENGINE_RECURRENT_H
#define ENGINE_RECURRENT_H

#include "engine/hparams.h"
#include "engine/placement.h"

typedef struct recurrent_state {
    uint32_t layers;
    qp_tensor *conv, *rule; /* one each for every layer, ne[0] == 0 where it has none; no buffer before recurrent_bind */
    place *conv_place, *rule_place;
} recurrent_state;

/* Sets the shapes, and gives the bytes they take together: 0 for a model without recurrent layers. */
quern_status recurrent_init(recurrent_state *state, const hparams *hp, uint64_t *bytes, quern_error *error);
void recurrent_free(recurrent_state *state);
quern_status recurrent_plan(recurrent_state *state, placement *p, quern_error *error);
void recurrent_bind(recurrent_state *state, const placement *p);

#endif
