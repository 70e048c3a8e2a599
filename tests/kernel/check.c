/* SPDX-License-Identifier: MIT
 * tests/kernel/check.c: checks every kernel of every variant against the reference, then times it if asked.
 *
 *   kernel-check [--seed N] [--filter WORD] [--part I/N] [--bench] [--bench-mib N] [--list] */
#include "tests/kernel/check.h"
#include "tests/tap.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TIME_LIMIT_S = 240 }; /* of processor time, so that a busy machine does no harm */

static const family *const families[] = {
    &convert_families[0], &convert_families[1], &quantise_families[0], &quantise_families[1], &activation_family, &matmul_families[0], &matmul_families[1],
    &attention_family,    &norm_family,         &rope_family,       &elementwise_family, &argmax_family,
    &short_conv_family,   &delta_rule_family,
};
enum { FAMILIES = sizeof families / sizeof families[0] };

static struct {
    uint64_t seed;
    const char *filter;
    unsigned part, parts; /* every parts-th row, from row `part` on; parts 0: all of them */
    bool bench, list;
} options;

size_t bench_bytes = (size_t)512 << 20;

/* ---- words of a failure ---- */

static char case_text[256], failure_text[512];

void describe(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(case_text, sizeof case_text, format, args);
    va_end(args);
}

bool fail(const char *format, ...)
{
    va_list args;
    if (failure_text[0])
        return false; /* the first one counts */
    va_start(args, format);
    vsnprintf(failure_text, sizeof failure_text, format, args);
    va_end(args);
    return false;
}

bool agrees(float got, double want, double tolerance)
{
    if (want != want)
        return got != got;
    if (got != got)
        return false;
    if (fabs(want) > (double)FLT_MAX)
        return (isinf(got) && (got > 0) == (want > 0)) || (!isinf(want) && fabs((double)got - want) <= tolerance);
    return fabs((double)got - want) <= tolerance;
}

const char *format_name(qp_format format)
{
    switch (format) {
#define NAME_CASE(name, number, elements, bytes, quantised)                                                                        \
    case number: return #name;
        QP_FORMAT_LIST(NAME_CASE)
#undef NAME_CASE
    default: return "?";
    }
}

size_t row_bytes(qp_format format, int64_t n)
{
    return (size_t)(n / qk_block_elements(format)) * qk_block_bytes(format);
}

/* ---- one check in its child ---- */

static int report_fd = -1;

static void report(const char *text)
{
    if (write(report_fd, text, strlen(text)) < 0)
        _exit(3);
}

static void trapped(int signal_number, siginfo_t *info, void *context)
{
    char text[400];
    (void)context;
    const char *what = signal_number == SIGSEGV   ? "SIGSEGV (read or wrote outside its memory?)"
                       : signal_number == SIGILL  ? "SIGILL (an instruction that this processor lacks)"
                       : signal_number == SIGPROF ? "ran too long"
                       : signal_number == SIGBUS  ? "SIGBUS"
                                                  : "SIGFPE";
    snprintf(text, sizeof text, "%s at address %p, case: %s", what, info->si_addr, case_text);
    report(text);
    _exit(1);
}

/* 0: no limit. */
static void limit_time(int seconds)
{
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = seconds}, NULL);
}

static void catch_traps(void)
{
    static const int signals[] = {SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGPROF};
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &action, NULL);
    limit_time(TIME_LIMIT_S);
}

typedef struct job {
    const family *family; /* NULL: check_panels */
    const subject *subject;
} job;

static bool job_run(const job *j)
{
    return j->family ? j->family->check(j->subject) : check_panels(j->subject->format);
}

static void child(const job *j)
{
    catch_traps();
    random_seed(options.seed ^ strlen(j->subject->name));
    if (!job_run(j)) {
        char text[900];
        snprintf(text, sizeof text, "%s, case: %s", failure_text, case_text);
        report(text);
        _exit(1);
    }
    if (options.bench && j->family && j->family->bench) {
        limit_time(0);
        j->family->bench(j->subject);
        fflush(stdout);
    }
    _exit(0);
}

/* Reads what the child reports until it ends. Returns its wait status. */
static int wait_for(pid_t pid, int fd, char *text, size_t size)
{
    size_t have = 0;
    ssize_t got;
    while (have + 1 < size && (got = read(fd, text + have, size - 1 - have)) > 0)
        have += (size_t)got;
    text[have] = '\0';
    close(fd);
    int status = 0;
    waitpid(pid, &status, 0);
    return status;
}

