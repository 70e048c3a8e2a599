/* SPDX-License-Identifier: MIT
 * core/sysfile.h: small text files under /proc and /sys, below a root that tests can move. Internal. */
#ifndef QUERN_CORE_SYSFILE_H
#define QUERN_CORE_SYSFILE_H

#include <stdint.h>
#include <stdio.h>

/* Opens sysroot + path for reading, close-on-exec; sysroot may be NULL. NULL when it cannot. */
FILE *qi_sys_open(const char *sysroot, const char *path);

/* The start of a file as a string without the newline at its end. 0 when it cannot be read. */
int qi_sys_read(const char *sysroot, const char *path, char *dst, size_t size);

/* The number after `key` at the start of a line ("MemTotal:", "inactive_file"); the key ends where the line has blanks. */
int qi_sys_field(const char *sysroot, const char *path, const char *key, uint64_t *value);

#endif
