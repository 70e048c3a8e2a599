/* SPDX-License-Identifier: MIT
 * The device calls on the null device: what is refused and with what words, lifetimes, order of runs, concurrency. */
#include "tap.h"

#include <quern/device.h>
#include <quern/format.h>
#include <quern/log.h>

#include <pthread.h>
#include <stdatomic.h>

static quern_context *context;
static quern_device *device;

/* The call, which names `err`, fails so, with words that hold `part`; and does no worse without a place for words. */
#define refused(call, expected, part)                                                                                              \
    do {                                                                                                                           \
        quern_error words = {0}, *err = &words;                                                                                    \
        quern_status status = (call);                                                                                              \
        err = NULL;                                                                                                                \
        quern_status again = (call);                                                                                               \
        ok(status == (expected) && again == status && words.status == status && strstr(words.text, part) &&                        \
               !strchr(words.text, '\n'),                                                                                          \
           "%s: %s", strtok((char[]){#call}, "("), words.text);                                                                    \
    } while (0)

static quern_buffer *make_buffer(uint64_t size)
{
    quern_buffer *buffer = NULL;
    quern_error error = {0};
    if (quern_buffer_create(device, 0, size, &buffer, &error))
        diag("%s", error.text);
    return buffer;
}

static quern_timeline *make_timeline(uint64_t value)
{
    quern_timeline *timeline = NULL;
    quern_timeline_create(device, value, &timeline, NULL);
    return timeline;
}

/* ---- finding and opening ---- */

static void check_open(void)
{
    const quern_device_entry *entry = NULL;
    quern_device *none = NULL;
    quern_device_options options = {.struct_size = sizeof options, .threads = 100000};
    quern_error error = {0};
    ok(!quern_context_find(context, "null", &entry, &error) && !strcmp(entry->id, "null"), "the null device is listed");
    refused(quern_context_find(context, "nosuch", &entry, err), QP_ERR_NOT_FOUND, "no device \"nosuch\"; devices: ");
    refused(quern_context_find(context, "", &entry, err), QP_ERR_NOT_FOUND, "null");
    refused(quern_device_open(context, "null:1", NULL, &none, err), QP_ERR_NOT_FOUND, "null:1");
    refused(quern_device_open(NULL, "null", NULL, &none, err), QP_ERR_INVALID, "context is NULL");
    refused(quern_device_open(context, "null", NULL, NULL, err), QP_ERR_INVALID, "out is NULL");
    ok(!quern_device_open(context, "null:0", &options, &device, &error), "it opens by number too %s", error.text);
    ok(quern_device_info(device)->kind == QP_DEVICE_NULL && !strcmp(quern_device_id(device), "null"), "%s",
       quern_device_info(device)->name);
    qp_device_info info = {.struct_size = sizeof info};
    ok(!quern_device_refresh(device, &info, &error) && info.heaps[0].size, "its budget of now");
    ok(!none, "nothing was opened by mistake");
}

/* ---- buffers ---- */

static void check_buffers(void)
{
    quern_buffer *none = NULL, *b = make_buffer(4096);
    char data[16] = "sixteen letters", back[16];
    void *address = NULL;
    refused(quern_buffer_create(device, 1, 64, &none, err), QP_ERR_INVALID, "there is no heap 1");
    refused(quern_buffer_create(device, 0, 0, &none, err), QP_ERR_INVALID, "0 bytes");
    refused(quern_buffer_create(device, 0, UINT64_MAX, &none, err), QP_ERR_OUT_OF_MEMORY, "18446744073709551615");
    refused(quern_buffer_create(device, 0, UINT64_C(1) << 60, &none, err), QP_ERR_OUT_OF_MEMORY, "1152921504606846976");
    refused(quern_buffer_create(NULL, 0, 64, &none, err), QP_ERR_INVALID, "device is NULL");
    ok(!none && b && quern_buffer_size(b) == 4096, "a buffer of 4096 bytes");
    ok(!quern_buffer_write(b, 4080, data, 16, NULL) && !quern_buffer_read(b, 4080, back, 16, NULL) && !memcmp(data, back, 16),
       "its last bytes are written and read");
    ok(!quern_buffer_write(b, 4096, NULL, 0, NULL), "nothing is written at its end");
    refused(quern_buffer_write(b, 4081, data, 16, err), QP_ERR_INVALID, "write of 16 bytes at offset 4081 in a buffer of 4096");
    refused(quern_buffer_read(b, UINT64_MAX, back, 16, err), QP_ERR_INVALID, "read of 16 bytes");
    refused(quern_buffer_read(b, 16, back, UINT64_MAX - 8, err), QP_ERR_INVALID, "in a buffer of 4096");
    refused(quern_buffer_write(b, 0, NULL, 1, err), QP_ERR_INVALID, "data is NULL");
    refused(quern_buffer_read(NULL, 0, back, 1, err), QP_ERR_INVALID, "buffer is NULL");
    ok(!quern_buffer_map(b, &address, NULL) && !memcmp((char *)address + 4080, data, 16), "it is mapped");
    refused(quern_buffer_map(b, NULL, err), QP_ERR_INVALID, "address is NULL");
    quern_buffer_destroy(b);
    quern_buffer_destroy(NULL);
    ok(quern_buffer_size(NULL) == 0, "nothing has no size");
}

static void check_import(void)
{
    _Alignas(64) static char memory[256];
    quern_buffer *b = NULL;
    qp_tensor t;
    refused(quern_buffer_import(device, NULL, 256, &b, err), QP_ERR_INVALID, "memory is NULL");
    refused(quern_buffer_import(device, memory, 0, &b, err), QP_ERR_INVALID, "0 bytes");
    ok(!quern_buffer_import(device, memory, sizeof memory, &b, NULL) && !quern_buffer_write(b, 255, "!", 1, NULL) &&
           memory[255] == '!',
       "host memory in place");
    ok(!quern_buffer_tensor(b, 3, QP_FORMAT_F32, 4, 1, 1, 1, &t, NULL), "lies as it lies");
    quern_buffer_destroy(b);
}

/* ---- tensors ---- */

static void check_tensors(void)
{
    quern_buffer *b = make_buffer(1024);
    qp_tensor t;
    quern_error error = {0};
    ok(!quern_buffer_tensor(b, 64, QP_FORMAT_Q8_0, 64, 3, 2, 1, &t, &error), "a tensor of blocks %s", error.text);
    ok(t.nb[0] == 34 && t.nb[1] == 68 && t.nb[2] == 204 && t.nb[3] == 408 && t.buffer && t.offset == 64, "its strides");
    ok(!quern_buffer_tensor(NULL, 0, QP_FORMAT_F32, 1 << 20, 1 << 20, 1, 1, &t, NULL) && !t.buffer, "a shape alone");
    refused(quern_buffer_tensor(b, 0, 5, 1, 1, 1, 1, &t, err), QP_ERR_INVALID, "number 5");
    refused(quern_buffer_tensor(b, 0, QP_FORMAT_F32, 0, 1, 1, 1, &t, err), QP_ERR_INVALID, "dimension 0");
    refused(quern_buffer_tensor(b, 0, QP_FORMAT_F32, 1, 1, 1, -1, &t, err), QP_ERR_INVALID, "dimension 3");
    refused(quern_buffer_tensor(b, 0, QP_FORMAT_Q4_K, 128, 1, 1, 1, &t, err), QP_ERR_INVALID, "blocks of Q4_K");
    refused(quern_buffer_tensor(b, 0, QP_FORMAT_F32, INT64_MAX, 1, 1, 1, &t, err), QP_ERR_INVALID, "too large");
    refused(quern_buffer_tensor(NULL, 0, QP_FORMAT_F32, INT64_C(1) << 31, INT64_C(1) << 31, 4, 1, &t, err), QP_ERR_INVALID,
            "too large");
    refused(quern_buffer_tensor(b, 64, QP_FORMAT_F32, 241, 1, 1, 1, &t, err), QP_ERR_INVALID,
            "964 bytes at offset 64 in a buffer of 1024");
    refused(quern_buffer_tensor(b, UINT64_MAX - 3, QP_FORMAT_F32, 1, 1, 1, 1, &t, err), QP_ERR_INVALID, "in a buffer of 1024");
    refused(quern_buffer_tensor(b, 6, QP_FORMAT_F32, 1, 1, 1, 1, &t, err), QP_ERR_INVALID, "not a multiple of 4");
    refused(quern_buffer_tensor(b, 0, QP_FORMAT_F32, 1, 1, 1, 1, NULL, err), QP_ERR_INVALID, "out is NULL");
    quern_buffer_destroy(b);
}

/* An older caller's struct ends where its struct_size says, a newer one's is longer than what is known here. */
static void check_sizes(void)
{
    struct {
        qp_device_info info;
        char later[32];
    } out;
    memset(&out, 0xee, sizeof out);
    out.info.struct_size = sizeof out;
    ok(!quern_device_refresh(device, &out.info, NULL) && out.info.struct_size == sizeof out && out.info.kind == QP_DEVICE_NULL &&
           (unsigned char)out.later[0] == 0xee,
       "a struct that is longer than what is known here keeps its end");
    out.info.struct_size = 0;
    refused(quern_device_refresh(device, &out.info, err), QP_ERR_INVALID, "struct_size is 0");
    qp_op_info info = {.struct_size = 16};
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_NORM, .version = 1};
    quern_buffer_tensor(NULL, 0, QP_FORMAT_F32, 8, 1, 4, 1, &op.src[QP_NORM_X], NULL);
    op.dst = op.src[QP_NORM_X];
    refused(quern_op_query(device, &op, &info, err), QP_ERR_INVALID, "struct_size is 16");
}

/* ---- ops and programs ---- */

static qp_op norm_op(quern_buffer *b)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_NORM, .version = 1};
    quern_buffer_tensor(b, 0, QP_FORMAT_F32, 8, 1, 4, 1, &op.src[QP_NORM_X], NULL);
    quern_buffer_tensor(b, 128, QP_FORMAT_F32, 8, 1, 4, 1, &op.dst, NULL);
    return op;
}

