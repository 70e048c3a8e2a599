/* SPDX-License-Identifier: MIT
 * pty [WAIT SEND]… -- COMMAND…: runs a command on a terminal of its own, as a person would: each SEND is typed once WAIT has been
 * seen in what came since the last one. \n, \e, \\ and \xNN in both are read as in C. Prints all that came; gives the command's
 * exit status, 128 + the signal that ended it, or 99 when a WAIT never came (30 s). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { ROOM = 1 << 20, PATIENCE_MS = 30000 };

static char seen[ROOM + 1];
static size_t seen_size;

static size_t unescape(const char *from, char *to, size_t room)
{
    size_t n = 0;
    for (; *from && n + 1 < room; from++) {
        unsigned byte;
        if (*from != '\\') {
            to[n++] = *from;
        } else if (from[1] == 'x' && sscanf(from + 2, "%2x", &byte) == 1) {
            to[n++] = (char)byte;
            from += 3;
        } else {
            from++;
            to[n++] = *from == 'n' ? '\n' : *from == 'e' ? '\033' : *from;
        }
    }
    to[n] = '\0';
    return n;
}

/* 0: the other side is gone. */
static int take(int master, int timeout)
{
    struct pollfd wait = {.fd = master, .events = POLLIN};
    if (poll(&wait, 1, timeout) <= 0)
        return -1;
    ssize_t n = read(master, seen + seen_size, ROOM - seen_size);
    if (n <= 0)
        return 0;
    seen_size += (size_t)n;
    seen[seen_size] = '\0';
    return 1;
}

static int wait_for(int master, const char *text, size_t size, size_t *from)
{
    for (;;) {
        char *found = memmem(seen + *from, seen_size - *from, text, size);
        if (found) {
            *from = (size_t)(found - seen) + size;
            return 1;
        }
        if (seen_size == ROOM || take(master, PATIENCE_MS) <= 0)
            return 0;
    }
}

static void become(int slave, char **command)
{
    struct winsize size = {.ws_row = 24, .ws_col = 100};
    setsid();
    ioctl(slave, TIOCSCTTY, 0);
    ioctl(slave, TIOCSWINSZ, &size);
    for (int fd = 0; fd < 3; fd++)
        dup2(slave, fd);
    signal(SIGINT, SIG_DFL);
    execvp(command[0], command);
    _exit(98);
}

int main(int argc, char **argv)
{
    int end = 1, status = 0, came = 1;
    size_t from = 0;
    while (end < argc && strcmp(argv[end], "--"))
        end++;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (end + 1 >= argc || end % 2 == 0 || master < 0 || grantpt(master) || unlockpt(master))
        return 97;
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    pid_t child = slave < 0 ? -1 : fork();
    if (child < 0)
        return 97;
    if (!child)
        become(slave, argv + end + 1);
    close(slave);
    for (int i = 1; came && i + 1 < end + 1 && i < end; i += 2) {
        char text[1024];
        size_t size = unescape(argv[i], text, sizeof text);
        came = wait_for(master, text, size, &from);
        if (!came)
            fprintf(stderr, "pty: '%s' never came\n", argv[i]);
        usleep(20000); /* a terminal is put into its mode right after the prompt is written */
        size = unescape(argv[i + 1], text, sizeof text);
        came = came && write(master, text, size) == (ssize_t)size;
    }
    while (came && take(master, PATIENCE_MS) > 0)
        continue;
    if (!came)
        kill(child, SIGKILL);
    waitpid(child, &status, 0);
    fwrite(seen, 1, seen_size, stdout);
    if (!came)
        return 99;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
