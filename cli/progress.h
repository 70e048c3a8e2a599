/* SPDX-License-Identifier: MIT
 * cli/progress.h: one line on stderr that is drawn over, on a terminal only. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdint.h>

typedef struct cli_progress {
    const char *label;
    int bytes; /* the numbers are sizes */
    int drawn;
    double last; /* when it was drawn */
} cli_progress;  /* start from {.label = "loading"} */

void cli_progress_step(cli_progress *progress, uint64_t done, uint64_t total);
/* Wipes the line. Call before anything else is written to the terminal. */
void cli_progress_end(cli_progress *progress);

#endif
