/* SPDX-License-Identifier: MIT
 * engine/quantize.c: writes a model's weights in other formats, as a recipe has it. The device converts (QP_OP_COPY), a few
 * megabytes of rows at a time: one buffer of rows as they are on disk, one as they will be, one program for each shape, replayed
 * for each portion with the number of rows in its step block. Rows that are quantised already become floats between the two, which
 * the host looks at as it does at floats from the file. */
#include "engine/gguf_write.h"
#include "engine/recipes.h"
#include <quern/log.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* Bytes of rows, as floats, that are under way at a time; a longer row is its own portion. */
#define PORTION ((uint64_t)8 << 20)

/* A shape of conversion, kept while tensors of the same one follow. */
typedef struct conversion {
    int64_t row; /* elements */
    qp_format from, to;
    int64_t rows;                  /* of a portion, at most */
    uint64_t from_bytes, to_bytes; /* of a row */
    int again;                     /* through floats that the host looks at */
    quern_program *program;
    quern_buffer *in, *floats, *out, *scratch;
} conversion;

typedef struct quantizer {
    quern_device *device;
    const quern_gguf *in;
    const quern_quantize_options *options;
    quern_quantize_info info;
    int mixture;                  /* the model has experts */
    const quern_gguf_tensor *odd; /* the first whose rows are not whole blocks */
    gguf_writer *writer;
    qp_format *formats; /* one for each tensor */
    unsigned char *host_in, *host_out, *host_floats;
    uint64_t host_in_size, host_out_size, host_floats_size;
    quern_buffer *step;
    quern_timeline *timeline;
    uint64_t runs;
    conversion c;
    uint64_t done;
    quern_error *error;
} quantizer;

/* ---- which tensor gets which format ------------------------------------------------------------------------------- */

static int is_float(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16;
}

static int fits(const quern_gguf_tensor *t, qp_format format)
{
    return t->ne[0] % quern_format_get(format)->block_elements == 0;
}

static const quern_tensor_rule *find_rule(const quantizer *q, const quern_gguf_tensor *t)
{
    const quern_tensor_rule *found = NULL;
    for (uint32_t i = 0; i < q->options->rule_count; i++)
        if (t->dims >= 2 && recipe_rule_matches(q->options->rules[i].pattern, t->name.data))
            found = &q->options->rules[i];
    return found;
}

static quern_status choose(quantizer *q, const recipe_model *model, const quern_gguf_tensor *t, qp_format *format)
{
    const quern_tensor_rule *rule = find_rule(q, t);
    *format = rule ? rule->format : recipe_takes(t) ? recipe_choice(model, t) : t->format;
    if (fits(t, *format))
        return QP_OK;
    const quern_format_info *wanted = quern_format_get(*format);
    if (rule)
        return quern_fail(q->error, QP_ERR_INVALID,
                          "%.200s: tensor '%s' cannot be %s, as the rule '%s' has it: its rows of %" PRId64
                          " are not whole blocks of %u",
                          q->in->path, t->name.data, wanted->name, rule->pattern, t->ne[0], wanted->block_elements);
    q->odd = q->odd ? q->odd : t;
    q->info.fallback++;
    *format = quern_recipe_fallback(*format);
    if (!fits(t, *format))
        *format = is_float(t->format) ? QP_FORMAT_F16 : t->format;
    return QP_OK;
}

/* A rule that matches nothing is a mistake that would not show. */
static quern_status check_rules(const quantizer *q)
{
    for (uint32_t r = 0; r < q->options->rule_count; r++) {
        const quern_tensor_rule *rule = &q->options->rules[r];
        int matches = 0;
        if (!rule->pattern || !quern_format_get(rule->format))
            return quern_fail(q->error, QP_ERR_INVALID, "a rule for tensors has no pattern or no format");
        for (uint64_t i = 0; !matches && i < q->in->tensor_count; i++)
            matches = q->in->tensors[i].dims >= 2 && recipe_rule_matches(rule->pattern, q->in->tensors[i].name.data);
        if (!matches)
            return quern_fail(q->error, QP_ERR_INVALID, "%.200s: the rule '%.100s' matches no matrix of the model", q->in->path,
                              rule->pattern);
    }
    return QP_OK;
}

static void count_tensor(quantizer *q, const quern_gguf_tensor *t, qp_format format, uint64_t bytes)
{
    uint64_t elements = (uint64_t)(t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]);
    q->info.tensors++;
    q->info.elements += elements;
    q->info.input_bytes += t->bytes;
    q->info.output_bytes += bytes;
    q->info.again += format != t->format && !is_float(t->format);
    q->info.formats[format].tensors++;
    q->info.formats[format].elements += elements;
    q->info.formats[format].bytes += bytes;
}

