/* SPDX-License-Identifier: MIT */
#include "engine/session.h"

#include "engine/options.h"

#include <quern/log.h>

#include <stdlib.h>

/* A context that we choose ourselves leaves an eighth of the memory to others. */
enum { DEFAULT_CHUNK = 256, LEAST_AUTO_CONTEXT = 64, SPARE_SHARE = 8 };

/* ---- what it takes ---- */

/* UINT64_MAX where the sum is more. */
static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static int selects(const quern_session *s)
{
    return !(s->flags & QUERN_SESSION_ALL_LOGITS);
}

/* Shapes and programs for `cells` of context: fills in every size. Nothing is allocated on the device. */
static quern_status measure(quern_session *s, uint32_t cells, uint32_t chunk, quern_error *error)
{
    s->cells = cells;
    s->chunk = chunk < cells ? chunk : cells;
    quern_status status = kv_cache_shape(&s->kv, &s->model->hp, cells, &s->kv_bytes, error);
    if (status != QP_OK)
        return status;
    s->memory = (program_memory){
        .cells = cells, .k_cache = s->kv.k, .v_cache = s->kv.v, .conv_state = s->state.conv, .rule_state = s->state.rule};
    uint32_t parts = s->model->weights.embedding->parts;
    program_init(&s->decode, 1, parts, s->flags);
    status = program_measure(&s->decode, s->model, &s->memory, error);
    s->prefill = (program){0};
    if (status == QP_OK && s->chunk > 1) {
        program_init(&s->prefill, s->chunk, parts, s->flags);
        status = program_measure(&s->prefill, s->model, &s->memory, error);
    }
    uint64_t rows = selects(s) ? 1 : s->chunk;
    s->memory.step.bytes = larger(s->decode.layout.bytes, s->prefill.layout.bytes);
    s->memory.arena.bytes = larger(s->decode.arena_bytes, s->prefill.arena_bytes);
    s->memory.scratch.bytes = larger(s->decode.scratch_bytes, s->prefill.scratch_bytes);
    s->memory.logits.bytes = rows * s->model->hp.vocabulary * sizeof(float);
    s->memory.sampled.bytes = rows * sizeof(int32_t);
    return status;
}

typedef struct session_plan {
    place step, arena, scratch, logits, sampled;
} session_plan;

static quern_status plan(quern_session *s, session_plan *at, quern_error *error)
{
    const qp_device_info *info = quern_device_info(s->model->device);
    placement *device = &s->device_memory, *host = &s->host_memory;
    placement_init(device, info, info->weight_heap);
    placement_init(host, info, info->host_heap);
    uint64_t scratch_alignment = larger(s->decode.scratch_alignment, s->prefill.scratch_alignment);
    quern_status status = kv_cache_plan(&s->kv, device, error);
    if (status == QP_OK)
        status = recurrent_plan(&s->state, device, error);
    if (status == QP_OK)
        status = placement_add(device, s->memory.arena.bytes, 0, "the session's work space (a smaller --chunk helps)", &at->arena,
                               error);
    if (status == QP_OK)
        status =
            placement_add(device, s->memory.scratch.bytes, scratch_alignment, "the device's scratch memory", &at->scratch, error);
    if (status == QP_OK)
        status = placement_add(device, s->memory.logits.bytes, 0,
                               "the memory for logits (of a whole chunk: a smaller --chunk helps)", &at->logits, error);
    if (status == QP_OK)
        status = placement_add(device, s->memory.step.bytes, 0, "the step block", &at->step, error);
    if (status == QP_OK)
        status = placement_add(host, s->memory.sampled.bytes, 0, "the memory for tokens", &at->sampled, error);
    return status;
}

/* Are two heaps the same memory? */
static int one_memory(const qp_device_info *info, uint32_t a, uint32_t b)
{
    return a == b || (info->heaps[a].flags & info->heaps[b].flags & QP_HEAP_UNIFIED);
}

static quern_status check_memory(const quern_session *s, uint64_t need, uint64_t available, quern_error *error)
{
    need = plus(need, plus(s->decode.device_bytes, s->prefill.device_bytes));
    if (need <= available)
        return QP_OK;
    return quern_fail(error, QP_ERR_OUT_OF_MEMORY,
                      "a context of %u tokens needs %s (KV cache %s, the rest for chunks of %u tokens), and device %s has %s left: "
                      "use a smaller --ctx%s",
                      s->cells, bytes_words(need).text, bytes_words(s->kv_bytes).text, s->chunk, quern_device_id(s->model->device),
                      bytes_words(available).text, s->kv.k_format == QP_FORMAT_Q8_0 ? "" : " or --kv-type q8_0");
}

/* All that is placed in the heap for weights but the KV cache. */
static uint64_t other_bytes(const quern_session *s)
{
    const program_memory *m = &s->memory;
    return plus(plus(plus(m->arena.bytes, m->scratch.bytes), plus(m->logits.bytes, m->step.bytes)), s->state_bytes);
}

