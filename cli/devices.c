/* SPDX-License-Identifier: MIT
 * cli/devices.c: quern devices: what there is to compute with, what is not known of it, and what did not load and why. */
#include "cli/commands.h"
#include "cli/machine.h"
#include "cli/output.h"

#include <json-c/json.h>
#include <quern/device.h>
#include <stdio.h>
#include <string.h>

typedef struct devices_args {
    int json;
    uint32_t probe_timeout_ms;
} devices_args;

static const char *kind_name(uint32_t kind)
{
    static const char *const names[] = {"other", "CPU", "integrated GPU", "discrete GPU", "software GPU", "null"};
    return kind < sizeof names / sizeof *names ? names[kind] : "other";
}

static const struct {
    uint32_t flag;
    const char *name;
} heap_flags[] = {{QP_HEAP_DEVICE_LOCAL, "device-local"},
                  {QP_HEAP_HOST_VISIBLE, "host-visible"},
                  {QP_HEAP_HOST_CACHED, "host-cached"},
                  {QP_HEAP_UNIFIED, "shared with the host"}};
enum { HEAP_FLAGS = sizeof heap_flags / sizeof *heap_flags };

static void pci_text(const qp_device_info *info, char out[32])
{
    snprintf(out, 32, "%04x:%02x:%02x.%x", info->pci_domain, info->pci_bus, info->pci_device, info->pci_function);
}

