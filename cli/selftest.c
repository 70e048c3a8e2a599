/* SPDX-License-Identifier: MIT
 * cli/selftest.c: quern selftest: does a device compute what it should? Tensors, programs and the report; the ops are in
 * selftest_ops.c. */
#include "cli/commands.h"
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/selftest_math.h"
#include "cli/selftest_ops.h"

#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct selftest_args {
    cli_device_args device;
    uint64_t seed;
    int json;
    int kernels, compile, taken, code;
    const char *only;
} selftest_args;

enum { BUFFER_BYTES = 4 << 20, POOL_DOUBLES = 1 << 18 };

/* Room in the buffer; its offset, or 0 with the failure kept. */
static uint64_t reserve(st_bench *b, uint64_t bytes, uint64_t alignment)
{
    if (alignment < b->alignment)
        alignment = b->alignment;
    uint64_t offset = (b->used + alignment - 1) / alignment * alignment;
    if (b->status == QP_OK && (bytes > b->size || offset > b->size - bytes))
        b->status = quern_fail(&b->error, QP_ERR_OUT_OF_MEMORY, "the check needs more than %u bytes on the device", BUFFER_BYTES);
    if (b->status != QP_OK)
        return 0;
    b->used = offset + bytes;
    return offset;
}

static double *reserve_doubles(st_bench *b, int64_t count)
{
    if (b->status == QP_OK && (uint64_t)count > b->pool_size - b->pool_used)
        b->status = quern_fail(&b->error, QP_ERR_INTERNAL, "the check needs more than %zu numbers", b->pool_size);
    if (b->status != QP_OK)
        return NULL;
    double *x = b->pool + b->pool_used;
    b->pool_used += (size_t)count;
    memset(x, 0, (size_t)count * sizeof *x);
    return x;
}

/* A tensor of GGUF layout and its doubles, both without values. */
static st_value make(st_bench *b, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2, uint64_t *bytes)
{
    st_value value = {.count = ne0 * ne1 * ne2};
    *bytes = 0;
    if (b->status == QP_OK && !quern_format_bytes(format, value.count, bytes))
        b->status = quern_fail(&b->error, QP_ERR_INVALID, "%lld elements are not whole blocks", (long long)value.count);
    uint64_t offset = reserve(b, *bytes, 1);
    value.x = reserve_doubles(b, value.count);
    if (b->status == QP_OK)
        b->status = quern_buffer_tensor(b->buffer, offset, format, ne0, ne1, ne2, 1, &value.tensor, &b->error);
    return value;
}

static void fill_random(st_bench *b, st_value *value, double low, double high)
{
    for (int64_t i = 0; i < value->count; i++)
        value->x[i] = st_random(&b->random, low, high);
}

st_value st_make(st_bench *b, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2, double low, double high)
{
    uint64_t bytes;
    st_value value = make(b, format, ne0, ne1, ne2, &bytes);
    void *data = b->status == QP_OK ? malloc(bytes) : NULL;
    if (b->status == QP_OK && !data)
        b->status = quern_fail(&b->error, QP_ERR_OUT_OF_MEMORY, "no host memory");
    if (b->status == QP_OK) {
        fill_random(b, &value, low, high);
        st_encode(format, value.x, value.count, data);
        b->status = quern_buffer_write(b->buffer, value.tensor.offset, data, bytes, &b->error);
    }
    free(data);
    return value;
}

