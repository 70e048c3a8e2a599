/* SPDX-License-Identifier: MIT
 * The CPU plugin: what a host looks at before it calls anything. */
#include "backends/cpu/backend.h"

static const qp_backend *query(uint32_t host_minor, const qp_host *host, qp_text *reason)
{
    (void)host_minor; /* this plugin needs nothing that a later minor added */
    (void)reason;
    return qc_backend(host);
}

QP_EXPORT extern const qp_plugin quern_plugin;
const qp_plugin quern_plugin = {
    .magic = QP_MAGIC,
    .struct_size = sizeof quern_plugin,
    .abi_major = QP_ABI_MAJOR,
    .abi_minor = QP_ABI_MINOR,
    .name = "cpu",
    .version = QUERN_VERSION,
    .query = query,
};
