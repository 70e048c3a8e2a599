/* SPDX-License-Identifier: MIT
 * engine/placement.h: laying many tensors out in few large buffers of one heap. Arithmetic first: what is added here is, byte for
 * byte, what placement_allocate then asks the device for. Not thread-safe. */
#ifndef ENGINE_PLACEMENT_H
#define ENGINE_PLACEMENT_H

#include <quern/device.h>

typedef struct place {
    uint32_t block;
    uint64_t offset;
} place;

typedef struct placement {
    uint32_t heap;
    uint64_t max_block; /* the heap's largest allocation */
    uint64_t alignment; /* of every offset, at least */
    uint32_t count, capacity;
    uint64_t *sizes;        /* of each block */
    quern_buffer **buffers; /* NULL before placement_allocate */
} placement;

void placement_init(placement *p, const qp_device_info *info, uint32_t heap);
/* Gives `bytes` a place, behind the others or in a new block. alignment 0: the heap's. Fails with QP_ERR_OUT_OF_MEMORY, in words
 * about `what`, when they exceed the largest allocation. */
quern_status placement_add(placement *p, uint64_t bytes, uint64_t alignment, const char *what, place *out, quern_error *error);
uint64_t placement_bytes(const placement *p);
quern_status placement_allocate(placement *p, quern_device *device, quern_error *error);
/* After placement_allocate: fills in where the `bytes` of a tensor that were given a place lie. */
void placement_bind(const placement *p, place at, uint64_t bytes, qp_tensor *t);
void placement_free(placement *p); /* and its buffers */

/* The bytes that a heap has left now; UINT64_MAX when the device does not know. */
quern_status heap_available(quern_device *device, uint32_t heap, uint64_t *bytes, quern_error *error);

typedef struct bytes_text {
    char text[24];
} bytes_text;
/* "1.50 GiB" */
bytes_text bytes_words(uint64_t bytes);

#endif
