/* SPDX-License-Identifier: MIT
 * tests/plugins/hostile.c: plugins that go wrong, one a value of KIND. NAME is what the file is called. What a kind does not spoil
 * is the null backend's. */
#include "backends/null/backend.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind {
    NO_SYMBOL,
    WRONG_MAGIC,
    WRONG_MAJOR,
    NEWER_MINOR,
    TINY_STRUCT,
    SHORT_STRUCT,
    WRONG_NAME,
    NULL_QUERY,
    NO_BACKEND,
    TRAPS_IN_QUERY,
    TRAPS_IN_COUNT,
    TRAPS_IN_INFO,
    HANGS,
    HANGS_CLOSED,
    HANGS_FORKED,
    CHATTY,
    EXITS,
    ABORTS,
    SHORT_TABLE,
    HOLE_IN_TABLE,
    LACKS_SYMBOL,
    JUNK_REPORT,
    NO_DEVICES,
    MANY_DEVICES,
    BAD_INFO,
    INFO_FAILS,
    DAEMON,
    LARGER,
    LOST,
    RUDE
};

static qp_backend table;

/* ---- before any call ---- */

__attribute__((constructor)) static void start(void)
{
    if (KIND == ABORTS)
        abort();
}

#ifdef UNDEFINED
int quern_test_nobody_defines_this(void);
int quern_test_calls_it(void);
QP_EXPORT int quern_test_calls_it(void)
{
    return quern_test_nobody_defines_this();
}
#endif

/* ---- devices ---- */

static uint32_t device_count(void)
{
    switch (KIND) {
    case TRAPS_IN_COUNT: *(volatile int *)0 = 1; return 1;
    case NO_DEVICES: return 0;
    case MANY_DEVICES: return 1000000;
    default: return 1;
    }
}

static qp_status device_info(uint32_t index, qp_device_info *info, qp_text *error)
{
    if (KIND == TRAPS_IN_INFO)
        raise(SIGFPE);
    if (KIND == INFO_FAILS) {
        memset(error->data, 'x', error->size); /* no end */
        return 4711;
    }
    qp_status status = qn_backend(NULL)->device_info(index, info, error);
    if (KIND == BAD_INFO) {
        memset(info->name, 'n', sizeof info->name);
        info->heap_count = 4000000000u;
    }
    return status;
}

/* ---- a device at work ---- */

static qp_status lose(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error)
{
    (void)buffer, (void)offset, (void)data, (void)size;
    snprintf(error->data, error->size, "the GPU fell off the bus.\n");
    return QP_ERR_DEVICE_LOST;
}

/* Success without a result. */
static qp_status create_nothing(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error)
{
    (void)device, (void)heap, (void)size, (void)out, (void)error;
    return QP_OK;
}

/* A status nobody knows, with words that do not end. */
static qp_status fail_oddly(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error)
{
    (void)device, (void)value, (void)out;
    memset(error->data, 'x', error->size);
    return 4711;
}

/* ---- query ---- */

static void hang(void)
{
    for (;;)
        pause();
}

/* A child in the same group keeps the pipes open and hangs with its parent. */
static void hang_forked(void)
{
    signal(SIGTERM, SIG_IGN);
    fork();
    hang();
}

static void close_all(void)
{
    for (int fd = 0; fd < 1024; fd++)
        close(fd);
}

/* As drivers do that start a service: it outlives its parent's group and holds the pipes for a while. */
static void start_daemon(void)
{
    if (fork() == 0) {
        setsid();
        sleep(2);
        _exit(0);
    }
}

static void chatter(void)
{
    char line[1024];
    memset(line, 'z', sizeof line);
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < 1024; i++)
        if (write(i & 1 ? STDOUT_FILENO : STDERR_FILENO, line, sizeof line) < 0)
            _exit(9);
}

static void write_everywhere(void)
{
    for (int fd = 3; fd < 256; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && write(fd, "some driver's idea of a log\n", 28) < 0)
            continue;
}

static const qp_backend *query(uint32_t host_minor, const qp_host *host, qp_text *reason)
{
    (void)host_minor;
    switch (KIND) {
    case NO_BACKEND: snprintf(reason->data, reason->size, "the driver libimaginary.so.1 is not installed\n"); return NULL;
    case TRAPS_IN_QUERY: fprintf(stderr, "imaginary driver: assertion failed\n"); __builtin_trap();
    case HANGS: hang(); break;
    case HANGS_CLOSED:
        close_all();
        hang();
        break;
    case HANGS_FORKED: hang_forked(); break;
    case CHATTY: chatter(); break;
    case EXITS: exit(0);
    case JUNK_REPORT: write_everywhere(); break;
    case DAEMON: start_daemon(); break;
    default: break;
    }
    table = *qn_backend(host);
    table.device_count = device_count;
    table.device_info = device_info;
    if (KIND == SHORT_TABLE)
        table.struct_size = (uint32_t)offsetof(qp_backend, timeline_wait);
    if (KIND == HOLE_IN_TABLE)
        table.program_run = NULL;
    if (KIND == LOST)
        table.buffer_write = lose;
    if (KIND == RUDE) {
        table.buffer_create = create_nothing;
        table.timeline_create = fail_oddly;
    }
    if (KIND == LARGER)
        table.struct_size += 64; /* members that this host does not know */
    return &table;
}

/* ---- the symbol ---- */

typedef struct larger_plugin {
    qp_plugin plugin;
    void *later[4];
} larger_plugin;

#ifndef WITHOUT_ENTRY
extern QP_EXPORT const larger_plugin quern_plugin;
const larger_plugin quern_plugin = {{
    .magic = KIND == WRONG_MAGIC ? 0x464c457fu : QP_MAGIC,
    .struct_size = KIND == TINY_STRUCT    ? 8
                   : KIND == SHORT_STRUCT ? offsetof(qp_plugin, query)
                   : KIND == LARGER       ? sizeof(larger_plugin)
                                          : sizeof(qp_plugin),
    .abi_major = KIND == WRONG_MAJOR ? QP_ABI_MAJOR + 1 : QP_ABI_MAJOR,
    .abi_minor = KIND == NEWER_MINOR ? QP_ABI_MINOR + 1 : QP_ABI_MINOR,
    .name = KIND == WRONG_NAME ? "somebody\n else" : NAME,
    .version = "0",
    .query = KIND == NULL_QUERY ? NULL : query,
}};
#else
typedef const qp_backend *(*query_function)(uint32_t, const qp_host *, qp_text *);
extern QP_EXPORT const query_function quern_plugin_of_old;
const query_function quern_plugin_of_old = query;
#endif
