/* SPDX-License-Identifier: MIT
 * engine/pretokenizer.h: how byte-level BPE vocabularies want a text cut into words before anything is merged; no token ever
 * reaches across a cut. The rules are regular expressions that belong to the models; GGUF names them in tokenizer.ggml.pre. */
#ifndef QUERN_ENGINE_PRETOKENIZER_H
#define QUERN_ENGINE_PRETOKENIZER_H

#include <quern/engine.h>

typedef struct pretokenizer pretokenizer;

/* What else goes with the name. */
typedef struct pretokenizer_traits {
    int ignore_merges; /* a word that is a token is taken whole, whatever the merges would make of it */
    int add_bos;       /* where the metadata does not say */
} pretokenizer_traits;

typedef quern_status (*pretokenizer_word)(void *ctx, const char *text, size_t size);

/* QP_ERR_UNSUPPORTED for a name that is not known, and for every name where the library was built without PCRE2. */
quern_status pretokenizer_create(quern_string name, pretokenizer **out, pretokenizer_traits *traits, quern_error *error);
void pretokenizer_destroy(pretokenizer *pre);

/* Hands every byte of the text on, in order, a word at a time, and stops at the first that does not return QP_OK. Bytes that are
 * not UTF-8 are words of their own. Any number of threads may do this at once. */
quern_status pretokenizer_split(const pretokenizer *pre, const char *text, size_t size, pretokenizer_word word, void *ctx,
                                quern_error *error);

#endif
