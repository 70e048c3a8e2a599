/* SPDX-License-Identifier: MIT
 * backends/vulkan/build_id.h: which build of the plugin this is. */
#ifndef QUERN_BACKENDS_VULKAN_BUILD_ID_H
#define QUERN_BACKENDS_VULKAN_BUILD_ID_H

/* The linker's build id of the shared object that this is in, in hexadecimal; "" where it has none. It lives as long as the plugin.
 * Thread rule: any. */
const char *qv_build_id(void);

#endif
