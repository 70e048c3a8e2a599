/* SPDX-License-Identifier: MIT
 * engine/arch/arch.h: the table of architectures. A new one is one file beside this one and one row of
 * ARCH_LIST (and of engine/meson.build). */
#ifndef ENGINE_ARCH_ARCH_H
#define ENGINE_ARCH_ARCH_H

#include "engine/blocks.h"
#include "engine/hparams.h"
#include "engine/weights.h"

typedef struct arch {
    const char *name; /* general.architecture */
    /* Fills hp from the metadata. A key of metadata_features.c that it does not ask for is refused by name. Failures stay in md. */
    void (*read)(metadata *md, hparams *hp);
    /* Declares every tensor with its shape. Failures stay in set. */
    void (*weights)(weight_set *set, const hparams *hp, model_weights *weights);
    /* Writes down the ops from token ids to logits. Failures stay in the graph. */
    void (*build)(builder *b);
} arch;

const arch *arch_find(const char *name); /* NULL: not known */
/* The names of the table, separated by a comma; returns dst. */
const char *arch_names(char *dst, size_t size);

/* The table: X(name) for every architecture, each of which defines arch_name. */
#define ARCH_LIST(X)                                                                                                               \
    X(llama)                                                                                                                       \
    X(qwen2)                                                                                                                       \
    X(qwen2moe)                                                                                                                    \
    X(qwen3)                                                                                                                       \
    X(qwen3moe)                                                                                                                    \
    X(qwen35)                                                                                                                      \
    X(qwen35moe)                                                                                                                   \
    X(gpt_oss)                                                                                                                     \
    X(granite)                                                                                                                     \
    X(granitemoe)                                                                                                                  \
    X(smollm3)                                                                                                                     \
    X(gemma)                                                                                                                       \
    X(gemma2)                                                                                                                      \
    X(gemma3)                                                                                                                      \
    X(phi3)                                                                                                                        \
    X(starcoder2)

#define ARCH_DECLARE(name) extern const arch arch_##name;
ARCH_LIST(ARCH_DECLARE)
#undef ARCH_DECLARE

#endif
