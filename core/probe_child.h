/* SPDX-License-Identifier: MIT
 * core/probe_child.h: one probing child process. Internal. */
#ifndef QUERN_CORE_PROBE_CHILD_H
#define QUERN_CORE_PROBE_CHILD_H

#include "core/probe_wire.h"

#include <sys/types.h>

typedef struct qi_child {
    pid_t pid;
    int results, words; /* our ends of the pipes: the report, and what the child prints; −1: closed */
    int exited;         /* reaped, or not ours to reap */
    int status;         /* of waitpid; −1: unknown, somebody else reaped it */
    int late;           /* ended by us, its time was over */
    qi_wire_reader reader;
    char tail[256]; /* the end of what it printed */
} qi_child;

/* Starts `helper` on the file. QP_ERR_IO with words when it cannot. */
quern_status qi_child_start(qi_child *child, const char *helper, const qi_file *file, quern_error *error);

/* Reads what there is; closes a pipe at its end. fd: which one is ready. */
void qi_child_read(qi_child *child, int fd);

/* Has it ended? Then everything it started is killed, it is reaped, and what is left in the pipes is read. */
int qi_child_reap(qi_child *child);

/* Ends it and all it started. */
void qi_child_kill(qi_child *child);

/* Closes the pipes and moves the outcome, after the child has ended or was killed. */
void qi_child_finish(qi_child *child, uint32_t timeout_ms, qi_report *report);

#endif
