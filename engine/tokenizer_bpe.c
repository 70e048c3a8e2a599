/* SPDX-License-Identifier: MIT
 * engine/tokenizer_bpe.c: byte-level byte-pair encoding, as of GPT-2 (Sennrich, Haddow, Birch 2016; Radford et al. 2019).
 *
 * Vocabularies write bytes as characters that can be printed: 0x41 as "A", a space as U+0120. A text is cut into words
 * (pretokenizer.h); a word begins as one token a byte, and of all neighbours that a merge of the model joins, those of the earliest
 * merge are joined first, the leftmost of equal ones. A pair that is listed twice has the rank of its first place. Merges of
 * pieces that are not tokens, or are special ones, never take part. */
#include "engine/pretokenizer.h"
#include "engine/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    SHORT_WORD = 32,    /* bytes up to which looking at all pairs is quicker than a heap */
    LAST_WRITTEN = 323, /* the last character that stands for a byte */
    CACHE_WORDS = 1024,
    CACHE_TEXT = 4096, /* shorter texts do not repeat themselves enough */
    CACHED_BYTES = 20,
    CACHED_TOKENS = 6
};

typedef struct bpe_merge {
    uint32_t left, right;
    uint32_t rank;  /* smaller is earlier */
    uint32_t token; /* + 1; 0: a free slot */
} bpe_merge;

typedef struct bpe_state {
    pretokenizer *pre;
    pretokenizer_traits traits;
    bpe_merge *merges; /* open-addressed, at most half full */
    uint64_t merge_mask;
    uint32_t longest;               /* piece */
    int32_t bytes[256];             /* token of each byte, -1: none */
    uint16_t written[256];          /* the character of each byte */
    int16_t read[LAST_WRITTEN + 1]; /* the byte of each character, -1: it stands for itself */
} bpe_state;

/* ---- bytes and characters ----------------------------------------------------------------------------------------- */

