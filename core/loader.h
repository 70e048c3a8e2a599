/* SPDX-License-Identifier: MIT
 * core/loader.h: plugin files: where they are looked for, and how one is checked before anything in it is called. Internal. */
#ifndef QUERN_CORE_LOADER_H
#define QUERN_CORE_LOADER_H

#include "core/host.h"

#include <quern/status.h>

enum { QI_NAME_SIZE = 64, QI_PATH_SIZE = 512 };

typedef struct qi_file {
    char name[QI_NAME_SIZE]; /* "cpu" of quern_cpu.so */
    char path[QI_PATH_SIZE]; /* absolute */
} qi_file;

typedef struct qi_files {
    qi_file *list;
    uint32_t count;
    char searched[512]; /* the folders, for messages */
} qi_files;

/* Plugin files by name: `path` (folders separated by ':', may be NULL), QUERN_PLUGIN_PATH, the folder this library lies in and
 * quern/ in it, in a build tree the folders of ../plugins, the install folder. The first file of a name wins. only: that name
 * alone, or NULL. Order: as found, names sorted in each folder. */
quern_status qi_files_find(const char *path, const char *only, qi_files *out, quern_error *error);
void qi_files_free(qi_files *files);

/* dst = folder + "/" + rest; 0 when that is too long. */
int qi_path_join(char *dst, size_t size, const char *folder, const char *rest);

/* The folder this library (or the program it is linked into) lies in; 0 when it cannot be told. */
int qi_own_folder(char *dst, size_t size);

/* Is what a plugin file exports fit to be called by a host of this minor version? name: what the file is called. */
quern_status qi_plugin_check(const qp_plugin *plugin, const char *name, uint32_t host_minor, quern_error *error);
quern_status qi_backend_check(const qp_backend *backend, quern_error *error);

/* A plugin in this process. The process keeps one a file until it ends: drivers do not bear being unloaded, and a plugin's
 * query() is called once. */
typedef struct qi_module {
    struct qi_module *next;
    uint64_t file_device, file_number; /* what the file system calls the file */
    unsigned users;                    /* contexts */
    void *handle;
    const qp_plugin *plugin;
    const qp_backend *backend;
    qi_host host;
} qi_module;

/* Told what is about to be called, so that a crash can be placed. */
typedef void (*qi_stage)(void *ctx, const char *what);

/* Loads and checks a file, or finds it loaded. The topology is what the plugin's threads are placed by; where contexts with
 * different ones use a plugin at a time, the first one's counts. stage may be NULL. Thread-safe. */
quern_status qi_module_get(const qi_file *file, const quern_topology *topology, qi_stage stage, void *stage_ctx, qi_module **out,
                           quern_error *error);
void qi_module_put(qi_module *module);

/* Are the numbers within bounds? Ends every text, too. */
quern_status qi_info_check(qp_device_info *info, quern_error *error);

/* Fills *info for device `index`, every text ended and every number within bounds, or says what is wrong with it. */
quern_status qi_module_info(const qi_module *module, uint32_t index, qp_device_info *info, quern_error *error);

#endif
