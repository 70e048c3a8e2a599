/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/variant.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/ops.h"
#include "backends/vulkan/selftest.h"
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
    size_t used = strlen(note->data);
    char words[160];
    int n = snprintf(words, sizeof words, "%s%s%s%s", used ? "; " : "", name, *name ? ": " : "", why);
    if (n > 0 && (size_t)n < sizeof words && used + (size_t)n < note->size)
        memcpy(note->data + used, words, (size_t)n + 1);
}

static int is_asked_for(const qp_device *device, const qv_variant *v)
{
    return !device->variant || !strcmp(device->variant, v->name);
}

static int runs_here(const qv_physical *physical, const qv_variant *v)
{
    return !v->lacks || !v->lacks(physical);
}

/* On a bench, the variant under test for the op that it is of. */
static const qv_variant *chosen_for_test(const qp_device *device, const qv_op_row *row)
{
    const qv_variant *v = row->variants;
    while (!is_last(v) && v != device->only)
        v++;
    return v;
}

typedef struct failures {
    const qv_variant *variants[16];
    const char *faults[16];
    uint32_t count;
} failures;

/* Why it is not to run this op, in words that last; NULL: it may. */
static const char *objection(const qp_device *device, const qv_op_row *row, const qv_variant *v, const qp_op *op,
                             const char *kernel, failures *failed)
{
    const char *why = v->refuses ? v->refuses(device, op) : NULL;
    if (why || (!is_last(v) && !is_asked_for(device, v)))
        return why;
    const char *fault = qv_selftest_fault(device, row, v, op, kernel);
    if (fault && failed->count < sizeof failed->faults / sizeof *failed->faults) {
        failed->variants[failed->count] = v;
        failed->faults[failed->count++] = fault;
    }
    return fault ? "it fails its test on this device" : NULL;
}

/* Of those that are passed over: what nothing can be done about comes last. */
static void note_rest(const qp_device *device, const qv_op_row *row, const qv_variant *chosen, int unwanted, qp_text *note)
{
    if (unwanted) {
        char words[96];
        snprintf(words, sizeof words, "--variant %s was asked for", device->variant);
        add_note(note, "", words);
    }
    for (const qv_variant *v = row->variants; v < chosen; v++)
        if (is_asked_for(device, v) && !runs_here(device->physical, v))
            add_note(note, v->name, v->lacks(device->physical));
}

static qp_status refuse(const qp_device *device, const char *kernel, const failures *failed, qp_text *reason)
{
    char name[64];
    if (!failed->count)
        return qv_fail(reason, QP_ERR_INTERNAL, "no kernel takes it");
    uint32_t last = failed->count - 1;
    qv_selftest_name(kernel, failed->variants[last], name);
    return qv_fail(reason, QP_ERR_UNSUPPORTED, "the kernel %s fails its test on %s, driver %s: %s", name,
                   device->physical->properties.deviceName, device->physical->driver, failed->faults[last]);
}

qp_status qv_variant_choose(const qp_device *device, const qv_op_row *row, const qp_op *op, const char *kernel,
                            const qv_variant **out, qp_text *note, qp_text *reason)
{
    const qv_variant *v = row->variants;
    failures failed = {0};
    int unwanted = 0;
    note->data[0] = '\0';
    *out = device->is_bench ? chosen_for_test(device, row) : NULL;
    for (; !*out && v->name; v++) {
        if (!runs_here(device->physical, v))
            continue;
        const char *why = objection(device, row, v, op, kernel, &failed);
        int wanted = is_last(v) || is_asked_for(device, v);
        if (!why && wanted)
            *out = v;
        else if (why && wanted) /* of those that the user did not ask for, that is reason enough */
            add_note(note, v->name, why);
        else if (!why)
            unwanted = 1;
    }
    for (uint32_t i = 0; *out && i < failed.count; i++)
        qv_selftest_warn(device, kernel, failed.variants[i], failed.faults[i], *out);
    if (!*out)
        return refuse(device, kernel, &failed, reason);
    note_rest(device, row, *out, unwanted, note);
    return QP_OK;
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