/* What the plan came to, where the budget of the heap for weights must cover it. */
static uint64_t planned_bytes(const quern_session *s)
{
    const qp_device_info *info = quern_device_info(s->model->device);
    int shared = one_memory(info, info->weight_heap, info->host_heap);
    return plus(placement_bytes(&s->device_memory), shared ? placement_bytes(&s->host_memory) : 0);
}

/* The heap that the host reads often, where it is not a part of the one for weights. */
static quern_status check_host_memory(const quern_session *s, quern_error *error)
{
    const qp_device_info *info = quern_device_info(s->model->device);
    uint64_t need = placement_bytes(&s->host_memory), available = 0;
    if (one_memory(info, info->weight_heap, info->host_heap))
        return QP_OK;
    quern_status status = heap_available(s->model->device, info->host_heap, &available, error);
    if (status != QP_OK || need <= available)
        return status;
    return quern_fail(error, QP_ERR_OUT_OF_MEMORY,
                      "a session needs %s of the memory that device %s shares with the host (heap %u), which has %s left: close "
                      "other programs, or use a smaller --chunk",
                      bytes_words(need).text, quern_device_id(s->model->device), info->host_heap, bytes_words(available).text);
}

/* ---- making it ---- */

static void set_region(region *r, const placement *p, place at)
{
    r->buffer = p->buffers[at.block];
    r->offset = at.offset;
}

static void bind_memory(quern_session *s, const session_plan *at)
{
    kv_cache_bind(&s->kv, &s->device_memory);
    recurrent_bind(&s->state, &s->device_memory);
    set_region(&s->memory.arena, &s->device_memory, at->arena);
    set_region(&s->memory.scratch, &s->device_memory, at->scratch);
    set_region(&s->memory.logits, &s->device_memory, at->logits);
    set_region(&s->memory.step, &s->device_memory, at->step);
    set_region(&s->memory.sampled, &s->host_memory, at->sampled);
}

/* Gives back what belongs to one size of context, so that another one can be tried. */
static void release(quern_session *s)
{
    program_destroy(&s->decode);
    program_destroy(&s->prefill);
    placement_free(&s->device_memory);
    placement_free(&s->host_memory);
}

static quern_status try_context(quern_session *s, uint32_t cells, uint32_t chunk, uint64_t available, quern_error *error)
{
    session_plan at;
    quern_status status = measure(s, cells, chunk, error);
    if (status == QP_OK) /* before the plan, so that what is far too large is said to be so */
        status = check_memory(s, plus(s->kv_bytes, other_bytes(s)), available, error);
    if (status == QP_OK)
        status = plan(s, &at, error);
    if (status == QP_OK)
        status = check_memory(s, planned_bytes(s), available, error);
    if (status == QP_OK)
        status = check_host_memory(s, error);
    if (status == QP_OK)
        status = placement_allocate(&s->device_memory, s->model->device, error);
    if (status == QP_OK)
        status = placement_allocate(&s->host_memory, s->model->device, error);
    if (status != QP_OK)
        return status;
    bind_memory(s, &at);
    status = program_make(&s->decode, s->model, &s->memory, error);
    if (status == QP_OK && s->prefill.rows)
        status = program_make(&s->prefill, s->model, &s->memory, error);
    return status;
}

/* The next smaller context to try after `cells` did not fit: what the numbers say, else half. */
static uint32_t smaller_context(const quern_session *s, uint32_t cells, uint64_t available)
{
    uint64_t each = s->kv_bytes / cells, rest = plus(other_bytes(s), plus(s->decode.device_bytes, s->prefill.device_bytes));
    rest = plus(rest, (2 * (uint64_t)s->kv.layers + 8) * s->device_memory.alignment); /* at most, between tensors */
    uint64_t fits = available > rest && each ? (available - rest) / each : 0;
    fits = fits > 256 ? fits / 256 * 256 : fits;
    return fits && fits < cells ? (uint32_t)fits : cells / 2;
}

/* The context that a session gets when nobody chose one. */
static uint32_t default_context(const quern_model *model)
{
    uint32_t whole = model->hp.context, original = model_default_context(model);
    if (original >= whole)
        return whole;
    quern_log(QUERN_LOG_INFO,
              "context of %u tokens, which the model's rope was made for; longer ones (--ctx, up to %u) change its numbers",
              original, whole);
    return original;
}

static quern_status make_in_memory(quern_session *s, uint32_t context, uint32_t chunk, quern_error *error)
{
    const qp_device_info *info = quern_device_info(s->model->device);
    uint32_t wanted = context ? context : default_context(s->model), cells = wanted;
    uint64_t available = 0;
    quern_status status = heap_available(s->model->device, info->weight_heap, &available, error);
    if (status != QP_OK)
        return status;
    if (!context)
        available -= available / SPARE_SHARE;
    for (;;) {
        quern_error why = {0};
        status = try_context(s, cells, chunk, available, &why);
        if (status == QP_OK)
            break;
        uint32_t next = smaller_context(s, cells, available);
        release(s);
        if (context || status != QP_ERR_OUT_OF_MEMORY || next < LEAST_AUTO_CONTEXT) {
            if (error)
                *error = why;
            return status;
        }
        cells = next;
    }
    if (cells < wanted)
        quern_log(QUERN_LOG_INFO,
                  "context lowered from the model's %u to %u tokens: more does not fit into the %s that device %s has left", wanted,
                  cells, bytes_words(available).text, quern_device_id(s->model->device));
    else if (cells > s->model->hp.context)
        quern_log(QUERN_LOG_WARN,
                  "a context of %u tokens is more than the %u that the model was made for: expect worse text beyond them", cells,
                  s->model->hp.context);
    return QP_OK;
}

