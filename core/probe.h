/* SPDX-License-Identifier: MIT
 * core/probe.h: finding out what a plugin offers without trusting it. Internal. */
#ifndef QUERN_CORE_PROBE_H
#define QUERN_CORE_PROBE_H

#include "core/loader.h"

#include <quern/device.h>

enum { QI_MAX_DEVICES = 64 }; /* of one plugin */

typedef struct qi_report {
    char failure[512]; /* why there is nothing, "" when there is */
    uint32_t count;
    qp_device_info *devices; /* by the plugin's numbers */
} qi_report;

/* Loads the plugin into this process and asks. stage as in qi_module_get. */
void qi_probe_here(const qi_file *file, const quern_topology *topology, qi_stage stage, void *stage_ctx, qi_report *report);

/* Asks each plugin in a child process of its own, all at once. Returns within timeout_ms and about half a second; a child that
 * is not done by then is killed with all it started. Fills one report a file, which are all zero at first.
 *
 * The child is the program quern-probe, from QUERN_PROBE, beside this library (build tree), or the folder it is installed in. Where
 * it is missing or no process can be made, the plugin is tried in this process, with a warning: a library that finds nothing would
 * help nobody, and a sandbox that forbids processes is not the plugin's fault. */
void qi_probe_all(const qi_file *files, uint32_t count, uint32_t timeout_ms, const quern_topology *topology, qi_report *reports);

void qi_report_free(qi_report *report);

#endif
