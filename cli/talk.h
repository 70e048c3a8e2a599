/* SPDX-License-Identifier: MIT
 * cli/talk.h: a conversation: who said what, and getting an answer to it. */
#ifndef CLI_TALK_H
#define CLI_TALK_H

#include "cli/generate.h"

typedef struct talk_message {
    quern_chat_role role;
    char *text; /* owned, terminated */
    size_t size;
    char *thinking; /* of an answer, NULL: none */
    size_t thinking_size;
    int32_t *tokens; /* of an answer that the model made here; NULL: none that can be used again */
    size_t token_count;
} talk_message;

/* A system message or none, then the user and the assistant in turn. */
typedef struct talk {
    talk_message *messages;
    size_t count, capacity;
    talk_message aside; /* the answer that another one is tried in place of; text NULL: none */
} talk;

/* These give an exit status. Text is copied. */
int talk_add(talk *t, quern_chat_role role, const char *text, size_t size);
/* size 0: there shall be none. */
int talk_set_system(talk *t, const char *text, size_t size);
const talk_message *talk_system(const talk *t); /* NULL: none */
/* Turns of the user that have been answered, or wait for an answer. */
size_t talk_turns(const talk *t);
void talk_drop_last(talk *t);
/* Puts the answer at the end aside, for another try. */
void talk_set_aside(talk *t);
/* After a try: the answer that was put aside goes when there is a new one. Else it comes back; where there was none, the user's message at
 * the end is taken back. */
void talk_settle(talk *t, int answered);
/* The oldest turn of the user and its answer. */
void talk_drop_oldest(talk *t);
/* All but the system message. */
void talk_reset(talk *t);
void talk_free(talk *t);

/* What answering takes, and what it came to. */
typedef struct talk_model {
    cli_model model;
    quern_gguf *gguf; /* the chat's */
    quern_tokenizer *tokenizer;
    quern_chat *chat;
    quern_sampler *sampler;
    uint32_t flags; /* QUERN_CHAT_* */
    uint32_t count; /* tokens of an answer at most */
    int shift;      /* a conversation that is too long loses its oldest turns */
    int json;       /* one object for each answer, in place of the text */
    cli_score_args score;
    void (*begin)(void *ctx); /* called when an answer's first token is there; NULL: nothing */
    void *begin_ctx;
    uint64_t answers, prompt_tokens, reused_tokens, answer_tokens, dropped; /* in all; dropped: turns */
    double prefill_seconds, decode_seconds;
    cli_generation last; /* numbers of the last answer; its texts are gone */
} talk_model;

/* Answers the user's message at the end of t and adds the answer, also one that was stopped. Where there is none (an error, which
 * has been said; Ctrl-C before the first token) the user's message is taken back, or the answer put aside stands again. Gives an
 * exit status. */
int talk_answer(talk_model *m, talk *t);

/* ---- as files (talk_file.c) ---- */

/* JSON: {"quern_chat": 1, "model": …, "template": …, "messages": [{"role", "content", "thinking"}, …]}. */
int talk_save(const talk *t, const talk_model *m, const char *path);
/* Takes the place of *t, which stays as it is when the file is not good. */
int talk_load(talk *t, const char *path);
/* The same from memory; name is for errors. */
int talk_parse(talk *t, const char *data, size_t size, const char *name);

#endif
