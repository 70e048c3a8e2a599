/* SPDX-License-Identifier: MIT
 * engine/tokenizer_spm.c: SentencePiece's BPE with byte fallback (Kudo & Richardson 2018, arXiv:1808.06226; Sennrich et al. 2016,
 * arXiv:1508.07909), GGUF tokenizer model "llama".
 *
 * Spaces become U+2581; the text is cut into characters; the neighbours whose piece has the best score are merged, the leftmost
 * of equals first, until no pair is a piece. A character that is no piece becomes its bytes' tokens.
 *
 * Between two characters that never stand side by side inside any piece no merge can cross, so the text is first cut there: the
 * result is the same, and a long text becomes many short ones (mostly words). */
#include "engine/tokenizer.h"
#include "engine/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define SPACE "\xe2\x96\x81"
enum { SPACE_SIZE = 3 };

typedef struct spm_state {
    float *scores;
    int32_t bytes[256]; /* token of each byte, -1: none */
    uint32_t longest;   /* piece that a merge can make */
    /* A set of the character pairs inside pieces, one bit a hash. A wrong yes only means that the text is not cut there. */
    uint8_t *pairs;
    uint64_t pair_mask;
} spm_state;

/* Only these are made by merging: text that looks like a control or byte token must not become one. */
static int can_merge(const quern_tokenizer *t, int32_t token)
{
    return t->kinds[token] == QUERN_TOKEN_NORMAL || t->kinds[token] == QUERN_TOKEN_USER || t->kinds[token] == QUERN_TOKEN_UNUSED;
}

static size_t character_size(const char *text, size_t size)
{
    int length = utf8_sequence((const unsigned char *)text, size);
    return length > 0 ? (size_t)length : 1; /* bytes that are not UTF-8 stand alone */
}

static uint32_t character_bits(const char *text, size_t size)
{
    uint32_t bits = 0;
    memcpy(&bits, text, size);
    return bits;
}

static uint64_t pair_hash(const spm_state *s, uint32_t a, uint32_t b)
{
    return hash_mix(((uint64_t)a << 32 | b) + 0x9e3779b97f4a7c15u, 0xd6e8feb86659fd93u) & s->pair_mask;
}

/* Two bits and more for each pair that there can be; most of them are there many times. */
static int make_pairs(spm_state *s, uint64_t pieces_size)
{
    uint64_t bits = 1024;
    while (bits < pieces_size * 2 && bits < (uint64_t)1 << 24)
        bits *= 2;
    s->pairs = calloc(bits / 8, 1);
    s->pair_mask = bits - 1;
    return s->pairs != NULL;
}