static quern_status plan_tensors(quantizer *q)
{
    recipe_model model = recipe_model_of(q->in, q->options->recipe);
    q->mixture = model.mixture;
    quern_status status = check_rules(q);
    for (uint64_t i = 0; status == QP_OK && i < q->in->tensor_count; i++) {
        const quern_gguf_tensor *t = &q->in->tensors[i];
        uint64_t bytes = 0;
        status = choose(q, &model, t, &q->formats[i]);
        if (status == QP_OK && !quern_format_bytes(q->formats[i], t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3], &bytes))
            status = quern_fail(q->error, QP_ERR_FORMAT, "%.200s: tensor '%s' is too large to convert", q->in->path, t->name.data);
        if (status != QP_OK)
            return status;
        if (q->writer)
            gguf_writer_tensor(q->writer, t, q->formats[i], bytes);
        count_tensor(q, t, q->formats[i], bytes);
        if (q->options->tensor)
            q->options->tensor(q->options->tensor_ctx, t, q->formats[i]);
    }
    return status;
}

/* When all went well: an error is to stand alone. A line for all tensors of a kind. */
static void warn(const quantizer *q)
{
    const quern_recipe *recipe = q->options->recipe;
    qp_format experts = recipe->roles[QUERN_ROLE_EXPERTS].usual, other = recipe->roles[QUERN_ROLE_OTHER].usual;
    if (!q->mixture && experts != other)
        quern_log(QUERN_LOG_WARN, "the model has no experts, and %s is a choice for those: its matrices are %s", recipe->name,
                  quern_format_get(other)->name);
    if (q->odd)
        quern_log(QUERN_LOG_WARN,
                  "%" PRIu64
                  " tensors have rows that are not whole blocks of the format meant for them, such as '%s' with rows of %" PRId64
                  ": they were written in formats of smaller blocks",
                  q->info.fallback, q->odd->name.data, q->odd->ne[0]);
    if (q->info.again)
        quern_log(QUERN_LOG_WARN,
                  "%" PRIu64
                  " tensors were quantised already: what they lost does not come back; a float model is the better input",
                  q->info.again);
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
    gguf_writer_u32(q->writer, "general.file_type", q->options->recipe->file_type);
    if (quantised)
        gguf_writer_u32(q->writer, "general.quantization_version", 2);
}

/* ---- converting --------------------------------------------------------------------------------------------------- */

static void drop_conversion(conversion *c)
{
    quern_program_destroy(c->program);
    quern_buffer_destroy(c->in);
    quern_buffer_destroy(c->floats);
    quern_buffer_destroy(c->out);
    quern_buffer_destroy(c->scratch);
    memset(c, 0, sizeof *c);
}

/* A buffer of the portion's rows in a format, and the tensor that it is. */
static quern_status make_rows(quantizer *q, qp_format format, quern_buffer **buffer, qp_tensor *tensor)
{
    uint64_t bytes = 0;
    (void)quern_format_bytes(format, q->c.row, &bytes); /* make_conversion has asked */
    quern_status status =
        quern_buffer_create(q->device, quern_device_info(q->device)->weight_heap, bytes * (uint64_t)q->c.rows, buffer, q->error);
    return status == QP_OK ? quern_buffer_tensor(*buffer, 0, format, q->c.row, 1, q->c.rows, 1, tensor, q->error) : status;
}

/* in → out, or in → floats → out. */
static quern_status make_ops(quantizer *q, qp_op ops[2], uint32_t *count)
{
    conversion *c = &q->c;
    qp_tensor in, out, floats, live;
    *count = c->again ? 2 : 1;
    quern_status status = make_rows(q, c->from, &c->in, &in);
    if (status == QP_OK)
        status = make_rows(q, c->to, &c->out, &out);
    if (status == QP_OK && c->again)
        status = make_rows(q, QP_FORMAT_F32, &c->floats, &floats);
    if (status == QP_OK)
        status = quern_buffer_tensor(q->step, 0, QP_FORMAT_I32, 1, 1, 1, 1, &live, q->error);
    if (status != QP_OK)
        return status;
    for (uint32_t i = 0; i < *count; i++) {
        ops[i] = (qp_op){.struct_size = sizeof *ops, .kind = QP_OP_COPY, .version = 1, .live = live};
        ops[i].p.copy.search = 1;
        ops[i].src[0] = i ? floats : in;
        ops[i].dst = i + 1 == *count ? out : floats;
    }
    return QP_OK;
}