static void check_query(void)
{
    qp_op_info info = {.struct_size = sizeof info};
    qp_op op = norm_op(NULL), changed;
    ok(!quern_op_query(device, &op, &info, NULL) && !strcmp(info.kernel, "norm.null") && info.bytes_moved == 256,
       "an op without buffers is answered: %s", info.kernel);
    ok(!quern_op_query(device, &op, NULL, NULL), "without details too");
    changed = op;
    changed.struct_size = 8;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_INVALID, "struct_size is 8");
    changed = op;
    changed.kind = QP_OP_NONE;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_INVALID, "no kind");
    changed.kind = 31;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_UNSUPPORTED, "no op of kind 31");
    changed.kind = UINT32_MAX;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_UNSUPPORTED, "4294967295");
    changed = op;
    changed.version = 2;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_UNSUPPORTED, "version 2");
    changed = op;
    changed.dst.ne[0] = 0;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_INVALID, "has no dst");
    changed = op;
    changed.dst.ne[2] = 5;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_INVALID, "dst has 5 in dimension 2 where 4 is due");
    changed = op;
    changed.src[0].format = 63;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_INVALID, "src 0 has format number 63");
    changed = op;
    changed.src[0].nb[1] = -1;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_INVALID, "negative stride");
    changed = op;
    changed.dst.buffer = (qp_buffer *)(void *)&changed;
    refused(quern_op_query(device, &changed, &info, err), QP_ERR_INVALID, "not, or no longer, one of this device's");
    refused(quern_op_query(device, NULL, &info, err), QP_ERR_INVALID, "op is NULL");
}

