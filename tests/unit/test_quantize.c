/* SPDX-License-Identifier: MIT
 * tests/unit/test_quantize.c: models written in other formats, value by value; what must be refused; nothing left behind. */
#include "gguf_builder.h"
#include "tap.h"

#include <dirent.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

static char folder[64];
static quern_device *device;

static const char *in_folder(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    int good = file && fwrite(data, 1, size, file) == size;
    return file && !fclose(file) && good;
}

/* How many files there are, so that forgotten ones show. */
static int count_files(void)
{
    DIR *dir = opendir(folder);
    int count = -2; /* . and .. */
    while (dir && readdir(dir))
        count++;
    if (dir)
        closedir(dir);
    return count;
}

/* ---- a model ------------------------------------------------------------------------------------------------------ */

enum { EMBEDDINGS, QUERY, NORM, GATE, ODD, OUTPUT, TENSORS };

static const struct shape {
    const char *name;
    uint32_t dims;
    uint64_t ne[4];
} shapes[TENSORS] = {
    {"token_embd.weight", 2, {64, 10, 1, 1}}, {"blk.0.attn_q.weight", 3, {64, 5, 3, 1}},
    {"output_norm.weight", 1, {64, 1, 1, 1}}, {"blk.0.ffn_gate_inp.weight", 2, {64, 4, 1, 1}},
    {"blk.0.odd.weight", 2, {40, 6, 1, 1}},   {"output.weight", 2, {64, 10, 1, 1}},
};

static float value_of(size_t tensor, uint64_t i)
{
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u ^ (tensor + 7) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 31) * 0x94d049bb133111ebu;
    return (float)((double)(z >> 11) * 0x1p-53 * 4 - 2) * (i % 97 == 0 ? 8.0f : 1.0f);
}

static uint64_t elements_of(const struct shape *s)
{
    return s->ne[0] * s->ne[1] * s->ne[2] * s->ne[3];
}

/* count: the last tensors may be left out. bad: an element of `token_embd.weight` that is not a number, or -1. */
static void build_model(builder *b, size_t count, int bad)
{
    uint64_t offset = 0;
    put_header(b, 3, count, 6);
    put_kv_string(b, "general.architecture", "llama");
    put_kv_u32(b, "general.file_type", 0);
    put_kv_u32(b, "general.alignment", 64);
    put_kv_strings(b, "some.words", (const char *const[]){"a", "", "ccc"}, 3);
    put_kv_ints(b, "some.numbers", (const int32_t[]){-1, 2}, 2);
    put_kv_bool(b, "some.flag", 1);
    for (size_t i = 0; i < count; i++) {
        put_tensor(b, shapes[i].name, shapes[i].dims, shapes[i].ne, QP_FORMAT_F32, offset);
        offset = (offset + elements_of(&shapes[i]) * 4 + 63) & ~(uint64_t)63;
    }
    for (size_t t = 0; t < count; t++) {
        put_padding(b, 64);
        for (uint64_t i = 0; i < elements_of(&shapes[t]); i++)
            put_f32(b, t == EMBEDDINGS && (int)i == bad ? NAN : value_of(t, i));
    }
}

static quern_gguf *open_model(size_t count, int bad)
{
    builder b = {0};
    quern_gguf *g = NULL;
    build_model(&b, count, bad);
    if (write_file(in_folder("in.gguf"), b.data, b.size))
        quern_gguf_open(in_folder("in.gguf"), &g, NULL);
    builder_free(&b);
    return g;
}

/* ---- reading what was written ------------------------------------------------------------------------------------- */

static float half(const unsigned char *at)
{
    uint16_t bits;
    memcpy(&bits, at, 2);
    int exponent = bits >> 10 & 31;
    float magnitude = exponent ? ldexpf((float)(1024 + (bits & 1023)), exponent - 25) : ldexpf((float)(bits & 1023), -24);
    return bits & 0x8000 ? -magnitude : magnitude;
}

