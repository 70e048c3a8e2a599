/* SPDX-License-Identifier: MIT
 * engine/chat_text.c: a conversation written down in pieces, by the strings of its family or by the family's own function. */
#include "engine/chat.h"
#include "engine/utf8.h"

/* ---- the writer ---- */

static void fail_memory(chat_writer *w, size_t size)
{
    w->status = quern_fail(w->error, QP_ERR_OUT_OF_MEMORY, "no memory for a conversation of %zu bytes", size);
}

static void *grown(chat_writer *w, void *data, size_t need, size_t *capacity, size_t each)
{
    if (need <= *capacity)
        return data;
    size_t larger = *capacity ? 2 * *capacity : 64;
    while (larger < need)
        larger *= 2;
    void *bigger = realloc(data, larger * each);
    if (!bigger) {
        fail_memory(w, need);
        return NULL;
    }
    *capacity = larger;
    return bigger;
}

static void put_piece(chat_writer *w, chat_piece piece)
{
    chat_piece *pieces = w->status == QP_OK ? grown(w, w->pieces, w->count + 1, &w->piece_capacity, sizeof *pieces) : NULL;
    if (!pieces)
        return;
    w->pieces = pieces;
    w->pieces[w->count++] = piece;
}

static void put_text(chat_writer *w, chat_kind kind, const char *text, size_t size)
{
    if (!size || w->status != QP_OK)
        return;
    if (size > TOKENIZER_MAX_TEXT - w->size) {
        w->status = quern_fail(w->error, QP_ERR_INVALID, "a conversation of more than %zu bytes is too long", TOKENIZER_MAX_TEXT);
        return;
    }
    char *larger = grown(w, w->text, w->size + size, &w->capacity, 1);
    if (!larger)
        return;
    w->text = larger;
    memcpy(w->text + w->size, text, size);
    put_piece(w, (chat_piece){.kind = kind, .begin = w->size, .size = size});
    w->size += size;
}

void chat_markup(chat_writer *w, const char *text)
{
    while (text && *text) {
        size_t size = strcspn(text, "\1\2");
        put_text(w, CHAT_MARKUP, text, size);
        text += size;
        if (*text)
            put_piece(w, (chat_piece){.kind = *text++ == '\1' ? CHAT_EOS_TOKEN : CHAT_BOS_TOKEN, .begin = w->size});
    }
}

void chat_words(chat_writer *w, const char *text, size_t size)
{
    put_text(w, CHAT_WORDS, text, size);
}

void chat_writer_free(chat_writer *w)
{
    free(w->text);
    free(w->pieces);
    *w = (chat_writer){0};
}

/* ---- texts ---- */

/* Bytes of the white space that text begins with, as Python's str.strip sees it; 0: none. */
static size_t space_at(const char *text, size_t size)
{
    unsigned char c = (unsigned char)text[0];
    if ((c >= 9 && c <= 13) || (c >= 28 && c <= 32))
        return 1;
    if (size >= 2 && c == 0xc2 && ((unsigned char)text[1] == 0x85 || (unsigned char)text[1] == 0xa0))
        return 2;
    if (size < 3 || c < 0xe1 || c > 0xe3)
        return 0;
    uint32_t code = (c & 15u) << 12 | ((unsigned char)text[1] & 63u) << 6 | ((unsigned char)text[2] & 63u);
    int space = code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
                code == 0x205f || code == 0x3000;
    return space ? 3 : 0;
}

quern_string chat_trim_end(quern_string text)
{
    for (;;) {
        size_t cut = 0;
        for (size_t n = 1; !cut && n <= 3 && n <= text.size; n++)
            cut = space_at(text.data + text.size - n, n) == n ? n : 0;
        if (!cut)
            return text;
        text.size -= cut;
    }
}

quern_string chat_trim(quern_string text)
{
    size_t cut;
    while (text.size && (cut = space_at(text.data, text.size)))
        text.data += cut, text.size -= cut;
    return chat_trim_end(text);
}

/* What follows the last </think>. */
static quern_string drop_thinking(quern_string text, int newlines)
{
    static const char end[] = "</think>";
    int found = 0;
    for (const char *at; text.size && (at = memmem(text.data, text.size, end, sizeof end - 1)); found = 1)
        text = (quern_string){at + sizeof end - 1, text.size - (size_t)(at - text.data) - (sizeof end - 1)};
    while (found && newlines && text.size && text.data[0] == '\n')
        text.data++, text.size--;
    return text;
}

