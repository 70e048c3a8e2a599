/* SPDX-License-Identifier: MIT
 * core/call.h: from a plugin's (qp_status, qp_text) to a quern_error. Internal. */
#ifndef QUERN_CORE_CALL_H
#define QUERN_CORE_CALL_H

#include <quern/status.h>

enum { QI_TEXT = 508 }; /* room for a plugin's words, as in quern_error */

/* Turns a failed call into *error: the plugin's words made one clean line, `otherwise` where it gave none. words has QI_TEXT bytes
 * and need not be ended. A status that is none of the ABI's becomes QP_ERR_INTERNAL. Returns the status. */
quern_status qi_result(qp_status status, char *words, const char *otherwise, quern_error *error);

#endif