/* Element i of a row of blocks. */
static float element(const unsigned char *data, qp_format format, uint64_t i)
{
    const unsigned char *block = data + i / 32 * (format == QP_FORMAT_Q8_0 ? 34 : 18);
    unsigned j = (unsigned)(i % 32);
    float f;
    uint32_t bits = 0;
    switch (format) {
    case QP_FORMAT_F32: memcpy(&f, data + 4 * i, 4); return f;
    case QP_FORMAT_F16: return half(data + 2 * i);
    case QP_FORMAT_BF16:
        memcpy((char *)&bits + 2, data + 2 * i, 2);
        memcpy(&f, &bits, 4);
        return f;
    case QP_FORMAT_Q8_0: return half(block) * (float)(signed char)block[2 + j];
    case QP_FORMAT_Q4_0: return half(block) * (float)((j < 16 ? block[2 + j] & 15 : block[2 + j - 16] >> 4) - 8);
    default: return NAN;
    }
}

/* The largest error as a share of what the format allows: of the largest value among the 32 neighbours. */
static double worst_error(const unsigned char *data, qp_format format, size_t tensor, uint64_t count)
{
    double worst = 0;
    for (uint64_t i = 0; i < count; i++) {
        double largest = 0, x = (double)value_of(tensor, i), allowed = 0;
        for (uint64_t n = i / 32 * 32; n < i / 32 * 32 + 32 && n < count; n++)
            largest = fmax(largest, fabs((double)value_of(tensor, n)));
        switch (format) {
        case QP_FORMAT_F16: allowed = fmax(fabs(x) * 0x1p-11, 0x1p-25); break;
        case QP_FORMAT_BF16: allowed = fabs(x) * 0x1p-8; break;
        case QP_FORMAT_Q8_0: allowed = largest / 127 * 0.57; break; /* half a step, and the scale as F16 */
        case QP_FORMAT_Q4_0: allowed = largest / 8 * 3; break;      /* the largest ones may be cut off */
        default: allowed = 0; break;
        }
        double error = fabs((double)element(data, format, i) - x);
        worst = fmax(worst, error > 0 ? error / (allowed > 0 ? allowed : 1e-30) : 0);
    }
    return worst;
}

static void check_tensor(const quern_gguf *g, size_t tensor, qp_format format)
{
    const quern_gguf_tensor *t = quern_gguf_tensor_at(g, tensor);
    unsigned char *data = t ? malloc(t->bytes) : NULL;
    if (!data || quern_gguf_read(g, t, 0, data, t->bytes, NULL)) {
        ok(0, "%s can be read", shapes[tensor].name);
        free(data);
        return;
    }
    uint64_t count = elements_of(&shapes[tensor]);
    double worst = t->format == format ? worst_error(data, format, tensor, count) : 0;
    ok(t->format == format && !strcmp(t->name.data, shapes[tensor].name) && t->dims == shapes[tensor].dims &&
           (uint64_t)t->ne[2] == shapes[tensor].ne[2] && worst <= 1,
       "%s is %s, worst error %.2f of the bound", shapes[tensor].name, quern_format_get(t->format)->name, worst);
    free(data);
}

static void check_metadata(const quern_gguf *g, uint64_t file_type, int quantised)
{
    uint64_t type = 99, version = 0, flag = 0;
    int64_t number = 0;
    quern_string word = {0};
    (void)quern_gguf_get_u64(g, "general.quantization_version", 0, &version, NULL);
    ok(!quern_gguf_get_u64(g, "general.file_type", 0, &type, NULL) && type == file_type && version == (quantised ? 2u : 0u),
       "general.file_type is %u, general.quantization_version %u", (unsigned)type, (unsigned)version);
    ok(quern_gguf_version(g) == 3 && quern_gguf_alignment(g) == 64 && !quern_gguf_get_string(g, "some.words", 2, &word, NULL) &&
           word.size == 3 && !quern_gguf_get_i64(g, "some.numbers", 0, &number, NULL) && number == -1 &&
           !quern_gguf_get_u64(g, "some.flag", 0, &flag, NULL) && flag == 1 &&
           quern_gguf_find(g, "some.numbers")->element_type == QUERN_GGUF_INT32 && quern_gguf_kv_count(g) == (quantised ? 7u : 6u),
       "the other metadata is as it was");
}

/* With a recipe that is named like the format. */
static quern_status convert(const quern_gguf *in, const char *path, qp_format format, quern_progress progress, void *ctx,
                            quern_error *error)
{
    const quern_format_info *info = quern_format_get(format);
    quern_quantize_options options = {.struct_size = sizeof options,
                                      .recipe = quern_recipe_find(info ? info->name : "Q9"),
                                      .progress = progress,
                                      .progress_ctx = ctx};
    return quern_quantize(device, in, path, &options, NULL, error);
}

