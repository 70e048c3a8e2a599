/* SPDX-License-Identifier: MIT
 * engine/chat.c: which family a model's chat template is of, and conversations as its tokens. */
#include "engine/chat.h"
#include "engine/options.h"

#include <quern/log.h>

#include <stdio.h>

enum { MAX_TEMPLATE = 1 << 20, MAX_FALLBACK = 4096 };
static const int64_t default_now = 1721952000; /* 26 July 2024 */

const quern_chat_family *quern_chat_family_at(uint32_t index)
{
    return index < chat_family_count ? &chat_families[index].info : NULL;
}

/* ---- recognising ---- */

/* The template without white space, with single quotes: how it is laid out says nothing. */
static char *squeeze(const char *text)
{
    char *out = malloc(strlen(text) + 1);
    size_t n = 0;
    for (; out && *text; text++)
        if (*text != ' ' && (*text < '\t' || *text > '\r'))
            out[n++] = *text == '"' ? '\'' : *text;
    if (out)
        out[n] = '\0';
    return out;
}

static int fits(const chat_family *f, const char *text, const char *squeezed)
{
    if (!f->has[0])
        return 0;
    for (int i = 0; i < CHAT_NEEDLES; i++) {
        const char *has = f->has[i], *lacks = f->lacks[i];
        if (has && !(*has == '~' ? strstr(squeezed, has + 1) : strstr(text, has)))
            return 0;
        if (lacks && (*lacks == '~' ? strstr(squeezed, lacks + 1) : strstr(text, lacks)))
            return 0;
    }
    return 1;
}

static const chat_family *recognise(const char *text)
{
    const chat_family *found = NULL;
    char *squeezed = squeeze(text);
    for (uint32_t i = 0; squeezed && !found && i < chat_family_count; i++)
        if (fits(&chat_families[i], text, squeezed))
            found = &chat_families[i];
    free(squeezed);
    return found;
}

static const chat_family *find_family(const char *name)
{
    for (uint32_t i = 0; i < chat_family_count; i++)
        if (!strcmp(chat_families[i].info.name, name))
            return &chat_families[i];
    return NULL;
}

