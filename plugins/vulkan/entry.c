/* SPDX-License-Identifier: MIT
 * plugins/vulkan/entry.c: the one object that the host sees. */
#include "backends/vulkan/backend.h"

static const qp_backend *query(uint32_t host_minor, const qp_host *host, qp_text *reason)
{
    (void)host_minor; /* a host that knows less reads less of the table */
    return qv_backend(host, reason);
}

extern QP_EXPORT const qp_plugin quern_plugin;
const qp_plugin quern_plugin = {
    .magic = QP_MAGIC,
    .struct_size = sizeof quern_plugin,
    .abi_major = QP_ABI_MAJOR,
    .abi_minor = QP_ABI_MINOR,
    .name = "vulkan",
    .version = QUERN_VERSION,
    .query = query,
};
