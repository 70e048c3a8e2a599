/* SPDX-License-Identifier: MIT */
#include "core/loader.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int qi_path_join(char *dst, size_t size, const char *folder, const char *rest)
{
    int length = snprintf(dst, size, "%s/%s", folder, rest);
    return length >= 0 && (size_t)length < size;
}

/* ---- one folder ---- */

/* "quern_NAME.so" with a NAME of lower-case letters, digits, '_' and '-'. */
static int plugin_name(const char *file, char name[QI_NAME_SIZE])
{
    size_t length = strlen(file);
    if (length <= 9 || length - 9 >= QI_NAME_SIZE || strncmp(file, "quern_", 6) != 0 || strcmp(file + length - 3, ".so") != 0)
        return 0;
    memcpy(name, file + 6, length - 9);
    name[length - 9] = '\0';
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-")] == '\0';
}

static int is_plugin(const struct dirent *entry)
{
    char name[QI_NAME_SIZE];
    return plugin_name(entry->d_name, name);
}

static int have(const qi_files *files, const char *name)
{
    for (uint32_t i = 0; i < files->count; i++)
        if (!strcmp(files->list[i].name, name))
            return 1;
    return 0;
}

static int add_file(qi_files *files, const char *folder, const char *entry, const char *name)
{
    qi_file *list = realloc(files->list, (files->count + 1) * sizeof *list);
    if (!list)
        return 0;
    files->list = list;
    qi_file *file = &list[files->count];
    if (!qi_path_join(file->path, sizeof file->path, folder, entry))
        return 1; /* a path too long to be handed on is left out */
    memcpy(file->name, name, QI_NAME_SIZE);
    files->count++;
    return 1;
}

/* Is the folder in the list of those searched? */
static int was_searched(const qi_files *files, const char *folder)
{
    size_t length = strlen(folder);
    for (const char *at = files->searched; (at = strstr(at, folder)); at += length)
        if ((at == files->searched || at[-1] == ' ') && (at[length] == ',' || !at[length]))
            return 1;
    return 0;
}

static int search_folder(qi_files *files, const char *folder, const char *only)
{
    char full[PATH_MAX], name[QI_NAME_SIZE];
    if (!realpath(folder, full) || was_searched(files, full))
        return 1;
    size_t used = strlen(files->searched);
    snprintf(files->searched + used, sizeof files->searched - used, "%s%s", used ? ", " : "", full);
    struct dirent **entries = NULL;
    int count = scandir(full, &entries, is_plugin, alphasort), fine = 1;
    for (int i = 0; i < count; i++) {
        if (fine && plugin_name(entries[i]->d_name, name) && !have(files, name) && (!only || !strcmp(only, name)))
            fine = add_file(files, full, entries[i]->d_name, name);
        free(entries[i]);
    }
    free(entries);
    return fine;
}

/* ---- the list of folders ---- */

static int search_list(qi_files *files, const char *list, const char *only)
{
    char folder[PATH_MAX];
    for (const char *at = list; at && *at;) {
        size_t length = strcspn(at, ":");
        if (length && length < sizeof folder) {
            memcpy(folder, at, length);
            folder[length] = '\0';
            if (!search_folder(files, folder, only))
                return 0;
        }
        at += length + (at[length] == ':');
    }
    return 1;
}

int qi_own_folder(char *dst, size_t size)
{
    static const char anchor = 0;
    Dl_info info;
    char full[PATH_MAX];
    if (!dladdr(&anchor, &info) || !info.dli_fname || !realpath(info.dli_fname, full))
        return 0;
    char *slash = strrchr(full, '/');
    if (!slash)
        return 0;
    *slash = '\0';
    int length = snprintf(dst, size, "%s", full);
    return length >= 0 && (size_t)length < size;
}

/* A library that runs from its build tree has the probe helper beside it, an installed one has not. */
static int in_build_tree(const char *own)
{
    char helper[PATH_MAX];
    return qi_path_join(helper, sizeof helper, own, "quern-probe") && access(helper, X_OK) == 0;
}

static int search_build_tree(qi_files *files, const char *own, const char *only)
{
    char root[PATH_MAX], folder[PATH_MAX];
    struct dirent **entries = NULL;
    int count = qi_path_join(root, sizeof root, own, "../plugins") ? scandir(root, &entries, NULL, alphasort) : 0, fine = 1;
    for (int i = 0; i < count; i++) {
        if (fine && entries[i]->d_name[0] != '.' && qi_path_join(folder, sizeof folder, root, entries[i]->d_name))
            fine = search_folder(files, folder, only);
        free(entries[i]);
    }
    free(entries);
    return fine;
}

static int search_beside(qi_files *files, const char *only)
{
    char own[PATH_MAX], folder[PATH_MAX];
    if (!qi_own_folder(own, sizeof own))
        return 1;
    if (!search_folder(files, own, only) || !qi_path_join(folder, sizeof folder, own, "quern") ||
        !search_folder(files, folder, only))
        return 0;
    return !in_build_tree(own) || search_build_tree(files, own, only);
}

quern_status qi_files_find(const char *path, const char *only, qi_files *out, quern_error *error)
{
    *out = (qi_files){0};
    /* secure_getenv: a program with more rights than its caller must not load the caller's code */
    if (search_list(out, path, only) && search_list(out, secure_getenv("QUERN_PLUGIN_PATH"), only) && search_beside(out, only) &&
        search_folder(out, QI_PLUGIN_FOLDER, only))
        return QP_OK;
    qi_files_free(out);
    return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to list plugins");
}

void qi_files_free(qi_files *files)
{
    free(files->list);
    *files = (qi_files){0};
}
