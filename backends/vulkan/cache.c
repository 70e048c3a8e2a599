/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/cache.h"

#include "backends/vulkan/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 256 << 20 };

/* In front of what is kept: the driver's bytes have a header of their own, but nothing that tells damage. */
typedef struct header {
    char magic[8];
    uint64_t owner; /* the device, its driver and the kind */
    uint64_t size, sum;
} header;

static const char magic[8] = "QVCACHE2";

/* FNV-1a (Fowler, Noll & Vo) */
uint64_t qv_hash(uint64_t from, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint64_t sum = from ^ 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3u;
    return sum;
}

static uint64_t owner_of(const qv_physical *p, const char *kind)
{
    const VkPhysicalDeviceProperties *of = &p->properties;
    const uint32_t numbers[] = {of->vendorID, of->deviceID, of->driverVersion, of->apiVersion};
    uint64_t sum = qv_hash(0, numbers, sizeof numbers);
    sum = qv_hash(sum, of->pipelineCacheUUID, sizeof of->pipelineCacheUUID);
    sum = qv_hash(sum, p->uuid, sizeof p->uuid);
    sum = qv_hash(sum, p->driver, strlen(p->driver));
    return qv_hash(sum, kind, strlen(kind));
}

/* 0 where there is no folder for it. make: the folders, too. */
static int path_of(const qv_physical *p, const char *kind, int make, char *path, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[3072], uuid[2 * VK_UUID_SIZE + 1];
    int n;
    if (cache && cache[0] == '/')
        n = snprintf(folder, sizeof folder, "%s", cache);
    else
        n = home && home[0] == '/' ? snprintf(folder, sizeof folder, "%s/.cache", home) : -1;
    if (n < 0 || (size_t)n >= sizeof folder - 8)
        return 0;
    if (make)
        mkdir(folder, 0700);
    strcpy(folder + n, "/quern");
    if (make)
        mkdir(folder, 0700);
    for (uint32_t i = 0; i < VK_UUID_SIZE; i++)
        snprintf(uuid + 2 * i, 3, "%02x", p->properties.pipelineCacheUUID[i]);
    n = snprintf(path, size, "%s/vulkan-%04x-%04x-%08x-%s-" QUERN_VERSION ".%s", folder, p->properties.vendorID,
                 p->properties.deviceID, p->properties.driverVersion, uuid, kind);
    return n > 0 && (size_t)n < size;
}

void *qv_cache_load(const qv_physical *physical, const char *kind, size_t *size)
{
    char path[4096];
    header head;
    void *data = NULL;
    FILE *file = path_of(physical, kind, 0, path, sizeof path) ? fopen(path, "rb") : NULL;
    if (!file)
        return NULL;
    if (fread(&head, sizeof head, 1, file) == 1 && !memcmp(head.magic, magic, sizeof magic) &&
        head.owner == owner_of(physical, kind) && head.size && head.size <= MOST)
        data = qv_alloc(head.size);
    int sound =
        data && fread(data, 1, head.size, file) == head.size && fgetc(file) == EOF && qv_hash(0, data, head.size) == head.sum;
    fclose(file);
    if (!sound) {
        qv_log(QP_LOG_INFO, "%s is damaged, or of another device or version: it is made anew", path);
        qv_free(data);
        return NULL;
    }
    *size = head.size;
    return data;
}

void qv_cache_save(const qv_physical *physical, const char *kind, const void *data, size_t size)
{
    char path[4096], fresh[4128];
    if (!size || size > MOST || !path_of(physical, kind, 1, path, sizeof path))
        return;
    snprintf(fresh, sizeof fresh, "%s.%ld-%lx", path, (long)getpid(), (unsigned long)(uintptr_t)data);
    FILE *file = fopen(fresh, "wb");
    if (!file)
        return;
    header head = {.owner = owner_of(physical, kind), .size = size, .sum = qv_hash(0, data, size)};
    memcpy(head.magic, magic, sizeof magic);
    int written = fwrite(&head, sizeof head, 1, file) == 1 && fwrite(data, 1, size, file) == size;
    written = !fclose(file) && written; /* a full disk may show only here */
    if (!written || rename(fresh, path))
        unlink(fresh);
}
