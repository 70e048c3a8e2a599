/* SPDX-License-Identifier: MIT
 * make_gguf FILE [FAULT]: writes a tiny Llama with random weights, whole or with one fault that a reader must survive.
 * make_gguf --list: the faults and, behind a tab, what an error about each must match (a basic regular expression). */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EMBEDDING = 32, LAYERS = 1, HEADS = 2, FEED_FORWARD = 64, CONTEXT = 64, BYTES = 259, WORDS = 5, VOCABULARY = BYTES + WORDS };
enum { U32 = 4, I32 = 5, F32 = 6, STRING = 8, ARRAY = 9 };

typedef enum fault {
    NONE,
    EMPTY,
    MAGIC,
    VERSION,
    SHORT_HEADER,
    SHORT_DATA,
    MANY_TENSORS,
    MANY_KEYS,
    LONG_STRING,
    LONG_ARRAY,
    DIM_ZERO,
    DIM_HUGE,
    DIM_OVERFLOW,
    DIM_COUNT,
    FORMAT,
    INTEGERS,
    OFFSET,
    ALIGN_TYPE,
    ALIGN_ODD,
    NO_TENSOR,
    WRONG_SHAPE,
    VOCABULARY_WRONG,
    NO_ARCHITECTURE,
    ARCHITECTURE,
    NO_HEADS,
    HEADS_ZERO,
    HEADS_ODD,
    LAYERS_HUGE,
    TOKENIZER,
    NAN_WEIGHTS,
    FAULTS
} fault;

static const struct {
    const char *name, *error;
} faults[FAULTS] = {
    [NONE] = {"none", ""},
    [EMPTY] = {"empty", "empty\\|short\\|truncated\\|ends"},
    [MAGIC] = {"magic", "GGUF"},
    [VERSION] = {"version", "version"},
    [SHORT_HEADER] = {"short-header", "end\\|truncated\\|short"},
    [SHORT_DATA] = {"short-data", "end\\|truncated\\|short\\|past"},
    [MANY_TENSORS] = {"many-tensors", "tensor"},
    [MANY_KEYS] = {"many-keys", "key\\|metadata"},
    [LONG_STRING] = {"long-string", "string\\|end"},
    [LONG_ARRAY] = {"long-array", "array\\|element\\|end"},
    [DIM_ZERO] = {"dim-zero", "dimension\\|zero\\|0"},
    [DIM_HUGE] = {"dim-huge", "dimension\\|large\\|end\\|overflow\\|past\\|shape\\|truncated"},
    [DIM_OVERFLOW] = {"dim-overflow", "dimension\\|large\\|overflow\\|past"},
    [DIM_COUNT] = {"dim-count", "dimension"},
    [FORMAT] = {"format", "format\\|type"},
    [INTEGERS] = {"integers", "attn_q.*I32"},
    [OFFSET] = {"offset", "end\\|past\\|offset"},
    [ALIGN_TYPE] = {"align-type", "alignment"},
    [ALIGN_ODD] = {"align-odd", "alignment"},
    [NO_TENSOR] = {"no-tensor", "ffn_down"},
    [WRONG_SHAPE] = {"wrong-shape", "attn_q"},
    [VOCABULARY_WRONG] = {"vocabulary", "vocab"},
    [NO_ARCHITECTURE] = {"no-architecture", "architecture"},
    [ARCHITECTURE] = {"architecture", "spinningwheel"},
    [NO_HEADS] = {"no-heads", "head"},
    [HEADS_ZERO] = {"heads-zero", "head"},
    [HEADS_ODD] = {"heads-odd", "head\\|attn"},
    [LAYERS_HUGE] = {"layers-huge", "block_count\\|layer\\|blk"},
    [TOKENIZER] = {"tokenizer", "loom"},
    [NAN_WEIGHTS] = {"nan", "finite\\|NaN"},
};

typedef struct writer {
    FILE *file;
    fault fault;
    uint64_t data; /* bytes of tensors so far */
    uint32_t random;
} writer;

static void put(writer *w, const void *data, size_t size)
{
    if (fwrite(data, 1, size, w->file) != size)
        exit(2);
}

static void put_u32(writer *w, uint32_t x)
{
    put(w, &x, 4);
}

static void put_u64(writer *w, uint64_t x)
{
    put(w, &x, 8);
}

