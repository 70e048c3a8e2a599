/* SPDX-License-Identifier: MIT
 * engine/tokenizer.c: vocabularies from GGUF metadata, and texts cut at special tokens. How the text between them becomes tokens
 * is the model's part: tokenizer_spm.c, tokenizer_bpe.c. */
#include "engine/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>

/* One row a tokenizer model. */
static const tokenizer_model *const models[] = {
    &tokenizer_spm,
    &tokenizer_bpe,
};

#define DEEPSEEK_END                                                                                                               \
    "<\xef\xbd\x9c"                                                                                                                \
    "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"

/* Tokens that end an answer, under the names that model families give them; the ids in the metadata count besides. */
static const char *const stop_names[] = {
    "</s>",          "<|endoftext|>",      "<|end_of_text|>", "<|im_end|>", "<|end|>",         "<|eot_id|>",
    "<|eom_id|>",    "<end_of_turn>",      "<|return|>",      "<|call|>",   "<EOT>",           "<|EOT|>",
    "<|endofturn|>", "<end_of_utterance>", "[EOS]",           "<eos>",      "<|end_of_turn|>", DEEPSEEK_END,
};

int32_t tokenizer_find(const quern_tokenizer *tokenizer, const char *piece, size_t size)
{
    uint64_t hash = hash_bytes(piece, size), slot = hash;
    for (uint32_t n; (n = hash_index_next(&tokenizer->index, hash, &slot));) {
        quern_string other = tokenizer_piece(tokenizer, (int32_t)n - 1);
        if (other.size == size && !memcmp(other.data, piece, size))
            return (int32_t)n - 1;
    }
    return -1;
}

quern_status tokenizer_push(quern_token_list *list, int32_t token, quern_error *error)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity < 64 ? 64 : list->capacity * 2;
        int32_t *ids = realloc(list->ids, capacity * sizeof *ids);
        if (!ids)
            return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for %zu tokens", capacity);
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = token;
    return QP_OK;
}

void quern_token_list_free(quern_token_list *list)
{
    if (!list)
        return;
    free(list->ids);
    *list = (quern_token_list){0};
}

/* ---- building ----------------------------------------------------------------------------------------------------- */

static quern_status find_model(const quern_gguf *gguf, const tokenizer_model **out, quern_error *error)
{
    quern_string name;
    if (!quern_gguf_find(gguf, "tokenizer.ggml.model"))
        return quern_fail(error, QP_ERR_NOT_FOUND, "has no tokenizer (no tokenizer.ggml.model in its metadata)");
    quern_status status = quern_gguf_get_string(gguf, "tokenizer.ggml.model", 0, &name, NULL);
    if (status != QP_OK)
        return quern_fail(error, QP_ERR_FORMAT, "tokenizer.ggml.model is not a STRING");
    if (name.size == 8 && !memcmp(name.data, "no_vocab", 8))
        return quern_fail(error, QP_ERR_NOT_FOUND, "has no vocabulary (tokenizer.ggml.model is no_vocab)");
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (name.size == strlen(models[i]->name) && !memcmp(name.data, models[i]->name, name.size)) {
            *out = models[i];
            return QP_OK;
        }
    }
    return quern_fail(error, QP_ERR_UNSUPPORTED, "has a tokenizer of model '%.*s', which is not supported",
                      name.size > 40 ? 40 : (int)name.size, name.data);
}

static quern_status no_memory(const quern_tokenizer *t, quern_error *error)
{
    return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a vocabulary of %u tokens", t->count);
}

