/* SPDX-License-Identifier: MIT
 * core/registry.h: from what plugins report to one list with one entry a physical device. Internal; a pure function of its
 * arguments, so that it is tested with devices nobody has. */
#ifndef QUERN_CORE_REGISTRY_H
#define QUERN_CORE_REGISTRY_H

#include <quern/device.h>

typedef struct qi_registry {
    quern_device_entry *entries; /* best first */
    uint32_t count;
    const quern_device_view *views; /* what it was built from, borrowed */
    uint32_t view_count;
} qi_registry;

/* Views of different plugins that share a PCI address, or else a UUID, are one card. views must outlive the registry.
 *
 * Order: discrete GPUs, integrated ones, CPUs, others, software GPUs, null devices; among equals the larger weight heap, then the
 * place on the bus, then the plugin's order. The preferred view of a card is the one whose interface was made for that maker's
 * cards; portable interfaces come after. */
quern_status qi_registry_build(const quern_device_view *views, uint32_t count, const quern_topology *topology, qi_registry *out,
                               quern_error *error);
void qi_registry_free(qi_registry *registry);

/* "vulkan", or "vulkan:1" where that plugin has several devices. */
void qi_registry_view_id(const qi_registry *registry, const quern_device_view *view, char *dst, size_t size);

/* The entry, and the view in it, that an id names: an entry's id, the id of another of its views, a plugin's name for its best
 * device, NULL or "auto" for the first that computes. NULL: none. view may be NULL. */
const quern_device_entry *qi_registry_find(const qi_registry *registry, const char *id, const quern_device_view **view);

#endif
