/* SPDX-License-Identifier: MIT */
#include "core/sysfile.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

FILE *qi_sys_open(const char *sysroot, const char *path)
{
    char full[PATH_MAX];
    int length = snprintf(full, sizeof full, "%s%s", sysroot ? sysroot : "", path);
    return length > 0 && (size_t)length < sizeof full ? fopen(full, "re") : NULL;
}

int qi_sys_read(const char *sysroot, const char *path, char *dst, size_t size)
{
    FILE *file = qi_sys_open(sysroot, path);
    if (!file)
        return 0;
    size_t length = fread(dst, 1, size - 1, file);
    int fine = !ferror(file);
    fclose(file);
    while (length > 0 && isspace((unsigned char)dst[length - 1]))
        length--;
    dst[length] = '\0';
    return fine;
}

int qi_sys_field(const char *sysroot, const char *path, const char *key, uint64_t *value)
{
    FILE *file = qi_sys_open(sysroot, path);
    if (!file)
        return 0;
    char line[512];
    size_t key_length = strlen(key);
    int found = 0;
    while (!found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, key_length) || !isspace((unsigned char)line[key_length]))
            continue;
        char *end;
        unsigned long long number = strtoull(line + key_length, &end, 10);
        found = end != line + key_length;
        if (found)
            *value = number;
    }
    fclose(file);
    return found;
}
