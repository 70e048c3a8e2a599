/* SPDX-License-Identifier: MIT
 * A plugin that passes every call on to a sound one, except for one mistake. The suite must notice each: run_saboteur.sh tries
 * them all. QUERN_SABOTEUR_TARGET names the sound plugin, QUERN_SABOTEUR_KIND the mistake. */
#include <dlfcn.h>
#include <math.h>
#include <quern/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PROGRAMS = 4096 };

static const qp_backend *sound;
static qp_backend broken;
static const char *kind = "";

static int is(const char *name)
{
    return !strcmp(kind, name);
}

/* ---- results: after a run, spoil bytes of the pool that the program's first op touches ---- */

typedef struct known_program {
    qp_program *program;
    qp_tensor dst, state; /* of the last op, and of the last one that has any */
    qp_range step;
} known_program;

static known_program programs[MAX_PROGRAMS];

static qp_tensor state_of(const qp_op *ops, uint32_t count)
{
    qp_tensor state = {0};
    for (uint32_t i = 0; i < count; i++)
        if (ops[i].kind == QP_OP_SHORT_CONV || ops[i].kind == QP_OP_DELTA_RULE)
            state = ops[i].src[ops[i].kind == QP_OP_SHORT_CONV ? (int)QP_SHORT_CONV_STATE : (int)QP_DELTA_RULE_STATE];
    return state;
}

static qp_status program_create(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error)
{
    qp_op ops[64];
    qp_program_desc copy = *desc;
    int whole = desc->op_count <= 64 && desc->op_stride == sizeof(qp_op) && desc->ops;
    if (whole) {
        memcpy(ops, desc->ops, desc->op_count * sizeof *ops);
        copy.ops = ops;
        for (uint32_t i = 0; i < desc->op_count; i++) {
            if (is("live"))
                ops[i].live = (qp_tensor){0};
            if (is("strides") && ops[i].kind == QP_OP_ELEMENTWISE) /* takes a's rows for contiguous */
                ops[i].src[0].nb[2] = ops[i].src[0].nb[1] * ops[i].src[0].ne[1];
            if (is("scale") && ops[i].kind == QP_OP_MATMUL)
                ops[i].p.matmul.scale *= 1.0005f;
            if (is("window") && ops[i].kind == QP_OP_ATTENTION && ops[i].p.attention.window)
                ops[i].p.attention.window++;
            if (is("sinks") && ops[i].kind == QP_OP_ATTENTION)
                ops[i].src[QP_ATTENTION_SINKS] = (qp_tensor){0};
            if (is("tanh") && ops[i].kind == QP_OP_ELEMENTWISE && ops[i].p.elementwise.act == QP_ACT_GELU)
                ops[i].p.elementwise.act = QP_ACT_GELU_TANH;
            if (is("grouped") && ops[i].kind == QP_OP_DELTA_RULE) /* takes the other key head */
                ops[i].p.delta_rule.flags ^= QP_DELTA_GROUPED;
            if (is("restart") && ops[i].kind == QP_OP_SHORT_CONV) /* does not see where a sequence begins */
                ops[i].src[QP_SHORT_CONV_POSITIONS].offset += 4 * (ops[i].dst.ne[2] > 1);
            if (is("bias") && ops[i].kind == QP_OP_EXPERT_ROUTE)
                ops[i].src[QP_EXPERT_ROUTE_BIAS] = (qp_tensor){0};
            if (is("normalise") && ops[i].kind == QP_OP_EXPERT_ROUTE && ops[i].p.expert_route.gate != QP_GATE_SOFTMAX_CHOSEN)
                ops[i].p.expert_route.flags ^= QP_EXPERT_NORMALISE;
            if (is("groups") && ops[i].kind == QP_OP_EXPERT_ROUTE)
                ops[i].p.expert_route.groups = 0;
            if (is("bias") && ops[i].kind == QP_OP_EXPERT_MATMUL)
                ops[i].src[QP_EXPERT_MATMUL_BIAS] = (qp_tensor){0};
            if (is("scale") && ops[i].kind == QP_OP_EXPERT_MATMUL)
                ops[i].src[QP_EXPERT_MATMUL_SCALES] = (qp_tensor){0};
            if (is("residual") && ops[i].kind == QP_OP_EXPERT_MATMUL)
                ops[i].src[QP_EXPERT_MATMUL_RESIDUAL] = (qp_tensor){0};
            if (is("first_expert") && ops[i].kind == QP_OP_EXPERT_MATMUL)
                ops[i].src[QP_EXPERT_MATMUL_W].nb[2] = 0;
            if (is("first_x") && ops[i].kind == QP_OP_EXPERT_MATMUL)
                ops[i].src[QP_EXPERT_MATMUL_X].nb[1] = 0;
            if (is("limit") && ops[i].kind == QP_OP_EXPERT_MATMUL)
                ops[i].p.expert_matmul.limit *= 1.5f;
            if (is("residual") && ops[i].kind == QP_OP_MATMUL)
                ops[i].src[QP_MATMUL_RESIDUAL] = (qp_tensor){0};
        }
        if (is("order") && desc->op_count > 3) {
            qp_op last = ops[desc->op_count - 1];
            ops[desc->op_count - 1] = ops[desc->op_count - 2];
            ops[desc->op_count - 2] = last;
        }
    }
    qp_status status = sound->program_create(device, &copy, out, error);
    if (status == QP_OK && whole && desc->op_count)
        for (int i = 0; i < MAX_PROGRAMS; i++)
            if (!programs[i].program) {
                programs[i] = (known_program){*out, ops[desc->op_count - 1].dst, state_of(ops, desc->op_count), desc->step};
                break;
            }
    if (status != QP_OK && is("wordless") && error && error->size)
        error->data[0] = 0;
    return status;
}

