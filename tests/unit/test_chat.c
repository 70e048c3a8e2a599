/* SPDX-License-Identifier: MIT
 * Chat templates: what the engine writes down is what Jinja renders from a template of the family (tests/data/chat.txt, made by
 * tools/make_chat_reference.py); as tokens, markup is special tokens and what people say never is. */
#include "chat_help.h"

#include <quern/log.h>

enum { MAX_MESSAGES = 16, ROOM = 4096 };

/* ---- the reference's file ---- */

typedef struct cursor {
    const char *at, *end;
} cursor;

typedef struct field {
    char name[16];
    const char *text;
    size_t size;
} field;

static int next_field(cursor *c, field *f)
{
    int used = 0;
    size_t size = 0;
    if (c->at >= c->end || sscanf(c->at, "%15s %zu%n", f->name, &size, &used) != 2)
        return 0;
    f->text = c->at + used + 1;
    f->size = size;
    if (!strcmp(f->name, "flags")) { /* a number in place of a size */
        c->at = f->text + 1;
        return 1;
    }
    c->at = f->text + size + 1;
    return c->at <= c->end;
}

static char *read_reference(size_t *size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/data/chat.txt", getenv("QUERN_SOURCE"));
    FILE *file = fopen(path, "rb");
    char *text = file ? calloc(1, 1 << 20) : NULL;
    *size = text ? fread(text, 1, (1 << 20) - 1, file) : 0;
    if (file)
        fclose(file);
    return text;
}

typedef struct reference {
    char name[100], family[32];
    char template[8192];
    quern_chat_message messages[MAX_MESSAGES];
    size_t count;
    uint32_t flags;
    const char *want;
    size_t want_size;
} reference;

static int next_case(cursor *c, reference *r)
{
    field f;
    r->count = 0;
    while (next_field(c, &f)) {
        if (!strcmp(f.name, "template"))
            snprintf(r->template, sizeof r->template, "%.*s", (int)f.size, f.text);
        else if (!strcmp(f.name, "case"))
            snprintf(r->name, sizeof r->name, "%.*s", (int)f.size, f.text);
        else if (!strcmp(f.name, "family"))
            snprintf(r->family, sizeof r->family, "%.*s", (int)f.size, f.text);
        else if (!strcmp(f.name, "flags"))
            r->flags = (uint32_t)f.size;
        else if (!strcmp(f.name, "want")) {
            r->want = f.text;
            r->want_size = f.size;
            return 1;
        } else {
            quern_chat_role role = f.name[0] == 's' ? QUERN_CHAT_SYSTEM : f.name[0] == 'u' ? QUERN_CHAT_USER : QUERN_CHAT_ASSISTANT;
            r->messages[r->count++] = (quern_chat_message){.role = role, .text = f.text, .size = f.size};
        }
    }
    return 0;
}

/* ---- texts and tokens ---- */

static size_t decode(const quern_tokenizer *t, const quern_token_list *list, char *dst, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < list->count && n < room; i++)
        n += quern_token_bytes(t, list->ids[i], 0, 1, dst + n, room - n);
    return n;
}

/* Special tokens in text that begins like markup anywhere, counted by looking for each. */
static size_t count_specials(const char *text, size_t size)
{
    size_t found = 0;
    for (size_t at = 0; at < size; at++)
        for (size_t i = 0; i < CHAT_SPECIALS; i++) {
            size_t length = strlen(chat_specials[i]);
            if (size - at >= length && !memcmp(text + at, chat_specials[i], length))
                found++;
        }
    return found;
}

static void check_case(const reference *r, const quern_chat *chat, const quern_tokenizer *t)
{
    char text[ROOM], back[ROOM];
    size_t size = 0, in_words = 0, specials = 0;
    quern_error error = {0};
    quern_token_list list = {0};
    quern_status status = quern_chat_text(chat, r->messages, r->count, r->flags, text, sizeof text, &size, &error);
    int same = status == QP_OK && size == r->want_size && !memcmp(text, r->want, size);
    if (!ok(same, "%s: %s", r->name, error.text)) {
        diag("got %.*s", (int)(status == QP_OK ? size : 0), text);
        diag("want %.*s", (int)r->want_size, r->want);
    }
    status = quern_chat_tokenize(chat, r->messages, r->count, r->flags, &list, &error);
    size_t decoded = decode(t, &list, back, sizeof back);
    for (size_t i = 0; i < list.count; i++)
        specials += list.ids[i] >= CHAT_LETTERS && list.ids[i] < CHAT_THINK_ID;
    for (size_t i = 0; i < r->count; i++)
        in_words += count_specials(r->messages[i].text, r->messages[i].size);
    same = status == QP_OK && decoded == r->want_size && !memcmp(back, r->want, decoded);
    ok(same && specials == count_specials(r->want, r->want_size) - in_words, "%s: as tokens, %zu of them special: %s", r->name,
       specials, error.text);
    quern_token_list_free(&list);
}