static void test_format(qp_format format, uint64_t file_type, qp_format output)
{
    quern_error error = {0};
    const quern_format_info *info = quern_format_get(format);
    quern_gguf *in = open_model(TENSORS, -1), *out = NULL;
    const char *path = in_folder("out.gguf");
    int good = in && !convert(in, path, format, NULL, NULL, &error) && !quern_gguf_open(path, &out, &error);
    if (!ok(good, "to %s %s", info->name, error.text))
        return;
    check_metadata(out, file_type, info->quantised);
    check_tensor(out, EMBEDDINGS, output);
    check_tensor(out, QUERY, format);
    check_tensor(out, NORM, QP_FORMAT_F32);
    check_tensor(out, GATE, QP_FORMAT_F32);
    check_tensor(out, ODD, info->quantised ? QP_FORMAT_F16 : format);
    check_tensor(out, OUTPUT, output);
    quern_gguf_close(in);
    quern_gguf_close(out);
    in = open_model(OUTPUT, -1); /* without output.weight the embeddings take its part */
    good = in && !convert(in, path, format, NULL, NULL, &error) && !quern_gguf_open(path, &out, &error);
    if (ok(good, "to %s with tied embeddings %s", info->name, error.text))
        check_tensor(out, EMBEDDINGS, output);
    quern_gguf_close(in);
    quern_gguf_close(out);
    ok(count_files() == 2, "nothing else lies in the folder");
}

/* Every pair of formats: through `first` to F32 gives exactly what `first` says. */
static void test_back(qp_format first)
{
    quern_error error = {0};
    quern_gguf *in = open_model(TENSORS, -1), *middle = NULL, *out = NULL;
    int good = in && !convert(in, in_folder("middle.gguf"), first, NULL, NULL, &error) &&
               !quern_gguf_open(in_folder("middle.gguf"), &middle, &error) &&
               !convert(middle, in_folder("out.gguf"), QP_FORMAT_F32, NULL, NULL, &error) &&
               !quern_gguf_open(in_folder("out.gguf"), &out, &error);
    int same = good;
    for (size_t t = 0; same && t < TENSORS; t++) {
        const quern_gguf_tensor *a = quern_gguf_tensor_at(middle, t), *b = quern_gguf_tensor_at(out, t);
        unsigned char *from = malloc(a->bytes), *to = malloc(b->bytes);
        same = !quern_gguf_read(middle, a, 0, from, a->bytes, NULL) && !quern_gguf_read(out, b, 0, to, b->bytes, NULL) &&
               b->format == QP_FORMAT_F32;
        for (uint64_t i = 0; same && i < elements_of(&shapes[t]); i++)
            same = !(element(from, a->format, i) < element(to, QP_FORMAT_F32, i) ||
                     element(from, a->format, i) > element(to, QP_FORMAT_F32, i));
        free(from);
        free(to);
    }
    ok(same, "%s and back to F32 gives its very values %s", quern_format_get(first)->name, error.text);
    quern_gguf_close(in);
    quern_gguf_close(middle);
    quern_gguf_close(out);
    unlink(in_folder("middle.gguf"));
}

/* ---- refusals ----------------------------------------------------------------------------------------------------- */

static int calls;

static int stop_soon(void *ctx, uint64_t done, uint64_t total)
{
    calls++;
    return done > total || (ctx && done > 0);
}

static void expect_refusal(const char *name, const quern_gguf *in, const char *path, qp_format format, quern_progress progress,
                           quern_status want, const char *word)
{
    quern_error error = {0};
    int files = count_files();
    quern_status status = convert(in, path, format, progress, &calls, &error);
    ok(status == want && strstr(error.text, word) && count_files() == files, "%s: %s", name, error.text);
}

