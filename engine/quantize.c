/* SPDX-License-Identifier: MIT
 * engine/quantize.c: writes a model's weights in another format. The device converts (QP_OP_COPY), a few megabytes of rows at a
 * time: one buffer of rows as they are on disk, one as they will be, one program for each shape, replayed for each portion with
 * the number of rows in its step block. */
#include "engine/gguf_write.h"
#include <quern/log.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* Bytes of rows on each side that are under way at a time; a longer row is its own portion. */
#define PORTION ((uint64_t)8 << 20)

/* What general.file_type says of a file of mostly this format. */
static const struct target {
    qp_format format;
    uint32_t file_type;
    qp_format output; /* for the output matrix, or the embeddings where they serve as that */
} targets[] = {
    {QP_FORMAT_F32, 0, QP_FORMAT_F32},   {QP_FORMAT_F16, 1, QP_FORMAT_F16},   {QP_FORMAT_BF16, 32, QP_FORMAT_BF16},
    {QP_FORMAT_Q8_0, 7, QP_FORMAT_Q8_0}, {QP_FORMAT_Q4_0, 2, QP_FORMAT_Q8_0},
};

/* Matrices that are small and decide much: they stay as they are. */
static const char *const kept[] = {"_norm.weight",      "ffn_gate_inp.weight",  "ffn_gate_inp_shexp.weight",
                                   "ssm_conv1d.weight", "position_embd.weight", "token_types.weight"};

/* A shape of conversion, kept while tensors of the same one follow. */
typedef struct conversion {
    int64_t row; /* elements */
    qp_format from, to;
    int64_t rows;                  /* of a portion, at most */
    uint64_t from_bytes, to_bytes; /* of a row */
    quern_program *program;
    quern_buffer *in, *out, *scratch;
} conversion;

typedef struct quantizer {
    quern_device *device;
    const quern_gguf *in;
    const struct target *target;
    gguf_writer *writer;
    qp_format *formats; /* one for each tensor */
    unsigned char *host_in, *host_out;
    uint64_t host_in_size, host_out_size;
    quern_buffer *step;
    quern_timeline *timeline;
    uint64_t runs;
    conversion c;
    quern_progress progress;
    void *progress_ctx;
    uint64_t done, total;
    quern_error *error;
} quantizer;

/* ---- which tensor gets which format ------------------------------------------------------------------------------- */

static int ends_with(const quern_gguf_tensor *t, const char *end)
{
    size_t size = strlen(end);
    return t->name.size >= size && !memcmp(t->name.data + t->name.size - size, end, size);
}

static int is_float(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16;
}

static int is_weight(const quern_gguf_tensor *t)
{
    const quern_format_info *info = quern_format_get(t->format);
    if (t->dims < 2 || !ends_with(t, ".weight") || !(is_float(t->format) || info->quantised))
        return 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (ends_with(t, kept[i]))
            return 0;
    return 1;
}

static qp_format choose(const quantizer *q, const quern_gguf_tensor *t)
{
    if (!is_weight(t))
        return t->format;
    int tied = !quern_gguf_tensor_find(q->in, "output.weight");
    int output = !strcmp(t->name.data, tied ? "token_embd.weight" : "output.weight");
    qp_format format = output ? q->target->output : q->target->format;
    const quern_format_info *info = quern_format_get(format);
    if (t->ne[0] % info->block_elements == 0)
        return format;
    return is_float(t->format) ? QP_FORMAT_F16 : t->format;
}

static quern_status plan_tensors(quantizer *q)
{
    for (uint64_t i = 0; i < q->in->tensor_count; i++) {
        const quern_gguf_tensor *t = &q->in->tensors[i];
        uint64_t bytes = 0;
        q->formats[i] = choose(q, t);
        if (!quern_format_bytes(q->formats[i], t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3], &bytes))
            return quern_fail(q->error, QP_ERR_FORMAT, "%.200s: tensor '%s' is too large to convert", q->in->path, t->name.data);
        gguf_writer_tensor(q->writer, t, q->formats[i], bytes);
        q->total += t->bytes;
    }
    return QP_OK;
}

