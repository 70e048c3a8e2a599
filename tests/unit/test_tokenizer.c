/* SPDX-License-Identifier: MIT
 * tests/unit/test_tokenizer.c: real vocabularies against reference ids, merging against a plain implementation, ways back, and
 * hostile vocabularies. */
#include "gguf_builder.h"
#include "tap.h"
#include "tokenizer_help.h"

#include <math.h>

/* ---- special tokens ----------------------------------------------------------------------------------------------- */

static void test_special(void)
{
    const char *path = tap_fixture("tokenizers/ggml-vocab-phi-3.gguf");
    quern_tokenizer *t = path ? open_tokenizer(path) : NULL;
    if (!t) {
        skip("no fixtures", "special tokens");
        return;
    }
    expect_ids(t, "", QUERN_TOKENIZE_BOS, "1");
    expect_ids(t, "", 0, "");
    expect_ids(t, "Hello", QUERN_TOKENIZE_BOS, "1 15043");
    expect_ids(t, "<|end|>", QUERN_TOKENIZE_SPECIAL, "32007");
    expect_ids(t, "<|user|> \n\t Hello<|end|>", QUERN_TOKENIZE_SPECIAL | QUERN_TOKENIZE_BOS, "1 32010 15043 32007");
    expect_ids(t, "<s> Hello", QUERN_TOKENIZE_SPECIAL, "1 29871 15043");
    expect_ids(t, "</s> Hello", 0, "2 15043"); /* user-defined here: always matched */
    quern_token_list list = {0};
    int hidden = !quern_tokenize(t, "<|end|><s>", 10, 0, &list, NULL);
    for (size_t i = 0; i < list.count; i++)
        hidden &= quern_tokenizer_kind(t, list.ids[i]) != QUERN_TOKEN_CONTROL;
    ok(hidden && list.count > 4, "without the flag a control token's text stays text");
    char bytes[32];
    ok(quern_token_bytes(t, 32007, 0, 0, bytes, sizeof bytes) == 0, "a control token has no text");
    ok(quern_token_bytes(t, 32007, 0, 1, bytes, sizeof bytes) == 7 && !memcmp(bytes, "<|end|>", 7), "unless it is asked for");
    ok(quern_token_bytes(t, 15043, 1, 0, bytes, sizeof bytes) == 5 && quern_token_bytes(t, 15043, 0, 0, bytes, 3) == 6 &&
           !memcmp(bytes, " He", 3),
       "the first token loses its space; a short buffer takes what fits");
    ok(quern_token_bytes(t, -1, 0, 1, bytes, sizeof bytes) == 0 && quern_token_bytes(t, 32064, 0, 1, bytes, sizeof bytes) == 0,
       "tokens outside");
    ok(quern_tokenizer_is_stop(t, 32000) && quern_tokenizer_is_stop(t, 32007) && !quern_tokenizer_is_stop(t, 15043) &&
           !quern_tokenizer_is_stop(t, -1),
       "<|endoftext|> and <|end|> end an answer");
    ok(quern_tokenizer_bos(t) == 1 && quern_tokenizer_eos(t) == 32000 && quern_tokenizer_size(t) == 32064 &&
           !strcmp(quern_tokenizer_model(t), "llama"),
       "getters");
    ok(quern_tokenize(t, "x", 1, 64, &list, NULL) == QP_ERR_INVALID, "unknown flags are refused");
    quern_token_list_free(&list);
    quern_tokenizer_destroy(t);
}

/* ---- vocabularies made here --------------------------------------------------------------------------------------- */

enum { MAX_PIECES = 96 };

typedef struct vocabulary {
    const char *model;
    const char *pieces[MAX_PIECES];
    float scores[MAX_PIECES];
    int32_t kinds[MAX_PIECES];
    size_t count, score_count, kind_count; /* counts that differ are for hostile ones */
    uint32_t bos;
} vocabulary;

