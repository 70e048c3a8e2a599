/* SPDX-License-Identifier: MIT */
#include "bench/kernel/ceilings.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

enum { PASSES = 9, INT8_ROUNDS = 20000000 };

typedef struct job {
    pthread_t thread;
    uint32_t cpu;
    const unsigned char *data; /* this thread's part */
    uint64_t bytes;
    pthread_barrier_t *barrier;
    double seconds[PASSES];
    uint64_t sink;
    uint64_t ops;
    double int8_seconds;
} job;

double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Eight independent sums, so that loads and not additions are the limit; the compiler makes vectors of them. */
static uint64_t read_all_generic(const unsigned char *data, uint64_t bytes)
{
    const uint64_t *p = (const uint64_t *)(const void *)data;
    uint64_t sum[8] = {0};
    for (uint64_t i = 0; i + 8 <= bytes / 8; i += 8)
        for (int j = 0; j < 8; j++)
            sum[j] += p[i + j];
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static uint64_t read_all_avx512(const unsigned char *data, uint64_t bytes)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (uint64_t i = 0; i + 256 <= bytes; i += 256) {
        a = _mm512_add_epi64(a, _mm512_load_si512(data + i));
        b = _mm512_add_epi64(b, _mm512_load_si512(data + i + 64));
        c = _mm512_add_epi64(c, _mm512_load_si512(data + i + 128));
        d = _mm512_add_epi64(d, _mm512_load_si512(data + i + 192));
    }
    return (uint64_t)_mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d)));
}

__attribute__((target("avx512f,avx512vnni"))) static uint64_t int8_vnni512(uint64_t *sink)
{
    __m512i acc[16], x = _mm512_set1_epi8((char)*sink), w = _mm512_set1_epi8(3);
    for (int i = 0; i < 16; i++)
        acc[i] = _mm512_set1_epi32(i);
    for (int round = 0; round < INT8_ROUNDS / 16; round++) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            acc[i] = _mm512_dpbusd_epi32(acc[i], x, w);
        __asm__ volatile("" : "+v"(x));
    }
    for (int i = 0; i < 16; i++)
        *sink += (uint64_t)_mm512_reduce_add_epi32(acc[i]);
    return (uint64_t)(INT8_ROUNDS / 16) * 16 * 128;
}

__attribute__((target("avx2"))) static uint64_t int8_avx2(uint64_t *sink)
{
    __m256i acc[6], x = _mm256_set1_epi8((char)*sink), w = _mm256_set1_epi8(3), one = _mm256_set1_epi16(1);
    for (int i = 0; i < 6; i++)
        acc[i] = _mm256_set1_epi32(i);
    for (int round = 0; round < INT8_ROUNDS / 16; round++) {
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) {
            acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), one));
            __asm__ volatile("" : "+x"(x)); /* or the product would be computed once */
        }
    }
    for (int i = 0; i < 6; i++)
        *sink += (uint64_t)_mm256_extract_epi32(acc[i], 0);
    return (uint64_t)(INT8_ROUNDS / 16) * 6 * 64;
}
#elif defined(__aarch64__)
__attribute__((target("+dotprod"))) static uint64_t int8_sdot(uint64_t *sink)
{
    int32x4_t acc[16];
    int8x16_t x = vdupq_n_s8((int8_t)*sink), w = vdupq_n_s8(3);
    for (int i = 0; i < 16; i++)
        acc[i] = vdupq_n_s32(i);
    for (int round = 0; round < INT8_ROUNDS / 16; round++) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            acc[i] = vdotq_s32(acc[i], x, w);
        __asm__ volatile("" : "+w"(x));
    }
    for (int i = 0; i < 16; i++)
        *sink += (uint64_t)vaddvq_s32(acc[i]);
    return (uint64_t)(INT8_ROUNDS / 16) * 16 * 32;
}
#endif