/* When all went well: an error is to stand alone. A line for all tensors of a kind. */
static void warn(const quantizer *q)
{
    const quern_gguf_tensor *odd = NULL;
    const quern_format_info *wanted = quern_format_get(q->target->format);
    uint64_t again = 0, odd_count = 0;
    for (uint64_t i = 0; i < q->in->tensor_count; i++) {
        const quern_gguf_tensor *t = &q->in->tensors[i];
        again += q->formats[i] != t->format && !is_float(t->format);
        if (is_weight(t) && t->ne[0] % wanted->block_elements) {
            odd = odd ? odd : t;
            odd_count++;
        }
    }
    if (odd)
        quern_log(QUERN_LOG_WARN,
                  "%" PRIu64 " tensors have rows that are not whole %s blocks of %u elements, such as '%s' with rows of %" PRId64
                  ": these became F16, or stayed as they were where they were quantised already",
                  odd_count, wanted->name, wanted->block_elements, odd->name.data, odd->ne[0]);
    if (again)
        quern_log(QUERN_LOG_WARN,
                  "%" PRIu64
                  " tensors were quantised already: what they lost does not come back; a float model is the better input",
                  again);
}

static void plan_metadata(quantizer *q)
{
    int quantised = 0;
    for (uint64_t i = 0; i < q->in->tensor_count; i++)
        quantised |= quern_format_get(q->formats[i])->quantised;
    for (uint64_t i = 0; i < q->in->kv_count; i++) {
        const quern_gguf_kv *kv = &q->in->kvs[i];
        if (strcmp(kv->key.data, "general.file_type") && strcmp(kv->key.data, "general.quantization_version"))
            gguf_writer_copy_kv(q->writer, q->in, kv);
    }
    gguf_writer_u32(q->writer, "general.file_type", q->target->file_type);
    if (quantised)
        gguf_writer_u32(q->writer, "general.quantization_version", 2);
}

/* ---- converting --------------------------------------------------------------------------------------------------- */

static void drop_conversion(conversion *c)
{
    quern_program_destroy(c->program);
    quern_buffer_destroy(c->in);
    quern_buffer_destroy(c->out);
    quern_buffer_destroy(c->scratch);
    memset(c, 0, sizeof *c);
}

static quern_status make_program(quantizer *q)
{
    conversion *c = &q->c;
    uint32_t heap = quern_device_info(q->device)->weight_heap;
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_COPY, .version = 1};
    quern_status status = quern_buffer_create(q->device, heap, c->from_bytes * (uint64_t)c->rows, &c->in, q->error);
    if (status == QP_OK)
        status = quern_buffer_create(q->device, heap, c->to_bytes * (uint64_t)c->rows, &c->out, q->error);
    if (status == QP_OK)
        status = quern_buffer_tensor(c->in, 0, c->from, c->row, 1, c->rows, 1, &op.src[0], q->error);
    if (status == QP_OK)
        status = quern_buffer_tensor(c->out, 0, c->to, c->row, 1, c->rows, 1, &op.dst, q->error);
    if (status == QP_OK)
        status = quern_buffer_tensor(q->step, 0, QP_FORMAT_I32, 1, 1, 1, 1, &op.live, q->error);
    qp_program_memory memory = {.struct_size = sizeof memory};
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof op, .ops = &op, .op_count = 1};
    desc.step = quern_buffer_range(q->step, 0, sizeof(int32_t));
    if (status == QP_OK)
        status = quern_program_measure(q->device, &desc, &memory, q->error);
    if (status == QP_OK && memory.scratch_bytes)
        status = quern_buffer_create(q->device, heap, memory.scratch_bytes, &c->scratch, q->error);
    if (status == QP_OK && memory.scratch_bytes)
        desc.scratch = quern_buffer_range(c->scratch, 0, memory.scratch_bytes);
    return status == QP_OK ? quern_program_create(q->device, &desc, &c->program, q->error) : status;
}

static int grow_host(unsigned char **memory, uint64_t *size, uint64_t want)
{
    if (*size >= want)
        return 1;
    free(*memory);
    *memory = malloc(want);
    *size = *memory ? want : 0;
    return *memory != NULL;
}

