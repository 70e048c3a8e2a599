/* SPDX-License-Identifier: MIT
 * core/device.h: an open device and its children. Internal. */
#ifndef QUERN_CORE_DEVICE_H
#define QUERN_CORE_DEVICE_H

#include "core/call.h"
#include "core/loader.h"

#include <quern/device.h>

#include <pthread.h>
#include <stdatomic.h>

/* What a plugin's handle belongs to, so that handles inside descriptions can be checked. Sorted by handle. */
typedef struct qi_live {
    const void *handle;
    void *object;
} qi_live;

typedef struct qi_live_set {
    qi_live *list;
    uint32_t count, room;
} qi_live_set;

struct quern_device {
    atomic_uint owners; /* the caller and every child: closing waits for the last of them */
    quern_context *context;
    const qi_module *module;
    const qp_backend *backend; /* the module's */
    uint32_t index;            /* the plugin's number of the device */
    qp_device *handle;
    qp_device_info info;
    char id[80];
    pthread_mutex_t serial; /* held around functions of thread rule "device" */
    pthread_mutex_t lock;   /* of the members below */
    qi_live_set buffers, timelines;
    atomic_int lost;
    char lost_words[QI_TEXT];
};

struct quern_buffer {
    atomic_uint owners; /* the caller and every program that uses it */
    quern_device *device;
    qp_buffer *handle;
    uint64_t size;
    uint32_t heap;
    uint32_t alignment; /* of whole tensors in it */
};

struct quern_timeline {
    quern_device *device;
    qp_timeline *handle;
};

struct quern_program {
    quern_device *device;
    qp_program *handle;
    uint64_t step_bytes;
    uint32_t buffer_count;
    quern_buffer **buffers; /* those its ops name, kept alive */
};

/* A child's share in its device, and the end of it. */
void qi_device_retain(quern_device *device);
void qi_device_release(quern_device *device);

/* QP_OK, or the sticky QP_ERR_DEVICE_LOST. */
quern_status qi_device_ready(quern_device *device, quern_error *error);

/* Turns a plugin's result into ours: adds the device's id to the words and remembers the loss of the device. */
quern_status qi_device_result(quern_device *device, qp_status status, char words[QI_TEXT], quern_error *error);

/* Live handles. add: 0 when there is no memory. find: NULL when the handle is none of the device's. */
int qi_live_add(quern_device *device, qi_live_set *set, const void *handle, void *object);
void qi_live_remove(quern_device *device, qi_live_set *set, const void *handle);
void *qi_live_find(quern_device *device, qi_live_set *set, const void *handle);
/* As find for a buffer, with one more owner; and one owner less: 1 when it was the last, and nobody can find the buffer any more.
 */
quern_buffer *qi_buffer_share(quern_device *device, const qp_buffer *handle);
int qi_buffer_unshare(quern_buffer *buffer);

/* What the offset of a tensor in the buffer must be a multiple of: the heap's alignment for a layout of the plugin's own, an
 * element for plain numbers (parts of a tensor may be named), nothing for blocks. */
uint32_t qi_tensor_alignment(const quern_buffer *buffer, qp_format format, uint32_t layout);

/* Is [offset, offset + size) inside total? */
int qi_inside(uint64_t offset, uint64_t size, uint64_t total);

#endif