static void program_destroy(qp_program *program)
{
    for (int i = 0; program && i < MAX_PROGRAMS; i++)
        if (programs[i].program == program)
            programs[i].program = NULL;
    sound->program_destroy(program);
}

static void spoil(const known_program *p, qp_timeline *line, uint64_t value)
{
    static const uint8_t byte = 0x55;
    uint64_t end = p->dst.offset + (uint64_t)((p->dst.ne[2] - 1) * p->dst.nb[2] + (p->dst.ne[1] - 1) * p->dst.nb[1]);
    sound->timeline_wait(line, value, UINT64_MAX, NULL);
    if (is("guard"))
        sound->buffer_write(p->dst.buffer, end + (uint64_t)(p->dst.ne[0] * p->dst.nb[0]), &byte, 1, NULL);
    if (is("nan") && p->dst.format == QP_FORMAT_F32) {
        float nan = NAN;
        sound->buffer_write(p->dst.buffer, p->dst.offset, &nan, sizeof nan, NULL);
    }
}

static qp_status program_run(qp_program *program, const qp_run *run, qp_text *error)
{
    static uint64_t kept[4096]; /* the last step block: what a plugin without a ring would show to every queued run */
    qp_run copy = *run;
    const known_program *p = NULL;
    for (int i = 0; i < MAX_PROGRAMS && !p; i++)
        p = programs[i].program == program ? &programs[i] : NULL;
    if (is("stale_step") && p && p->step.size <= sizeof kept && run->step && kept[0])
        copy.step = kept;
    if (is("forgets") && p && p->state.buffer && run->signal_count && run->signals[0].value > 1) {
        static const float nothing = 0; /* a state that does not come out of the run before */
        sound->timeline_wait(run->signals[0].timeline, run->signals[0].value - 1, UINT64_MAX, NULL);
        sound->buffer_write(p->state.buffer, p->state.offset, &nothing, sizeof nothing, NULL);
    }
    qp_status status = sound->program_run(program, &copy, error);
    if (is("stale_step") && p && p->step.size <= sizeof kept && run->step)
        memcpy(kept, run->step, p->step.size);
    int gated = run->wait_count > 0 || run->signal_count != 1;
    if ((is("guard") || is("nan")) && status == QP_OK && p && !gated && run->signals[0].value == 1)
        spoil(p, run->signals[0].timeline, 1);
    return status;
}

