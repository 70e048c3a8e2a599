/* SPDX-License-Identifier: MIT
 * tests/unit/test_tokenizer_bpe.c: byte-level BPE: real vocabularies against reference ids, ways back, what each pre-tokenizer
 * makes of texts, merging against a plain implementation, hostile vocabularies, time. */
#include "gguf_builder.h"
#include "tap.h"
#include "tokenizer_help.h"

#include <pthread.h>

/* ---- vocabularies made here --------------------------------------------------------------------------------------- */

enum { MAX_MADE = 400 };

/* The alphabet's 256 characters, then whatever a test adds. */
typedef struct made {
    char letters[256][3];
    const char *pieces[MAX_MADE], *merges[MAX_MADE];
    int32_t kinds[MAX_MADE];
    size_t count, merge_count;
    const char *pre; /* NULL: the key is not there */
    int no_merges;   /* the key is not there */
} made;

static void add(made *v, const char *piece, int32_t kind)
{
    v->pieces[v->count] = piece;
    v->kinds[v->count++] = kind;
}

static void alphabet(made *v, const char *pre)
{
    uint32_t next = 256;
    memset(v, 0, sizeof *v);
    v->pre = pre;
    for (uint32_t byte = 0; byte < 256; byte++) {
        int itself = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        put_character(v->letters[byte], itself ? byte : next++);
        add(v, v->letters[byte], 1);
    }
}

static quern_status make(const made *v, quern_tokenizer **t, quern_error *error)
{
    builder b = {0};
    quern_gguf *g = NULL;
    put_header(&b, 3, 0, 3u + (v->pre != NULL) + !v->no_merges);
    put_kv_string(&b, "tokenizer.ggml.model", "gpt2");
    put_kv_strings(&b, "tokenizer.ggml.tokens", v->pieces, v->count);
    put_kv_ints(&b, "tokenizer.ggml.token_type", v->kinds, v->count);
    if (v->pre)
        put_kv_string(&b, "tokenizer.ggml.pre", v->pre);
    if (!v->no_merges)
        put_kv_strings(&b, "tokenizer.ggml.merges", v->merges, v->merge_count);
    *t = NULL;
    quern_status status = quern_gguf_open_memory(b.data, b.size, "made.gguf", &g, error);
    if (status == QP_OK)
        status = quern_tokenizer_create(g, t, error);
    quern_gguf_close(g);
    builder_free(&b);
    return status;
}

static void expect_refusal(const char *name, const made *v, quern_status want, const char *word)
{
    quern_tokenizer *t;
    quern_error error = {0};
    quern_status status = make(v, &t, &error);
    ok(status == want && !t && strstr(error.text, word), "%s: %s", name, error.text);
    quern_tokenizer_destroy(t);
}

#ifdef QUERN_HAVE_PCRE2

/* ---- words -------------------------------------------------------------------------------------------------------- */

/* Cuts are seen one at a time: in a vocabulary where nothing but the bytes at i and i + 1 can merge, they do if they are in one
 * word. */
static int cut_between(const char *pre, const char *text, size_t at)
{
    made v;
    char pair[8], merge[8];
    quern_tokenizer *t;
    quern_token_list list = {0};
    alphabet(&v, pre);
    const char *a = v.letters[(unsigned char)text[at]], *b = v.letters[(unsigned char)text[at + 1]];
    snprintf(pair, sizeof pair, "%s%s", a, b);
    snprintf(merge, sizeof merge, "%s %s", a, b);
    add(&v, pair, 1);
    v.merges[v.merge_count++] = merge;
    if (make(&v, &t, NULL) || quern_tokenize(t, text, strlen(text), 0, &list, NULL)) {
        quern_tokenizer_destroy(t);
        return -1;
    }
    size_t place = 0; /* a token that begins before and ends after the place means: no cut */
    int cut = 1;
    for (size_t i = 0; i < list.count; i++) {
        size_t size = quern_token_bytes(t, list.ids[i], 0, 0, NULL, 0);
        cut &= !(place <= at && place + size > at + 1);
        place += size;
    }
    quern_token_list_free(&list);
    quern_tokenizer_destroy(t);
    return cut;
}

