/* SPDX-License-Identifier: MIT
 * tests/kernel/bench.c: times one kernel. Prints minimum and median of many samples; a sample is long enough for the clock. */
#include "tests/kernel/check.h"

#include <time.h>

enum { SAMPLES = 31, ENOUGH = 7 }; /* slow kernels: no more than ENOUGH samples once a second is over */

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench(const subject *s, const char *what, void (*run)(void *ctx, uint64_t i), void *ctx, double work, const char *unit)
{
    double samples[SAMPLES];
    uint64_t calls = 1, i = 0;
    double begin = now_ns();
    int count = 0;
    for (;;) { /* calls a sample: at least 2 ms */
        double start = now_ns();
        for (uint64_t end = i + calls; i < end; i++)
            run(ctx, i);
        if (now_ns() - start > 2e6)
            break;
        calls *= 2;
    }
    while (count < SAMPLES && (count < ENOUGH || now_ns() - begin < 1e9)) {
        double start = now_ns();
        for (uint64_t end = i + calls; i < end; i++)
            run(ctx, i);
        samples[count++] = (now_ns() - start) / (double)calls;
    }
    qsort(samples, (size_t)count, sizeof samples[0], compare);
    printf("# %-34s %-22s %11.1f ns min %11.1f ns median of %d", s->name, what, samples[0], samples[count / 2], count);
    if (unit)
        printf(" %8.2f %s", work / samples[count / 2], unit);
    putchar('\n');
}
