/* SPDX-License-Identifier: MIT
 * cli/signals.h: Ctrl-C (and SIGTERM, SIGHUP) asks for a clean end; the second one ends the process at once. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

/* Nonzero once the user asked to stop; for loops, progress callbacks and quern_session_eval. */
extern volatile int cli_stop;

/* The signal that asked first; 0: none yet. */
extern volatile int cli_stop_signal;

/* At the start of every command: a closed pipe is then an error of write, not a signal. */
void cli_signals_init(void);
/* From now on the first signal only sets cli_stop: for commands that look at it. */
void cli_signals_catch(void);
/* Forgets that somebody asked: for a conversation, where Ctrl-C ends one answer. From now on only the third signal that comes before
 * the next call ends the process. */
void cli_signals_again(void);
/* Whether a signal makes a call that waits for input return (with EINTR), or leaves it waiting. */
void cli_signals_wake(int wake);
/* A file that the second signal removes before the process ends; NULL: none. The path must stay valid. */
void cli_signals_remove(const char *path);

#endif