/* words: the text with | at each cut. A text has no | and, of three equal bytes, only whole words. */
static void expect_words(const char *pre, const char *words)
{
    char text[128], got[256];
    size_t size = 0, n = 0;
    for (const char *c = words; *c; c++)
        if (*c != '|')
            text[size++] = *c;
    text[size] = '\0';
    for (size_t i = 0; i < size; i++) {
        got[n++] = text[i];
        if (i + 1 < size && cut_between(pre, text, i))
            got[n++] = '|';
    }
    got[n] = '\0';
    int same = !strcmp(got, words);
    for (char *c = got; *c; c++)
        *c = *c == '\n' ? '~' : *c & 0x80 ? '*' : *c; /* the words of a point are to be UTF-8 */
    ok(same, "%s cuts: %s", pre, got);
}

static void test_words(void)
{
    expect_words("gpt-2", "He|'s| 12345|,| I|'|M| not|?!|\n  | x\xc3\xa9y");
    expect_words("starcoder", "ab| |1|2|3| c");
    expect_words("smollm", "a|1|2|b|'ll| do");
    expect_words("qwen2", "He|'s| |1|2|3|,| I|'M| (|x|)\n\n| | y");
    expect_words("qwen35", "He|'LL| |1|2| e\xcc\x81te");
    expect_words("llama-bpe", "He|'S| |123|45| (|x|).\n|  | y");
    expect_words("smaug-bpe", "x|123|4|!\n");
    expect_words("gpt-4o", "Camel|Case| HTMLPage's| |123|4|/path|//\n/|x");
    expect_words("gpt-4o", "it's| WE'RE| \xc3\x84"
                           "a");
    expect_words("tekken", "Camel|Case|'s| |1|2| /\n|x");
    expect_words("falcon", "a|``|b| |123|4| cd");
    expect_words("default", "a| |12| c|==|d");
    expect_words("deepseek-coder", "if| (|x|):|\n| y|1|2");
    expect_words("deepseek-llm", "ab|\n| cd|.|12|  ");
    expect_words("deepseek-v3", "ab|.cd| ef| |123|4| !?\n|g");
    expect_words("bloom", "ab| cd|,|ef");
    expect_words("viking", "ab|1|2| cd");
}

/* White space as Unicode has it: U+180E is none, U+0085 and U+3000 are. */
static void test_white_space(void)
{
    expect_words("gpt-2", "a|\xe1\xa0\x8e|b");
    expect_words("gpt-2", "a|\xc2\x85|b");
    expect_words("gpt-2", "!|\xe3\x80\x80|?");
    expect_words("gpt-2", "!\xe1\xa0\x8e?");
}

static void test_broken(void)
{
    expect_words("gpt-2", "ab|\xff\xfe|cd|\xc3");
    expect_words("llama-bpe", "\xe2\x82| x|\xf0\x9f\x98|y");
}

/* ---- merging against the plain way -------------------------------------------------------------------------------- */

static int is_piece(const made *v, const char *text)
{
    for (size_t i = 0; i < v->count; i++)
        if (!strcmp(v->pieces[i], text))
            return 1;
    return 0;
}

/* Goes through the merges in order; the first that fits anywhere is applied at its leftmost place; starts again. */
static void merge_plainly(const made *v, const char *text, size_t size, char (*pieces)[16], size_t *count)
{
    *count = size;
    for (size_t i = 0; i < size; i++)
        snprintf(pieces[i], 16, "%c", text[i]);
    for (size_t m = 0; m < v->merge_count; m++) {
        for (size_t i = 0; i + 1 < *count; i++) {
            char joined[40];
            size_t left = strlen(pieces[i]);
            if (strncmp(pieces[i], v->merges[m], left) || v->merges[m][left] != ' ' ||
                strcmp(pieces[i + 1], v->merges[m] + left + 1))
                continue;
            snprintf(joined, sizeof joined, "%s%s", pieces[i], pieces[i + 1]);
            if (!is_piece(v, joined))
                continue;
            memcpy(pieces[i], joined, 16);
            memmove(pieces + i + 1, pieces + i + 2, (*count - i - 2) * sizeof *pieces);
            --*count;
            m = (size_t)-1; /* again from the first */
            break;
        }
    }
}

