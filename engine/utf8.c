/* SPDX-License-Identifier: MIT
 * engine/utf8.c: tokens may end inside a character; what reaches a terminal must not. */
#include "engine/utf8.h"
#include <quern/engine.h>

#include <string.h>

static size_t put_replacement(char *dst)
{
    memcpy(dst, "\xef\xbf\xbd", 3); /* U+FFFD */
    return 3;
}

size_t quern_utf8_push(quern_utf8_stream *stream, const char *bytes, size_t size, char *dst)
{
    size_t written = 0;
    if (!stream || !dst || (!bytes && size))
        return 0;
    if (size == 0) { /* what waits will never be whole */
        if (stream->count)
            written = put_replacement(dst);
        stream->count = 0;
        return written;
    }
    for (size_t i = 0; i < size; i++) {
        stream->pending[stream->count++] = (unsigned char)bytes[i];
        while (stream->count) {
            int length = utf8_sequence(stream->pending, stream->count);
            if (length == 0)
                break; /* wait */
            uint32_t used = (uint32_t)(length > 0 ? length : -length);
            if (length > 0)
                memcpy(dst + written, stream->pending, used);
            written += length > 0 ? used : put_replacement(dst + written);
            stream->count -= used;
            memmove(stream->pending, stream->pending + used, stream->count);
        }
    }
    return written;
}
