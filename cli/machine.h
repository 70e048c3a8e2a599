/* SPDX-License-Identifier: MIT
 * cli/machine.h: the machine part of quern devices. */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

#include <quern/topology.h>
#include <stddef.h>

struct json_object;

/* "0-3,8"; gives 0 for an empty set. Ends in "…" where it does not fit. */
int cli_cpuset_text(const uint64_t *set, char *out, size_t size);

void cli_print_machine(const quern_topology *topology);
struct json_object *cli_machine_json(const quern_topology *topology);

#endif
