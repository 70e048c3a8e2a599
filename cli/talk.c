/* SPDX-License-Identifier: MIT */
#include "cli/talk.h"
#include "cli/output.h"

#include <stdlib.h>
#include <string.h>

/* ---- who said what ---- */

static char *copy(const char *text, size_t size)
{
    char *out = malloc(size + 1);
    if (!out)
        return NULL;
    if (size)
        memcpy(out, text, size);
    out[size] = '\0';
    return out;
}

static void free_message(talk_message *m)
{
    free(m->text);
    free(m->thinking);
    free(m->tokens);
    *m = (talk_message){0};
}

static int make_room(talk *t)
{
    if (t->count < t->capacity)
        return CLI_OK;
    size_t larger = t->capacity ? 2 * t->capacity : 16;
    talk_message *grown = realloc(t->messages, larger * sizeof *grown);
    if (!grown)
        return cli_fail("no memory for %zu messages", larger);
    t->messages = grown;
    t->capacity = larger;
    return CLI_OK;
}

int talk_add(talk *t, quern_chat_role role, const char *text, size_t size)
{
    if (make_room(t) != CLI_OK)
        return CLI_FAILED;
    char *words = copy(text, size);
    if (!words)
        return cli_fail("no memory for a message of %zu bytes", size);
    t->messages[t->count++] = (talk_message){.role = role, .text = words, .size = size};
    return CLI_OK;
}

const talk_message *talk_system(const talk *t)
{
    return t->count && t->messages[0].role == QUERN_CHAT_SYSTEM ? &t->messages[0] : NULL;
}

static void drop_at(talk *t, size_t at)
{
    free_message(&t->messages[at]);
    t->count--;
    memmove(&t->messages[at], &t->messages[at + 1], (t->count - at) * sizeof *t->messages);
}

int talk_set_system(talk *t, const char *text, size_t size)
{
    int had = talk_system(t) != NULL, status = CLI_OK;
    if (size && (status = talk_add(t, QUERN_CHAT_SYSTEM, text, size)) != CLI_OK)
        return status;
    if (had)
        drop_at(t, 0);
    if (!size)
        return CLI_OK;
    talk_message system = t->messages[t->count - 1];
    memmove(&t->messages[1], &t->messages[0], (t->count - 1) * sizeof *t->messages);
    t->messages[0] = system;
    return CLI_OK;
}

size_t talk_turns(const talk *t)
{
    return (t->count - (talk_system(t) != NULL) + 1) / 2;
}

void talk_drop_last(talk *t)
{
    if (t->count)
        drop_at(t, t->count - 1);
}

void talk_set_aside(talk *t)
{
    free_message(&t->aside);
    t->aside = t->messages[--t->count];
}

void talk_settle(talk *t, int answered)
{
    if (answered)
        free_message(&t->aside);
    else if (t->aside.text)
        t->messages[t->count++] = t->aside; /* in the place it had */
    else
        talk_drop_last(t);
    t->aside = (talk_message){0};
}

void talk_drop_oldest(talk *t)
{
    size_t first = talk_system(t) != NULL;
    for (int i = 0; i < 2 && t->count > first; i++)
        drop_at(t, first);
}

void talk_reset(talk *t)
{
    while (t->count > (size_t)(talk_system(t) != NULL))
        talk_drop_last(t);
}

void talk_free(talk *t)
{
    while (t->count)
        talk_drop_last(t);
    free_message(&t->aside);
    free(t->messages);
    *t = (talk){0};
}