st_value st_make_weight(st_bench *b, qp_format format, uint32_t uses, int64_t ne0, int64_t ne1)
{
    uint64_t bytes;
    st_value value = make(b, format, ne0, ne1, 1, &bytes);
    qp_weight_desc desc = {.struct_size = sizeof desc, .format = format, .uses = uses, .ne = {ne0, ne1, 1, 1}};
    qp_weight_info info = {.struct_size = sizeof info};
    void *data = b->status == QP_OK ? malloc(bytes) : NULL;
    if (b->status == QP_OK && !data)
        b->status = quern_fail(&b->error, QP_ERR_OUT_OF_MEMORY, "no host memory");
    if (b->status == QP_OK)
        b->status = quern_weight_layout(b->device, &desc, &info, &b->error);
    uint64_t offset = reserve(b, info.bytes, info.alignment);
    if (b->status == QP_OK) {
        fill_random(b, &value, -1, 1);
        st_encode(format, value.x, value.count, data);
        b->status = quern_weight_pack(b->device, &desc, data, bytes, 0, ne1, b->buffer, offset, &b->error);
    }
    value.tensor.offset = offset;
    value.tensor.layout = info.layout;
    free(data);
    return value;
}

st_value st_make_ints(st_bench *b, const int32_t *values, int64_t count)
{
    uint64_t bytes;
    st_value value = make(b, QP_FORMAT_I32, count, 1, 1, &bytes);
    if (b->status == QP_OK)
        b->status = quern_buffer_write(b->buffer, value.tensor.offset, values, bytes, &b->error);
    return value;
}

st_value st_make_result(st_bench *b, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2)
{
    uint64_t bytes;
    st_value value = make(b, format, ne0, ne1, ne2, &bytes);
    void *data = b->status == QP_OK ? malloc(bytes) : NULL;
    if (data) {
        memset(data, 0x7b, bytes); /* as F32 about 1e36 */
        b->status = quern_buffer_write(b->buffer, value.tensor.offset, data, bytes, &b->error);
    }
    free(data);
    return value;
}

/* NMSE of what lies at the tensor; of I32 the count of wrong numbers. */
static void compare(st_bench *b, const st_value *expected)
{
    uint64_t bytes = 0;
    qp_format format = expected->tensor.format;
    quern_format_bytes(format, expected->count, &bytes);
    unsigned char *data = malloc(bytes);
    double *got = malloc((size_t)expected->count * sizeof *got), error = 0, square = 0;
    if (!data || !got)
        b->status = quern_fail(&b->error, QP_ERR_OUT_OF_MEMORY, "no host memory");
    else
        b->status = quern_buffer_read(b->buffer, expected->tensor.offset, data, bytes, &b->error);
    if (b->status == QP_OK && format != QP_FORMAT_I32)
        st_decode(format, data, expected->count, got);
    for (int64_t i = 0; b->status == QP_OK && i < expected->count; i++) {
        int32_t whole;
        memcpy(&whole, data + 4 * i * (format == QP_FORMAT_I32), 4);
        double difference = (format == QP_FORMAT_I32 ? (double)whole : got[i]) - expected->x[i];
        error += difference * difference;
        square += expected->x[i] * expected->x[i];
    }
    b->nmse = square > 0 ? error / square : error;
    free(data);
    free(got);
}

void st_run(st_bench *b, qp_op *op, const st_value *expected)
{
    quern_program *program = NULL;
    qp_program_memory memory = {.struct_size = sizeof memory};
    op->dst = expected->tensor;
    b->info = (qp_op_info){.struct_size = sizeof b->info};
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof *op, .ops = op, .op_count = 1};
    b->status = quern_op_query(b->device, op, &b->info, &b->error);
    if (b->status == QP_OK)
        b->status = quern_program_measure(b->device, &desc, &memory, &b->error);
    uint64_t scratch = reserve(b, memory.scratch_bytes, memory.scratch_alignment);
    desc.scratch = quern_buffer_range(b->buffer, scratch, memory.scratch_bytes);
    if (b->status == QP_OK)
        b->status = quern_program_create(b->device, &desc, &program, &b->error);
    if (b->status == QP_OK)
        b->status = quern_program_run(program, NULL, b->timeline, ++b->value, &b->error);
    if (b->status == QP_OK)
        b->status = quern_timeline_wait(b->timeline, b->value, 60000000000u, &b->error);
    if (b->status == QP_TIMEOUT)
        b->status = quern_fail(&b->error, QP_ERR_DRIVER, "did not end within a minute");
    if (b->status == QP_OK)
        compare(b, expected);
    quern_program_destroy(program);
}