static quern_status copy_pieces(quern_tokenizer *t, const quern_gguf *gguf, quern_error *error)
{
    const quern_gguf_kv *kv = quern_gguf_find(gguf, "tokenizer.ggml.tokens");
    if (!kv || kv->type != QUERN_GGUF_ARRAY || kv->element_type != QUERN_GGUF_STRING)
        return quern_fail(error, QP_ERR_FORMAT, "tokenizer.ggml.tokens is %s", kv ? "not an array of STRING" : "not there");
    if (kv->count == 0 || kv->count > TOKENIZER_MAX_TOKENS)
        return quern_fail(error, QP_ERR_FORMAT, "tokenizer.ggml.tokens has %" PRIu64 " tokens; 1 to %u are allowed", kv->count,
                          (uint32_t)TOKENIZER_MAX_TOKENS);
    const gguf_value *value = gguf_value_of(gguf, kv);
    t->count = (uint32_t)kv->count;
    t->text = malloc(value->size); /* lengths included: more than the bytes */
    t->offsets = malloc((t->count + (size_t)1) * sizeof *t->offsets);
    t->kinds = malloc(t->count);
    t->stops = calloc(t->count, 1);
    t->strips = calloc(t->count, 1);
    if (!t->text || !t->offsets || !t->kinds || !t->stops || !t->strips || !hash_index_create(&t->index, t->count))
        return no_memory(t, error);
    t->offsets[0] = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        quern_string piece = gguf_string_at(gguf, value, i);
        if (piece.size > TOKENIZER_MAX_PIECE)
            return quern_fail(error, QP_ERR_FORMAT, "token %u of the vocabulary is %" PRIu64 " bytes long; at most %u are allowed",
                              i, piece.size, (uint32_t)TOKENIZER_MAX_PIECE);
        memcpy(t->text + t->offsets[i], piece.data, piece.size);
        t->offsets[i + 1] = t->offsets[i] + (uint32_t)piece.size;
    }
    return QP_OK;
}

static quern_status copy_kinds(quern_tokenizer *t, const quern_gguf *gguf, quern_error *error)
{
    const char *key = "tokenizer.ggml.token_type";
    memset(t->kinds, QUERN_TOKEN_NORMAL, t->count);
    const quern_gguf_kv *kv = quern_gguf_find(gguf, key);
    if (!kv)
        return QP_OK; /* optional in the specification; the model then knows its bytes by their look */
    if (kv->type != QUERN_GGUF_ARRAY || (kv->element_type != QUERN_GGUF_INT32 && kv->element_type != QUERN_GGUF_UINT32))
        return quern_fail(error, QP_ERR_FORMAT, "%s is not an array of INT32", key);
    if (kv->count != t->count)
        return quern_fail(error, QP_ERR_FORMAT, "%s has %" PRIu64 " values for %u tokens", key, kv->count, t->count);
    const unsigned char *values = gguf->head + gguf_value_of(gguf, kv)->offset;
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t kind;
        memcpy(&kind, values + (size_t)i * 4, sizeof kind);
        if (kind < QUERN_TOKEN_NORMAL || kind > QUERN_TOKEN_BYTE)
            return quern_fail(error, QP_ERR_FORMAT, "%s of token %u is %u; 1 to 6 are allowed", key, i, kind);
        t->kinds[i] = (uint8_t)kind;
    }
    return QP_OK;
}

/* A token's number from the metadata. Absent, or 2^32 − 1 as some writers put it: *out stays. */
static quern_status read_id(const quern_tokenizer *t, const quern_gguf *gguf, const char *key, int32_t *out, quern_error *error)
{
    if (!quern_gguf_find(gguf, key))
        return QP_OK;
    uint64_t id = 0;
    if (quern_gguf_get_u64(gguf, key, 0, &id, NULL) != QP_OK)
        return quern_fail(error, QP_ERR_FORMAT, "%s is not an unsigned integer", key);
    if (id == UINT32_MAX) {
        *out = -1;
        return QP_OK;
    }
    if (id >= t->count)
        return quern_fail(error, QP_ERR_FORMAT, "%s is %" PRIu64 ", outside the vocabulary of %u tokens", key, id, t->count);
    *out = (int32_t)id;
    return QP_OK;
}

static quern_status read_flag(const quern_gguf *gguf, const char *key, int *out, quern_error *error)
{
    const quern_gguf_kv *kv = quern_gguf_find(gguf, key);
    if (!kv)
        return QP_OK;
    uint64_t value = 0;
    if (kv->type != QUERN_GGUF_BOOL || quern_gguf_get_u64(gguf, key, 0, &value, NULL) != QP_OK)
        return quern_fail(error, QP_ERR_FORMAT, "%s is of type %s; it must be BOOL", key, gguf_type_name(kv->type));
    *out = value != 0;
    return QP_OK;
}

