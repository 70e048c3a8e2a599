/* SPDX-License-Identifier: MIT */
#include "cli/machine.h"
#include "cli/output.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

static int in_set(const uint64_t *set, unsigned bit)
{
    return bit < 64 * QUERN_CPUSET_WORDS && (set[bit / 64] >> bit % 64 & 1);
}

int cli_cpuset_text(const uint64_t *set, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (unsigned bit = 0; bit < 64 * QUERN_CPUSET_WORDS; bit++) {
        if (!in_set(set, bit))
            continue;
        unsigned last = bit;
        while (in_set(set, last + 1))
            last++;
        char range[32];
        int length = last > bit ? snprintf(range, sizeof range, "%s%u-%u", used ? "," : "", bit, last)
                                : snprintf(range, sizeof range, "%s%u", used ? "," : "", bit);
        if (used + (size_t)length + sizeof "…" > size) {
            memcpy(out + used, "…", sizeof "…");
            return 1;
        }
        memcpy(out + used, range, (size_t)length + 1);
        used += (size_t)length;
        bit = last;
    }
    return used > 0;
}

static uint32_t cpu_count(const quern_topology *topology)
{
    uint32_t count = 0;
    while (quern_topology_cpu(topology, count))
        count++;
    return count;
}

static void pci_address(const quern_pci *pci, char out[32])
{
    snprintf(out, 32, "%04x:%02x:%02x.%x", pci->domain, pci->bus, pci->device, pci->function);
}

static void print_memory(void)
{
    char a[32], b[32];
    quern_memory_info memory;
    quern_error error = {0};
    if (quern_memory_query(NULL, &memory, &error) != QP_OK) {
        cli_print("  memory    unknown: %s\n", error.text);
        return;
    }
    cli_print("  memory    %s, %s available to this process\n", cli_size(a, memory.total), cli_size(b, memory.available));
    if (!memory.limit) {
        cli_print("  limit     none\n");
        return;
    }
    cli_print("  limit     %s, %s used, by %s\n", cli_size(a, memory.limit), cli_size(b, memory.used), memory.limit_source);
}

static void print_processors(const quern_topology *topology)
{
    const quern_package *package;
    const quern_cache *cache;
    const quern_numa *numa;
    char size[32];
    for (uint32_t i = 0; (package = quern_topology_package(topology, i)); i++) {
        cli_print("  package   %u: ", package->os_index);
        cli_print_text(package->model, strlen(package->model), 0);
        cli_print("%s, %u cores\n", package->model[0] ? "" : "model unknown", package->cores);
    }
    cli_print("  usable    %u cores, %u processing units", quern_topology_cores(topology), cpu_count(topology));
    uint32_t quota = quern_topology_cpu_quota(topology);
    if (quota)
        cli_print(", a CPU quota of %u threads", quota);
    cli_print("\n");
    for (uint32_t i = 0; (cache = quern_topology_cache(topology, i)); i++)
        cli_print("  cache     L%u: %u of %s\n", cache->level, cache->count, cli_size(size, cache->size));
    for (uint32_t i = 0; (numa = quern_topology_numa(topology, i)); i++)
        cli_print("  NUMA      node %u: %s, %u cores\n", numa->os_index, cli_size(size, numa->memory), numa->cores);
}

void cli_print_machine(const quern_topology *topology)
{
    const quern_pci *pci;
    char address[32];
    cli_print("Machine:\n");
    print_processors(topology);
    print_memory();
    for (uint32_t i = 0; (pci = quern_topology_pci(topology, i)); i++) {
        pci_address(pci, address);
        cli_print("  PCI       %s %04x:%04x ", address, pci->vendor_id, pci->device_id);
        cli_print_text(pci->name, strlen(pci->name), 0);
        if (pci->numa_node >= 0)
            cli_print(", NUMA node %d", pci->numa_node);
        cli_print("\n");
    }
    if (!quern_topology_pci(topology, 0))
        cli_print("  PCI       no display, 3D or accelerator device seen\n");
}

static json_object *number(uint64_t value)
{
    return json_object_new_uint64(value);
}

