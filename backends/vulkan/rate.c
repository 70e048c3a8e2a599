/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/rate.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/cache.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/program.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/timeline.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A dispatch is timed that takes at least so long, or is the largest of its kind. What is measured counts half: other kernels are
 * slower, and the device is not ours alone. */
enum { ENOUGH_NS = 500000, SHARE = 2, WHOLE = 1000 };
static const uint64_t LEAST_RATE = 1000000;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What a device of this kind surely does: too low is harmless and too high is not. */
static qv_speeds guess(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return (qv_speeds){200000000000, 10000000000};
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return (qv_speeds){20000000000, 1000000000};
    default: return (qv_speeds){500000000, 10000000};
    }
}

static int wish_is(const char *word)
{
    const char *wish = getenv("QUERN_VULKAN_SELF_TEST");
    return wish && !strcmp(wish, word);
}

/* As it is kept. */
typedef struct record {
    uint64_t mark; /* of the kernels */
    qv_speeds speeds;
} record;

static void set_up(qv_rate *rate, qv_speeds speeds, int is_measured)
{
    *rate = (qv_rate){.is_measured = is_measured};
    atomic_init(&rate->products, speeds.products);
    atomic_init(&rate->others, speeds.others);
    atomic_init(&rate->seen, WHOLE);
}

void qv_rate_init(qp_device *device)
{
    size_t size = 0;
    qv_rate *rate = &device->rate;
    set_up(rate, guess(device->physical->properties.deviceType), wish_is("off"));
    if (wish_is("always") || rate->is_measured)
        return;
    record *kept = device->variant ? NULL : qv_cache_load(device->physical, QV_CACHE_RATE, &size);
    if (kept && size == sizeof *kept && kept->mark == qv_shaders_mark() && kept->speeds.products >= LEAST_RATE &&
        kept->speeds.others >= LEAST_RATE) {
        set_up(rate, kept->speeds, 1);
    }
    qv_free(kept);
}

void qv_rate_copy(qp_device *to, const qp_device *from)
{
    set_up(&to->rate, (qv_speeds){atomic_load(&from->rate.products), atomic_load(&from->rate.others)}, 1);
}

static uint64_t speed_of(const qp_device *device, qp_op_kind kind)
{
    int product = kind == QP_OP_MATMUL || kind == QP_OP_EXPERT_MATMUL;
    return atomic_load(product ? &device->rate.products : &device->rate.others);
}

uint64_t qv_rate_limit(const qp_device *device, qp_op_kind kind)
{
    uint64_t limit = speed_of(device, kind) / 1000 * device->max_submit_ms;
    return limit ? limit : 1;
}

uint64_t qv_rate_ns(const qp_device *device, qp_op_kind kind, uint64_t work)
{
    return (uint64_t)((double)work * 1e9 / (double)speed_of(device, kind));
}

uint64_t qv_rate_most_ns(const qp_device *device)
{
    return (uint64_t)device->max_submit_ms * 1000000;
}

/* ---- measuring ---- */

enum { K = 1024, M = 2048, HEAD = 128, HEADS = 8, KV_HEADS = 2, CELLS = 1024, MOST_ROWS = 1024 };

/* One buffer with everything: an op reads its sources from the front (zeros, but for the positions) and writes behind them. */
enum {
    POSITIONS_AT = 0,
    SOURCES_AT = POSITIONS_AT + MOST_ROWS * 4,
    MATRIX_BYTES = K * M * 2,
    CACHE_BYTES = HEAD * KV_HEADS * CELLS * 2,
    ROW_BYTES = M * 4, /* the widest of x, q and the results */
    ROWS_AT = SOURCES_AT + (MATRIX_BYTES > 2 * CACHE_BYTES ? MATRIX_BYTES : 2 * CACHE_BYTES),
    RESULTS_AT = ROWS_AT + MOST_ROWS * ROW_BYTES,
    ALL_BYTES = RESULTS_AT + MOST_ROWS * ROW_BYTES,
};

static qp_tensor tensor(qp_buffer *buffer, uint64_t at, qp_format format, int64_t n0, int64_t n1, int64_t n2)
{
    int64_t size = format == QP_FORMAT_F16 ? 2 : 4;
    return (qp_tensor){.buffer = buffer,
                       .offset = at,
                       .format = format,
                       .ne = {n0, n1, n2, 1},
                       .nb = {size, n0 * size, n0 * n1 * size, n0 * n1 * n2 * size}};
}