static qp_program_desc describe(const qp_op *ops, uint32_t count)
{
    return (qp_program_desc){.struct_size = sizeof(qp_program_desc), .op_stride = sizeof *ops, .ops = ops, .op_count = count};
}

static void check_bad_places(quern_buffer *b)
{
    quern_program *none = NULL;
    qp_op op = norm_op(b);
    qp_program_desc d = describe(&op, 1);
    op.dst.offset = 1024 - 127;
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID,
            "op 0 (norm): dst takes 128 bytes at offset 897 of a buffer of 1024");
    op.dst.offset = 130;
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "not a multiple of 4");
    op.dst.offset = UINT64_MAX - 3;
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "dst takes");
    op = norm_op(b);
    op.dst.nb[2] = INT64_MAX / 2;
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "dst takes 13835058055282163");
    op.dst.ne[2] = INT64_MAX;
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "larger than can be addressed");
    op = norm_op(b);
    op.src[3].ne[0] = 4;
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "src 3 has a shape but no buffer");
    op = norm_op(NULL);
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "has no dst");
    op = norm_op(b);
    op.live = op.src[0];
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "live row count");
    ok(!none, "no program was made");
}

static void check_bad_descriptions(quern_buffer *b)
{
    quern_program *none = NULL;
    qp_op op = norm_op(b);
    qp_program_desc d = describe(&op, 0);
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "no ops");
    d = describe(NULL, 1);
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "no ops");
    d = describe(&op, 1);
    d.op_stride = 16;
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "op_stride is 16");
    d = describe(&op, 1);
    d.struct_size = 16;
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "struct_size is 16");
    d = describe(&op, 1);
    d.step = quern_buffer_range(b, 1024, 1);
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "the step block takes 1 bytes at offset 1024");
    d.step = quern_buffer_range(b, 32, 64);
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "not a multiple of 64");
    d.step = quern_buffer_range(NULL, 0, 64);
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "no buffer");
    d.step = quern_buffer_range(b, 0, 64);
    d.scratch = quern_buffer_range(b, 64, UINT64_MAX);
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "scratch");
    d.scratch = (qp_range){0};
    d.transient = quern_buffer_range(b, 960, 128);
    refused(quern_program_create(device, &d, &none, err), QP_ERR_INVALID, "transient");
    refused(quern_program_create(device, NULL, &none, err), QP_ERR_INVALID, "desc is NULL");
    ok(!none, "no program was made");
}

