/* SPDX-License-Identifier: MIT
 * backends/cpu/backend.h: what plugins/cpu takes from here. */
#ifndef QUERN_BACKENDS_CPU_BACKEND_H
#define QUERN_BACKENDS_CPU_BACKEND_H

#include <quern/plugin.h>

/* The backend table; it lives as long as the program does. host (may be NULL) is kept and used from then on. */
const qp_backend *qc_backend(const qp_host *host);

#endif