static int32_t default_id(const quern_tokenizer *t, int32_t id)
{
    if (id < 0 || (uint32_t)id >= t->count || (t->kinds[id] != QUERN_TOKEN_CONTROL && t->kinds[id] != QUERN_TOKEN_UNKNOWN))
        return -1;
    return id;
}

/* The last token of this text that is special or, with `any`, whatever it is; -1: none. */
static int32_t find_named(const quern_tokenizer *t, const char *name, int any)
{
    size_t size = strlen(name);
    for (uint32_t i = t->count; i--;) {
        if (t->offsets[i + 1] - t->offsets[i] == size && !memcmp(t->text + t->offsets[i], name, size) &&
            (any || t->kinds[i] == QUERN_TOKEN_CONTROL || t->kinds[i] == QUERN_TOKEN_USER))
            return (int32_t)i;
    }
    return -1;
}

/* Some files give the types of these tokens wrongly. What looks like <|this|> cannot be meant as text. */
static void mark_stops(quern_tokenizer *t)
{
    for (size_t i = 0; i < sizeof stop_names / sizeof *stop_names; i++) {
        int32_t id = find_named(t, stop_names[i], stop_names[i][0] == '<' && stop_names[i][1] == '|');
        if (id < 0)
            continue;
        t->stops[id] = 1;
        if (t->kinds[id] != QUERN_TOKEN_USER)
            t->kinds[id] = QUERN_TOKEN_CONTROL;
    }
    /* Where an answer has parts (thinking, then what is said), <|end|> ends a part. */
    int32_t end = find_named(t, "<|end|>", 1);
    if (end >= 0 && end != t->eos && find_named(t, "<|return|>", 1) >= 0 && find_named(t, "<|call|>", 1) >= 0)
        t->stops[end] = 0;
}

static quern_status read_ids(quern_tokenizer *t, const quern_gguf *gguf, quern_error *error)
{
    static const char *const stop_keys[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    t->bos = default_id(t, t->model->bos);
    t->eos = default_id(t, t->model->eos);
    t->unknown = default_id(t, t->model->unknown);
    t->add_bos = t->model->add_bos;
    t->add_space_prefix = 1;
    quern_status status = read_id(t, gguf, "tokenizer.ggml.bos_token_id", &t->bos, error);
    if (status == QP_OK)
        status = read_id(t, gguf, "tokenizer.ggml.eos_token_id", &t->eos, error);
    if (status == QP_OK)
        status = read_id(t, gguf, "tokenizer.ggml.unknown_token_id", &t->unknown, error);
    if (status == QP_OK)
        status = read_flag(gguf, "tokenizer.ggml.add_bos_token", &t->add_bos, error);
    if (status == QP_OK)
        status = read_flag(gguf, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix, error);
    if (t->eos >= 0)
        t->stops[t->eos] = 1;
    for (size_t i = 0; status == QP_OK && i < sizeof stop_keys / sizeof *stop_keys; i++) {
        int32_t id = -1;
        status = read_id(t, gguf, stop_keys[i], &id, error);
        if (id >= 0)
            t->stops[id] = 1;
    }
    return status;
}

static int is_special(const quern_tokenizer *t, int32_t token)
{
    return t->kinds[token] == QUERN_TOKEN_CONTROL || t->kinds[token] == QUERN_TOKEN_UNKNOWN || t->kinds[token] == QUERN_TOKEN_USER;
}

/* Files in use have empty pieces, which no text becomes, and some that are there twice: the last one is taken, as other programs
 * do, but none that is special hides one that is not (special ones are looked for in the text itself). */
static void index_pieces(quern_tokenizer *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        quern_string piece = tokenizer_piece(t, (int32_t)i);
        uint64_t hash = hash_bytes(piece.data, piece.size), slot = hash;
        uint32_t n = 0;
        while (piece.size && (n = hash_index_next(&t->index, hash, &slot))) {
            quern_string other = tokenizer_piece(t, (int32_t)n - 1);
            if (other.size == piece.size && !memcmp(other.data, piece.data, piece.size))
                break;
        }
        if (n && (!is_special(t, (int32_t)i) || is_special(t, (int32_t)n - 1)))
            hash_index_put(&t->index, hash, slot - 1, i);
        else if (!n && piece.size)
            hash_index_put(&t->index, hash, slot, i);
    }
}

