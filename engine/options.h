/* SPDX-License-Identifier: MIT
 * engine/options.h: options and info structs that a caller may have compiled against an older or a newer header. */
#ifndef ENGINE_OPTIONS_H
#define ENGINE_OPTIONS_H

#include <stdint.h>
#include <string.h>

/* Copies what both sides know of a struct that starts with its struct_size; the rest of *dst, which is `size` bytes, becomes zero.
 * src may be NULL. */
static inline void options_copy(void *dst, uint32_t size, const void *src)
{
    uint32_t theirs = 0;
    memset(dst, 0, size);
    if (src)
        memcpy(&theirs, src, sizeof theirs);
    if (src)
        memcpy(dst, src, theirs < size ? theirs : size);
    memcpy(dst, &size, sizeof size);
}

/* Copies a filled struct out to a caller who set struct_size; what only the caller knows is left alone. */
static inline void info_copy(void *dst, const void *src, uint32_t size)
{
    uint32_t theirs = 0;
    memcpy(&theirs, dst, sizeof theirs);
    memcpy(dst, src, theirs < size ? theirs : size);
    memcpy(dst, &theirs, sizeof theirs);
}

#endif
