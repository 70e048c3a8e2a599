/* SPDX-License-Identifier: MIT
 * What memory and how many threads a process may use, from made-up /proc and /sys trees. */
#include "tap.h"

#include "core/host.h"
#include "core/pci_names.h"

#include <quern/topology.h>

#include <errno.h>
#include <ftw.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MiB(n) ((uint64_t)(n) << 20)

/* ---- a tree below a temporary folder ---- */

static char root[64];

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts, (void)kind, (void)place;
    return remove(path);
}

static void clear(void)
{
    if (root[0])
        nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    snprintf(root, sizeof root, "/tmp/quern-sysroot-XXXXXX");
    if (!mkdtemp(root))
        exit(1);
}

static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    if (!file)
        exit(1);
    fputs(text, file);
    fclose(file);
}

/* 8 GiB, half of it available; no address-space limit. */
static void put_machine(void)
{
    clear();
    put("/proc/meminfo", "MemTotal:        8388608 kB\nMemFree:         1048576 kB\nMemAvailable:    4194304 kB\nCached:  99 kB\n");
    put("/proc/self/limits", "Limit                     Soft Limit           Hard Limit           Units\n"
                             "Max address space         unlimited            unlimited            bytes\n");
    put("/proc/self/statm", "25600 1000 500 10 0 900 0\n");
}