static quern_status make_program(quantizer *q)
{
    conversion *c = &q->c;
    qp_op ops[2];
    qp_program_memory memory = {.struct_size = sizeof memory};
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof *ops, .ops = ops};
    quern_status status = make_ops(q, ops, &desc.op_count);
    desc.step = quern_buffer_range(q->step, 0, sizeof(int32_t));
    if (status == QP_OK)
        status = quern_program_measure(q->device, &desc, &memory, q->error);
    if (status == QP_OK && memory.scratch_bytes)
        status =
            quern_buffer_create(q->device, quern_device_info(q->device)->weight_heap, memory.scratch_bytes, &c->scratch, q->error);
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
    uint64_t from_bytes = 0, to_bytes = 0, floats = 0;
    if (!quern_format_bytes(t->format, t->ne[0], &from_bytes) || !quern_format_bytes(to, t->ne[0], &to_bytes) ||
        !quern_format_bytes(QP_FORMAT_F32, t->ne[0], &floats))
        return quern_fail(q->error, QP_ERR_FORMAT, "its rows are not whole blocks");
    int64_t portion = floats >= PORTION ? 1 : (int64_t)(PORTION / floats);
    portion = portion < rows ? portion : rows;
    int again = !is_float(t->format);
    if (!grow_host(&q->host_in, &q->host_in_size, from_bytes * (uint64_t)portion) ||
        !grow_host(&q->host_out, &q->host_out_size, to_bytes * (uint64_t)portion) ||
        (again && !grow_host(&q->host_floats, &q->host_floats_size, floats * (uint64_t)portion)))
        return quern_fail(q->error, QP_ERR_OUT_OF_MEMORY, "no memory for %" PRId64 " rows of %" PRIu64 " bytes", portion, floats);
    if (c->program && c->row == t->ne[0] && c->from == t->format && c->to == to && c->rows >= portion)
        return QP_OK;
    drop_conversion(c);
    *c = (conversion){.row = t->ne[0],
                      .from = t->format,
                      .to = to,
                      .rows = portion,
                      .from_bytes = from_bytes,
                      .to_bytes = to_bytes,
                      .again = again};
    return make_program(q);
}

/* ---- what cannot be written --------------------------------------------------------------------------------------- */

/* Bits of the largest magnitude among n numbers of a float format; bits of magnitudes are ordered as these are. */
static uint32_t largest_bits(qp_format format, const unsigned char *data, uint64_t n)
{
    uint32_t largest = 0;
    if (format == QP_FORMAT_F32) {
        for (uint64_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, data + i * 4, 4);
            bits &= 0x7fffffff;
            largest = bits > largest ? bits : largest;
        }
        return largest;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint16_t bits;
        memcpy(&bits, data + i * 2, 2);
        bits &= 0x7fff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* The largest finite number of a float format, or the largest up to 65504, in bits. */
static uint32_t limit_bits(qp_format format, int to_half)
{
    switch (format) {
    case QP_FORMAT_F32: return to_half ? 0x477fe000 : 0x7f7fffff;
    case QP_FORMAT_BF16: return to_half ? 0x477f : 0x7f7f;
    default: return 0x7bff;
    }
}

/* A NaN would spoil its whole block without a word, and so would a number that the block's scale, a half, cannot reach. */
static quern_status check_numbers(const quantizer *q, qp_format format, const unsigned char *data, uint64_t n, int64_t first_row)
{
    int to_half = q->c.to != QP_FORMAT_F32 && q->c.to != QP_FORMAT_BF16 && q->c.to != QP_FORMAT_MXFP4;
    uint32_t limit = limit_bits(format, to_half), size = format == QP_FORMAT_F32 ? 4 : 2;
    if (largest_bits(format, data, n) <= limit)
        return QP_OK;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t bits = largest_bits(format, data + i * size, 1);
        uint64_t column = i % (uint64_t)q->c.row;
        int64_t row = first_row + (int64_t)(i / (uint64_t)q->c.row);
        if (bits > limit_bits(format, 0))
            return quern_fail(q->error, QP_ERR_FORMAT,
                              "element %" PRIu64 " of row %" PRId64 " is not a finite number: the model is damaged", column, row);
        if (bits > limit)
            return quern_fail(q->error, QP_ERR_FORMAT,
                              "element %" PRIu64 " of row %" PRId64 " is beyond 65504, the most that %s can say; BF16 or F32 can",
                              column, row, quern_format_get(q->c.to)->name);
    }
    return QP_OK;
}