static void put_string(writer *w, const char *text)
{
    put_u64(w, strlen(text));
    put(w, text, strlen(text));
}

static void key_u32(writer *w, const char *key, uint32_t value)
{
    put_string(w, key);
    put_u32(w, U32);
    put_u32(w, value);
}

static void key_f32(writer *w, const char *key, float value)
{
    put_string(w, key);
    put_u32(w, F32);
    put(w, &value, 4);
}

static void key_string(writer *w, const char *key, const char *value)
{
    put_string(w, key);
    put_u32(w, STRING);
    put_string(w, value);
}

static void token_text(uint32_t id, char text[16])
{
    static const char *const special[] = {"<unk>", "<s>", "</s>"}, *const words[WORDS] = {"\xe2\x96\x81", "a", "b", "ab", "\xe2\x96\x81\x61"};
    if (id < 3)
        strcpy(text, special[id]);
    else if (id < BYTES)
        snprintf(text, 16, "<0x%02X>", (unsigned)(id - 3));
    else
        strcpy(text, words[id - BYTES]);
}

static void put_vocabulary(writer *w)
{
    uint32_t count = w->fault == VOCABULARY_WRONG ? VOCABULARY - 7 : VOCABULARY;
    char text[16];
    key_string(w, "tokenizer.ggml.model", w->fault == TOKENIZER ? "loom" : "llama");
    put_string(w, "tokenizer.ggml.tokens");
    put_u32(w, ARRAY);
    put_u32(w, STRING);
    put_u64(w, w->fault == LONG_ARRAY ? UINT64_MAX / 8 : count);
    for (uint32_t i = 0; i < count; i++) {
        token_text(i, text);
        put_string(w, text);
    }
    put_string(w, "tokenizer.ggml.scores");
    put_u32(w, ARRAY);
    put_u32(w, F32);
    put_u64(w, count);
    for (uint32_t i = 0; i < count; i++) {
        float score = i < BYTES ? 0 : -(float)i;
        put(w, &score, 4);
    }
    put_string(w, "tokenizer.ggml.token_type");
    put_u32(w, ARRAY);
    put_u32(w, I32);
    put_u64(w, count);
    for (uint32_t i = 0; i < count; i++)
        put_u32(w, i == 0 ? 2 : i < 3 ? 3 : i < BYTES ? 6 : 1);
    key_u32(w, "tokenizer.ggml.bos_token_id", 1);
    key_u32(w, "tokenizer.ggml.eos_token_id", 2);
}

/* 17 keys at most; the count must match what is written here. */
static uint64_t key_count(fault f)
{
    uint64_t count = 17;
    count -= f == NO_ARCHITECTURE;
    count -= f == NO_HEADS;
    return f == MANY_KEYS ? UINT64_MAX / 2 : count;
}

static void put_keys(writer *w)
{
    fault f = w->fault;
    if (f != NO_ARCHITECTURE)
        key_string(w, "general.architecture", f == ARCHITECTURE ? "spinningwheel" : "llama");
    if (f == LONG_STRING) {
        put_string(w, "general.name");
        put_u32(w, STRING);
        put_u64(w, UINT64_MAX - 4);
    } else {
        key_string(w, "general.name", "tiny \033[31mred\033[0m \xff name"); /* must not reach a terminal as it is */
    }
    put_string(w, "general.alignment");
    put_u32(w, f == ALIGN_TYPE ? F32 : U32);
    put_u32(w, f == ALIGN_ODD ? 48 : 32);
    key_u32(w, "llama.context_length", CONTEXT);
    key_u32(w, "llama.embedding_length", EMBEDDING);
    key_u32(w, "llama.block_count", f == LAYERS_HUGE ? 0xfffffff0u : LAYERS);
    key_u32(w, "llama.feed_forward_length", FEED_FORWARD);
    if (f != NO_HEADS)
        key_u32(w, "llama.attention.head_count", f == HEADS_ZERO ? 0 : f == HEADS_ODD ? 5 : HEADS);
    key_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    key_f32(w, "llama.rope.freq_base", 10000);
    key_u32(w, "llama.rope.dimension_count", EMBEDDING / HEADS);
    put_vocabulary(w);
}

