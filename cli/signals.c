/* SPDX-License-Identifier: MIT */
#include "cli/signals.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

volatile int cli_stop, cli_stop_signal;
static const char *volatile doomed;
static volatile int asked, allowed = 1; /* signals that came, and how many of them only ask */

static void on_signal(int number)
{
    if (!cli_stop)
        cli_stop_signal = number;
    cli_stop = 1;
    if (++asked <= allowed)
        return;
    if (doomed)
        unlink(doomed);
    signal(number, SIG_DFL); /* the mask lets it through when this handler returns */
    raise(number);
}

void cli_signals_init(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file past `ulimit -f` is an error of its write, and its leftovers are removed */
}

static void install(int flags)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction old;
        /* nohup and background jobs of a shell ignore some of these: leave it so */
        if (!sigaction(numbers[i], NULL, &old) && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

void cli_signals_catch(void)
{
    install(SA_RESTART);
}

/* A request to end (SIGTERM, SIGHUP) that came meanwhile stands: only a Ctrl-C is over with what it stopped. */
void cli_signals_again(void)
{
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGHUP);
    sigprocmask(SIG_BLOCK, &ours, &before); /* none between the look and the change */
    allowed = 2;
    if (!cli_stop || cli_stop_signal == SIGINT) {
        asked = 0;
        cli_stop = cli_stop_signal = 0;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
}

void cli_signals_wake(int wake)
{
    install(wake ? 0 : SA_RESTART);
}

void cli_signals_remove(const char *path)
{
    doomed = path;
}
