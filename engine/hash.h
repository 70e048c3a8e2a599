/* SPDX-License-Identifier: MIT
 * engine/hash.h: a small open-addressed index from names to numbers, and the hash it uses. The names stay with their owner. */
#ifndef QUERN_ENGINE_HASH_H
#define QUERN_ENGINE_HASH_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Multiply and fold, eight bytes a step: quick on the short strings of vocabularies. */
static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    uint64_t low = (a & 0xffffffffu) * b, high = (a >> 32) * b;
    uint64_t sum = low + (high << 32);
    return sum ^ (sum >> 29) ^ (high >> 32);
}

static inline uint64_t hash_bytes(const void *data, uint64_t size)
{
    const unsigned char *bytes = data;
    uint64_t hash = 0x9e3779b97f4a7c15u ^ size, word;
    for (; size >= 8; size -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        hash = hash_mix(hash ^ word, 0xd6e8feb86659fd93u);
    }
    word = 0;
    memcpy(&word, bytes, size);
    return hash_mix(hash_mix(hash ^ word, 0xd6e8feb86659fd93u), 0xa0761d6478bd642fu);
}

/* A slot holds a number + 1 in its low half, 0 if free, and half of the name's hash in the other, so that a name is looked at only
 * when it is almost surely the right one. Never more than half full. */
typedef struct hash_index {
    uint64_t *slots;
    uint64_t mask;
} hash_index;

/* Room for `count` names. Nonzero on success. */
static inline int hash_index_create(hash_index *index, uint64_t count)
{
    uint64_t size = 16;
    while (size < count * 2)
        size *= 2;
    index->slots = calloc(size, sizeof *index->slots);
    index->mask = size - 1;
    return index->slots != NULL;
}

static inline void hash_index_free(hash_index *index)
{
    free(index->slots);
    index->slots = NULL;
}

/* A search: *slot begins as the hash; each call gives the number + 1 of the next candidate, 0 when there is none left. Then *slot
 * is where the name belongs. */
static inline uint32_t hash_index_next(const hash_index *index, uint64_t hash, uint64_t *slot)
{
    for (;; ++*slot) {
        uint64_t entry = index->slots[*slot & index->mask];
        if (!entry)
            return 0;
        if (entry >> 32 == hash >> 32) {
            ++*slot;
            return (uint32_t)entry;
        }
    }
}

static inline void hash_index_put(hash_index *index, uint64_t hash, uint64_t slot, uint32_t number)
{
    index->slots[slot & index->mask] = (hash >> 32) << 32 | (number + 1);
}

#endif