/* Prepares for tensors like t. */
static quern_status make_conversion(quantizer *q, const quern_gguf_tensor *t, qp_format to)
{
    conversion *c = &q->c;
    int64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
    uint64_t from_bytes = 0, to_bytes = 0;
    if (!quern_format_bytes(t->format, t->ne[0], &from_bytes) || !quern_format_bytes(to, t->ne[0], &to_bytes))
        return quern_fail(q->error, QP_ERR_FORMAT, "its rows are not whole blocks");
    uint64_t longest = from_bytes > to_bytes ? from_bytes : to_bytes;
    int64_t portion = longest >= PORTION ? 1 : (int64_t)(PORTION / longest);
    portion = portion < rows ? portion : rows;
    if (!grow_host(&q->host_in, &q->host_in_size, from_bytes * (uint64_t)portion) ||
        !grow_host(&q->host_out, &q->host_out_size, to_bytes * (uint64_t)portion))
        return quern_fail(q->error, QP_ERR_OUT_OF_MEMORY, "no memory for %" PRId64 " rows of %" PRIu64 " bytes", portion, longest);
    if (c->program && c->row == t->ne[0] && c->from == t->format && c->to == to && c->rows >= portion)
        return QP_OK;
    drop_conversion(c);
    *c =
        (conversion){.row = t->ne[0], .from = t->format, .to = to, .rows = portion, .from_bytes = from_bytes, .to_bytes = to_bytes};
    return make_program(q);
}

static int finite_number(const unsigned char *at, qp_format format)
{
    uint32_t word = 0;
    memcpy(&word, at, format == QP_FORMAT_F32 ? 4 : 2);
    if (format == QP_FORMAT_F32)
        return (word & 0x7f800000) != 0x7f800000;
    return format == QP_FORMAT_F16 ? (word & 0x7c00) != 0x7c00 : (word & 0x7f80) != 0x7f80;
}

/* A NaN would spoil its whole block without a word. */
static quern_status check_finite(const quantizer *q, qp_format format, const unsigned char *data, uint64_t size, int64_t first_row)
{
    uint64_t step = format == QP_FORMAT_F32 ? 4 : 2;
    if (!is_float(format))
        return QP_OK;
    for (uint64_t i = 0; i < size; i += step)
        if (!finite_number(data + i, format))
            return quern_fail(q->error, QP_ERR_FORMAT,
                              "element %" PRIu64 " of row %" PRId64 " is not a finite number: the model is damaged",
                              i / step % (uint64_t)q->c.row, first_row + (int64_t)(i / step / (uint64_t)q->c.row));
    return QP_OK;
}

static quern_status report(quantizer *q, uint64_t bytes)
{
    q->done += bytes;
    if (q->progress && q->progress(q->progress_ctx, q->done, q->total))
        return quern_fail(q->error, QP_ERR_CANCELLED, "stopped after %" PRIu64 " of %" PRIu64 " bytes; nothing was written",
                          q->done, q->total);
    return QP_OK;
}

/* Rows [row, row + rows) of t. */
static quern_status convert_portion(quantizer *q, const quern_gguf_tensor *t, int64_t row, int64_t rows)
{
    conversion *c = &q->c;
    uint64_t in_size = c->from_bytes * (uint64_t)rows, out_size = c->to_bytes * (uint64_t)rows;
    int32_t live = (int32_t)rows;
    quern_status status = gguf_fetch(q->in, t->offset + c->from_bytes * (uint64_t)row, q->host_in, in_size, q->error);
    if (status == QP_OK)
        status = check_finite(q, c->from, q->host_in, in_size, row);
    if (status == QP_OK)
        status = quern_buffer_write(c->in, 0, q->host_in, in_size, q->error);
    if (status == QP_OK)
        status = quern_program_run(c->program, &live, q->timeline, ++q->runs, q->error);
    if (status == QP_OK)
        status = quern_timeline_wait(q->timeline, q->runs, UINT64_MAX, q->error);
    if (status == QP_OK)
        status = quern_buffer_read(c->out, 0, q->host_out, out_size, q->error);
    if (status == QP_OK)
        status = gguf_writer_data(q->writer, q->host_out, out_size, q->error);
    return status == QP_OK ? report(q, in_size) : status;
}

static quern_status convert_tensor(quantizer *q, const quern_gguf_tensor *t, qp_format to)
{
    int64_t rows = t->ne[1] * t->ne[2] * t->ne[3];
    quern_status status = make_conversion(q, t, to);
    for (int64_t row = 0; status == QP_OK && row < rows; row += q->c.rows)
        status = convert_portion(q, t, row, rows - row < q->c.rows ? rows - row : q->c.rows);
    return status;
}

static quern_status copy_tensor(quantizer *q, const quern_gguf_tensor *t)
{
    if (!grow_host(&q->host_in, &q->host_in_size, t->bytes < PORTION ? t->bytes : PORTION))
        return quern_fail(q->error, QP_ERR_OUT_OF_MEMORY, "no memory to copy %" PRIu64 " bytes", t->bytes);
    quern_status status = QP_OK;
    for (uint64_t at = 0; status == QP_OK && at < t->bytes;) {
        uint64_t step = t->bytes - at < PORTION ? t->bytes - at : PORTION;
        status = gguf_fetch(q->in, t->offset + at, q->host_in, step, q->error);
        if (status == QP_OK)
            status = gguf_writer_data(q->writer, q->host_in, step, q->error);
        if (status == QP_OK)
            status = report(q, step);
        at += step;
    }
    return status;
}

