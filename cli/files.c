/* SPDX-License-Identifier: MIT */
#include "cli/files.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t input_limit = (size_t)1 << 30; /* a text larger than this is a mistake */

/* Doubles the buffer when it is full. */
static int make_room(char **data, size_t *capacity, size_t size)
{
    if (size + 1 < *capacity)
        return 1;
    size_t larger = *capacity ? *capacity * 2 : 65536;
    char *grown = realloc(*data, larger);
    if (!grown)
        return 0;
    *data = grown;
    *capacity = larger;
    return 1;
}

int cli_read_all(const char *path, char **out, size_t *out_size)
{
    int from_stdin = !path || !strcmp(path, "-");
    const char *name = from_stdin ? "standard input" : path;
    FILE *file = from_stdin ? stdin : fopen(path, "rb");
    char *data = NULL;
    size_t size = 0, capacity = 0;
    if (!file)
        return cli_fail("%s: cannot be opened: %s", name, strerror(errno));
    int failed = 0;
    while (!failed) {
        if (!make_room(&data, &capacity, size)) {
            failed = cli_fail("%s: no memory for more than %zu bytes", name, size);
            break;
        }
        size_t count = fread(data + size, 1, capacity - size - 1, file);
        size += count;
        if (ferror(file))
            failed = cli_fail("%s: cannot be read: %s", name, strerror(errno));
        else if (size > input_limit)
            failed = cli_fail("%s: is larger than 1 GiB, the limit for text", name);
        else if (!count)
            break;
    }
    if (!from_stdin)
        fclose(file);
    if (failed) {
        free(data);
        return failed;
    }
    data[size] = '\0';
    *out = data;
    *out_size = size;
    return 0;
}

/* Whether a path is written as it is: a device or a pipe, or a name of the system's for one of our own files (/dev/stdout). */
static int written_in_place(const char *path)
{
    struct stat status;
    return (!stat(path, &status) && !S_ISREG(status.st_mode)) || !strncmp(path, "/dev/", 5) || !strncmp(path, "/proc/", 6);
}

/* Where a path leads: a link stays, and the file that it names is replaced. malloc'd; NULL when there is no memory. */
static char *behind_links(const char *path)
{
    struct stat status;
    char *real = !lstat(path, &status) && S_ISLNK(status.st_mode) ? realpath(path, NULL) : NULL;
    return real ? real : strdup(path);
}

int cli_output_open(cli_output_file *output, const char *path)
{
    struct stat status;
    *output = (cli_output_file){.path = path};
    if (written_in_place(path)) {
        if (!stat(path, &status) && S_ISDIR(status.st_mode))
            return cli_fail("%s: is a folder; name a file in it", path);
        output->file = fopen(path, "wb");
        return output->file ? 0 : cli_fail("%s: cannot be written: %s", path, strerror(errno));
    }
    output->final = behind_links(path);
    size_t size = output->final ? strlen(output->final) + sizeof ".part-XXXXXX" : 0;
    output->temporary = size ? malloc(size) : NULL;
    if (!output->temporary) {
        free(output->final);
        return cli_fail("no memory for the name of a file");
    }
    snprintf(output->temporary, size, "%s.part-XXXXXX", output->final);
    int fd = mkstemp(output->temporary);
    if (fd < 0) {
        int reason = errno;
        free(output->temporary);
        free(output->final);
        output->temporary = output->final = NULL;
        return cli_fail("%s: cannot be created: %s", path, strerror(reason));
    }
    cli_signals_remove(output->temporary);
    mode_t mask = umask(0); /* mkstemp makes it private: give it the rights a new file has */
    umask(mask);
    (void)!fchmod(fd, 0666 & ~mask);
    output->file = fdopen(fd, "wb");
    if (output->file)
        return 0;
    int reason = errno;
    close(fd);
    cli_output_abort(output);
    return cli_fail("%s: cannot be written: %s", path, strerror(reason));
}

int cli_output_commit(cli_output_file *output)
{
    int failed = ferror(output->file), reason = output->reason;
    errno = 0; /* of long ago, perhaps */
    failed |= fflush(output->file);
    reason = reason ? reason : errno;
    failed |= fclose(output->file);
    reason = reason ? reason : errno;
    output->file = NULL;
    if (failed) {
        cli_output_abort(output);
        return cli_fail("%s: cannot be written: %s", output->path, strerror(reason ? reason : EIO));
    }
    if (!output->temporary)
        return 0;
    if (rename(output->temporary, output->final)) {
        reason = errno;
        cli_output_abort(output);
        return cli_fail("%s: cannot be put in place: %s", output->path, strerror(reason));
    }
    cli_signals_remove(NULL);
    free(output->temporary);
    free(output->final);
    output->temporary = output->final = NULL;
    return 0;
}

void cli_output_abort(cli_output_file *output)
{
    if (output->file)
        fclose(output->file);
    output->file = NULL;
    if (output->temporary) {
        unlink(output->temporary);
        cli_signals_remove(NULL);
        free(output->temporary);
    }
    free(output->final);
    output->temporary = output->final = NULL;
}

/* folder/name (a length of folder bytes) if it can be read. */
static char *readable(const char *folder, size_t length, const char *between, const char *name)
{
    size_t size = length + strlen(between) + strlen(name) + 1;
    char *path = malloc(size);
    if (!path)
        return NULL;
    snprintf(path, size, "%.*s%s%s", (int)length, folder, between, name);
    if (!access(path, R_OK))
        return path;
    free(path);
    return NULL;
}

char *cli_data_file(const char *name)
{
    static const char *const beside[] = {"/../" QUERN_DATA_RELATIVE "/", "/../models/", "/../../models/"};
    char self[PATH_MAX];
    char *path = NULL;
    const char *chosen = getenv("QUERN_DATA");
    if (chosen && *chosen) {
        path = readable(chosen, strlen(chosen), "/", name);
        if (!path)
            cli_note("the default model %s is not in QUERN_DATA (%s)", name, chosen);
        return path;
    }
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
        self[length] = '\0';
        const char *slash = strrchr(self, '/');
        for (size_t i = 0; slash && !path && i < sizeof beside / sizeof *beside; i++)
            path = readable(self, (size_t)(slash - self), beside[i], name);
    }
    if (!path)
        path = readable(QUERN_DATA_DIR, strlen(QUERN_DATA_DIR), "/", name);
    if (!path)
        cli_note(
            "the default model %s was not found (looked in %s and beside the program): name a MODEL file, or set QUERN_DATA to the "
            "folder that holds it",
            name, QUERN_DATA_DIR);
    return path;
}
