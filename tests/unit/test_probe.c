/* SPDX-License-Identifier: MIT
 * Every way in which a plugin can fail costs one sentence and no more time than the limit. */
#include "tap.h"

#include <quern/device.h>
#include <quern/log.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct expectation {
    const char *name, *words; /* NULL: it loads */
} expectations[] = {
    {"no_symbol", "exports no symbol quern_plugin"},
    {"wrong_magic", "not a Quern plugin"},
    {"wrong_major", "built for plugin ABI 2.0, this library speaks 1.0"},
    {"newer_minor", "needs plugin ABI 1.1, this library speaks 1.0"},
    {"tiny_struct", "8 bytes long"},
    {"short_struct", "bytes long where ABI 1.0 needs"},
    {"wrong_name", "calls itself \"somebody? else\""},
    {"null_query", "query function is NULL"},
    {"no_backend", "libimaginary.so.1 is not installed"},
    {"traps_in_query", "it printed \"imaginary driver: assertion failed\""},
    {"traps_in_query", "it crashed in query(): "},
    {"traps_in_count", "it crashed in device_count(): segmentation fault (SIGSEGV)"},
    {"traps_in_info", "it crashed in device_info(0): arithmetic error (SIGFPE)"},
    {"hangs", "s in query() and was ended"},
    {"hangs_closed", "s in query() and was ended"},
    {"hangs_forked", "s in query() and was ended"},
    {"chatty", NULL},
    {"exits", "it ended its process in query(), exit status 0"},
    {"aborts", "it crashed while it was loaded: abort (SIGABRT)"},
    {"short_table", "its backend table is"},
    {"hole_in_table", "lacks program_run"},
    {"lacks_symbol", "quern_test_nobody_defines_this"},
    {"junk_report", "its report is damaged"},
    {"no_devices", "found no device"},
    {"many_devices", "it reports 1000000 devices"},
    {"bad_info", "4000000000 heaps"},
    {"info_fails", "unknown status 4711: xxx"},
    {"daemon", NULL},
    {"larger", NULL},
};
enum { EXPECTATIONS = sizeof expectations / sizeof *expectations };

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int open_files(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count;
}

static const char *reason_of(const quern_context *context, const char *name)
{
    const quern_plugin_failure *failure;
    for (uint32_t i = 0; (failure = quern_context_failure(context, i)); i++)
        if (!strcmp(failure->name, name))
            return failure->reason;
    return NULL;
}

static int is_listed(const quern_context *context, const char *name)
{
    const quern_device_entry *entry;
    for (uint32_t i = 0; (entry = quern_context_device(context, i)); i++)
        if (!strcmp(entry->views[0].plugin, name))
            return 1;
    return 0;
}

static void check_one(const quern_context *context, const struct expectation *e)
{
    const char *reason = reason_of(context, e->name);
    if (!e->words)
        ok(!reason && is_listed(context, e->name), "%s is listed%s%s", e->name, reason ? ", not: " : "", reason ? reason : "");
    else
        ok(reason && strstr(reason, e->words) && !strchr(reason, '\n') && !is_listed(context, e->name), "%s: %s", e->name,
           reason ? reason : "(no reason)");
}

/* The usual limit, and more where processes start slowly (sanitizers, a busy machine), since there are some thirty here. */
static uint32_t time_limit(void)
{
    quern_context_options options = {.struct_size = sizeof options, .probe_timeout_ms = 60000, .only = "null"};
    quern_context *context = NULL;
    double start = now_ms();
    quern_context_create(&options, &context, NULL);
    double time = now_ms() - start;
    quern_context_destroy(context);
    return time < 100 ? 2000 : 2000 + (uint32_t)time * 20;
}

