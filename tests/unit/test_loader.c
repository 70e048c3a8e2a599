/* SPDX-License-Identifier: MIT
 * What the loader looks at before it calls anything; growth of the ABI; which file of a name wins. */
#include "tap.h"

#include "core/loader.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the description and the table ---- */

static const qp_backend *no_query(uint32_t minor, const qp_host *host, qp_text *reason)
{
    (void)minor, (void)host, (void)reason;
    return NULL;
}

static const qp_plugin good = {QP_MAGIC, sizeof good, QP_ABI_MAJOR, QP_ABI_MINOR, "good", "1", no_query};

static void check_description(void)
{
    quern_error error = {0};
    qp_plugin p = good;
    ok(!qi_plugin_check(&p, "good", QP_ABI_MINOR, &error), "a plugin of this release");
    ok(!qi_plugin_check(&p, "good", QP_ABI_MINOR + 7, &error), "a plugin built against an older minor version loads");
    p.struct_size += 400;
    ok(!qi_plugin_check(&p, "good", QP_ABI_MINOR, &error), "a description that has grown loads");
    p = good;
    p.abi_minor = 9;
    ok(qi_plugin_check(&p, "good", 8, &error) == QP_ERR_UNSUPPORTED && strstr(error.text, "1.9"), "%s", error.text);
    ok(!qi_plugin_check(&p, "good", 9, &error), "the host's own minor version loads");
    p.abi_major = 0;
    ok(qi_plugin_check(&p, "good", 9, &error) == QP_ERR_UNSUPPORTED && strstr(error.text, "0.9"), "%s", error.text);
    p = good;
    p.name = NULL;
    ok(qi_plugin_check(&p, "good", 0, &error) == QP_ERR_FORMAT, "%s", error.text);
    p = good;
    p.magic = 0;
    p.struct_size = 0;
    ok(qi_plugin_check(&p, "good", 0, &error) == QP_ERR_FORMAT && strstr(error.text, "0x00000000"), "%s", error.text);
}

/* A module from the null plugin, whose table the tests vary. */
static void check_table(const qi_module *module)
{
    struct {
        qp_backend table;
        void *later[3];
    } grown = {*module->backend, {0}};
    quern_error error = {0};
    ok(!qi_backend_check(module->backend, &error), "the null plugin's table is whole");
    grown.table.struct_size = sizeof grown;
    ok(!qi_backend_check(&grown.table, &error), "a table that has grown is");
    grown.table.struct_size = offsetof(qp_backend, get_extension);
    ok(qi_backend_check(&grown.table, &error) == QP_ERR_FORMAT, "%s", error.text);
    grown.table = *module->backend;
    grown.table.buffer_import = NULL;
    grown.table.get_extension = NULL;
    ok(!qi_backend_check(&grown.table, &error), "a table may lack what is optional");
    grown.table.timeline_wait = NULL;
    ok(qi_backend_check(&grown.table, &error) == QP_ERR_FORMAT && strstr(error.text, "timeline_wait"), "%s", error.text);
    ok(QP_HAS(module->backend, struct_size) && QP_HAS(module->backend, get_extension), "QP_HAS sees members inside");
    qp_backend shorter = {.struct_size = offsetof(qp_backend, get_extension) + 1};
    ok(!QP_HAS(&shorter, get_extension) && QP_HAS(&shorter, timeline_destroy), "and not one that is cut");
}

/* ---- files ---- */

static char folder[64];

static void touch(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (file)
        fclose(file);
}

static const char *path_of(const qi_files *files, const char *name)
{
    for (uint32_t i = 0; i < files->count; i++)
        if (!strcmp(files->list[i].name, name))
            return files->list[i].path;
    return NULL;
}

static void check_search(void)
{
    qi_files files;
    quern_error error = {0};
    char list[160];
    snprintf(folder, sizeof folder, "/tmp/quern-plugins-XXXXXX");
    if (!mkdtemp(folder))
        exit(1);
    static const char *const names[] = {"quern_null.so", "quern_b-2_x.so", "quern_.so",   "quern_UPPER.so",
                                        "quern_x.so.1",  "other.so",       "quern_a b.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        touch(names[i]);
    snprintf(list, sizeof list, "::/nowhere:%s:", folder);
    ok(!qi_files_find(list, NULL, &files, &error), "folders are searched");
    const char *null = path_of(&files, "null");
    ok(null && !strncmp(null, folder, strlen(folder)), "the first file of a name wins: %s", null ? null : "none");
    ok(path_of(&files, "b-2_x") && !path_of(&files, "UPPER") && !path_of(&files, "") && !path_of(&files, "x") &&
           !path_of(&files, "a b"),
       "other files are left alone");
    ok(strstr(files.searched, folder) && !strstr(files.searched, "/nowhere"), "searched: %s", files.searched);
    qi_files_free(&files);
    ok(!qi_files_find(NULL, "null", &files, &error) && files.count == 1 && strncmp(files.list[0].path, folder, strlen(folder)) != 0,
       "QUERN_PLUGIN_PATH is searched too");
    qi_files_free(&files);
    ok(!qi_files_find(NULL, "imaginary", &files, &error) && files.count == 0, "only one name");
    qi_files_free(&files);
}

static void check_damaged_files(void)
{
    qi_file file = {.name = "null"};
    qi_module *module = NULL;
    quern_error error = {0};
    snprintf(file.path, sizeof file.path, "%s/quern_null.so", folder);
    ok(qi_module_get(&file, NULL, NULL, NULL, &module, &error) == QP_ERR_IO && strstr(error.text, "cannot be loaded"),
       "an empty file: %s", error.text);
    snprintf(file.path, sizeof file.path, "%s/missing.so", folder);
    ok(qi_module_get(&file, NULL, NULL, NULL, &module, &error) == QP_ERR_IO, "a file that is gone: %s", error.text);
    char command[160];
    snprintf(command, sizeof command, "rm -r %s", folder);
    ok(!system(command), "cleaned up");
}

/* ---- modules ---- */

static void check_modules(void)
{
    qi_files files;
    qi_module *first = NULL, *second = NULL;
    quern_error error = {0};
    if (!ok(!qi_files_find(NULL, "null", &files, &error) && files.count == 1, "the null plugin is there"))
        return;
    ok(!qi_module_get(&files.list[0], NULL, NULL, NULL, &first, &error), "it loads %s", error.text);
    ok(!qi_module_get(&files.list[0], NULL, NULL, NULL, &second, &error) && first == second && first->users == 2, "once a process");
    check_table(first);
    qp_device_info info = {0};
    ok(!qi_module_info(first, 0, &info, &error) && info.kind == QP_DEVICE_NULL && info.struct_size == sizeof info, "its device: %s",
       info.name);
    ok(qi_module_info(first, 1, &info, &error) == QP_ERR_INVALID, "%s", error.text);
    struct {
        qp_device_info info;
        char guard[16];
    } older;
    memset(&older, 0x5a, sizeof older);
    older.info.struct_size = offsetof(qp_device_info, uuid);
    ok(!first->backend->device_info(0, &older.info, NULL) && older.info.kind == QP_DEVICE_NULL,
       "a host that knows a shorter struct");
    ok(older.info.uuid[0] == 0x5a && older.guard[0] == 0x5a, "gets no more than it has room for");
    qi_module_put(first);
    qi_module_put(second);
    qi_files_free(&files);
}

int main(void)
{
    check_description();
    check_search();
    check_damaged_files();
    check_modules();
    return tap_done();
}