static int by_piece(const void *a, const void *b, void *ctx)
{
    quern_string x = tokenizer_piece(ctx, *(const int32_t *)a), y = tokenizer_piece(ctx, *(const int32_t *)b);
    int order = memcmp(x.data, y.data, x.size < y.size ? x.size : y.size);
    if (!order)
        order = (x.size > y.size) - (x.size < y.size);
    return order ? order : *(const int32_t *)b - *(const int32_t *)a; /* of equal ones the last comes first */
}

static int same_piece(const quern_tokenizer *t, int32_t a, int32_t b)
{
    quern_string x = tokenizer_piece(t, a), y = tokenizer_piece(t, b);
    return x.size == y.size && !memcmp(x.data, y.data, x.size);
}

static quern_status list_specials(quern_tokenizer *t, quern_error *error)
{
    for (uint32_t i = 0; i < t->count; i++)
        t->special_count += (uint32_t)is_special(t, (int32_t)i);
    t->specials = malloc((t->special_count + (size_t)1) * sizeof *t->specials);
    if (!t->specials)
        return no_memory(t, error);
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->count; i++)
        if (is_special(t, (int32_t)i) && tokenizer_piece(t, (int32_t)i).size)
            t->specials[n++] = (int32_t)i;
    qsort_r(t->specials, n, sizeof *t->specials, by_piece, t);
    t->special_count = n;
    n = 0;
    for (uint32_t i = 0; i < t->special_count; i++)
        if (!n || !same_piece(t, t->specials[i], t->specials[n - 1]))
            t->specials[n++] = t->specials[i];
    t->special_count = n;
    for (uint32_t byte = 0, i = 0; byte <= 256; byte++) {
        while (i < n && (unsigned char)tokenizer_piece(t, t->specials[i]).data[0] < byte)
            i++;
        t->starts[byte] = i;
    }
    return QP_OK;
}

/* Phi-3's special tokens swallow the white space after them; GGUF has no field for that, so it goes by the model's name, as in
 * every program that reads these files. */
static void mark_strips(quern_tokenizer *t, const quern_gguf *gguf)
{
    quern_string name;
    if (quern_gguf_get_string(gguf, "general.architecture", 0, &name, NULL) != QP_OK || name.size != 4 ||
        memcmp(name.data, "phi3", 4))
        return;
    static const char *const keep[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (uint32_t i = 0; i < t->special_count; i++)
        t->strips[t->specials[i]] = t->kinds[t->specials[i]] != QUERN_TOKEN_UNKNOWN;
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++) {
        int32_t id = tokenizer_find(t, keep[i], strlen(keep[i]));
        if (id >= 0)
            t->strips[id] = 0;
    }
}

static quern_status build(quern_tokenizer *t, const quern_gguf *gguf, quern_error *error)
{
    quern_status status = find_model(gguf, &t->model, error);
    if (status == QP_OK)
        status = copy_pieces(t, gguf, error);
    if (status == QP_OK)
        status = copy_kinds(t, gguf, error);
    if (status == QP_OK)
        status = read_ids(t, gguf, error);
    if (status == QP_OK) {
        mark_stops(t);
        index_pieces(t);
        status = t->model->create(t, gguf, error);
    }
    if (status == QP_OK)
        status = list_specials(t, error);
    if (status == QP_OK)
        mark_strips(t, gguf);
    return status;
}

quern_status quern_tokenizer_create(const quern_gguf *gguf, quern_tokenizer **out, quern_error *error)
{
    if (!gguf || !out)
        return quern_fail(error, QP_ERR_INVALID, "no model file was given to take a tokenizer from");
    quern_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a tokenizer");
    quern_status status = build(t, gguf, error);
    if (status == QP_OK) {
        *out = t;
        return QP_OK;
    }
    quern_fail_prefix(error, status, "%.200s: ", quern_gguf_path(gguf));
    quern_tokenizer_destroy(t);
    return status;
}

void quern_tokenizer_destroy(quern_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    if (tokenizer->model)
        tokenizer->model->destroy(tokenizer);
    hash_index_free(&tokenizer->index);
    free(tokenizer->text);
    free(tokenizer->offsets);
    free(tokenizer->kinds);
    free(tokenizer->stops);
    free(tokenizer->strips);
    free(tokenizer->specials);
    free(tokenizer);
}

