/* SPDX-License-Identifier: MIT
 * cli/chat_commands.h: what begins with a slash in a chat. */
#ifndef CLI_CHAT_COMMANDS_H
#define CLI_CHAT_COMMANDS_H

#include "cli/talk.h"

typedef enum chat_next {
    CHAT_GO_ON,  /* done, or refused with a word */
    CHAT_FAILED, /* could not be done; the reason has been said */
    CHAT_ANSWER, /* the user's last message is to be answered (again) */
    CHAT_LEAVE,
} chat_next;

/* line: terminated, begins with a slash. */
chat_next chat_command(const char *line, talk_model *m, talk *t);

#endif
