/* SPDX-License-Identifier: MIT */
#include "core/probe.h"

#include <stdio.h>
#include <stdlib.h>

static void tell(qc_stage stage, void *ctx, const char *what)
{
    if (stage)
        stage(ctx, what);
}

static quern_status ask(qc_module *module, qc_stage stage, void *stage_ctx, qc_report *report, quern_error *error)
{
    char place[64];
    tell(stage, stage_ctx, "in device_count()");
    uint32_t count = module->backend->device_count();
    if (!count)
        return quern_fail(error, QP_ERR_NOT_FOUND, "it works, but found no device");
    if (count > QC_MAX_DEVICES)
        return quern_fail(error, QP_ERR_INTERNAL, "it reports %u devices, more than the %d that can be: the plugin is broken", count, QC_MAX_DEVICES);
    report->devices = calloc(count, sizeof *report->devices);
    if (!report->devices)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to list its devices");
    for (uint32_t i = 0; i < count; i++) {
        snprintf(place, sizeof place, "in device_info(%u)", i);
        tell(stage, stage_ctx, place);
        quern_status status = qc_module_info(module, i, &report->devices[i], error);
        if (status)
            return quern_fail_prefix(error, status, "device %u: ", i);
    }
    report->count = count;
    return QP_OK;
}

void qc_probe_here(const qc_file *file, const quern_topology *topology, qc_stage stage, void *stage_ctx, qc_report *report)
{
    quern_error error = {0};
    qc_module *module = NULL;
    *report = (qc_report){0};
    quern_status status = qc_module_get(file, topology, stage, stage_ctx, &module, &error);
    if (!status)
        status = ask(module, stage, stage_ctx, report, &error);
    if (status) {
        qc_report_free(report);
        snprintf(report->failure, sizeof report->failure, "%s", error.text);
    }
    qc_module_put(module);
}

void qc_probe_all(const qc_file *files, uint32_t count, uint32_t timeout_ms, const quern_topology *topology, qc_report *reports)
{
    (void)timeout_ms;
    for (uint32_t i = 0; i < count; i++)
        qc_probe_here(&files[i], topology, NULL, NULL, &reports[i]);
}

void qc_report_free(qc_report *report)
{
    free(report->devices);
    *report = (qc_report){0};
}
