/* SPDX-License-Identifier: MIT
 * quern-bench-engine: prefill and decode of a model on one device, as shares of what the machine can do. */
#include "bench/engine/make_model.h"
#include "bench/kernel/ceilings.h"

#include <quern/engine.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { MAX_REPEATS = 64, MAX_THREADS = 1024 };

typedef struct options {
    const char *model, *shape, *format, *device, *variant, *kv, *write;
    uint32_t threads, prompt, generate, repeats, chunk;
    int json;
} options;

typedef struct results {
    bench_ceilings ceilings;
    double load_seconds, file_bytes;
    double decode_bytes;  /* weights read for one token */
    double prefill_ops;   /* of the whole prompt */
    double prefill[MAX_REPEATS], decode[MAX_REPEATS]; /* tokens a second */
    quern_session_info session;
    quern_model_info model;
    char features[256], device_name[128];
} results;

static void usage(FILE *out)
{
    fputs("usage: quern-bench-engine (--model FILE | --shape tiny|1b|3b|8b|moe --format FORMAT) [options]\n"
          "  FORMAT is q8_0, q4_0, …, q6_k, iq4_nl, mxfp4, f16, bf16, f32, or a recipe: q4_k_m, q5_k_m\n"
          "  --device ID --variant ISA --threads N --kv-type T   as in quern run\n"
          "  --prompt N     tokens of prefill (256)\n"
          "  --generate N   tokens of decode (32)\n"
          "  --chunk N      rows of a prefill program (256)\n"
          "  --repeat N     runs, prefill and decode in turn (5)\n"
          "  --json         results for machines on stdout\n"
          "  --write FILE   only write the model of --shape and --format there, for other programs to run\n"
          "Without --model a file with random weights of that shape is written to the temporary folder and removed.\n", out);
}

static uint32_t number(const char *name, const char *text, uint32_t least, uint32_t most)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*end || end == text || v < least || v > most) {
        fprintf(stderr, "quern-bench-engine: %s takes a number from %u to %u, not '%s'\n", name, least, most, text);
        exit(2);
    }
    return (uint32_t)v;
}

static options parse(int argc, char **argv)
{
    static const struct option longs[] = {
        {"model", 1, 0, 'm'}, {"shape", 1, 0, 's'}, {"format", 1, 0, 'f'}, {"device", 1, 0, 'd'}, {"variant", 1, 0, 'v'},
        {"kv-type", 1, 0, 'k'}, {"threads", 1, 0, 't'}, {"prompt", 1, 0, 'p'}, {"generate", 1, 0, 'n'}, {"repeat", 1, 0, 'r'},
        {"chunk", 1, 0, 'c'}, {"write", 1, 0, 'w'}, {"json", 0, 0, 'j'}, {"help", 0, 0, 'h'}, {0},
    };
    options o = {.format = "q8_0", .device = "cpu", .prompt = 256, .generate = 32, .repeats = 5, .chunk = 256};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (c) {
        case 'm': o.model = optarg; break;
        case 's': o.shape = optarg; break;
        case 'f': o.format = optarg; break;
        case 'd': o.device = optarg; break;
        case 'v': o.variant = optarg; break;
        case 'k': o.kv = optarg; break;
        case 't': o.threads = number("--threads", optarg, 1, MAX_THREADS); break;
        case 'p': o.prompt = number("--prompt", optarg, 1, 1 << 20); break;
        case 'n': o.generate = number("--generate", optarg, 1, 1 << 20); break;
        case 'r': o.repeats = number("--repeat", optarg, 1, MAX_REPEATS); break;
        case 'c': o.chunk = number("--chunk", optarg, 1, 4096); break;
        case 'w': o.write = optarg; break;
        case 'j': o.json = 1; break;
        case 'h': usage(stdout); exit(0);
        default: usage(stderr); exit(2);
        }
    }
    if (!o.model == !o.shape || optind < argc) {
        usage(stderr);
        exit(2);
    }
    return o;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, uint32_t n)
{
    double sorted[MAX_REPEATS];
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, by_value);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