static const struct {
    const char *name;
    uint32_t dims;
    uint64_t ne[2];
} tensors[] = {
    {"token_embd.weight", 2, {EMBEDDING, VOCABULARY}},       {"output_norm.weight", 1, {EMBEDDING, 1}},
    {"blk.0.attn_norm.weight", 1, {EMBEDDING, 1}},           {"blk.0.attn_q.weight", 2, {EMBEDDING, EMBEDDING}},
    {"blk.0.attn_k.weight", 2, {EMBEDDING, EMBEDDING}},      {"blk.0.attn_v.weight", 2, {EMBEDDING, EMBEDDING}},
    {"blk.0.attn_output.weight", 2, {EMBEDDING, EMBEDDING}}, {"blk.0.ffn_norm.weight", 1, {EMBEDDING, 1}},
    {"blk.0.ffn_gate.weight", 2, {EMBEDDING, FEED_FORWARD}}, {"blk.0.ffn_up.weight", 2, {EMBEDDING, FEED_FORWARD}},
    {"blk.0.ffn_down.weight", 2, {FEED_FORWARD, EMBEDDING}},
};
enum { TENSORS = sizeof tensors / sizeof *tensors, LAST = TENSORS - 1, Q = 3 };

static void put_tensor_infos(writer *w)
{
    for (uint32_t i = 0; i < TENSORS; i++) {
        uint64_t ne[2] = {tensors[i].ne[0], tensors[i].ne[1]};
        if (w->fault == NO_TENSOR && i == LAST)
            continue;
        put_string(w, tensors[i].name);
        put_u32(w, w->fault == DIM_COUNT && i == Q ? 77 : tensors[i].dims);
        if (i == Q && w->fault == DIM_ZERO)
            ne[1] = 0;
        if (i == Q && w->fault == DIM_HUGE)
            ne[1] = 1ull << 40;
        if (i == Q && w->fault == DIM_OVERFLOW)
            ne[0] = ne[1] = 1ull << 62;
        if (i == Q && w->fault == WRONG_SHAPE)
            ne[1] /= 2;
        for (uint32_t d = 0; d < tensors[i].dims; d++)
            put_u64(w, ne[d]);
        put_u32(w, w->fault == FORMAT && i == Q ? 4242 : w->fault == INTEGERS && i == Q ? 26 : 0);
        put_u64(w, w->fault == OFFSET && i == LAST ? 1ull << 50 : w->data);
        w->data += 4 * tensors[i].ne[0] * tensors[i].ne[1];
    }
}

static void put_data(writer *w)
{
    for (long at = ftell(w->file); at % 32; at++)
        put(w, "", 1);
    uint64_t count = w->data / 4;
    if (w->fault == SHORT_DATA)
        count /= 2;
    for (uint64_t i = 0; i < count; i++) {
        w->random = w->random * 1664525 + 1013904223;
        float value = ((float)(w->random >> 8) / (float)(1 << 24) - 0.5f) * 0.5f;
        if (w->fault == NAN_WEIGHTS)
            value = NAN;
        put(w, &value, 4);
    }
}

static int list(void)
{
    for (int i = 1; i < FAULTS; i++)
        printf("%s\t%s\n", faults[i].name, faults[i].error);
    return 0;
}

static int find_fault(const char *name)
{
    for (int i = 0; i < FAULTS; i++)
        if (!strcmp(faults[i].name, name))
            return i;
    return FAULTS;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--list"))
        return list();
    int number = argc > 2 ? find_fault(argv[2]) : NONE;
    writer w = {.file = argc > 1 && number < FAULTS ? fopen(argv[1], "wb") : NULL, .fault = (fault)number, .random = 7};
    if (!w.file)
        return 2;
    if (w.fault == EMPTY)
        return fclose(w.file);
    put(&w, w.fault == MAGIC ? "GGML" : "GGUF", 4);
    put_u32(&w, w.fault == VERSION ? 99 : 3);
    put_u64(&w, w.fault == MANY_TENSORS ? UINT64_MAX / 2 : TENSORS - (uint64_t)(w.fault == NO_TENSOR));
    put_u64(&w, key_count(w.fault));
    put_keys(&w);
    if (w.fault == SHORT_HEADER)
        return fclose(w.file);
    put_tensor_infos(&w);
    put_data(&w);
    return fclose(w.file) != 0;
}
