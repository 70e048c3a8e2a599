/* SPDX-License-Identifier: MIT
 * Topologies of machines nobody here has, saved as hwloc XML, and of this one. */
#include "tap.h"

#include "core/host.h"
#include "core/topology.h"

#include <quern/log.h>

#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

static quern_topology *load(const char *xml, const char *synthetic, const char *sysroot)
{
    static char path[1024];
    quern_error error = {0};
    quern_topology *topology = NULL;
    if (xml)
        snprintf(path, sizeof path, "%s/tests/data/topology/%s", getenv("QUERN_SOURCE"), xml);
    quern_topology_options options = {
        .struct_size = sizeof options, .xml = xml ? path : NULL, .synthetic = synthetic, .sysroot = sysroot};
    ok(quern_topology_load(&options, &topology, &error) == QP_OK, "%s loads %s",
       xml         ? xml
       : synthetic ? synthetic
                   : "this machine",
       error.text);
    return topology;
}

static uint32_t count_cpus(const quern_topology *t)
{
    uint32_t count = 0;
    while (quern_topology_cpu(t, count))
        count++;
    return count;
}

static int has_bit(const uint64_t *words, uint32_t bit)
{
    return words[bit / 64] >> bit % 64 & 1;
}

static uint32_t count_bits(const uint64_t *words)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < QUERN_CPUSET_WORDS * 64; i++)
        count += (uint32_t)has_bit(words, i);
    return count;
}

/* ---- two sockets with a GPU each ---- */

static void check_server_pci(const quern_topology *t)
{
    const quern_pci *vga = quern_topology_pci(t, 0), *first = quern_topology_pci(t, 1), *second = quern_topology_pci(t, 2);
    ok(vga && first && second && !quern_topology_pci(t, 3), "three display devices are listed, network and storage are not");
    if (!vga || !first || !second)
        return;
    ok(first->bus == 0x17 && first->class_id == 0x0302 && first->vendor_id == 0x10de && first->device_id == 0x2330,
       "the first GPU's address and numbers");
    ok(strstr(first->name, "NVIDIA") && strstr(first->name, "H100"), "its name: %s", first->name);
    ok(first->numa_node == 0 && second->numa_node == 1, "each GPU's node: %d, %d", first->numa_node, second->numa_node);
    ok(count_bits(first->cpuset) == 16 && has_bit(first->cpuset, 0) && has_bit(first->cpuset, 16) && !has_bit(first->cpuset, 8),
       "the first GPU's processing units");
    ok(count_bits(second->cpuset) == 16 && has_bit(second->cpuset, 8) && has_bit(second->cpuset, 31), "the second's");
    ok(qi_topology_pci_at(t, 0, 0xc8, 0, 0) == second && !qi_topology_pci_at(t, 0, 0xc8, 0, 1), "found by address");
}

static void check_server_cpus(const quern_topology *t)
{
    uint32_t wrong = 0, count = count_cpus(t);
    ok(count == 32 && quern_topology_cores(t) == 16, "%u processing units on %u cores", count, quern_topology_cores(t));
    for (uint32_t i = 0; i < count; i++) {
        const qp_cpu *cpu = quern_topology_cpu(t, i);
        wrong += cpu->smt != i / 16 || cpu->core != i % 16 || cpu->package != i % 16 / 8 || cpu->numa_node != i % 16 / 8 ||
                 cpu->os_index != i;
    }
    ok(!wrong, "one of each core first, package after package, then the second ones");
}

static void check_server(void)
{
    quern_topology *t = load("two-sockets-two-gpus.xml", NULL, NULL);
    const quern_package *package = quern_topology_package(t, 1);
    ok(package && package->cores == 8 && !strcmp(package->model, "Example Server CPU") && !quern_topology_package(t, 2),
       "two packages of 8 cores");
    const quern_numa *node = quern_topology_numa(t, 1);
    ok(node && node->os_index == 1 && node->memory == 128ull << 30 && node->cores == 8 && !quern_topology_numa(t, 2),
       "two nodes of 128 GiB");
    const quern_cache *l1 = quern_topology_cache(t, 0), *l3 = quern_topology_cache(t, 2);
    ok(l1 && l1->level == 1 && l1->size == 49152 && l1->count == 16 && l1->line == 64, "16 first-level caches of 48 KiB");
    ok(l3 && l3->level == 3 && l3->size == 32 << 20 && l3->count == 2 && !quern_topology_cache(t, 3),
       "2 third-level caches of 32 MiB");
    check_server_cpus(t);
    check_server_pci(t);
    ok(!qi_topology_is_here(t) && !qi_topology_bind(t, 0), "no thread is bound by another machine's topology");
    quern_topology_free(t);
}

