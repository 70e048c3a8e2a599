/* SPDX-License-Identifier: MIT */
#include "backends/cpu/buffer.h"

#include "backends/cpu/status.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20 };

/* Untouched pages cost nothing and read as zeros. Large mappings start at a large page's boundary, so that the first and last part
 * need no small ones. */
static void *map_pages(uint64_t size, uint64_t *mapped)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE); /* 64 KiB on some ARM systems: what is not whole pages is not unmapped */
    *mapped = (size + page - 1) / page * page;
    int large = size >= 2 * (uint64_t)HUGE_PAGE;
    char *base = mmap(NULL, (size_t)(*mapped + (large ? HUGE_PAGE : 0)), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED && large) {
        large = 0;
        base = mmap(NULL, (size_t)*mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    if (base == MAP_FAILED)
        return NULL;
    if (!large)
        return base;
    size_t before = (size_t)(-(uintptr_t)base & (HUGE_PAGE - 1)), after = HUGE_PAGE - before;
    if (before)
        munmap(base, before);
    if (after)
        munmap(base + before + *mapped, after);
#ifdef MADV_HUGEPAGE
    madvise(base + before, (size_t)*mapped, MADV_HUGEPAGE);
#endif
    return base + before;
}

/* ---- what was promised -------------------------------------------------------------------------------------------- */

static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;
static qp_buffer *mappings; /* of the process: all its devices share one memory */

static void remember(qp_buffer *buffer)
{
    pthread_mutex_lock(&mappings_lock);
    buffer->next = mappings;
    buffer->previous = &mappings;
    if (mappings)
        mappings->previous = &buffer->next;
    mappings = buffer;
    pthread_mutex_unlock(&mappings_lock);
}

static void forget(qp_buffer *buffer)
{
    pthread_mutex_lock(&mappings_lock);
    *buffer->previous = buffer->next;
    if (buffer->next)
        buffer->next->previous = buffer->previous;
    pthread_mutex_unlock(&mappings_lock);
}

/* Bytes of a mapping that are not in memory. */
static uint64_t untouched(const qp_buffer *buffer)
{
    enum { PIECE = 8192 }; /* pages looked at in one call */
    unsigned char there[PIECE];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), sum = 0;
    for (uint64_t at = 0; at < buffer->mapping_size; at += PIECE * page) {
        uint64_t size = buffer->mapping_size - at < PIECE * page ? buffer->mapping_size - at : PIECE * page;
        if (mincore((char *)buffer->mapping + at, (size_t)size, there) != 0)
            return sum;
        for (uint64_t i = 0; i < size / page; i++)
            sum += there[i] & 1 ? 0 : page;
    }
    return sum;
}

void qc_memory_left(uint64_t *total, uint64_t *left)
{
    uint64_t promised = 0;
    qc_memory(total, left);
    pthread_mutex_lock(&mappings_lock);
    for (const qp_buffer *buffer = mappings; buffer; buffer = buffer->next)
        promised += untouched(buffer);
    pthread_mutex_unlock(&mappings_lock);
    *left = *left > promised ? *left - promised : 0;
}

static qp_status no_memory(uint64_t size, qp_text *error)
{
    uint64_t total, available;
    qc_memory_left(&total, &available);
    return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "not enough memory: %s (%llu bytes) asked of the cpu's heap, %s of %s available",
                   qc_bytes_words(size).text, (unsigned long long)size, qc_bytes_words(available).text, qc_bytes_words(total).text);
}

qp_status qc_buffer_create(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error)
{
    if (!device || !out)
        return qc_fail(error, QP_ERR_INVALID, "buffer_create needs a device and a place for the buffer");
    if (heap != 0)
        return qc_fail(error, QP_ERR_INVALID, "the cpu has one heap, number 0; there is no heap %u", heap);
    if (size == 0)
        return qc_fail(error, QP_ERR_INVALID, "a buffer of 0 bytes was asked for");
    uint64_t total, available;
    qc_memory_left(&total, &available);
    if (size > INT64_MAX / 2 || (total && size > available))
        return no_memory(size, error); /* mmap would promise it and the system kill us when it is used */
    qp_buffer *buffer = qc_alloc(sizeof *buffer);
    if (!buffer)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for the record of a buffer");
    buffer->mapping = map_pages(size, &buffer->mapping_size);
    if (!buffer->mapping) {
        qc_free(buffer);
        return no_memory(size, error);
    }
    buffer->device = device;
    buffer->data = buffer->mapping;
    buffer->size = size;
    remember(buffer);
    *out = buffer;
    return QP_OK;
}

qp_status qc_buffer_import(qp_device *device, void *memory, uint64_t size, qp_buffer **out, qp_text *error)
{
    if (!device || !memory || !size || !out)
        return qc_fail(error, QP_ERR_INVALID,
                       "buffer_import needs a device, memory of at least one byte and a place for the buffer");
    if ((uintptr_t)memory > UINTPTR_MAX - size)
        return qc_fail(error, QP_ERR_INVALID, "buffer_import: %llu bytes reach past the end of the address space",
                       (unsigned long long)size);
    qp_buffer *buffer = qc_alloc(sizeof *buffer);
    if (!buffer)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for the record of a buffer");
    buffer->device = device;
    buffer->data = memory;
    buffer->size = size;
    *out = buffer;
    return QP_OK;
}

qp_status qc_buffer_map(qp_buffer *buffer, void **address, qp_text *error)
{
    if (!buffer || !address)
        return qc_fail(error, QP_ERR_INVALID, "buffer_map needs a buffer and a place for the address");
    *address = buffer->data;
    return QP_OK;
}

void qc_buffer_destroy(qp_buffer *buffer)
{
    if (!buffer)
        return;
    if (buffer->mapping) {
        forget(buffer);
        munmap(buffer->mapping, (size_t)buffer->mapping_size);
    }
    qc_free(buffer);
}

qp_status qc_range_address(const qp_range *range, const char *what, char **out, qp_text *error)
{
    const qp_buffer *buffer = range->buffer;
    if (!buffer)
        return qc_fail(error, QP_ERR_INVALID, "%s has no buffer", what);
    if (range->offset > buffer->size || range->size > buffer->size - range->offset)
        return qc_fail(error, QP_ERR_INVALID, "%s: bytes %llu to %llu do not lie in its buffer of %llu", what,
                       (unsigned long long)range->offset, (unsigned long long)(range->offset + range->size),
                       (unsigned long long)buffer->size);
    *out = buffer->data + range->offset;
    return QP_OK;
}

qp_status qc_buffer_write(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error)
{
    qp_range range = {buffer, offset, size};
    char *to = NULL;
    if (size && !data)
        return qc_fail(error, QP_ERR_INVALID, "buffer_write has no data");
    qp_status status = qc_range_address(&range, "buffer_write", &to, error);
    if (!status && size)
        memcpy(to, data, size);
    return status;
}

qp_status qc_buffer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error)
{
    qp_range range = {buffer, offset, size};
    char *from = NULL;
    if (size && !data)
        return qc_fail(error, QP_ERR_INVALID, "buffer_read has no place for the data");
    qp_status status = qc_range_address(&range, "buffer_read", &from, error);
    if (!status && size)
        memcpy(data, from, size);
    return status;
}