static quern_status report(quantizer *q, uint64_t bytes)
{
    const quern_quantize_options *o = q->options;
    q->done += bytes;
    if (o->progress && o->progress(o->progress_ctx, q->done, q->info.input_bytes))
        return quern_fail(q->error, QP_ERR_CANCELLED, "stopped after %" PRIu64 " of %" PRIu64 " bytes; nothing was written",
                          q->done, q->info.input_bytes);
    return QP_OK;
}

/* Rows [row, row + rows) of t. */
static quern_status convert_portion(quantizer *q, const quern_gguf_tensor *t, int64_t row, int64_t rows)
{
    conversion *c = &q->c;
    uint64_t in_size = c->from_bytes * (uint64_t)rows, out_size = c->to_bytes * (uint64_t)rows, n = (uint64_t)(rows * c->row);
    int32_t live = (int32_t)rows;
    quern_status status = gguf_fetch(q->in, t->offset + c->from_bytes * (uint64_t)row, q->host_in, in_size, q->error);
    if (status == QP_OK && !c->again)
        status = check_numbers(q, c->from, q->host_in, n, row);
    if (status == QP_OK)
        status = quern_buffer_write(c->in, 0, q->host_in, in_size, q->error);
    if (status == QP_OK)
        status = quern_program_run(c->program, &live, q->timeline, ++q->runs, q->error);
    if (status == QP_OK)
        status = quern_timeline_wait(q->timeline, q->runs, UINT64_MAX, q->error);
    if (status == QP_OK && c->again)
        status = quern_buffer_read(c->floats, 0, q->host_floats, n * sizeof(float), q->error);
    if (status == QP_OK && c->again)
        status = check_numbers(q, QP_FORMAT_F32, q->host_floats, n, row);
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
        op.p.copy.search = 1;
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

static quern_status plan(quantizer *q)
{
    q->formats = malloc((q->in->tensor_count + 1) * sizeof *q->formats);
    if (!q->formats)
        return quern_fail(q->error, QP_ERR_OUT_OF_MEMORY, "no memory to plan %" PRIu64 " tensors", q->in->tensor_count);
    quern_status status = plan_tensors(q);
    return status == QP_OK ? ask_device(q) : status;
}

static quern_status prepare(quantizer *q, const char *out_path)
{
    quern_status status = gguf_writer_create(out_path, q->in, &q->writer, q->error);
    if (status == QP_OK)
        status = plan(q);
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
    return status;
}

/* The caller's struct may be of an older version: what it does not have is zero. */
static quern_status read_options(const quern_quantize_options *given, quern_quantize_options *options, quern_error *error)
{
    memset(options, 0, sizeof *options);
    if (!given || given->struct_size < offsetof(quern_quantize_options, rules))
        return quern_fail(error, QP_ERR_INVALID, "no options to quantize by were given");
    memcpy(options, given, given->struct_size < sizeof *options ? given->struct_size : sizeof *options);
    if (options->flags & ~(uint32_t)QUERN_QUANTIZE_DRY_RUN)
        return quern_fail(error, QP_ERR_INVALID, "flags 0x%x of quantize are not known", options->flags);
    if (!options->recipe || (options->rule_count && !options->rules))
        return quern_fail(error, QP_ERR_INVALID, "no recipe to quantize by, or no rules, were given");
    return QP_OK;
}

quern_status quern_quantize(quern_device *device, const quern_gguf *in, const char *out_path, const quern_quantize_options *given,
                            quern_quantize_info *info, quern_error *error)
{
    quern_quantize_options options;
    if (!device || !in)
        return quern_fail(error, QP_ERR_INVALID, "no device or model to quantize was given");
    quern_status status = read_options(given, &options, error);
    if (status != QP_OK)
        return status;
    quantizer q = {.device = device, .in = in, .options = &options, .error = error};
    int dry = (options.flags & QUERN_QUANTIZE_DRY_RUN) != 0;
    status = dry ? plan(&q) : prepare(&q, out_path);
    if (status == QP_OK && !dry)
        status = convert_all(&q);
    if (status == QP_OK)
        warn(&q);
    drop_conversion(&q.c);
    quern_timeline_destroy(q.timeline);
    quern_buffer_destroy(q.step);
    gguf_writer_destroy(q.writer);
    free(q.formats);
    free(q.host_in);
    free(q.host_out);
    free(q.host_floats);
    if (status == QP_OK && info && info->struct_size > sizeof info->struct_size) {
        uint32_t size = info->struct_size < sizeof *info ? info->struct_size : (uint32_t)sizeof *info;
        q.info.struct_size = info->struct_size;
        memcpy(info, &q.info, size);
    }
    return status;
}
