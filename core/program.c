/* SPDX-License-Identifier: MIT */
#include "core/check.h"

#include <stdlib.h>

/* ---- asking ---- */

quern_status quern_op_query(quern_device *device, const qp_op *op, qp_op_info *info, quern_error *reason)
{
    if (!device || !op)
        return quern_fail(reason, QP_ERR_INVALID, "quern_op_query: %s is NULL", device ? "op" : "device");
    quern_status status = qi_device_ready(device, reason);
    if (!status)
        status = qi_check_op(device, op, 0, "the op", reason);
    if (!status && info)
        status = qi_check_size(device, "what is known of the op", info->struct_size, QI_KNOWN(*info, operations), reason);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    qp_op_info fresh = {.struct_size = sizeof fresh};
    status = device->backend->op_query(device->handle, op, &fresh, &text);
    fresh.kernel[sizeof fresh.kernel - 1] = '\0';
    fresh.note[sizeof fresh.note - 1] = '\0';
    if (!status && info)
        qi_hand_out(info, &fresh, sizeof fresh);
    return qi_device_result(device, status, words, reason);
}

static const qp_kernels *find_kernels(const quern_device *device)
{
    return device->backend->get_extension ? device->backend->get_extension("quern.kernels/1") : NULL;
}

quern_status quern_kernels_test(quern_device *device, const char *only, int (*each)(void *ctx, const qp_kernel_result *result),
                                void *ctx, quern_error *error)
{
    if (!device || !each)
        return quern_fail(error, QP_ERR_INVALID, "quern_kernels_test: %s is NULL", device ? "each" : "device");
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    const qp_kernels *table = find_kernels(device);
    if (!table || !QP_HAS(table, test) || !table->test)
        return quern_fail(error, QP_ERR_UNSUPPORTED, "the plugin of device %s has no tests of single kernels",
                          quern_device_id(device));
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    status = table->test(device->handle, only, each, ctx, &text);
    return qi_device_result(device, status, words, error);
}

quern_status quern_kernels_compile(quern_device *device, const char *only, uint32_t flags,
                                   int (*each)(void *ctx, const qp_kernel_code *code), void *ctx, quern_error *error)
{
    if (!device || !each)
        return quern_fail(error, QP_ERR_INVALID, "quern_kernels_compile: %s is NULL", device ? "each" : "device");
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    const qp_kernels *table = find_kernels(device);
    if (!table || !QP_HAS(table, compile) || !table->compile)
        return quern_fail(error, QP_ERR_UNSUPPORTED, "the plugin of device %s compiles no kernels, or does not tell of them",
                          quern_device_id(device));
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    status = table->compile(device->handle, only, flags, each, ctx, &text);
    return qi_device_result(device, status, words, error);
}

quern_status quern_program_measure(quern_device *device, const qp_program_desc *desc, qp_program_memory *memory, quern_error *error)
{
    if (!device || !desc || !memory)
        return quern_fail(error, QP_ERR_INVALID, "quern_program_measure: %s is NULL",
                          !device ? "device"
                          : !desc ? "desc"
                                  : "memory");
    quern_status status = qi_device_ready(device, error);
    if (!status)
        status = qi_check_program(device, desc, NULL, error);
    if (!status)
        status = qi_check_size(device, "the program's memory", memory->struct_size, QI_KNOWN(*memory, device_bytes), error);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    qp_program_memory fresh = {.struct_size = sizeof fresh};
    pthread_mutex_lock(&device->serial);
    status = device->backend->program_measure(device->handle, desc, &fresh, &text);
    pthread_mutex_unlock(&device->serial);
    if (!status)
        qi_hand_out(memory, &fresh, sizeof fresh);
    return qi_device_result(device, status, words, error);
}

/* ---- weights ---- */

quern_status quern_weight_layout(quern_device *device, const qp_weight_desc *desc, qp_weight_info *info, quern_error *error)
{
    if (!device || !desc || !info)
        return quern_fail(error, QP_ERR_INVALID, "quern_weight_layout: %s is NULL", !device ? "device" : !desc ? "desc" : "info");
    uint64_t row_bytes = 0;
    int64_t rows = 0;
    quern_status status = qi_device_ready(device, error);
    if (!status)
        status = qi_check_weight(device, desc, &row_bytes, &rows, error);
    if (!status)
        status = qi_check_size(device, "the weight's layout", info->struct_size, QI_KNOWN(*info, row_step), error);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    qp_weight_info fresh = {.struct_size = sizeof fresh};
    status = device->backend->weight_layout(device->handle, desc, &fresh, &text);
    if (!status && (!fresh.bytes || !fresh.alignment || fresh.row_step < 1))
        status = QP_ERR_INTERNAL;
    if (!status)
        qi_hand_out(info, &fresh, sizeof fresh);
    return qi_device_result(device, status, words, error);
}

