/* SPDX-License-Identifier: MIT
 * quern-cts: one conformance suite for every plugin, against <quern/plugin.h> and the reference kernels alone. Speaks TAP. */
#include "tests/cts/cts.h"

#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const cts_test tests[] = {
    {"plugin.object", test_plugin_object, 1},
    {"device.info", test_device_info, 1},
    {"device.open", test_device_open, 1},
    {"device.leaks", test_device_leaks, 1},
    {"buffer.create", test_buffer_create},
    {"buffer.transfer", test_buffer_transfer},
    {"buffer.map", test_buffer_map},
    {"buffer.import", test_buffer_import},
    {"buffer.threads", test_buffer_threads},
    {"timeline.host", test_timeline_host},
    {"timeline.threads", test_timeline_threads},
    {"weight.layout", test_weight_layout},
    {"weight.pack", test_weight_pack},
    {"weight.refusals", test_weight_refusals},
    {"query.ops", test_query_ops},
    {"query.refusals", test_query_refusals},
    {"query.mutations", test_query_mutations},
    {"program.lifecycle", test_program_lifecycle},
    {"program.refusals", test_program_refusals},
    {"program.queue", test_program_queue},
    {"program.step", test_program_step},
    {"program.live", test_program_live},
    {"program.scratch", test_program_scratch},
    {"program.hazards", test_program_hazards},
    {"program.same_x", test_program_same_x},
    {"program.views", test_program_views},
    {"program.transient", test_program_transient},
    {"program.feedback", test_program_feedback},
    {"program.repeat", test_program_repeat},
    {"program.state", test_program_state},
    {"op.get_rows", test_op_get_rows},
    {"op.norm", test_op_norm},
    {"op.rope", test_op_rope},
    {"op.kv_append", test_op_kv_append},
    {"op.elementwise", test_op_elementwise},
    {"op.copy", test_op_copy},
    {"op.copy_search", test_op_copy_search},
    {"op.sample", test_op_sample},
    {"op.matmul", test_op_matmul},
    {"op.matmul.epilogue", test_op_matmul_epilogue},
    {"op.matmul.extreme", test_op_matmul_extreme},
    {"op.expert_route", test_op_expert_route},
    {"op.expert_matmul", test_op_expert_matmul},
    {"op.expert_matmul.epilogue", test_op_expert_matmul_epilogue},
    {"op.expert_matmul.extreme", test_op_expert_matmul_extreme},
    {"op.expert_matmul.chain", test_op_expert_matmul_chain},
    {"op.attention", test_op_attention},
    {"op.attention.extreme", test_op_attention_extreme},
    {"op.attention.long", test_op_attention_long},
    {"op.attention.mixed", test_op_attention_mixed},
    {"op.attention.unseen", test_op_attention_unseen},
    {"op.short_conv", test_op_short_conv},
    {"op.delta_rule", test_op_delta_rule},
};

enum { TESTS = sizeof tests / sizeof *tests, MAX_TODO = 32 };

static int points, failed;
static const char *current = "start";
static uint64_t current_seed;
static char *todo[MAX_TODO]; /* PART=REASON */
static int todo_count;

/* ---- points ---- */

enum { HANG_SECONDS = 500 }; /* from one point to the next */

/* The reason of the first --todo whose part occurs in the point's name. */
static const char *expected_failure(const char *name)
{
    for (int i = 0; i < todo_count; i++) {
        char *reason = strchr(todo[i], '=');
        size_t length = reason ? (size_t)(reason - todo[i]) : strlen(todo[i]);
        for (const char *at = name; *at; at++)
            if (!strncmp(at, todo[i], length))
                return reason ? reason + 1 : "expected";
    }
    return NULL;
}

int cts_ok(int pass, const char *file, int line, const char *format, ...)
{
    char words[1024];
    int used = snprintf(words, sizeof words, "%s: ", current);
    va_list args;
    va_start(args, format);
    vsnprintf(words + used, sizeof words - (size_t)used, format, args);
    va_end(args);
    for (char *c = words; *c; c++)
        *c = *c == '#' || *c == '\n' ? ' ' : *c; /* '#' starts a TAP directive */
    const char *reason = expected_failure(words);
    printf("%sok %d - %s", pass ? "" : "not ", ++points, words);
    if (reason)
        printf(" # TODO %s", reason);
    printf("\n");
    if (!pass)
        printf("# %s at %s:%d, seed %llu\n", reason ? "failed as expected" : "failed", file, line,
               (unsigned long long)current_seed);
    failed += reason ? pass : !pass; /* one that passes against expectation is news too */
    alarm(HANG_SECONDS);
    fflush(stdout);
    return pass;
}

void cts_skip(const char *reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("ok %d - %s: ", ++points, current);
    vprintf(format, args);
    printf(" # SKIP %s\n", reason);
    va_end(args);
    alarm(HANG_SECONDS);
    fflush(stdout);
}