/* Merges of random tokens, some of whose results are no token, some twice. */
static void random_vocabulary(made *v, char (*pieces)[16], char (*merges)[40])
{
    size_t n = 0;
    alphabet(v, "gpt-2");
    for (int tries = 0; tries < 60; tries++) {
        const char *from[2];
        for (int i = 0; i < 2; i++)
            from[i] = n && random_below(2) ? pieces[random_below((uint32_t)n)] : v->letters['a' + random_below(4)];
        if (strlen(from[0]) + strlen(from[1]) > 12)
            continue;
        snprintf(merges[v->merge_count], 40, "%s %s", from[0], from[1]);
        v->merges[v->merge_count] = merges[v->merge_count];
        v->merge_count++;
        snprintf(pieces[n], 16, "%s%s", from[0], from[1]);
        if (random_below(8) && !is_piece(v, pieces[n]))
            add(v, pieces[n++], 1);
    }
}

static void test_merging(void)
{
    int bad = 0;
    for (int round = 0; round < 150; round++) {
        static made v;
        char pieces[64][16], merges[64][40], text[64], want[64][16], got[32];
        quern_tokenizer *t;
        random_vocabulary(&v, pieces, merges);
        bad += make(&v, &t, NULL) != QP_OK;
        for (int n = 0; t && n < 20; n++) {
            size_t size = 1 + random_below(63), count; /* both ways of merging: by looking at all pairs, by a heap */
            for (size_t i = 0; i < size; i++)
                text[i] = (char)('a' + random_below(4));
            merge_plainly(&v, text, size, want, &count);
            quern_token_list list = {0};
            int same = !quern_tokenize(t, text, size, 0, &list, NULL) && list.count == count;
            for (size_t i = 0; same && i < count; i++) {
                size_t length = quern_token_bytes(t, list.ids[i], 0, 0, got, sizeof got);
                same = length == strlen(want[i]) && !memcmp(got, want[i], length);
            }
            bad += !same;
            quern_token_list_free(&list);
        }
        quern_tokenizer_destroy(t);
    }
    ok(!bad, "3000 texts over 150 random vocabularies merge as the plain algorithm does (%d do not)", bad);
}

/* ---- what tokens are ---------------------------------------------------------------------------------------------- */

static void test_special(void)
{
    made v;
    quern_tokenizer *t;
    quern_error error = {0};
    char bytes[32];
    alphabet(&v, "llama-bpe");
    add(&v, "<|begin|>", 3);  /* 256 */
    add(&v, "<|im_end|>", 1); /* a type that is wrong */
    add(&v, "<<x>>", 4);
    add(&v, "\xc4\xa0whole", 1); /* 259; no merge makes it */
    add(&v, "ab", 3);            /* a control token that a merge would make */
    add(&v, "\xc3\xb5", 4);      /* user-defined: that very character, and not the byte 0xf5 */
    add(&v, "", 1);
    add(&v, "cd", 1);
    add(&v, "cd", 1); /* 264: the last one counts */
    v.merges[v.merge_count++] = "a b";
    v.merges[v.merge_count++] = "c d";
    ok(!make(&v, &t, &error), "a vocabulary with all sorts of tokens %s", error.text);
    expect_ids(t, "ab", 0, "97 98");
    expect_ids(t, "ab", QUERN_TOKENIZE_SPECIAL, "260");
    expect_ids(t, "cd whole", 0, "264 259");
    expect_ids(t, "<<x>>\xc3\xb5", 0, "258 261");
    expect_ids(t, "x<|im_end|>y", QUERN_TOKENIZE_SPECIAL, "120 257 121");
    ok(quern_tokenizer_is_stop(t, 257) && quern_tokenizer_kind(t, 257) == QUERN_TOKEN_CONTROL, "<|im_end|> ends an answer");
    ok(quern_token_bytes(t, 259, 0, 0, bytes, sizeof bytes) == 6 && !memcmp(bytes, " whole", 6), "the alphabet is read back");
    ok(quern_token_bytes(t, 261, 0, 0, bytes, sizeof bytes) == 2 && !memcmp(bytes, "\xc3\xb5", 2),
       "but not in user-defined tokens");
    ok(quern_token_bytes(t, 262, 0, 0, bytes, sizeof bytes) == 0, "an empty piece has no text");
    expect_ids(t, "\xf5", 0, "245");
    ok(!strcmp(quern_tokenizer_model(t), "gpt2"), "the model's name");
    quern_tokenizer_destroy(t);
    alphabet(&v, "gpt-2");
    v.pieces[0xf5] = "no more";
    ok(!make(&v, &t, &error), "a vocabulary without the byte 0xf5 %s", error.text);
    expect_ids(t, "a\xf5", 0, "97 239 191 189");
    quern_tokenizer_destroy(t);
    v.pieces[0xbd] = "neither";
    quern_token_list list = {0};
    ok(!make(&v, &t, &error) && quern_tokenize(t, "a\xf5", 2, 0, &list, &error) == QP_ERR_FORMAT && !list.count,
       "one that cannot say U+FFFD either: %s", error.text);
    quern_token_list_free(&list);
    quern_tokenizer_destroy(t);
}

