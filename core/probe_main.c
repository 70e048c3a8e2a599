/* SPDX-License-Identifier: MIT
 * quern-probe NAME FILE PARENT: the child in which a plugin is tried. It loads the plugin, asks it for its devices and writes what
 * it learns to descriptor 3 (core/probe_wire.h). The plugin may end this process in any way it likes. */
#include "core/probe_wire.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* In a sanitizer build: leave alone the signals whose names the parent wants to report. */
#define LEAVE_SIGNALS "handle_segv=0:handle_abort=0:handle_sigfpe=0:handle_sigill=0:handle_sigbus=0:detect_leaks=0"
QP_EXPORT const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return LEAVE_SIGNALS;
}
QP_EXPORT const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return LEAVE_SIGNALS;
}

/* Nobody wants a core file of somebody else's driver. 1 and not 0: that also keeps crash reporters away (core(5)). */
static void no_core_file(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_CORE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max < 1 ? limit.rlim_max : 1;
    setrlimit(RLIMIT_CORE, &limit);
}

static void close_between(unsigned first, unsigned last)
{
#ifdef SYS_close_range
    if (first <= last)
        syscall(SYS_close_range, first, last, 0);
#else
    (void)first, (void)last;
#endif
}

/* Takes the pipe out of the way of code that believes it knows its descriptors, and closes what else the application left open. */
static int take_pipe(void)
{
    int fd = fcntl(QI_WIRE_FD, F_DUPFD_CLOEXEC, 48);
    if (fd < 0)
        fd = fcntl(QI_WIRE_FD, F_DUPFD_CLOEXEC, QI_WIRE_FD + 1); /* the limit on open files (ulimit -n) is lower */
    if (fd < 0)
        return -1;
    close_between(QI_WIRE_FD, (unsigned)fd - 1);
    close_between((unsigned)fd + 1, ~0u);
    return fd;
}

static void send_stage(void *ctx, const char *what)
{
    qi_wire_send(*(const int *)ctx, QI_WIRE_STAGE, what, strlen(what));
}

static void send_report(int fd, const qi_report *report)
{
    if (report->failure[0]) {
        qi_wire_send(fd, QI_WIRE_FAILURE, report->failure, strlen(report->failure));
        return;
    }
    for (uint32_t i = 0; i < report->count; i++)
        qi_wire_send(fd, QI_WIRE_DEVICE, &report->devices[i], sizeof report->devices[i]);
    qi_wire_send(fd, QI_WIRE_DONE, &report->count, sizeof report->count);
}

int main(int argc, char **argv)
{
    int fd = argc == 4 ? take_pipe() : -1;
    if (fd < 0) {
        fprintf(stderr, "quern-probe: libquern runs this program to try plugins in; `quern devices` shows what it finds\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != (pid_t)strtol(argv[3], NULL, 10))
        return 2; /* the parent was gone before it could be watched */
    no_core_file();
    qi_file file = {0};
    snprintf(file.name, sizeof file.name, "%s", argv[1]);
    snprintf(file.path, sizeof file.path, "%s", argv[2]);
    uint32_t size = sizeof(qp_device_info);
    qi_wire_send(fd, QI_WIRE_HELLO, &size, sizeof size);
    qi_report report;
    qi_probe_here(&file, NULL, send_stage, &fd, &report);
    send_report(fd, &report);
    _exit(0); /* without the plugin's and its driver's exit handlers */
}
