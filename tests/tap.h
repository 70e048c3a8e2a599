/* SPDX-License-Identifier: MIT
 * tests/tap.h: the few words of the Test Anything Protocol that our tests speak.
 *
 *   ok(x > 0, "x is %d", x);   skip("no fixtures here", "reads llama.gguf");   return tap_done();
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_count, tap_failed;

__attribute__((format(printf, 4, 5), unused)) static int tap_ok(int pass, const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%sok %d - ", pass ? "" : "not ", ++tap_count);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
    if (!pass) {
        tap_failed++;
        printf("# failed at %s:%d\n", file, line);
    }
    fflush(stdout);
    return pass;
}

/* One point; gives back whether it passed. */
#define ok(condition, ...) tap_ok(!!(condition), __FILE__, __LINE__, __VA_ARGS__)
/* One point that could not be tried, and why. */
#define skip(reason, ...) (printf("ok %d - ", ++tap_count), printf(__VA_ARGS__), printf(" # SKIP %s\n", reason), fflush(stdout))
#define diag(...) (printf("# "), printf(__VA_ARGS__), putchar('\n'), fflush(stdout))

__attribute__((unused)) static int tap_skip_all(const char *reason)
{
    printf("1..0 # SKIP %s\n", reason);
    return 0;
}

/* Ends the test: prints the plan, gives the exit status. */
__attribute__((unused)) static int tap_done(void)
{
    printf("1..%d\n", tap_count);
    return tap_failed != 0;
}

/* A path below the fixtures, or NULL when there are none. Static buffers, four of them in turn. */
__attribute__((unused)) static const char *tap_fixture(const char *name)
{
    static char paths[4][1024];
    static unsigned next;
    const char *root = getenv("QUERN_FIXTURES");
    if (!root)
        return NULL;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    fclose(file);
    return path;
}

#endif