static void test_reference(void)
{
    size_t size;
    char *text = read_reference(&size);
    cursor c = {text, text + size};
    static reference r;
    int count = 0, forced = 0;
    while (text && next_case(&c, &r)) {
        chat_model m = chat_open(r.template, QUERN_TOKEN_CONTROL, 0);
        quern_chat *chat = NULL;
        quern_error error = {0};
        quern_status status = quern_chat_create(m.gguf, m.tokenizer, NULL, &chat, &error);
        if (ok(status == QP_OK && !strcmp(quern_chat_get_family(chat)->name, r.family), "%s is %s: %s", r.name, r.family,
               error.text))
            check_case(&r, chat, m.tokenizer);
        quern_chat_destroy(chat);
        /* asked for by name the family is the same, but for what only the template says */
        quern_chat_options options = {.struct_size = sizeof options, .family = r.family};
        chat = NULL;
        status = quern_chat_create(NULL, m.tokenizer, &options, &chat, &error);
        char by_name[ROOM];
        size_t n = 0;
        status =
            status == QP_OK ? quern_chat_text(chat, r.messages, r.count, r.flags, by_name, sizeof by_name, &n, &error) : status;
        forced += status == QP_OK && n == r.want_size && !memcmp(by_name, r.want, n);
        quern_chat_destroy(chat);
        chat_close(&m);
        count++;
    }
    ok(count >= 130, "%d conversations", count);
    ok(forced >= count * 2 / 3, "%d of them are the same when the family is asked for by name", forced);
    free(text);
}

/* ---- rules ---- */

static const quern_chat_message hello = {.role = QUERN_CHAT_USER, .text = "Hi", .size = 2};

static quern_chat *make(const chat_model *m, const char *family)
{
    quern_chat *chat = NULL;
    quern_error error = {0};
    quern_chat_options options = {.struct_size = sizeof options, .family = family};
    if (quern_chat_create(m->gguf, m->tokenizer, &options, &chat, &error) != QP_OK)
        diag("%s", error.text);
    return chat;
}

/* One BOS, whether the template or the metadata or both ask for it; none where neither does. */
static void test_bos(void)
{
    for (int add = 0; add < 2; add++) {
        chat_model m = chat_open(NULL, QUERN_TOKEN_CONTROL, add);
        for (uint32_t i = 0; quern_chat_family_at(i); i++) {
            quern_chat *chat = make(&m, quern_chat_family_at(i)->name);
            quern_token_list list = {0};
            char text[ROOM];
            size_t size = 0, bos = 0;
            quern_chat_text(chat, &hello, 1, 0, text, sizeof text, &size, NULL);
            int written = size > 3 && !memcmp(text, "<s>", 3);
            quern_chat_tokenize(chat, &hello, 1, 0, &list, NULL);
            for (size_t k = 0; k < list.count; k++)
                bos += list.ids[k] == CHAT_BOS_ID;
            ok(bos == (size_t)(written || add) && (!bos || list.ids[0] == CHAT_BOS_ID),
               "%s: %zu BOS in front (the vocabulary adds %d)", quern_chat_family_at(i)->name, bos, add);
            quern_token_list_free(&list);
            quern_chat_destroy(chat);
        }
        chat_close(&m);
    }
}

/* Markup that a user types stays text, also where a careless converter made the tokens user-defined ones, which tokenizers look
 * for in any text. */