/* gpt-oss: <|end|> ends a part of the answer. */
static void test_stops(void)
{
    made v;
    quern_tokenizer *t;
    alphabet(&v, "gpt-4o");
    add(&v, "<|end|>", 3);
    add(&v, "<|return|>", 3);
    ok(!make(&v, &t, NULL) && quern_tokenizer_is_stop(t, 256) && quern_tokenizer_is_stop(t, 257), "<|end|> ends an answer");
    quern_tokenizer_destroy(t);
    add(&v, "<|call|>", 3);
    ok(!make(&v, &t, NULL) && !quern_tokenizer_is_stop(t, 256) && quern_tokenizer_is_stop(t, 257) &&
           quern_tokenizer_is_stop(t, 258),
       "but not where <|return|> and <|call|> do");
    quern_tokenizer_destroy(t);
}

static void test_hostile(void)
{
    static made v;
    alphabet(&v, "rule-of-mars");
    expect_refusal("an unknown pre-tokenizer", &v, QP_ERR_UNSUPPORTED, "rule-of-mars");
    alphabet(&v, "");
    expect_refusal("one without a name", &v, QP_ERR_UNSUPPORTED, "''");
    alphabet(&v, NULL), v.no_merges = 1;
    expect_refusal("no merges", &v, QP_ERR_FORMAT, "merges is not there");
    static const char *const broken[] = {"ab", "", " ", "a ", " a", "a"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        alphabet(&v, NULL), v.merges[v.merge_count++] = "a b", v.merges[v.merge_count++] = broken[i];
        expect_refusal("a merge that is none", &v, QP_ERR_FORMAT, "merge 1 (");
    }
    quern_tokenizer *t;
    quern_error error = {0};
    char *large = malloc(300000);
    memset(large, 'a', 299999);
    large[299999] = '\0', large[150000] = ' ';
    alphabet(&v, NULL);
    add(&v, "ab", 1);
    v.merges[v.merge_count++] = "a x y";
    v.merges[v.merge_count++] = "q unknown";
    v.merges[v.merge_count++] = large;
    v.merges[v.merge_count++] = "a b";
    v.merges[v.merge_count++] = "a b";
    ok(!make(&v, &t, &error), "merges of unknown pieces, of huge ones, and the same one twice %s", error.text);
    expect_ids(t, "abab", 0, "256 256");
    quern_tokenizer_destroy(t);
    free(large);
}

/* ---- time --------------------------------------------------------------------------------------------------------- */

static void test_growth(const char *fixture)
{
    const char *path = tap_fixture(fixture);
    quern_tokenizer *t = path ? open_tokenizer(path) : NULL;
    if (!t) {
        skip("no fixtures", "time grows with the text");
        return;
    }
    double small_time = seconds_for(t, 100000), large_time = seconds_for(t, 1000000);
    ok(large_time < 40 * small_time, "%s: 1 MB of one letter takes %.1f times as long as 100 kB", fixture, large_time / small_time);
    quern_tokenizer_destroy(t);
}

/* ---- threads ------------------------------------------------------------------------------------------------------ */

typedef struct sharer {
    const quern_tokenizer *t;
    const quern_token_list *want;
    const char *text;
    size_t size;
    int bad;
} sharer;

static void *share(void *ctx)
{
    sharer *s = ctx;
    for (int round = 0; round < 20; round++) {
        quern_token_list list = {0};
        s->bad += quern_tokenize(s->t, s->text, s->size, 0, &list, NULL) || list.count != s->want->count ||
                  memcmp(list.ids, s->want->ids, list.count * sizeof *list.ids);
        quern_token_list_free(&list);
    }
    return NULL;
}

