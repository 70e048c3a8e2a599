/* SPDX-License-Identifier: MIT */
#include "core/probe.h"

#include <stdio.h>
#include <stdlib.h>

static void tell(qi_stage stage, void *ctx, const char *what)
{
    if (stage)
        stage(ctx, what);
}

static quern_status ask(qi_module *module, qi_stage stage, void *stage_ctx, qi_report *report, quern_error *error)
{
    char place[64];
    tell(stage, stage_ctx, "in device_count()");
    uint32_t count = module->backend->device_count();
    if (!count)
        return quern_fail(error, QP_ERR_NOT_FOUND, "it works, but found no device");
    if (count > QI_MAX_DEVICES)
        return quern_fail(error, QP_ERR_INTERNAL, "it reports %u devices, more than the %d that can be: the plugin is broken",
                          count, QI_MAX_DEVICES);
    report->devices = calloc(count, sizeof *report->devices);
    if (!report->devices)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to list its devices");
    for (uint32_t i = 0; i < count; i++) {
        snprintf(place, sizeof place, "in device_info(%u)", i);
        tell(stage, stage_ctx, place);
        quern_status status = qi_module_info(module, i, &report->devices[i], error);
        if (status)
            return quern_fail_prefix(error, status, "device %u: ", i);
    }
    report->count = count;
    return QP_OK;
}

void qi_probe_here(const qi_file *file, const quern_topology *topology, qi_stage stage, void *stage_ctx, qi_report *report)
{
    quern_error error = {0};
    qi_module *module = NULL;
    *report = (qi_report){0};
    quern_status status = qi_module_get(file, topology, stage, stage_ctx, &module, &error);
    if (!status)
        status = ask(module, stage, stage_ctx, report, &error);
    if (status) {
        qi_report_free(report);
        snprintf(report->failure, sizeof report->failure, "%s", error.text);
    }
    qi_module_put(module);
}

void qi_report_free(qi_report *report)
{
    free(report->devices);
    *report = (qi_report){0};
}
