/* SPDX-License-Identifier: MIT
 * core/probe_wire.h: how the probing child tells its parent what it found: records through a pipe, each checked, since the code
 * that is probed can write anything anywhere. Parent and child are of one build and one machine. Internal. */
#ifndef QUERN_CORE_PROBE_WIRE_H
#define QUERN_CORE_PROBE_WIRE_H

#include "core/probe.h"

enum { QI_WIRE_FD = 3 }; /* where the child finds the pipe */

enum {
    QI_WIRE_HELLO = 1,   /* uint32_t: sizeof(qp_device_info), which tells builds apart */
    QI_WIRE_STAGE = 2,   /* text: what is called now */
    QI_WIRE_DEVICE = 3,  /* qp_device_info, in the plugin's order */
    QI_WIRE_FAILURE = 4, /* text, ends the report */
    QI_WIRE_DONE = 5,    /* uint32_t: the number of devices, ends the report */
};

/* Writes one record. 0 when the pipe is gone. */
int qi_wire_send(int fd, uint32_t type, const void *data, size_t size);

typedef enum qi_wire_state { QI_WIRE_READING, QI_WIRE_ENDED, QI_WIRE_BROKEN } qi_wire_state;

/* The parent's side: bytes go in as they come. */
typedef struct qi_wire_reader {
    char *data;
    size_t size, room;
    int greeted;
    qi_wire_state state;
    char stage[64];
    qi_report report; /* complete once the state is ENDED */
} qi_wire_reader;

void qi_wire_take(qi_wire_reader *reader, const char *data, size_t size);
void qi_wire_free(qi_wire_reader *reader); /* not the report */

#endif