/* One tokenizer in several threads at once, with a text long enough to be worth a cache. */
static void test_threads(void)
{
    enum { THREADS = 4, SIZE = 20000 };
    static made v;
    char pieces[64][16], merges[64][40], *text = malloc(SIZE);
    quern_tokenizer *t;
    quern_token_list want = {0};
    random_vocabulary(&v, pieces, merges);
    for (size_t i = 0; i < SIZE; i++)
        text[i] = "abcd abcd\n"[random_below(10)];
    int ready = !make(&v, &t, NULL) && !quern_tokenize(t, text, SIZE, 0, &want, NULL), bad = 0;
    pthread_t threads[THREADS];
    sharer sharers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        sharers[i] = (sharer){t, &want, text, SIZE, 0};
        ready = ready && !pthread_create(&threads[i], NULL, share, &sharers[i]);
    }
    for (int i = 0; ready && i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        bad += sharers[i].bad;
    }
    ok(ready && !bad, "%d threads share a tokenizer (%d texts differ)", (int)THREADS, bad);
    quern_token_list_free(&want);
    quern_tokenizer_destroy(t);
    free(text);
}

/* A run that each expression has to look at from every place would take a minute and more. */
static void test_runs(void)
{
    static const char *const pres[] = {"default", "falcon", "gpt-2",       "starcoder",      "llama-bpe",    "qwen2",      "qwen35",
                                       "gpt-4o",  "tekken", "deepseek-v3", "deepseek-coder", "deepseek-llm", "bailingmoe", "bloom"};
    static const char *const letters[] = {" ", "A", "\n", "1", "!", "\xe4\xb8\x80"};
    enum { SIZE = 300000 };
    char *text = malloc(SIZE);
    int bad = 0;
    clock_t begin = clock();
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        made v;
        quern_tokenizer *t;
        alphabet(&v, pres[i]);
        bad += make(&v, &t, NULL) != QP_OK;
        for (size_t j = 0; t && j < sizeof letters / sizeof *letters; j++) {
            size_t step = strlen(letters[j]);
            for (size_t at = 0; at < SIZE; at += step)
                memcpy(text + at, letters[j], step);
            memcpy(text + SIZE - 3, "\xe4\xb8\x80", 3); /* what spaces before it are cut from */
            quern_token_list list = {0};
            bad += quern_tokenize(t, text, SIZE, 0, &list, NULL) != QP_OK || list.count != SIZE;
            quern_token_list_free(&list);
        }
        quern_tokenizer_destroy(t);
    }
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    ok(!bad && seconds < 30, "runs of 300 kB through %zu pre-tokenizers: %.1f s, %d wrong", sizeof pres / sizeof *pres, seconds,
       bad);
    free(text);
}

int main(void)
{
    static const struct {
        const char *name;
        int lacking; /* bytes */
    } vocabularies[] = {{"deepseek-coder", 13}, {"falcon", 28}, {"gpt-2", 0}, {"mpt", 13}, {"refact", 14}};
    for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++) {
        char name[64], path[96];
        snprintf(name, sizeof name, "ggml-vocab-%s", vocabularies[i].name);
        snprintf(path, sizeof path, "tokenizers/ggml-vocab-%s.gguf", vocabularies[i].name);
        test_reference(name);
        test_identity(path, 0, vocabularies[i].lacking);
        test_identity(path, 1, vocabularies[i].lacking);
        test_specials(path);
    }
    test_words();
    test_white_space();
    test_broken();
    test_merging();
    test_special();
    test_stops();
    test_hostile();
    test_threads();
    test_growth("tokenizers/ggml-vocab-gpt-2.gguf");
    test_runs();
    return tap_done();
}

#else

int main(void)
{
    static made v;
    alphabet(&v, "gpt-2");
    expect_refusal("built without PCRE2", &v, QP_ERR_UNSUPPORTED, "-Dpcre2=enabled");
    alphabet(&v, "rule-of-mars");
    expect_refusal("an unknown pre-tokenizer", &v, QP_ERR_UNSUPPORTED, "rule-of-mars");
    skip("built without PCRE2 (meson's option -Dpcre2=enabled asks for it)", "byte-level BPE");
    return tap_done();
}

#endif
