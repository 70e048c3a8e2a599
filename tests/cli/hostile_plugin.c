/* SPDX-License-Identifier: MIT
 * Plugins that misbehave, one a FAULT: for quern devices, which must survive them all. */
#include <quern/plugin.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const qp_backend *query(uint32_t host_minor, const qp_host *host, qp_text *reason)
{
    (void)host_minor, (void)host;
#if defined(FAULT_TRAP)
    raise(SIGSEGV);
#elif defined(FAULT_HANG)
    for (;;)
        pause();
#elif defined(FAULT_EXIT)
    exit(0);
#endif
    if (reason && reason->data && reason->size)
        snprintf(reason->data, reason->size, "no millstone was found");
    return NULL;
}

#if !defined(FAULT_SYMBOL)
extern QP_EXPORT const qp_plugin quern_plugin;
QP_EXPORT const qp_plugin quern_plugin = {
#if defined(FAULT_MAGIC)
    .magic = 1,
#else
    .magic = QP_MAGIC,
#endif
    .struct_size = sizeof(qp_plugin),
#if defined(FAULT_MAJOR)
    .abi_major = QP_ABI_MAJOR + 1,
#else
    .abi_major = QP_ABI_MAJOR,
#endif
    .abi_minor = QP_ABI_MINOR,
    .name = NAME, /* that of its file */
    .version = "1",
    .query = query,
};
#else
extern QP_EXPORT const qp_backend *(*quern_pluggin)(uint32_t host_minor, const qp_host *host, qp_text *reason);
QP_EXPORT const qp_backend *(*quern_pluggin)(uint32_t host_minor, const qp_host *host, qp_text *reason) = query;
#endif
