/* SPDX-License-Identifier: MIT
 * cli/files.h: whole inputs, outputs that appear only when they are complete, and where the default model lies. */
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include <stddef.h>
#include <stdio.h>

/* Reads a file, or stdin when path is NULL or "-", to its end: malloc'd and terminated. 0, or CLI_FAILED with the reason written.
 */
int cli_read_all(const char *path, char **out, size_t *size);

/* A file without a name (or, where the file system has no such thing, under another name in the same folder) until it is complete. */
typedef struct cli_output_file {
    FILE *file;
    const char *path; /* the caller's */
    char *final;      /* the name it gets, links followed; NULL: path is no regular file (/dev/stdout, a pipe) and is written as it is */
    char *temporary;  /* its other name, while it has one */
    int reason;       /* errno of a write that failed, noted by the writer; 0: none, or not known */
} cli_output_file;

/* These give 0, or CLI_FAILED with the reason written and nothing left behind. */
int cli_output_open(cli_output_file *output, const char *path);
int cli_output_commit(cli_output_file *output);
/* Removes what was written; harmless after commit. */
void cli_output_abort(cli_output_file *output);

/* The path of a file that comes with quern (malloc'd): in $QUERN_DATA, else relative to the executable (as installed, or in a build
 * folder), else where this build installs. NULL when it is nowhere; the reason has then been written. */
char *cli_data_file(const char *name);

#endif
