/* SPDX-License-Identifier: MIT */
#include "cli/files.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <errno.h>
#include <fcntl.h>
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

/* A file without a name in the folder of `path`: whatever ends the process, nothing of it is left. −1 where there is no such thing.
 */
static int open_nameless(const char *path)
{
    char self[32], *folder = strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash)
        slash[slash == folder] = '\0';
    int fd = folder ? open(slash ? folder : ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666) : -1;
    free(folder);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (fd >= 0 && access(self, F_OK)) { /* without /proc it could never get one */
        close(fd);
        fd = -1;
    }
    return fd;
}

/* A file under a name of its own beside the final one: from the nameless one in fd, or a new one where fd is −1. Gives the
 * descriptor, or −1 with errno. */
static int name_temporary(cli_output_file *output, int fd)
{
    char self[32];
    size_t room = strlen(output->final) + 40;
    output->temporary = malloc(room);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    for (unsigned n = 0; output->temporary && n < 100; n++) {
        snprintf(output->temporary, room, "%s.part-%ld-%u", output->final, (long)getpid(), n);
        if (fd < 0) {
            int made = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
            if (made >= 0)
                return made;
        } else if (!linkat(AT_FDCWD, self, AT_FDCWD, output->temporary, AT_SYMLINK_FOLLOW)) {
            return fd;
        }
        if (errno != EEXIST)
            break;
    }
    int reason = errno;
    free(output->temporary);
    output->temporary = NULL;
    errno = reason;
    return -1;
}

static int cannot(cli_output_file *output, const char *what, int reason)
{
    const char *path = output->path;
    cli_output_abort(output);
    return cli_fail("%s: cannot be %s: %s", path, what, strerror(reason ? reason : EIO));
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
    if (!output->final)
        return cli_fail("no memory for the name of a file");
    int fd = open_nameless(output->final);
    if (fd < 0)
        fd = name_temporary(output, -1);
    if (fd < 0)
        return cannot(output, "created", errno);
    cli_signals_remove(output->temporary);
    output->file = fdopen(fd, "wb");
    if (output->file)
        return 0;
    int reason = errno;
    close(fd);
    return cannot(output, "written", reason);
}

int cli_output_commit(cli_output_file *output)
{
    int failed = ferror(output->file), reason = output->reason;
    errno = 0; /* of long ago, perhaps */
    failed |= fflush(output->file);
    reason = reason ? reason : errno;
    if (!failed && output->final && !output->temporary) {
        failed = name_temporary(output, fileno(output->file)) < 0;
        reason = failed ? errno : reason;
        cli_signals_remove(output->temporary);
    }
    failed |= fclose(output->file);
    reason = reason ? reason : errno;
    output->file = NULL;
    if (failed)
        return cannot(output, "written", reason);
    if (output->temporary && rename(output->temporary, output->final))
        return cannot(output, "put in place", errno);
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
    if (output->temporary)
        unlink(output->temporary);
    cli_signals_remove(NULL);
    free(output->temporary);
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