static void uuid_text(const qp_device_info *info, char out[40])
{
    char *at = out;
    for (unsigned i = 0; i < sizeof info->uuid; i++)
        at += snprintf(at, 4, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", info->uuid[i]);
}

static uint32_t heap_count(const qp_device_info *info)
{
    return info->heap_count < QP_MAX_HEAPS ? info->heap_count : QP_MAX_HEAPS;
}

/* ---- for people ---- */

static void print_heap(const qp_device_info *info, uint32_t index)
{
    const qp_heap *heap = &info->heaps[index];
    char size[32], budget[32], largest[32];
    cli_print("    memory    %s", cli_size(size, heap->size));
    if (heap->budget)
        cli_print(", %s to be had now", cli_size(budget, heap->budget));
    else
        cli_print(", what is free: unknown");
    if (heap->max_allocation && heap->max_allocation < heap->size)
        cli_print(", at most %s in one piece", cli_size(largest, heap->max_allocation));
    const char *between = " (";
    for (unsigned i = 0; i < HEAP_FLAGS; i++) {
        if (!(heap->flags & heap_flags[i].flag))
            continue;
        cli_print("%s%s", between, heap_flags[i].name);
        between = ", ";
    }
    cli_print("%s%s\n", between[0] == ',' ? ")" : "", index == info->weight_heap && heap_count(info) > 1 ? ", for weights" : "");
}

static void print_text_line(const char *label, const char *text)
{
    cli_print("    %-10s", label);
    if (*text)
        cli_print_text(text, strlen(text), 0);
    else
        cli_print("unknown");
    cli_print("\n");
}

static void print_locality(const quern_device_entry *entry)
{
    char set[256];
    cli_print("    near      ");
    if (entry->numa_node >= 0)
        cli_print("NUMA node %d", entry->numa_node);
    else
        cli_print("all NUMA nodes alike, or unknown");
    if (cli_cpuset_text(entry->cpuset, set, sizeof set))
        cli_print(", processing units %s", set);
    cli_print("\n");
}

static void print_device(const quern_device_entry *entry)
{
    const quern_device_view *view = &entry->views[0];
    const qp_device_info *info = &view->info;
    char text[40];
    cli_print("  %s  ", entry->id);
    cli_print_text(info->name, strlen(info->name), 0);
    cli_print("\n    kind      %s, by the %s plugin\n", kind_name(info->kind), view->plugin);
    if (info->driver[0] || info->kind != QP_DEVICE_CPU)
        print_text_line("driver", info->driver);
    if (info->units)
        cli_print("    %-10s%u\n", info->kind == QP_DEVICE_CPU ? "threads" : "units", info->units);
    else
        cli_print("    units     unknown\n");
    for (uint32_t i = 0; i < heap_count(info); i++)
        print_heap(info, i);
    if (!heap_count(info))
        cli_print("    memory    unknown\n");
    print_text_line("features", info->features);
    if (info->flags & QP_DEVICE_HAS_PCI) {
        pci_text(info, text);
        cli_print("    PCI       %s\n", text);
    }
    if (info->flags & QP_DEVICE_HAS_UUID) {
        uuid_text(info, text);
        cli_print("    UUID      %s\n", text);
    }
    print_locality(entry);
    for (uint32_t i = 1; i < entry->view_count && i < QUERN_MAX_VIEWS; i++)
        cli_print("    also      seen by the %s plugin; %s preferred: %s\n", entry->views[i].plugin, view->plugin,
                  entry->preferred_why);
}

static void print_all(const quern_context *context)
{
    const quern_device_entry *entry = quern_context_device(context, 0);
    cli_print(entry ? "Devices, best first:\n"
                    : "Devices: none. No plugin offers one; the reasons are below, if a plugin was found.\n");
    for (uint32_t i = 0; (entry = quern_context_device(context, i)); i++)
        print_device(entry);
    const quern_plugin_failure *failure = quern_context_failure(context, 0);
    if (failure)
        cli_print("\nPlugins that did not load:\n");
    for (uint32_t i = 0; (failure = quern_context_failure(context, i)); i++) {
        cli_print("  %s  ", failure->name);
        cli_print_text(failure->reason, strlen(failure->reason), 0);
        cli_print("\n    file      ");
        cli_print_text(failure->path, strlen(failure->path), 0);
        cli_print("\n");
    }
    cli_print("\n");
    cli_print_machine(quern_context_topology(context));
}

/* ---- for programs ---- */

static void add_text(json_object *object, const char *key, const char *text)
{
    json_object_object_add(object, key, *text ? cli_json_text(text, strlen(text)) : NULL);
}

static json_object *heap_json(const qp_device_info *info, uint32_t index)
{
    const qp_heap *heap = &info->heaps[index];
    json_object *object = json_object_new_object(), *flags = json_object_new_array();
    json_object_object_add(object, "size", json_object_new_uint64(heap->size));
    json_object_object_add(object, "budget", heap->budget ? json_object_new_uint64(heap->budget) : NULL);
    json_object_object_add(object, "max_allocation", json_object_new_uint64(heap->max_allocation));
    json_object_object_add(object, "alignment", json_object_new_uint64(heap->alignment));
    for (unsigned i = 0; i < HEAP_FLAGS; i++)
        if (heap->flags & heap_flags[i].flag)
            json_object_array_add(flags, json_object_new_string(heap_flags[i].name));
    json_object_object_add(object, "flags", flags);
    json_object_object_add(object, "weights", json_object_new_boolean(index == info->weight_heap));
    return object;
}

static json_object *view_json(const quern_device_view *view)
{
    const qp_device_info *info = &view->info;
    json_object *object = json_object_new_object(), *heaps = json_object_new_array();
    char text[40];
    add_text(object, "backend", view->plugin);
    add_text(object, "name", info->name);
    add_text(object, "kind", kind_name(info->kind));
    add_text(object, "driver", info->driver);
    add_text(object, "features", info->features);
    json_object_object_add(object, "units", info->units ? json_object_new_uint64(info->units) : NULL);
    pci_text(info, text);
    add_text(object, "pci", info->flags & QP_DEVICE_HAS_PCI ? text : "");
    uuid_text(info, text);
    add_text(object, "uuid", info->flags & QP_DEVICE_HAS_UUID ? text : "");
    for (uint32_t i = 0; i < heap_count(info); i++)
        json_object_array_add(heaps, heap_json(info, i));
    json_object_object_add(object, "memory", heaps);
    return object;
}

static json_object *device_json(const quern_device_entry *entry)
{
    json_object *object = view_json(&entry->views[0]), *others = json_object_new_array();
    char set[256];
    json_object_object_add(object, "id", json_object_new_string(entry->id));
    json_object_object_add(object, "numa_node", entry->numa_node >= 0 ? json_object_new_int(entry->numa_node) : NULL);
    json_object_object_add(object, "cpuset", cli_cpuset_text(entry->cpuset, set, sizeof set) ? json_object_new_string(set) : NULL);
    for (uint32_t i = 1; i < entry->view_count && i < QUERN_MAX_VIEWS; i++)
        json_object_array_add(others, view_json(&entry->views[i]));
    json_object_object_add(object, "other_views", others);
    add_text(object, "preferred_because", entry->preferred_why);
    return object;
}

static int print_json(const quern_context *context)
{
    json_object *root = json_object_new_object(), *devices = json_object_new_array(), *failures = json_object_new_array();
    const quern_device_entry *entry;
    const quern_plugin_failure *failure;
    for (uint32_t i = 0; (entry = quern_context_device(context, i)); i++)
        json_object_array_add(devices, device_json(entry));
    for (uint32_t i = 0; (failure = quern_context_failure(context, i)); i++) {
        json_object *object = json_object_new_object();
        add_text(object, "plugin", failure->name);
        add_text(object, "file", failure->path);
        add_text(object, "reason", failure->reason);
        json_object_array_add(failures, object);
    }
    json_object_object_add(root, "devices", devices);
    json_object_object_add(root, "plugins_not_loaded", failures);
    json_object_object_add(root, "machine", cli_machine_json(quern_context_topology(context)));
    return cli_print_json(root);
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const devices_args *args = raw;
    (void)operands, (void)operand_count;
    quern_context *context;
    quern_error error = {0};
    quern_context_options options = {.struct_size = sizeof options, .probe_timeout_ms = args->probe_timeout_ms};
    if (quern_context_create(&options, &context, &error) != QP_OK)
        return cli_error(&error);
    if (args->json)
        print_json(context);
    else
        print_all(context);
    quern_context_destroy(context);
    return CLI_OK;
}

static const devices_args defaults = {.probe_timeout_ms = 2000};
static const cli_option options[] = {
    {"json", 0, CLI_FLAG, offsetof(devices_args, json), NULL, "print one JSON object", 0, 0, NULL},
    {"probe-timeout", 0, CLI_COUNT, offsetof(devices_args, probe_timeout_ms), "MS",
     "milliseconds that each plugin may take to list its\ndevices; default 2000", 1, 600000, NULL},
};

const cli_command cli_devices = {
    .name = "devices",
    .summary = "list what there is to compute with, and what did not load and why",
    .synopsis = "[--json] [--probe-timeout MS]",
    .about =
        "Looks for plugins, asks each one for its devices in a process of its own (a driver that crashes or hangs costs a line\n"
        "here and nothing else), and shows every device with its memory and place in the machine. The first one listed is\n"
        "where models run unless --device says otherwise. The exit status is 0 even if no plugin works.",
    .examples = "quern devices\nquern devices --json\nQUERN_PLUGIN_PATH=build/my-plugin quern devices --probe-timeout 500",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "",
    .defaults = &defaults,
    .args_size = sizeof(devices_args),
    .run = run,
};
