/* SPDX-License-Identifier: MIT
 * tests/unit/test_utf8.c: text that arrives in pieces never leaves with a broken character. */
#include <quern/engine.h>
#include "tap.h"

#define R "\xef\xbf\xbd" /* U+FFFD */

static const struct {
    const char *name, *in;
    size_t size;
    const char *out;
} rows[] = {
    {"nothing", "", 0, ""},
    {"plain text", "abc", 3, "abc"},
    {"two, three and four bytes", "é€🦙", 9, "é€🦙"},
    {"a lone continuation", "a\x80z", 3, "a" R "z"},
    {"bytes that never occur", "\xc0\xc1\xf5\xff", 4, R R R R},
    {"an overlong slash", "\xc0\xaf", 2, R R},
    {"an overlong form of three bytes", "\xe0\x80\xaf", 3, R R R},
    {"a surrogate", "\xed\xa0\x80", 3, R R R},
    {"the first number that is too large", "\xf4\x90\x80\x80", 4, R R R R},
    {"the last number", "\xf4\x8f\xbf\xbf", 4, "\xf4\x8f\xbf\xbf"},
    {"a start cut short by a letter", "\xe2\x82z", 3, R "z"},
    {"a start cut short by a start", "\xf0\x9f\xa6\xc3\xa9", 5, R "é"},
    {"a start at the end", "a\xf0\x9f\xa6", 4, "a" R},
    {"a zero byte", "a\0b", 3, "a\0b"},
};

/* Pushes in steps of `step` bytes and flushes. */
static size_t push(const char *in, size_t size, size_t step, char *out)
{
    quern_utf8_stream stream = {0};
    size_t written = 0;
    for (size_t at = 0; at < size; at += step)
        written += quern_utf8_push(&stream, in + at, size - at < step ? size - at : step, out + written);
    return written + quern_utf8_push(&stream, NULL, 0, out + written);
}

int main(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int good = 1;
        for (size_t step = 1; step <= 9; step++) {
            char out[64];
            size_t size = push(rows[i].in, rows[i].size, step, out);
            size_t want = i == sizeof rows / sizeof *rows - 1 ? 3 : strlen(rows[i].out);
            good &= size == want && !memcmp(out, rows[i].out, size);
        }
        ok(good, "%s", rows[i].name);
    }
    quern_utf8_stream stream = {0};
    char out[64];
    ok(quern_utf8_push(&stream, "\xf0\x9f", 2, out) == 0 && quern_utf8_push(&stream, "\xa6\x99!", 3, out) == 5 &&
           !memcmp(out, "🦙!", 5),
       "a character waits until it is whole");
    ok(quern_utf8_push(&stream, NULL, 0, out) == 0, "nothing waits after it");
    unsigned seed = 1;
    int bounded = 1;
    for (int round = 0; round < 2000; round++) { /* the promised room suffices for any bytes */
        char in[16], room[3 * (16 + 4)];
        for (size_t i = 0; i < sizeof in; i++)
            seed = seed * 1664525u + 1013904223u, in[i] = (char)(seed >> 24);
        bounded &= quern_utf8_push(&stream, in, sizeof in, room) <= sizeof room;
    }
    ok(bounded, "2000 rounds of random bytes stay within the promised room");
    return tap_done();
}