static uint64_t int8_generic(uint64_t *sink)
{
    int32_t acc[64] = {0};
    signed char x[64], w[64];
    memset(x, (int)*sink, sizeof x);
    memset(w, 3, sizeof w);
    for (int round = 0; round < INT8_ROUNDS / 64; round++) {
        for (int i = 0; i < 64; i++)
            acc[i] += x[i] * w[i];
        __asm__ volatile("" : : "r"(x), "r"(acc) : "memory");
    }
    for (int i = 0; i < 64; i++)
        *sink += (uint64_t)acc[i];
    return (uint64_t)(INT8_ROUNDS / 64) * 64 * 2;
}

typedef struct ways {
    uint64_t (*read)(const unsigned char *data, uint64_t bytes);
    uint64_t (*int8)(uint64_t *sink);
    const char *unit;
} ways;

static ways best_ways(void)
{
    ways w = {read_all_generic, int8_generic, "scalar"};
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f"))
        w.read = read_all_avx512;
    if (__builtin_cpu_supports("avx512vnni")) {
        w.int8 = int8_vnni512;
        w.unit = "vpdpbusd zmm";
    } else if (__builtin_cpu_supports("avx2")) {
        w.int8 = int8_avx2;
        w.unit = "vpmaddubsw ymm";
    }
#elif defined(__aarch64__)
    if (getauxval(AT_HWCAP) & (1 << 20)) {
        w.int8 = int8_sdot;
        w.unit = "sdot";
    }
#endif
    return w;
}

static void *work(void *arg)
{
    job *j = arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(j->cpu, &set);
    sched_setaffinity(0, sizeof set, &set); /* unpinned is only less exact */
    ways w = best_ways();
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_barrier_wait(j->barrier);
        double start = bench_now();
        j->sink += w.read(j->data, j->bytes);
        j->seconds[pass] = bench_now() - start;
    }
    for (int pass = 0; pass < 3; pass++) {
        pthread_barrier_wait(j->barrier);
        double start = bench_now();
        j->ops = w.int8(&j->sink);
        double seconds = bench_now() - start;
        if (pass == 0 || seconds < j->int8_seconds)
            j->int8_seconds = seconds;
    }
    return NULL;
}

/* Data that no memory system can compress or share: zeros and repeats read several times faster than weights do. */
static void fill_random(unsigned char *data, uint64_t bytes)
{
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        memcpy(data + i, &state, 8);
    }
}

static void collect(const job *jobs, uint32_t threads, uint64_t bytes, bench_ceilings *out)
{
    double best = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        double slowest = 0;
        for (uint32_t i = 0; i < threads; i++)
            if (jobs[i].seconds[pass] > slowest)
                slowest = jobs[i].seconds[pass];
        double rate = (double)bytes / slowest;
        if (rate > best)
            best = rate;
    }
    *out = (bench_ceilings){.threads = threads, .read_bytes_per_second = best, .int8_unit = best_ways().unit};
    for (uint32_t i = 0; i < threads; i++)
        out->int8_ops_per_second += (double)jobs[i].ops / jobs[i].int8_seconds;
}

int bench_ceilings_measure(const uint32_t *cpus, uint32_t threads, uint64_t bytes, bench_ceilings *out)
{
    uint64_t part = bytes / threads / 4096 * 4096;
    bytes = part * threads;
    unsigned char *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    job *jobs = calloc(threads, sizeof *jobs);
    pthread_barrier_t barrier;
    if (data == MAP_FAILED || !jobs) {
        free(jobs);
        return -1;
    }
    madvise(data, bytes, MADV_HUGEPAGE);
    fill_random(data, bytes);
    pthread_barrier_init(&barrier, NULL, threads);
    uint32_t started = 0;
    for (; started < threads; started++) {
        jobs[started] = (job){.cpu = cpus[started], .data = data + started * part, .bytes = part, .barrier = &barrier};
        if (pthread_create(&jobs[started].thread, NULL, work, &jobs[started]))
            break;
    }
    if (started < threads) /* the others wait at the barrier for ever: a benchmark may end here */
        return -1;
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(jobs[i].thread, NULL);
    collect(jobs, threads, bytes, out);
    pthread_barrier_destroy(&barrier);
    munmap(data, bytes);
    free(jobs);
    return 0;
}
