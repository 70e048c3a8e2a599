/* SPDX-License-Identifier: MIT */
#include "backends/cpu/wait.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <time.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

static void sleep_on(_Atomic uint32_t *word, uint32_t seen, uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    syscall(SYS_futex, (uint32_t *)(uintptr_t)word, FUTEX_WAIT_PRIVATE, seen, ns == QC_FOREVER ? NULL : &time, NULL, 0);
}

static void wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, (uint32_t *)(uintptr_t)word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
#else
static void sleep_on(_Atomic uint32_t *word, uint32_t seen, uint64_t ns)
{
    (void)word;
    (void)seen;
    struct timespec time = {.tv_nsec = ns < 50000 ? (long)ns : 50000};
    nanosleep(&time, NULL);
}

static void wake_all(_Atomic uint32_t *word)
{
    (void)word;
}
#endif

uint64_t qc_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void qc_event_post(qc_event *event)
{
    /* Both sides are sequentially consistent: either the sleeper sees the new number or we see the sleeper. */
    atomic_fetch_add(&event->value, 1);
    if (atomic_load(&event->sleepers))
        wake_all(&event->value);
}

void qc_event_sleep(qc_event *event, uint32_t seen)
{
    sleep_on(&event->value, seen, QC_FOREVER);
}

/* A thread that waits where another one needs its processor gives it away now and then. */
static int spin(qc_event *event, uint32_t seen, uint64_t ns)
{
    enum { LOOKS = 64 };
    uint64_t end = qc_now() + ns;
    for (;;) {
        for (int i = 0; i < LOOKS; i++) {
            if (qc_event_read(event) != seen)
                return 1;
            qc_pause();
        }
        if (qc_now() >= end)
            return 0;
        sched_yield();
    }
}

int qc_event_wait(qc_event *event, uint32_t seen, uint64_t spin_ns, uint64_t timeout_ns)
{
    if (qc_event_read(event) != seen)
        return 1;
    if (timeout_ns == 0)
        return 0;
    if (spin_ns && spin(event, seen, spin_ns < timeout_ns ? spin_ns : timeout_ns))
        return 1;
    sched_yield();
    uint64_t start = timeout_ns == QC_FOREVER ? 0 : qc_now();
    atomic_fetch_add(&event->sleepers, 1);
    int changed = 1;
    while (atomic_load(&event->value) == seen) {
        uint64_t gone = timeout_ns == QC_FOREVER ? 0 : qc_now() - start;
        if (timeout_ns != QC_FOREVER && gone >= timeout_ns) {
            changed = 0;
            break;
        }
        sleep_on(&event->value, seen, timeout_ns == QC_FOREVER ? QC_FOREVER : timeout_ns - gone);
    }
    atomic_fetch_sub(&event->sleepers, 1);
    return changed;
}
