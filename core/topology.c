/* SPDX-License-Identifier: MIT */
#include "core/topology.h"
#include "core/cgroup.h"
#include "core/pci_names.h"

#include <hwloc.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct quern_topology {
    atomic_uint owners;
    hwloc_topology_t hw; /* kept to bind threads */
    int here;            /* it describes the running machine */
    uint32_t quota;
    uint32_t cores;
    uint32_t package_count, numa_count, cache_count, pci_count, cpu_count;
    quern_package *packages;
    quern_numa *numas;
    quern_cache *caches;
    quern_pci *pcis;
    qp_cpu *cpus;
};

/* ---- helpers over hwloc ---- */

static uint32_t count_of(hwloc_topology_t hw, hwloc_obj_type_t type)
{
    int count = hwloc_get_nbobjs_by_type(hw, type);
    return count > 0 ? (uint32_t)count : 0;
}

static uint32_t count_inside(hwloc_topology_t hw, hwloc_const_cpuset_t set, hwloc_obj_type_t type)
{
    int count = hwloc_get_nbobjs_inside_cpuset_by_type(hw, set, type);
    return count > 0 ? (uint32_t)count : 0;
}

/* Synthetic and odd machines may have no core level: a processing unit is then a core of its own. */
static hwloc_obj_type_t core_type(hwloc_topology_t hw)
{
    return count_of(hw, HWLOC_OBJ_CORE) ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
}

static void copy_text(char *dst, size_t size, const char *src)
{
    snprintf(dst, size, "%s", src ? src : "");
}

static void copy_cpuset(uint64_t words[QUERN_CPUSET_WORDS], hwloc_const_cpuset_t set)
{
    memset(words, 0, QUERN_CPUSET_WORDS * sizeof *words);
    for (int i = hwloc_bitmap_first(set); i >= 0 && i < QUERN_CPUSET_WORDS * 64; i = hwloc_bitmap_next(set, i))
        words[i / 64] |= UINT64_C(1) << (i % 64);
}

/* ---- listing ---- */

static int list_packages(quern_topology *t)
{
    uint32_t count = count_of(t->hw, HWLOC_OBJ_PACKAGE);
    t->packages = calloc(count + 1, sizeof *t->packages);
    if (!t->packages)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_type(t->hw, HWLOC_OBJ_PACKAGE, i);
        quern_package *p = &t->packages[t->package_count++];
        p->os_index = obj->os_index == HWLOC_UNKNOWN_INDEX ? i : obj->os_index;
        p->cores = count_inside(t->hw, obj->cpuset, core_type(t->hw));
        copy_text(p->model, sizeof p->model, hwloc_obj_get_info_by_name(obj, "CPUModel"));
    }
    return 1;
}

static int list_numas(quern_topology *t)
{
    uint32_t count = count_of(t->hw, HWLOC_OBJ_NUMANODE);
    t->numas = calloc(count + 1, sizeof *t->numas);
    if (!t->numas)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        hwloc_obj_t obj = hwloc_get_obj_by_type(t->hw, HWLOC_OBJ_NUMANODE, i);
        quern_numa *n = &t->numas[t->numa_count++];
        n->os_index = obj->os_index == HWLOC_UNKNOWN_INDEX ? i : obj->os_index;
        n->memory = obj->attr->numanode.local_memory;
        n->cores = count_inside(t->hw, obj->cpuset, core_type(t->hw));
    }
    return 1;
}

static void add_cache(quern_topology *t, const struct hwloc_cache_attr_s *cache)
{
    for (uint32_t i = 0; i < t->cache_count; i++) {
        quern_cache *c = &t->caches[i];
        if (c->level == cache->depth && c->size == cache->size && c->line == cache->linesize) {
            c->count++;
            return;
        }
    }
    t->caches[t->cache_count++] = (quern_cache){cache->depth, cache->size, 1, cache->linesize};
}

static int list_caches(quern_topology *t)
{
    static const hwloc_obj_type_t types[] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE,
                                             HWLOC_OBJ_L5CACHE};
    enum { TYPES = sizeof types / sizeof *types };
    uint32_t most = 0;
    for (int i = 0; i < TYPES; i++)
        most += count_of(t->hw, types[i]);
    t->caches = calloc(most + 1, sizeof *t->caches);
    if (!t->caches)
        return 0;
    for (int i = 0; i < TYPES; i++)
        for (uint32_t j = 0; j < count_of(t->hw, types[i]); j++)
            add_cache(t, &hwloc_get_obj_by_type(t->hw, types[i], j)->attr->cache);
    return 1;
}

