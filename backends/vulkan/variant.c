/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/variant.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/ops.h"
#include "backends/vulkan/status.h"

#include <stdio.h>
#include <string.h>

static int is_last(const qv_variant *v)
{
    return !v[1].name;
}

/* ---- the choice ---- */

/* Adds "NAME: why" to a list. Words that do not fit are left out whole. */
static void add_note(qp_text *note, const char *name, const char *why)
{
    size_t used = note && note->data && note->size ? strlen(note->data) : 0;
    char words[160];
    int n = snprintf(words, sizeof words, "%s%s%s%s", used ? "; " : "", name, *name ? ": " : "", why);
    if (note && note->data && n > 0 && (size_t)n < sizeof words && used + (size_t)n < note->size)
        memcpy(note->data + used, words, (size_t)n + 1);
}

static int is_asked_for(const qp_device *device, const qv_variant *v)
{
    return !device->variant || !strcmp(device->variant, v->name);
}

static const char *why_not(const qp_device *device, const qv_variant *v, const qp_op *op)
{
    return v->refuses ? v->refuses(device, op) : NULL;
}

static int runs_here(const qv_physical *physical, const qv_variant *v)
{
    return !v->lacks || !v->lacks(physical);
}

const qv_variant *qv_variant_choose(const qp_device *device, const qv_op_row *row, const qp_op *op, qp_text *note)
{
    const qv_variant *v = row->variants;
    int unwanted = 0;
    if (note && note->size)
        note->data[0] = '\0';
    for (; !is_last(v); v++) {
        if (!runs_here(device->physical, v))
            continue;
        const char *why = why_not(device, v, op);
        if (!why && is_asked_for(device, v))
            break;
        unwanted |= !why;
        if (why)
            add_note(note, v->name, why);
    }
    if (unwanted) {
        char words[96];
        snprintf(words, sizeof words, "--variant %s was asked for", device->variant);
        add_note(note, "", words);
    }
    for (const qv_variant *better = row->variants; better < v; better++) /* what nothing can be done about comes last */
        if (!runs_here(device->physical, better))
            add_note(note, better->name, better->lacks(device->physical));
    return v;
}

/* ---- the names ---- */

typedef struct name_list {
    const char *names[32];
    uint32_t count;
} name_list;

static void add_name(name_list *list, const char *name)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (!strcmp(list->names[i], name))
            return;
    if (list->count < sizeof list->names / sizeof *list->names)
        list->names[list->count++] = name;
}

qp_status qv_variant_find(const qv_physical *physical, const char *name, const char **out, qp_text *error)
{
    name_list list = {0};
    const char *lacking = NULL;
    const qv_op_row *row;
    *out = NULL;
    for (uint32_t i = 0; name && (row = qv_op_row_at(i)); i++)
        for (const qv_variant *v = row->variants; v->name; v++)
            if (runs_here(physical, v))
                add_name(&list, v->name);
            else if (!strcmp(v->name, name))
                lacking = v->lacks(physical);
    char words[256] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < list.count && !*out; i++) {
        if (!strcmp(list.names[i], name))
            *out = list.names[i];
        if (used < sizeof words)
            used += (size_t)snprintf(words + used, sizeof words - used, " %s", list.names[i]);
    }
    if (!name || *out)
        return QP_OK;
    return qv_fail(error, QP_ERR_NOT_FOUND, "there are no kernels '%s' for this device%s%s%s; there are:%s", name,
                   lacking ? " (" : "", lacking ? lacking : "", lacking ? ")" : "", words);
}