static void test_refusals(void)
{
    quern_gguf *in = open_model(TENSORS, -1), *again = NULL;
    unlink(in_folder("out.gguf"));
    expect_refusal("the input itself", in, in_folder("in.gguf"), QP_FORMAT_Q8_0, NULL, QP_ERR_INVALID, "input itself");
    ok(!link(in_folder("in.gguf"), in_folder("link.gguf")), "another name for the input");
    expect_refusal("by another name", in, in_folder("link.gguf"), QP_FORMAT_Q8_0, NULL, QP_ERR_INVALID, "input itself");
    unlink(in_folder("link.gguf"));
    ok(!quern_gguf_open(in_folder("in.gguf"), &again, NULL), "the input is whole");
    expect_refusal("a format that is no recipe", in, in_folder("out.gguf"), QP_FORMAT_IQ2_S, NULL, QP_ERR_INVALID, "no recipe");
    expect_refusal("a format that is none", in, in_folder("out.gguf"), 63, NULL, QP_ERR_INVALID, "no recipe");
    expect_refusal("a folder", in, folder, QP_FORMAT_Q8_0, NULL, QP_ERR_INVALID, "directory");
    expect_refusal("a device", in, "/dev/null", QP_FORMAT_Q8_0, NULL, QP_ERR_INVALID, "/dev/null");
    expect_refusal("no such folder", in, in_folder("no/out.gguf"), QP_FORMAT_Q8_0, NULL, QP_ERR_IO, "No such file");
    expect_refusal("no path", in, "", QP_FORMAT_Q8_0, NULL, QP_ERR_INVALID, "no path");
    expect_refusal("stopped", in, in_folder("out.gguf"), QP_FORMAT_Q8_0, stop_soon, QP_ERR_CANCELLED, "stopped");
    ok(calls > 1, "progress was reported %d times", calls);
    ok(write_file(in_folder("out.gguf"), "old", 3), "something lies there already");
    expect_refusal("stopped again", in, in_folder("out.gguf"), QP_FORMAT_Q8_0, stop_soon, QP_ERR_CANCELLED, "stopped");
    struct stat info;
    ok(!stat(in_folder("out.gguf"), &info) && info.st_size == 3, "and is untouched");
    quern_gguf_close(again);
    quern_gguf_close(in);
    in = open_model(TENSORS, 130);
    expect_refusal("NaN weights", in, in_folder("out.gguf"), QP_FORMAT_Q8_0, NULL, QP_ERR_FORMAT, "element 2 of row 2");
    ok(!truncate(in_folder("in.gguf"), 1000), "the input shrinks");
    expect_refusal("a shrunken input", in, in_folder("out.gguf"), QP_FORMAT_Q8_0, NULL, QP_ERR_IO, "token_embd.weight");
    quern_gguf_close(in);
}

/* ---- larger than a portion, and real ------------------------------------------------------------------------------ */

static void test_portions(void)
{
    enum { ROW = 4096, ROWS = 1300 }; /* 20 MiB of F32: two portions and a bit */
    builder b = {0};
    quern_gguf *in = NULL, *out = NULL;
    quern_error error = {0};
    put_header(&b, 3, 1, 0);
    put_tensor(&b, "a.weight", 2, (const uint64_t[]){ROW, ROWS}, QP_FORMAT_F32, 0);
    put_padding(&b, 32);
    for (uint32_t i = 0; i < ROW * ROWS; i++)
        put_f32(&b, (float)(i % 255) - 127);
    int good = !quern_gguf_open_memory(b.data, b.size, "large", &in, &error) &&
               !convert(in, in_folder("out.gguf"), QP_FORMAT_BF16, stop_soon, NULL, &error) &&
               !quern_gguf_open(in_folder("out.gguf"), &out, &error);
    ok(good, "a tensor of several portions %s", error.text);
    unsigned char *data = malloc((size_t)ROW * ROWS * 2);
    uint64_t wrong = 0;
    good = good && !quern_gguf_read(out, quern_gguf_tensor_at(out, 0), 0, data, (uint64_t)ROW * ROWS * 2, &error);
    for (uint64_t i = 0; good && i < (uint64_t)ROW * ROWS; i++)
        wrong += fabsf(element(data, QP_FORMAT_BF16, i) - ((float)(i % 255) - 127)) > 0;
    ok(good && !wrong, "every element arrives in its place (%u do not)", (unsigned)wrong);
    free(data);
    quern_gguf_close(in);
    quern_gguf_close(out);
    builder_free(&b);
}