typedef enum outcome { RIGHT, WRONG, REFUSED } outcome;

static outcome run_check(st_bench *b, const st_check *check)
{
    b->used = 0;
    b->pool_used = 0;
    b->status = QP_OK;
    b->error = (quern_error){0};
    b->nmse = HUGE_VAL;
    b->info = (qp_op_info){0};
    check->run(b, check->argument);
    if (b->status == QP_ERR_UNSUPPORTED)
        return REFUSED;
    return b->status == QP_OK && b->nmse <= check->limit ? RIGHT : WRONG; /* a NaN is wrong */
}

static void report(const st_bench *b, const st_check *check, outcome result, json_object *list)
{
    static const char *const words[] = {"ok", "not ok", "refused"};
    if (list) {
        json_object *object = json_object_new_object();
        json_object_object_add(object, "check", json_object_new_string(check->name));
        json_object_object_add(object, "result", json_object_new_string(words[result]));
        json_object_object_add(object, "kernel", b->info.kernel[0] ? cli_json_text(b->info.kernel, strlen(b->info.kernel)) : NULL);
        json_object_object_add(object, "nmse", cli_json_real(b->nmse));
        json_object_object_add(object, "limit", cli_json_real(check->limit));
        json_object_object_add(object, "reason", b->status != QP_OK ? cli_json_text(b->error.text, strlen(b->error.text)) : NULL);
        json_object_array_add(list, object);
        return;
    }
    cli_print("%-8s%-36s", words[result], check->name);
    if (b->status != QP_OK)
        cli_print("%s\n", b->error.text);
    else
        cli_print("nmse %.1e, limit %.0e  %s\n", b->nmse, check->limit, b->info.kernel);
}

static int run_all(st_bench *b, int json)
{
    unsigned counts[3] = {0};
    const st_check *check;
    json_object *list = json ? json_object_new_array() : NULL;
    for (uint32_t i = 0; (check = st_check_at(i)); i++) {
        outcome result = run_check(b, check);
        counts[result]++;
        report(b, check, result, list);
    }
    if (json) {
        json_object *root = json_object_new_object();
        json_object_object_add(root, "device", json_object_new_string(quern_device_id(b->device)));
        json_object_object_add(root, "ok", json_object_new_int((int)counts[RIGHT]));
        json_object_object_add(root, "not_ok", json_object_new_int((int)counts[WRONG]));
        json_object_object_add(root, "refused", json_object_new_int((int)counts[REFUSED]));
        json_object_object_add(root, "checks", list);
        cli_print_json(root);
    } else {
        cli_print("%s: %u ok, %u not ok, %u refused\n", quern_device_id(b->device), counts[RIGHT], counts[WRONG], counts[REFUSED]);
    }
    if (!counts[RIGHT] && !counts[WRONG])
        return cli_fail("%s refuses every op: nothing was checked", quern_device_id(b->device));
    return counts[WRONG] ? cli_fail("%s computes %u of the ops wrongly: do not use it", quern_device_id(b->device), counts[WRONG])
                         : CLI_OK;
}