/* An array whose elements are larger than this library's qp_op, as a newer caller has. */
static void check_larger_ops(quern_buffer *b)
{
    struct {
        qp_op op;
        char later[64];
    } ops[2];
    memset(ops, 0xee, sizeof ops);
    ops[0].op = ops[1].op = norm_op(b);
    qp_program_desc d = describe(&ops[0].op, 2);
    qp_program_memory memory = {.struct_size = sizeof memory};
    quern_program *program = NULL;
    quern_error error = {0};
    d.op_stride = sizeof ops[0];
    ok(!quern_program_measure(device, &d, &memory, &error) && memory.scratch_alignment, "ops of a newer caller are measured %s",
       error.text);
    ok(!quern_program_create(device, &d, &program, &error), "and made a program %s", error.text);
    quern_program_destroy(program);
    ops[1].op.version = 3;
    ok(quern_program_create(device, &d, &program, &error) == QP_ERR_UNSUPPORTED && strstr(error.text, "op 1"),
       "the op that is refused is named: %s", error.text);
}

static void check_programs(void)
{
    quern_buffer *b = make_buffer(1024);
    check_bad_places(b);
    check_bad_descriptions(b);
    check_larger_ops(b);
    qp_op op = norm_op(b);
    qp_program_desc d = describe(&op, 1);
    quern_program *program = NULL;
    quern_buffer_destroy(b);
    refused(quern_program_create(device, &d, &program, err), QP_ERR_INVALID, "no longer");
}

/* ---- runs ---- */

static quern_program *step_program(quern_buffer *b)
{
    qp_op op = norm_op(b);
    qp_program_desc d = describe(&op, 1);
    quern_program *program = NULL;
    d.step = quern_buffer_range(b, 512, 8);
    quern_program_create(device, &d, &program, NULL);
    return program;
}

static char step_of(quern_buffer *b)
{
    char step[8] = "";
    quern_buffer_read(b, 512, step, 8, NULL);
    return step[0];
}

