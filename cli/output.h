/* SPDX-License-Identifier: MIT
 * cli/output.h: results go to stdout, everything else to stderr. A result that cannot be written (a full disk, a closed pipe) is
 * remembered, said once, and makes the exit status 1. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <quern/status.h>
#include <stddef.h>
#include <stdint.h>

struct json_object;

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

/* To stdout. All return nonzero unless stdout has failed. */
int cli_print(const char *format, ...) QUERN_PRINTF(1, 2);
int cli_write(const void *data, size_t size);
int cli_flush(void);
/* Text of a file or a driver: control bytes and broken UTF-8 are made harmless; newlines are kept when lines is nonzero. */
int cli_print_text(const char *data, size_t size, int lines);
/* Prints it with a newline and drops the reference. */
int cli_print_json(struct json_object *object);
/* At the end: flushes stdout; says what went wrong there. Gives status, or CLI_FAILED instead of CLI_OK. */
int cli_finish(int status);

/* One line to stderr, "quern: " in front. */
void cli_note(const char *format, ...) QUERN_PRINTF(1, 2);
/* The same, and gives CLI_FAILED or CLI_USAGE. */
int cli_fail(const char *format, ...) QUERN_PRINTF(1, 2);
int cli_usage(const char *format, ...) QUERN_PRINTF(1, 2);
int cli_error(const quern_error *error);

/* A JSON string of bytes that may be no UTF-8; a JSON number, null where JSON has none (infinities, NaN). */
struct json_object *cli_json_text(const char *data, size_t size);
struct json_object *cli_json_real(double value);

/* "7.5 MiB" */
const char *cli_size(char buffer[32], uint64_t bytes);
/* "1.23 B", "7.3 M" for counts of parameters. */
const char *cli_count(char buffer[32], uint64_t count);

/* Seconds from an arbitrary start. */
double cli_seconds(void);

#endif
