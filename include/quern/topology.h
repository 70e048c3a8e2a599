/* SPDX-License-Identifier: MIT
 * quern/topology.h: what the machine is made of, by hwloc, and what memory this process may really use. */
#ifndef QUERN_TOPOLOGY_H
#define QUERN_TOPOLOGY_H

#include <quern/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_topology quern_topology;

enum { QUERN_CPUSET_WORDS = 16 }; /* 1024 processing units */

typedef struct quern_package { uint32_t os_index; uint32_t cores; char model[96]; } quern_package;
typedef struct quern_numa { uint32_t os_index; uint64_t memory; uint32_t cores; } quern_numa;
typedef struct quern_cache { uint32_t level; uint64_t size; uint32_t count; uint32_t line; } quern_cache; /* data or unified; size is of one */
typedef struct quern_pci {
    uint32_t domain, bus, device, function;
    uint32_t vendor_id, device_id, class_id; /* PCI numbers */
    char name[96];                           /* "" when the system has none for it */
    int32_t numa_node;                       /* nearest, operating system's number; -1: all alike or unknown */
    uint64_t cpuset[QUERN_CPUSET_WORDS];     /* nearest processing units, bit = os_index */
} quern_pci;

typedef struct quern_topology_options {
    uint32_t struct_size;
    const char *xml;        /* a topology saved by `lstopo file.xml`; NULL: this machine (or HWLOC_XMLFILE) */
    const char *synthetic;  /* hwloc's synthetic description; NULL: none */
    const char *sysroot;    /* where /proc and /sys (CPU quota) and the list of PCI names are looked up, for tests; NULL: "" */
} quern_topology_options;

/* Takes a snapshot. options may be NULL. Thread-safe. The result does not change and may be read from any thread. */
QUERN_API quern_status quern_topology_load(const quern_topology_options *options, quern_topology **out, quern_error *error);
QUERN_API void quern_topology_free(quern_topology *topology);

/* Each lister returns how many there are; at(i) gives NULL past the last. Pointers live as long as the topology. */
QUERN_API const quern_package *quern_topology_package(const quern_topology *t, uint32_t index);
QUERN_API const quern_numa *quern_topology_numa(const quern_topology *t, uint32_t index);
QUERN_API const quern_cache *quern_topology_cache(const quern_topology *t, uint32_t index);
/* Display, 3D and processing-accelerator devices only. */
QUERN_API const quern_pci *quern_topology_pci(const quern_topology *t, uint32_t index);
/* Processing units this process may use, best first: one of each core (fast kinds of core first, packages one after another),
 * then the second ones. */
QUERN_API const qp_cpu *quern_topology_cpu(const quern_topology *t, uint32_t index);
QUERN_API uint32_t quern_topology_cores(const quern_topology *t); /* distinct cores among those */
/* Threads that a control group's CPU quota allows, rounded up; 0 when there is no quota. */
QUERN_API uint32_t quern_topology_cpu_quota(const quern_topology *t);

typedef struct quern_memory_info {
    uint64_t total;     /* physical memory */
    uint64_t available; /* what can be had now without swapping: MemAvailable, and no more than any limit leaves */
    uint64_t limit;     /* the control-group (v1 or v2, any ancestor) or RLIMIT_AS limit that leaves the least; 0: none */
    uint64_t used;      /* what counts against that limit now, without page cache that can be dropped; 0 when there is none */
    char limit_source[160]; /* the file or call the limit came from, "" when there is none */
} quern_memory_info;

/* Reads the system anew at each call. sysroot as in quern_topology_options. Thread-safe. */
QUERN_API quern_status quern_memory_query(const char *sysroot, quern_memory_info *out, quern_error *error);

#ifdef __cplusplus
}
#endif
#endif