static int open_bench(st_bench *b)
{
    const qp_device_info *info = quern_device_info(b->device);
    b->alignment = info->heaps[info->weight_heap].alignment;
    b->alignment = b->alignment < 64 ? 64 : b->alignment;
    b->size = BUFFER_BYTES;
    b->pool_size = POOL_DOUBLES;
    b->pool = malloc(POOL_DOUBLES * sizeof *b->pool);
    if (!b->pool)
        return cli_fail("no memory for %zu bytes", POOL_DOUBLES * sizeof *b->pool);
    if (quern_buffer_create(b->device, info->weight_heap, BUFFER_BYTES, &b->buffer, &b->error) != QP_OK ||
        quern_timeline_create(b->device, 0, &b->timeline, &b->error) != QP_OK)
        return cli_error(&b->error);
    return CLI_OK;
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const selftest_args *args = raw;
    (void)operands, (void)operand_count;
    st_bench bench = {.random = args->seed ? args->seed : 1};
    quern_context *context = NULL;
    int status = cli_device_open(&args->device, &context, &bench.device);
    uint32_t flags = (args->taken ? QP_CODE_TAKEN : 0u) | (args->code ? QP_CODE_TEXTS : 0u);
    if (status == CLI_OK && args->kernels && (args->compile || flags))
        status = cli_fail("--kernels tests kernels, --compile, --taken and --code only compile them: one of the two at a time");
    if (status == CLI_OK && (args->compile || flags))
        status = st_compile_kernels(bench.device, args->only, flags, args->json);
    else if (status == CLI_OK && args->kernels)
        status = st_test_kernels(bench.device, args->only, args->json);
    else if (status == CLI_OK && (status = open_bench(&bench)) == CLI_OK)
        status = run_all(&bench, args->json);
    quern_timeline_destroy(bench.timeline);
    quern_buffer_destroy(bench.buffer);
    quern_device_close(bench.device);
    quern_context_destroy(context);
    free(bench.pool);
    return status;
}

static const selftest_args defaults = {.seed = 20240607};
static const cli_option options[] = {
    CLI_DEVICE_OPTIONS(selftest_args, device),
    {"seed", 's', CLI_NUMBER, offsetof(selftest_args, seed), "N", "of the random inputs; always the same by default", 0, 0, NULL},
    {"kernels", 0, CLI_FLAG, offsetof(selftest_args, kernels), NULL,
     "test every kernel that the device could run, not only\nthose that it takes; what is found holds from then on", 0, 0, NULL},
    {"compile", 0, CLI_FLAG, offsetof(selftest_args, compile), NULL,
     "compile them and tell what the driver made of them:\nregisters, memory, code; nothing is run", 0, 0, NULL},
    {"taken", 0, CLI_FLAG, offsetof(selftest_args, taken), NULL, "compile only those that ops would get", 0, 0, NULL},
    {"code", 0, CLI_FLAG, offsetof(selftest_args, code), NULL, "compile and print the driver's own texts, as its assembly", 0, 0, NULL},
    {"only", 0, CLI_TEXT, offsetof(selftest_args, only), "TEXT", "of the kernels, those with this in their name", 0, 0, NULL},
    {"json", 0, CLI_FLAG, offsetof(selftest_args, json), NULL, "print one JSON object", 0, 0, NULL},
};

const cli_command cli_selftest = {
    .name = "selftest",
    .summary = "check that a device computes every op rightly",
    .synopsis = "[--device ID] [--kernels | --compile [--taken] [--code]] [--only TEXT] [--json]",
    .about = "Runs each op on small random tensors and compares the result with simple double-precision code. nmse is the squared\n"
             "error as a share of the result's square. An op that the device refuses is said with its reason and is no failure; a\n"
             "wrong result is, and makes the exit status 1. With --kernels the device's plugin tests its kernels one by one, all\n"
             "variants in all formats, and remembers which it must not use: for minutes where the driver has to compile them.\n"
             "With --compile they are only compiled, and what the driver tells of each is printed: a kernel whose registers spill to\n"
             "memory is slow. Times are the driver's, which may have kept what it compiled before (Mesa: MESA_SHADER_CACHE_DISABLE=1).",
    .examples =
        "quern selftest\nquern selftest --device cpu --variant ref\nquern selftest --device vulkan --kernels --only matmul_q4_k\n"
        "quern selftest --device vulkan --compile --taken\nquern selftest --device vulkan --code --only matmul_q4_k.dot",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "",
    .defaults = &defaults,
    .args_size = sizeof(selftest_args),
    .run = run,
};
