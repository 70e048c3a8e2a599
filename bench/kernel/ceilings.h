/* SPDX-License-Identifier: MIT
 * bench/kernel/ceilings.h: what the machine can do at most: how fast memory is read, and how fast int8 dot products run from
 * registers. Every result of the benchmarks is a share of one of these, measured in the same run. */
#ifndef BENCH_CEILINGS_H
#define BENCH_CEILINGS_H

#include <stdint.h>

typedef struct bench_ceilings {
    uint32_t threads;
    double read_bytes_per_second; /* random data, far larger than the caches, best of several passes */
    double int8_ops_per_second;   /* a multiply-add counts two */
    const char *int8_unit;        /* the instruction, "vpdpbusd zmm" */
} bench_ceilings;

/* cpus: the processing units to pin the threads to, `threads` of them. bytes: how much to read in all. 0, or −1 when memory or
 * threads cannot be had. */
int bench_ceilings_measure(const uint32_t *cpus, uint32_t threads, uint64_t bytes, bench_ceilings *out);

/* Seconds on a clock that only goes forward. */
double bench_now(void);

#endif