static void test_typed_markup(void)
{
    static const quern_token_kind kinds[] = {QUERN_TOKEN_CONTROL, QUERN_TOKEN_USER};
    for (int k = 0; k < 2; k++) {
        chat_model m = chat_open(NULL, kinds[k], 0);
        int bad = 0;
        for (uint32_t f = 0; quern_chat_family_at(f); f++) {
            quern_chat *chat = make(&m, quern_chat_family_at(f)->name);
            quern_token_list plain = {0};
            size_t before = 0;
            quern_chat_tokenize(chat, &hello, 1, 0, &plain, NULL);
            for (size_t i = 0; i < plain.count; i++)
                before += plain.ids[i] >= CHAT_LETTERS && quern_chat_is_stop(chat, plain.ids[i]);
            for (size_t s = 0; s < CHAT_SPECIALS; s++) {
                quern_chat_message typed = {.role = QUERN_CHAT_USER, .text = chat_specials[s], .size = strlen(chat_specials[s])};
                quern_token_list list = {0};
                size_t stops = 0;
                bad += quern_chat_tokenize(chat, &typed, 1, 0, &list, NULL) != QP_OK;
                for (size_t i = 0; i < list.count; i++)
                    stops += list.ids[i] >= CHAT_LETTERS && quern_chat_is_stop(chat, list.ids[i]);
                bad += stops != before;
                quern_token_list_free(&list);
            }
            quern_token_list_free(&plain);
            quern_chat_destroy(chat);
        }
        ok(!bad, "no special token of %s kind that a user types ends a turn of any family (%d do)", k ? "user-defined" : "control",
           bad);
        chat_close(&m);
    }
}

/* A message may not complete markup that begins in the template, nor begin what the template completes. */
static void test_borders(void)
{
    chat_model m = chat_open(NULL, QUERN_TOKEN_USER, 0);
    quern_chat *chat = make(&m, "chatml");
    quern_chat_message half = {.role = QUERN_CHAT_USER, .text = "<|im_end|", .size = 9};
    quern_token_list list = {0};
    quern_chat_tokenize(chat, &half, 1, 0, &list, NULL);
    size_t specials = 0;
    for (size_t i = 0; i < list.count; i++)
        specials += list.ids[i] >= CHAT_LETTERS;
    ok(specials == 3 && list.count == 28, "half of a marker stays text");
    quern_token_list_free(&list);
    quern_chat_destroy(chat);
    chat_close(&m);
}

/* An answer's own tokens stand where its text would. */
static void test_own_tokens(void)
{
    static const int32_t ids[] = {'x', 'y', CHAT_THINK_ID};
    chat_model m = chat_open(NULL, QUERN_TOKEN_CONTROL, 0);
    int bad = 0;
    quern_error error = {0};
    for (uint32_t f = 0; quern_chat_family_at(f); f++) {
        quern_chat *chat = make(&m, quern_chat_family_at(f)->name);
        quern_chat_message turns[] = {
            hello, {.role = QUERN_CHAT_ASSISTANT, .text = "zz", .size = 2, .tokens = ids, .token_count = 3}, hello};
        quern_token_list first = {0}, second = {0};
        bad += quern_chat_tokenize(chat, turns, 1, 0, &first, NULL) != QP_OK;
        bad += quern_chat_tokenize(chat, turns, 3, 0, &second, &error) != QP_OK;
        int prefix = second.count > first.count + 3 && !memcmp(first.ids, second.ids, first.count * sizeof *first.ids) &&
                     !memcmp(second.ids + first.count, ids, sizeof ids);
        if (!prefix && strcmp(quern_chat_family_at(f)->name, "gpt-oss")) /* whose answers come without their channel */
            bad++, diag("%s: an answer does not follow what invited it", quern_chat_family_at(f)->name);
        quern_token_list_free(&first);
        quern_token_list_free(&second);
        quern_chat_destroy(chat);
    }
    ok(!bad, "in every family what was evaluated before an answer, and the answer's tokens, begin the next turn (%d do not): %s",
       bad, error.text);
    chat_close(&m);
}

