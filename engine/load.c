/* SPDX-License-Identifier: MIT */
#include "engine/load.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { LOAD_THREADS = 4, LOAD_THREADS_MOST = 32 };
static const uint64_t CHUNK_BYTES = 8u << 20, STAGING_BYTES = 32u << 20;

/* A part of a weight to fill. */
typedef struct job {
    const weight *weight;
    const weight_part *part;
} job;

/* What the threads share. Work is handed out in the order of the file, a stretch of rows at a time. */
typedef struct loader {
    const weight_set *set;
    quern_device *device;
    const placement *placement;
    unsigned char **mapped; /* by block of the placement: where the host sees it, NULL: it does not */
    job *order;             /* by place in the file */
    uint64_t count;
    uint64_t chunk_bytes; /* a thread's staging */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    uint64_t next;        /* index into order */
    int64_t next_row;     /* of the part */
    uint64_t done, total; /* bytes of the file */
    uint32_t running;
    int stop;
    quern_status status;
    quern_error error;
} loader;

typedef struct piece {
    job job;
    int64_t row, rows;     /* of the part */
    uint64_t begin, bytes; /* in the part, as the file has it */
} piece;

static int64_t all_rows(const weight_part *p)
{
    return p->desc.ne[1] * p->desc.ne[2] * p->desc.ne[3];
}

static uint64_t row_bytes(const weight *w)
{
    return w->tensor->bytes / (uint64_t)(w->tensor->ne[1] * w->tensor->ne[2] * w->tensor->ne[3]);
}

/* Rows of the part that lie together in the file: of a stack of matrices that is cut, those of one matrix. */
static int64_t rows_together(const job *j)
{
    int64_t rows = j->part->desc.ne[1];
    return rows < j->weight->tensor->ne[1] ? rows : all_rows(j->part);
}

/* Where a row of the part is in the file. */
static uint64_t file_row(const job *j, int64_t row)
{
    int64_t together = rows_together(j);
    return (uint64_t)(j->part->first + row / together * j->weight->tensor->ne[1] + row % together);
}

/* Of the part in the file, and where it begins there within its tensor. */
static uint64_t file_bytes(const job *j)
{
    return (uint64_t)all_rows(j->part) * row_bytes(j->weight);
}

static uint64_t file_begin(const job *j)
{
    return (uint64_t)j->part->first * row_bytes(j->weight);
}

/* Rows that fit a chunk, whole steps of what the device packs at a time. */
static int64_t rows_at_a_time(const job *j, uint64_t chunk_bytes)
{
    int64_t step = j->part->info.row_step > 0 ? j->part->info.row_step : 1;
    int64_t rows = (int64_t)(chunk_bytes / row_bytes(j->weight)) / step * step;
    return rows > step ? rows : step;
}

/* The part's bytes on the device are those of the file and the host sees them: no staging. */
static unsigned char *direct(const loader *l, const job *j)
{
    unsigned char *base = l->mapped[j->part->at.block];
    int same = j->part->info.layout == QP_LAYOUT_GGUF && j->part->info.bytes >= file_bytes(j);
    return base && same ? base + j->part->at.offset : NULL;
}

/* Takes the next piece of work; 0 when there is none left. */
static int take(loader *l, piece *out)
{
    int found = 0;
    pthread_mutex_lock(&l->lock);
    if (!l->stop && l->next < l->count) {
        const job *j = &l->order[l->next];
        int64_t left = all_rows(j->part) - l->next_row, rows = rows_at_a_time(j, l->chunk_bytes);
        int64_t together = rows_together(j) - l->next_row % rows_together(j);
        left = together < left ? together : left;
        *out = (piece){.job = *j, .row = l->next_row, .rows = rows < left ? rows : left};
        out->begin = (uint64_t)out->row * row_bytes(j->weight);
        out->bytes = (uint64_t)out->rows * row_bytes(j->weight);
        l->next_row += out->rows;
        if (l->next_row == all_rows(j->part)) {
            l->next++;
            l->next_row = 0;
        }
        found = 1;
    }
    pthread_mutex_unlock(&l->lock);
    return found;
}

static quern_status read_piece(const loader *l, const piece *p, unsigned char *to, quern_error *error)
{
    uint64_t at = file_row(&p->job, p->row) * row_bytes(p->job.weight);
    return quern_gguf_read(l->set->gguf, p->job.weight->tensor, at, to, p->bytes, error);
}

static quern_status load_direct(const loader *l, const piece *p, unsigned char *dst, quern_error *error)
{
    uint64_t bytes = file_bytes(&p->job), there = p->job.part->info.bytes;
    if (p->begin + p->bytes == bytes && there > bytes)
        memset(dst + bytes, 0, there - bytes); /* padding that kernels may read */
    return read_piece(l, p, dst + p->begin, error);
}

static quern_status load_packed(const loader *l, const piece *p, unsigned char *staging, quern_error *error)
{
    const weight_part *part = p->job.part;
    quern_status status = read_piece(l, p, staging, error);
    if (status != QP_OK)
        return status;
    status = quern_weight_pack(l->device, &part->desc, staging, p->bytes, p->row, p->rows, l->placement->buffers[part->at.block],
                               part->at.offset, error);
    return status == QP_OK ? QP_OK
                           : quern_fail_prefix(error, status, "%.200s: tensor %s: ", quern_gguf_path(l->set->gguf),
                                               p->job.weight->tensor->name.data);
}

