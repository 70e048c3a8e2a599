/* SPDX-License-Identifier: MIT
 * quern/export.h: symbol visibility and compiler hints for the public headers. */
#ifndef QUERN_EXPORT_H
#define QUERN_EXPORT_H

#if defined(_WIN32)
#define QUERN_API
#define QUERN_PRINTF(fmt, args)
#elif defined(__GNUC__)
#define QUERN_API __attribute__((visibility("default")))
#define QUERN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define QUERN_API
#define QUERN_PRINTF(fmt, args)
#endif

#endif