static quern_status make(const vocabulary *v, quern_tokenizer **t, quern_error *error)
{
    builder b = {0};
    quern_gguf *g = NULL;
    put_header(&b, 3, 0, 3u + (v->score_count > 0) + (v->kind_count > 0));
    put_kv_string(&b, "tokenizer.ggml.model", v->model);
    put_kv_strings(&b, "tokenizer.ggml.tokens", v->pieces, v->count);
    if (v->score_count)
        put_kv_floats(&b, "tokenizer.ggml.scores", v->scores, v->score_count);
    if (v->kind_count)
        put_kv_ints(&b, "tokenizer.ggml.token_type", v->kinds, v->kind_count);
    put_kv_u32(&b, "tokenizer.ggml.bos_token_id", v->bos);
    quern_status status = quern_gguf_open_memory(b.data, b.size, "made.gguf", &g, error);
    if (status == QP_OK)
        status = quern_tokenizer_create(g, t, error);
    quern_gguf_close(g);
    builder_free(&b);
    return status;
}

/* <unk>, <s>, then one-letter pieces. */
static vocabulary small(void)
{
    vocabulary v = {.model = "llama",
                    .pieces = {"<unk>", "<s>", "\xe2\x96\x81", "a", "b", "c", "ab"},
                    .kinds = {2, 3, 1, 1, 1, 1, 1},
                    .bos = 1};
    v.count = v.score_count = v.kind_count = 7;
    return v;
}

static void expect_refusal(const char *name, const vocabulary *v, quern_status want, const char *word)
{
    quern_tokenizer *t = NULL;
    quern_error error = {0};
    quern_status status = make(v, &t, &error);
    ok(status == want && !t && strstr(error.text, word), "%s: %s", name, error.text);
    quern_tokenizer_destroy(t);
}

static void test_hostile(void)
{
    vocabulary v = small();
    v.model = "no_vocab";
    expect_refusal("no vocabulary", &v, QP_ERR_NOT_FOUND, "no vocabulary");
    v.model = "wordpiece-of-mars";
    expect_refusal("an unknown model", &v, QP_ERR_UNSUPPORTED, "wordpiece-of-mars");
    v = small(), v.score_count = 0;
    expect_refusal("no scores", &v, QP_ERR_FORMAT, "scores is not there");
    v = small(), v.score_count = 6;
    expect_refusal("too few scores", &v, QP_ERR_FORMAT, "6 values for 7 tokens");
    v = small(), v.kind_count = 8, v.kinds[7] = 1;
    expect_refusal("too many types", &v, QP_ERR_FORMAT, "8 values for 7 tokens");
    v = small(), v.kinds[3] = 0;
    expect_refusal("type 0", &v, QP_ERR_FORMAT, "token 3 is 0");
    v = small(), v.kinds[3] = -1;
    expect_refusal("type -1", &v, QP_ERR_FORMAT, "token 3");
    v = small(), v.kinds[3] = 6;
    expect_refusal("a byte token that is none", &v, QP_ERR_FORMAT, "<0xNN>");
    v = small(), v.scores[4] = NAN;
    expect_refusal("a score that is not a number", &v, QP_ERR_FORMAT, "token 4");
    v = small(), v.count = 0;
    expect_refusal("no tokens at all", &v, QP_ERR_FORMAT, "has 0 tokens");
    v = small(), v.bos = 7;
    expect_refusal("a BOS outside", &v, QP_ERR_FORMAT, "bos_token_id is 7");
    char *large = malloc((1 << 20) + 1);
    memset(large, 'a', 1 << 20);
    large[1 << 20] = '\0';
    v = small(), v.pieces[5] = large;
    expect_refusal("a piece of 1 MiB", &v, QP_ERR_FORMAT, "1048576 bytes");
    free(large);
    builder b = {0};
    quern_gguf *g = NULL;
    quern_tokenizer *t = NULL;
    quern_error error = {0};
    put_header(&b, 3, 0, 0);
    ok(!quern_gguf_open_memory(b.data, b.size, "x", &g, NULL) && quern_tokenizer_create(g, &t, &error) == QP_ERR_NOT_FOUND,
       "no tokenizer: %s", error.text);
    quern_gguf_close(g);
    builder_free(&b);
}