static quern_status load_piece(const loader *l, const piece *p, unsigned char **staging, quern_error *error)
{
    unsigned char *dst = direct(l, &p->job);
    if (dst)
        return load_direct(l, p, dst, error);
    if (!*staging)
        *staging = malloc(l->chunk_bytes);
    if (!*staging)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for %s to read weights into",
                          bytes_words(l->chunk_bytes).text);
    return load_packed(l, p, *staging, error);
}

static void report(loader *l, const piece *p, quern_status status, const quern_error *error)
{
    pthread_mutex_lock(&l->lock);
    l->done += p->bytes;
    if (status != QP_OK && l->status == QP_OK) {
        l->status = status;
        l->error = *error;
        l->stop = 1;
    }
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

static void *work(void *arg)
{
    loader *l = arg;
    unsigned char *staging = NULL;
    piece p;
    while (take(l, &p)) {
        quern_error error = {0};
        quern_status status = load_piece(l, &p, &staging, &error);
        report(l, &p, status, &error);
    }
    free(staging);
    pthread_mutex_lock(&l->lock);
    l->running--;
    pthread_cond_signal(&l->changed);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Tells the caller how far it is, without the lock: the callback may take its time. */
static void tell(loader *l, const quern_model_options *options, uint64_t done)
{
    if (!options->progress || !options->progress(options->progress_ctx, done, l->total))
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = 1;
    if (l->status == QP_OK)
        l->status = quern_fail(&l->error, QP_ERR_CANCELLED, "%.200s: loading was stopped", quern_gguf_path(l->set->gguf));
    pthread_mutex_unlock(&l->lock);
}

static void watch(loader *l, const quern_model_options *options)
{
    uint64_t told = 0;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        if (l->done != told && l->status == QP_OK) {
            told = l->done;
            pthread_mutex_unlock(&l->lock);
            tell(l, options, told);
            pthread_mutex_lock(&l->lock);
        } else if (l->running) {
            pthread_cond_wait(&l->changed, &l->lock);
        } else {
            break;
        }
    }
    pthread_mutex_unlock(&l->lock);
}

static quern_status run_threads(loader *l, uint32_t threads, const quern_model_options *options, quern_error *error)
{
    pthread_t ids[LOAD_THREADS_MOST];
    uint32_t started = 0;
    for (; started < threads; started++) {
        pthread_mutex_lock(&l->lock);
        l->running++;
        pthread_mutex_unlock(&l->lock);
        if (!pthread_create(&ids[started], NULL, work, l))
            continue;
        pthread_mutex_lock(&l->lock);
        l->running--;
        pthread_mutex_unlock(&l->lock);
        break;
    }
    if (!started) {
        l->running = 1;
        work(l); /* no threads to be had: do it here */
    }
    watch(l, options);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    if (l->status != QP_OK && error)
        *error = l->error;
    return l->status;
}

static int by_file_offset(const void *a, const void *b)
{
    const job *x = a, *y = b;
    uint64_t at = x->weight->tensor->offset + file_begin(x), other = y->weight->tensor->offset + file_begin(y);
    return (at > other) - (at < other);
}

static uint64_t count_parts(const weight_set *set)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < set->count; i++)
        sum += set->weight[i].parts;
    return sum;
}

/* The list of work, and how large a piece must be for the widest step of rows. */
static uint64_t make_order(loader *l)
{
    uint64_t largest_step = 1;
    for (uint64_t i = 0; i < l->set->count; i++) {
        const weight *w = &l->set->weight[i];
        for (uint32_t k = 0; k < w->parts; k++) {
            job *j = &l->order[l->count++];
            *j = (job){w, &w->part[k]};
            l->total += file_bytes(j);
            uint64_t step = (uint64_t)rows_at_a_time(j, 1) * row_bytes(w);
            if (step > largest_step && !direct(l, j))
                largest_step = step;
        }
    }
    qsort(l->order, l->count, sizeof *l->order, by_file_offset);
    return largest_step;
}

static void map_blocks(loader *l, const qp_device_info *info)
{
    for (uint32_t i = 0; i < l->placement->count; i++) {
        void *address = NULL;
        if (info->heaps[l->placement->heap].flags & QP_HEAP_HOST_VISIBLE &&
            quern_buffer_map(l->placement->buffers[i], &address, NULL) == QP_OK)
            l->mapped[i] = address;
    }
}

quern_status weights_load(weight_set *set, quern_device *device, const placement *p, const quern_model_options *options,
                          quern_error *error)
{
    loader l = {
        .set = set, .device = device, .placement = p, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    l.mapped = calloc(p->count ? p->count : 1, sizeof *l.mapped);
    l.order = calloc(count_parts(set) + 1, sizeof *l.order);
    quern_status status = QP_ERR_OUT_OF_MEMORY;
    if (!l.mapped || !l.order) {
        quern_fail(error, status, "no host memory to list %llu tensors", (unsigned long long)set->count);
    } else {
        map_blocks(&l, quern_device_info(device));
        uint64_t step = make_order(&l), threads = options->threads ? options->threads : LOAD_THREADS;
        threads = threads < LOAD_THREADS_MOST ? threads : LOAD_THREADS_MOST;
        l.chunk_bytes = STAGING_BYTES / threads < CHUNK_BYTES ? STAGING_BYTES / threads : CHUNK_BYTES;
        l.chunk_bytes = step > l.chunk_bytes ? step : l.chunk_bytes;
        while (threads > 1 && threads * l.chunk_bytes > STAGING_BYTES)
            threads--;
        status = run_threads(&l, (uint32_t)threads, options, error);
    }
    free(l.mapped);
    free(l.order);
    return status;
}
