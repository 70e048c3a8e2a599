/* SPDX-License-Identifier: MIT */
#include "core/probe_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WIRE_MAGIC 0x50425251u /* "QRBP" */

enum { MOST_PAYLOAD = 4096 };
_Static_assert(sizeof(qp_device_info) <= MOST_PAYLOAD, "a device fits in a record");

typedef struct header {
    uint32_t magic, type, size, sum;
} header;

/* FNV-1a (Fowler, Noll, Vo 1991): enough to tell a record from stray output. */
static uint32_t checksum(uint32_t type, const unsigned char *data, size_t size)
{
    uint32_t sum = 2166136261u ^ type;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ data[i]) * 16777619u;
    return sum;
}

/* ---- child ---- */

static int send_bytes(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t sent = write(fd, data, size);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return 0;
        data += sent;
        size -= (size_t)sent;
    }
    return 1;
}

int qi_wire_send(int fd, uint32_t type, const void *data, size_t size)
{
    char record[sizeof(header) + MOST_PAYLOAD];
    if (size > MOST_PAYLOAD)
        return 0;
    header head = {WIRE_MAGIC, type, (uint32_t)size, checksum(type, data, size)};
    memcpy(record, &head, sizeof head);
    memcpy(record + sizeof head, data, size);
    return send_bytes(fd, record, sizeof head + size);
}

/* ---- parent ---- */

static int is_known(uint32_t type)
{
    return type >= QI_WIRE_HELLO && type <= QI_WIRE_DONE;
}

static int take_number(const char *data, size_t size, uint32_t *number)
{
    if (size != sizeof *number)
        return 0;
    memcpy(number, data, size);
    return 1;
}

static void take_text(char *dst, size_t room, const char *data, size_t size)
{
    size_t length = size < room ? size : room - 1;
    for (size_t i = 0; i < length; i++)
        dst[i] = (unsigned char)data[i] < ' ' ? ' ' : data[i];
    dst[length] = '\0';
}

/* The child has checked what the plugin said, but the plugin lives in the child. */
static int take_device(qi_report *report, const char *data, size_t size)
{
    qp_device_info info;
    if (size != sizeof info || report->count >= QI_MAX_DEVICES)
        return 0;
    memcpy(&info, data, size);
    if (info.struct_size != sizeof info || qi_info_check(&info, NULL))
        return 0;
    qp_device_info *devices = realloc(report->devices, (report->count + 1) * sizeof *devices);
    if (!devices)
        return 0;
    report->devices = devices;
    devices[report->count++] = info;
    return 1;
}

/* 0: the record makes no sense here. */
static int take_record(qi_wire_reader *r, uint32_t type, const char *data, size_t size)
{
    uint32_t number = 0;
    if (!r->greeted) {
        r->greeted = type == QI_WIRE_HELLO && take_number(data, size, &number) && number == sizeof(qp_device_info);
        return r->greeted;
    }
    switch (type) {
    case QI_WIRE_STAGE: take_text(r->stage, sizeof r->stage, data, size); return 1;
    case QI_WIRE_DEVICE: return take_device(&r->report, data, size);
    case QI_WIRE_FAILURE:
        take_text(r->report.failure, sizeof r->report.failure, data, size);
        r->state = QI_WIRE_ENDED;
        return r->report.failure[0] != '\0';
    case QI_WIRE_DONE: r->state = QI_WIRE_ENDED; return take_number(data, size, &number) && number == r->report.count && number > 0;
    default: return 0;
    }
}

/* Bytes used by the record at the start; 0: it is not all there yet. */
static size_t take_next(qi_wire_reader *r, const char *data, size_t size)
{
    header head;
    if (size < sizeof head)
        return 0;
    memcpy(&head, data, sizeof head);
    if (head.magic != WIRE_MAGIC || !is_known(head.type) || head.size > MOST_PAYLOAD) {
        r->state = QI_WIRE_BROKEN;
        return 0;
    }
    if (size - sizeof head < head.size)
        return 0;
    const char *payload = data + sizeof head;
    if (checksum(head.type, (const unsigned char *)payload, head.size) != head.sum ||
        !take_record(r, head.type, payload, head.size))
        r->state = QI_WIRE_BROKEN;
    return sizeof head + head.size;
}

static int append(qi_wire_reader *r, const char *data, size_t size)
{
    if (r->room - r->size < size) {
        size_t room = r->size + size + MOST_PAYLOAD;
        char *bigger = realloc(r->data, room);
        if (!bigger)
            return 0;
        r->data = bigger;
        r->room = room;
    }
    memcpy(r->data + r->size, data, size);
    r->size += size;
    return 1;
}

void qi_wire_take(qi_wire_reader *r, const char *data, size_t size)
{
    if (r->state != QI_WIRE_READING)
        return; /* what comes after the end is not ours */
    if (!append(r, data, size)) {
        r->state = QI_WIRE_BROKEN;
        return;
    }
    size_t used = 0, step;
    while (r->state == QI_WIRE_READING && (step = take_next(r, r->data + used, r->size - used)) > 0)
        used += step;
    r->size -= used;
    memmove(r->data, r->data + used, r->size);
}

void qi_wire_free(qi_wire_reader *r)
{
    free(r->data);
    r->data = NULL;
    r->size = r->room = 0;
}