/* Weights that a token passes through: all matrices, of experts the share that is chosen, but not an embedding table of which only a row is looked up. */
static void count_work(const quern_gguf *gguf, const options *o, results *r)
{
    int tied = !quern_gguf_tensor_find(gguf, "output.weight");
    double body = 0, head = 0;
    for (uint64_t i = 0; i < quern_gguf_tensor_count(gguf); i++) {
        const quern_gguf_tensor *t = quern_gguf_tensor_at(gguf, i);
        int embedding = !strcmp(t->name.data, "token_embd.weight"), output = !strcmp(t->name.data, "output.weight");
        if (t->dims < 2 || (embedding && !tied))
            continue;
        double share = strstr(t->name.data, "_exps.") ? (double)r->model.experts_used / r->model.experts : 1;
        r->decode_bytes += share * (double)t->bytes;
        *(embedding || output ? &head : &body) += share * (double)t->ne[0] * (double)t->ne[1] * (double)t->ne[2];
    }
    double chunks = (double)((o->prompt + o->chunk - 1) / o->chunk);
    r->prefill_ops = 2 * (body * o->prompt + head * chunks);
    r->file_bytes = (double)quern_gguf_file_size(gguf);
}

static quern_status measure(quern_session *session, const options *o, results *r, quern_error *error)
{
    quern_status status = QP_OK;
    int32_t *prompt = malloc(o->prompt * sizeof *prompt);
    if (!prompt)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the prompt");
    uint32_t state = 12345;
    for (uint32_t i = 0; i < o->prompt; i++) {
        state = state * 1664525u + 1013904223u;
        prompt[i] = (int32_t)((state >> 8) % r->model.vocabulary);
    }
    for (uint32_t run = 0; run < o->repeats + 1 && status == QP_OK; run++) { /* the first is a warm-up */
        uint32_t slot = run ? run - 1 : 0;
        status = quern_session_truncate(session, 0, error);
        double start = bench_now();
        if (status == QP_OK)
            status = quern_session_eval(session, prompt, o->prompt, NULL, error);
        r->prefill[slot] = o->prompt / (bench_now() - start);
        start = bench_now();
        for (uint32_t i = 0; i < o->generate && status == QP_OK; i++) {
            int32_t token;
            status = quern_session_greedy(session, &token, error);
            if (status == QP_OK)
                status = quern_session_eval(session, &token, 1, NULL, error);
        }
        r->decode[slot] = o->generate / (bench_now() - start);
    }
    free(prompt);
    return status;
}

static quern_status run(const options *o, const char *path, results *r, quern_error *error)
{
    quern_context *context = NULL;
    quern_device *device = NULL;
    quern_gguf *gguf = NULL;
    quern_model *model = NULL;
    quern_session *session = NULL;
    quern_context_options co = {.struct_size = sizeof co, .only = !strcmp(o->device, "cpu") ? "cpu" : NULL};
    quern_device_options dopt = {.struct_size = sizeof dopt, .threads = o->threads, .variant = o->variant};
    quern_session_options so = {.struct_size = sizeof so, .context = o->prompt + o->generate + 1, .chunk = o->chunk};
    if (o->kv) {
        const quern_format_info *f = quern_format_by_name(o->kv);
        if (!f)
            return quern_fail(error, QP_ERR_INVALID, "--kv-type: no format is called '%s'", o->kv);
        so.kv_k = so.kv_v = f->format;
        so.kv_set = 1;
    }
    quern_status status = quern_context_create(&co, &context, error);
    uint32_t cpus[MAX_THREADS], threads = 0;
    if (status == QP_OK) {
        const quern_topology *t = quern_context_topology(context);
        uint32_t want = o->threads ? o->threads : quern_topology_cores(t);
        for (const qp_cpu *c; threads < want && threads < MAX_THREADS && (c = quern_topology_cpu(t, threads)); threads++)
            cpus[threads] = c->os_index;
        if (!threads || bench_ceilings_measure(cpus, threads, 1ull << 30, &r->ceilings))
            status = quern_fail(error, QP_ERR_OUT_OF_MEMORY, "the ceilings could not be measured: 1 GiB and %u threads are needed", threads);
    }
    if (status == QP_OK)
        status = quern_device_open(context, o->device, &dopt, &device, error);
    if (status == QP_OK)
        status = quern_gguf_open(path, &gguf, error);
    double start = bench_now();
    if (status == QP_OK)
        status = quern_model_load(device, gguf, NULL, &model, error);
    r->load_seconds = bench_now() - start;
    if (status == QP_OK)
        status = quern_session_create(model, &so, &session, error);
    if (status == QP_OK) {
        r->model.struct_size = sizeof r->model;
        r->session.struct_size = sizeof r->session;
        quern_model_get_info(model, &r->model);
        quern_session_get_info(session, &r->session);
        snprintf(r->features, sizeof r->features, "%s", quern_device_info(device)->features);
        snprintf(r->device_name, sizeof r->device_name, "%s", quern_device_info(device)->name);
        count_work(gguf, o, r);
        status = measure(session, o, r, error);
    }
    quern_session_destroy(session);
    quern_model_destroy(model);
    quern_gguf_close(gguf);
    quern_device_close(device);
    quern_context_destroy(context);
    return status;
}