/* Display controllers (class 03) and processing accelerators (class 12). */
static int is_compute(hwloc_obj_t pci)
{
    unsigned base = pci->attr->pcidev.class_id >> 8;
    return base == 0x03 || base == 0x12;
}

/* −1 when the device is as near to every node. */
static int32_t nearest_node(const quern_topology *t, hwloc_obj_t ancestor)
{
    int near_count = ancestor->nodeset ? hwloc_bitmap_weight(ancestor->nodeset) : 0;
    if (near_count <= 0 || (uint32_t)near_count >= t->numa_count)
        return -1;
    return hwloc_bitmap_first(ancestor->nodeset);
}

static void add_pci(quern_topology *t, hwloc_obj_t obj, const char *sysroot)
{
    const struct hwloc_pcidev_attr_s *attr = &obj->attr->pcidev;
    quern_pci *p = &t->pcis[t->pci_count++];
    *p = (quern_pci){.domain = attr->domain,
                     .bus = attr->bus,
                     .device = attr->dev,
                     .function = attr->func,
                     .vendor_id = attr->vendor_id,
                     .device_id = attr->device_id,
                     .class_id = attr->class_id};
    const char *vendor = hwloc_obj_get_info_by_name(obj, "PCIVendor"), *name = hwloc_obj_get_info_by_name(obj, "PCIDevice");
    if (vendor && name)
        snprintf(p->name, sizeof p->name, "%s %s", vendor, name);
    else
        copy_text(p->name, sizeof p->name, name ? name : vendor ? vendor : obj->name);
    if (!p->name[0])
        qi_pci_name(sysroot, p->vendor_id, p->device_id, p->name, sizeof p->name);
    hwloc_obj_t ancestor = hwloc_get_non_io_ancestor_obj(t->hw, obj);
    p->numa_node = ancestor ? nearest_node(t, ancestor) : -1;
    if (ancestor && ancestor->cpuset)
        copy_cpuset(p->cpuset, ancestor->cpuset);
}

static int list_pcis(quern_topology *t, const char *sysroot)
{
    uint32_t count = 0;
    for (hwloc_obj_t obj = NULL; (obj = hwloc_get_next_pcidev(t->hw, obj));)
        count += (uint32_t)is_compute(obj);
    t->pcis = calloc(count + 1, sizeof *t->pcis);
    if (!t->pcis)
        return 0;
    for (hwloc_obj_t obj = NULL; (obj = hwloc_get_next_pcidev(t->hw, obj));)
        if (is_compute(obj))
            add_pci(t, obj, sysroot);
    return 1;
}

/* ---- processing units, best first ---- */

/* Allowed by the system, and by the process's own binding (taskset) where that means anything. */
static hwloc_bitmap_t usable_units(const quern_topology *t)
{
    hwloc_bitmap_t usable = hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(t->hw));
    hwloc_bitmap_t bound = hwloc_bitmap_alloc();
    if (usable && bound && t->here && !hwloc_get_cpubind(t->hw, bound, HWLOC_CPUBIND_PROCESS) &&
        hwloc_bitmap_intersects(usable, bound))
        hwloc_bitmap_and(usable, usable, bound);
    hwloc_bitmap_free(bound);
    return usable;
}

static uint32_t efficiency_of(hwloc_topology_t hw, hwloc_obj_t pu)
{
    int kind = hwloc_cpukinds_get_by_cpuset(hw, pu->cpuset, 0), efficiency = -1;
    if (kind < 0 || hwloc_cpukinds_get_info(hw, (unsigned)kind, NULL, &efficiency, NULL, NULL, 0) || efficiency < 0)
        return 0;
    return (uint32_t)efficiency;
}

/* The order of the core's usable units before this one. */
static uint32_t smt_rank(hwloc_bitmap_t usable, hwloc_obj_t core, unsigned os_index)
{
    uint32_t rank = 0;
    for (int i = hwloc_bitmap_first(core->cpuset); i >= 0 && (unsigned)i < os_index; i = hwloc_bitmap_next(core->cpuset, i))
        rank += hwloc_bitmap_isset(usable, (unsigned)i) ? 1 : 0;
    return rank;
}