static quern_status check_pack(quern_device *device, const qp_weight_desc *desc, uint64_t src_bytes, int64_t row, int64_t rows,
                               const quern_buffer *dst, uint64_t offset, qp_weight_info *layout, quern_error *error)
{
    uint64_t row_bytes = 0, due;
    int64_t all = 0;
    quern_status status = quern_weight_layout(device, desc, layout, error);
    if (!status)
        status = qi_check_weight(device, desc, &row_bytes, &all, error);
    if (status)
        return status;
    if (row < 0 || rows < 1 || row > all || rows > all - row)
        return quern_fail(error, QP_ERR_INVALID, "%s: %lld rows from row %lld on, of a weight of %lld rows", device->id,
                          (long long)rows, (long long)row, (long long)all);
    if (row % layout->row_step || (rows % layout->row_step && row + rows != all))
        return quern_fail(error, QP_ERR_INVALID, "%s: rows are packed in multiples of %lld, not %lld from row %lld on", device->id,
                          (long long)layout->row_step, (long long)rows, (long long)row);
    due = row_bytes * (uint64_t)rows; /* no overflow: the whole weight is addressable */
    if (src_bytes < due)
        return quern_fail(error, QP_ERR_INVALID, "%s: %llu bytes were given for %lld rows that take %llu", device->id,
                          (unsigned long long)src_bytes, (long long)rows, (unsigned long long)due);
    if (!qi_inside(offset, layout->bytes, dst->size) || offset % layout->alignment)
        return quern_fail(error, QP_ERR_INVALID,
                          "%s: a weight of %llu bytes (alignment %llu) cannot go to offset %llu of a buffer of %llu", device->id,
                          (unsigned long long)layout->bytes, (unsigned long long)layout->alignment, (unsigned long long)offset,
                          (unsigned long long)dst->size);
    return QP_OK;
}

quern_status quern_weight_pack(quern_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                               int64_t rows, quern_buffer *dst, uint64_t offset, quern_error *error)
{
    if (!device || !desc || !src || !dst)
        return quern_fail(error, QP_ERR_INVALID, "quern_weight_pack: %s is NULL",
                          !device ? "device"
                          : !desc ? "desc"
                          : !src  ? "src"
                                  : "dst");
    if (dst->device != device)
        return quern_fail(error, QP_ERR_INVALID, "%s: the buffer belongs to %s", device->id, dst->device->id);
    qp_weight_info layout = {.struct_size = sizeof layout};
    quern_status status = check_pack(device, desc, src_bytes, row, rows, dst, offset, &layout, error);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    status = device->backend->weight_pack(device->handle, desc, src, src_bytes, row, rows,
                                          (qp_range){dst->handle, offset, layout.bytes}, &text);
    return qi_device_result(device, status, words, error);
}

/* ---- programs ---- */

static void forget(quern_program *program)
{
    for (uint32_t i = 0; i < program->buffer_count; i++)
        quern_buffer_destroy(program->buffers[i]);
    free(program->buffers);
    free(program);
}

quern_status quern_program_create(quern_device *device, const qp_program_desc *desc, quern_program **out, quern_error *error)
{
    if (!device || !desc || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_program_create: %s is NULL", !device ? "device" : !desc ? "desc" : "out");
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    quern_program *program = calloc(1, sizeof *program);
    if (!program)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%s: no host memory to keep a program", device->id);
    program->device = device;
    status = qi_check_program(device, desc, program, error);
    if (!status) {
        char words[QI_TEXT] = "";
        qp_text text = {words, sizeof words};
        pthread_mutex_lock(&device->serial);
        status = device->backend->program_create(device->handle, desc, &program->handle, &text);
        pthread_mutex_unlock(&device->serial);
        if (!status && !program->handle)
            status = QP_ERR_INTERNAL;
        status = qi_device_result(device, status, words, error);
    }
    if (status) {
        forget(program);
        return status;
    }
    program->step_bytes = desc->step.buffer ? desc->step.size : 0;
    qi_device_retain(device);
    *out = program;
    return QP_OK;
}

static quern_status check_signals(quern_device *device, const qp_signal *signals, uint32_t count, const char *what,
                                  quern_error *error)
{
    if (count && !signals)
        return quern_fail(error, QP_ERR_INVALID, "%s: %u %s were announced but none given", device->id, count, what);
    for (uint32_t i = 0; i < count; i++)
        if (!qi_live_find(device, &device->timelines, signals[i].timeline))
            return quern_fail(error, QP_ERR_INVALID, "%s: %s: number %u is not, or no longer, a timeline of this device",
                              device->id, what, i);
    return QP_OK;
}

quern_status quern_program_submit(quern_program *program, const qp_run *run, quern_error *error)
{
    if (!program || !run)
        return quern_fail(error, QP_ERR_INVALID, "quern_program_submit: %s is NULL", program ? "run" : "program");
    quern_device *device = program->device;
    quern_status status = qi_device_ready(device, error);
    if (!status)
        status = qi_check_size(device, "the run", run->struct_size, QI_KNOWN(*run, signals), error);
    if (status)
        return status;
    if (run->step && !program->step_bytes)
        return quern_fail(error, QP_ERR_INVALID, "%s: a step block was given to a program that has none", device->id);
    status = check_signals(device, run->waits, run->wait_count, "waits", error);
    if (!status)
        status = check_signals(device, run->signals, run->signal_count, "signals", error);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    pthread_mutex_lock(&device->serial);
    status = device->backend->program_run(program->handle, run, &text);
    pthread_mutex_unlock(&device->serial);
    return qi_device_result(device, status, words, error);
}

quern_status quern_program_run(quern_program *program, const void *step, quern_timeline *timeline, uint64_t value,
                               quern_error *error)
{
    qp_signal signal = {quern_timeline_handle(timeline), value};
    qp_run run = {.struct_size = sizeof run, .signal_count = timeline != NULL, .step = step, .signals = &signal};
    return quern_program_submit(program, &run, error);
}

void quern_program_destroy(quern_program *program)
{
    if (!program)
        return;
    quern_device *device = program->device;
    pthread_mutex_lock(&device->serial);
    device->backend->program_destroy(program->handle);
    pthread_mutex_unlock(&device->serial);
    forget(program);
    qi_device_release(device);
}
