/* SPDX-License-Identifier: MIT
 * engine/pretokenizer.c: the rules by name, and cutting by them. The expressions are those of the models' own tokenizer files,
 * tried one after another: what the first leaves between its matches, and the matches themselves, are each cut by the next. */
#include "engine/pretokenizer.h"
#include "engine/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATTERNS = 6 };

/* ---- the rules ---------------------------------------------------------------------------------------------------- */

#define ENGLISH "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE "[^\\r\\n\\p{L}\\p{N}]?"
#define OTHERS " ?[^\\s\\p{L}\\p{N}]+"
/* letters of the scripts that have capitals */
#define CASED                                                                                                                      \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"               \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"                 \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"                   \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}"                              \
    "\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                              \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}"             \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"                              \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}"             \
    "\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}"             \
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}"             \
    "\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"                              \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"                            \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"                    \
    "\\x{1e900}-\\x{1e943}"

static const char *const gpt2[] = {GPT2, NULL};
static const char *const digits[] = {"\\p{N}", GPT2, NULL};
static const char *const llama3[] = {ENGLISH "|" BEFORE "\\p{L}+|\\p{N}{1,3}|" OTHERS "[\\r\\n]*|" SPACES, NULL};
static const char *const qwen2[] = {ENGLISH "|" BEFORE "\\p{L}+|\\p{N}|" OTHERS "[\\r\\n]*|" SPACES, NULL};
static const char *const qwen35[] = {ENGLISH "|" BEFORE "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES,
                                     NULL};
static const char *const gpt4o[] = {
    BEFORE UPPER "*" LOWER "+" ENGLISH "?|" BEFORE UPPER "+" LOWER "*" ENGLISH "?|\\p{N}{1,3}|" OTHERS "[\\r\\n/]*|" SPACES, NULL};
static const char *const tekken[] = {BEFORE UPPER "*" LOWER "+|" BEFORE UPPER "+" LOWER "*|\\p{N}|" OTHERS "[\\r\\n/]*|" SPACES,
                                     NULL};
static const char *const falcon[] = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]", NULL};
/* what files that name none have always been cut by */
static const char *const fallback[] = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]", NULL};
static const char *const deepseek_coder[] = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+",
                                             "\\p{N}",   NULL};
/* (?<!\s) changes nothing but the time that a long run of spaces takes */
static const char *const deepseek_llm[] = {
    "[\\r\\n]",
    "\\s?[" CASED "]+",
    "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
    "(?<!\\s)\\s+$",
    "[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+",
    "\\p{N}+",
    NULL};
static const char *const deepseek_v3[] = {
    "\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+",
    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES, NULL};
static const char *const bailing[] = {ENGLISH "|" BEFORE "\\p{L}+|\\p{N}|" OTHERS "[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+", NULL};
static const char *const seed_coder[] = {ENGLISH "|" BEFORE "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES, NULL};
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
static const char *const bloom[] = {BLOOM, NULL};
static const char *const viking[] = {BLOOM, "\\p{N}", NULL};

typedef struct rule {
    const char *name;
    const char *const *patterns;
    pretokenizer_traits traits;
} rule;

#define LLAMA3(name)                                                                                                               \
    {                                                                                                                              \
        name, llama3,                                                                                                              \
        {                                                                                                                          \
            .ignore_merges = 1, .add_bos = 1                                                                                       \
        }                                                                                                                          \
    }

static const rule rules[] = {
    {"default", fallback, {0}},
    LLAMA3("llama-bpe"),
    LLAMA3("llama3"),
    LLAMA3("llama-v3"),
    LLAMA3("falcon3"),
    LLAMA3("falcon-h1"),
    LLAMA3("pixtral"),
    LLAMA3("midm-2.0"),
    LLAMA3("lfm2"),
    LLAMA3("jina-v5-nano"),
    {"tekken", tekken, {.ignore_merges = 1, .add_bos = 1}},
    {"dbrx", llama3, {0}},
    {"smaug-bpe", llama3, {0}},
    {"glm4", llama3, {0}},
    {"chatglm-bpe", llama3, {0}},
    {"qwen2", qwen2, {0}},
    {"deepseek-r1-qwen", qwen2, {0}},
    {"megrez", qwen2, {0}},
    {"stablelm2", qwen2, {0}},
    {"hunyuan", qwen2, {0}},
    {"solar-open", qwen2, {0}},
    {"qwen35", qwen35, {0}},
    {"gpt-4o", gpt4o, {0}},
    {"llama4", gpt4o, {0}},
    {"minimax-m2", gpt4o, {0}},
    {"gpt-2", gpt2, {0}},
    {"phi-2", gpt2, {0}},
    {"mpt", gpt2, {0}},
    {"olmo", gpt2, {0}},
    {"jais", gpt2, {0}},
    {"exaone4", gpt2, {0}},
    {"trillion", gpt2, {0}},
    {"gigachat", gpt2, {0}},
    {"mellum", gpt2, {0}},
    {"modern-bert", gpt2, {0}},
    {"granite-docling", gpt2, {0}},
    {"a.x-4.0", gpt2, {0}},
    {"starcoder", digits, {0}},
    {"refact", digits, {0}},
    {"command-r", digits, {0}},
    {"smollm", digits, {0}},
    {"codeshell", digits, {0}},
    {"exaone", digits, {0}},
    {"minerva-7b", digits, {0}},
    {"falcon", falcon, {0}},
    {"deepseek-coder", deepseek_coder, {0}},
    {"deepseek-llm", deepseek_llm, {0}},
    {"deepseek-v3", deepseek_v3, {0}},
    {"hunyuan-dense", deepseek_v3, {0}},
    {"bailingmoe", bailing, {0}},
    {"bailingmoe2", bailing, {0}},
    {"llada-moe", bailing, {0}},
    {"seed-coder", seed_coder, {0}},
    {"bloom", bloom, {0}},
    {"gpt3-finnish", bloom, {0}},
    {"poro-chat", bloom, {0}},
    {"viking", viking, {0}},
};

static const rule *find_rule(quern_string name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strlen(rules[i].name) == name.size && !memcmp(rules[i].name, name.data, name.size))
            return &rules[i];
    return NULL;
}

