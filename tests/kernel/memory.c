/* SPDX-License-Identifier: MIT
 * tests/kernel/memory.c: stretches of memory between pages that trap, and outputs between guard bytes. */
#include "tests/kernel/check.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GUARD = 64, POISON = 0xff, GUARD_BYTE = 0x5a };

typedef struct slot {
    char *base;  /* first usable byte, a page that traps before it */
    size_t size; /* usable bytes, a page that traps after them */
    char *out;   /* of the latest output */
    size_t out_size;
} slot;

static slot slots[SLOTS];

static void *require(void *ptr)
{
    if (ptr == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return ptr;
}

static slot *reserve(unsigned index, size_t size)
{
    slot *s = &slots[index];
    if (s->size >= size)
        return s;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), usable = (size + size / 2 + page - 1) / page * page;
    if (s->base)
        munmap(s->base - page, s->size + 2 * page);
    char *all = require(mmap(NULL, usable + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (mprotect(all + page, usable, PROT_READ | PROT_WRITE) != 0)
        require(MAP_FAILED);
    *s = (slot){.base = all + page, .size = usable};
    return s;
}

static char *align_down(char *ptr, size_t align)
{
    return ptr - (uintptr_t)ptr % align;
}

void *input_at_end(unsigned index, size_t size, size_t align)
{
    slot *s = reserve(index, size + align);
    char *data = align_down(s->base + s->size - size, align);
    memset(data, POISON, (size_t)(s->base + s->size - data));
    return data;
}

void *input_at_front(unsigned index, size_t size)
{
    slot *s = reserve(index, size);
    memset(s->base, POISON, size);
    return s->base;
}

void *output(unsigned index, size_t size, size_t align)
{
    slot *s = reserve(index, size + align + 2 * GUARD);
    char *data = align_down(s->base + s->size - size - GUARD, align);
    char *guard = data - GUARD;
    memset(guard, GUARD_BYTE, (size_t)(s->base + s->size - guard));
    memset(data, POISON, size);
    s->out = data;
    s->out_size = size;
    return data;
}

static bool all(const char *from, const char *end, int byte)
{
    for (; from < end; from++)
        if ((uint8_t)*from != byte)
            return false;
    return true;
}

bool output_intact(unsigned index)
{
    const slot *s = &slots[index];
    return (all(s->out - GUARD, s->out, GUARD_BYTE) || fail("wrote before the output")) &&
           (all(s->out + s->out_size, s->base + s->size, GUARD_BYTE) || fail("wrote after the output"));
}

bool untouched(const void *ptr, size_t size)
{
    return all(ptr, (const char *)ptr + size, POISON);
}
