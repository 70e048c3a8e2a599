/* SPDX-License-Identifier: MIT */
#include "backends/null/queue.h"

#include "backends/null/buffer.h"
#include "backends/null/device.h"
#include "backends/null/program.h"
#include "backends/null/status.h"
#include "backends/null/timeline.h"

#include <string.h>
#include <time.h>

int qn_queue_init(qn_queue *queue)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes))
        return 0;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* timeouts must not follow a clock that people set */
    int failed = pthread_cond_init(&queue->moved, &attributes);
    pthread_condattr_destroy(&attributes);
    if (!failed && pthread_mutex_init(&queue->lock, NULL)) {
        pthread_cond_destroy(&queue->moved);
        failed = 1;
    }
    return !failed;
}

void qn_queue_destroy(qn_queue *queue)
{
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->moved);
}

/* ---- run records ---- */

void qn_run_destroy(qn_run *run)
{
    if (!run)
        return;
    qn_free(run->signals);
    qn_free(run->step);
    qn_free(run);
}

static qn_run *take_record(qp_program *program, uint32_t signals)
{
    qn_run *run = program->free_runs;
    if (run)
        program->free_runs = run->next;
    else
        run = qn_alloc_zeroed(sizeof *run);
    if (run && !run->step && program->step.size)
        run->step = qn_alloc(program->step.size);
    if (run && run->room < signals) {
        qn_free(run->signals);
        run->signals = qn_alloc(signals * sizeof *run->signals);
        run->room = run->signals ? signals : 0;
    }
    if (run && ((program->step.size && !run->step) || run->room < signals)) {
        qn_run_destroy(run);
        run = NULL;
    }
    return run;
}

static void fill_record(qn_run *record, qp_program *program, const qp_run *run)
{
    record->next = NULL;
    record->program = program;
    record->wait_count = run->wait_count;
    record->signal_count = run->signal_count;
    if (run->wait_count)
        memcpy(record->signals, run->waits, run->wait_count * sizeof *run->waits);
    if (run->signal_count)
        memcpy(record->signals + run->wait_count, run->signals, run->signal_count * sizeof *run->signals);
    for (uint32_t i = 0; i < run->wait_count + run->signal_count; i++)
        record->signals[i].timeline->owners++;
    record->has_step = run->step && program->step.size;
    if (record->has_step)
        memcpy(record->step, run->step, program->step.size);
}

/* ---- running ---- */

typedef enum readiness { READY, WAITING, HOPELESS } readiness;

/* Nobody but a run ahead of it, of which there is none at the head, can signal a timeline that the host has destroyed. */
static readiness look(const qn_run *run)
{
    readiness found = READY;
    for (uint32_t i = 0; i < run->wait_count; i++) {
        const qp_timeline *timeline = run->signals[i].timeline;
        if (timeline->value >= run->signals[i].value)
            continue;
        if (timeline->destroyed || timeline->failed_from <= run->signals[i].value)
            return HOPELESS;
        found = WAITING;
    }
    return found;
}

/* Where a real backend computes. */
static void execute(const qn_run *run)
{
    const qp_program *program = run->program;
    if (run->has_step)
        memcpy(program->step.buffer->data + program->step.offset, run->step, program->step.size);
}

static void finish(qn_run *run, int failed)
{
    for (uint32_t i = 0; i < run->wait_count + run->signal_count; i++) {
        qp_timeline *timeline = run->signals[i].timeline;
        uint64_t value = run->signals[i].value;
        if (i >= run->wait_count && failed && value < timeline->failed_from)
            timeline->failed_from = value;
        if (i >= run->wait_count && !failed && value > timeline->value)
            timeline->value = value;
        qn_timeline_release_locked(timeline);
    }
    run->program->under_way--;
    run->next = run->program->free_runs;
    run->program->free_runs = run;
}

void qn_queue_advance_locked(qn_queue *queue)
{
    readiness state;
    while (queue->first && (state = look(queue->first)) != WAITING) {
        qn_run *run = queue->first;
        queue->first = run->next;
        if (!run->next)
            queue->last = NULL;
        if (state == READY)
            execute(run);
        finish(run, state == HOPELESS);
    }
    pthread_cond_broadcast(&queue->moved);
}

static qp_status check_run(const qp_program *program, const qp_run *run, qp_text *error)
{
    if (run->wait_count > UINT16_MAX || run->signal_count > UINT16_MAX || (run->wait_count && !run->waits) ||
        (run->signal_count && !run->signals))
        return qn_fail(error, QP_ERR_INVALID, "a run with %u waits and %u signals: lists are missing or too long", run->wait_count,
                       run->signal_count);
    for (uint32_t i = 0; i < run->wait_count; i++)
        if (!run->waits[i].timeline || run->waits[i].timeline->device != program->device)
            return qn_fail(error, QP_ERR_INVALID, "wait %u of a run names no timeline of this device", i);
    for (uint32_t i = 0; i < run->signal_count; i++)
        if (!run->signals[i].timeline || run->signals[i].timeline->device != program->device)
            return qn_fail(error, QP_ERR_INVALID, "signal %u of a run names no timeline of this device", i);
    return QP_OK;
}

qp_status qn_program_run(qp_program *program, const qp_run *run, qp_text *error)
{
    qp_status status = check_run(program, run, error);
    if (status)
        return status;
    qn_queue *queue = &program->device->queue;
    pthread_mutex_lock(&queue->lock);
    for (uint32_t i = 0; i < run->signal_count && !status; i++)
        if (run->signals[i].value <= run->signals[i].timeline->value)
            status = QP_ERR_INVALID;
    qn_run *record = status ? NULL : take_record(program, run->wait_count + run->signal_count);
    if (record) {
        fill_record(record, program, run);
        if (queue->last)
            queue->last->next = record;
        else
            queue->first = record;
        queue->last = record;
        program->under_way++;
        qn_queue_advance_locked(queue);
    }
    pthread_mutex_unlock(&queue->lock);
    if (status)
        return qn_fail(error, status, "a run would signal a value that its timeline has passed");
    return record ? QP_OK : qn_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the record of a run");
}