/* Files in use have these. */
static void test_odd_pieces(void)
{
    vocabulary v = small();
    quern_tokenizer *t = NULL;
    quern_error error = {0};
    char bytes[4];
    v.pieces[5] = "a";
    ok(!make(&v, &t, &error), "a piece that is there twice %s", error.text);
    expect_ids(t, "aa", 0, "2 5 5"); /* the last one */
    quern_tokenizer_destroy(t);
    t = NULL;
    v.kinds[5] = 3;
    ok(!make(&v, &t, &error), "twice, and special the second time %s", error.text);
    expect_ids(t, "aa", 0, "2 3 3");
    expect_ids(t, "ba", QUERN_TOKENIZE_SPECIAL, "2 4 5");
    quern_tokenizer_destroy(t);
    t = NULL;
    v = small(), v.pieces[4] = v.pieces[5] = "", v.kinds[5] = 3;
    ok(!make(&v, &t, &error), "empty pieces, a control token among them %s", error.text);
    expect_ids(t, "ac", QUERN_TOKENIZE_SPECIAL, "2 3 0");
    ok(quern_token_bytes(t, 4, 0, 1, bytes, 4) == 0 && quern_token_bytes(t, 5, 0, 1, bytes, 4) == 0, "they have no text");
    quern_tokenizer_destroy(t);
}

static void test_fallback(void)
{
    vocabulary v = small();
    quern_tokenizer *t = NULL;
    quern_error error = {0};
    ok(!make(&v, &t, &error), "a small vocabulary %s", error.text);
    expect_ids(t, "abz", QUERN_TOKENIZE_BOS, "1 2 6 0"); /* no byte tokens: the unknown one */
    expect_ids(t, "<s>a", QUERN_TOKENIZE_SPECIAL, "1 2 3");
    quern_tokenizer_destroy(t);
    t = NULL;
    v.kinds[0] = 1, v.pieces[0] = "<0x7A>";
    v.kind_count = 0; /* no types: <0xNN> is known by its look */
    ok(!make(&v, &t, &error) && quern_tokenizer_kind(t, 0) == QUERN_TOKEN_BYTE, "byte tokens without types %s", error.text);
    expect_ids(t, "abz", 0, "2 6 0");
    quern_token_list list = {0};
    ok(quern_tokenize(t, "ab!", 3, QUERN_TOKENIZE_BOS, &list, &error) == QP_ERR_FORMAT && list.count == 0,
       "no token for a byte: %s", error.text);
    quern_token_list_free(&list);
    quern_tokenizer_destroy(t);
    t = NULL;
    v = small(), v.kinds[6] = QUERN_TOKEN_UNUSED, v.pieces[7] = "abc", v.scores[7] = -1, v.kinds[7] = 1;
    v.count = v.score_count = v.kind_count = 8;
    ok(!make(&v, &t, &error), "an unused piece %s", error.text);
    expect_ids(t, "abc", 0, "2 7");     /* a step on the way… */
    expect_ids(t, "abb", 0, "2 3 4 4"); /* …but never the end of it */
    quern_tokenizer_destroy(t);
}

/* ---- merging against the plain way -------------------------------------------------------------------------------- */

static int find_piece(const vocabulary *v, const char *text, size_t size)
{
    for (size_t i = 0; i < v->count; i++)
        if (v->kinds[i] == 1 && strlen(v->pieces[i]) == size && !memcmp(v->pieces[i], text, size))
            return (int)i;
    return -1;
}

