/* SPDX-License-Identifier: MIT */
#include "core/registry.h"
#include "core/topology.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- preference ---- */

static int kind_rank(uint32_t kind)
{
    switch (kind) {
    case QP_DEVICE_GPU_DISCRETE: return 0;
    case QP_DEVICE_GPU_INTEGRATED: return 1;
    case QP_DEVICE_CPU: return 2;
    case QP_DEVICE_GPU_SOFTWARE: return 4; /* slower than the CPU plugin on the same cores */
    case QP_DEVICE_NULL: return 5;
    default: return 3;
    }
}

/* Through an interface that serves every maker's cards. Any other plugin is taken to be made for the cards it lists. */
static int is_portable(const quern_device_view *view)
{
    return (view->info.flags & QP_DEVICE_PORTABLE) != 0;
}

static int is_better_view(const quern_device_view *a, const quern_device_view *b)
{
    int kinds = kind_rank(a->info.kind) - kind_rank(b->info.kind);
    if (kinds)
        return kinds < 0;
    int portable = is_portable(a) - is_portable(b);
    return portable ? portable < 0 : strcmp(a->plugin, b->plugin) < 0;
}

static void explain_preference(quern_device_entry *entry)
{
    const quern_device_view *first = &entry->views[0], *second = &entry->views[1];
    if (entry->view_count < 2)
        return;
    if (is_portable(first) == is_portable(second))
        snprintf(entry->preferred_why, sizeof entry->preferred_why, "%.32s and %.32s are equals here; the first by name is taken",
                 first->plugin, second->plugin);
    else
        snprintf(entry->preferred_why, sizeof entry->preferred_why, "%.32s is made for this card, %.32s is the portable way to it",
                 first->plugin, second->plugin);
}

static uint64_t pci_key(const qp_device_info *info)
{
    if (!(info->flags & QP_DEVICE_HAS_PCI))
        return UINT64_MAX;
    return (uint64_t)info->pci_domain << 32 | (uint64_t)(info->pci_bus & 0xffff) << 16 | (info->pci_device & 0xff) << 8 |
           (info->pci_function & 0xff);
}

