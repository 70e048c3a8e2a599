/* SPDX-License-Identifier: MIT
 * engine/gguf_write.c: see gguf_write.h. The layout is described in gguf_header.c; version 3 is written. */
#include "engine/gguf_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct bytes {
    unsigned char *data;
    size_t size, capacity;
    int failed; /* there was no memory */
} bytes;

typedef struct planned {
    uint64_t offset, size; /* of the data section */
} planned;

struct gguf_writer {
    char *path;      /* wanted */
    char *temporary; /* what is written; NULL: no such file, or it has no name yet */
    int fd;
    uint64_t kv_count, tensor_count;
    bytes kvs, tensors, plan; /* plan: of planned */
    uint64_t data_size;
    uint32_t alignment;
    uint64_t tensor, written; /* the tensor whose bytes come next, and how many of them are there */
};

/* ---- bytes in memory ---------------------------------------------------------------------------------------------- */

static void append(bytes *b, const void *data, size_t size)
{
    if (b->failed)
        return;
    if (size > b->capacity - b->size) {
        size_t capacity = (b->size + size) * 2;
        unsigned char *larger = realloc(b->data, capacity);
        if (!larger) {
            b->failed = 1;
            return;
        }
        b->data = larger;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void append_u32(bytes *b, uint32_t x)
{
    append(b, &x, sizeof x);
}

static void append_u64(bytes *b, uint64_t x)
{
    append(b, &x, sizeof x);
}

static void append_string(bytes *b, const char *data, uint64_t size)
{
    append_u64(b, size);
    append(b, data, size);
}

void gguf_writer_copy_kv(gguf_writer *writer, const quern_gguf *from, const quern_gguf_kv *kv)
{
    const gguf_value *value = gguf_value_of(from, kv);
    append_string(&writer->kvs, kv->key.data, kv->key.size);
    append_u32(&writer->kvs, kv->type);
    if (kv->type == QUERN_GGUF_ARRAY) {
        append_u32(&writer->kvs, kv->element_type);
        append_u64(&writer->kvs, kv->count);
    }
    append(&writer->kvs, from->head + value->offset, value->size);
    writer->kv_count++;
}

void gguf_writer_u32(gguf_writer *writer, const char *key, uint32_t value)
{
    append_string(&writer->kvs, key, strlen(key));
    append_u32(&writer->kvs, QUERN_GGUF_UINT32);
    append_u32(&writer->kvs, value);
    writer->kv_count++;
}

/* The offset is known once the alignment is: begin() puts it in, into the last eight bytes of each entry. */
void gguf_writer_tensor(gguf_writer *writer, const quern_gguf_tensor *like, qp_format format, uint64_t size)
{
    append_string(&writer->tensors, like->name.data, like->name.size);
    append_u32(&writer->tensors, like->dims);
    for (uint32_t i = 0; i < like->dims; i++)
        append_u64(&writer->tensors, (uint64_t)like->ne[i]);
    append_u32(&writer->tensors, format);
    planned p = {writer->tensors.size, size};
    append(&writer->plan, &p, sizeof p);
    append_u64(&writer->tensors, 0);
    writer->tensor_count++;
}

static uint64_t aligned(const gguf_writer *w, uint64_t size)
{
    return (size + w->alignment - 1) & ~(uint64_t)(w->alignment - 1);
}

/* Each tensor behind the one before. */
static void place(gguf_writer *w)
{
    planned *plan = (planned *)(void *)w->plan.data;
    w->data_size = 0;
    for (uint64_t i = 0; i < w->tensor_count; i++) {
        memcpy(w->tensors.data + plan[i].offset, &w->data_size, sizeof w->data_size);
        plan[i].offset = w->data_size;
        w->data_size = aligned(w, w->data_size + plan[i].size);
    }
}

/* ---- the file ----------------------------------------------------------------------------------------------------- */

static quern_status check_target(const gguf_writer *w, const quern_gguf *in, quern_error *error)
{
    struct stat target, source;
    if (stat(w->path, &target))
        return QP_OK; /* not there; a folder that is missing shows when the file is opened */
    if (S_ISDIR(target.st_mode))
        return quern_fail(error, QP_ERR_INVALID, "%.200s: is a directory, not a file to write", w->path);
    if (!S_ISREG(target.st_mode))
        return quern_fail(error, QP_ERR_INVALID, "%.200s: is not a regular file and will not be replaced", w->path);
    if (in->fd >= 0 && !fstat(in->fd, &source) && source.st_dev == target.st_dev && source.st_ino == target.st_ino)
        return quern_fail(error, QP_ERR_INVALID, "%.200s: is the input itself; write to another file", w->path);
    return QP_OK;
}

quern_status gguf_writer_create(const char *path, const quern_gguf *in, gguf_writer **out, quern_error *error)
{
    if (!path || !*path)
        return quern_fail(error, QP_ERR_INVALID, "no path of a file to write was given");
    gguf_writer *w = calloc(1, sizeof *w);
    if (!w)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%.200s: no memory to write it", path);
    w->fd = -1;
    w->path = realpath(path, NULL); /* a link stays, what it points to is replaced */
    if (!w->path)
        w->path = strdup(path);
    quern_status status =
        w->path ? check_target(w, in, error) : quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%.200s: no memory to write it", path);
    if (status == QP_OK)
        *out = w;
    else
        gguf_writer_destroy(w);
    return status;
}

void gguf_writer_destroy(gguf_writer *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->temporary)
        unlink(writer->temporary);
    free(writer->temporary);
    free(writer->path);
    free(writer->kvs.data);
    free(writer->tensors.data);
    free(writer->plan.data);
    free(writer);
}

static quern_status cannot(const gguf_writer *w, const char *what, quern_error *error)
{
    return quern_fail(error, QP_ERR_IO, "%.200s: cannot %s: %s", w->path, what, strerror(errno));
}

/* A file without a name: whatever ends this process, nothing is left behind. Not every file system can; the name that it gets in
 * the end comes through /proc. */
static int open_nameless(const char *folder)
{
    char self[32];
    int fd = open(folder, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
    if (fd < 0)
        return -1;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (!access(self, F_OK))
        return fd;
    close(fd);
    return -1;
}

/* Gives the file in w->fd a name beside the wanted one, or makes an empty file there when fd is −1. */
static quern_status name_temporary(gguf_writer *w, quern_error *error)
{
    char self[32];
    size_t room = strlen(w->path) + 32;
    char *name = malloc(room);
    if (!name)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%.200s: no memory to write it", w->path);
    snprintf(self, sizeof self, "/proc/self/fd/%d", w->fd);
    int done = 0;
    for (unsigned n = 0; n < 100 && !done; n++) {
        snprintf(name, room, "%s.%ld-%u.part", w->path, (long)getpid(), n);
        if (w->fd >= 0)
            done = !linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
        else
            done = (w->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) >= 0;
        if (!done && errno != EEXIST)
            break;
    }
    if (done) {
        w->temporary = name;
        return QP_OK;
    }
    int reason = errno;
    free(name);
    errno = reason;
    return cannot(w, "write it", error);
}

static quern_status open_temporary(gguf_writer *w, quern_error *error)
{
    char *folder = strdup(w->path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash)
        slash[slash == folder] = '\0';
    w->fd = folder ? open_nameless(slash ? folder : ".") : -1;
    free(folder);
    return w->fd >= 0 ? QP_OK : name_temporary(w, error);
}

static quern_status write_all(gguf_writer *w, const void *data, uint64_t size, quern_error *error)
{
    const char *at = data;
    while (size) {
        ssize_t done = write(w->fd, at, size > (uint64_t)1 << 30 ? (size_t)1 << 30 : (size_t)size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return cannot(w, "write it", error);
        at += done;
        size -= (uint64_t)done;
    }
    return QP_OK;
}

static quern_status write_padding(gguf_writer *w, uint64_t size, quern_error *error)
{
    static const char zeros[4096];
    quern_status status = QP_OK;
    for (uint64_t left = aligned(w, size) - size; status == QP_OK && left;) {
        uint64_t step = left < sizeof zeros ? left : sizeof zeros;
        status = write_all(w, zeros, step, error);
        left -= step;
    }
    return status;
}

static quern_status write_header(gguf_writer *w, quern_error *error)
{
    bytes b = {0};
    append(&b, "GGUF", 4);
    append_u32(&b, 3);
    append_u64(&b, w->tensor_count);
    append_u64(&b, w->kv_count);
    uint64_t size = b.size + w->kvs.size + w->tensors.size;
    /* A full disk is better known now than an hour later. Not every file system can tell. */
    if (fallocate(w->fd, 0, 0, (off_t)(aligned(w, size) + w->data_size)) && errno == ENOSPC) {
        free(b.data);
        return quern_fail(error, QP_ERR_IO, "%.200s: needs %" PRIu64 " bytes, and the file system has no room for them", w->path,
                          aligned(w, size) + w->data_size);
    }
    quern_status status = b.failed ? quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%.200s: no memory to write it", w->path)
                                   : write_all(w, b.data, b.size, error);
    free(b.data);
    if (status == QP_OK)
        status = write_all(w, w->kvs.data, w->kvs.size, error);
    if (status == QP_OK)
        status = write_all(w, w->tensors.data, w->tensors.size, error);
    return status == QP_OK ? write_padding(w, size, error) : status;
}

quern_status gguf_writer_begin(gguf_writer *writer, uint32_t alignment, quern_error *error)
{
    if (writer->kvs.failed || writer->tensors.failed || writer->plan.failed)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%.200s: no memory for its header", writer->path);
    writer->alignment = alignment;
    place(writer);
    quern_status status = open_temporary(writer, error);
    return status == QP_OK ? write_header(writer, error) : status;
}

quern_status gguf_writer_data(gguf_writer *writer, const void *data, uint64_t size, quern_error *error)
{
    const planned *plan = (const planned *)(const void *)writer->plan.data;
    if (writer->tensor >= writer->tensor_count || size > plan[writer->tensor].size - writer->written)
        return quern_fail(error, QP_ERR_INTERNAL, "%.200s: more tensor data than was announced", writer->path);
    quern_status status = write_all(writer, data, size, error);
    if (status != QP_OK)
        return status;
    writer->written += size;
    if (writer->written < plan[writer->tensor].size)
        return QP_OK;
    writer->tensor++;
    writer->written = 0;
    return write_padding(writer, plan[writer->tensor - 1].size, error);
}

/* The new name must survive a power cut as well as the bytes do. */
static void flush_folder(const char *path)
{
    char *folder = strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash)
        slash[slash == folder] = '\0';
    int fd = folder ? open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd); /* some file systems cannot; the file itself is safe by then */
        close(fd);
    }
    free(folder);
}

quern_status gguf_writer_finish(gguf_writer *writer, quern_error *error)
{
    if (writer->tensor != writer->tensor_count)
        return quern_fail(error, QP_ERR_INTERNAL, "%.200s: only %" PRIu64 " of %" PRIu64 " tensors were written", writer->path,
                          writer->tensor, writer->tensor_count);
    if (fsync(writer->fd))
        return cannot(writer, "flush it", error);
    quern_status status = writer->temporary ? QP_OK : name_temporary(writer, error);
    if (status != QP_OK)
        return status;
    int fd = writer->fd;
    writer->fd = -1;
    if (close(fd))
        return cannot(writer, "write it", error);
    if (rename(writer->temporary, writer->path))
        return cannot(writer, "give it its name", error);
    flush_folder(writer->path);
    free(writer->temporary);
    writer->temporary = NULL;
    return QP_OK;
}