static json_object *text_or_null(const char *text)
{
    return *text ? cli_json_text(text, strlen(text)) : NULL;
}

static json_object *packages_json(const quern_topology *topology)
{
    json_object *list = json_object_new_array();
    const quern_package *package;
    for (uint32_t i = 0; (package = quern_topology_package(topology, i)); i++) {
        json_object *object = json_object_new_object();
        json_object_object_add(object, "index", number(package->os_index));
        json_object_object_add(object, "model", text_or_null(package->model));
        json_object_object_add(object, "cores", number(package->cores));
        json_object_array_add(list, object);
    }
    return list;
}

static json_object *caches_json(const quern_topology *topology)
{
    json_object *list = json_object_new_array();
    const quern_cache *cache;
    for (uint32_t i = 0; (cache = quern_topology_cache(topology, i)); i++) {
        json_object *object = json_object_new_object();
        json_object_object_add(object, "level", number(cache->level));
        json_object_object_add(object, "size", number(cache->size));
        json_object_object_add(object, "count", number(cache->count));
        json_object_object_add(object, "line", cache->line ? number(cache->line) : NULL);
        json_object_array_add(list, object);
    }
    return list;
}

static json_object *numa_json(const quern_topology *topology)
{
    json_object *list = json_object_new_array();
    const quern_numa *numa;
    for (uint32_t i = 0; (numa = quern_topology_numa(topology, i)); i++) {
        json_object *object = json_object_new_object();
        json_object_object_add(object, "node", number(numa->os_index));
        json_object_object_add(object, "memory", number(numa->memory));
        json_object_object_add(object, "cores", number(numa->cores));
        json_object_array_add(list, object);
    }
    return list;
}

static json_object *pci_json(const quern_topology *topology)
{
    json_object *list = json_object_new_array();
    const quern_pci *pci;
    char text[256];
    for (uint32_t i = 0; (pci = quern_topology_pci(topology, i)); i++) {
        json_object *object = json_object_new_object();
        pci_address(pci, text);
        json_object_object_add(object, "address", json_object_new_string(text));
        json_object_object_add(object, "vendor_id", number(pci->vendor_id));
        json_object_object_add(object, "device_id", number(pci->device_id));
        json_object_object_add(object, "class_id", number(pci->class_id));
        json_object_object_add(object, "name", text_or_null(pci->name));
        json_object_object_add(object, "numa_node", pci->numa_node >= 0 ? json_object_new_int(pci->numa_node) : NULL);
        json_object_object_add(object, "cpuset",
                               cli_cpuset_text(pci->cpuset, text, sizeof text) ? json_object_new_string(text) : NULL);
        json_object_array_add(list, object);
    }
    return list;
}

static json_object *memory_json(void)
{
    quern_memory_info memory;
    if (quern_memory_query(NULL, &memory, NULL) != QP_OK)
        return NULL;
    json_object *object = json_object_new_object();
    json_object_object_add(object, "total", number(memory.total));
    json_object_object_add(object, "available", number(memory.available));
    json_object_object_add(object, "limit", memory.limit ? number(memory.limit) : NULL);
    json_object_object_add(object, "used", memory.limit ? number(memory.used) : NULL);
    json_object_object_add(object, "limit_source", text_or_null(memory.limit_source));
    return object;
}

json_object *cli_machine_json(const quern_topology *topology)
{
    json_object *root = json_object_new_object();
    uint32_t quota = quern_topology_cpu_quota(topology);
    json_object_object_add(root, "packages", packages_json(topology));
    json_object_object_add(root, "cores", number(quern_topology_cores(topology)));
    json_object_object_add(root, "processing_units", number(cpu_count(topology)));
    json_object_object_add(root, "cpu_quota", quota ? number(quota) : NULL);
    json_object_object_add(root, "caches", caches_json(topology));
    json_object_object_add(root, "numa", numa_json(topology));
    json_object_object_add(root, "pci", pci_json(topology));
    json_object_object_add(root, "memory", memory_json());
    return root;
}