static void check_runs(void)
{
    quern_buffer *b = make_buffer(1024);
    quern_program *program = step_program(b);
    quern_timeline *done = make_timeline(0), *gate = make_timeline(5);
    uint64_t value = 0;
    ok(!quern_program_run(program, "a234567", done, 1, NULL) && !quern_timeline_wait(done, 1, UINT64_MAX, NULL) &&
           step_of(b) == 'a',
       "a run fills the step block and signals");
    ok(!quern_program_run(program, NULL, done, 2, NULL) && step_of(b) == 'a', "or leaves it");
    qp_signal wait = {quern_timeline_handle(gate), 6}, signal = {quern_timeline_handle(done), 3};
    qp_run run = {
        .struct_size = sizeof run, .wait_count = 1, .signal_count = 1, .step = "b234567", .waits = &wait, .signals = &signal};
    ok(!quern_program_submit(program, &run, NULL), "a run that waits is taken");
    ok(!quern_program_run(program, "c234567", done, 4, NULL) && step_of(b) == 'a', "and holds up the one behind it");
    ok(quern_timeline_wait(done, 3, 0, NULL) == QP_TIMEOUT && quern_timeline_wait(done, 3, 2000000, NULL) == QP_TIMEOUT,
       "a wait ends at its time");
    ok(!quern_timeline_signal(gate, 6, NULL) && !quern_timeline_wait(done, 4, UINT64_MAX, NULL) && step_of(b) == 'c',
       "both run, in order, once they may");
    ok(!quern_timeline_value(done, &value, NULL) && value == 4, "the timeline stands at 4");
    refused(quern_timeline_signal(gate, 6, err), QP_ERR_INVALID, "only grows");
    refused(quern_program_run(program, "d234567", done, 4, err), QP_ERR_INVALID, "passed");
    run.struct_size = 4;
    refused(quern_program_submit(program, &run, err), QP_ERR_INVALID, "struct_size is 4");
    run.struct_size = sizeof run;
    run.waits = NULL;
    refused(quern_program_submit(program, &run, err), QP_ERR_INVALID, "none given");
    wait.timeline = (qp_timeline *)(void *)&run;
    run.waits = &wait;
    refused(quern_program_submit(program, &run, err), QP_ERR_INVALID, "waits: number 0 is not");
    refused(quern_program_submit(NULL, &run, err), QP_ERR_INVALID, "program is NULL");
    quern_timeline_destroy(gate);
    quern_timeline_destroy(done);
    quern_buffer_destroy(b); /* the program keeps it */
    done = make_timeline(0);
    ok(!quern_program_run(program, "e234567", done, 1, NULL) && !quern_timeline_wait(done, 1, UINT64_MAX, NULL),
       "a program outlives the caller's hold on its buffers");
    quern_timeline_destroy(done);
    quern_program_destroy(program);
    quern_program_destroy(NULL);
}

static void check_hopeless_run(void)
{
    quern_buffer *b = make_buffer(1024);
    quern_program *program = step_program(b);
    quern_timeline *done = make_timeline(0), *gate = make_timeline(0);
    qp_signal wait = {quern_timeline_handle(gate), 1}, signal = {quern_timeline_handle(done), 1};
    qp_run run = {.struct_size = sizeof run, .wait_count = 1, .signal_count = 1, .waits = &wait, .signals = &signal};
    ok(!quern_program_submit(program, &run, NULL), "a run waits for a timeline");
    quern_timeline_destroy(gate);
    refused(quern_timeline_wait(done, 1, UINT64_MAX, err), QP_ERR_CANCELLED, "destroyed");
    quern_program_destroy(program);
    quern_timeline_destroy(done);
    quern_buffer_destroy(b);
}

/* ---- weights ---- */