/* ---- a laptop: two fast cores, eight small ones, an integrated GPU ---- */

static void check_laptop(void)
{
    quern_topology *t = load("laptop-integrated-gpu.xml", NULL, NULL);
    const qp_cpu *first = quern_topology_cpu(t, 0), *third = quern_topology_cpu(t, 2), *last = quern_topology_cpu(t, 11);
    ok(count_cpus(t) == 12 && quern_topology_cores(t) == 10, "12 processing units on 10 cores");
    ok(first && first->os_index == 8 && first->efficiency == 1, "a fast core comes first");
    ok(third && third->os_index == 0 && third->efficiency == 0, "small ones after the fast ones");
    ok(last && last->smt == 1 && last->os_index == 11, "second processing units last");
    const quern_pci *gpu = quern_topology_pci(t, 0);
    ok(gpu && gpu->bus == 0 && gpu->device == 2 && gpu->vendor_id == 0x8086 && !quern_topology_pci(t, 1), "one GPU, on bus 0");
    ok(gpu && gpu->numa_node == -1 && count_bits(gpu->cpuset) == 12, "as near to all cores");
    quern_topology_free(t);
}

/* ---- synthetic ones ---- */

static void check_synthetic(void)
{
    quern_topology *t = load(NULL, "pack:2 numa:1 l3:1 core:4 pu:2", NULL);
    ok(count_cpus(t) == 16 && quern_topology_cores(t) == 8 && quern_topology_numa(t, 1), "counts of a synthetic machine");
    ok(!quern_topology_pci(t, 0), "it has no devices");
    quern_topology_free(t);
    t = load(NULL, "pu:3", NULL);
    ok(quern_topology_cores(t) == 3 && quern_topology_cpu(t, 2)->core == 2,
       "a machine without a core level has a core a processing unit");
    quern_topology_free(t);
}

static void check_refusals(void)
{
    quern_topology *t = NULL;
    quern_error error = {0};
    quern_topology_options options = {.struct_size = sizeof options, .xml = "/nowhere.xml"};
    ok(quern_topology_load(&options, &t, &error) == QP_ERR_IO && strstr(error.text, "/nowhere.xml"), "%s", error.text);
    options = (quern_topology_options){.struct_size = sizeof options, .synthetic = "seventeen"};
    ok(quern_topology_load(&options, &t, &error) == QP_ERR_FORMAT, "%s", error.text);
    options = (quern_topology_options){.struct_size = sizeof options, .synthetic = "pu:1", .xml = "a"};
    ok(quern_topology_load(&options, &t, &error) == QP_ERR_INVALID, "%s", error.text);
    ok(quern_topology_load(NULL, NULL, &error) == QP_ERR_INVALID && !t, "%s", error.text);
    ok(!quern_topology_cpu(NULL, 0) && !quern_topology_package(NULL, 0) && !quern_topology_cores(NULL),
       "listing nothing gives nothing");
    quern_topology_free(NULL);
}

/* ---- this machine ---- */

static void check_here(void)
{
    cpu_set_t allowed;
    quern_topology *t = load(NULL, NULL, NULL);
    uint32_t count = count_cpus(t), outside = 0;
    ok(count >= 1 && quern_topology_cores(t) >= 1 && quern_topology_cores(t) <= count, "%u processing units, %u cores", count,
       quern_topology_cores(t));
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (uint32_t i = 0; i < count; i++)
        outside += !CPU_ISSET(quern_topology_cpu(t, i)->os_index, &allowed);
    ok(!outside, "all of them are ones this process may run on");
    ok(!qi_topology_bind(t, 4000000000u), "a processing unit that nobody has is not bound to");
    uint32_t target = quern_topology_cpu(t, count - 1)->os_index;
    ok(qi_topology_is_here(t) && qi_topology_bind(t, target) && sched_getcpu() == (int)target,
       "a thread is bound to processing unit %u", target);
    sched_setaffinity(0, sizeof allowed, &allowed);
    quern_topology_free(t);
}

/* A process that is held to some processing units sees only those. */
static void check_affinity(void)
{
    cpu_set_t allowed, one;
    sched_getaffinity(0, sizeof allowed, &allowed);
    int cpu = sched_getcpu();
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof one, &one);
    quern_topology *t = load(NULL, NULL, NULL);
    ok(count_cpus(t) == 1 && quern_topology_cpu(t, 0)->os_index == (uint32_t)cpu && quern_topology_cpu(t, 0)->smt == 0,
       "taskset is heeded");
    quern_topology_free(t);
    sched_setaffinity(0, sizeof allowed, &allowed);
}

