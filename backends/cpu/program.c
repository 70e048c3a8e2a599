/* SPDX-License-Identifier: MIT */
#include "backends/cpu/program.h"

#include "backends/cpu/buffer.h"
#include "backends/cpu/build.h"
#include "backends/cpu/device.h"
#include "backends/cpu/status.h"

#include <string.h>

enum { FIRST_RUNS = 4 }; /* records made with the program: runs that can be under way before one more is allocated */

qp_status qc_program_measure(qp_device *device, const qp_program_desc *desc, qp_program_memory *memory, qp_text *error)
{
    if (!device || !memory || !QP_HAS(memory, host_bytes))
        return qc_fail(error, QP_ERR_INVALID, "program_measure needs a device and a qp_program_memory whose struct_size is set");
    qc_scratch scratch;
    qp_status status = qc_build_measure(device, desc, &scratch, error);
    if (status)
        return status;
    memory->scratch_bytes = qc_scratch_bytes(&scratch, device->threads);
    memory->scratch_alignment = QC_ALIGNMENT;
    uint64_t step = QP_HAS(desc, step) ? desc->step.size : 0;
    memory->host_bytes = sizeof(qp_program) + FIRST_RUNS * (sizeof(qc_run) + step) + (uint64_t)desc->op_count * 2 * (sizeof(qc_node) + sizeof(qc_counter));
    return QP_OK;
}

static qp_status resolve_step(const qp_program_desc *desc, qp_program *program, qp_text *error)
{
    if (!desc->step.buffer)
        return QP_OK;
    program->step_bytes = desc->step.size;
    return qc_range_address(&desc->step, "the step block", &program->step, error);
}

static qp_status resolve_scratch(const qp_program_desc *desc, uint64_t need, char **out, qp_text *error)
{
    if (!need)
        return QP_OK;
    qp_status status = qc_range_address(&desc->scratch, "the program's scratch range", out, error);
    if (status)
        return status;
    if (desc->scratch.size < need)
        return qc_fail(error, QP_ERR_INVALID, "the program needs %llu bytes of scratch (program_measure says so); its range has %llu",
                       (unsigned long long)need, (unsigned long long)desc->scratch.size);
    if ((uintptr_t)*out % QC_ALIGNMENT)
        return qc_fail(error, QP_ERR_INVALID, "the program's scratch starts at offset %llu, which is not a multiple of %d bytes in memory",
                       (unsigned long long)desc->scratch.offset, QC_ALIGNMENT);
    return QP_OK;
}

static qp_status add_runs(qp_program *program, qp_text *error)
{
    for (int i = 0; i < FIRST_RUNS; i++) {
        qc_run *run = qc_run_create(program, program->step_bytes);
        if (!run)
            return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for %d copies of a step block of %llu bytes", FIRST_RUNS,
                           (unsigned long long)program->step_bytes);
        run->next = program->free_runs;
        program->free_runs = run;
    }
    return QP_OK;
}

static qp_status fill(qp_program *program, const qp_program_desc *desc, qp_text *error)
{
    qc_scratch scratch;
    char *data = NULL;
    qp_status status = qc_build_measure(program->device, desc, &scratch, error);
    if (!status)
        status = resolve_step(desc, program, error);
    if (!status)
        status = resolve_scratch(desc, qc_scratch_bytes(&scratch, program->device->threads), &data, error);
    if (!status)
        status = qc_build(program->device, desc, &scratch, data, program, error);
    if (status)
        return status;
    program->thread_scratch = data ? data + qc_scratch_threads_offset(&scratch) : NULL;
    program->thread_scratch_bytes = (scratch.thread_bytes + QC_ALIGNMENT - 1) / QC_ALIGNMENT * QC_ALIGNMENT;
    return add_runs(program, error);
}

static void release(qp_program *program)
{
    for (qc_run *run = program->free_runs, *next; run; run = next) {
        next = run->next;
        qc_run_destroy(run);
    }
    qc_build_free(program);
    qc_free(program);
}

qp_status qc_program_create(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error)
{
    if (!device || !out)
        return qc_fail(error, QP_ERR_INVALID, "program_create needs a device and a place for the program");
    qp_program *program = qc_alloc(sizeof *program);
    if (!program)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a program");
    program->device = device;
    qp_status status = fill(program, desc, error);
    if (status) {
        release(program);
        return status;
    }
    *out = program;
    return QP_OK;
}

void qc_program_destroy(qp_program *program)
{
    if (!program)
        return;
    qc_queue_drain(program);
    release(program);
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

static int64_t live_rows(const qc_node *node)
{
    if (!node->live)
        return node->rows;
    int64_t live = *node->live;
    return live < 0 ? 0 : live > node->rows ? node->rows : live;
}

static void run_chain(const qc_node *head, qc_counter *counter, const qc_work *work)
{
    int64_t live = live_rows(head), units = head->kind->units ? head->kind->units(head, live) : live;
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&counter->next, head->grain, memory_order_relaxed);
        if (begin >= units)
            return;
        int64_t end = begin + head->grain < units ? begin + head->grain : units;
        for (const qc_node *node = head; node; node = node->next)
            node->kind->run(node, live, begin, end, work);
    }
}

/* Every thread of the pool goes through here. */
static void execute(void *arg, uint32_t thread)
{
    const qp_program *p = arg;
    qc_pool *pool = &p->device->pool;
    qc_work work = {thread, p->thread_scratch ? p->thread_scratch + thread * p->thread_scratch_bytes : NULL};
    uint32_t phases = p->phase_count;
    for (uint32_t i = 0; i < phases; i++) {
        qc_phase phase = p->phases[i];
        for (uint32_t c = phase.first; c < phase.end; c++)
            run_chain(p->chains[c], &p->counters[c], &work);
        qc_pool_barrier(pool); /* after the last one only the leader may touch the program */
        for (uint32_t c = phase.first; thread == 0 && c < phase.end; c++)
            atomic_store_explicit(&p->counters[c].next, 0, memory_order_relaxed); /* used again after another barrier */
    }
}

void qc_program_execute(qp_program *program)
{
    if (program->phase_count)
        qc_pool_run(&program->device->pool, execute, program);
}