/* Looks at every pair, merges the best, starts again. Texts and pieces are of one-byte characters, all of them pieces. */
static size_t merge_plainly(const vocabulary *v, const char *text, size_t size, int32_t *ids)
{
    size_t ends[64], count = size;
    for (size_t i = 0; i < size; i++)
        ends[i] = i + 1;
    for (;;) {
        size_t best = count;
        float best_score = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            size_t begin = i ? ends[i - 1] : 0;
            int piece = find_piece(v, text + begin, ends[i + 1] - begin);
            if (piece >= 0 && (best == count || v->scores[piece] > best_score)) {
                best = i;
                best_score = v->scores[piece];
            }
        }
        if (best == count)
            break;
        memmove(ends + best, ends + best + 1, (count - best - 1) * sizeof *ends);
        count--;
    }
    for (size_t i = 0; i < count; i++)
        ids[i] = find_piece(v, text + (i ? ends[i - 1] : 0), ends[i] - (i ? ends[i - 1] : 0));
    return count;
}

static void random_vocabulary(vocabulary *v, char (*texts)[8])
{
    *v = (vocabulary){
        .model = "llama", .bos = UINT32_MAX, .pieces = {"\xe2\x96\x81", "a", "b", "c", "d"}, .kinds = {1, 1, 1, 1, 1}, .count = 5};
    for (int tries = 0; tries < 60; tries++) {
        size_t size = 2 + random_below(4);
        for (size_t i = 0; i < size; i++)
            texts[v->count][i] = (char)('a' + random_below(4));
        texts[v->count][size] = '\0';
        if (find_piece(v, texts[v->count], size) >= 0)
            continue;
        v->pieces[v->count] = texts[v->count];
        v->scores[v->count] = -(float)random_below(12); /* many are equal */
        v->kinds[v->count++] = 1;
    }
    v->score_count = v->kind_count = v->count;
}

static void test_merging(void)
{
    int bad = 0;
    for (int round = 0; round < 300; round++) {
        static vocabulary v;
        char pieces[MAX_PIECES][8], text[40];
        quern_tokenizer *t = NULL;
        random_vocabulary(&v, pieces);
        if (make(&v, &t, NULL) != QP_OK)
            bad++;
        for (int n = 0; t && n < 20; n++) {
            size_t size = 1 + random_below(40);
            int32_t ids[64];
            for (size_t i = 0; i < size; i++)
                text[i] = (char)('a' + random_below(4));
            quern_token_list list = {0};
            size_t want = merge_plainly(&v, text, size, ids);
            bad += quern_tokenize(t, text, size, 0, &list, NULL) || list.count != want + 1 || list.ids[0] != 0 ||
                   memcmp(list.ids + 1, ids, want * sizeof *ids);
            quern_token_list_free(&list);
        }
        quern_tokenizer_destroy(t);
    }
    ok(!bad, "6000 texts over 300 random vocabularies merge as the plain algorithm does (%d do not)", bad);
}

static void test_growth(void)
{
    const char *path = tap_fixture("tokenizers/ggml-vocab-llama-spm.gguf");
    quern_tokenizer *t = path ? open_tokenizer(path) : NULL;
    if (!t) {
        skip("no fixtures", "time grows with the text");
        return;
    }
    double small_time = seconds_for(t, 100000), large_time = seconds_for(t, 1000000);
    ok(large_time < 40 * small_time, "1 MB of one letter takes %.1f times as long as 100 kB", large_time / small_time);
    quern_tokenizer_destroy(t);
}

int main(void)
{
    test_reference("ggml-vocab-llama-spm");
    test_reference("ggml-vocab-phi-3");
    test_identity("tokenizers/ggml-vocab-llama-spm.gguf", 0, 0);
    test_identity("tokenizers/ggml-vocab-llama-spm.gguf", 1, 0);
    test_identity("tokenizers/ggml-vocab-phi-3.gguf", 0, 0);
    test_identity("models/tiny-books-q8_0.gguf", 0, 0);
    test_identity("models/stories260K.gguf", 0, 0);
    test_specials("tokenizers/ggml-vocab-llama-spm.gguf");
    test_specials("tokenizers/ggml-vocab-phi-3.gguf");
    test_specials("models/tiny-books-q8_0.gguf");
    test_special();
    test_fallback();
    test_odd_pieces();
    test_hostile();
    test_merging();
    test_growth();
    quern_tokenizer_destroy(NULL);
    return tap_done();
}
