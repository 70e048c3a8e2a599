/* SPDX-License-Identifier: MIT */
#include "core/probe_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- starting ---- */

/* A pipe whose read end does not block and whose write end is clear of 0…3, which the child's descriptors are made of. */
static int make_pipe(int ends[2])
{
    int raw[2];
    if (pipe2(raw, O_CLOEXEC))
        return 0;
    ends[0] = raw[0];
    ends[1] = fcntl(raw[1], F_DUPFD_CLOEXEC, QI_WIRE_FD + 1);
    close(raw[1]);
    if (ends[1] < 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK)) {
        close(ends[0]);
        if (ends[1] >= 0)
            close(ends[1]);
        return 0;
    }
    return 1;
}

/* The child starts with no signal blocked or ignored, in a process group of its own so that all it starts can be ended. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    return posix_spawnattr_setsigmask(attributes, &none) || posix_spawnattr_setsigdefault(attributes, &all) ||
           posix_spawnattr_setpgroup(attributes, 0) ||
           posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
}

static int set_files(posix_spawn_file_actions_t *actions, int results, int words)
{
    return posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0) ||
           posix_spawn_file_actions_adddup2(actions, words, 1) || posix_spawn_file_actions_adddup2(actions, words, 2) ||
           posix_spawn_file_actions_adddup2(actions, results, QI_WIRE_FD);
}

/* Returns an errno value. */
static int spawn(pid_t *pid, const char *helper, const qi_file *file, int results, int words)
{
    char program[] = "quern-probe", name[QI_NAME_SIZE], path[QI_PATH_SIZE], parent[24];
    memcpy(name, file->name, sizeof name);
    memcpy(path, file->path, sizeof path);
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    char *argv[] = {program, name, path, parent, NULL};
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    if (posix_spawnattr_init(&attributes))
        return ENOMEM;
    if (posix_spawn_file_actions_init(&actions)) {
        posix_spawnattr_destroy(&attributes);
        return ENOMEM;
    }
    int failed = ENOMEM;
    if (!set_attributes(&attributes) && !set_files(&actions, results, words))
        failed = posix_spawn(pid, helper, &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return failed;
}

quern_status qi_child_start(qi_child *child, const char *helper, const qi_file *file, quern_error *error)
{
    int results[2], words[2];
    *child = (qi_child){.results = -1, .words = -1};
    if (!make_pipe(results))
        return quern_fail(error, QP_ERR_IO, "no pipe can be made: %s", strerror(errno));
    if (!make_pipe(words)) {
        close(results[0]);
        close(results[1]);
        return quern_fail(error, QP_ERR_IO, "no pipe can be made: %s", strerror(errno));
    }
    int failed = spawn(&child->pid, helper, file, results[1], words[1]);
    close(results[1]);
    close(words[1]);
    if (failed) {
        close(results[0]);
        close(words[0]);
        return quern_fail(error, QP_ERR_IO, "%s cannot be started: %s", helper, strerror(failed));
    }
    child->results = results[0];
    child->words = words[0];
    return QP_OK;
}

/* ---- reading ---- */

/* Keeps the end of what was printed: that is where a driver says why it dies. */
static void keep_tail(qi_child *child, const char *data, size_t size)
{
    size_t room = sizeof child->tail - 1, used = strlen(child->tail);
    if (size > room) {
        data += size - room;
        size = room;
    }
    if (used + size > room) {
        size_t drop = used + size - room;
        memmove(child->tail, child->tail + drop, used - drop);
        used -= drop;
    }
    for (size_t i = 0; i < size; i++)
        child->tail[used + i] = data[i] ? data[i] : ' ';
    child->tail[used + size] = '\0';
}

void qi_child_read(qi_child *child, int fd)
{
    char data[16384];
    int rounds = 8; /* what a pipe holds, twice: a child that prints without end must not hold up the others */
    int *end = fd == child->results ? &child->results : &child->words;
    for (;;) {
        ssize_t size = read(fd, data, sizeof data);
        if (size > 0 && end == &child->results)
            qi_wire_take(&child->reader, data, (size_t)size);
        else if (size > 0)
            keep_tail(child, data, (size_t)size);
        else if (size < 0 && errno == EINTR)
            continue;
        else if (size == 0 || errno != EAGAIN) {
            close(fd);
            *end = -1;
            return;
        }
        if (size < (ssize_t)sizeof data || --rounds == 0)
            return;
    }
}

/* ---- ending ---- */

/* The leader is not reaped before its group is killed: as a zombie it keeps the group's number from being used again. */
int qi_child_reap(qi_child *child)
{
    siginfo_t info = {0};
    if (child->exited)
        return 1;
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT)) {
        child->exited = errno == ECHILD; /* the application reaps all children, or lets the kernel do it */
        child->status = -1;
    } else if (info.si_pid == child->pid) {
        kill(-child->pid, SIGKILL);
        child->exited = 1;
        if (waitpid(child->pid, &child->status, 0) != child->pid)
            child->status = -1;
    }
    if (child->exited && child->results >= 0)
        qi_child_read(child, child->results);
    if (child->exited && child->words >= 0)
        qi_child_read(child, child->words);
    return child->exited;
}