/* Memory is bounded by a portion, not by a tensor. */
static void test_memory(void)
{
    enum { ROW = 4096, ROWS = 16384, MIB = 256 }; /* of F32, all zeros, of which the disk holds nothing */
    builder b = {0};
    quern_gguf *in = NULL;
    quern_error error = {0};
    struct rusage before, after;
    put_header(&b, 3, 1, 0);
    put_tensor(&b, "blk.0.ffn_up.weight", 2, (const uint64_t[]){ROW, ROWS}, QP_FORMAT_F32, 0);
    put_padding(&b, 32);
    int good = write_file(in_folder("in.gguf"), b.data, b.size) &&
               !truncate(in_folder("in.gguf"), (off_t)(b.size + (size_t)ROW * ROWS * 4)) &&
               !quern_gguf_open(in_folder("in.gguf"), &in, &error);
    getrusage(RUSAGE_SELF, &before);
    quern_quantize_options options = {.struct_size = sizeof options, .recipe = quern_recipe_find("Q4_K_M")};
    quern_quantize_info info = {.struct_size = sizeof info};
    good = good && !quern_quantize(device, in, in_folder("out.gguf"), &options, &info, &error);
    getrusage(RUSAGE_SELF, &after);
    long grown = (after.ru_maxrss - before.ru_maxrss) / 1024;
    if (SANITIZED)
        skip("memory of a sanitizer is not ours", "memory does not grow with the tensor");
    else
        ok(good && grown < 64, "a tensor of %d MiB takes %ld MiB of memory %s", MIB, grown, error.text);
    ok(good && info.tensors == 1 && info.elements == (uint64_t)ROW * ROWS && info.input_bytes == info.elements * 4 &&
           info.output_bytes == info.elements / 256 * 144 && info.formats[QP_FORMAT_Q4_K].tensors == 1 && !info.again &&
           !info.fallback,
       "and what was written is told");
    quern_gguf_close(in);
    builder_free(&b);
}

/* Rules, what they may not be, and a dry run. */
static void test_rules(void)
{
    quern_gguf *in = open_model(TENSORS, -1);
    quern_tensor_rule rules[] = {{"attn_q", QP_FORMAT_Q5_1}, {"blk.*", QP_FORMAT_Q8_0}, {"blk.0.odd.weight", QP_FORMAT_BF16}};
    quern_quantize_options options = {.struct_size = sizeof options,
                                      .flags = QUERN_QUANTIZE_DRY_RUN,
                                      .recipe = quern_recipe_find("q4_k_m"),
                                      .rules = rules,
                                      .rule_count = 1};
    quern_quantize_info info = {.struct_size = sizeof info};
    quern_error error = {0};
    int files = count_files();
    ok(in && !quern_quantize(device, in, NULL, &options, &info, &error) && info.formats[QP_FORMAT_Q5_1].tensors == 1 &&
           info.fallback == 3 && info.formats[QP_FORMAT_Q8_0].tensors == 2 && info.formats[QP_FORMAT_F16].tensors == 1 &&
           count_files() == files,
       "a rule, blocks of 32 for short rows, in a dry run %s", error.text);
    options.rule_count = 2;
    ok(quern_quantize(device, in, NULL, &options, &info, &error) == QP_ERR_INVALID && strstr(error.text, "blk.0.odd.weight"),
       "a rule that cannot be: %s", error.text);
    options.rule_count = 3;
    rules[1].pattern = "blk.*attn_q*";
    ok(!quern_quantize(device, in, NULL, &options, &info, &error) && info.formats[QP_FORMAT_Q5_1].tensors == 0 &&
           info.formats[QP_FORMAT_BF16].tensors == 1,
       "of two rules the last one counts %s", error.text);
    rules[0].pattern = "norm"; /* vectors stay */
    ok(quern_quantize(device, in, NULL, &options, &info, &error) == QP_ERR_INVALID && strstr(error.text, "'norm'"), "%s",
       error.text);
    options.flags = 2;
    ok(quern_quantize(device, in, NULL, &options, &info, &error) == QP_ERR_INVALID && strstr(error.text, "0x2"), "%s", error.text);
    ok(quern_quantize(device, in, NULL, NULL, &info, &error) == QP_ERR_INVALID, "%s", error.text);
    quern_gguf_close(in);
}

/* ---- recipes ---- */