#ifdef QUERN_HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct pretokenizer {
    pcre2_code *codes[MAX_PATTERNS];
    int count;
};

/* ---- building ----------------------------------------------------------------------------------------------------- */

/* The white space of Unicode, which \s of PCRE2 is not quite: it has U+180E besides. */
#define WHITE "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

/* Writes the pattern with \s and \S spelt out. */
static void spell_spaces(const char *pattern, char *dst, size_t room)
{
    int in_class = 0;
    size_t n = 0;
    for (; *pattern && n + sizeof WHITE + 4 < room; pattern++) {
        if (*pattern != '\\') {
            in_class = *pattern == '[' ? 1 : *pattern == ']' ? 0 : in_class;
            dst[n++] = *pattern;
            continue;
        }
        char c = *++pattern;
        if (c == 's' || c == 'S')
            n += (size_t)snprintf(dst + n, room - n, in_class ? "%s%s%s" : "[%s%s%s", c == 'S' ? "^" : "", WHITE,
                                  in_class ? "" : "]");
        else
            n += (size_t)snprintf(dst + n, room - n, "\\%c", c);
    }
    dst[n] = '\0';
}

static quern_status compile(const char *pattern, pcre2_code **out, quern_error *error)
{
    char spelt[4096];
    int code = 0;
    PCRE2_SIZE at = 0;
    spell_spaces(pattern, spelt, sizeof spelt);
    *out = pcre2_compile((PCRE2_SPTR)spelt, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
    if (!*out) {
        char words[120] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)words, sizeof words);
        return quern_fail(error, code == PCRE2_ERROR_NOMEMORY ? QP_ERR_OUT_OF_MEMORY : QP_ERR_UNSUPPORTED,
                          "PCRE2 does not take the pre-tokenizer's expression: %s (at character %zu)", words, (size_t)at);
    }
    pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* where there is none it is interpreted */
    return QP_OK;
}

quern_status pretokenizer_create(quern_string name, pretokenizer **out, pretokenizer_traits *traits, quern_error *error)
{
    const rule *found = find_rule(name);
    if (!found)
        return quern_fail(error, QP_ERR_UNSUPPORTED, "has a vocabulary with the pre-tokenizer '%.*s', which is not supported",
                          name.size > 40 ? 40 : (int)name.size, name.data);
    pretokenizer *pre = calloc(1, sizeof *pre);
    if (!pre)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a pre-tokenizer");
    quern_status status = QP_OK;
    for (; status == QP_OK && pre->count < MAX_PATTERNS && found->patterns[pre->count]; pre->count++)
        status = compile(found->patterns[pre->count], &pre->codes[pre->count], error);
    if (status != QP_OK) {
        pretokenizer_destroy(pre);
        return status;
    }
    *out = pre;
    *traits = found->traits;
    return QP_OK;
}

void pretokenizer_destroy(pretokenizer *pre)
{
    for (int i = 0; pre && i < pre->count; i++)
        pcre2_code_free(pre->codes[i]);
    free(pre);
}

/* ---- cutting ------------------------------------------------------------------------------------------------------ */

typedef struct cutter {
    const pretokenizer *pre;
    pcre2_match_data *found[MAX_PATTERNS]; /* one a level: each is in use while those below work */
    pcre2_match_context *limits;
    pretokenizer_word word;
    void *ctx;
    quern_error *error;
} cutter;