/* Finds out how the host reads results, and gets what host memory the session needs. */
static quern_status prepare_host(quern_session *s, quern_error *error)
{
    const qp_device_info *info = quern_device_info(s->model->device);
    uint32_t quick = QP_HEAP_HOST_VISIBLE | QP_HEAP_HOST_CACHED;
    void *address = NULL;
    s->step = calloc(1, s->memory.step.bytes);
    s->tokens = malloc(s->cells * sizeof *s->tokens);
    if ((info->heaps[info->weight_heap].flags & quick) == quick &&
        quern_buffer_map(s->memory.logits.buffer, &address, NULL) == QP_OK)
        s->logits_map = (const float *)(const void *)((const char *)address + s->memory.logits.offset);
    else
        s->logits_copy = malloc(s->memory.logits.bytes);
    if ((info->heaps[info->host_heap].flags & quick) == quick &&
        quern_buffer_map(s->memory.sampled.buffer, &address, NULL) == QP_OK)
        s->sampled_map = (const int32_t *)(const void *)((const char *)address + s->memory.sampled.offset);
    if (!s->step || !s->tokens || (!s->logits_map && !s->logits_copy))
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a session's step block, tokens and logits");
    return quern_timeline_create(s->model->device, 0, &s->timeline, error);
}

quern_status session_wishes_read(session_wishes *wishes, const quern_session_options *options, quern_error *error)
{
    *wishes = (session_wishes){.context = options->context,
                               .chunk = options->chunk ? options->chunk : DEFAULT_CHUNK,
                               .k = options->kv_set ? options->kv_k : QP_FORMAT_F16,
                               .v = options->kv_set ? options->kv_v : QP_FORMAT_F16};
    if (options->context > INT32_MAX)
        return quern_fail(error, QP_ERR_INVALID, "a context of %u tokens is more than the %d that positions can count",
                          options->context, INT32_MAX);
    return QP_OK;
}

static quern_status make(quern_session *s, const quern_session_options *options, quern_error *error)
{
    session_wishes wishes;
    quern_status status = session_wishes_read(&wishes, options, error);
    if (status == QP_OK)
        status = kv_cache_init(&s->kv, &s->model->hp, wishes.k, wishes.v, error);
    if (status == QP_OK)
        status = recurrent_init(&s->state, &s->model->hp, &s->state_bytes, error);
    if (status == QP_OK)
        status = make_in_memory(s, wishes.context, wishes.chunk, error);
    return status == QP_OK ? prepare_host(s, error) : status;
}

quern_status quern_session_create(quern_model *model, const quern_session_options *options, quern_session **out, quern_error *error)
{
    if (!model || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_session_create: model and out must not be NULL");
    quern_session_options known;
    options_copy(&known, sizeof known, options);
    const uint32_t flags = QUERN_SESSION_ALL_LOGITS | QUERN_SESSION_FLOAT;
    if (known.flags & ~flags)
        return quern_fail(error, QP_ERR_INVALID, "quern_session_create: flags 0x%x are not known; 0x%x are", known.flags, flags);
    quern_session *s = calloc(1, sizeof *s);
    if (!s)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a session");
    s->model = model;
    s->flags = known.flags;
    quern_status status = make(s, &known, error);
    if (status != QP_OK) {
        quern_session_destroy(s);
        return status;
    }
    *out = s;
    return QP_OK;
}

void quern_session_destroy(quern_session *session)
{
    if (!session)
        return;
    release(session);
    quern_timeline_destroy(session->timeline);
    kv_cache_free(&session->kv);
    recurrent_free(&session->state);
    free(session->step);
    free(session->tokens);
    free(session->logits_copy);
    free(session);
}

void quern_session_get_info(const quern_session *session, quern_session_info *info)
{
    if (!session || !info)
        return;
    const program_memory *memory = &session->memory;
    quern_session_info full = {
        .struct_size = sizeof full,
        .context = session->cells,
        .chunk = session->chunk,
        .kv_bytes = session->kv_bytes,
        .scratch_bytes = memory->scratch.bytes,
        .step_bytes = memory->step.bytes,
        .logits_bytes = memory->logits.bytes,
        .state_bytes = session->state_bytes,
    };
    /* with the padding between tensors and the few bytes for tokens, so that the sum is what was allocated */
    full.arena_bytes = placement_bytes(&session->device_memory) + placement_bytes(&session->host_memory) - full.kv_bytes -
                       full.scratch_bytes - full.logits_bytes - full.step_bytes - full.state_bytes;
    info_copy(info, &full, sizeof full);
}
