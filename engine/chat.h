/* SPDX-License-Identifier: MIT
 * engine/chat.h: conversations as text in parts: markup and strangers' words are kept apart, so that words are never taken for
 * markup. A family of templates is a row in chat_families.c. */
#ifndef ENGINE_CHAT_H
#define ENGINE_CHAT_H

#include "engine/tokenizer.h"

enum { CHAT_NEEDLES = 4, CHAT_TOKENS = 8 };

/* What a family does beside putting strings around messages. */
enum {
    CHAT_BOS = 1u << 0,           /* begins with the BOS token, where no template of the model's says otherwise */
    CHAT_TRIM = 1u << 1,          /* white space around a user's text goes; */
    CHAT_TRIM_ANSWER = 1u << 2,   /* around an answer; */
    CHAT_TRIM_SYSTEM = 1u << 3,   /* around the system's */
    CHAT_FOLD = 1u << 4,          /* the system's text, between `system`, is part of the first user's */
    CHAT_FOLD_LAST = 1u << 5,     /* … of the last user's */
    CHAT_DROP_THINKING = 1u << 6, /* of past answers, up to </think>; */
    CHAT_DROP_NEWLINES = 1u << 7, /* and the newlines behind it */
    CHAT_CHANNELS = 1u << 8,      /* answers come in channels; thinking has one of its own, and is not kept */
    CHAT_LATE_DEFAULT = 1u << 9,  /* the default system text stands between quotes behind `default_at` */
};

typedef struct chat_writer chat_writer;

typedef struct chat_family {
    quern_chat_family info;
    /* In the template's text: all of `has` and none of `lacks`. One that begins with '~' is looked for in the text without white
     * space and with single quotes. The first family that fits is taken. */
    const char *has[CHAT_NEEDLES], *lacks[CHAT_NEEDLES];
    uint32_t flags; /* CHAT_* */
    /* In front of and behind a text. \1 is the EOS token, \2 BOS. */
    const char *system[2], *user[2], *answer[2];
    const char *open;       /* what an answer begins behind */
    const char *no_think;   /* follows `open` to keep the model from thinking; NULL: there is no such thing */
    const char *default_at; /* in the template, in front of the system text it takes where there is none */
    void (*render)(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count,
                   uint32_t flags);  /* NULL: by the strings above */
    const char *tokens[CHAT_TOKENS]; /* that the markup is made of */
    const char *ends;                /* the one of them that ends an answer; NULL: EOS */
} chat_family;

struct quern_chat {
    const quern_tokenizer *tokenizer;
    const chat_family *family;
    uint8_t *guarded;                       /* by token: user-defined ones that are this family's markup or end an answer */
    char *template;                         /* the model's, terminated; "" where there is none or another family was asked for */
    char *fallback;                         /* system text where there is none; NULL: none */
    int bos;                                /* the markup begins with BOS */
    int trims;                              /* every text, whatever the family does */
    int opens_thinking, has_switch, thinks; /* an answer begins inside <think>; the two flags work; what it does without a flag */
    int64_t now;
    int32_t end, think, end_think;             /* tokens, -1: none */
    int32_t channel, message, start, end_part; /* gpt-oss */
};

extern const chat_family chat_families[];
extern const uint32_t chat_family_count;

/* ---- writing ---- */

typedef enum chat_kind { CHAT_WORDS, CHAT_MARKUP, CHAT_BOS_TOKEN, CHAT_EOS_TOKEN, CHAT_IDS } chat_kind;

typedef struct chat_piece {
    chat_kind kind;
    size_t begin, size; /* in the text */
    const int32_t *ids;
    size_t id_count;
} chat_piece;

struct chat_writer {
    char *text;
    size_t size, capacity;
    chat_piece *pieces;
    size_t count, piece_capacity;
    int ids;             /* messages' own tokens are used */
    quern_status status; /* the first failure; what comes after it does nothing */
    quern_error *error;
};

/* Markup: special tokens in it count. \1 and \2 as in chat_family. NULL: nothing. */
void chat_markup(chat_writer *w, const char *text);
/* Words: never markup. */
void chat_words(chat_writer *w, const char *text, size_t size);
void chat_writer_free(chat_writer *w);

/* All of a conversation that has been checked. */
void chat_render(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count, uint32_t flags);

/* Without the white space (Unicode's) at both ends. */
quern_string chat_trim(quern_string text);
quern_string chat_trim_end(quern_string text);
/* A message's text as this family shows it. */
quern_string chat_message_text(const quern_chat *chat, const quern_chat_message *message);
/* Past answers: their own tokens, or `lead` and the text. */
void chat_answer(const quern_chat *chat, chat_writer *w, const quern_chat_message *message, const char *lead);
/* Whether the answer is to think. */
int chat_thinks(const quern_chat *chat, uint32_t flags);

#endif