static void check_weights(void)
{
    static char rows[4 * 68];
    quern_buffer *b = make_buffer(1024);
    qp_weight_desc d = {.struct_size = sizeof d, .format = QP_FORMAT_Q8_0, .uses = QP_WEIGHT_MATMUL, .ne = {64, 4, 1, 1}};
    qp_weight_info info = {.struct_size = sizeof info};
    char back[68];
    memset(rows + 68, 7, 136);
    ok(!quern_weight_layout(device, &d, &info, NULL) && info.bytes == 4 * 68 && info.row_step == 1, "where a weight would lie");
    ok(!quern_weight_pack(device, &d, rows + 68, 136, 1, 2, b, 64, NULL) && !quern_buffer_read(b, 64 + 68, back, 68, NULL) &&
           back[67] == 7,
       "some of its rows are packed");
    refused(quern_weight_pack(device, &d, rows, 135, 0, 2, b, 64, err), QP_ERR_INVALID,
            "135 bytes were given for 2 rows that take 136");
    refused(quern_weight_pack(device, &d, rows, 272, 3, 2, b, 64, err), QP_ERR_INVALID, "of a weight of 4 rows");
    refused(quern_weight_pack(device, &d, rows, 272, INT64_MAX, INT64_MAX, b, 64, err), QP_ERR_INVALID, "of a weight of 4 rows");
    refused(quern_weight_pack(device, &d, rows, 272, -1, 2, b, 64, err), QP_ERR_INVALID, "from row -1 on");
    refused(quern_weight_pack(device, &d, rows, 272, 0, 4, b, 768, err), QP_ERR_INVALID, "cannot go to offset 768");
    refused(quern_weight_pack(device, &d, rows, 272, 0, 4, b, 32, err), QP_ERR_INVALID, "alignment 64");
    d.ne[0] = 63;
    refused(quern_weight_layout(device, &d, &info, err), QP_ERR_INVALID, "blocks of Q8_0");
    d.ne[0] = INT64_MAX / 64 * 64;
    refused(quern_weight_layout(device, &d, &info, err), QP_ERR_INVALID, "larger than can be addressed");
    d.ne[1] = 0;
    refused(quern_weight_layout(device, &d, &info, err), QP_ERR_INVALID, "dimension 1");
    d.format = 4;
    refused(quern_weight_layout(device, &d, &info, err), QP_ERR_INVALID, "number 4");
    quern_buffer_destroy(b);
}

/* ---- concurrency ---- */

enum { THREADS = 4, ROUNDS = 300 };
static quern_timeline *shared;
static quern_buffer *shared_buffer;
static atomic_int wrong;

static int use_own_objects(uint32_t index, int round)
{
    char data[64], back[64];
    uint64_t offset = index * 64u;
    memset(data, round, sizeof data);
    quern_buffer *own = make_buffer(1024);
    int fine = own && !quern_buffer_write(shared_buffer, offset, data, 64, NULL) &&
               !quern_buffer_read(shared_buffer, offset, back, 64, NULL) && !memcmp(data, back, 64);
    quern_program *program = own ? step_program(own) : NULL;
    quern_timeline *done = make_timeline(0);
    fine = fine && program && done && !quern_program_run(program, data, done, 1, NULL) &&
           !quern_timeline_wait(done, 1, UINT64_MAX, NULL) && step_of(own) == (char)round;
    quern_buffer_destroy(own);
    quern_program_destroy(program);
    quern_timeline_destroy(done);
    return fine;
}

/* Each thread moves the shared timeline when it is its turn, so all of them wait for each other. */
static void *work(void *arg)
{
    uint32_t index = *(uint32_t *)arg;
    uint64_t seen;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t turn = (uint64_t)round * THREADS + index;
        if (!use_own_objects(index, round) || quern_timeline_wait(shared, turn, UINT64_C(20000000000), NULL) ||
            quern_timeline_value(shared, &seen, NULL) || seen != turn || quern_timeline_signal(shared, turn + 1, NULL))
            atomic_fetch_add(&wrong, 1);
    }
    return NULL;
}

