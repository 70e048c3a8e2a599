/* SPDX-License-Identifier: MIT
 * core/arena.h: giving blocks of known size and lifetime offsets in one stretch of memory. Sizes and times only: nothing here
 * knows what the blocks are. */
#ifndef QUERN_CORE_ARENA_H
#define QUERN_CORE_ARENA_H

#include <stdint.h>

typedef struct arena_block {
    uint64_t size;        /* 0: takes no room, offset becomes 0 */
    uint32_t first, last; /* alive at every time in [first, last] */
    uint64_t offset;      /* out: a multiple of the alignment */
} arena_block;

/* Fills every block's offset so that no two blocks alive at the same time share a byte. alignment is a power of two. The same
 * blocks always get the same offsets. *total is the end of the last one, rounded up to the alignment. Thread-safe.
 * Returns 0, or −1 when there is no memory for the work or the sum of sizes overflows (offsets are then undefined).
 *
 * Greedy by size with best fit (Pisarchyk & Lee 2020, arXiv:2001.03288), tried also in order of first use; the smaller result
 * stays. Largest first is nearly always better; order of use wins for long chains of equal blocks. */
int arena_place(arena_block *blocks, uint32_t count, uint64_t alignment, uint64_t *total);

#endif
