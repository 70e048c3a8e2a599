/* SPDX-License-Identifier: MIT
 * engine/gguf_write.h: writes a GGUF file from front to back: what is to be in it first, then the tensors' bytes in that order.
 *
 * The bytes go to a file of another name in the same folder, which takes the wanted name when all is written and flushed; until
 * then, and after any error, nothing lies under the wanted name that did not lie there before. */
#ifndef QUERN_ENGINE_GGUF_WRITE_H
#define QUERN_ENGINE_GGUF_WRITE_H

#include "engine/gguf.h"

typedef struct gguf_writer gguf_writer;

/* Refuses a path that is a folder or device, and the very file that `in` reads. Nothing is written yet. */
quern_status gguf_writer_create(const char *path, const quern_gguf *in, gguf_writer **out, quern_error *error);
/* Removes what was written, unless finish succeeded. NULL does nothing. */
void gguf_writer_destroy(gguf_writer *writer);

/* Errors of these (no memory) come out of gguf_writer_begin. */
void gguf_writer_copy_kv(gguf_writer *writer, const quern_gguf *from, const quern_gguf_kv *kv);
void gguf_writer_u32(gguf_writer *writer, const char *key, uint32_t value);
/* Shape and name of `like`, in another format. */
void gguf_writer_tensor(gguf_writer *writer, const quern_gguf_tensor *like, qp_format format, uint64_t bytes);

/* Opens the file, asks the system for the room, and writes the header. alignment: that of general.alignment among the keys. */
quern_status gguf_writer_begin(gguf_writer *writer, uint32_t alignment, quern_error *error);
/* The next bytes of tensor data; padding between tensors is put in by itself. */
quern_status gguf_writer_data(gguf_writer *writer, const void *data, uint64_t size, quern_error *error);
/* Flushes and gives the file its name. QP_ERR_INTERNAL when bytes of a tensor are missing. */
quern_status gguf_writer_finish(gguf_writer *writer, quern_error *error);

#endif
