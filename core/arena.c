/* SPDX-License-Identifier: MIT */
#include "core/arena.h"

#include <stdlib.h>
#include <string.h>

typedef struct item {
    arena_block *block;
    uint64_t size; /* rounded up to the alignment */
    uint64_t offset;
} item;

static int by_size(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    if (x->block->first != y->block->first)
        return x->block->first < y->block->first ? -1 : 1;
    return x->block < y->block ? -1 : 1; /* qsort keeps no order of equals: the index decides */
}

static int by_use(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->block->first != y->block->first)
        return x->block->first < y->block->first ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    return x->block < y->block ? -1 : 1;
}

static int alive_together(const arena_block *a, const arena_block *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The start of the smallest gap between the neighbours (sorted by offset) that holds size bytes, or the end of them all. */
static uint64_t best_gap(item *const *neighbours, uint32_t count, uint64_t size)
{
    uint64_t best = UINT64_MAX, best_room = UINT64_MAX, end = 0;
    for (uint32_t i = 0; i < count; i++) {
        const item *n = neighbours[i];
        if (n->offset > end && n->offset - end >= size && n->offset - end < best_room) {
            best = end;
            best_room = n->offset - end;
        }
        if (n->offset + n->size > end)
            end = n->offset + n->size;
    }
    return best != UINT64_MAX ? best : end;
}

/* Places the items in their order; returns the end of the last. placed: room for count pointers, kept sorted by offset. */
static uint64_t place_in_order(item *items, uint32_t count, item **placed, item **neighbours)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t near = 0;
        for (uint32_t j = 0; j < i; j++)
            if (alive_together(placed[j]->block, items[i].block))
                neighbours[near++] = placed[j];
        items[i].offset = best_gap(neighbours, near, items[i].size);
        if (items[i].offset + items[i].size > end)
            end = items[i].offset + items[i].size;
        uint32_t at = i;
        for (; at > 0 && placed[at - 1]->offset > items[i].offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = &items[i];
    }
    return end;
}

static void keep(const item *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        items[i].block->offset = items[i].offset;
}

int arena_place(arena_block *blocks, uint32_t count, uint64_t alignment, uint64_t *total)
{
    item *items = calloc((size_t)count + 1, sizeof *items);
    item **lists = calloc(2 * (size_t)count + 1, sizeof *lists);
    uint32_t n = 0;
    uint64_t sum = 0;
    int failed = !items || !lists;
    for (uint32_t i = 0; !failed && i < count; i++) {
        blocks[i].offset = 0;
        if (!blocks[i].size)
            continue;
        uint64_t size;
        failed = __builtin_add_overflow(blocks[i].size, alignment - 1, &size);
        size &= ~(alignment - 1);
        failed = failed || __builtin_add_overflow(sum, size, &sum);
        items[n++] = (item){.block = &blocks[i], .size = size};
    }
    if (!failed) {
        qsort(items, n, sizeof *items, by_size);
        *total = place_in_order(items, n, lists, lists + count);
        keep(items, n);
        qsort(items, n, sizeof *items, by_use);
        uint64_t other = place_in_order(items, n, lists, lists + count);
        if (other < *total) {
            *total = other;
            keep(items, n);
        }
    }
    free(items);
    free(lists);
    return failed ? -1 : 0;
}