/* Where the next match begins and ends; *begin == size: there is none. */
static quern_status next_match(cutter *c, int level, const char *text, size_t size, size_t from, size_t *begin, size_t *end)
{
    const pcre2_code *code = c->pre->codes[level];
    pcre2_match_data *found = c->found[level];
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int result = pcre2_match(code, subject, size, from, PCRE2_NO_UTF_CHECK, found, c->limits);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack in the heap */
        result = pcre2_match(code, subject, size, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, found, c->limits);
    *begin = *end = size;
    if (result == PCRE2_ERROR_NOMATCH)
        return QP_OK;
    if (result < 0) {
        char words[120] = "";
        pcre2_get_error_message(result, (PCRE2_UCHAR *)words, sizeof words);
        return quern_fail(c->error, result == PCRE2_ERROR_NOMEMORY ? QP_ERR_OUT_OF_MEMORY : QP_ERR_UNSUPPORTED,
                          "PCRE2 gave up on cutting a text of %zu bytes into words (%s); try shorter texts", size, words);
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(found);
    *begin = ends[0];
    *end = ends[1];
    return QP_OK;
}

/* Valid UTF-8 only. As deep as there are patterns. */
static quern_status cut(cutter *c, int level, const char *text, size_t size)
{
    if (level == c->pre->count)
        return c->word(c->ctx, text, size);
    size_t at = 0, begin, end;
    quern_status status = QP_OK;
    while (status == QP_OK && at < size) {
        status = next_match(c, level, text, size, at, &begin, &end);
        if (status == QP_OK && begin > at)
            status = cut(c, level + 1, text + at, begin - at);
        if (status == QP_OK && end > begin)
            status = cut(c, level + 1, text + begin, end - begin);
        at = end > at ? end : size; /* no expression of the table matches nothing */
    }
    return status;
}

/* Cuts between what is UTF-8 and what is not. */
static quern_status cut_valid(cutter *c, const char *text, size_t size)
{
    quern_status status = QP_OK;
    for (size_t at = 0, begin = 0; status == QP_OK && begin < size; begin = at) {
        int length = 0;
        while (at < size && (length = utf8_sequence((const unsigned char *)text + at, size - at)) > 0)
            at += (size_t)length;
        if (at > begin)
            status = cut(c, 0, text + begin, at - begin);
        begin = at;
        while (at < size && (length = utf8_sequence((const unsigned char *)text + at, size - at)) <= 0)
            at += length ? (size_t)-length : 1;
        if (status == QP_OK && at > begin)
            status = c->word(c->ctx, text + begin, at - begin);
    }
    return status;
}

quern_status pretokenizer_split(const pretokenizer *pre, const char *text, size_t size, pretokenizer_word word, void *ctx,
                                quern_error *error)
{
    cutter c = {.pre = pre, .word = word, .ctx = ctx, .error = error, .limits = pcre2_match_context_create(NULL)};
    int ready = c.limits != NULL;
    for (int i = 0; i < pre->count; i++)
        ready &= (c.found[i] = pcre2_match_data_create(1, NULL)) != NULL;
    if (ready) /* every expression goes over a place a few times at most: only one that runs away comes here */
        pcre2_set_match_limit(c.limits, 1000000 + 16 * (uint32_t)(size < 1u << 27 ? size : 1u << 27));
    quern_status status =
        ready ? cut_valid(&c, text, size) : quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize %zu bytes", size);
    for (int i = 0; i < pre->count; i++)
        pcre2_match_data_free(c.found[i]);
    pcre2_match_context_free(c.limits);
    return status;
}

#else

quern_status pretokenizer_create(quern_string name, pretokenizer **out, pretokenizer_traits *traits, quern_error *error)
{
    (void)out, (void)traits;
    if (!find_rule(name))
        return quern_fail(error, QP_ERR_UNSUPPORTED, "has a vocabulary with the pre-tokenizer '%.*s', which is not supported",
                          name.size > 40 ? 40 : (int)name.size, name.data);
    return quern_fail(error, QP_ERR_UNSUPPORTED,
                      "has a byte-level BPE tokenizer, which needs PCRE2, and quern was built without it: install its headers "
                      "(libpcre2-dev, pcre2-devel) and build again with meson's option -Dpcre2=enabled");
}

void pretokenizer_destroy(pretokenizer *pre)
{
    (void)pre;
}

quern_status pretokenizer_split(const pretokenizer *pre, const char *text, size_t size, pretokenizer_word word, void *ctx,
                                quern_error *error)
{
    (void)pre, (void)text, (void)size, (void)word, (void)ctx;
    return quern_fail(error, QP_ERR_UNSUPPORTED, "built without PCRE2");
}

#endif
