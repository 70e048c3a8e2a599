/* SPDX-License-Identifier: MIT
 * backends/cpu/wait.h: a number that threads wait to see change: they spin for a while, then sleep. The atomics alone carry the
 * ordering; the system call only puts a thread to sleep. */
#ifndef QUERN_BACKENDS_CPU_WAIT_H
#define QUERN_BACKENDS_CPU_WAIT_H

#include <stdatomic.h>
#include <stdint.h>

#define QC_FOREVER UINT64_MAX

typedef struct qc_event {
    _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
} qc_event;

static inline uint32_t qc_event_read(const qc_event *event)
{
    return atomic_load_explicit(&event->value, memory_order_acquire);
}

/* Adds one and wakes all who wait. What was written before is seen by whoever sees the new number. The event may be freed by a
 * thread that saw the new number only if it outlives this call: callers keep events in objects that live longer than the wait. */
void qc_event_post(qc_event *event);

/* Waits until the number is no longer `seen`, spinning for the first spin_ns. 0 when timeout_ns passed first. */
int qc_event_wait(qc_event *event, uint32_t seen, uint64_t spin_ns, uint64_t timeout_ns);

/* Sleeps if the number is `seen`, until a post, or less: for callers that count themselves among the sleepers and look again at
 * what they wait for. */
void qc_event_sleep(qc_event *event, uint32_t seen);

uint64_t qc_now(void); /* nanoseconds, monotonic */

static inline void qc_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
