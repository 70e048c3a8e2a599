/* SPDX-License-Identifier: MIT
 * One physical card, one entry: with devices nobody here has. */
#include "tap.h"

#include "core/registry.h"

static quern_device_view views[16];
static uint32_t view_count;

static quern_device_view *add(const char *plugin, uint32_t index, uint32_t kind, uint64_t gib)
{
    quern_device_view *v = &views[view_count++];
    memset(v, 0, sizeof *v);
    snprintf(v->plugin, sizeof v->plugin, "%s", plugin);
    v->plugin_index = index;
    v->info.struct_size = sizeof v->info;
    v->info.kind = kind;
    if (!strcmp(plugin, "vulkan") || !strcmp(plugin, "opencl"))
        v->info.flags = QP_DEVICE_PORTABLE;
    v->info.heap_count = 1;
    v->info.heaps[0] = (qp_heap){.size = gib << 30, .alignment = 64};
    snprintf(v->info.name, sizeof v->info.name, "%s %u", plugin, index);
    return v;
}

static void at_pci(quern_device_view *v, uint32_t domain, uint32_t bus)
{
    v->info.flags |= QP_DEVICE_HAS_PCI;
    v->info.pci_domain = domain;
    v->info.pci_bus = bus;
}

static void with_uuid(quern_device_view *v, uint8_t byte)
{
    v->info.flags |= QP_DEVICE_HAS_UUID;
    memset(v->info.uuid, byte, sizeof v->info.uuid);
}

static qi_registry build(const quern_topology *topology)
{
    qi_registry registry;
    qi_registry_build(views, view_count, topology, &registry, NULL);
    view_count = 0;
    return registry;
}

/* The ids in order, separated by blanks. */
static const char *ids(const qi_registry *r)
{
    static char text[1024];
    text[0] = '\0';
    for (uint32_t i = 0; i < r->count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "", r->entries[i].id);
    return text;
}

#define ids_are(r, expected, why) ok(!strcmp(ids(&(r)), expected), "%s: %s", why, ids(&(r)))

static const char *find(const qi_registry *r, const char *id, const quern_device_view **view)
{
    const quern_device_entry *entry = qi_registry_find(r, id, view);
    return entry ? entry->id : "none";
}

static void check_workstation(const quern_topology *topology)
{
    /* two cards seen by two plugins in different order, a software GPU, the CPU, the null device */
    add("null", 0, QP_DEVICE_NULL, 64);
    add("cpu", 0, QP_DEVICE_CPU, 256);
    at_pci(add("vulkan", 0, QP_DEVICE_GPU_DISCRETE, 24), 0, 0xc8);
    at_pci(add("vulkan", 1, QP_DEVICE_GPU_DISCRETE, 80), 0, 0x17);
    add("vulkan", 2, QP_DEVICE_GPU_SOFTWARE, 256);
    at_pci(add("cuda", 0, QP_DEVICE_GPU_DISCRETE, 80), 0, 0x17);
    at_pci(add("cuda", 1, QP_DEVICE_GPU_DISCRETE, 24), 0, 0xc8);
    qi_registry r = build(topology);
    const quern_device_view *view = NULL;
    ids_are(r, "cuda:0 cuda:1 cpu vulkan:2 null", "cards first, then the CPU, the software GPU, the null device");
    const quern_device_entry *first = &r.entries[0];
    ok(first->view_count == 2 && !strcmp(first->views[1].plugin, "vulkan") && first->views[1].plugin_index == 1,
       "a card's two views are joined by PCI address");
    ok(!strcmp(first->preferred_why, "cuda is made for this card, vulkan is the portable way to it"), "%s", first->preferred_why);
    ok(first->numa_node == 0 && r.entries[1].numa_node == 1 && first->cpuset[0] == 0x00ff00ff &&
           r.entries[1].cpuset[0] == 0xff00ff00,
       "each card's place in the machine");
    ok(r.entries[2].numa_node == -1 && r.entries[2].cpuset[0] == 0xffffffff && !r.entries[2].preferred_why[0],
       "the CPU is everywhere");
    ok(!strcmp(find(&r, NULL, &view), "cuda:0") && !strcmp(view->plugin, "cuda"), "auto is the first");
    ok(!strcmp(find(&r, "vulkan:1", &view), "cuda:0") && !strcmp(view->plugin, "vulkan") && view->plugin_index == 1,
       "the other view of a card has an id too");
    ok(!strcmp(find(&r, "vulkan", &view), "cuda:0") && view->plugin_index == 1, "a plugin's name means its best device");
    ok(!strcmp(find(&r, "cpu:0", NULL), "cpu") && !strcmp(find(&r, "null", NULL), "null"), "others by name or number");
    ok(!strcmp(find(&r, "cuda:2", NULL), "none") && !strcmp(find(&r, "", NULL), "none") && !strcmp(find(&r, "cud", NULL), "none"),
       "what is not there is not found");
    qi_registry_free(&r);
}