static void run_job(const job *j)
{
    int fds[2];
    char text[1024];
    const char *name = j->subject->name;
    static unsigned row;
    if ((options.filter && !strstr(name, options.filter)) || (options.parts && row++ % options.parts != options.part))
        return;
    if (options.list) {
        printf("# %s\n", name);
        return;
    }
    fflush(stdout);
    if (pipe(fds) != 0) {
        ok(0, "%s: no pipe", name);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        report_fd = fds[1];
        child(j);
    }
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        ok(0, "%s: no process", name);
        return;
    }
    int status = wait_for(pid, fds[0], text, sizeof text);
    ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s", name);
    if (text[0])
        diag("%s", text);
    else if (!WIFEXITED(status))
        diag("ended by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0)
        diag("ended with status %d", WEXITSTATUS(status));
}

/* ---- rows ---- */

static void run_row(const family *f, const qk_kernels *now, const qk_kernels *before, const char *variant, qp_format format)
{
    any_fn fn = f->get(now, format);
    char name[128];
    if (!fn || (before && f->get(before, format) == fn))
        return;
    if (f->by_format)
        snprintf(name, sizeof name, "%s %s.%s", variant, f->name, format_name(format));
    else
        snprintf(name, sizeof name, "%s %s", variant, f->name);
    run_job(&(job){f, &(subject){.kernels = now, .fn = fn, .format = format, .name = name}});
}

static void run_variant(const char *variant, const qk_kernels *now, const qk_kernels *before)
{
    for (unsigned i = 0; i < FAMILIES; i++) {
        qp_format formats = families[i]->by_format ? QP_FORMAT_LIMIT : 1;
        for (qp_format format = 0; format < formats; format++)
            run_row(families[i], now, before, variant, format);
    }
}

/* A row that a variant had must be there in the better ones. */
static bool keeps_rows(const qk_kernels *now, const qk_kernels *before)
{
    for (unsigned i = 0; i < FAMILIES; i++)
        for (qp_format format = 0; format < (families[i]->by_format ? QP_FORMAT_LIMIT : 1u); format++)
            if (before && families[i]->get(before, format) && !families[i]->get(now, format)) {
                diag("%s.%s is gone", families[i]->name, format_name(format));
                return false;
            }
    return true;
}

static void run_all(void)
{
    static qk_kernels tables[32];
    const char *variant;
    for (unsigned i = 0; i < 32 && (variant = qk_kernels_variant(i)); i++) {
        const qk_kernels *before = i ? &tables[i - 1] : NULL;
        int status = qk_kernels_init(&tables[i], variant);
        if (!ok(status == 0, "%s: the table can be had", variant))
            return;
        ok(keeps_rows(&tables[i], before), "%s: no row is lost", variant);
        run_variant(variant, &tables[i], before);
    }
    qk_kernels table;
    ok(qk_kernels_variant(0) != NULL, "there is a variant");
    ok(qk_kernels_init(&table, "no-such-variant") == -1, "an unknown variant is refused");
    ok(qk_kernels_init(&table, NULL) == 0, "the best variant can be had");
}

static void run_panels(void)
{
    static const qp_format formats[] = {
#define FORMAT(name, FORMAT, ...) QP_FORMAT_##FORMAT,
        QK_PANEL_FORMATS(FORMAT)
#undef FORMAT
    };
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "panel packing.%s", format_name(formats[i]));
        run_job(&(job){NULL, &(subject){.format = formats[i], .name = name}});
    }
}

/* "2/3": the second of three */
static bool parse_part(const char *text)
{
    char rest;
    bool good = sscanf(text, "%u/%u%c", &options.part, &options.parts, &rest) == 2 && options.part && options.part <= options.parts;
    options.part--;
    return good;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "--bench"))
            options.bench = true;
        else if (!strcmp(argv[i], "--list"))
            options.list = true;
        else if (!strcmp(argv[i], "--seed") && value)
            options.seed = strtoull(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--filter") && value)
            options.filter = argv[++i];
        else if (!strcmp(argv[i], "--part") && value && parse_part(value))
            i++;
        else if (!strcmp(argv[i], "--bench-mib") && value)
            bench_bytes = (size_t)strtoull(argv[++i], NULL, 0) << 20;
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    options.seed = (uint64_t)time(NULL);
    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: %s [--seed N] [--filter WORD] [--part I/N] [--bench] [--bench-mib N] [--list]\n", argv[0]);
        return 2;
    }
    qk_cpu_features features;
    char words[256];
    qk_cpu_detect(&features);
    qk_cpu_features_text(&features, words, sizeof words);
    diag("seed %llu, processor: %s", (unsigned long long)options.seed, words);
    run_panels();
    run_all();
    return tap_done();
}
