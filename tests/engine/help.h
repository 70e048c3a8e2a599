/* SPDX-License-Identifier: MIT
 * tests/engine/help.h: what the engine's tests share: the CPU device, and models from files and from memory. */
#ifndef TESTS_ENGINE_HELP_H
#define TESTS_ENGINE_HELP_H

#include "tap.h"

#include <quern/engine.h>

typedef struct test_device {
    quern_context *context;
    quern_device *device;
} test_device;

/* The first device of a plugin; device NULL, and why in *error, when it cannot be opened. */
__attribute__((unused)) static test_device open_device(const char *plugin, quern_error *error)
{
    test_device d = {0};
    quern_context_options options = {.struct_size = sizeof options, .only = plugin, .probe_timeout_ms = 20000};
    quern_device_options device_options = {.struct_size = sizeof device_options, .threads = 2};
    quern_status status = quern_context_create(&options, &d.context, error);
    if (status == QP_OK)
        quern_device_open(d.context, plugin, &device_options, &d.device, error);
    return d;
}

/* The CPU plugin's device with two threads; device NULL, with a failed test point, when it cannot be opened. */
__attribute__((unused)) static test_device open_cpu(void)
{
    quern_error error = {0};
    test_device d = open_device("cpu", &error);
    if (!d.device)
        ok(0, "the CPU device opens: %s", error.text);
    return d;
}

__attribute__((unused)) static void close_cpu(test_device *d)
{
    quern_device_close(d->device);
    quern_context_destroy(d->context);
    *d = (test_device){0};
}

typedef struct test_model {
    quern_gguf *gguf;
    quern_model *model;
} test_model;

/* Fails a test point when it does not load. */
__attribute__((unused)) static int load_file(quern_device *device, const char *path, test_model *out)
{
    quern_error error = {0};
    *out = (test_model){0};
    quern_status status = quern_gguf_open(path, &out->gguf, &error);
    if (status == QP_OK)
        status = quern_model_load(device, out->gguf, NULL, &out->model, &error);
    if (status != QP_OK)
        ok(0, "%s loads: %s", path, error.text);
    return status == QP_OK;
}

__attribute__((unused)) static void unload(test_model *m)
{
    quern_model_destroy(m->model);
    quern_gguf_close(m->gguf);
    *m = (test_model){0};
}

/* Σ (a − b)² / Σ b²; infinity when a holds something that is not a number. */
__attribute__((unused)) static double nmse(const float *a, const double *b, size_t n)
{
    double error = 0, power = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - b[i];
        error += d * d;
        power += b[i] * b[i];
    }
    return error >= 0 && error < 1e300 ? error / power : 1e300;
}

#endif