quern_string chat_message_text(const quern_chat *chat, const quern_chat_message *message)
{
    uint32_t flags = chat->family->flags;
    quern_string text = {message->text, message->size};
    if (chat->trims)
        text = chat_trim(text);
    if (message->role == QUERN_CHAT_ASSISTANT && flags & CHAT_DROP_THINKING)
        text = drop_thinking(text, (flags & CHAT_DROP_NEWLINES) != 0);
    uint32_t trims = message->role == QUERN_CHAT_ASSISTANT ? CHAT_TRIM_ANSWER
                     : message->role == QUERN_CHAT_SYSTEM  ? CHAT_TRIM_SYSTEM
                                                           : CHAT_TRIM;
    return flags & trims ? chat_trim(text) : text;
}

void chat_answer(const quern_chat *chat, chat_writer *w, const quern_chat_message *message, const char *lead)
{
    if (w->ids && message->tokens) {
        put_piece(w, (chat_piece){.kind = CHAT_IDS, .begin = w->size, .ids = message->tokens, .id_count = message->token_count});
        return;
    }
    quern_string text = chat_message_text(chat, message);
    chat_markup(w, lead);
    chat_words(w, text.data, text.size);
}

int chat_thinks(const quern_chat *chat, uint32_t flags)
{
    return flags & QUERN_CHAT_NO_THINK ? 0 : flags & QUERN_CHAT_THINK ? 1 : chat->thinks;
}

/* ---- by the strings of a family ---- */

/* A user's turn, with the system's text inside where `system` is given. */
static void put_user(const quern_chat *chat, chat_writer *w, const quern_chat_message *message, const quern_chat_message *system)
{
    const chat_family *f = chat->family;
    quern_string text = chat_message_text(chat, message);
    chat_markup(w, f->user[0]);
    if (system) {
        quern_string words = chat_message_text(chat, system);
        chat_markup(w, f->system[0]);
        chat_words(w, words.data, words.size);
        chat_markup(w, f->system[1]);
        if (f->system[0][0]) /* the two are one text before they are trimmed: its beginning is the markup */
            text = f->flags & CHAT_TRIM ? chat_trim_end((quern_string){message->text, message->size}) : text;
    }
    chat_words(w, text.data, text.size);
    chat_markup(w, f->user[1]);
}

static void put_system(const quern_chat *chat, chat_writer *w, const quern_chat_message *system)
{
    const chat_family *f = chat->family;
    quern_string own = system ? chat_message_text(chat, system) : (quern_string){"", 0};
    if (!system && !chat->fallback)
        return;
    chat_markup(w, f->system[0]);
    if (system)
        chat_words(w, own.data, own.size);
    else
        chat_markup(w, chat->fallback);
    chat_markup(w, f->system[1]);
}

/* Where an answer's text begins with a space that belongs to the turn, the model has made that space itself. */
static void put_answer(const quern_chat *chat, chat_writer *w, const quern_chat_message *message)
{
    const char *lead = chat->family->answer[0];
    int made =
        !strcmp(lead, " ") || (lead[0] && lead[strlen(lead) - 1] == ' ' && !strncmp(lead, chat->family->open, strlen(lead) - 1));
    if (!made) {
        chat_markup(w, lead);
        chat_answer(chat, w, message, "");
    } else {
        if (strcmp(lead, " "))
            chat_markup(w, chat->family->open);
        chat_answer(chat, w, message, " ");
    }
    chat_markup(w, chat->family->answer[1]);
}

static void render_plain(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count, uint32_t flags)
{
    const chat_family *f = chat->family;
    const quern_chat_message *system = messages[0].role == QUERN_CHAT_SYSTEM ? &messages[0] : NULL;
    size_t first = system != NULL, folded = f->flags & CHAT_FOLD ? first : f->flags & CHAT_FOLD_LAST ? count - 1 : count;
    if (chat->bos && !(f->user[0][0] == '\2'))
        chat_markup(w, "\2");
    if (folded == count)
        put_system(chat, w, system);
    for (size_t i = first; i < count; i++) {
        if (messages[i].role == QUERN_CHAT_USER)
            put_user(chat, w, &messages[i], i == folded ? system : NULL);
        else
            put_answer(chat, w, &messages[i]);
    }
    chat_markup(w, f->open);
    if (chat->opens_thinking && chat_thinks(chat, flags))
        chat_markup(w, "<think>\n");
    else if (f->no_think && !chat_thinks(chat, flags))
        chat_markup(w, f->no_think);
}

void chat_render(const quern_chat *chat, chat_writer *w, const quern_chat_message *messages, size_t count, uint32_t flags)
{
    if (chat->family->render)
        chat->family->render(chat, w, messages, count, flags);
    else
        render_plain(chat, w, messages, count, flags);
}
