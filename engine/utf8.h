/* SPDX-License-Identifier: MIT
 * engine/utf8.h: where UTF-8 sequences begin and end (RFC 3629: no surrogates, nothing over U+10FFFF, no overlong forms). */
#ifndef QUERN_ENGINE_UTF8_H
#define QUERN_ENGINE_UTF8_H

#include <stddef.h>

/* Looks at bytes (size > 0). > 0: the length of the whole sequence that begins here. 0: a sequence begins here whose end is
 * missing. < 0: minus the number of bytes that can never become one (the longest wrong start counts as one error). */
static inline int utf8_sequence(const unsigned char *bytes, size_t size)
{
    unsigned char b = bytes[0], low = 0x80, high = 0xbf;
    int length = b < 0x80 ? 1 : b < 0xc2 ? -1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : -1;
    if (length <= 1)
        return length;
    if (b == 0xe0)
        low = 0xa0;
    else if (b == 0xed)
        high = 0x9f;
    else if (b == 0xf0)
        low = 0x90;
    else if (b == 0xf4)
        high = 0x8f;
    for (int i = 1; i < length; i++) {
        if ((size_t)i == size)
            return 0;
        if (bytes[i] < low || bytes[i] > high)
            return -i;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

#endif