static void put_v2(const char *own)
{
    char line[256];
    put_machine();
    snprintf(line, sizeof line, "0::%s\n", own);
    put("/proc/self/cgroup", line);
    put("/proc/self/mountinfo",
        "24 1 0:22 / / rw - ext4 /dev/root rw\n31 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
}

static quern_memory_info query(void)
{
    quern_memory_info info = {0};
    quern_error error = {0};
    if (quern_memory_query(root, &info, &error))
        diag("%s", error.text);
    return info;
}

static uint32_t quota(void)
{
    quern_topology *t = NULL;
    quern_topology_options options = {.struct_size = sizeof options, .synthetic = "core:4 pu:1", .sysroot = root};
    quern_topology_load(&options, &t, NULL);
    uint32_t threads = quern_topology_cpu_quota(t);
    quern_topology_free(t);
    return threads;
}

#define limit_is(info, bytes, left, source)                                                                                        \
    ok((info).limit == (bytes) && (info).available == (left) && !strcmp((info).limit_source, source),                              \
       "limit %llu from %s leaves %llu", (unsigned long long)(info).limit, (info).limit_source,                                    \
       (unsigned long long)(info).available)

/* ---- tests ---- */

static void check_plain(void)
{
    put_machine();
    quern_memory_info info = query();
    ok(info.total == MiB(8192) && info.available == MiB(4096), "total and available without any limit");
    ok(!info.limit && !info.used && !info.limit_source[0], "no limit is reported");
    ok(quota() == 0, "no CPU quota");
    put("/proc/meminfo", "MemTotal: 1000 kB\nMemFree: 300 kB\nCached: 200 kB\n");
    info = query();
    ok(info.available == 500 * 1024, "an old kernel without MemAvailable");
}

static void check_v2(void)
{
    put_v2("/user.slice/app");
    put("/sys/fs/cgroup/user.slice/memory.max", "max\n");
    put("/sys/fs/cgroup/user.slice/memory.current", "900000000\n");
    put("/sys/fs/cgroup/user.slice/app/memory.max", "1073741824\n");
    put("/sys/fs/cgroup/user.slice/app/memory.current", "419430400\n");
    put("/sys/fs/cgroup/user.slice/app/memory.stat",
        "anon 104857600\nfile 314572800\ninactive_file 209715200\nactive_file 104857600\n");
    quern_memory_info info = query();
    limit_is(info, MiB(1024), MiB(924), "/sys/fs/cgroup/user.slice/app/memory.max");
    ok(info.used == MiB(100), "page cache does not count as used: %llu", (unsigned long long)info.used);
    put("/sys/fs/cgroup/user.slice/app/memory.high", "536870912\n");
    info = query();
    limit_is(info, MiB(512), MiB(412), "/sys/fs/cgroup/user.slice/app/memory.high");
}

/* A full outer group can leave less than a smaller inner one. */
static void check_v2_nested(void)
{
    put_v2("/a/b/c");
    put("/sys/fs/cgroup/a/memory.max", "2147483648\n");
    put("/sys/fs/cgroup/a/memory.current", "2042626048\n");
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/c/memory.max", "1073741824\n");
    put("/sys/fs/cgroup/a/b/c/memory.current", "1048576\n");
    quern_memory_info info = query();
    limit_is(info, MiB(2048), MiB(100), "/sys/fs/cgroup/a/memory.max");
    put("/sys/fs/cgroup/a/memory.current", "1048576\n");
    info = query();
    limit_is(info, MiB(1024), MiB(1023), "/sys/fs/cgroup/a/b/c/memory.max");
    put("/sys/fs/cgroup/a/memory.current", "3000000000\n");
    info = query();
    ok(info.available == 0, "a group above its limit leaves nothing");
}

/* With a cgroup namespace the process sees itself at the top, and its group's files in the mount's own folder. */
static void check_v2_namespace(void)
{
    put_v2("/");
    put("/sys/fs/cgroup/memory.max", "268435456\n");
    put("/sys/fs/cgroup/memory.current", "16777216\n");
    quern_memory_info info = query();
    limit_is(info, MiB(256), MiB(240), "/sys/fs/cgroup/memory.max");
    put("/proc/self/cgroup", "0::/../../elsewhere\n");
    info = query();
    limit_is(info, MiB(256), MiB(240), "/sys/fs/cgroup/memory.max");
}

static void check_v1(void)
{
    put_machine();
    put("/proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/\n0::/\n");
    put("/proc/self/mountinfo", "30 24 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                                "31 24 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "536870912\n");
    put("/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "209715200\n");
    put("/sys/fs/cgroup/memory/docker/abc/memory.stat",
        "cache 5\ntotal_inactive_file 104857600\ntotal_active_file 0\nhierarchical_memory_limit 536870912\n");
    quern_memory_info info = query();
    limit_is(info, MiB(512), MiB(412), "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes");
    put("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "268435456\n");
    info = query();
    limit_is(info, MiB(256), MiB(256), "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
    ok(quota() == 0, "a quota of -1 is none");
    put("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "250000\n");
    ok(quota() == 3, "2.5 processors' worth of time is 3 threads");
}

/* In a container of old the mount shows the container's own group under the path that only the host knows. */
static void check_v1_container(void)
{
    put_machine();
    put("/proc/self/cgroup", "4:memory:/docker/abc/inner\n");
    put("/proc/self/mountinfo", "30 24 0:30 /docker/abc /sys/fs/cgroup/me\\040mory ro master:11 - cgroup cgroup rw,memory\n");
    put("/sys/fs/cgroup/me mory/memory.limit_in_bytes", "67108864\n");
    put("/sys/fs/cgroup/me mory/inner/memory.limit_in_bytes", "134217728\n");
    quern_memory_info info = query();
    limit_is(info, MiB(64), MiB(64), "/sys/fs/cgroup/me mory/memory.limit_in_bytes");
    put("/sys/fs/cgroup/me mory/inner/memory.stat", "hierarchical_memory_limit 33554432\n");
    info = query();
    limit_is(info, MiB(32), MiB(32), "/sys/fs/cgroup/me mory/inner/memory.stat");
}

static void check_quota_v2(void)
{
    put_v2("/a/b");
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    ok(quota() == 0, "cpu.max of max is none");
    put("/sys/fs/cgroup/a/cpu.max", "50000 100000\n");
    ok(quota() == 1, "half a processor's time is one thread");
    put("/sys/fs/cgroup/a/cpu.max", "400000 100000\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "200000 100000\n");
    ok(quota() == 2, "the tightest of nested quotas counts");
    put("/sys/fs/cgroup/a/b/cpu.max", "junk\n");
    ok(quota() == 4, "a file that makes no sense is left out");
}

/* A plugin that spins on more threads than it is given time for would only wait for itself. */
static void check_quota_limits_threads(void)
{
    qi_host host;
    quern_topology *t = NULL;
    put_v2("/a");
    put("/sys/fs/cgroup/a/cpu.max", "250000 100000\n");
    quern_topology_options options = {.struct_size = sizeof options, .synthetic = "core:8 pu:2", .sysroot = root};
    quern_topology_load(&options, &t, NULL);
    qi_host_init(&host, "test");
    qi_host_set_topology(&host, t);
    qp_cpu cpus[4] = {{.os_index = 99}, {.os_index = 99}, {.os_index = 99}, {.os_index = 99}};
    ok(host.api.cpus(host.api.ctx, cpus, 4) == 3 && cpus[2].core == 2 && cpus[3].os_index == 99,
       "plugins are given 3 of 16 processing units");
    qi_host_set_topology(&host, NULL);
    quern_topology_free(t);
    pthread_mutex_destroy(&host.lock);
}

static void check_address_space(void)
{
    put_machine();
    put("/proc/self/limits", "Max cpu time              unlimited            unlimited            seconds\n"
                             "Max address space         1073741824           unlimited            bytes\n");
    quern_memory_info info = query();
    uint64_t mapped = 25600ull * (uint64_t)sysconf(_SC_PAGESIZE);
    limit_is(info, MiB(1024), MiB(1024) - mapped, "RLIMIT_AS (ulimit -v)");
    ok(info.used == mapped, "address space in use counts");
}

static void check_pci_names(void)
{
    char name[32];
    clear();
    qi_pci_name(root, 0x10de, 0x2330, name, sizeof name);
    ok(!name[0], "no list of PCI names, no name");
    put("/usr/share/misc/pci.ids", "# list\n\n10dd  Evans\n\t2330  Wrong\n10de  NVIDIA\n\t232f  Other\n\t\t2330 0000  "
                                   "Subsystem\n\t2330  GH100 [H100]\n10df  Next\n\t2331  Wrong\nC 03  Display\n");
    qi_pci_name(root, 0x10de, 0x2330, name, sizeof name);
    ok(!strcmp(name, "NVIDIA GH100 [H100]"), "%s", name);
    qi_pci_name(root, 0x10de, 0x2331, name, sizeof name);
    ok(!strcmp(name, "NVIDIA"), "a device that is not listed: %s", name);
    qi_pci_name(root, 0xffff, 0x2331, name, sizeof name);
    ok(!name[0], "a vendor that is not listed");
    qi_pci_name(root, 0x10de, 0x2330, name, 9);
    ok(!strcmp(name, "NVIDIA G"), "cut to the room there is: %s", name);
}

static void check_broken(void)
{
    quern_memory_info info;
    quern_error error = {0};
    clear();
    ok(quern_memory_query(root, &info, &error) == QP_ERR_IO && strstr(error.text, "/proc/meminfo"), "%s", error.text);
    ok(quern_memory_query(root, NULL, &error) == QP_ERR_INVALID, "%s", error.text);
    put_machine();
    put("/proc/self/cgroup", "nonsense\n::\n0:\n7:memory\n\n0::/a\n");
    put("/proc/self/mountinfo", "\n - \n1 2 3\n1 2 3 4 5 - cgroup2\n24 23 0:22 / /x\\777y rw - cgroup2 a b\n");
    ok(query().limit == 0, "malformed tables are survived");
}

static uint64_t mapped_now(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%llu", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void check_here(void)
{
    quern_memory_info info = {0};
    quern_error error = {0};
    quern_status status = quern_memory_query(NULL, &info, &error);
    ok(!status && info.available > 0 && info.available <= info.total, "this machine: %llu MiB of %llu MiB",
       (unsigned long long)(info.available >> 20), (unsigned long long)(info.total >> 20));
    struct rlimit old, tight;
    getrlimit(RLIMIT_AS, &old);
    tight = (struct rlimit){.rlim_cur = mapped_now() + MiB(256), .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_AS, &tight);
    status = quern_memory_query(NULL, &info, &error);
    setrlimit(RLIMIT_AS, &old);
    ok(!status && info.limit && info.available <= MiB(256), "a limit set by setrlimit is seen: %s leaves %llu", info.limit_source,
       (unsigned long long)info.available);
}

int main(void)
{
    check_plain();
    check_v2();
    check_v2_nested();
    check_v2_namespace();
    check_v1();
    check_v1_container();
    check_quota_v2();
    check_quota_limits_threads();
    check_address_space();
    check_pci_names();
    check_broken();
    check_here();
    clear();
    rmdir(root);
    return tap_done();
}
