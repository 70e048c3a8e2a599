/* SPDX-License-Identifier: MIT
 * backends/null/backend.h: what plugins/null takes from here.
 *
 * The null backend checks everything, as a real one must, and computes nothing. It is the template for new backends: a file for
 * each noun of quern/plugin.h, the same names in every backend.
 *   status    words, host services        device    the device and its facts     buffer    memory and transfers
 *   ops       one row an op: check, launch weights   layout and packing           program   a checked list of ops
 *   queue     submitted runs, in order     timeline  semaphores                   backend   the table */
#ifndef QUERN_BACKENDS_NULL_BACKEND_H
#define QUERN_BACKENDS_NULL_BACKEND_H

#include <quern/plugin.h>

/* The backend table; it lives as long as the program does. host (may be NULL) is kept and used from then on. */
const qp_backend *qn_backend(const qp_host *host);

#endif
