/* SPDX-License-Identifier: MIT */
#include "core/cgroup.h"
#include "core/sysfile.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- where this process is: /proc/self/cgroup, lines "ID:CONTROLLERS:PATH", the v2 one is "0::PATH" ---- */

static int list_has(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; at && *at; at = strchr(at, ',')) {
        at += *at == ',';
        if (!strncmp(at, word, length) && (at[length] == ',' || at[length] == '\0'))
            return 1;
    }
    return 0;
}

static int own_path(const char *sysroot, int version, const char *controller, char path[PATH_MAX])
{
    FILE *file = qi_sys_open(sysroot, "/proc/self/cgroup");
    if (!file)
        return 0;
    char line[PATH_MAX + 256];
    int found = 0;
    while (!found && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *place = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!place)
            continue;
        *controllers++ = '\0';
        *place++ = '\0';
        found = version == 2 ? !strcmp(line, "0") && !*controllers : list_has(controllers, controller);
        if (found)
            snprintf(path, PATH_MAX, "%s", place);
    }
    fclose(file);
    return found;
}

/* ---- where the hierarchy is mounted: /proc/self/mountinfo ---- */

/* The kernel writes blanks and backslashes in paths as three octal digits. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from;) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' && from[2] <= '7' && from[3] >= '0' &&
            from[3] <= '7') {
            *to++ = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

typedef struct mount {
    char root[PATH_MAX]; /* the group that the mount shows at its top */
    char point[PATH_MAX];
} mount;

static int parse_mount(char *line, int version, const char *controller, mount *out)
{
    char *fields[6] = {0}, *save = NULL, *tail = strstr(line, " - ");
    if (!tail)
        return 0;
    *tail = '\0';
    int count = 0;
    for (char *word = strtok_r(line, " ", &save); word && count < 6; word = strtok_r(NULL, " ", &save))
        fields[count++] = word;
    char *type = strtok_r(tail + 3, " \n", &save), *source = strtok_r(NULL, " \n", &save), *options = strtok_r(NULL, " \n", &save);
    if (count < 5 || !type || !source)
        return 0;
    if (version == 2 ? strcmp(type, "cgroup2") != 0 : strcmp(type, "cgroup") != 0 || !options || !list_has(options, controller))
        return 0;
    unescape(fields[3]);
    unescape(fields[4]);
    snprintf(out->root, sizeof out->root, "%s", fields[3]);
    snprintf(out->point, sizeof out->point, "%s", fields[4]);
    return 1;
}

/* What is left of `path` below `root`, or NULL when it does not lie there. */
static const char *below(const char *path, const char *root)
{
    size_t length = strcmp(root, "/") ? strlen(root) : 0;
    if (strncmp(path, root, length) || (path[length] != '/' && path[length] != '\0'))
        return NULL;
    return path + length;
}

/* A mount that shows our group, or else the first of the hierarchy: a container often sees its own group at the top under a
 * path that only the host knows. */
static int find_mount(const char *sysroot, int version, const char *controller, const char *path, mount *out)
{
    FILE *file = qi_sys_open(sysroot, "/proc/self/mountinfo");
    if (!file)
        return 0;
    char *line = NULL;
    size_t size = 0;
    int found = 0, exact = 0;
    mount *candidate = malloc(sizeof *candidate);
    while (candidate && !exact && getline(&line, &size, file) > 0) {
        if (!parse_mount(line, version, controller, candidate))
            continue;
        exact = below(path, candidate->root) != NULL;
        if (exact || !found)
            *out = *candidate;
        found = 1;
    }
    free(candidate);
    free(line);
    fclose(file);
    return found;
}

static void walk_version(const char *sysroot, int version, const char *controller, qi_cgroup_visit visit, void *ctx, char *path,
                         mount *top)
{
    if (!own_path(sysroot, version, controller, path) || !find_mount(sysroot, version, controller, path, top))
        return;
    const char *rest = below(path, top->root);
    if (!rest || strstr(rest, "/.."))
        rest = "";
    char folder[PATH_MAX];
    int length = snprintf(folder, sizeof folder, "%s%s", top->point, rest);
    if (length < 0 || (size_t)length >= sizeof folder)
        return;
    size_t stop = strlen(top->point);
    for (size_t end = (size_t)length; end >= stop && end > 0;) {
        while (end > stop && folder[end - 1] == '/')
            end--;
        folder[end] = '\0';
        visit(ctx, version, folder);
        if (end <= stop)
            break;
        while (end > stop && folder[end - 1] != '/')
            end--;
    }
}

void qi_cgroup_walk(const char *sysroot, const char *controller, qi_cgroup_visit visit, void *ctx)
{
    char *path = malloc(PATH_MAX);
    mount *top = malloc(sizeof *top);
    for (int version = 2; path && top && version >= 1; version--)
        walk_version(sysroot, version, controller, visit, ctx, path, top);
    free(top);
    free(path);
}

/* ---- CPU quota ---- */

typedef struct quota {
    const char *sysroot;
    uint32_t threads;
} quota;

static int read_quota(const char *sysroot, int version, const char *folder, long long *runtime, long long *period)
{
    char path[PATH_MAX], text[64];
    *period = 0;
    if (version == 2) {
        snprintf(path, sizeof path, "%s/cpu.max", folder);
        return qi_sys_read(sysroot, path, text, sizeof text) && sscanf(text, "%lld %lld", runtime, period) == 2;
    }
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!qi_sys_read(sysroot, path, text, sizeof text) || sscanf(text, "%lld", runtime) != 1)
        return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    return qi_sys_read(sysroot, path, text, sizeof text) && sscanf(text, "%lld", period) == 1;
}

static void visit_quota(void *ctx, int version, const char *folder)
{
    quota *q = ctx;
    long long runtime, period;
    if (!read_quota(q->sysroot, version, folder, &runtime, &period) || runtime <= 0 || period <= 0)
        return;
    long long threads = runtime / period + (runtime % period != 0);
    if (threads <= UINT32_MAX && (!q->threads || (uint32_t)threads < q->threads))
        q->threads = (uint32_t)threads;
}

uint32_t qi_cgroup_cpu_quota(const char *sysroot)
{
    quota q = {sysroot, 0};
    qi_cgroup_walk(sysroot, "cpu", visit_quota, &q);
    return q.threads;
}