static void add_cpu(quern_topology *t, hwloc_obj_t pu, hwloc_bitmap_t usable)
{
    hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(t->hw, HWLOC_OBJ_CORE, pu);
    hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(t->hw, HWLOC_OBJ_PACKAGE, pu);
    int node = pu->nodeset ? hwloc_bitmap_first(pu->nodeset) : -1;
    t->cpus[t->cpu_count++] = (qp_cpu){
        .os_index = pu->os_index,
        .core = core ? core->logical_index : pu->logical_index,
        .smt = core ? smt_rank(usable, core, pu->os_index) : 0,
        .numa_node = node >= 0 ? (uint32_t)node : 0,
        .package = !package                                   ? 0
                   : package->os_index == HWLOC_UNKNOWN_INDEX ? package->logical_index
                                                              : package->os_index,
        .efficiency = efficiency_of(t->hw, pu),
    };
}

static int compare(uint32_t a, uint32_t b)
{
    return (a > b) - (a < b);
}

static int compare_cpus(const void *left, const void *right)
{
    const qp_cpu *a = left, *b = right;
    int order = compare(a->smt, b->smt);
    order = order ? order : compare(b->efficiency, a->efficiency);
    order = order ? order : compare(a->package, b->package);
    order = order ? order : compare(a->core, b->core);
    return order ? order : compare(a->os_index, b->os_index);
}

static int list_cpus(quern_topology *t)
{
    hwloc_bitmap_t usable = usable_units(t);
    t->cpus = calloc(count_of(t->hw, HWLOC_OBJ_PU) + 1, sizeof *t->cpus);
    if (usable && t->cpus)
        for (hwloc_obj_t pu = NULL; (pu = hwloc_get_next_obj_by_type(t->hw, HWLOC_OBJ_PU, pu));)
            if (hwloc_bitmap_isset(usable, pu->os_index))
                add_cpu(t, pu, usable);
    int fine = usable && t->cpus;
    hwloc_bitmap_free(usable);
    if (fine)
        qsort(t->cpus, t->cpu_count, sizeof *t->cpus, compare_cpus);
    for (uint32_t i = 0; i < t->cpu_count; i++)
        t->cores += t->cpus[i].smt == 0;
    return fine;
}

/* ---- loading ---- */

/* Vendor components of hwloc call drivers, which only a child process may do here. "pci" asks another library, which leaks, for
 * what hwloc finds in /sys by itself. */
static void without_drivers(hwloc_topology_t hw)
{
    static const char *const components[] = {"cuda", "nvml", "opencl", "rsmi", "levelzero", "gl", "pci"};
    for (size_t i = 0; i < sizeof components / sizeof *components; i++)
        hwloc_topology_set_components(hw, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, components[i]);
}