static uint64_t weight_heap(const qp_device_info *info)
{
    return info->weight_heap < info->heap_count ? info->heaps[info->weight_heap].size : 0;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_entries(const void *left, const void *right)
{
    const quern_device_view *a = ((const quern_device_entry *)left)->views, *b = ((const quern_device_entry *)right)->views;
    int order = kind_rank(a->info.kind) - kind_rank(b->info.kind);
    order = order ? order : compare_numbers(weight_heap(&b->info), weight_heap(&a->info));
    order = order ? order : compare_numbers(pci_key(&a->info), pci_key(&b->info));
    order = order ? order : strcmp(a->plugin, b->plugin);
    return order ? order : compare_numbers(a->plugin_index, b->plugin_index);
}

/* ---- joining ---- */

static int same_pci(const qp_device_info *a, const qp_device_info *b)
{
    return a->flags & b->flags & QP_DEVICE_HAS_PCI && a->pci_domain == b->pci_domain && a->pci_bus == b->pci_bus &&
           a->pci_device == b->pci_device && a->pci_function == b->pci_function;
}

static int same_uuid(const qp_device_info *a, const qp_device_info *b)
{
    static const uint8_t none[sizeof a->uuid];
    return a->flags & b->flags & QP_DEVICE_HAS_UUID && memcmp(a->uuid, none, sizeof none) != 0 &&
           !memcmp(a->uuid, b->uuid, sizeof none);
}

/* One plugin lists a card once: two of its devices at one address are slices of the card, and stay apart. */
static int can_join(const quern_device_entry *entry, const quern_device_view *view)
{
    for (uint32_t i = 0; i < entry->view_count; i++)
        if (!strcmp(entry->views[i].plugin, view->plugin))
            return 0;
    return entry->view_count < QUERN_MAX_VIEWS;
}

static quern_device_entry *find_card(const qi_registry *registry, const quern_device_view *view)
{
    int (*const same[])(const qp_device_info *, const qp_device_info *) = {same_pci, same_uuid};
    for (int way = 0; way < 2; way++)
        for (uint32_t i = 0; i < registry->count; i++) {
            quern_device_entry *entry = &registry->entries[i];
            if (same[way](&entry->views[0].info, &view->info) && can_join(entry, view))
                return entry;
        }
    return NULL;
}

/* Keeps the best view first. */
static void add_view(quern_device_entry *entry, const quern_device_view *view)
{
    uint32_t at = entry->view_count++;
    for (; at > 0 && is_better_view(view, &entry->views[at - 1]); at--)
        entry->views[at] = entry->views[at - 1];
    entry->views[at] = *view;
}

/* ---- locality ---- */

static void all_units(const quern_topology *topology, uint64_t words[QUERN_CPUSET_WORDS])
{
    const qp_cpu *cpu;
    for (uint32_t i = 0; (cpu = quern_topology_cpu(topology, i)); i++)
        if (cpu->os_index < QUERN_CPUSET_WORDS * 64)
            words[cpu->os_index / 64] |= UINT64_C(1) << cpu->os_index % 64;
}

static void locate(quern_device_entry *entry, const quern_topology *topology)
{
    entry->numa_node = -1;
    for (uint32_t i = 0; topology && i < entry->view_count; i++) {
        const qp_device_info *info = &entry->views[i].info;
        const quern_pci *pci = NULL;
        if (info->flags & QP_DEVICE_HAS_PCI)
            pci = qi_topology_pci_at(topology, info->pci_domain, info->pci_bus, info->pci_device, info->pci_function);
        if (pci) {
            entry->numa_node = pci->numa_node;
            memcpy(entry->cpuset, pci->cpuset, sizeof entry->cpuset);
            return;
        }
    }
    if (topology)
        all_units(topology, entry->cpuset);
}

/* ---- building ---- */

quern_status qi_registry_build(const quern_device_view *views, uint32_t count, const quern_topology *topology, qi_registry *out,
                               quern_error *error)
{
    *out = (qi_registry){.entries = calloc((size_t)count + 1, sizeof *out->entries), .views = views, .view_count = count};
    if (!out->entries)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to list %u devices", count);
    for (uint32_t i = 0; i < count; i++) {
        quern_device_entry *entry = find_card(out, &views[i]);
        add_view(entry ? entry : &out->entries[out->count++], &views[i]);
    }
    qsort(out->entries, out->count, sizeof *out->entries, compare_entries);
    for (uint32_t i = 0; i < out->count; i++) {
        quern_device_entry *entry = &out->entries[i];
        qi_registry_view_id(out, &entry->views[0], entry->id, sizeof entry->id);
        explain_preference(entry);
        locate(entry, topology);
    }
    return QP_OK;
}

void qi_registry_free(qi_registry *registry)
{
    free(registry->entries);
    *registry = (qi_registry){0};
}

/* ---- ids ---- */

static uint32_t devices_of(const qi_registry *registry, const char *plugin)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < registry->view_count; i++)
        count += !strcmp(registry->views[i].plugin, plugin);
    return count;
}

void qi_registry_view_id(const qi_registry *registry, const quern_device_view *view, char *dst, size_t size)
{
    if (devices_of(registry, view->plugin) > 1)
        snprintf(dst, size, "%s:%u", view->plugin, view->plugin_index);
    else
        snprintf(dst, size, "%s", view->plugin);
}

/* "PLUGIN:NUMBER" is right for a plugin's only device too. */
static int is_named(const quern_device_view *view, const char *id)
{
    char numbered[80];
    snprintf(numbered, sizeof numbered, "%s:%u", view->plugin, view->plugin_index);
    return !strcmp(id, numbered) || !strcmp(id, view->plugin);
}

const quern_device_entry *qi_registry_find(const qi_registry *registry, const char *id, const quern_device_view **view)
{
    int automatic = !id || !strcmp(id, "auto");
    for (uint32_t i = 0; i < registry->count; i++) {
        const quern_device_entry *entry = &registry->entries[i];
        for (uint32_t j = 0; j < (automatic ? 1 : entry->view_count); j++) {
            const quern_device_view *candidate = &entry->views[j];
            /* a device that computes nothing is never chosen for anybody */
            if (automatic ? candidate->info.kind == QP_DEVICE_NULL : !is_named(candidate, id))
                continue;
            if (view)
                *view = candidate;
            return entry;
        }
    }
    return NULL;
}