const char *quern_tokenizer_model(const quern_tokenizer *tokenizer)
{
    return tokenizer ? tokenizer->model->name : "";
}

uint32_t quern_tokenizer_size(const quern_tokenizer *tokenizer)
{
    return tokenizer ? tokenizer->count : 0;
}

int32_t quern_tokenizer_bos(const quern_tokenizer *tokenizer)
{
    return tokenizer ? tokenizer->bos : -1;
}

int32_t quern_tokenizer_eos(const quern_tokenizer *tokenizer)
{
    return tokenizer ? tokenizer->eos : -1;
}

int quern_tokenizer_is_stop(const quern_tokenizer *tokenizer, int32_t token)
{
    return tokenizer && token >= 0 && (uint32_t)token < tokenizer->count && tokenizer->stops[token];
}

quern_token_kind quern_tokenizer_kind(const quern_tokenizer *tokenizer, int32_t token)
{
    return tokenizer && token >= 0 && (uint32_t)token < tokenizer->count ? (quern_token_kind)tokenizer->kinds[token]
                                                                         : QUERN_TOKEN_UNKNOWN;
}

/* ---- text to tokens ----------------------------------------------------------------------------------------------- */

/* The first of specials[low, high), which agree in `depth` bytes, whose next byte is >= byte. */
static uint32_t narrow(const quern_tokenizer *t, uint32_t low, uint32_t high, size_t depth, unsigned byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        quern_string piece = tokenizer_piece(t, t->specials[middle]);
        if (piece.size <= depth || (unsigned char)piece.data[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest special token at the start of text, or -1. Without `all` only user-defined ones that are not guarded. */
static int32_t match_special(const quern_tokenizer *t, const char *text, size_t size, int all, const uint8_t *guarded)
{
    unsigned byte = (unsigned char)text[0];
    uint32_t low = t->starts[byte], high = t->starts[byte + 1];
    int32_t found = -1;
    for (size_t depth = 1; low < high; depth++) {
        int32_t token = t->specials[low]; /* of those that agree, the one that ends here comes first */
        if (tokenizer_piece(t, token).size == depth &&
            (all || (t->kinds[token] == QUERN_TOKEN_USER && !(guarded && guarded[token]))))
            found = token;
        if (depth == size)
            break;
        byte = (unsigned char)text[depth];
        low = narrow(t, low, high, depth, byte);
        high = narrow(t, low, high, depth, byte + 1);
    }
    return found;
}

static size_t skip_space(const char *text, size_t at, size_t size)
{
    while (at < size && (text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r')))
        at++;
    return at;
}

/* What is said of a place in the text: whether special tokens are looked for there, and where that ends. */
typedef struct place_rule {
    int all;
    size_t end;
} place_rule;

/* *next: the first span that does not end before `at`. */
static place_rule rule_at(const tokenizer_marks *marks, size_t at, size_t size, size_t *next)
{
    while (*next < marks->count && marks->spans[*next].end <= at)
        ++*next;
    if (*next == marks->count)
        return (place_rule){0, size};
    const tokenizer_span *span = &marks->spans[*next];
    return at >= span->begin ? (place_rule){1, span->end} : (place_rule){0, span->begin};
}

/* Ordinary text must not have become a token that has a meaning of its own. */
static quern_status check_plain(const quern_tokenizer *t, const quern_token_list *list, size_t from, const uint8_t *guarded,
                                quern_error *error)
{
    for (size_t i = from; guarded && i < list->count; i++) {
        int32_t token = list->ids[i];
        quern_string piece = tokenizer_piece(t, token);
        if (guarded[token])
            return quern_fail(
                error, QP_ERR_UNSUPPORTED,
                "the vocabulary turns ordinary text into token %d '%.*s', which has a meaning of its own: the text cannot be "
                "passed on safely",
                token, piece.size > 40 ? 40 : (int)piece.size, piece.data);
    }
    return QP_OK;
}

static quern_status encode_plain(const quern_tokenizer *t, const char *text, size_t size, const uint8_t *guarded,
                                 quern_token_list *list, quern_error *error)
{
    size_t before = list->count;
    quern_status status = size ? t->model->encode(t, text, size, list, error) : QP_OK;
    return status == QP_OK ? check_plain(t, list, before, guarded, error) : status;
}

/* Cuts the text at special tokens, leftmost and longest first. */
static quern_status encode_all(const quern_tokenizer *t, const char *text, size_t size, const tokenizer_marks *marks,
                               quern_token_list *list, quern_error *error)
{
    size_t begin = 0, span = 0;
    for (size_t at = 0; at < size;) {
        place_rule rule = rule_at(marks, at, size, &span);
        int32_t token = t->starts[(unsigned char)text[at]] == t->starts[(unsigned char)text[at] + 1]
                            ? -1
                            : match_special(t, text + at, rule.end - at, rule.all, marks->guarded);
        if (token < 0) {
            at++;
            continue;
        }
        quern_status status = encode_plain(t, text + begin, at - begin, marks->guarded, list, error);
        if (status == QP_OK)
            status = tokenizer_push(list, token, error);
        if (status != QP_OK)
            return status;
        at += tokenizer_piece(t, token).size;
        if (t->strips[token])
            at = skip_space(text, at, size);
        begin = at;
    }
    return encode_plain(t, text + begin, size - begin, marks->guarded, list, error);
}

static quern_status check_size(size_t size, quern_error *error)
{
    if (size <= TOKENIZER_MAX_TEXT)
        return QP_OK;
    return quern_fail(error, QP_ERR_INVALID, "a text of %zu bytes is too long to tokenize at once; at most %zu are possible", size,
                      TOKENIZER_MAX_TEXT);
}

quern_status tokenizer_encode_marked(const quern_tokenizer *tokenizer, const char *text, size_t size, const tokenizer_marks *marks,
                                     quern_token_list *list, quern_error *error)
{
    size_t count = list->count;
    quern_status status = check_size(size, error);
    if (status == QP_OK)
        status = encode_all(tokenizer, text, size, marks, list, error);
    if (status != QP_OK)
        list->count = count;
    return status;
}

quern_status quern_tokenize(const quern_tokenizer *tokenizer, const char *text, size_t size, uint32_t flags, quern_token_list *list,
                            quern_error *error)
{
    if (!tokenizer || !list || (!text && size))
        return quern_fail(error, QP_ERR_INVALID, "no tokenizer, text or list was given");
    if (flags & ~(uint32_t)(QUERN_TOKENIZE_BOS | QUERN_TOKENIZE_SPECIAL))
        return quern_fail(error, QP_ERR_INVALID, "tokenize flags 0x%x are not known", flags);
    tokenizer_span whole = {0, size};
    tokenizer_marks marks = {.spans = &whole, .count = (flags & QUERN_TOKENIZE_SPECIAL) != 0};
    size_t count = list->count;
    quern_status status = check_size(size, error);
    if (status == QP_OK && (flags & QUERN_TOKENIZE_BOS) && tokenizer->add_bos && tokenizer->bos >= 0)
        status = tokenizer_push(list, tokenizer->bos, error);
    if (status == QP_OK)
        status = encode_all(tokenizer, text, size, &marks, list, error);
    if (status != QP_OK)
        list->count = count;
    return status;
}

/* ---- tokens to text ----------------------------------------------------------------------------------------------- */

int quern_token_first(const quern_tokenizer *tokenizer, int32_t before)
{
    return !tokenizer || before < 0 || (uint32_t)before >= tokenizer->count || is_special(tokenizer, before);
}

size_t quern_token_bytes(const quern_tokenizer *tokenizer, int32_t token, int first, int special, char *dst, size_t size)
{
    if (!tokenizer || token < 0 || (uint32_t)token >= tokenizer->count)
        return 0;
    if (!is_special(tokenizer, token))
        return tokenizer->model->decode(tokenizer, token, first, dst, size);
    if (tokenizer->kinds[token] != QUERN_TOKEN_USER && !special)
        return 0;
    quern_string piece = tokenizer_piece(tokenizer, token);
    if (size && dst)
        memcpy(dst, piece.data, piece.size < size ? piece.size : size);
    return piece.size;
}
