/* SPDX-License-Identifier: MIT */
#include "core/pci_names.h"
#include "core/sysfile.h"

#include <string.h>

/* The name in a line "NNNN  NAME", whose number is the one asked for. */
static const char *named(char *line, uint32_t number)
{
    unsigned found;
    int length = 0;
    if (sscanf(line, "%4x%n", &found, &length) != 1 || length != 4 || found != number)
        return NULL;
    line[strcspn(line, "\r\n")] = '\0';
    return line + 4 + strspn(line + 4, " ");
}

/* Vendors start a line, their devices follow, each after a tab; subsystems after two. Classes ("C ..") end the vendors. */
static void search(FILE *file, uint32_t vendor, uint32_t device, char *dst, size_t size)
{
    char line[512];
    const char *name;
    int inside = 0;
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (line[0] != '\t') {
            if (inside)
                return;
            inside = (name = named(line, vendor)) != NULL;
            if (inside)
                snprintf(dst, size, "%s", name);
        } else if (inside && line[1] != '\t' && (name = named(line + 1, device))) {
            size_t used = strlen(dst);
            snprintf(dst + used, size - used, " %s", name);
            return;
        }
    }
}

void qi_pci_name(const char *sysroot, uint32_t vendor, uint32_t device, char *dst, size_t size)
{
    static const char *const lists[] = {"/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"};
    dst[0] = '\0';
    for (size_t i = 0; i < sizeof lists / sizeof *lists && !dst[0]; i++) {
        FILE *file = qi_sys_open(sysroot, lists[i]);
        if (!file)
            continue;
        search(file, vendor, device, dst, size);
        fclose(file);
    }
}
