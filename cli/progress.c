/* SPDX-License-Identifier: MIT */
#include "cli/progress.h"
#include "cli/output.h"

#include <stdio.h>
#include <unistd.h>

void cli_progress_step(cli_progress *progress, uint64_t done, uint64_t total)
{
    double now = cli_seconds();
    if (!isatty(STDERR_FILENO) || (progress->drawn && now - progress->last < 0.1))
        return;
    char a[32], b[32];
    double share = total ? 100.0 * (double)done / (double)total : 100.0;
    if (progress->bytes)
        fprintf(stderr, "\r\033[K%s %3.0f %% (%s of %s)", progress->label, share, cli_size(a, done), cli_size(b, total));
    else
        fprintf(stderr, "\r\033[K%s %3.0f %% (%llu of %llu)", progress->label, share, (unsigned long long)done,
                (unsigned long long)total);
    fflush(stderr);
    progress->drawn = 1;
    progress->last = now;
}

void cli_progress_end(cli_progress *progress)
{
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    progress->drawn = 0;
}
