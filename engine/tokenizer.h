/* SPDX-License-Identifier: MIT
 * engine/tokenizer.h: what all tokenizer models share: the vocabulary, special tokens in the text, and the table of models.
 * A new model is a file that fills a tokenizer_model and a row in tokenizer.c. */
#ifndef QUERN_ENGINE_TOKENIZER_H
#define QUERN_ENGINE_TOKENIZER_H

#include "engine/gguf.h"

/* A longer piece is no word of any language. It bounds what one position of a text can cost. */
enum { TOKENIZER_MAX_PIECE = 65535, TOKENIZER_MAX_TOKENS = 1 << 24 };
#define TOKENIZER_MAX_TEXT ((size_t)1 << 30)

typedef struct tokenizer_model {
    const char *name;          /* tokenizer.ggml.model */
    int add_bos;               /* where the metadata does not say */
    int32_t bos, eos, unknown; /* where the metadata does not say and such a control token is there; -1: none */
    /* Checks what only this model needs and builds *state. */
    quern_status (*create)(quern_tokenizer *tokenizer, const quern_gguf *gguf, quern_error *error);
    void (*destroy)(quern_tokenizer *tokenizer);
    /* Appends the tokens of a stretch of text (size > 0) between special tokens. */
    quern_status (*encode)(const quern_tokenizer *tokenizer, const char *text, size_t size, quern_token_list *list,
                           quern_error *error);
    /* The bytes of a token that is neither control, unknown nor user-defined: at most size of them; returns how many there are. */
    size_t (*decode)(const quern_tokenizer *tokenizer, int32_t token, int first, char *dst, size_t size);
} tokenizer_model;

struct quern_tokenizer {
    const tokenizer_model *model;
    void *state; /* the model's */

    uint32_t count;
    char *text;        /* all pieces, one after another */
    uint32_t *offsets; /* count + 1 */
    uint8_t *kinds;    /* quern_token_kind */
    uint8_t *stops;
    uint8_t *strips;  /* white space after a special token goes */
    hash_index index; /* piece to token */

    int32_t bos, eos, unknown;
    int add_bos, add_space_prefix;

    /* Tokens that are looked for in the text itself, in byte order; starts[b] is the first whose piece begins with a byte >= b. */
    int32_t *specials;
    uint32_t special_count;
    uint32_t starts[257];
};

static inline quern_string tokenizer_piece(const quern_tokenizer *t, int32_t token)
{
    return (quern_string){t->text + t->offsets[token], t->offsets[token + 1] - t->offsets[token]};
}

/* -1: no such piece. */
int32_t tokenizer_find(const quern_tokenizer *tokenizer, const char *piece, size_t size);
/* Appends one token; QP_ERR_OUT_OF_MEMORY. */
quern_status tokenizer_push(quern_token_list *list, int32_t token, quern_error *error);

/* A stretch of a text [begin, end) in which special tokens are looked for. */
typedef struct tokenizer_span {
    size_t begin, end;
} tokenizer_span;

/* Texts that are in part markup and in part a stranger's words. */
typedef struct tokenizer_marks {
    const tokenizer_span *spans; /* in order, without overlap; elsewhere text stays text */
    size_t count;
    const uint8_t *guarded; /* one byte a token: user-defined ones that are not looked for outside the spans either; NULL: none */
} tokenizer_marks;

/* Appends the tokens of text as quern_tokenize does, without a BOS token. QP_ERR_UNSUPPORTED when the vocabulary makes a control
 * or guarded token out of ordinary text all the same, *list is then as it was. */
quern_status tokenizer_encode_marked(const quern_tokenizer *tokenizer, const char *text, size_t size, const tokenizer_marks *marks,
                                     quern_token_list *list, quern_error *error);

extern const tokenizer_model tokenizer_spm;
extern const tokenizer_model tokenizer_bpe;

#endif
