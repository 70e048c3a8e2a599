/* SPDX-License-Identifier: MIT
 * quern/status.h: results as values. The numbers are those of qp_status, so that a plugin's result passes through. */
#ifndef QUERN_STATUS_H
#define QUERN_STATUS_H

#include <quern/export.h>
#include <quern/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef qp_status quern_status; /* QP_OK or QP_ERR_… */

/* Where a failing call explains itself: what, where, how much, what to do; one sentence, no newline, no full stop at the end.
 * Callers put one on the stack and pass its address, or NULL if they only want the number. Written only on failure. */
typedef struct quern_error {
    quern_status status;
    char text[508];
} quern_error;

/* Fills *error (may be NULL) from a printf format and returns status, so that a function can end in
 * `return quern_fail(error, QP_ERR_FORMAT, "…", …);`. Thread-safe. */
QUERN_API quern_status quern_fail(quern_error *error, quern_status status, const char *format, ...) QUERN_PRINTF(3, 4);

/* Puts words in front of what *error already says ("model.gguf: " …). error may be NULL. Returns error->status, or status
 * when error is NULL. */
QUERN_API quern_status quern_fail_prefix(quern_error *error, quern_status status, const char *format, ...) QUERN_PRINTF(3, 4);

/* A short name for a status: "out of memory". Never NULL. */
QUERN_API const char *quern_status_name(quern_status status);

#ifdef __cplusplus
}
#endif
#endif