static const struct wanted {
    const char *name;
    const char *q4_k_m, *mxfp4;
} wanted[] = {
    {"token_embd.weight", "Q6_K", "Q8_0"},           {"output.weight", "Q6_K", "Q8_0"},
    {"blk.0.attn_q.weight", "Q4_K", "Q8_0"},         {"blk.0.attn_k.weight", "Q8_0", "Q8_0"}, /* small beside experts */
    {"blk.0.attn_v.weight", "Q8_0", "Q8_0"},         {"blk.0.attn_output.weight", "Q4_K", "Q8_0"},
    {"blk.0.ffn_gate_inp.weight", "F32", "F32"},     {"blk.0.ffn_gate_exps.weight", "Q4_K", "MXFP4"},
    {"blk.0.ffn_down_exps.weight", "Q6_K", "MXFP4"}, /* the first of eight layers has more, the fourth too */
    {"blk.1.ffn_down_exps.weight", "Q4_K", "MXFP4"}, {"blk.3.ffn_down_exps.weight", "Q6_K", "MXFP4"},
    {"blk.7.ffn_down_exps.weight", "Q6_K", "MXFP4"}, {"blk.1.ffn_down_shexp.weight", "Q4_K", "Q8_0"},
    {"blk.1.ssm_conv1d.weight", "F32", "F32"},       {"blk.1.ssm_alpha.weight", "F32", "F32"},
    {"blk.1.ssm_out.weight", "Q4_K", "Q8_0"},        {"blk.1.attn_q_norm.weight", "F32", "F32"},
    {"blk.1.attn_qkv.weight", "Q4_K", "Q8_0"},       {"blk.1.attn_q.bias", "F32", "F32"},
};
enum { WANTED = sizeof wanted / sizeof *wanted };

typedef struct seen {
    int mxfp4, wrong;
    size_t at;
} seen;

static void see_tensor(void *ctx, const quern_gguf_tensor *t, qp_format to)
{
    seen *s = ctx;
    const char *want = s->mxfp4 ? wanted[s->at].mxfp4 : wanted[s->at].q4_k_m, *got = quern_format_get(to)->name;
    if (strcmp(t->name.data, wanted[s->at].name) || strcmp(got, want)) {
        diag("%s becomes %s, not %s", t->name.data, got, want);
        s->wrong++;
    }
    s->at++;
}

static void test_mixture(void)
{
    builder b = {0};
    quern_gguf *in = NULL;
    quern_error error = {0};
    put_header(&b, 3, WANTED, 0);
    for (size_t i = 0; i < WANTED; i++)
        put_tensor(&b, wanted[i].name, 2, (const uint64_t[]){256, 2}, QP_FORMAT_F32, i * 2048);
    put_padding(&b, 32);
    for (size_t i = 0; i < WANTED * 512; i++)
        put_f32(&b, 1);
    int good = !quern_gguf_open_memory(b.data, b.size, "mixture", &in, &error);
    for (int mxfp4 = 0; mxfp4 < 2; mxfp4++) {
        seen s = {.mxfp4 = mxfp4};
        quern_quantize_options options = {.struct_size = sizeof options,
                                          .flags = QUERN_QUANTIZE_DRY_RUN,
                                          .recipe = quern_recipe_find(mxfp4 ? "MXFP4" : "Q4_K_M"),
                                          .tensor = see_tensor,
                                          .tensor_ctx = &s};
        good = good && !quern_quantize(device, in, NULL, &options, NULL, &error);
        ok(good && s.at == WANTED && !s.wrong, "%s of a mixture with recurrent layers %s", options.recipe->name, error.text);
    }
    quern_gguf_close(in);
    builder_free(&b);
}