/* HWLOC_XMLFILE and HWLOC_SYNTHETIC are hwloc's own; options win over them. */
static void check_environment(void)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/data/topology/laptop-integrated-gpu.xml", getenv("QUERN_SOURCE"));
    setenv("HWLOC_XMLFILE", path, 1);
    quern_topology *t = load(NULL, NULL, NULL);
    ok(count_cpus(t) == 12 && quern_topology_pci(t, 0), "HWLOC_XMLFILE is honoured");
    quern_topology_free(t);
    /* whoever claims that the file is this machine's may be wrong */
    snprintf(path, sizeof path, "%s/tests/data/topology/two-sockets-two-gpus.xml", getenv("QUERN_SOURCE"));
    setenv("HWLOC_XMLFILE", path, 1);
    setenv("HWLOC_THISSYSTEM", "1", 1);
    t = load(NULL, NULL, NULL);
    if (sysconf(_SC_NPROCESSORS_CONF) > 31)
        skip("this machine has so many", "binding to a processing unit beyond the machine's");
    else
        ok(qi_topology_is_here(t) && !qi_topology_bind(t, 31), "binding to a processing unit beyond the machine's fails quietly");
    quern_topology_free(t);
    unsetenv("HWLOC_THISSYSTEM");
    unsetenv("HWLOC_XMLFILE");
}

/* ---- the threads that plugins get ---- */

static atomic_int ran;
static void count_run(void *arg)
{
    atomic_fetch_add(&ran, *(int *)arg);
}

static atomic_int unbound_notes;
static void count_notes(void *ctx, quern_log_level level, const char *message)
{
    (void)ctx, (void)level;
    atomic_fetch_add(&unbound_notes, strstr(message, "unbound") != NULL);
}

static int run_threads(qi_host *host, uint32_t count)
{
    qp_thread *threads[32];
    qp_cpu cpus[32];
    int one = 1, failed = 0;
    host->api.cpus(host->api.ctx, cpus, 32);
    for (uint32_t i = 0; i < count; i++)
        failed +=
            !(threads[i] = host->api.thread_start(host->api.ctx, "a name too long for Linux", cpus[i].os_index, count_run, &one));
    for (uint32_t i = 0; i < count; i++)
        host->api.thread_join(host->api.ctx, threads[i]);
    return failed;
}

static void check_host(void)
{
    qi_host host;
    qi_host_init(&host, "test");
    ok(host.api.cpus(host.api.ctx, NULL, 0) == 0, "a host without a topology knows no processing units");
    quern_topology *t = load("two-sockets-two-gpus.xml", NULL, NULL);
    qi_host_set_topology(&host, t);
    quern_topology_free(t); /* the host has its share */
    ok(host.api.cpus(host.api.ctx, NULL, 0) == 32, "processing units of the topology in use");
    quern_log_set(count_notes, NULL, QUERN_LOG_DEBUG);
    ok(!run_threads(&host, 32) && ran == 32, "threads for more processing units than there are here run all the same");
    ok(unbound_notes == 32, "and the log says that they are not bound");
    quern_log_set(NULL, NULL, QUERN_LOG_INFO);
    t = load(NULL, NULL, NULL);
    qi_host_set_topology(&host, t);
    uint32_t count = host.api.cpus(host.api.ctx, NULL, 0);
    ran = 0;
    ok(!run_threads(&host, count < 32 ? count : 32) && ran == (int)(count < 32 ? count : 32), "threads on this machine's");
    ok(!host.api.thread_start(host.api.ctx, NULL, 0, NULL, NULL), "a thread without a function is refused");
    host.api.thread_join(host.api.ctx, NULL);
    void *memory = host.api.alloc(host.api.ctx, 100, 4096);
    ok(memory && (uintptr_t)memory % 4096 == 0, "memory aligned as asked");
    ok(!host.api.alloc(host.api.ctx, 100, 48), "an alignment that is no power of two is refused");
    host.api.free(host.api.ctx, memory);
    uint64_t total = 0, available = 0;
    host.api.memory(host.api.ctx, &total, &available);
    ok(total && available && available <= total, "memory: %llu of %llu", (unsigned long long)available, (unsigned long long)total);
    qi_host_set_topology(&host, NULL);
    quern_topology_free(t);
    pthread_mutex_destroy(&host.lock);
}

int main(void)
{
    check_server();
    check_laptop();
    check_synthetic();
    check_refusals();
    check_here();
    check_affinity();
    check_environment();
    check_host();
    return tap_done();
}
