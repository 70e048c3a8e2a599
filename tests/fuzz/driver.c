/* SPDX-License-Identifier: MIT
 * tests/fuzz/driver.c: runs a fuzz target without libFuzzer, the same way each time: every seed of a folder, then N mutations of
 * seeds by a fixed generator. With --print it names each mutation before it runs, so that the last line names one that crashes.
 *
 *   fuzz_gguf_short FOLDER [N [--print]] */
#include "fuzz.h"
#include "tap.h"

#include <dirent.h>

enum { MAX_SEEDS = 256, MAX_SIZE = 1 << 16 };

static struct {
    char name[64];
    uint8_t *data;
    size_t size;
} seeds[MAX_SEEDS];
static size_t seed_count;
static uint64_t state = 1;

static uint64_t next(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return n ? (size_t)(next() % n) : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Sorted, because folders are listed in any order. */
static void read_seeds(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && seed_count < MAX_SEEDS && (entry = readdir(dir))) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!file)
            continue;
        uint8_t *data = malloc(MAX_SIZE);
        snprintf(seeds[seed_count].name, sizeof seeds->name, "%.63s", entry->d_name);
        seeds[seed_count].size = data ? fread(data, 1, MAX_SIZE, file) : 0;
        seeds[seed_count++].data = data;
        fclose(file);
    }
    if (dir)
        closedir(dir);
    qsort(seeds, seed_count, sizeof *seeds, by_name);
}

/* In memory of exactly its size, so that a sanitizer sees a byte too much. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (size)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* Half of the time near the end, where the text of the tokenizer's inputs is. */
static size_t mutate(uint8_t *data, size_t size)
{
    static const uint64_t numbers[] = {0,     1,     2,          3,          4,          8,          9,          127,        255,
                                       65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 60, 1ull << 63, ~0ull};
    size_t at = below(2) || size < 64 ? below(size) : size - 1 - below(64), length = below(size - at) % 64,
           other = below(seed_count);
    uint64_t number = numbers[below(sizeof numbers / sizeof *numbers)];
    switch (below(7)) {
    case 0:
        if (size)
            data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (size)
            data[at] = (uint8_t)next();
        break;
    case 2:
        if (size >= 8)
            memcpy(data + below(size - 7), &number, 8);
        break;
    case 3:
        if (size >= 4)
            memcpy(data + below(size - 3), &number, 4);
        break;
    case 4: memmove(data + at, data + at + length, size - at - length); return size - length; /* cut out */
    case 5:                                                                                   /* repeat a stretch */
        if (size + length > MAX_SIZE)
            break;
        memmove(data + at + length, data + at, size - at);
        return size + length;
    default: /* a stretch of another seed */
        length = seeds[other].size > at ? below(seeds[other].size - at) : 0;
        if (at + length <= size && length)
            memcpy(data + at, seeds[other].data + at, length);
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t data[MAX_SIZE];
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 10000;
    int print = argc > 3 && !strcmp(argv[3], "--print");
    if (argc < 2) {
        fprintf(stderr, "usage: %s FOLDER [N [--print]]\n", argv[0]);
        return 2;
    }
    read_seeds(argv[1]);
    ok(seed_count > 0, "%zu seeds in %s", seed_count, argv[1]);
    for (size_t i = 0; i < seed_count; i++) {
        run(seeds[i].data, seeds[i].size);
        ok(1, "seed %s", seeds[i].name);
    }
    for (unsigned long n = 0; seed_count && n < rounds; n++) {
        state = n * 0x5851f42d4c957f2du + 1;
        size_t seed = below(seed_count), size = seeds[seed].size;
        memcpy(data, seeds[seed].data, size);
        for (size_t times = 1 + below(6); times; times--)
            size = mutate(data, size);
        if (print)
            diag("mutation %lu of %s, %zu bytes", n, seeds[seed].name, size);
        run(data, size);
    }
    ok(1, "%lu mutations", rounds);
    for (size_t i = 0; i < seed_count; i++)
        free(seeds[i].data);
    return tap_done();
}
