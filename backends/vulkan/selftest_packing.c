/* SPDX-License-Identifier: MIT
 * The test of packing by the device: rows of a format as they are on disk to rows in planes, compared with what the host makes of
 * them, byte by byte. */
#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/weights.h"
#include "kernels/common/formats.h"

#include <string.h>

/* Rows of odd numbers of blocks, so that planes end in padding, and more bytes than one workgroup packs. */
enum { BLOCKS = 37, ROWS = 5, GAP = 512 };

typedef struct packing {
    qp_device *device;
    qp_weight_desc desc;
    uint64_t disk_bytes, bytes, all; /* all: with a gap on either side, which is to stay as it is */
    uint8_t *disk, *expected, *after;
    qp_buffer *buffer;
} packing;

static int make_images(packing *p)
{
    uint64_t state = 0x9e3779b97f4a7c15u;
    p->disk = qv_alloc(p->disk_bytes + 2 * p->all);
    if (!p->disk)
        return -1;
    p->expected = p->disk + p->disk_bytes;
    p->after = p->expected + p->all;
    for (uint64_t i = 0; i < p->disk_bytes; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        p->disk[i] = (uint8_t)(state >> 56);
    }
    memset(p->expected, 0xa5, p->all);
    return 0;
}

/* ran: what fails is not what came before. */
static qp_status run(packing *p, int *ran, qp_text *words)
{
    qp_status status = qv_buffer_create(p->device, p->device->physical->weight_heap, p->all, &p->buffer, words);
    if (!status)
        status = qv_buffer_write(p->buffer, 0, p->expected, p->all, words);
    qp_range to = {p->buffer, GAP, p->bytes};
    *ran = !status;
    if (!status)
        status = qv_weight_pack(p->device, &p->desc, p->disk, p->disk_bytes, 0, ROWS, to, words);
    return status ? status : qv_buffer_read(p->buffer, 0, p->after, p->all, words);
}

static qv_verdict compare(const packing *p, qp_text *words)
{
    qv_weight_pack_rows(p->desc.format, p->desc.ne[0], p->disk, p->expected + GAP, ROWS);
    for (uint64_t i = 0; i < p->all; i++)
        if (p->after[i] != p->expected[i]) {
            int beside = i < GAP || i >= GAP + p->bytes;
            qv_fail(words, 0, beside ? "it writes beside its result" : "wrong result: byte %llu of %llu is %u, not %u",
                    (unsigned long long)(i - GAP), (unsigned long long)p->bytes, p->after[i], p->expected[i]);
            return QV_WRONG;
        }
    return QV_RIGHT;
}

static qv_verdict judge(const packing *p, qp_status status, int ran, qp_text *words)
{
    if (status == QP_ERR_OUT_OF_MEMORY || !ran)
        return QV_UNKNOWN;
    if (atomic_load(&p->device->hung)) {
        qv_fail(words, 0, "it does not end within %u s", qv_test_patience(p->device->physical));
        return QV_HUNG;
    }
    if (status != QP_ERR_DEVICE_LOST)
        return status ? QV_WRONG : compare(p, words);
    qv_fail(words, 0, "the device is lost while it runs");
    return QV_LOST;
}

qv_verdict qv_selftest_run_packing(qp_device *device, qp_format format, qp_text *words)
{
    packing p = {.device = device, .desc = {.struct_size = sizeof p.desc, .format = format, .uses = QP_WEIGHT_MATMUL}};
    int64_t n = (int64_t)BLOCKS * qk_block_elements(format);
    const int64_t ne[4] = {n, ROWS, 1, 1};
    memcpy(p.desc.ne, ne, sizeof ne);
    p.disk_bytes = qv_weight_row(format, QP_LAYOUT_GGUF, n) * ROWS;
    p.bytes = qv_weight_row(format, QV_LAYOUT_PLANES, n) * ROWS;
    p.all = p.bytes + (uint64_t)2 * GAP;
    qv_verdict verdict = QV_UNKNOWN;
    qp_status status = QP_OK;
    int ran = 0;
    if (make_images(&p))
        qv_fail(words, 0, "no host memory");
    else
        status = run(&p, &ran, words);
    if (p.disk)
        verdict = judge(&p, status, ran, words);
    if (verdict != QV_HUNG) /* nothing of one that hangs may be freed */
        qv_buffer_destroy(p.buffer);
    qv_free(p.disk);
    return verdict;
}
