/* SPDX-License-Identifier: MIT */
#include "core/call.h"

#include <string.h>

static void clean(char *words)
{
    words[QI_TEXT - 1] = '\0';
    size_t length = strlen(words);
    while (length && strchr("\n\r .", words[length - 1]))
        words[--length] = '\0';
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)words[i] < ' ' || words[i] == 127)
            words[i] = ' ';
}

quern_status qi_result(qp_status status, char *words, const char *otherwise, quern_error *error)
{
    clean(words);
    if (status == QP_OK)
        return status;
    if (status > 0 || status < QP_ERR_INTERNAL)
        return quern_fail(error, QP_ERR_INTERNAL, "the plugin returned the unknown status %d%s%s", status, words[0] ? ": " : "",
                          words);
    return quern_fail(error, status, "%s", words[0] ? words : otherwise);
}
