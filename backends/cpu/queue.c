/* SPDX-License-Identifier: MIT */
#include "backends/cpu/queue.h"

#include "backends/cpu/device.h"
#include "backends/cpu/program.h"
#include "backends/cpu/status.h"
#include "backends/cpu/timeline.h"

#include <string.h>

void qc_queue_init(qc_queue *queue)
{
    pthread_mutex_init(&queue->lock, NULL);
}

void qc_queue_destroy(qc_queue *queue)
{
    pthread_mutex_destroy(&queue->lock);
}

void qc_queue_stop(qc_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->stop = 1;
    pthread_mutex_unlock(&queue->lock);
    qc_event_post(&queue->submitted);
}

/* ---- records ------------------------------------------------------------------------------------------------------ */

qc_run *qc_run_create(qp_program *program, uint64_t step_bytes)
{
    qc_run *run = qc_alloc(sizeof *run);
    void *step = qc_alloc(step_bytes);
    if (!run || !step) {
        qc_free(run);
        qc_free(step);
        return NULL;
    }
    run->program = program;
    run->step = step;
    run->signals = run->few;
    run->capacity = QC_RUN_SIGNALS;
    return run;
}

void qc_run_destroy(qc_run *run)
{
    if (!run)
        return;
    if (run->signals != run->few)
        qc_free(run->signals);
    qc_free(run->step);
    qc_free(run);
}

static int reserve_signals(qc_run *run, uint64_t count)
{
    if (count <= run->capacity)
        return 0;
    qp_signal *signals = count < UINT32_MAX ? qc_alloc((size_t)count * sizeof *signals) : NULL;
    if (!signals)
        return -1;
    if (run->signals != run->few)
        qc_free(run->signals);
    run->signals = signals;
    run->capacity = (uint32_t)count;
    return 0;
}

static qc_run *take_free(qp_program *program)
{
    qc_queue *queue = &program->device->queue;
    pthread_mutex_lock(&queue->lock);
    qc_run *run = program->free_runs;
    if (run)
        program->free_runs = run->next;
    pthread_mutex_unlock(&queue->lock);
    return run ? run : qc_run_create(program, program->step_bytes);
}

static void give_free(qc_run *run)
{
    qp_program *program = run->program;
    pthread_mutex_lock(&program->device->queue.lock);
    run->next = program->free_runs;
    program->free_runs = run;
    pthread_mutex_unlock(&program->device->queue.lock);
}

/* ---- submission --------------------------------------------------------------------------------------------------- */

static qp_status check_signals(const qp_signal *signals, uint32_t count, const char *what, qp_text *error)
{
    if (count && !signals)
        return qc_fail(error, QP_ERR_INVALID, "program_run has %u %s but no list of them", count, what);
    for (uint32_t i = 0; i < count; i++)
        if (!signals[i].timeline)
            return qc_fail(error, QP_ERR_INVALID, "program_run: entry %u of the %s names no timeline", i, what);
    return QP_OK;
}

static void enqueue(qc_queue *queue, qc_run *run)
{
    run->next = NULL;
    for (uint32_t i = 0; i < run->wait_count + run->signal_count; i++)
        qc_timeline_hold(run->signals[i].timeline);
    pthread_mutex_lock(&queue->lock);
    if (queue->last)
        queue->last->next = run;
    else
        queue->first = run;
    queue->last = run;
    run->program->under_way++;
    pthread_mutex_unlock(&queue->lock);
    qc_event_post(&queue->submitted);
}

qp_status qc_program_run(qp_program *program, const qp_run *desc, qp_text *error)
{
    if (!program || !desc || !QP_HAS(desc, signals))
        return qc_fail(error, QP_ERR_INVALID, "program_run needs a program and a qp_run whose struct_size is set");
    qp_status status = check_signals(desc->waits, desc->wait_count, "waits", error);
    if (!status)
        status = check_signals(desc->signals, desc->signal_count, "signals", error);
    if (!status && desc->step && !program->step)
        status = qc_fail(error, QP_ERR_INVALID, "program_run has step data, but the program was made without a step block");
    if (status)
        return status;
    qc_run *run = take_free(program);
    if (!run)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to queue one more run");
    if (reserve_signals(run, (uint64_t)desc->wait_count + desc->signal_count)) {
        give_free(run);
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for %u waits and %u signals", desc->wait_count,
                       desc->signal_count);
    }
    run->wait_count = desc->wait_count;
    run->signal_count = desc->signal_count;
    for (uint32_t i = 0; i < desc->wait_count; i++)
        run->signals[i] = desc->waits[i];
    for (uint32_t i = 0; i < desc->signal_count; i++)
        run->signals[desc->wait_count + i] = desc->signals[i];
    run->has_step = desc->step != NULL;
    if (run->has_step)
        memcpy(run->step, desc->step, program->step_bytes);
    enqueue(&program->device->queue, run);
    return QP_OK;
}

void qc_queue_drain(qp_program *program)
{
    qc_queue *queue = &program->device->queue;
    for (;;) {
        uint32_t seen = qc_event_read(&queue->completed);
        pthread_mutex_lock(&queue->lock);
        uint64_t under_way = program->under_way;
        pthread_mutex_unlock(&queue->lock);
        if (!under_way)
            return;
        qc_event_wait(&queue->completed, seen, 0, QC_FOREVER);
    }
}

/* ---- the leader --------------------------------------------------------------------------------------------------- */

/* The next run; NULL when the queue is empty, with *stop telling whether it will stay so. */
static qc_run *dequeue(qc_queue *queue, int *stop)
{
    pthread_mutex_lock(&queue->lock);
    qc_run *run = queue->first;
    if (run) {
        queue->first = run->next;
        if (!queue->first)
            queue->last = NULL;
    }
    *stop = queue->stop;
    pthread_mutex_unlock(&queue->lock);
    return run;
}

static void perform(qc_run *run)
{
    char words[256] = "";
    qp_text text = {words, sizeof words};
    qp_status status = QP_OK;
    for (uint32_t i = 0; i < run->wait_count && !status; i++)
        status = qc_timeline_await(run->signals[i].timeline, run->signals[i].value, &text);
    if (!status) {
        if (run->has_step)
            memcpy(run->program->step, run->step, run->program->step_bytes);
        qc_program_execute(run->program);
    }
    for (uint32_t i = run->wait_count; i < run->wait_count + run->signal_count; i++) {
        if (status)
            qc_timeline_fail(run->signals[i].timeline, run->signals[i].value, status, words);
        else
            qc_timeline_reach(run->signals[i].timeline, run->signals[i].value);
    }
    for (uint32_t i = 0; i < run->wait_count + run->signal_count; i++)
        qc_timeline_release(run->signals[i].timeline);
}

/* After the unlock the program may be gone. */
static void retire(qc_queue *queue, qc_run *run)
{
    qp_program *program = run->program;
    pthread_mutex_lock(&queue->lock);
    run->next = program->free_runs;
    program->free_runs = run;
    program->under_way--;
    pthread_mutex_unlock(&queue->lock);
    qc_event_post(&queue->completed);
}

void qc_queue_lead(void *arg)
{
    qp_device *device = arg;
    qc_queue *queue = &device->queue;
    for (;;) {
        uint32_t seen = qc_event_read(&queue->submitted);
        int stop;
        qc_run *run = dequeue(queue, &stop);
        if (run) {
            perform(run);
            retire(queue, run);
        } else if (stop) {
            return;
        } else {
            qc_event_wait(&queue->submitted, seen, device->pool.idle_spin_ns, QC_FOREVER);
        }
    }
}