static quern_status configure(hwloc_topology_t hw, const quern_topology_options *o, int io, quern_error *error)
{
    without_drivers(hw);
    if (io)
        hwloc_topology_set_io_types_filter(hw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (o->xml && hwloc_topology_set_xml(hw, o->xml))
        return quern_fail(error, QP_ERR_IO, "topology file %s cannot be read as hwloc XML: %s", o->xml, strerror(errno));
    if (o->synthetic && hwloc_topology_set_synthetic(hw, o->synthetic))
        return quern_fail(error, QP_ERR_FORMAT, "\"%s\" is not a synthetic topology that hwloc understands", o->synthetic);
    /* one at a time: libraries that hwloc asks (libudev) set up their globals without a lock */
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    int failed = hwloc_topology_load(hw);
    pthread_mutex_unlock(&lock);
    if (failed)
        return quern_fail(error, QP_ERR_IO, "hwloc could not load the topology%s%s: %s", o->xml ? " of " : "", o->xml ? o->xml : "",
                          strerror(errno));
    return QP_OK;
}

static quern_topology_options read_options(const quern_topology_options *options)
{
    quern_topology_options o = {0};
    if (!options)
        return o;
    if (QP_HAS(options, xml))
        o.xml = options->xml;
    if (QP_HAS(options, synthetic))
        o.synthetic = options->synthetic;
    if (QP_HAS(options, sysroot))
        o.sysroot = options->sysroot;
    return o;
}

quern_status qi_topology_load(const quern_topology_options *options, int io, quern_topology **out, quern_error *error)
{
    quern_topology_options o = read_options(options);
    if (o.xml && o.synthetic)
        return quern_fail(error, QP_ERR_INVALID, "a topology comes from a file or a synthetic description, not both");
    quern_topology *t = calloc(1, sizeof *t);
    if (!t || hwloc_topology_init(&t->hw)) {
        free(t);
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the machine's topology");
    }
    atomic_init(&t->owners, 1);
    quern_status status = configure(t->hw, &o, io, error);
    if (!status) {
        t->here = hwloc_topology_is_thissystem(t->hw) != 0;
        t->quota = qi_cgroup_cpu_quota(o.sysroot);
        if (!list_packages(t) || !list_numas(t) || !list_caches(t) || !list_pcis(t, o.sysroot) || !list_cpus(t))
            status = quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the machine's topology");
    }
    if (status)
        quern_topology_free(t);
    else
        *out = t;
    return status;
}

quern_status quern_topology_load(const quern_topology_options *options, quern_topology **out, quern_error *error)
{
    if (!out)
        return quern_fail(error, QP_ERR_INVALID, "quern_topology_load: out is NULL");
    return qi_topology_load(options, 1, out, error);
}

quern_topology *qi_topology_retain(const quern_topology *topology)
{
    /* the owner count is not part of what a const topology promises to keep */
    quern_topology *t = (quern_topology *)(uintptr_t)topology;
    atomic_fetch_add(&t->owners, 1);
    return t;
}

void quern_topology_free(quern_topology *t)
{
    if (!t || atomic_fetch_sub(&t->owners, 1) > 1)
        return;
    hwloc_topology_destroy(t->hw);
    free(t->packages);
    free(t->numas);
    free(t->caches);
    free(t->pcis);
    free(t->cpus);
    free(t);
}

/* ---- asking ---- */

const quern_package *quern_topology_package(const quern_topology *t, uint32_t index)
{
    return t && index < t->package_count ? &t->packages[index] : NULL;
}

const quern_numa *quern_topology_numa(const quern_topology *t, uint32_t index)
{
    return t && index < t->numa_count ? &t->numas[index] : NULL;
}

const quern_cache *quern_topology_cache(const quern_topology *t, uint32_t index)
{
    return t && index < t->cache_count ? &t->caches[index] : NULL;
}

const quern_pci *quern_topology_pci(const quern_topology *t, uint32_t index)
{
    return t && index < t->pci_count ? &t->pcis[index] : NULL;
}

const qp_cpu *quern_topology_cpu(const quern_topology *t, uint32_t index)
{
    return t && index < t->cpu_count ? &t->cpus[index] : NULL;
}

uint32_t quern_topology_cores(const quern_topology *t)
{
    return t ? t->cores : 0;
}

uint32_t quern_topology_cpu_quota(const quern_topology *t)
{
    return t ? t->quota : 0;
}

int qi_topology_is_here(const quern_topology *topology)
{
    return topology->here;
}

const quern_pci *qi_topology_pci_at(const quern_topology *t, uint32_t domain, uint32_t bus, uint32_t device, uint32_t function)
{
    for (uint32_t i = 0; i < t->pci_count; i++) {
        const quern_pci *p = &t->pcis[i];
        if (p->domain == domain && p->bus == bus && p->device == device && p->function == function)
            return p;
    }
    return NULL;
}

static int is_known_unit(const quern_topology *t, uint32_t os_index)
{
    for (uint32_t i = 0; i < t->cpu_count; i++)
        if (t->cpus[i].os_index == os_index)
            return 1;
    return 0;
}

int qi_topology_bind(const quern_topology *t, uint32_t os_index)
{
    /* asked first, since a bitmap is as long as its highest bit */
    hwloc_bitmap_t set = t->here && is_known_unit(t, os_index) ? hwloc_bitmap_alloc() : NULL;
    int bound = set && !hwloc_bitmap_only(set, os_index) && !hwloc_set_cpubind(t->hw, set, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(set);
    return bound;
}
