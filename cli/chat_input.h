/* SPDX-License-Identifier: MIT
 * cli/chat_input.h: what the user says, a message at a time: typed with line editing and history, or from a pipe. */
#ifndef CLI_CHAT_INPUT_H
#define CLI_CHAT_INPUT_H

#include <stddef.h>

typedef struct chat_input chat_input;

typedef enum chat_heard {
    CHAT_HEARD,     /* a message */
    CHAT_HEARD_END, /* nothing more will come: end of input, Ctrl-D, a signal that ends things */
    CHAT_HEARD_STOP /* Ctrl-C at the prompt */
} chat_heard;

/* history: whether lines are remembered beyond this run (for a terminal only). NULL when there is no memory. */
chat_input *chat_input_open(int history);
void chat_input_close(chat_input *input);
int chat_input_is_terminal(const chat_input *input);
/* One message, malloc'd and terminated: a line; lines that end in a backslash and the one after them; or all between two """. */
chat_heard chat_input_next(chat_input *input, char **text, size_t *size);

/* ---- the history file (chat_history.c) ---- */

enum { CHAT_HISTORY_LINES = 1000, CHAT_HISTORY_LINE = 4096 };

typedef struct chat_history {
    char *lines[CHAT_HISTORY_LINES]; /* oldest first */
    size_t count;
} chat_history;

/* quern/chat-history in $XDG_STATE_HOME or ~/.local/state; NULL when neither is known. malloc'd. */
char *chat_history_path(void);
/* What is readable of it: lines of UTF-8 without control bytes, the last ones. A file that is missing or strange gives nothing. */
void chat_history_load(chat_history *history, const char *path);
/* From the file's bytes. */
void chat_history_parse(chat_history *history, const char *data, size_t size);
/* The oldest makes room. Lines with control bytes, long ones, and the same as before are left out. */
void chat_history_add(chat_history *history, const char *line, size_t size);
/* Replaces the file (mode 0600, folders 0700). Says so when it cannot. */
void chat_history_save(const chat_history *history, const char *path);
void chat_history_free(chat_history *history);

#endif
