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
    memory->host_bytes = sizeof(qp_program) + FIRST_RUNS * (sizeof(qc_run) + step) +
                         (uint64_t)desc->op_count * 2 * (sizeof(qc_node) + sizeof(qc_phase));
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
        return qc_fail(error, QP_ERR_INVALID,
                       "the program needs %llu bytes of scratch (program_measure says so); its range has %llu",
                       (unsigned long long)need, (unsigned long long)desc->scratch.size);
    if ((uintptr_t)*out % QC_ALIGNMENT)
        return qc_fail(error, QP_ERR_INVALID,
                       "the program's scratch starts at offset %llu, which is not a multiple of %d bytes in memory",
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
    qc_pool_forget(&program->device->pool, program);
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

static void run_chain(const qc_node *head, int64_t begin, int64_t end, const qc_work *work)
{
    int64_t live = live_rows(head);
    for (const qc_node *node = head; node; node = node->next)
        node->kind->run(node, live, begin, end, work);
}

/* Writes down the units of a phase; how many there are. What they are counted from is what earlier phases have left. */
static int64_t open_phase(const qp_program *p, qc_phase *phase)
{
    int64_t first = atomic_load_explicit(&phase->next, memory_order_relaxed), end = first;
    atomic_store_explicit(&phase->bounds[0], first, memory_order_release);
    for (uint32_t i = 0; i < phase->count; i++) {
        const qc_node *head = p->chains[phase->first + i];
        int64_t live = live_rows(head);
        end += head->kind->units ? head->kind->units(head, live) : live;
        atomic_store_explicit(&phase->bounds[i + 1], end, memory_order_release);
    }
    return end - first;
}

/* Opens the next phase that has anything to do; past the last one the run is over, and only the leader may touch the program. */
static void advance(const qp_program *p, uint64_t base, uint32_t index, int wake)
{
    qc_pool *pool = &p->device->pool;
    while (index < p->phase_count && open_phase(p, &p->phases[index]) == 0)
        index++;
    qc_pool_advance(pool, base + index, wake || (index < p->phase_count && p->phases[index].wide));
}

/* Units that stream from memory are taken in long runs at first and short ones towards the end (guided self-scheduling, Polychronopoulos
 * & Kuck 1987), so that few of the bytes fetched ahead are another thread's, and all threads still end together. */
static int64_t take(const qp_program *p, const qc_node *head, int64_t left)
{
    int64_t units = head->grain, share = head->streams ? left / (2 * (int64_t)p->device->threads) : 0;
    units = share > units ? share : units;
    return units < left ? units : left;
}

static void work_phase(const qp_program *p, uint64_t base, uint64_t now, const qc_work *work)
{
    qc_phase *phase = &p->phases[now - base];
    int64_t bounds[QC_PHASE_CHAINS + 1], did = 0;
    for (uint32_t i = 0; i <= phase->count; i++)
        bounds[i] = atomic_load_explicit(&phase->bounds[i], memory_order_acquire);
    if (atomic_load_explicit(&p->device->pool.now, memory_order_acquire) != now)
        return; /* they may be those of another run */
    int64_t unit = atomic_load_explicit(&phase->next, memory_order_relaxed), all = bounds[phase->count];
    uint32_t chain = 0;
    while (unit < all) {
        while (unit >= bounds[chain + 1])
            chain++;
        const qc_node *head = p->chains[phase->first + chain];
        int64_t end = unit + take(p, head, bounds[chain + 1] - unit);
        if (!atomic_compare_exchange_weak_explicit(&phase->next, &unit, end, memory_order_relaxed, memory_order_relaxed))
            continue;
        run_chain(head, unit - bounds[chain], end - bounds[chain], work);
        did += end - unit;
        unit = atomic_load_explicit(&phase->next, memory_order_relaxed);
    }
    if (did && atomic_fetch_add_explicit(&phase->done, did, memory_order_acq_rel) + did == all)
        advance(p, base, (uint32_t)(now - base) + 1, 0);
}

static qc_work work_of(const qp_program *p, uint32_t thread)
{
    return (qc_work){thread, p->thread_scratch ? p->thread_scratch + thread * p->thread_scratch_bytes : NULL};
}

void qc_program_help(const void *program, uint64_t base, uint32_t thread)
{
    const qp_program *p = program;
    qc_pool *pool = &p->device->pool;
    qc_work work = work_of(p, thread);
    uint64_t now;
    do {
        now = atomic_load_explicit(&pool->now, memory_order_acquire);
        if (now - base >= p->phase_count)
            return;
        work_phase(p, base, now, &work);
    } while (qc_pool_look(pool, now, pool->phase_spin_ns, QC_POLITE_NS));
}

void qc_program_execute(qp_program *p)
{
    qc_pool *pool = &p->device->pool;
    qc_work work = work_of(p, 0);
    uint64_t base = qc_pool_begin(pool, p, p->phase_count);
    advance(p, base, 0, p->wide);
    for (;;) {
        uint64_t now = atomic_load_explicit(&pool->now, memory_order_acquire);
        if (now - base >= p->phase_count)
            return;
        work_phase(p, base, now, &work);
        qc_pool_wait_leader(pool, now);
    }
}