void cts_diag(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    printf("# %s\n", line);
    fflush(stdout);
}

qp_text *cts_words(cts *t)
{
    memset(t->words, 0, sizeof t->words);
    t->text = (qp_text){.data = t->words, .size = sizeof t->words};
    return &t->text;
}

void cts_refused(cts *t, qp_status status, qp_status wanted, const char *what)
{
    int ended = memchr(t->words, 0, sizeof t->words) != NULL;
    t->words[sizeof t->words - 1] = 0;
    ok(status < 0 && (wanted == QP_OK || status == wanted) && ended && strlen(t->words) > 4,
       "%s is refused in words (status %d: %s)", what, status, t->words);
}

int cts_worked(cts *t, qp_status status, const char *what)
{
    t->words[sizeof t->words - 1] = 0;
    return ok(status == QP_OK, "%s%s%s", what, status == QP_OK ? "" : ": ", status == QP_OK ? "" : t->words);
}

/* ---- random numbers: splitmix64 (Steele, Lea & Flood 2014) ---- */

uint64_t cts_random(cts *t)
{
    uint64_t x = t->random += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

int64_t cts_between(cts *t, int64_t low, int64_t high)
{
    return low + (int64_t)(cts_random(t) % (uint64_t)(high - low + 1));
}

double cts_uniform(cts *t)
{
    return (double)(cts_random(t) >> 11) * 0x1p-53;
}

/* Box & Muller's method, 1958, for a table; a number is one of it with other low bits. Calls of cos and log for each number of every
 * weight took longer than all that is done with them. */
enum { NORMALS = 1 << 14 };

static double normals[NORMALS];

static void make_normals(uint64_t seed)
{
    cts source = {.random = seed ^ 0x6e6f726d616c73u}; /* of the seed alone: tests may run in any order */
    for (int i = 0; i < NORMALS; i++) {
        double u = cts_uniform(&source), v = cts_uniform(&source);
        normals[i] = sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
    }
}

double cts_normal(cts *t)
{
    uint64_t x = cts_random(t);
    return normals[x % NORMALS] * (1 + (double)(x >> 32) * 0x1p-42); /* up to a thousandth larger */
}

static uint64_t name_hash(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 0x100000001b3u;
    return hash;
}

/* ---- running ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void on_signal(int number)
{
    char line[256];
    int n = snprintf(line, sizeof line, "Bail out! %s in %s (seed %llu)\n", number == SIGALRM ? "no end in sight" : "a crash",
                     current, (unsigned long long)current_seed);
    (void)!write(1, line, (size_t)n);
    _exit(99);
}

static void catch_signals(void)
{
    const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        signal(numbers[i], on_signal);
}
#else
static void catch_signals(void) {} /* the sanitizer's own report says more */
#endif

static void run_test(cts *t, const cts_test *test)
{
    current = test->name;
    t->random = t->seed ^ name_hash(test->name);
    alarm(HANG_SECONDS);
    if (!test->without_device) {
        qp_status status = t->backend->device_open(t->index, &t->options, &t->device, cts_words(t));
        if (status != QP_OK) {
            ok(0, "the device does not open: %s", t->words);
            return;
        }
    }
    test->run(t);
    if (!test->without_device) {
        t->backend->device_close(t->device);
        t->device = NULL;
    }
}

static int load(cts *t, const char *path)
{
    char with_folder[4096]; /* a bare file name would be searched in the system's folders */
    snprintf(with_folder, sizeof with_folder, "%s%s", strchr(path, '/') ? "" : "./", path);
    void *handle = dlopen(with_folder, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        printf("Bail out! %s\n", dlerror());
        return -1;
    }
    t->plugin = dlsym(handle, QP_PLUGIN_SYMBOL);
    if (!t->plugin || t->plugin->magic != QP_MAGIC || t->plugin->struct_size < sizeof(qp_plugin) ||
        t->plugin->abi_major != QP_ABI_MAJOR) {
        printf("Bail out! %s: no " QP_PLUGIN_SYMBOL " of ABI major %u\n", path, QP_ABI_MAJOR);
        return -1;
    }
    t->backend = t->plugin->query(QP_ABI_MINOR, &cts_host, cts_words(t));
    if (!t->backend) {
        printf("1..0 # SKIP the plugin %s has no backend here: %s\n", t->plugin->name, t->words);
        return 1;
    }
    return 0;
}

static int choose_device(cts *t)
{
    uint32_t count = t->backend->device_count();
    if (!count) {
        printf("1..0 # SKIP the plugin %s finds no device\n", t->plugin->name);
        return 1;
    }
    t->info.struct_size = sizeof t->info;
    qp_status status = t->index < count ? t->backend->device_info(t->index, &t->info, cts_words(t)) : QP_ERR_NOT_FOUND;
    if (status != QP_OK) {
        printf("Bail out! device %u: %s (devices are counted from 0, there are %u)\n", t->index,
               t->index < count ? t->words : "there is no such device", count);
        return -1;
    }
    t->computes = t->info.kind != QP_DEVICE_NULL;
    cts_diag("plugin %s %s, ABI %u.%u, device %u: %.127s, variant %s", t->plugin->name, t->plugin->version, t->plugin->abi_major,
             t->plugin->abi_minor, t->index, t->info.name, t->options.variant ? t->options.variant : "(best)");
    return 0;
}

/* 0: the device opens. 1: it lacks the variant, and that is not held against it. */
static int try_variant(cts *t, int if_available)
{
    if (!if_available)
        return 0;
    qp_status status = t->backend->device_open(t->index, &t->options, &t->device, cts_words(t));
    if (status == QP_OK)
        t->backend->device_close(t->device);
    if (status != QP_ERR_NOT_FOUND)
        return 0;
    printf("1..0 # SKIP %s\n", t->words);
    return 1;
}

static int usage(FILE *file)
{
    fprintf(file,
            "quern-cts PLUGIN.so [--device N] [--variant V] [--threads N] [--max-submit-ms N] [--filter STR] [--seed N] [--strict]\n"
            "          [--brief] [--todo PART=REASON] [--if-available] [--verbose]\n"
            "quern-cts --list\n\n"
            "Checks a compute plugin against the ABI and the reference kernels, and prints TAP.\n"
            "  --filter STR        only tests whose name holds STR (may be given once)\n"
            "  --seed N            of the random shapes and values; without it the time chooses, and it is printed\n"
            "  --strict            an op of the required set (docs/abi.md) that the device refuses is a failure, not a skip\n"
            "  --brief             a third of the random cases; given twice: a ninth\n"
            "  --if-available      a variant that the device does not have skips the whole suite\n"
            "  --todo PART=REASON  points whose text holds PART are expected to fail, and fail the suite when they pass\n");
    return file == stderr ? 2 : 0;
}

typedef struct arguments {
    const char *path, *filter;
    int list, help, if_available;
} arguments;

/* 0, or −1 for arguments that make no sense. */
static int parse(int argc, char **argv, cts *t, arguments *a)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(arg, "--list"))
            a->list = 1;
        else if (!strcmp(arg, "--strict"))
            t->strict = 1;
        else if (!strcmp(arg, "--brief"))
            t->brief++;
        else if (!strcmp(arg, "--verbose"))
            cts_verbose = 1;
        else if (!strcmp(arg, "--if-available"))
            a->if_available = 1;
        else if (!strcmp(arg, "--help"))
            a->help = 1;
        else if (arg[0] != '-' && !a->path)
            a->path = arg;
        else if (!next || arg[0] != '-')
            return -1;
        else if (!strcmp(arg, "--device"))
            t->index = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (!strcmp(arg, "--variant"))
            t->options.variant = argv[++i];
        else if (!strcmp(arg, "--threads"))
            t->options.threads = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (!strcmp(arg, "--max-submit-ms"))
            t->options.max_submit_ms = (uint32_t)strtoul(argv[++i], NULL, 0);
        else if (!strcmp(arg, "--filter"))
            a->filter = argv[++i];
        else if (!strcmp(arg, "--seed"))
            t->seed = strtoull(argv[++i], NULL, 0);
        else if (!strcmp(arg, "--todo") && todo_count < MAX_TODO)
            todo[todo_count++] = argv[++i];
        else
            return -1;
    }
    return a->path || a->list || a->help ? 0 : -1;
}

int main(int argc, char **argv)
{
    static cts t = {.options = {.struct_size = sizeof t.options}};
    arguments a = {0};
    t.seed = (uint64_t)time(NULL);
    if (parse(argc, argv, &t, &a))
        return usage(stderr);
    if (a.help)
        return usage(stdout);
    if (a.list) {
        for (int i = 0; i < TESTS; i++)
            puts(tests[i].name);
        return 0;
    }
    current_seed = t.seed;
    make_normals(t.seed);
    catch_signals();
    cts_diag("seed %llu", (unsigned long long)t.seed);
    int loaded = load(&t, a.path);
    if (!loaded)
        loaded = choose_device(&t);
    if (!loaded)
        loaded = try_variant(&t, a.if_available);
    if (loaded)
        return loaded < 0;
    int chosen = 0;
    for (int i = 0; i < TESTS; i++)
        if (!a.filter || strstr(tests[i].name, a.filter)) {
            run_test(&t, &tests[i]);
            chosen++;
        }
    if (!chosen)
        cts_diag("no test's name holds \"%s\"; --list names them", a.filter);
    printf("1..%d\n", points);
    return failed != 0 || !chosen;
}
