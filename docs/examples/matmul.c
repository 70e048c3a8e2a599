/* SPDX-License-Identifier: MIT
 * libquern alone: lists the devices, multiplies a matrix by two vectors on the best one, checks the result.
 *
 *   cc matmul.c $(pkg-config --cflags --libs quern) -lm -o matmul && ./matmul */
#include <quern/device.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { K = 64, M = 8, ROWS = 2 }; /* y[M] = W[M][K] · x[K], for each row of x */

static quern_error error;

/* The calls below return QP_OK or leave a sentence in error. */
static void must(quern_status status)
{
    if (status == QP_OK)
        return;
    fprintf(stderr, "%s\n", error.text);
    exit(1);
}

int main(void)
{
    /* Which devices are there? Each plugin was asked in a process of its own; one that failed left a reason. */
    quern_context *context;
    must(quern_context_create(NULL, &context, &error));
    const quern_device_entry *entry;
    for (uint32_t i = 0; (entry = quern_context_device(context, i)); i++)
        printf("device %s: %s\n", entry->id, entry->views[0].info.name);
    const quern_plugin_failure *failure;
    for (uint32_t i = 0; (failure = quern_context_failure(context, i)); i++)
        printf("plugin %s did not load: %s\n", failure->name, failure->reason);

    quern_device *device;
    must(quern_device_open(context, "auto", NULL, &device, &error));
    const qp_device_info *info = quern_device_info(device);

    /* One buffer holds everything; tensors begin at multiples of the heap's alignment. */
    const qp_heap *heap = &info->heaps[info->weight_heap];
    uint64_t step = heap->alignment > 256 ? heap->alignment : 256;
    uint64_t w_at = 0, x_at = w_at + (K * M * 4 + step - 1) / step * step, y_at = x_at + (K * ROWS * 4 + step - 1) / step * step;
    uint64_t scratch_at = y_at + (M * ROWS * 4 + step - 1) / step * step;

    /* The op: flat data. Tensors need no buffer yet to ask what it takes. */
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_MATMUL, .version = 1};
    op.p.matmul = (qp_matmul_params){.scale = 1, .bias_scale = 1, .scale2 = 1, .bias_scale2 = 1};
    must(quern_buffer_tensor(NULL, 0, QP_FORMAT_F32, K, M, 1, 1, &op.src[QP_MATMUL_W], &error));
    must(quern_buffer_tensor(NULL, 0, QP_FORMAT_F32, K, 1, ROWS, 1, &op.src[QP_MATMUL_X], &error));
    must(quern_buffer_tensor(NULL, 0, QP_FORMAT_F32, M, 1, ROWS, 1, &op.dst, &error));
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof op, .ops = &op, .op_count = 1};
    qp_program_memory memory = {.struct_size = sizeof memory};
    must(quern_program_measure(device, &desc, &memory, &error));

    quern_buffer *buffer;
    must(quern_buffer_create(device, info->weight_heap, scratch_at + memory.scratch_bytes + step, &buffer, &error));
    must(quern_buffer_tensor(buffer, w_at, QP_FORMAT_F32, K, M, 1, 1, &op.src[QP_MATMUL_W], &error));
    must(quern_buffer_tensor(buffer, x_at, QP_FORMAT_F32, K, 1, ROWS, 1, &op.src[QP_MATMUL_X], &error));
    must(quern_buffer_tensor(buffer, y_at, QP_FORMAT_F32, M, 1, ROWS, 1, &op.dst, &error));
    desc.scratch = quern_buffer_range(buffer, scratch_at, memory.scratch_bytes);

    static float w[M][K], x[ROWS][K], y[ROWS][M];
    for (int k = 0; k < K; k++) {
        for (int m = 0; m < M; m++)
            w[m][k] = (float)((k * 7 + m * 13) % 19 - 9) / 8;
        for (int r = 0; r < ROWS; r++)
            x[r][k] = (float)((k * 5 + r * 11) % 17 - 8) / 8;
    }
    must(quern_buffer_write(buffer, w_at, w, sizeof w, &error));
    must(quern_buffer_write(buffer, x_at, x, sizeof x, &error));

    /* A program is made once and run as often as wanted; a timeline tells when a run is over. */
    quern_program *program;
    quern_timeline *timeline;
    must(quern_program_create(device, &desc, &program, &error));
    must(quern_timeline_create(device, 0, &timeline, &error));
    must(quern_program_run(program, NULL, timeline, 1, &error));
    must(quern_timeline_wait(timeline, 1, UINT64_MAX, &error));
    must(quern_buffer_read(buffer, y_at, y, sizeof y, &error));

    double worst = 0;
    for (int r = 0; r < ROWS; r++) {
        for (int m = 0; m < M; m++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += (double)w[m][k] * (double)x[r][k];
            worst = fmax(worst, fabs(sum - (double)y[r][m]));
        }
    }
    printf("largest error %g: %s\n", worst, worst < 1e-4 ? "right" : "wrong");

    quern_timeline_destroy(timeline);
    quern_program_destroy(program);
    quern_buffer_destroy(buffer);
    quern_device_close(device);
    quern_context_destroy(context);
    return worst < 1e-4 ? 0 : 1;
}