static qp_op matmul_op(qp_buffer *b, int64_t rows)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_MATMUL, .version = 1};
    op.dst = tensor(b, RESULTS_AT, QP_FORMAT_F32, M, 1, rows);
    op.src[QP_MATMUL_W] = tensor(b, SOURCES_AT, QP_FORMAT_F16, K, M, 1);
    op.src[QP_MATMUL_X] = tensor(b, ROWS_AT, QP_FORMAT_F32, K, 1, rows);
    op.p.matmul.scale = 1;
    return op;
}

static qp_op attention_op(qp_buffer *b, int64_t rows)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_ATTENTION, .version = 1};
    op.dst = tensor(b, RESULTS_AT, QP_FORMAT_F32, HEAD, HEADS, rows);
    op.src[QP_ATTENTION_Q] = tensor(b, ROWS_AT, QP_FORMAT_F32, HEAD, HEADS, rows);
    op.src[QP_ATTENTION_K] = tensor(b, SOURCES_AT, QP_FORMAT_F16, HEAD, KV_HEADS, CELLS);
    op.src[QP_ATTENTION_V] = tensor(b, SOURCES_AT + CACHE_BYTES, QP_FORMAT_F16, HEAD, KV_HEADS, CELLS);
    op.src[QP_ATTENTION_POSITIONS] = tensor(b, POSITIONS_AT, QP_FORMAT_I32, rows, 1, 1);
    op.p.attention.scale = 1;
    return op;
}

/* Zeros, and the last cell for every row's position. */
static qp_status fill(qp_buffer *buffer, qp_text *error)
{
    enum { STEP = 1 << 20 };
    int32_t *memory = qv_alloc_zeroed(STEP);
    if (!memory)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory");
    qp_status status = QP_OK;
    for (uint64_t at = 0; at < ALL_BYTES && !status; at += STEP)
        status = qv_buffer_write(buffer, at, memory, ALL_BYTES - at < STEP ? ALL_BYTES - at : STEP, error);
    for (int i = 0; i < MOST_ROWS; i++)
        memory[i] = CELLS - 1;
    if (!status)
        status = qv_buffer_write(buffer, POSITIONS_AT, memory, MOST_ROWS * sizeof *memory, error);
    qv_free(memory);
    return status;
}

static qp_status run_once(qp_program *program, qp_timeline *timeline, uint64_t *value, uint64_t *ns, qp_text *error)
{
    qp_signal signal = {timeline, ++*value};
    qp_run run = {.struct_size = sizeof run, .signal_count = 1, .signals = &signal};
    uint64_t start = now_ns();
    qp_status status = qv_program_run(program, &run, error);
    if (!status)
        status = qv_timeline_wait(timeline, *value, UINT64_MAX, error);
    *ns = now_ns() - start;
    return status;
}

/* The multiply-adds a second of one op, whose work was planned for the speeds of now: the better of two runs, after one that warms
 * up. */
static qp_status time_op(qp_device *device, const qp_op *op, uint64_t *ns, uint64_t *rate, qp_text *error)
{
    qp_program *program = NULL;
    qp_timeline *timeline = NULL;
    qp_buffer *scratch = NULL;
    uint64_t value = 0, took;
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof *op, .ops = op, .op_count = 1};
    qp_program_memory memory = {.struct_size = sizeof memory};
    qp_status status = qv_program_measure(device, &desc, &memory, error);
    if (!status && memory.scratch_bytes)
        status = qv_buffer_create(device, device->physical->weight_heap, memory.scratch_bytes, &scratch, error);
    desc.scratch = (qp_range){scratch, 0, memory.scratch_bytes};
    if (!status)
        status = qv_program_create(device, &desc, &program, error);
    if (!status)
        status = qv_timeline_create(device, 0, &timeline, error);
    *ns = UINT64_MAX;
    for (int i = 0; i < 3 && !status; i++) {
        status = run_once(program, timeline, &value, &took, error);
        if (i && took < *ns)
            *ns = took;
    }
    if (!status)
        *rate = (uint64_t)((double)program->ns / (double)(*ns ? *ns : 1) * (double)speed_of(device, op->kind));
    qv_program_destroy(program);
    qv_timeline_destroy(timeline);
    qv_buffer_destroy(scratch);
    return status;
}