static void check_all(void)
{
    uint32_t limit = time_limit(), most = limit + 1000;
    quern_context_options options = {
        .struct_size = sizeof options, .probe_timeout_ms = limit, .plugin_path = getenv("QUERN_HOSTILE")};
    quern_context *context = NULL;
    quern_error error = {0};
    int files = open_files();
    double start = now_ms();
    int made = quern_context_create(&options, &context, &error) == QP_OK;
    double time = now_ms() - start;
    ok(made, "a context is made among hostile plugins %s", error.text);
    ok(time < most, "in %.0f ms of %u at most", time, most);
    for (int i = 0; i < EXPECTATIONS; i++)
        check_one(context, &expectations[i]);
    ok(is_listed(context, "null"), "the plugins that are fine are listed all the same");
    ok(open_files() == files, "no file descriptor is left open (%d before, %d after)", files, open_files());
    ok(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD, "no child is left behind");
    const quern_device_entry *entry;
    quern_status status = quern_context_find(context, "hangs", &entry, &error);
    ok(status == QP_ERR_NOT_FOUND && strstr(error.text, "did not answer"), "asking for a device of a failed plugin says why: %s",
       error.text);
    quern_context_destroy(context);
}

/* The application may have told the kernel to reap its children, and may use signals as it likes. */
static void check_ignored_children(void)
{
    quern_context_options options = {.struct_size = sizeof options, .plugin_path = getenv("QUERN_HOSTILE"), .only = "exits"};
    quern_context *context = NULL;
    quern_error error = {0};
    signal(SIGCHLD, SIG_IGN);
    quern_status status = quern_context_create(&options, &context, &error);
    const char *reason = reason_of(context, "exits");
    ok(!status && reason && strstr(reason, "ended its process in query()"), "works where SIGCHLD is ignored: %s",
       reason ? reason : "(no reason)");
    signal(SIGCHLD, SIG_DFL);
    quern_context_destroy(context);
}

static int warned;
static void count_warnings(void *ctx, quern_log_level level, const char *message)
{
    (void)ctx;
    warned += level == QUERN_LOG_WARN && strstr(message, "quern-probe is missing");
}

static void check_without_helper(void)
{
    quern_context_options options = {.struct_size = sizeof options, .only = "null"};
    quern_context *context = NULL;
    quern_error error = {0};
    setenv("QUERN_PROBE", "/nowhere/quern-probe", 1);
    quern_log_set(count_warnings, NULL, QUERN_LOG_WARN);
    ok(quern_context_create(&options, &context, &error) == QP_OK && is_listed(context, "null"),
       "without the helper plugins are tried in this process");
    ok(warned == 1, "and one warning says so");
    quern_log_set(NULL, NULL, QUERN_LOG_WARN);
    quern_context_destroy(context);
}

static void check_absent(void)
{
    quern_context_options options = {.struct_size = sizeof options, .only = "imaginary"};
    quern_context *context = NULL;
    const quern_device_entry *entry;
    quern_error error = {0};
    ok(quern_context_create(&options, &context, &error) == QP_OK, "a context with a plugin that is not there");
    const char *reason = reason_of(context, "imaginary");
    ok(reason && strstr(reason, "there is no file quern_imaginary.so in /"), "%s", reason ? reason : "(no reason)");
    quern_status status = quern_context_find(context, NULL, &entry, &error);
    ok(status == QP_ERR_NOT_FOUND && strstr(error.text, "plugin imaginary did not load: there is no file"), "%s", error.text);
    quern_context_destroy(context);
}

/* Contexts made at a time do not take each other's children or pipes. */
static void *make_one(void *arg)
{
    quern_context_options options = {
        .struct_size = sizeof options, .probe_timeout_ms = 20000, .plugin_path = getenv("QUERN_HOSTILE"), .only = arg};
    quern_context *context = NULL;
    quern_error error = {0};
    quern_status status = quern_context_create(&options, &context, &error);
    const char *reason = reason_of(context, arg);
    int fine =
        !status && (!strcmp(arg, "null") ? is_listed(context, "null") && !reason : reason && strstr(reason, "exit status 0"));
    quern_context_destroy(context);
    return fine ? arg : NULL;
}

static void check_at_a_time(void)
{
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    static char null[] = "null", exits[] = "exits";
    int fine = 0, files = open_files();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, make_one, i & 1 ? null : exits);
    for (int i = 0; i < THREADS; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        fine += result != NULL;
    }
    ok(fine == THREADS && open_files() == files, "%d contexts are made at a time", fine);
}

int main(void)
{
    if (!getenv("QUERN_HOSTILE"))
        return tap_skip_all("QUERN_HOSTILE names no folder of hostile plugins");
    check_all();
    check_at_a_time();
    check_ignored_children();
    check_absent();
    check_without_helper();
    return tap_done();
}
