/* SPDX-License-Identifier: MIT
 * make_chat_gguf FILE [KIND]: a tiny Llama with a chat template that says what it is told: its layers add nothing, and the output
 * matrix holds for each token the embedding of the one before it, so that a newline begins a fixed answer, a byte at a time.
 *
 * KIND: answer ("Ok, \303\251." and <|im_end|>), endless (goes round and round), escape (with bytes that a terminal would obey),
 * think (<think>, a word, </think>, the answer; the template is Qwen3's kind), none (no template), unknown (one of no family),
 * hostile (a template that is no text). */
#include "gguf_builder.h"

enum { EMBEDDING = 64, HEADS = 2, FEED_FORWARD = 32, CONTEXT = 2048, ALIGNMENT = 32 };
enum { BYTES = 3, START = BYTES + 256, END, THINK, END_THINK, VOCABULARY };

static const char *const chatml =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
static const char *const qwen3 =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is false %}{{ "
    "'<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}";

typedef struct kind {
    const char *name, *template, *answer;
    int thinks, endless;
} kind;

static const kind kinds[] = {
    {"answer", NULL, "Ok, \xc3\xa9.", 0, 0},
    {"endless", NULL, "ab c", 0, 1},
    {"escape", NULL,
     "a\033[31mb\xc2\x9b"
     "c\tde",
     0, 0},
    {"think", NULL, "Ok.", 1, 0},
    {"none", "", "Ok.", 0, 0},
    {"unknown", "{% for m in messages %}<<{{ m.role }}>> {{ m.content }}{% endfor %}", "Ok.", 0, 0},
    {"hostile", "", "Ok.", 0, 0},
};

static float random_value(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return (*state >> 27 & 1) ? 0.125f : -0.125f;
}

/* next[t]: what follows token t. */
static void make_chain(const kind *k, int32_t next[VOCABULARY])
{
    int32_t at = BYTES + '\n';
    for (int i = 0; i < VOCABULARY; i++)
        next[i] = END;
    if (k->thinks) {
        next[at] = THINK;
        next[THINK] = BYTES + 'h';
        next[BYTES + 'h'] = BYTES + 'm';
        next[BYTES + 'm'] = at = END_THINK;
    }
    for (const unsigned char *c = (const unsigned char *)k->answer; *c; c++)
        at = next[at] = BYTES + *c;
    next[at] = k->endless ? BYTES + (unsigned char)k->answer[0] : END;
}

static const char *token_text(int id, char text[16])
{
    static const char *const named[] = {"<unk>", "<s>", "</s>"}, *const later[] = {"<|im_start|>", "<|im_end|>", "<think>",
                                                                                   "</think>"};
    if (id < BYTES)
        return named[id];
    if (id >= START)
        return later[id - START];
    snprintf(text, 16, "<0x%02X>", (unsigned)(id - BYTES));
    return text;
}

static void put_vocabulary(builder *b)
{
    char text[16];
    put_kv_string(b, "tokenizer.ggml.model", "llama");
    put_kv_array(b, "tokenizer.ggml.tokens", QUERN_GGUF_STRING, VOCABULARY);
    for (int i = 0; i < VOCABULARY; i++)
        put_string(b, token_text(i, text));
    put_kv_array(b, "tokenizer.ggml.scores", QUERN_GGUF_FLOAT32, VOCABULARY);
    for (int i = 0; i < VOCABULARY; i++)
        put_f32(b, 0);
    put_kv_array(b, "tokenizer.ggml.token_type", QUERN_GGUF_INT32, VOCABULARY);
    for (int i = 0; i < VOCABULARY; i++)
        put_u32(b, i == 0      ? QUERN_TOKEN_UNKNOWN
                   : i < BYTES ? QUERN_TOKEN_CONTROL
                   : i < START ? QUERN_TOKEN_BYTE
                   : i < THINK ? QUERN_TOKEN_CONTROL
                               : QUERN_TOKEN_USER);
    put_kv_u32(b, "tokenizer.ggml.bos_token_id", 1);
    put_kv_u32(b, "tokenizer.ggml.eos_token_id", 2);
    put_kv_bool(b, "tokenizer.ggml.add_bos_token", 0);
    put_kv_bool(b, "tokenizer.ggml.add_space_prefix", 0);
}

static void put_model(builder *b)
{
    put_kv_string(b, "general.architecture", "llama");
    put_kv_string(b, "general.name", "parrot");
    put_kv_u32(b, "llama.context_length", CONTEXT);
    put_kv_u32(b, "llama.embedding_length", EMBEDDING);
    put_kv_u32(b, "llama.block_count", 1);
    put_kv_u32(b, "llama.feed_forward_length", FEED_FORWARD);
    put_kv_u32(b, "llama.attention.head_count", HEADS);
    put_key(b, "llama.attention.layer_norm_rms_epsilon", QUERN_GGUF_FLOAT32);
    put_f32(b, 1e-5f);
}

static const struct {
    const char *name;
    uint32_t dims;
    uint64_t ne[2];
} tensors[] = {
    {"token_embd.weight", 2, {EMBEDDING, VOCABULARY}},
    {"output.weight", 2, {EMBEDDING, VOCABULARY}},
    {"output_norm.weight", 1, {EMBEDDING, 1}},
    {"blk.0.attn_norm.weight", 1, {EMBEDDING, 1}},
    {"blk.0.ffn_norm.weight", 1, {EMBEDDING, 1}},
    {"blk.0.attn_q.weight", 2, {EMBEDDING, EMBEDDING}},
    {"blk.0.attn_k.weight", 2, {EMBEDDING, EMBEDDING}},
    {"blk.0.attn_v.weight", 2, {EMBEDDING, EMBEDDING}},
    {"blk.0.attn_output.weight", 2, {EMBEDDING, EMBEDDING}},
    {"blk.0.ffn_gate.weight", 2, {EMBEDDING, FEED_FORWARD}},
    {"blk.0.ffn_up.weight", 2, {EMBEDDING, FEED_FORWARD}},
    {"blk.0.ffn_down.weight", 2, {FEED_FORWARD, EMBEDDING}},
};
enum { TENSORS = sizeof tensors / sizeof *tensors, EMBED = 0, OUTPUT = 1, LAST_NORM = 4 };

static void put_numbers(builder *b, int tensor, float embeddings[VOCABULARY][EMBEDDING], const int32_t *next)
{
    uint64_t count = tensors[tensor].ne[0] * tensors[tensor].ne[1];
    static float sums[VOCABULARY][EMBEDDING];
    if (tensor == OUTPUT)
        for (int t = 0; t < VOCABULARY; t++)
            for (int i = 0; i < EMBEDDING; i++)
                sums[next[t]][i] += next[t] == END && t != BYTES + '.' && t != BYTES + 'e' ? 0 : embeddings[t][i];
    for (uint64_t i = 0; i < count; i++) {
        float(*from)[EMBEDDING] = tensor == EMBED ? embeddings : sums;
        put_f32(b, tensor <= OUTPUT ? from[i / EMBEDDING][i % EMBEDDING] : tensor <= LAST_NORM ? 1 : 0);
    }
}

int main(int argc, char **argv)
{
    static float embeddings[VOCABULARY][EMBEDDING];
    const kind *k = &kinds[0];
    int32_t next[VOCABULARY];
    uint32_t state = 5;
    uint64_t offset = 0;
    builder b = {0};
    for (size_t i = 0; argc > 2 && i < sizeof kinds / sizeof *kinds; i++)
        k = strcmp(kinds[i].name, argv[2]) ? k : &kinds[i];
    FILE *file = argc > 1 ? fopen(argv[1], "wb") : NULL;
    if (!file)
        return 2;
    make_chain(k, next);
    for (int t = 0; t < VOCABULARY; t++)
        for (int i = 0; i < EMBEDDING; i++)
            embeddings[t][i] = random_value(&state);
    int hostile = !strcmp(k->name, "hostile"), has = hostile || !k->template || k->template[0];
    put_header(&b, 3, TENSORS, 16u + (uint64_t)has);
    put_model(&b);
    put_vocabulary(&b);
    if (hostile)
        put_kv_u32(&b, "tokenizer.chat_template", 7);
    else if (has)
        put_kv_string(&b, "tokenizer.chat_template", k->template ? k->template : k->thinks ? qwen3 : chatml);
    for (int i = 0; i < TENSORS; i++) {
        put_tensor(&b, tensors[i].name, tensors[i].dims, tensors[i].ne, QP_FORMAT_F32, offset);
        offset += 4 * tensors[i].ne[0] * tensors[i].ne[1];
    }
    put_padding(&b, ALIGNMENT);
    for (int i = 0; i < TENSORS; i++)
        put_numbers(&b, i, embeddings, next);
    int fine = fwrite(b.data, 1, b.size, file) == b.size;
    builder_free(&b);
    return fclose(file) || !fine;
}