void qi_child_kill(qi_child *child)
{
    if (child->exited)
        return; /* its number may be another process's by now */
    kill(-child->pid, SIGKILL);
    kill(child->pid, SIGKILL);
}

/* ---- words ---- */

static const char *signal_words(int number)
{
    switch (number) {
    case SIGSEGV: return "segmentation fault (SIGSEGV)";
    case SIGBUS: return "bus error (SIGBUS)";
    case SIGILL: return "illegal instruction (SIGILL)";
    case SIGFPE: return "arithmetic error (SIGFPE)";
    case SIGABRT: return "abort (SIGABRT)";
    case SIGTRAP: return "trap (SIGTRAP)";
    case SIGSYS: return "forbidden system call (SIGSYS)";
    case SIGPIPE: return "broken pipe (SIGPIPE)";
    case SIGALRM: return "alarm (SIGALRM)";
    case SIGTERM: return "terminated (SIGTERM)";
    case SIGKILL: return "killed (SIGKILL), perhaps because memory ran out";
    default: return NULL;
    }
}

/* The last line printed, with what a terminal would take for commands left out. */
static void last_line(const char *tail, char *dst, size_t size)
{
    size_t end = strlen(tail);
    while (end && strchr("\n\r ", tail[end - 1]))
        end--;
    size_t begin = end;
    while (begin && tail[begin - 1] != '\n')
        begin--;
    size_t length = 0;
    for (size_t i = begin; i < end && length < size - 1; i++)
        dst[length++] = tail[i] >= ' ' && tail[i] < 127 ? tail[i] : '?';
    dst[length] = '\0';
}

static void describe_end(const qi_child *child, uint32_t timeout_ms, char *dst, size_t size)
{
    const char *stage = child->reader.stage[0] ? child->reader.stage : "before the plugin was loaded";
    int status = child->status;
    if (child->late)
        snprintf(dst, size, "it did not answer within %.1f s %s and was ended", timeout_ms / 1000.0, stage);
    else if (status != -1 && WIFSIGNALED(status) && signal_words(WTERMSIG(status)))
        snprintf(dst, size, "it crashed %s: %s", stage, signal_words(WTERMSIG(status)));
    else if (status != -1 && WIFSIGNALED(status))
        snprintf(dst, size, "it crashed %s: signal %d", stage, WTERMSIG(status));
    else if (status != -1)
        snprintf(dst, size, "it ended its process %s, exit status %d", stage, WEXITSTATUS(status));
    else
        snprintf(dst, size, "it crashed or ended its process %s", stage);
}

static void explain(const qi_child *child, uint32_t timeout_ms, char *dst, size_t size)
{
    char words[160];
    if (child->reader.state == QI_WIRE_BROKEN)
        snprintf(dst, size, "its report is damaged: the plugin writes where it should not, or quern-probe is of another build");
    else
        describe_end(child, timeout_ms, dst, size);
    last_line(child->tail, words, sizeof words);
    size_t used = strlen(dst);
    if (words[0])
        snprintf(dst + used, size - used, "; it printed \"%s\"", words);
}

void qi_child_finish(qi_child *child, uint32_t timeout_ms, qi_report *report)
{
    if (child->results >= 0)
        close(child->results);
    if (child->words >= 0)
        close(child->words);
    child->results = child->words = -1;
    *report = child->reader.report;
    if (child->reader.state != QI_WIRE_ENDED) {
        qi_report_free(report);
        explain(child, timeout_ms, report->failure, sizeof report->failure);
    }
    qi_wire_free(&child->reader);
}
