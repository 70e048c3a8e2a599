/* SPDX-License-Identifier: MIT
 * core/probe.h: finding out what a plugin offers without trusting it. Internal. */
#ifndef QUERN_CORE_PROBE_H
#define QUERN_CORE_PROBE_H

#include "core/loader.h"

#include <quern/device.h>

enum { QC_MAX_DEVICES = 64 }; /* of one plugin */

typedef struct qc_report {
    char failure[512]; /* why there is nothing, "" when there is */
    uint32_t count;
    qp_device_info *devices; /* by the plugin's numbers */
} qc_report;

/* Loads the plugin into this process and asks. stage as in qc_module_get. */
void qc_probe_here(const qc_file *file, const quern_topology *topology, qc_stage stage, void *stage_ctx, qc_report *report);

/* Asks each plugin in a child process of its own, all at once. Returns within timeout_ms and about half a second; a child that
 * is not done by then is killed with all it started. Fills one report a file. */
void qc_probe_all(const qc_file *files, uint32_t count, uint32_t timeout_ms, const quern_topology *topology, qc_report *reports);

void qc_report_free(qc_report *report);

#endif
