/* SPDX-License-Identifier: MIT
 * engine/blocks.h: the pieces that architectures are put together from, written down as ops of a graph. What differs between models
 * comes from their hparams and from which weights they have. */
#ifndef ENGINE_BLOCKS_H
#define ENGINE_BLOCKS_H

#include "engine/hparams.h"
#include "engine/weights.h"

#include <quern/graph.h>

/* What explain and profiles see: the op's part of the model, and its layer plus one above it. X(NAME, words) */
#define TAG_LIST(X)                                                                                                                \
    X(EMBEDDING, "embedding")                                                                                                      \
    X(ATTENTION_NORM, "attention norm")                                                                                            \
    X(Q, "Q")                                                                                                                      \
    X(K, "K")                                                                                                                      \
    X(V, "V")                                                                                                                      \
    X(QK_NORM, "q/k norm")                                                                                                         \
    X(ROPE, "rope")                                                                                                                \
    X(KV_APPEND, "KV append")                                                                                                      \
    X(ATTENTION, "attention")                                                                                                      \
    X(ATTENTION_OUTPUT, "attention output")                                                                                        \
    X(MLP_NORM, "MLP norm")                                                                                                        \
    X(GATE, "gate")                                                                                                                \
    X(UP, "up")                                                                                                                    \
    X(GLU, "GLU")                                                                                                                  \
    X(DOWN, "down")                                                                                                                \
    X(SELECT, "row selection")                                                                                                     \
    X(OUTPUT_NORM, "output norm")                                                                                                  \
    X(OUTPUT, "logits")                                                                                                            \
    X(SAMPLE, "sampling")                                                                                                          \
    X(QKV, "Q, K and V")                                                                                                           \
    X(POST_NORM, "norm after the block")                                                                                           \
    X(RESIDUAL, "residual sum")                                                                                                    \
    X(SOFTCAP, "soft cap")                                                                                                         \
    X(CONV, "short convolution")                                                                                                   \
    X(DECAY, "decay")                                                                                                              \
    X(BETA, "beta")                                                                                                                \
    X(DELTA_RULE, "delta rule")                                                                                                    \
    X(HEAD_NORM, "norm of each head")                                                                                              \
    X(OUTPUT_GATE, "output gate")                                                                                                  \
    X(ROUTER, "router")                                                                                                            \
    X(ROUTE, "choice of experts")                                                                                                  \
    X(EXPERT_GATE, "experts' gate")                                                                                                \
    X(EXPERT_UP, "experts' up")                                                                                                    \
    X(EXPERT_GLU, "experts' GLU")                                                                                                  \
    X(EXPERT_DOWN, "experts' down")                                                                                                \
    X(SHARED_GATE, "shared expert's share")

enum {
    TAG_NONE = 0,
#define TAG_ENUM(NAME, words) TAG_##NAME,
    TAG_LIST(TAG_ENUM)
#undef TAG_ENUM
        TAG_LAYER = 256
};

/* The words of an op's part; "" for none. *layer: its number, -1 for what belongs to no layer. */
const char *tag_words(uint32_t tag, int32_t *layer);

/* One program under construction. Shapes count `rows` tokens; `live` says at run time how many of them are real. */
typedef struct builder {
    quern_graph *graph;
    const hparams *hp;
    const model_weights *weights;
    const qp_tensor *k_cache, *v_cache;       /* one each for every layer */
    const qp_tensor *conv_state, *rule_state; /* likewise, of layers of the gated delta rule */
    uint32_t rows;
    uint32_t matmul_flags;                 /* QP_MATMUL_FLOAT or none, of every matrix product */
    quern_value live;                      /* 0: every row */
    quern_value tokens[WEIGHT_MOST_PARTS]; /* numbers of rows in each part of the embedding; outside it where they are in another */
    quern_value positions;
    quern_value rope_factors; /* of rope[0]; 0: none */
    quern_value selected;     /* ids of the rows that logits are wanted of; 0: all of them */
    uint32_t selected_rows;
    quern_value selected_live;
    quern_value logits, sampled; /* where the results go */
} builder;

quern_value bind_weight(builder *b, const weight *w); /* one that is in one part; NULL gives 0 */

/* {embedding, 1, rows} from the token ids. */
quern_value block_embedding(builder *b);
/* x + post_norm(output(attention(norm(x)))), with the norm after it where the model has one. In the last layer only the selected
 * rows go on after the attention itself: the rest of the model then works on those alone. Overwrites x. */
quern_value block_attention(builder *b, uint32_t layer, quern_value x);
/* x + output(silu(gate) · norm(delta rule(convolution(qkv)))), in place of attention; the last layer likewise. Overwrites x. */
quern_value block_delta(builder *b, uint32_t layer, quern_value x);
/* x + post_norm(down(act(gate(norm(x))) · up(norm(x)))), likewise; hparams.mlp says what is gated. Overwrites x. In a
 * layer with experts block_experts. */
quern_value block_mlp(builder *b, uint32_t layer, quern_value x);
/* The same with a mixture of experts, added up, in place of the one MLP: what block_mlp does in layers that are one. */
quern_value block_experts(builder *b, uint32_t layer, quern_value x);
/* Output norm, logits, their soft cap where there is one, and the most likely token. */
void block_logits(builder *b, quern_value x);
/* The whole of a model whose layers are all block_attention and block_mlp. */
void block_dense(builder *b);

#endif