/* With more rows until it takes long enough for the host's clock. */
static qp_status time_kind(qp_device *device, qp_op (*make)(qp_buffer *, int64_t), qp_buffer *buffer, uint64_t *rate,
                           qp_text *error)
{
    qp_status status = QP_OK;
    uint64_t ns = 0;
    for (int64_t rows = 1; rows <= MOST_ROWS && ns < ENOUGH_NS && !status; rows *= 8) {
        qp_op op = make(buffer, rows);
        status = time_op(device, &op, &ns, rate, error);
    }
    return status;
}

static void measure(qp_device *device)
{
    char words[320] = "";
    qp_text text = {words, sizeof words};
    qp_buffer *buffer = NULL;
    uint64_t products = 0, attention = 0;
    qp_status status = qv_buffer_create(device, device->physical->weight_heap, ALL_BYTES, &buffer, &text);
    if (!status)
        status = fill(buffer, &text);
    if (!status)
        status = time_kind(device, matmul_op, buffer, &products, &text);
    if (!status)
        status = time_kind(device, attention_op, buffer, &attention, &text);
    qv_buffer_destroy(buffer);
    if (status) {
        qv_log(QP_LOG_INFO, "%s: its speed could not be measured (%s) and is guessed", device->physical->properties.deviceName,
               words);
        return;
    }
    record found = {.mark = qv_shaders_mark(), .speeds = {products / SHARE, attention / SHARE}};
    found.speeds.products = found.speeds.products > LEAST_RATE ? found.speeds.products : LEAST_RATE;
    found.speeds.others = found.speeds.others > LEAST_RATE ? found.speeds.others : LEAST_RATE;
    atomic_store(&device->rate.products, found.speeds.products);
    atomic_store(&device->rate.others, found.speeds.others);
    if (!device->variant) /* other kernels' speed is nobody else's */
        qv_cache_save(device->physical, QV_CACHE_RATE, &found, sizeof found);
    qv_log(QP_LOG_INFO, "%s: measured %llu million multiply-adds a second in products, %llu million in attention",
           device->physical->properties.deviceName, (unsigned long long)products / 1000000,
           (unsigned long long)attention / 1000000);
}

static void slow_down(_Atomic uint64_t *speed, uint32_t seen)
{
    uint64_t less = atomic_load(speed) / WHOLE * seen;
    atomic_store(speed, less > LEAST_RATE ? less : LEAST_RATE);
}

void qv_rate_learn(qp_device *device)
{
    qv_rate *rate = &device->rate;
    if (!rate->is_measured && !device->is_bench) {
        rate->is_measured = 1; /* also for the programs that measure */
        atomic_store(&rate->is_measuring, 1);
        measure(device);
        atomic_store(&rate->is_measuring, 0);
        atomic_store(&rate->seen, WHOLE); /* they ran with the guess */
    }
    uint32_t seen = atomic_exchange(&rate->seen, WHOLE);
    if (seen == WHOLE)
        return;
    qv_log(QP_LOG_INFO, "%s: submissions took longer than %u ms: programs made from now on are cut smaller",
           device->physical->properties.deviceName, device->max_submit_ms);
    slow_down(&rate->products, seen);
    slow_down(&rate->others, seen);
}

/* ---- what runs show ---- */

void qv_rate_run_locked(qp_device *device, uint64_t number, uint64_t ns, uint32_t parts, int idle)
{
    qv_rate *rate = &device->rate;
    rate->run_number = idle ? number : 0;
    rate->run_start = idle ? now_ns() : 0;
    rate->run_ns = ns;
    rate->run_parts = parts;
}

/* Only too long a time says something: with fewer live rows than a program was made for less is computed than was planned. */
void qv_rate_ended(qp_device *device)
{
    qv_rate *rate = &device->rate;
    uint64_t now = now_ns();
    pthread_mutex_lock(&device->queue.lock);
    uint64_t passed = now - rate->run_start, parts = rate->run_parts, planned = rate->run_ns;
    int ours =
        rate->run_number && rate->run_number == device->queue.submitted && parts && qv_queue_reached(device, rate->run_number);
    rate->run_number = ours ? 0 : rate->run_number;
    pthread_mutex_unlock(&device->queue.lock);
    if (!ours || passed / parts < qv_rate_most_ns(device) || planned >= passed)
        return;
    uint32_t shown = (uint32_t)((double)planned / (double)passed * WHOLE);
    shown = shown > WHOLE / 4 ? shown : WHOLE / 4; /* the process may have been stopped meanwhile */
    if (shown < atomic_load(&rate->seen))
        atomic_store(&rate->seen, shown);
}
