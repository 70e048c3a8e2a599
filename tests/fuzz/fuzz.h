/* SPDX-License-Identifier: MIT
 * tests/fuzz/fuzz.h: what a target offers to libFuzzer or to driver.c. A target aborts when a promise is broken. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define promise(condition)                                                                                                         \
    do {                                                                                                                           \
        if (!(condition)) {                                                                                                        \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition);                                        \
            abort();                                                                                                               \
        }                                                                                                                          \
    } while (0)

#endif