/* ---- the other calls ---- */

static qp_status op_query(qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    if (is("silent_refusal") && op->kind == QP_OP_ROPE)
        return QP_ERR_UNSUPPORTED;
    if (is("query_lies") && op->kind > QP_OP_DELTA_RULE)
        return QP_OK;
    if (is("refuses") && op->kind == QP_OP_NORM) {
        if (reason && reason->size)
            snprintf(reason->data, reason->size, "there is no norm here");
        return QP_ERR_UNSUPPORTED;
    }
    return sound->op_query(device, op, info, reason);
}

static qp_status weight_pack(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                             int64_t rows, qp_range dst, qp_text *error)
{
    if (is("lost_slice") && row > 0 && row + rows >= desc->ne[1])
        return QP_OK;
    qp_status status = sound->weight_pack(device, desc, src, src_bytes, row, rows, dst, error);
    static const uint8_t byte = 0x55;
    if (is("pack_past") && status == QP_OK)
        sound->buffer_write(dst.buffer, dst.offset + dst.size, &byte, 1, NULL);
    return status;
}

static qp_status timeline_signal(qp_timeline *timeline, uint64_t value, qp_text *error)
{
    qp_status status = sound->timeline_signal(timeline, value, error);
    return is("backwards") && status == QP_ERR_INVALID ? QP_OK : status;
}

static qp_status timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error)
{
    if (is("no_wait"))
        return QP_OK;
    return sound->timeline_wait(timeline, value, timeout_ns, error);
}

static qp_status buffer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error)
{
    return sound->buffer_read(buffer, is("odd_offset") && offset < 1u << 20 ? offset & ~(uint64_t)3 : offset, data, size, error);
}

static qp_status device_info(uint32_t index, qp_device_info *info, qp_text *error)
{
    if (!is("small_struct") || info->struct_size >= sizeof *info)
        return sound->device_info(index, info, error);
    qp_device_info whole = {.struct_size = sizeof whole};
    qp_status status = sound->device_info(index, &whole, error);
    whole.struct_size = info->struct_size;
    *info = whole; /* past what the caller has: the suite's struct is larger than it says */
    return status;
}

static const qp_host *the_host;

static qp_status device_open(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error)
{
    if (is("leak"))
        the_host->alloc(the_host->ctx, 100, 16);
    return sound->device_open(index, options, out, error);
}

static const qp_backend *query(uint32_t host_minor, const qp_host *host, qp_text *reason)
{
    const char *target = getenv("QUERN_SABOTEUR_TARGET");
    void *handle = target ? dlopen(target, RTLD_NOW | RTLD_LOCAL) : NULL;
    const qp_plugin *plugin = handle ? dlsym(handle, QP_PLUGIN_SYMBOL) : NULL;
    the_host = host;
    sound = plugin ? plugin->query(host_minor, host, reason) : NULL;
    if (!sound)
        return NULL;
    kind = getenv("QUERN_SABOTEUR_KIND") ? getenv("QUERN_SABOTEUR_KIND") : "";
    broken = *sound;
    broken.program_create = program_create;
    broken.program_destroy = program_destroy;
    broken.program_run = program_run;
    broken.op_query = op_query;
    broken.weight_pack = weight_pack;
    broken.timeline_signal = timeline_signal;
    broken.timeline_wait = timeline_wait;
    broken.buffer_read = buffer_read;
    broken.device_info = device_info;
    broken.device_open = device_open;
    return &broken;
}

extern QP_EXPORT const qp_plugin quern_plugin;
const qp_plugin quern_plugin = {
    .magic = QP_MAGIC,
    .struct_size = sizeof quern_plugin,
    .abi_major = QP_ABI_MAJOR,
    .abi_minor = QP_ABI_MINOR,
    .name = "saboteur",
    .version = "1",
    .query = query,
};
