/* SPDX-License-Identifier: MIT
 * backends/vulkan/device.h: the devices of the instance, and one that is open. */
#ifndef QUERN_BACKENDS_VULKAN_DEVICE_H
#define QUERN_BACKENDS_VULKAN_DEVICE_H

#include "backends/vulkan/physical.h"
#include "backends/vulkan/pipeline.h"
#include "backends/vulkan/queue.h"
#include "backends/vulkan/rate.h"
#include "backends/vulkan/transfer.h"

#include <pthread.h>
#include <stdatomic.h>

enum { QV_ALIGNMENT = 256 };

struct qv_variant;
struct qv_selftest;

struct qp_device {
    const qv_physical *physical;
    const qv_loader *loader;
    VkDevice handle;
    qv_functions vk;
    atomic_int lost;      /* sticky */
    atomic_int hung;      /* … because nothing ended any more: what it was given may still be touched */
    uint32_t max_submit_ms;
    const char *variant; /* take these kernels where they can be, else the plain ones; NULL: the best */
    qv_rate rate;        /* bounds submissions */
    qv_queue queue;
    qv_pipelines pipelines;
    qv_transfer transfer;
    struct qv_selftest *selftest;  /* NULL: kernels are believed */
    int is_bench;                  /* opened for tests */
    int tells_code;                /* a bench whose driver tells of its code */
    const struct qv_variant *only; /* on a bench: what its op takes */
};

/* Opens the loader and lists the devices that can be used. Words when there is none. Called once. */
qp_status qv_devices_find(qp_text *reason);

uint32_t qv_device_count(void);
qp_status qv_device_info(uint32_t index, qp_device_info *info, qp_text *error);
qp_status qv_device_open(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error);
void qv_device_close(qp_device *device);

/* The same device once more, for tests of kernels: with the same options, and none of its memory or queues. tells_code: the driver,
 * which has the extension for it, shall tell what it compiled. */
qp_status qv_device_open_bench(const qp_device *device, int tells_code, qp_device **out, qp_text *error);

#endif