static void note_pairs(spm_state *s, quern_string piece)
{
    uint32_t before = 0;
    for (size_t at = 0; at < piece.size;) {
        size_t size = character_size(piece.data + at, piece.size - at);
        uint32_t bits = character_bits(piece.data + at, size);
        if (at) {
            uint64_t hash = pair_hash(s, before, bits);
            s->pairs[hash >> 3] |= (uint8_t)(1u << (hash & 7));
        }
        before = bits;
        at += size;
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a piece "<0xNN>" stands for, or -1. */
static int byte_of_piece(quern_string piece)
{
    if (piece.size != 6 || memcmp(piece.data, "<0x", 3) || piece.data[5] != '>')
        return -1;
    int high = hex_digit(piece.data[3]), low = hex_digit(piece.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static quern_status copy_scores(quern_tokenizer *t, spm_state *s, const quern_gguf *gguf, quern_error *error)
{
    const char *key = "tokenizer.ggml.scores";
    const quern_gguf_kv *kv = quern_gguf_find(gguf, key);
    if (!kv || kv->type != QUERN_GGUF_ARRAY || kv->element_type != QUERN_GGUF_FLOAT32)
        return quern_fail(error, QP_ERR_FORMAT, "%s is %s", key,
                          kv ? "not an array of FLOAT32" : "not there; a tokenizer of model 'llama' needs it");
    if (kv->count != t->count)
        return quern_fail(error, QP_ERR_FORMAT, "%s has %" PRIu64 " values for %u tokens", key, kv->count, t->count);
    s->scores = malloc(t->count * sizeof *s->scores);
    if (!s->scores)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the scores of %u tokens", t->count);
    memcpy(s->scores, gguf->head + gguf_value_of(gguf, kv)->offset, t->count * sizeof *s->scores);
    for (uint32_t i = 0; i < t->count; i++)
        if (isnan(s->scores[i]))
            return quern_fail(error, QP_ERR_FORMAT, "%s of token %u is not a number", key, i);
    return QP_OK;
}

static quern_status spm_create(quern_tokenizer *t, const quern_gguf *gguf, quern_error *error)
{
    spm_state *s = calloc(1, sizeof *s);
    if (!s)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a tokenizer");
    t->state = s;
    if (!make_pairs(s, t->offsets[t->count]))
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a vocabulary of %u tokens", t->count);
    quern_status status = copy_scores(t, s, gguf, error);
    if (status != QP_OK)
        return status;
    int typed = quern_gguf_find(gguf, "tokenizer.ggml.token_type") != NULL;
    memset(s->bytes, 0xff, sizeof s->bytes);
    for (uint32_t i = 0; i < t->count; i++) {
        quern_string piece = tokenizer_piece(t, (int32_t)i);
        int byte = byte_of_piece(piece);
        if (!typed && byte >= 0)
            t->kinds[i] = QUERN_TOKEN_BYTE;
        if (t->kinds[i] == QUERN_TOKEN_BYTE) {
            if (byte < 0)
                return quern_fail(error, QP_ERR_FORMAT, "token %u is of type BYTE but '%.*s' is not of the form <0xNN>", i,
                                  piece.size > 40 ? 40 : (int)piece.size, piece.data);
            s->bytes[byte] = (int32_t)i;
        } else if (can_merge(t, (int32_t)i)) {
            note_pairs(s, piece);
            s->longest = piece.size > s->longest ? (uint32_t)piece.size : s->longest;
        }
    }
    return QP_OK;
}

static void spm_destroy(quern_tokenizer *t)
{
    spm_state *s = t->state;
    if (s) {
        free(s->scores);
        free(s->pairs);
    }
    free(s);
}

/* ---- merging ------------------------------------------------------------------------------------------------------ */

/* A run of characters in a segment; a chain by index. */
typedef struct symbol {
    uint32_t at, size;
    int32_t before, after;
} symbol;

/* Two neighbours that may become one token. It is stale once either has grown: size tells. */
typedef struct candidate {
    float score;
    int32_t left, right;
    uint32_t size;
    int32_t token;
} candidate;

typedef struct work {
    const quern_tokenizer *t;
    const spm_state *s;
    quern_token_list *list;
    quern_error *error;
    const char *text; /* of the segment */
    symbol *symbols;
    size_t symbol_capacity;
    candidate *heap;
    size_t heap_count, heap_capacity;
    uint32_t *splits; /* bytes of the left half of each UNUSED token that was a candidate; made when the first one turns up */
} work;

static int before(const candidate *a, const candidate *b)
{
    return a->score > b->score || (!(a->score < b->score) && a->left < b->left);
}

static quern_status heap_push(work *w, candidate c)
{
    if (w->heap_count == w->heap_capacity) {
        size_t capacity = w->heap_capacity ? w->heap_capacity * 2 : 64;
        candidate *heap = realloc(w->heap, capacity * sizeof *heap);
        if (!heap)
            return quern_fail(w->error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize (%zu candidates)", capacity);
        w->heap = heap;
        w->heap_capacity = capacity;
    }
    size_t i = w->heap_count++;
    for (; i && before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
    return QP_OK;
}

static candidate heap_pop(work *w)
{
    candidate top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < w->heap_count) {
        if (child + 1 < w->heap_count && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

/* UNUSED pieces take part in merging but must not come out: remember how to take them apart again. */
static quern_status note_split(work *w, int32_t token, uint32_t left_size)
{
    if (!w->splits) {
        w->splits = calloc(w->t->count, sizeof *w->splits);
        if (!w->splits)
            return quern_fail(w->error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize");
    }
    w->splits[token] = left_size;
    return QP_OK;
}

static quern_status consider(work *w, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return QP_OK;
    const symbol *a = &w->symbols[left], *b = &w->symbols[right];
    uint32_t size = a->size + b->size;
    if (size > w->s->longest)
        return QP_OK;
    int32_t token = tokenizer_find(w->t, w->text + a->at, size);
    if (token < 0 || !can_merge(w->t, token))
        return QP_OK;
    if (w->t->kinds[token] == QUERN_TOKEN_UNUSED) {
        quern_status status = note_split(w, token, a->size);
        if (status != QP_OK)
            return status;
    }
    return heap_push(w, (candidate){w->s->scores[token], left, right, size, token});
}

static quern_status emit_bytes(work *w, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        int32_t token = w->s->bytes[(unsigned char)text[i]];
        if (token < 0)
            token = w->t->unknown;
        if (token < 0)
            return quern_fail(w->error, QP_ERR_FORMAT, "the vocabulary has no token for the byte 0x%02x and none for unknown text",
                              (unsigned char)text[i]);
        quern_status status = tokenizer_push(w->list, token, w->error);
        if (status != QP_OK)
            return status;
    }
    return QP_OK;
}

/* Each level is shorter than the one above, so the depth is at most the length of a piece; halves are taken apart in a loop. */
static quern_status emit(work *w, const char *text, size_t size, unsigned depth)
{
    quern_status status = QP_OK;
    while (status == QP_OK && size) {
        int32_t token = size <= w->s->longest ? tokenizer_find(w->t, text, size) : -1;
        if (token < 0 || !can_merge(w->t, token))
            return emit_bytes(w, text, size);
        uint32_t left = w->t->kinds[token] == QUERN_TOKEN_UNUSED && w->splits ? w->splits[token] : 0;
        if (w->t->kinds[token] != QUERN_TOKEN_UNUSED || depth > 64)
            return tokenizer_push(w->list, token, w->error);
        if (!left || left >= size)
            return emit_bytes(w, text, size);
        status = emit(w, text, left, depth + 1);
        text += left;
        size -= left;
    }
    return status;
}

static quern_status cut_characters(work *w, size_t size, int32_t *count)
{
    *count = 0;
    for (size_t at = 0; at < size; ++*count) {
        if ((size_t)*count == w->symbol_capacity) {
            size_t capacity = w->symbol_capacity ? w->symbol_capacity * 2 : 64;
            symbol *symbols = realloc(w->symbols, capacity * sizeof *symbols);
            if (!symbols)
                return quern_fail(w->error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize (%zu characters)", capacity);
            w->symbols = symbols;
            w->symbol_capacity = capacity;
        }
        size_t length = character_size(w->text + at, size - at);
        w->symbols[*count] = (symbol){(uint32_t)at, (uint32_t)length, *count - 1, *count + 1};
        at += length;
    }
    w->symbols[*count - 1].after = -1;
    return QP_OK;
}

static quern_status merge(work *w, const candidate *c)
{
    symbol *left = &w->symbols[c->left], *right = &w->symbols[c->right];
    if (!left->size || !right->size || left->size + right->size != c->size)
        return QP_OK; /* stale */
    left->size = c->size;
    left->after = right->after;
    right->size = 0;
    if (left->after >= 0)
        w->symbols[left->after].before = c->left;
    quern_status status = consider(w, left->before, c->left);
    return status == QP_OK ? consider(w, c->left, left->after) : status;
}

static quern_status encode_segment(work *w, const char *text, size_t size)
{
    int32_t count = 0;
    w->text = text;
    w->heap_count = 0;
    quern_status status = cut_characters(w, size, &count);
    for (int32_t i = 1; status == QP_OK && i < count; i++)
        status = consider(w, i - 1, i);
    while (status == QP_OK && w->heap_count) {
        candidate c = heap_pop(w);
        status = merge(w, &c);
    }
    for (int32_t i = 0; status == QP_OK && i >= 0; i = w->symbols[i].after)
        status = emit(w, text + w->symbols[i].at, w->symbols[i].size, 0);
    return status;
}

/* Cuts where no piece has the two characters side by side. */
static quern_status encode_segments(work *w, const char *text, size_t size)
{
    size_t begin = 0;
    uint32_t last = 0;
    quern_status status = QP_OK;
    for (size_t at = 0; status == QP_OK && at < size;) {
        size_t length = character_size(text + at, size - at);
        uint32_t bits = character_bits(text + at, length);
        uint64_t hash = pair_hash(w->s, last, bits);
        if (at && !(w->s->pairs[hash >> 3] >> (hash & 7) & 1)) {
            status = encode_segment(w, text + begin, at - begin);
            begin = at;
        }
        last = bits;
        at += length;
    }
    return status == QP_OK ? encode_segment(w, text + begin, size - begin) : status;
}

static quern_status spm_encode(const quern_tokenizer *t, const char *text, size_t size, quern_token_list *list, quern_error *error)
{
    size_t spaces = 0;
    for (size_t i = 0; i < size; i++)
        spaces += text[i] == ' ';
    char *escaped = malloc(size + spaces * (SPACE_SIZE - 1) + SPACE_SIZE);
    if (!escaped)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to tokenize %zu bytes", size);
    size_t n = 0;
    if (t->add_space_prefix) { /* after a special token too: models are trained on stretches that each begin with a space */
        memcpy(escaped, SPACE, SPACE_SIZE);
        n = SPACE_SIZE;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] == ' ') {
            memcpy(escaped + n, SPACE, SPACE_SIZE);
            n += SPACE_SIZE;
        } else {
            escaped[n++] = text[i];
        }
    }
    work w = {.t = t, .s = t->state, .list = list, .error = error};
    quern_status status = encode_segments(&w, escaped, n);
    free(escaped);
    free(w.symbols);
    free(w.heap);
    free(w.splits);
    return status;
}

static size_t spm_decode(const quern_tokenizer *t, int32_t token, int first, char *dst, size_t size)
{
    quern_string piece = tokenizer_piece(t, token);
    size_t n = 0, at = 0;
    if (t->kinds[token] == QUERN_TOKEN_BYTE) {
        if (size)
            dst[0] = (char)byte_of_piece(piece);
        return 1;
    }
    if (first && t->add_space_prefix && piece.size >= SPACE_SIZE && !memcmp(piece.data, SPACE, SPACE_SIZE))
        at = SPACE_SIZE;
    while (at < piece.size) {
        int space = piece.size - at >= SPACE_SIZE && !memcmp(piece.data + at, SPACE, SPACE_SIZE);
        if (n < size)
            dst[n] = space ? ' ' : piece.data[at];
        n++;
        at += space ? SPACE_SIZE : 1;
    }
    return n;
}

const tokenizer_model tokenizer_spm = {
    .name = "llama",
    .add_bos = 1,
    .bos = 1,
    .eos = 2,
    .unknown = 0,
    .create = spm_create,
    .destroy = spm_destroy,
    .encode = spm_encode,
    .decode = spm_decode,
};