static void test_order(void)
{
    chat_model m = chat_open(NULL, QUERN_TOKEN_CONTROL, 0);
    quern_chat *chat = make(&m, "chatml");
    quern_token_list list = {0};
    quern_chat_message answer = {.role = QUERN_CHAT_ASSISTANT, .text = "a", .size = 1},
                       system = {.role = QUERN_CHAT_SYSTEM, .text = "s", .size = 1};
    quern_chat_message odd = {.role = (quern_chat_role)7}, empty = {.role = QUERN_CHAT_USER},
                       wrong = {.role = QUERN_CHAT_USER, .size = 3};
    quern_chat_message ids = {.role = QUERN_CHAT_ASSISTANT, .tokens = (int32_t[]){CHAT_VOCABULARY}, .token_count = 1};
    const struct {
        const char *name, *word;
        quern_chat_message messages[3];
        size_t count;
        quern_status want;
    } cases[] = {
        {"nothing", "no message", {hello}, 0, QP_ERR_INVALID},
        {"a system message alone", "must end with what the user says", {system}, 1, QP_ERR_INVALID},
        {"an answer first", "message 0 is the assistant's", {answer, hello}, 2, QP_ERR_INVALID},
        {"two users in a row", "message 1 is the user's", {hello, hello}, 2, QP_ERR_INVALID},
        {"a system message in the middle", "message 1 is the system's", {hello, system}, 2, QP_ERR_INVALID},
        {"an answer last", "must end", {hello, answer}, 2, QP_ERR_INVALID},
        {"an unknown role", "role 7", {odd}, 1, QP_ERR_INVALID},
        {"a size without a text", "no text", {wrong}, 1, QP_ERR_INVALID},
        {"an empty text", "", {empty}, 1, QP_OK},
        {"tokens outside", "outside the vocabulary", {hello, ids, hello}, 3, QP_ERR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        quern_error error = {0};
        list.count = 0;
        quern_status status = quern_chat_tokenize(chat, cases[i].messages, cases[i].count, 0, &list, &error);
        ok(status == cases[i].want && strstr(error.text, cases[i].word) && (status == QP_OK || !list.count), "%s: %s",
           cases[i].name, error.text);
    }
    quern_error error = {0};
    ok(quern_chat_tokenize(chat, &hello, 1, 3, &list, &error) == QP_ERR_INVALID &&
           quern_chat_tokenize(chat, &hello, 1, 8, &list, &error) == QP_ERR_INVALID,
       "flags: %s", error.text);
    size_t size;
    char few[4];
    ok(quern_chat_tokenize(NULL, &hello, 1, 0, &list, &error) == QP_ERR_INVALID &&
           quern_chat_text(chat, NULL, 1, 0, NULL, 0, &size, &error) == QP_ERR_INVALID && !quern_chat_is_stop(NULL, 1),
       "NULL: %s", error.text);
    ok(quern_chat_text(chat, &hello, 1, 0, few, sizeof few, &size, NULL) == QP_OK && size > 40 && !memcmp(few, "<|im", 4),
       "a short buffer takes what fits");
    quern_token_list_free(&list);
    quern_chat_destroy(chat);
    chat_close(&m);
}

/* ---- recognising ---- */

static void expect_refusal(const char *name, const char *template, const char *family, quern_status want, const char *word)
{
    chat_model m = chat_open(template, QUERN_TOKEN_CONTROL, 0);
    quern_chat *chat = NULL;
    quern_error error = {0};
    quern_chat_options options = {.struct_size = sizeof options, .family = family};
    quern_status status = quern_chat_create(m.gguf, m.tokenizer, &options, &chat, &error);
    ok(status == want && !chat && strstr(error.text, word), "%s: %s", name, error.text);
    quern_chat_destroy(chat);
    chat_close(&m);
}

static void test_refusals(void)
{
    expect_refusal("no template", NULL, NULL, QP_ERR_NOT_FOUND, "--template");
    expect_refusal("an unknown one", "{% for m in messages %}<<{{ m.role }}>>{{ m.content }}{% endfor %}", NULL, QP_ERR_UNSUPPORTED,
                   "--template");
    expect_refusal("GLM's, which looks like Phi-3's",
                   "[gMASK]<sop>{% for m in messages %}<|user|>\\n{{ m.content }}<|assistant|><|end|>{% endfor %}", NULL,
                   QP_ERR_UNSUPPORTED, "no known family");
    expect_refusal("DeepSeek V3.1's, which looks like R1's",
                   "{% if not thinking is defined %}{% endif %}{{ '<" BAR "User" BAR ">' }}{{ '<" BAR "Assistant" BAR ">' }}", NULL,
                   QP_ERR_UNSUPPORTED, "no known family");
    expect_refusal("DeepSeek V3.2's",
                   "{% set thinking_end_token = '</think>' %}<" BAR "User" BAR ">{{ m }}<" BAR "Assistant" BAR ">", NULL,
                   QP_ERR_UNSUPPORTED, "no known family");
    expect_refusal("Kimi's", "<|im_user|>user<|im_middle|>{{ m }}<|im_end|>", NULL, QP_ERR_UNSUPPORTED, "no known family");
    expect_refusal("no such family", "<|im_start|><|im_end|>", "chatmal", QP_ERR_NOT_FOUND, "chatml");
    char *huge = malloc((1 << 20) + 2);
    memset(huge, 'x', (1 << 20) + 1);
    huge[(1 << 20) + 1] = '\0';
    expect_refusal("a template of more than 1 MiB", huge, NULL, QP_ERR_FORMAT, "1048577 bytes");
    free(huge);
    quern_chat *chat = NULL;
    quern_error error = {0};
    ok(quern_chat_create(NULL, NULL, NULL, &chat, &error) == QP_ERR_INVALID, "NULL: %s", error.text);
    quern_chat_destroy(NULL);
    uint32_t count = 0;
    int bad = 0;
    for (; quern_chat_family_at(count); count++)
        for (uint32_t k = 0; k < count; k++)
            bad +=
                !strcmp(quern_chat_family_at(k)->name, quern_chat_family_at(count)->name) || !quern_chat_family_at(count)->about[0];
    ok(count > 20 && !bad, "%u families with names of their own", count);
}

/* ---- answers ---- */

static void expect_parts(const chat_model *m, const char *family, const char *template, uint32_t flags, const int32_t *tokens,
                         const char *want)
{
    chat_model other = template ? chat_open(template, QUERN_TOKEN_CONTROL, 0) : *m;
    quern_chat *chat = make(&other, family);
    quern_chat_stream s = quern_chat_stream_begin(chat, flags);
    char got[64] = "";
    for (size_t i = 0; want[i]; i++)
        got[i] = "atm"[quern_chat_stream_push(chat, &s, tokens[i])];
    ok(!strcmp(got, want), "parts of an answer of %s: %s, want %s", family ? family : "the template", got, want);
    quern_chat_destroy(chat);
    if (template)
        chat_close(&other);
}

static int32_t id_of(const char *name)
{
    for (int32_t i = 0; i < CHAT_SPECIALS; i++)
        if (!strcmp(chat_specials[i], name))
            return CHAT_LETTERS + i;
    return -1;
}

static void test_parts(void)
{
    chat_model m = chat_open(NULL, QUERN_TOKEN_CONTROL, 0);
    const int32_t thinks[] = {CHAT_THINK_ID, 'h', CHAT_END_THINK_ID, 'a', 'b'}, inside[] = {'h', CHAT_END_THINK_ID, 'a'};
    expect_parts(&m, "qwen3", NULL, 0, thinks, "tttaa");
    expect_parts(&m, "chatml", NULL, 0, thinks, "tttaa");
    expect_parts(&m, NULL, "<|im_start|> <|im_end|> </think> {% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}", 0,
                 inside, "tta");
    int32_t channel = id_of("<|channel|>"), message = id_of("<|message|>"), start = id_of("<|start|>"), end = id_of("<|end|>");
    const int32_t harmony[] = {channel, 'a', 'n', message, 'x', 'y', end,     start, 'a',
                               channel, 'f', 'i', 'n',     'a', 'l', message, 'z',   'z'};
    expect_parts(&m, "gpt-oss", NULL, 0, harmony, "mmmmttmmmmmmmmmmaa");
    quern_chat *chat = make(&m, "gpt-oss");
    ok(quern_chat_is_stop(chat, id_of("<|return|>")) && quern_chat_is_stop(chat, id_of("<|call|>")) &&
           !quern_chat_is_stop(chat, end),
       "gpt-oss stops at <|return|> and <|call|>, not where a part ends");
    quern_chat_destroy(chat);
    chat = make(&m, "command-r");
    ok(quern_chat_is_stop(chat, id_of("<|END_OF_TURN_TOKEN|>")) && quern_chat_is_stop(chat, CHAT_EOS_ID) &&
           !quern_chat_is_stop(chat, 'a'),
       "a family's end of turn stops, and EOS");
    quern_chat_destroy(chat);
    chat_close(&m);
}

static int warnings;

static void count_warnings(void *ctx, quern_log_level level, const char *message)
{
    (void)ctx;
    warnings += level == QUERN_LOG_WARN && strstr(message, "no special token for") != NULL;
}

int main(void)
{
    quern_log_set(count_warnings, NULL, QUERN_LOG_WARN);
    chat_model probe = chat_open(NULL, QUERN_TOKEN_CONTROL, 0);
    int usable = probe.tokenizer != NULL;
    chat_close(&probe);
    if (!usable)
        return tap_skip_all("built without PCRE2: the vocabulary of this test needs it");
    test_reference();
    test_bos();
    test_typed_markup();
    test_borders();
    test_own_tokens();
    test_order();
    test_refusals();
    test_parts();
    ok(!warnings, "every family found its special tokens");
    return tap_done();
}