/* 70000 is a weight of F32 and BF16, and no half. */
static void test_large_weights(void)
{
    static const struct {
        const char *recipe;
        int fits;
    } cases[] = {{"F16", 0}, {"Q4_K_M", 0}, {"Q8_0", 0}, {"BF16", 1}, {"F32", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        builder b = {0};
        quern_gguf *in = NULL;
        quern_error error = {0};
        quern_quantize_options options = {.struct_size = sizeof options, .recipe = quern_recipe_find(cases[i].recipe)};
        put_header(&b, 3, 1, 0);
        put_tensor(&b, "blk.0.ffn_up.weight", 2, (const uint64_t[]){256, 3}, QP_FORMAT_F32, 0);
        put_padding(&b, 32);
        for (int n = 0; n < 256 * 3; n++)
            put_f32(&b, n == 700 ? -70000 : 1);
        quern_status status = quern_gguf_open_memory(b.data, b.size, "large", &in, &error);
        status = status ? status : quern_quantize(device, in, in_folder("out.gguf"), &options, NULL, &error);
        ok(cases[i].fits ? status == QP_OK : status == QP_ERR_FORMAT && strstr(error.text, "ffn_up") && strstr(error.text, "row 2"),
           "%s of -70000: %s", cases[i].recipe, error.text);
        quern_gguf_close(in);
        builder_free(&b);
    }
}

/* Another implementation wrote this file, from the F32 weights: ours come from the same in F16, so that a value may land on the
 * neighbouring step. */
static int near(const unsigned char *x, const unsigned char *y, uint64_t bytes, qp_format format)
{
    if (format != QP_FORMAT_Q8_0)
        return !memcmp(x, y, bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        if (i % 34 < 2 ? i % 34 == 0 && fabsf(half(x + i) - half(y + i)) > 2e-3f * half(y + i)
                       : abs((signed char)x[i] - (signed char)y[i]) > 1)
            return 0;
    }
    return 1;
}

static void test_reference(void)
{
    const char *from = tap_fixture("models/tiny-books-f16.gguf"), *want = tap_fixture("models/tiny-books-q8_0.gguf");
    quern_gguf *in = NULL, *out = NULL, *reference = NULL;
    quern_error error = {0};
    if (!from || !want) {
        skip("no fixtures", "a real model");
        return;
    }
    int good = !quern_gguf_open(from, &in, &error) && !quern_gguf_open(want, &reference, &error) &&
               !convert(in, in_folder("out.gguf"), QP_FORMAT_Q8_0, NULL, NULL, &error) &&
               !quern_gguf_open(in_folder("out.gguf"), &out, &error);
    ok(good && quern_gguf_tensor_count(out) == quern_gguf_tensor_count(reference), "a real model %s", error.text);
    uint64_t formats = 0, differ = 0;
    for (uint64_t i = 0; good && i < quern_gguf_tensor_count(out); i++) {
        const quern_gguf_tensor *a = quern_gguf_tensor_at(out, i), *b = quern_gguf_tensor_find(reference, a->name.data);
        if (!b || a->format != b->format || a->bytes != b->bytes) {
            formats++;
            continue;
        }
        unsigned char *x = malloc(a->bytes), *y = malloc(b->bytes);
        differ += quern_gguf_read(out, a, 0, x, a->bytes, NULL) || quern_gguf_read(reference, b, 0, y, b->bytes, NULL) ||
                  !near(x, y, a->bytes, a->format);
        free(x);
        free(y);
    }
    ok(good && !formats, "every tensor has the reference's format (%u do not)", (unsigned)formats);
    ok(good && !differ, "and its values to one step (%u tensors differ by more)", (unsigned)differ);
    quern_gguf_close(in);
    quern_gguf_close(out);
    quern_gguf_close(reference);
}

int main(void)
{
    quern_context_options options = {.struct_size = sizeof options, .only = "cpu"};
    quern_context *context = NULL;
    quern_error error = {0};
    snprintf(folder, sizeof folder, "/tmp/quern-test-XXXXXX");
    if (quern_context_create(&options, &context, &error) || quern_device_open(context, "cpu", NULL, &device, &error)) {
        quern_context_destroy(context);
        diag("%s", error.text);
        return tap_skip_all("no cpu device");
    }
    if (!mkdtemp(folder))
        return tap_skip_all("cannot write to /tmp");
    test_format(QP_FORMAT_F32, 0, QP_FORMAT_F32);
    test_format(QP_FORMAT_F16, 1, QP_FORMAT_F16);
    test_format(QP_FORMAT_BF16, 32, QP_FORMAT_BF16);
    test_format(QP_FORMAT_Q8_0, 7, QP_FORMAT_Q8_0);
    test_format(QP_FORMAT_Q4_0, 2, QP_FORMAT_Q8_0);
    test_back(QP_FORMAT_F16);
    test_back(QP_FORMAT_BF16);
    test_back(QP_FORMAT_Q8_0);
    test_back(QP_FORMAT_Q4_0);
    test_refusals();
    test_portions();
    test_memory();
    test_rules();
    test_mixture();
    test_large_weights();
    test_reference();
    unlink(in_folder("in.gguf"));
    unlink(in_folder("out.gguf"));
    ok(!rmdir(folder), "the folder is empty in the end");
    quern_device_close(device);
    quern_context_destroy(context);
    return tap_done();
}