static quern_status no_family(const char *name, quern_error *error)
{
    char names[400];
    size_t used = 0;
    for (uint32_t i = 0; i < chat_family_count && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", chat_families[i].info.name);
    return quern_fail(error, QP_ERR_NOT_FOUND, "there is no chat template named '%.40s'; there are %s", name, names);
}

/* The model's template, terminated, "" when it has none. */
static quern_status read_template(const quern_gguf *gguf, char **out, quern_error *error)
{
    static const char key[] = "tokenizer.chat_template";
    quern_string text = {"", 0};
    if (gguf && quern_gguf_find(gguf, key) && quern_gguf_get_string(gguf, key, 0, &text, NULL) != QP_OK)
        return quern_fail(error, QP_ERR_FORMAT, "%.200s: %s is not a STRING", quern_gguf_path(gguf), key);
    if (text.size > MAX_TEMPLATE)
        return quern_fail(error, QP_ERR_FORMAT, "%.200s: %s has %llu bytes; at most %d are read", quern_gguf_path(gguf), key,
                          (unsigned long long)text.size, MAX_TEMPLATE);
    char *copy = malloc(text.size + 1);
    if (!copy)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a chat template");
    size_t n = 0;
    for (uint64_t i = 0; i < text.size; i++)
        if (text.data[i]) /* a NUL means nothing in a template, and would end the text */
            copy[n++] = text.data[i];
    copy[n] = '\0';
    *out = copy;
    return QP_OK;
}

static quern_status choose(quern_chat *chat, const quern_gguf *gguf, const char *name, quern_error *error)
{
    const chat_family *own = chat->template[0] ? recognise(chat->template) : NULL;
    const char *path = gguf ? quern_gguf_path(gguf) : "the model";
    chat->family = name ? find_family(name) : own;
    if (name && !chat->family)
        return no_family(name, error);
    if (!chat->family && !chat->template[0])
        return quern_fail(
            error, QP_ERR_NOT_FOUND,
            "%.200s: has no chat template (no tokenizer.chat_template in its metadata): if it was made for conversations, "
            "name the family of its template with --template (quern chat --list-templates)",
            path);
    if (!chat->family)
        return quern_fail(
            error, QP_ERR_UNSUPPORTED,
            "%.200s: its chat template is of no known family: if it writes conversations down like one of them, name that one "
            "with --template (quern chat --list-templates; quern inspect shows the template)",
            path);
    if (chat->family != own)
        chat->template[0] = '\0'; /* what it says is not about the family that was asked for */
    return QP_OK;
}

/* ---- what the template says beside its family ---- */

/* Copies the inside of a literal up to `quote` (0: up to <|im_end|>), with \n and quotes unescaped. 0: it is not plain text. */
static int copy_literal(const char *text, char quote, char *dst, size_t room)
{
    static const char end[] = "<|im_end|>";
    size_t n = 0;
    for (; *text && n + 1 < room; text++) {
        if (quote ? *text == quote : !strncmp(text, end, sizeof end - 1)) {
            dst[n] = '\0';
            return n > 0;
        }
        if (!quote && strchr("'\"{}+%", *text))
            return 0;
        if (*text == '\\') {
            text++;
            if (*text != 'n' && *text != '\'' && *text != '"' && *text != '\\')
                return 0;
            dst[n++] = *text == 'n' ? '\n' : *text;
        } else {
            dst[n++] = *text;
        }
    }
    return 0;
}

/* The system text that the template takes where a conversation has none. */
static quern_status find_fallback(quern_chat *chat, quern_error *error)
{
    char words[MAX_FALLBACK];
    const char *at = chat->template, *needle = chat->family->default_at;
    int late = (chat->family->flags & CHAT_LATE_DEFAULT) != 0, found = 0;
    while (needle && !found && (at = strstr(at, needle))) {
        at += strlen(needle);
        at += late ? strspn(at, " \t\r\n{-") : 0;
        if (late && (*at == '\'' || *at == '"'))
            found = copy_literal(at + 1, *at, words, sizeof words);
        else if (!late)
            found = copy_literal(at, 0, words, sizeof words);
    }
    if (!found)
        return QP_OK;
    for (size_t n = strlen(words); late && chat->family->render && n && words[n - 1] == '\n'; n--)
        words[n - 1] = '\0'; /* the family's function writes these */
    chat->fallback = strdup(words);
    return chat->fallback ? QP_OK : quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a system text");
}

static int any_of(const char *text, const char *a, const char *b)
{
    return strstr(text, a) || strstr(text, b);
}

static void read_switches(quern_chat *chat)
{
    const char *text = chat->template, *invite = strstr(text, "add_generation_prompt");
    for (const char *next; invite && (next = strstr(invite + 1, "add_generation_prompt"));)
        invite = next;
    uint32_t drops = chat->family->flags & CHAT_DROP_THINKING;
    chat->bos = text[0] ? strstr(text, "bos_token") != NULL : (chat->family->flags & CHAT_BOS) != 0;
    chat->thinks = 1;
    chat->trims = strstr(text, "render_content(") && strstr(text, ")|trim"); /* Qwen3.5 */
    chat->has_switch = chat->family->no_think && (!text[0] || strstr(text, "enable_thinking"));
    if (chat->family->flags & CHAT_CHANNELS)
        chat->has_switch = 1; /* how much it reasons */
    if (!invite)
        return;
    chat->opens_thinking =
        drops && (any_of(invite, "'<think>\\n'", "\"<think>\\n\"") || any_of(invite, "<think>\\n'}}", "<think>\\n' }}"));
    /* small Qwen3.5 models think only when they are told to */
    if (chat->has_switch && strstr(invite, "enable_thinking is true") && !strstr(invite, "enable_thinking is false"))
        chat->thinks = 0;
}

/* ---- tokens ---- */

static int32_t special(const quern_tokenizer *t, const char *name)
{
    int32_t token = name ? tokenizer_find(t, name, strlen(name)) : -1;
    return token >= 0 && (t->kinds[token] == QUERN_TOKEN_CONTROL || t->kinds[token] == QUERN_TOKEN_USER) ? token : -1;
}

static quern_status find_tokens(quern_chat *chat, quern_error *error)
{
    const quern_tokenizer *t = chat->tokenizer;
    char missing[160] = "";
    size_t used = 0;
    chat->guarded = calloc(t->count, 1);
    if (!chat->guarded)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a chat over %u tokens", t->count);
    for (uint32_t i = 0; i < t->count; i++)
        chat->guarded[i] = t->kinds[i] == QUERN_TOKEN_CONTROL || (t->kinds[i] == QUERN_TOKEN_USER && t->stops[i]);
    for (int i = 0; i < CHAT_TOKENS && chat->family->tokens[i]; i++) {
        int32_t token = special(t, chat->family->tokens[i]);
        if (token >= 0)
            chat->guarded[token] = 1;
        else if (used < sizeof missing)
            used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%s", used ? ", " : "", chat->family->tokens[i]);
    }
    if (used)
        quern_log(QUERN_LOG_WARN,
                  "the vocabulary has no special token for %s of chat template %s: it becomes ordinary text, and the model may not "
                  "take it "
                  "for the end of a turn",
                  missing, chat->family->info.name);
    chat->end = special(t, chat->family->ends);
    chat->think = tokenizer_find(t, "<think>", 7);
    chat->end_think = tokenizer_find(t, "</think>", 8);
    int harmony = (chat->family->flags & CHAT_CHANNELS) != 0;
    chat->channel = harmony ? special(t, "<|channel|>") : -1;
    chat->message = harmony ? special(t, "<|message|>") : -1;
    chat->start = harmony ? special(t, "<|start|>") : -1;
    chat->end_part = harmony ? special(t, "<|end|>") : -1;
    return QP_OK;
}

static quern_status build(quern_chat *chat, const quern_gguf *gguf, const quern_chat_options *options, quern_error *error)
{
    quern_status status = read_template(gguf, &chat->template, error);
    if (status == QP_OK)
        status = choose(chat, gguf, options->family, error);
    if (status != QP_OK)
        return status;
    read_switches(chat);
    status = find_fallback(chat, error);
    return status == QP_OK ? find_tokens(chat, error) : status;
}

quern_status quern_chat_create(const quern_gguf *gguf, const quern_tokenizer *tokenizer, const quern_chat_options *options,
                               quern_chat **out, quern_error *error)
{
    quern_chat_options known;
    if (!tokenizer || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_chat_create: tokenizer and out must not be NULL");
    options_copy(&known, sizeof known, options);
    quern_chat *chat = calloc(1, sizeof *chat);
    if (!chat)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a chat");
    chat->tokenizer = tokenizer;
    chat->now = known.now ? known.now : default_now;
    quern_status status = build(chat, gguf, &known, error);
    if (status != QP_OK) {
        quern_chat_destroy(chat);
        return status;
    }
    *out = chat;
    return QP_OK;
}

void quern_chat_destroy(quern_chat *chat)
{
    if (!chat)
        return;
    free(chat->guarded);
    free(chat->template);
    free(chat->fallback);
    free(chat);
}

const quern_chat_family *quern_chat_get_family(const quern_chat *chat)
{
    return chat ? &chat->family->info : NULL;
}

uint32_t quern_chat_traits(const quern_chat *chat)
{
    if (!chat)
        return 0;
    return (chat->has_switch ? (uint32_t)QUERN_CHAT_CAN_SWITCH : 0) |
           (chat->family->flags & (CHAT_DROP_THINKING | CHAT_CHANNELS) ? (uint32_t)QUERN_CHAT_DROPS_THINKING : 0);
}

int quern_chat_is_stop(const quern_chat *chat, int32_t token)
{
    return chat && token >= 0 && (quern_tokenizer_is_stop(chat->tokenizer, token) || token == chat->end);
}

/* ---- conversations ---- */

static quern_status check_messages(const quern_chat_message *messages, size_t count, quern_error *error)
{
    static const char *const names[] = {"system", "user", "assistant"};
    size_t turn = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned role = (unsigned)messages[i].role;
        if (role > QUERN_CHAT_ASSISTANT)
            return quern_fail(error, QP_ERR_INVALID, "message %zu has role %u; 0 to 2 are known", i, role);
        if ((!messages[i].text && messages[i].size) || (messages[i].token_count && !messages[i].tokens))
            return quern_fail(error, QP_ERR_INVALID, "message %zu has a size but no text or tokens", i);
        if (role == QUERN_CHAT_SYSTEM && i == 0)
            continue;
        unsigned wanted = turn++ % 2 ? QUERN_CHAT_ASSISTANT : QUERN_CHAT_USER;
        if (role != wanted)
            return quern_fail(error, QP_ERR_INVALID,
                              "message %zu is the %s's where the %s's belongs: users and assistants take turns", i, names[role],
                              names[wanted]);
    }
    if (turn % 2 == 0)
        return quern_fail(error, QP_ERR_INVALID, "a conversation must end with what the user says, and %s",
                          count ? "the last message is not the user's" : "there is no message");
    return QP_OK;
}

static quern_status write_down(const quern_chat *chat, const quern_chat_message *messages, size_t count, uint32_t flags, int ids,
                               chat_writer *w, quern_error *error)
{
    if (!chat || (!messages && count))
        return quern_fail(error, QP_ERR_INVALID, "quern_chat: no chat or no messages were given");
    if (flags & ~(uint32_t)(QUERN_CHAT_THINK | QUERN_CHAT_NO_THINK) || flags == (QUERN_CHAT_THINK | QUERN_CHAT_NO_THINK))
        return quern_fail(error, QP_ERR_INVALID, "quern_chat: flags 0x%x are not known, or say two things at once", flags);
    quern_status status = check_messages(messages, count, error);
    if (status != QP_OK)
        return status;
    if (!chat->has_switch)
        flags = 0;
    *w = (chat_writer){.ids = ids, .error = error};
    chat_render(chat, w, messages, count, flags);
    return w->status;
}

/* Of the pieces [first, past): markup and words, which are one stretch of text to the tokenizer. */
static quern_status encode_stretch(const quern_chat *chat, const chat_writer *w, size_t first, size_t past, quern_token_list *list,
                                   quern_error *error)
{
    size_t begin = w->pieces[first].begin, size = w->pieces[past - 1].begin + w->pieces[past - 1].size - begin, n = 0;
    tokenizer_span *spans = malloc((past - first) * sizeof *spans);
    if (!spans)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize a conversation of %zu bytes", w->size);
    for (size_t i = first; i < past; i++) {
        const chat_piece *p = &w->pieces[i];
        if (p->kind != CHAT_MARKUP)
            continue;
        if (n && spans[n - 1].end == p->begin - begin)
            spans[n - 1].end += p->size;
        else
            spans[n++] = (tokenizer_span){p->begin - begin, p->begin - begin + p->size};
    }
    tokenizer_marks marks = {.spans = spans, .count = n, .guarded = chat->guarded};
    quern_status status = tokenizer_encode_marked(chat->tokenizer, w->text + begin, size, &marks, list, error);
    free(spans);
    return status;
}

static quern_status push_ids(const quern_chat *chat, const chat_piece *p, quern_token_list *list, quern_error *error)
{
    quern_status status = QP_OK;
    for (size_t i = 0; status == QP_OK && i < p->id_count; i++) {
        if (p->ids[i] < 0 || (uint32_t)p->ids[i] >= chat->tokenizer->count)
            return quern_fail(error, QP_ERR_INVALID, "token %d of a message is outside the vocabulary of %u", p->ids[i],
                              chat->tokenizer->count);
        status = tokenizer_push(list, p->ids[i], error);
    }
    return status;
}

static quern_status encode_pieces(const quern_chat *chat, const chat_writer *w, quern_token_list *list, quern_error *error)
{
    const quern_tokenizer *t = chat->tokenizer;
    quern_status status = QP_OK;
    if (t->add_bos && t->bos >= 0 && !(w->count && w->pieces[0].kind == CHAT_BOS_TOKEN))
        status = tokenizer_push(list, t->bos, error);
    for (size_t i = 0; status == QP_OK && i < w->count;) {
        const chat_piece *p = &w->pieces[i];
        if (p->kind == CHAT_IDS) {
            status = push_ids(chat, p, list, error);
            i++;
        } else if (p->kind == CHAT_BOS_TOKEN || p->kind == CHAT_EOS_TOKEN) {
            int32_t token = p->kind == CHAT_BOS_TOKEN ? t->bos : t->eos;
            status = token >= 0 ? tokenizer_push(list, token, error) : QP_OK;
            i++;
        } else {
            size_t past = i + 1;
            while (past < w->count && (w->pieces[past].kind == CHAT_WORDS || w->pieces[past].kind == CHAT_MARKUP))
                past++;
            status = encode_stretch(chat, w, i, past, list, error);
            i = past;
        }
    }
    return status;
}

quern_status quern_chat_tokenize(const quern_chat *chat, const quern_chat_message *messages, size_t count, uint32_t flags,
                                 quern_token_list *list, quern_error *error)
{
    chat_writer w = {0};
    if (!list)
        return quern_fail(error, QP_ERR_INVALID, "quern_chat_tokenize: list must not be NULL");
    size_t before = list->count;
    quern_status status = write_down(chat, messages, count, flags, 1, &w, error);
    if (status == QP_OK)
        status = encode_pieces(chat, &w, list, error);
    if (status != QP_OK)
        list->count = before;
    chat_writer_free(&w);
    return status;
}

static void copy_out(char *dst, size_t room, size_t *used, const char *data, size_t size)
{
    if (dst && *used < room && size)
        memcpy(dst + *used, data, size < room - *used ? size : room - *used);
    *used += size;
}

quern_status quern_chat_text(const quern_chat *chat, const quern_chat_message *messages, size_t count, uint32_t flags, char *dst,
                             size_t room, size_t *size, quern_error *error)
{
    chat_writer w = {0};
    if (!size)
        return quern_fail(error, QP_ERR_INVALID, "quern_chat_text: size must not be NULL");
    quern_status status = write_down(chat, messages, count, flags, 0, &w, error);
    size_t used = 0;
    for (size_t i = 0; status == QP_OK && i < w.count; i++) {
        const chat_piece *p = &w.pieces[i];
        int32_t token = p->kind == CHAT_BOS_TOKEN ? chat->tokenizer->bos : p->kind == CHAT_EOS_TOKEN ? chat->tokenizer->eos : -1;
        quern_string text = token >= 0 ? tokenizer_piece(chat->tokenizer, token) : (quern_string){w.text + p->begin, p->size};
        copy_out(dst, room, &used, text.data, text.size);
    }
    if (status == QP_OK)
        *size = used;
    chat_writer_free(&w);
    return status;
}

/* ---- what comes back ---- */

enum { IN_ANSWER = 0, IN_THINKING = 1, IN_HEADER = 2 };

quern_chat_stream quern_chat_stream_begin(const quern_chat *chat, uint32_t flags)
{
    quern_chat_stream s = {0};
    if (!chat)
        return s;
    if (chat->message >= 0)
        s.state = IN_HEADER;
    else if (chat->opens_thinking && chat->end_think >= 0 && chat_thinks(chat, chat->has_switch ? flags : 0))
        s.state = IN_THINKING;
    return s;
}

/* gpt-oss: <|channel|>NAME<|message|>TEXT<|end|><|start|>assistant…; "final" is the channel for the reader. */
static quern_chat_part push_harmony(const quern_chat *chat, quern_chat_stream *s, int32_t token)
{
    if (token == chat->channel || token == chat->start || token == chat->end_part) {
        s->state = IN_HEADER;
        s->size = 0;
        return QUERN_CHAT_MARKUP;
    }
    if (token == chat->message) {
        s->state = s->size >= 5 && !memcmp(s->header, "final", 5) ? IN_ANSWER : IN_THINKING;
        return QUERN_CHAT_MARKUP;
    }
    if (s->state != IN_HEADER)
        return s->state == IN_THINKING ? QUERN_CHAT_THINKING : QUERN_CHAT_ANSWER;
    size_t room = sizeof s->header - s->size;
    size_t size = quern_token_bytes(chat->tokenizer, token, 0, 0, s->header + s->size, room);
    s->size += (uint32_t)(size < room ? size : room);
    return QUERN_CHAT_MARKUP;
}

quern_chat_part quern_chat_stream_push(const quern_chat *chat, quern_chat_stream *stream, int32_t token)
{
    if (!chat || !stream)
        return QUERN_CHAT_ANSWER;
    if (chat->message >= 0)
        return push_harmony(chat, stream, token);
    if (token >= 0 && token == chat->think && chat->end_think >= 0) {
        stream->state = IN_THINKING;
        return QUERN_CHAT_THINKING;
    }
    quern_chat_part part = stream->state == IN_THINKING ? QUERN_CHAT_THINKING : QUERN_CHAT_ANSWER;
    if (token >= 0 && token == chat->end_think)
        stream->state = IN_ANSWER;
    return part;
}
