/* SPDX-License-Identifier: MIT
 * core/topology.h: what the rest of core needs of a topology beyond the public listers. Internal; hwloc stays in topology.c. */
#ifndef QUERN_CORE_TOPOLOGY_H
#define QUERN_CORE_TOPOLOGY_H

#include <quern/topology.h>

/* As quern_topology_load; without io the PCI devices are left out, which is much quicker. */
quern_status qi_topology_load(const quern_topology_options *options, int io, quern_topology **out, quern_error *error);

/* One more owner, each of which calls quern_topology_free. Thread-safe. The owner count is the one thing in a topology that
 * changes. */
quern_topology *qi_topology_retain(const quern_topology *topology);

/* Binds the calling thread to a processing unit. 0 when it is not bound: the topology is another machine's, or there is no such
 * unit here, or the system refuses. */
int qi_topology_bind(const quern_topology *topology, uint32_t os_index);

/* Is this the running machine's? */
int qi_topology_is_here(const quern_topology *topology);

/* The device at a PCI address, NULL: not there. */
const quern_pci *qi_topology_pci_at(const quern_topology *topology, uint32_t domain, uint32_t bus, uint32_t device,
                                    uint32_t function);

#endif