/* ---- all of it ---------------------------------------------------------------------------------------------------- */

/* What the device cannot convert is better known before the first byte is written. */
static quern_status ask_device(quantizer *q)
{
    for (uint64_t i = 0; i < q->in->tensor_count; i++) {
        const quern_gguf_tensor *t = &q->in->tensors[i];
        qp_op op = {.struct_size = sizeof op, .kind = QP_OP_COPY, .version = 1};
        if (q->formats[i] == t->format)
            continue;
        quern_status status = quern_buffer_tensor(NULL, 0, t->format, t->ne[0], 1, 1, 1, &op.src[0], q->error);
        if (status == QP_OK)
            status = quern_buffer_tensor(NULL, 0, q->formats[i], t->ne[0], 1, 1, 1, &op.dst, q->error);
        if (status == QP_OK)
            status = quern_op_query(q->device, &op, NULL, q->error);
        if (status != QP_OK)
            return quern_fail_prefix(q->error, status, "%.200s: tensor '%s' cannot be converted from %s to %s: ", q->in->path,
                                     t->name.data, quern_format_get(t->format)->name, quern_format_get(q->formats[i])->name);
    }
    return QP_OK;
}

static quern_status prepare(quantizer *q, const char *out_path)
{
    quern_status status = gguf_writer_create(out_path, q->in, &q->writer, q->error);
    if (status != QP_OK)
        return status;
    q->formats = malloc((q->in->tensor_count + 1) * sizeof *q->formats);
    if (!q->formats)
        return quern_fail(q->error, QP_ERR_OUT_OF_MEMORY, "no memory to plan %" PRIu64 " tensors", q->in->tensor_count);
    status = plan_tensors(q);
    if (status == QP_OK)
        status = ask_device(q);
    if (status == QP_OK)
        status = quern_buffer_create(q->device, quern_device_info(q->device)->weight_heap, sizeof(int32_t), &q->step, q->error);
    if (status == QP_OK)
        status = quern_timeline_create(q->device, 0, &q->timeline, q->error);
    if (status != QP_OK)
        return status;
    plan_metadata(q);
    return gguf_writer_begin(q->writer, q->in->alignment, q->error);
}

static quern_status convert_all(quantizer *q)
{
    quern_status status = report(q, 0);
    for (uint64_t i = 0; status == QP_OK && i < q->in->tensor_count; i++) {
        const quern_gguf_tensor *t = &q->in->tensors[i];
        status = q->formats[i] == t->format ? copy_tensor(q, t) : convert_tensor(q, t, q->formats[i]);
        if (status != QP_OK && status != QP_ERR_CANCELLED)
            quern_fail_prefix(q->error, status, "%.200s: tensor '%s': ", q->in->path, t->name.data);
    }
    if (status == QP_OK)
        status = gguf_writer_finish(q->writer, q->error);
    if (status == QP_OK)
        warn(q);
    return status;
}

static const struct target *find_target(qp_format format)
{
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
        if (targets[i].format == format)
            return &targets[i];
    return NULL;
}

quern_status quern_quantize(quern_device *device, const quern_gguf *in, const char *out_path, qp_format format,
                            quern_progress progress, void *ctx, quern_error *error)
{
    if (!device || !in)
        return quern_fail(error, QP_ERR_INVALID, "no device or model to quantize was given");
    quantizer q = {
        .device = device, .in = in, .progress = progress, .progress_ctx = ctx, .error = error, .target = find_target(format)};
    if (!q.target) {
        const quern_format_info *info = quern_format_get(format);
        return quern_fail(error, QP_ERR_UNSUPPORTED,
                          "models cannot be written as %s (format %u); F32, F16, BF16, Q8_0 and Q4_0 are possible",
                          info ? info->name : "an unknown format", format);
    }
    quern_status status = prepare(&q, out_path);
    if (status == QP_OK)
        status = convert_all(&q);
    drop_conversion(&q.c);
    quern_timeline_destroy(q.timeline);
    quern_buffer_destroy(q.step);
    gguf_writer_destroy(q.writer);
    free(q.formats);
    free(q.host_in);
    free(q.host_out);
    return status;
}
