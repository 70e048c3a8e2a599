/* SPDX-License-Identifier: MIT */
#include "core/probe_child.h"

#include <quern/log.h>

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GRACE_MS = 300 }; /* for a killed child to be gone; one that hangs in the kernel stays */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the helper ---- */

static int is_helper(const char *path)
{
    return access(path, X_OK) == 0;
}

static int find_helper(char *path, size_t size)
{
    char own[PATH_MAX];
    const char *named = secure_getenv("QUERN_PROBE");
    if (named && *named)
        return qi_path_join(path, size, named[0] == '/' ? "" : ".", named) && is_helper(path);
    if (qi_own_folder(own, sizeof own)) {
        if (qi_path_join(path, size, own, "quern-probe") && is_helper(path))
            return 1;
        if (qi_path_join(path, size, own, QI_LIBEXEC_FROM_LIB "/quern-probe") && is_helper(path))
            return 1; /* an installation that was moved */
    }
    return qi_path_join(path, size, QI_LIBEXEC_FOLDER, "quern-probe") && is_helper(path);
}

/* ---- children that would not go ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t stuck[64];

/* A process in an uninterruptible call cannot be waited for: it is reaped at a later probe. */
static void remember_stuck(pid_t pid)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < sizeof stuck / sizeof *stuck && pid; i++)
        if (!stuck[i]) {
            stuck[i] = pid;
            pid = 0;
        }
    pthread_mutex_unlock(&lock);
}

static void reap_stuck(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < sizeof stuck / sizeof *stuck; i++)
        if (stuck[i] && waitpid(stuck[i], NULL, WNOHANG) != 0)
            stuck[i] = 0;
    pthread_mutex_unlock(&lock);
}

/* ---- all at once ---- */

typedef struct probing {
    const qi_file *files;
    uint32_t count, timeout_ms;
    qi_child *children; /* pid 0: not started */
    struct pollfd *polled;
} probing;

/* Waits up to wait_ms for something to read, and reads it. */
static void read_some(probing *p, int64_t wait_ms)
{
    nfds_t n = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const qi_child *child = &p->children[i];
        p->polled[n++] = (struct pollfd){.fd = child->pid ? child->results : -1, .events = POLLIN};
        p->polled[n++] = (struct pollfd){.fd = child->pid ? child->words : -1, .events = POLLIN};
    }
    if (poll(p->polled, n, (int)wait_ms) > 0)
        for (nfds_t k = 0; k < n; k++)
            if (p->polled[k].revents)
                qi_child_read(&p->children[k / 2], p->polled[k].fd);
}

/* Children not gone yet. *ending: some of them have nothing left to do but end. */
static uint32_t look_after(probing *p, int *ending)
{
    uint32_t left = 0;
    *ending = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        qi_child *child = &p->children[i];
        if (!child->pid || child->exited)
            continue;
        int told_all = child->reader.state != QI_WIRE_READING;
        if (told_all)
            qi_child_kill(child); /* what a driver does on its way out is not worth waiting for */
        if (qi_child_reap(child))
            continue;
        *ending |= told_all || child->results < 0;
        left++;
    }
    return left;
}

/* Until all are gone or the end has come. A child whose pipe somebody else holds open is noticed by looking now and then. */
static void attend(probing *p, int64_t end)
{
    int64_t left;
    int ending;
    while (look_after(p, &ending) && (left = end - now_ms()) > 0) {
        int64_t nap = ending ? 2 : 20;
        read_some(p, nap < left ? nap : left);
    }
}

static void end_late_ones(probing *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        qi_child *child = &p->children[i];
        if (child->pid && !child->exited) {
            child->late = child->reader.state == QI_WIRE_READING;
            qi_child_kill(child);
        }
    }
    attend(p, now_ms() + GRACE_MS);
    for (uint32_t i = 0; i < p->count; i++)
        if (p->children[i].pid && !p->children[i].exited)
            remember_stuck(p->children[i].pid);
}

/* Starts a child for each file; a file that has none is probed here. */
static void start(probing *p, const char *helper, const quern_topology *topology, qi_report *reports)
{
    for (uint32_t i = 0; i < p->count; i++) {
        quern_error error = {0};
        if (helper && !qi_child_start(&p->children[i], helper, &p->files[i], &error))
            continue;
        if (helper)
            quern_log(QUERN_LOG_WARN, "plugin %s is tried in this process and could end it: %s", p->files[i].name, error.text);
        qi_probe_here(&p->files[i], topology, NULL, NULL, &reports[i]);
    }
}

void qi_probe_all(const qi_file *files, uint32_t count, uint32_t timeout_ms, const quern_topology *topology, qi_report *reports)
{
    char helper[PATH_MAX];
    probing p = {files, count, timeout_ms, calloc((size_t)count + 1, sizeof(qi_child)),
                 calloc(2 * (size_t)count + 1, sizeof(struct pollfd))};
    if (!p.children || !p.polled) {
        for (uint32_t i = 0; i < count; i++)
            snprintf(reports[i].failure, sizeof reports[i].failure, "there is no memory to probe it");
    } else {
        int64_t end = now_ms() + timeout_ms; /* starting many children takes its time, too */
        reap_stuck();
        int have = find_helper(helper, sizeof helper);
        if (!have && count)
            quern_log(QUERN_LOG_WARN, "the program quern-probe is missing (QUERN_PROBE can name it): plugins are tried in this "
                                      "process, which a broken driver can end");
        start(&p, have ? helper : NULL, topology, reports);
        attend(&p, end);
        end_late_ones(&p);
        for (uint32_t i = 0; i < count; i++)
            if (p.children[i].pid)
                qi_child_finish(&p.children[i], timeout_ms, &reports[i]);
    }
    free(p.children);
    free(p.polled);
}