static void make_alphabet(bpe_state *s)
{
    uint16_t next = 256;
    memset(s->read, 0xff, sizeof s->read);
    for (unsigned byte = 0; byte < 256; byte++) {
        int printable = (byte > ' ' && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
        s->written[byte] = printable ? (uint16_t)byte : next++;
        s->read[s->written[byte]] = (int16_t)byte;
    }
}

static size_t write_byte(const bpe_state *s, unsigned char byte, char *dst)
{
    unsigned c = s->written[byte];
    if (c < 0x80)
        return dst[0] = (char)c, 1;
    return dst[0] = (char)(0xc0 | c >> 6), dst[1] = (char)(0x80 | (c & 63)), 2;
}

/* The byte that a piece's characters at `at` stand for; *used: how many bytes of the piece that takes. */
static char read_byte(const bpe_state *s, quern_string piece, size_t at, size_t *used)
{
    unsigned char a = (unsigned char)piece.data[at];
    *used = 1;
    if (at + 1 < piece.size && a >= 0xc2 && a < 0xe0) {
        unsigned char b = (unsigned char)piece.data[at + 1];
        unsigned c = (a & 31u) << 6 | (b & 63u);
        if (b >> 6 == 2 && c <= LAST_WRITTEN && s->read[c] >= 0) {
            *used = 2;
            return (char)s->read[c];
        }
    }
    return (char)a; /* not of the alphabet: as it is */
}

/* Whether words may turn into this token: text that looks like a special token must not. A user-defined one is written as it is and
 * not in the alphabet, which is the same for some. */
static int can_come_out(const quern_tokenizer *t, int32_t token)
{
    if (token < 0 || t->kinds[token] == QUERN_TOKEN_CONTROL || t->kinds[token] == QUERN_TOKEN_UNKNOWN)
        return 0;
    quern_string piece = tokenizer_piece(t, token);
    for (size_t i = 0; t->kinds[token] == QUERN_TOKEN_USER && i < piece.size; i++)
        if (piece.data[i] <= ' ' || piece.data[i] > '~')
            return 0;
    return 1;
}

/* ---- building ----------------------------------------------------------------------------------------------------- */

static bpe_merge *merge_slot(const bpe_state *s, uint32_t left, uint32_t right)
{
    uint64_t at = hash_mix(((uint64_t)left << 32 | right) ^ 0x9e3779b97f4a7c15u, 0xd6e8feb86659fd93u);
    for (;; at++) {
        bpe_merge *m = &s->merges[at & s->merge_mask];
        if (!m->token || (m->left == left && m->right == right))
            return m;
    }
}

static int32_t find_usable(const quern_tokenizer *t, const char *piece, size_t size)
{
    int32_t token = tokenizer_find(t, piece, size);
    return can_come_out(t, token) ? token : -1;
}

static quern_status add_merge(const quern_tokenizer *t, bpe_state *s, quern_string text, uint32_t rank, quern_error *error)
{
    char joined[2 * TOKENIZER_MAX_PIECE];
    const char *space = text.size > 1 ? memchr(text.data + 1, ' ', text.size - 1) : NULL; /* the first byte may be a space itself */
    if (!space || space + 1 == text.data + text.size)
        return quern_fail(error, QP_ERR_FORMAT, "merge %u ('%.*s') is not two pieces with a space between them", rank,
                          text.size > 60 ? 60 : (int)text.size, text.data);
    size_t left_size = (size_t)(space - text.data), right_size = text.size - left_size - 1;
    if (left_size + right_size > s->longest)
        return QP_OK; /* no token is as long as that */
    int32_t left = find_usable(t, text.data, left_size), right = find_usable(t, space + 1, right_size);
    if (left < 0 || right < 0)
        return QP_OK;
    memcpy(joined, text.data, left_size);
    memcpy(joined + left_size, space + 1, right_size);
    int32_t token = find_usable(t, joined, left_size + right_size);
    bpe_merge *slot = merge_slot(s, (uint32_t)left, (uint32_t)right);
    if (token >= 0 && !slot->token)
        *slot = (bpe_merge){(uint32_t)left, (uint32_t)right, rank, (uint32_t)token + 1};
    return QP_OK;
}

static quern_status read_merges(const quern_tokenizer *t, bpe_state *s, const quern_gguf *gguf, quern_error *error)
{
    const char *key = "tokenizer.ggml.merges";
    const quern_gguf_kv *kv = quern_gguf_find(gguf, key);
    if (!kv || kv->type != QUERN_GGUF_ARRAY || kv->element_type != QUERN_GGUF_STRING)
        return quern_fail(error, QP_ERR_FORMAT, "%s is %s", key,
                          kv ? "not an array of STRING" : "not there; a tokenizer of model 'gpt2' needs it");
    if (kv->count > TOKENIZER_MAX_TOKENS)
        return quern_fail(error, QP_ERR_FORMAT, "%s has %" PRIu64 " entries; at most %u are allowed", key, kv->count,
                          (uint32_t)TOKENIZER_MAX_TOKENS);
    uint64_t slots = 16;
    while (slots < kv->count * 2)
        slots *= 2;
    s->merges = calloc(slots, sizeof *s->merges);
    s->merge_mask = slots - 1;
    if (!s->merges)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for %" PRIu64 " merges", kv->count);
    const gguf_value *value = gguf_value_of(gguf, kv);
    quern_status status = QP_OK;
    for (uint64_t i = 0; status == QP_OK && i < kv->count; i++)
        status = add_merge(t, s, gguf_string_at(gguf, value, i), (uint32_t)i, error);
    return status;
}

static quern_status make_pretokenizer(quern_tokenizer *t, bpe_state *s, const quern_gguf *gguf, quern_error *error)
{
    const char *key = "tokenizer.ggml.pre";
    quern_string name = {"default", 7};
    if (quern_gguf_find(gguf, key) && quern_gguf_get_string(gguf, key, 0, &name, NULL) != QP_OK)
        return quern_fail(error, QP_ERR_FORMAT, "%s is not a STRING", key);
    quern_status status = pretokenizer_create(name, &s->pre, &s->traits, error);
    if (status == QP_OK && !quern_gguf_find(gguf, "tokenizer.ggml.add_bos_token"))
        t->add_bos = s->traits.add_bos;
    return status;
}

static quern_status bpe_create(quern_tokenizer *t, const quern_gguf *gguf, quern_error *error)
{
    bpe_state *s = calloc(1, sizeof *s);
    if (!s)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a tokenizer");
    t->state = s;
    make_alphabet(s);
    for (uint32_t i = 0; i < t->count; i++) {
        uint32_t size = (uint32_t)tokenizer_piece(t, (int32_t)i).size;
        s->longest = size > s->longest ? size : s->longest;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        char character[2];
        s->bytes[byte] = find_usable(t, character, write_byte(s, (unsigned char)byte, character));
    }
    quern_status status = make_pretokenizer(t, s, gguf, error);
    return status == QP_OK ? read_merges(t, s, gguf, error) : status;
}

static void bpe_destroy(quern_tokenizer *t)
{
    bpe_state *s = t->state;
    if (s) {
        pretokenizer_destroy(s->pre);
        free(s->merges);
    }
    free(s);
}

/* ---- merging ------------------------------------------------------------------------------------------------------ */

/* What a word has become so far, a chain by index. A byte without a token is -1 - byte; GONE: it is part of the one before. */
typedef struct symbol {
    int32_t token, before, after;
} symbol;

#define GONE INT32_MIN

typedef struct cached_word {
    uint8_t size, count; /* of bytes, 0: free; of tokens */
    char text[CACHED_BYTES];
    int32_t tokens[CACHED_TOKENS];
} cached_word;

typedef struct work {
    const quern_tokenizer *t;
    const bpe_state *s;
    quern_token_list *list;
    quern_error *error;
    symbol *symbols;
    size_t symbol_capacity;
    uint64_t *heap; /* rank << 32 | left symbol: the order in which pairs are merged. Stale ones are known by their rank */
    size_t heap_count, heap_capacity;
    char *piece; /* a word in the alphabet: the longest piece and a character */
    cached_word *cache;
} work;

static const bpe_merge *find_merge(const bpe_state *s, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return NULL;
    const bpe_merge *m = merge_slot(s, (uint32_t)left, (uint32_t)right);
    return m->token ? m : NULL;
}

static int32_t byte_symbol(const bpe_state *s, unsigned char byte)
{
    return s->bytes[byte] >= 0 ? s->bytes[byte] : -1 - (int32_t)byte;
}

/* A byte that no token stands for (some vocabularies lack those that UTF-8 never has) becomes U+FFFD, or unknown text. */
static quern_status emit_lost(work *w, unsigned char byte)
{
    const int32_t *bytes = w->s->bytes;
    quern_status status = QP_OK;
    if (bytes[0xef] >= 0 && bytes[0xbf] >= 0 && bytes[0xbd] >= 0) {
        const int32_t replacement[] = {bytes[0xef], bytes[0xbf], bytes[0xbd]};
        for (int i = 0; status == QP_OK && i < 3; i++)
            status = tokenizer_push(w->list, replacement[i], w->error);
        return status;
    }
    int32_t unknown = w->t->unknown;
    if (unknown < 0 || w->t->kinds[unknown] != QUERN_TOKEN_UNKNOWN)
        return quern_fail(w->error, QP_ERR_FORMAT, "the vocabulary has no token for the byte 0x%02x and none for unknown text",
                          byte);
    return tokenizer_push(w->list, unknown, w->error);
}

static quern_status emit(work *w, int32_t token)
{
    return token >= 0 ? tokenizer_push(w->list, token, w->error) : emit_lost(w, (unsigned char)(-1 - token));
}

/* Looks at all pairs, joins the best, starts again: quick while the word is short. */
static quern_status encode_short(work *w, const char *text, size_t size)
{
    const bpe_state *s = w->s;
    int32_t tokens[SHORT_WORD];
    const bpe_merge *pairs[SHORT_WORD];
    size_t count = size;
    for (size_t i = 0; i < size; i++) {
        tokens[i] = byte_symbol(s, (unsigned char)text[i]);
        if (i)
            pairs[i - 1] = find_merge(s, tokens[i - 1], tokens[i]);
    }
    for (;;) {
        size_t best = count;
        for (size_t i = 0; i + 1 < count; i++)
            if (pairs[i] && (best == count || pairs[i]->rank < pairs[best]->rank))
                best = i;
        if (best == count)
            break;
        tokens[best] = (int32_t)pairs[best]->token - 1;
        count--;
        for (size_t i = best + 1; i < count; i++) {
            tokens[i] = tokens[i + 1];
            pairs[i - 1] = pairs[i];
        }
        if (best)
            pairs[best - 1] = find_merge(s, tokens[best - 1], tokens[best]);
        if (best + 1 < count)
            pairs[best] = find_merge(s, tokens[best], tokens[best + 1]);
    }
    quern_status status = QP_OK;
    for (size_t i = 0; status == QP_OK && i < count; i++)
        status = emit(w, tokens[i]);
    return status;
}

static quern_status heap_push(work *w, uint64_t entry)
{
    if (w->heap_count == w->heap_capacity) {
        size_t capacity = w->heap_capacity ? w->heap_capacity * 2 : 256;
        uint64_t *heap = realloc(w->heap, capacity * sizeof *heap);
        if (!heap)
            return quern_fail(w->error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize (%zu candidates)", capacity);
        w->heap = heap;
        w->heap_capacity = capacity;
    }
    size_t i = w->heap_count++;
    for (; i && entry < w->heap[(i - 1) / 2]; i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = entry;
    return QP_OK;
}

static uint64_t heap_pop(work *w)
{
    uint64_t top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->heap_count) {
        if (child + 1 < w->heap_count && w->heap[child + 1] < w->heap[child])
            child++;
        if (w->heap[child] >= last)
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static quern_status consider(work *w, int32_t left, int32_t right)
{
    const bpe_merge *m = left < 0 || right < 0 ? NULL : find_merge(w->s, w->symbols[left].token, w->symbols[right].token);
    return m ? heap_push(w, (uint64_t)m->rank << 32 | (uint32_t)left) : QP_OK;
}

static quern_status join(work *w, uint64_t entry)
{
    int32_t at = (int32_t)(uint32_t)entry;
    symbol *left = &w->symbols[at];
    if (left->after < 0)
        return QP_OK;
    symbol *right = &w->symbols[left->after];
    const bpe_merge *m = find_merge(w->s, left->token, right->token);
    if (!m || m->rank != entry >> 32)
        return QP_OK; /* stale */
    left->token = (int32_t)m->token - 1;
    left->after = right->after;
    right->token = GONE;
    if (left->after >= 0)
        w->symbols[left->after].before = at;
    quern_status status = consider(w, left->before, at);
    return status == QP_OK ? consider(w, at, left->after) : status;
}

static quern_status encode_long(work *w, const char *text, size_t size)
{
    if (size > w->symbol_capacity) {
        free(w->symbols);
        w->symbols = malloc(size * sizeof *w->symbols);
        w->symbol_capacity = w->symbols ? size : 0;
        if (!w->symbols)
            return quern_fail(w->error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize a word of %zu bytes", size);
    }
    for (size_t i = 0; i < size; i++)
        w->symbols[i] = (symbol){byte_symbol(w->s, (unsigned char)text[i]), (int32_t)i - 1, (int32_t)i + 1};
    w->symbols[size - 1].after = -1;
    w->heap_count = 0;
    quern_status status = QP_OK;
    for (size_t i = 1; status == QP_OK && i < size; i++)
        status = consider(w, (int32_t)i - 1, (int32_t)i);
    while (status == QP_OK && w->heap_count)
        status = join(w, heap_pop(w));
    for (int32_t i = 0; status == QP_OK && i >= 0; i = w->symbols[i].after)
        status = emit(w, w->symbols[i].token);
    return status;
}

/* ---- words -------------------------------------------------------------------------------------------------------- */

/* The token that is this word, -1 if there is none. */
static int32_t whole_word(const work *w, const char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        n += write_byte(w->s, (unsigned char)text[i], w->piece + n);
        if (n > w->s->longest)
            return -1;
    }
    return find_usable(w->t, w->piece, n);
}

static quern_status merge_word(work *w, const char *text, size_t size)
{
    if (w->s->traits.ignore_merges) {
        int32_t token = whole_word(w, text, size);
        if (token >= 0)
            return tokenizer_push(w->list, token, w->error);
    }
    return size <= SHORT_WORD ? encode_short(w, text, size) : encode_long(w, text, size);
}

static quern_status encode_word(void *ctx, const char *text, size_t size)
{
    work *w = ctx;
    if (!w->cache || size > CACHED_BYTES)
        return merge_word(w, text, size);
    cached_word *known = &w->cache[hash_bytes(text, size) % CACHE_WORDS];
    quern_status status = QP_OK;
    if (known->size == size && !memcmp(known->text, text, size)) {
        for (int i = 0; status == QP_OK && i < known->count; i++)
            status = tokenizer_push(w->list, known->tokens[i], w->error);
        return status;
    }
    size_t before = w->list->count;
    status = merge_word(w, text, size);
    size_t count = w->list->count - before;
    if (status == QP_OK && count <= CACHED_TOKENS) {
        known->size = (uint8_t)size;
        known->count = (uint8_t)count;
        memcpy(known->text, text, size);
        memcpy(known->tokens, w->list->ids + before, count * sizeof *known->tokens);
    }
    return status;
}

static quern_status bpe_encode(const quern_tokenizer *t, const char *text, size_t size, quern_token_list *list, quern_error *error)
{
    const bpe_state *s = t->state;
    work w = {.t = t, .s = s, .list = list, .error = error};
    w.piece = malloc(s->longest + (size_t)2);
    w.cache = size < CACHE_TEXT ? NULL : calloc(CACHE_WORDS, sizeof *w.cache); /* without it all goes on, slower */
    quern_status status = w.piece ? pretokenizer_split(s->pre, text, size, encode_word, &w, error)
                                  : quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize %zu bytes", size);
    free(w.piece);
    free(w.cache);
    free(w.symbols);
    free(w.heap);
    return status;
}

static size_t bpe_decode(const quern_tokenizer *t, int32_t token, int first, char *dst, size_t size)
{
    quern_string piece = tokenizer_piece(t, token);
    size_t n = 0;
    (void)first;
    for (size_t at = 0, used; at < piece.size; at += used, n++) {
        char byte = read_byte(t->state, piece, at, &used);
        if (n < size)
            dst[n] = byte;
    }
    return n;
}

const tokenizer_model tokenizer_bpe = {
    .name = "gpt2",
    .bos = 11,
    .eos = 11,
    .unknown = -1,
    .create = bpe_create,
    .destroy = bpe_destroy,
    .encode = bpe_encode,
    .decode = bpe_decode,
};