static void check_uuid(void)
{
    with_uuid(add("vulkan", 0, QP_DEVICE_GPU_DISCRETE, 8), 7);
    with_uuid(add("cuda", 0, QP_DEVICE_GPU_DISCRETE, 8), 7);
    with_uuid(add("cuda", 1, QP_DEVICE_GPU_DISCRETE, 8), 8);
    qi_registry r = build(NULL);
    ids_are(r, "cuda:0 cuda:1", "joined by UUID where there is no address");
    ok(r.entries[0].view_count == 2 && r.entries[1].view_count == 1, "and only where it is the same");
    qi_registry_free(&r);
    with_uuid(add("vulkan", 0, QP_DEVICE_GPU_DISCRETE, 8), 0);
    with_uuid(add("cuda", 0, QP_DEVICE_GPU_DISCRETE, 8), 0);
    r = build(NULL);
    ok(r.count == 2, "a UUID of zeros identifies nothing");
    qi_registry_free(&r);
}

/* PCI wins over UUID, and one plugin's devices are never joined with each other. */
static void check_order_of_joining(void)
{
    quern_device_view *v = add("cuda", 0, QP_DEVICE_GPU_DISCRETE, 8);
    at_pci(v, 0, 1);
    with_uuid(v, 1);
    v = add("cuda", 1, QP_DEVICE_GPU_DISCRETE, 8);
    at_pci(v, 0, 2);
    with_uuid(v, 2);
    v = add("vulkan", 0, QP_DEVICE_GPU_DISCRETE, 8);
    at_pci(v, 0, 1);
    with_uuid(v, 2);
    qi_registry r = build(NULL);
    ok(r.count == 2 && r.entries[0].view_count == 2 && r.entries[0].views[0].plugin_index == 0,
       "the address counts before the UUID");
    qi_registry_free(&r);
    at_pci(add("cuda", 0, QP_DEVICE_GPU_DISCRETE, 8), 0, 1);
    at_pci(add("cuda", 1, QP_DEVICE_GPU_DISCRETE, 8), 0, 1);
    r = build(NULL);
    ids_are(r, "cuda:0 cuda:1", "slices of a card stay apart");
    qi_registry_free(&r);
    at_pci(add("cuda", 0, QP_DEVICE_GPU_DISCRETE, 8), 0, 1);
    at_pci(add("vulkan", 0, QP_DEVICE_GPU_DISCRETE, 8), 1, 1);
    r = build(NULL);
    ok(r.count == 2, "the same bus in another domain is another card");
    qi_registry_free(&r);
}

static void check_many_views(void)
{
    static const char *const plugins[] = {"a", "opencl", "vulkan", "b", "c", "d"};
    for (uint32_t i = 0; i < 6; i++)
        at_pci(add(plugins[i], 0, QP_DEVICE_GPU_DISCRETE, 8), 0, 1);
    qi_registry r = build(NULL);
    ok(r.count == 2 && r.entries[0].view_count == QUERN_MAX_VIEWS, "more views than an entry holds make another entry");
    ok(!strcmp(r.entries[0].views[0].plugin, "a") && !strcmp(r.entries[0].views[1].plugin, "b") &&
           !strcmp(r.entries[0].views[2].plugin, "opencl"),
       "portable interfaces come after");
    ok(strstr(r.entries[0].preferred_why, "equals"), "%s", r.entries[0].preferred_why);
    qi_registry_free(&r);
}

static void check_kinds(void)
{
    add("cpu", 0, QP_DEVICE_CPU, 512);
    at_pci(add("vulkan", 0, QP_DEVICE_GPU_INTEGRATED, 16), 0, 0);
    at_pci(add("vulkan", 1, QP_DEVICE_GPU_DISCRETE, 8), 0, 1);
    add("npu", 0, QP_DEVICE_OTHER, 64);
    qi_registry r = build(NULL);
    ids_are(r, "vulkan:1 vulkan:0 cpu npu", "discrete, integrated, CPU, others");
    qi_registry_free(&r);
    add("vulkan", 0, QP_DEVICE_GPU_SOFTWARE, 8);
    r = build(NULL);
    ok(!strcmp(find(&r, "auto", NULL), "vulkan"), "a software GPU is better than nothing");
    qi_registry_free(&r);
    add("null", 0, QP_DEVICE_NULL, 8);
    r = build(NULL);
    ok(!strcmp(find(&r, "auto", NULL), "none"), "a null device is never chosen by itself");
    qi_registry_free(&r);
    r = build(NULL);
    ok(r.count == 0 && !strcmp(find(&r, NULL, NULL), "none"), "no devices at all");
    qi_registry_free(&r);
}

int main(void)
{
    char path[1024];
    quern_topology *topology = NULL;
    snprintf(path, sizeof path, "%s/tests/data/topology/two-sockets-two-gpus.xml", getenv("QUERN_SOURCE"));
    quern_topology_options options = {.struct_size = sizeof options, .xml = path};
    ok(!quern_topology_load(&options, &topology, NULL), "a machine with two GPUs");
    check_workstation(topology);
    check_uuid();
    check_order_of_joining();
    check_many_views();
    check_kinds();
    quern_topology_free(topology);
    return tap_done();
}