static void check_threads(void)
{
    pthread_t threads[THREADS];
    uint32_t index[THREADS];
    shared = make_timeline(0);
    shared_buffer = make_buffer(THREADS * 64);
    for (uint32_t i = 0; i < THREADS; i++) {
        index[i] = i;
        pthread_create(&threads[i], NULL, work, &index[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    uint64_t value = 0;
    quern_timeline_value(shared, &value, NULL);
    ok(!wrong && value == THREADS * ROUNDS, "%d threads use buffers, programs and timelines at a time, %d rounds", THREADS, ROUNDS);
    quern_buffer_destroy(shared_buffer);
    quern_timeline_destroy(shared);
}

/* ---- a device that is lost, and a plugin that breaks the rules ---- */

static void check_loss(void)
{
    quern_context_options options = {.struct_size = sizeof options, .only = "lost", .plugin_path = getenv("QUERN_HOSTILE")};
    quern_context *c = NULL;
    quern_device *d = NULL;
    quern_buffer *b = NULL, *none = NULL;
    quern_timeline *t = NULL;
    uint64_t value;
    quern_error error = {0};
    if (!ok(!quern_context_create(&options, &c, &error) && !quern_device_open(c, "lost", NULL, &d, &error),
            "a device that will be lost %s", error.text))
        return;
    ok(!quern_buffer_create(d, 0, 64, &b, &error) && !quern_timeline_create(d, 0, &t, &error), "works at first");
    refused(quern_buffer_write(b, 0, "x", 1, err), QP_ERR_DEVICE_LOST,
            "lost: the device was lost: the GPU fell off the bus; close it");
    refused(quern_buffer_read(b, 0, &value, 8, err), QP_ERR_DEVICE_LOST, "fell off the bus");
    refused(quern_timeline_wait(t, 1, UINT64_MAX, err), QP_ERR_DEVICE_LOST, "fell off the bus");
    refused(quern_timeline_value(t, &value, err), QP_ERR_DEVICE_LOST, "fell off the bus");
    refused(quern_buffer_create(d, 0, 64, &none, err), QP_ERR_DEVICE_LOST, "fell off the bus");
    refused(quern_buffer_map(b, (void **)&none, err), QP_ERR_DEVICE_LOST, "fell off the bus");
    ok(!none, "every later call says so");
    quern_timeline_destroy(t);
    quern_buffer_destroy(b);
    quern_device_close(d);
    quern_context_destroy(c);
}

static void check_rule_breaker(void)
{
    quern_context_options options = {.struct_size = sizeof options, .only = "rude", .plugin_path = getenv("QUERN_HOSTILE")};
    quern_context *c = NULL;
    quern_device *d = NULL;
    quern_buffer *b = NULL;
    quern_timeline *t = NULL;
    quern_error error = {0};
    if (!ok(!quern_context_create(&options, &c, &error) && !quern_device_open(c, "rude", NULL, &d, &error),
            "a plugin that breaks the rules %s", error.text))
        return;
    refused(quern_buffer_create(d, 0, 64, &b, err), QP_ERR_INTERNAL, "gives no reason");
    refused(quern_timeline_create(d, 0, &t, err), QP_ERR_INTERNAL, "unknown status 4711: xxx");
    ok(!b && !t, "gives nothing away");
    quern_device_close(d);
    quern_context_destroy(c);
}

/* ---- lifetimes ---- */

static int late_notes;
static void note(void *ctx, quern_log_level level, const char *message)
{
    (void)ctx;
    late_notes += level == QUERN_LOG_WARN && strstr(message, "closed while 1 of its") != NULL;
}

static void check_wrong_order(void)
{
    quern_buffer *b = make_buffer(64);
    quern_log_set(note, NULL, QUERN_LOG_WARN);
    quern_context_destroy(context);
    quern_device_close(device);
    ok(late_notes == 1, "closing a device before its buffer is noted");
    ok(!quern_buffer_write(b, 0, "still there", 11, NULL), "and the buffer works until it is destroyed");
    quern_buffer_destroy(b);
    quern_log_set(NULL, NULL, QUERN_LOG_WARN);
    quern_context_destroy(NULL);
    quern_device_close(NULL);
}

int main(void)
{
    quern_context_options options = {.struct_size = sizeof options, .only = "null"};
    quern_error error = {0};
    if (!ok(!quern_context_create(&options, &context, &error), "a context %s", error.text))
        return tap_done();
    check_open();
    if (device) {
        check_buffers();
        check_import();
        check_tensors();
        check_sizes();
        check_query();
        check_programs();
        check_runs();
        check_hopeless_run();
        check_weights();
        check_threads();
    }
    if (getenv("QUERN_HOSTILE")) {
        check_loss();
        check_rule_breaker();
    }
    check_wrong_order();
    return tap_done();
}