static void print_list(const char *name, const double *values, uint32_t n)
{
    printf("  \"%s\": [", name);
    for (uint32_t i = 0; i < n; i++)
        printf("%s%.3f", i ? ", " : "", values[i]);
    puts("],");
}

static void report(const options *o, const results *r)
{
    double decode = median(r->decode, o->repeats), prefill = median(r->prefill, o->repeats);
    double decode_rate = decode * r->decode_bytes, prefill_rate = prefill / o->prompt * r->prefill_ops;
    double read = r->ceilings.read_bytes_per_second, int8 = r->ceilings.int8_ops_per_second;
    if (!o->json) {
        printf("device    %s, %u threads (%s)\n", r->device_name, r->ceilings.threads, r->features);
        printf("model     %s, %.2f GB of weights a token\n", o->model ? o->model : o->shape, r->decode_bytes / 1e9);
        printf("ceilings  read %.1f GB/s, int8 %.2f TOP/s (%s)\n", read / 1e9, int8 / 1e12, r->ceilings.int8_unit);
        printf("load      %.2f s, %.2f GB/s\n", r->load_seconds, r->file_bytes / r->load_seconds / 1e9);
        printf("prefill   %.2f tok/s (%u tokens), %.3f TOP/s, %.1f %% of the int8 rate\n", prefill, o->prompt, prefill_rate / 1e12,
               100 * prefill_rate / int8);
        printf("decode    %.2f tok/s, %.2f GB/s, %.1f %% of the read rate\n", decode, decode_rate / 1e9, 100 * decode_rate / read);
        return;
    }
    struct utsname system;
    uname(&system);
    printf("{\n  \"benchmark\": \"engine\",\n  \"system\": \"%s %s %s\",\n  \"device\": \"%s\",\n  \"features\": \"%s\",\n", system.sysname,
           system.release, system.machine, r->device_name, r->features);
    printf("  \"threads\": %u,\n  \"model\": \"%s\",\n  \"format\": \"%s\",\n  \"prompt\": %u,\n  \"generate\": %u,\n", r->ceilings.threads,
           o->model ? "file" : o->shape, o->model ? "" : o->format, o->prompt, o->generate);
    printf("  \"read_bytes_per_second\": %.0f,\n  \"int8_ops_per_second\": %.0f,\n  \"int8_unit\": \"%s\",\n", read, int8, r->ceilings.int8_unit);
    printf("  \"load_seconds\": %.4f,\n  \"weight_bytes\": %" PRIu64 ",\n  \"kv_bytes\": %" PRIu64 ",\n", r->load_seconds, r->model.weight_bytes,
           r->session.kv_bytes);
    print_list("prefill_tokens_per_second", r->prefill, o->repeats);
    print_list("decode_tokens_per_second", r->decode, o->repeats);
    printf("  \"prefill_share_of_int8_rate\": %.4f,\n  \"decode_share_of_read_rate\": %.4f\n}\n", prefill_rate / int8, decode_rate / read);
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    char made[256] = "";
    const char *path = o.model;
    if (o.shape) {
        const bench_shape *shape = bench_shape_find(o.shape);
        int mixed = !strcasecmp(o.format, "q4_k_m") || !strcasecmp(o.format, "q5_k_m");
        char name[16];
        snprintf(name, sizeof name, "%s", o.format);
        if (mixed)
            name[4] = 0;
        const quern_format_info *format = quern_format_by_name(name);
        const char *folder = getenv("TMPDIR");
        if (o.write)
            snprintf(made, sizeof made, "%s", o.write);
        else
            snprintf(made, sizeof made, "%s/quern-bench-%ld.gguf", folder ? folder : "/tmp", (long)getpid());
        if (!shape || !format || !bench_can_make(format->format)) {
            usage(stderr);
            return 2;
        }
        if (bench_make_model(made, shape, format->format, mixed)) {
            fprintf(stderr, "quern-bench-engine: %s could not be written: is there room?\n", made);
            return 1;
        }
        if (o.write)
            return 0;
        path = made;
    }
    static results r;
    quern_error error = {0};
    quern_status status = run(&o, path, &r, &error);
    if (*made)
        remove(made);
    if (status != QP_OK) {
        fprintf(stderr, "quern-bench-engine: %s\n", error.text);
        return 1;
    }
    report(&o, &r);
    return 0;
}
