/* SPDX-License-Identifier: MIT
 * tests/fuzz/fuzz_gguf.c: any bytes as a GGUF file. What opens can be read in full. */
#include "fuzz.h"

#include <quern/engine.h>

#include <string.h>

static void visit_values(const quern_gguf *g, const quern_gguf_kv *kv, uint64_t index)
{
    uint64_t u;
    int64_t i;
    double f;
    quern_string text;
    quern_error error;
    int numbers = quern_gguf_get_u64(g, kv->key.data, index, &u, &error) == QP_OK;
    numbers += quern_gguf_get_i64(g, kv->key.data, index, &i, &error) == QP_OK;
    numbers += quern_gguf_get_f64(g, kv->key.data, index, &f, &error) == QP_OK;
    int strings = quern_gguf_get_string(g, kv->key.data, index, &text, &error) == QP_OK;
    promise(strings == (kv->element_type == QUERN_GGUF_STRING) && !(strings && numbers) && (strings || numbers));
    if (strings) {
        volatile char sum = 0;
        for (uint64_t n = 0; n < text.size; n++)
            sum = (char)(sum ^ text.data[n]);
    }
    promise(quern_gguf_get_f64(g, kv->key.data, kv->count, &f, &error) != QP_OK);
}

static void visit_tensor(const quern_gguf *g, const quern_gguf_tensor *t)
{
    char bytes[256];
    quern_error error;
    uint64_t size = t->bytes < sizeof bytes ? t->bytes : sizeof bytes;
    promise(quern_gguf_tensor_find(g, t->name.data) == t && strlen(t->name.data) == t->name.size);
    promise(t->offset + t->bytes <= quern_gguf_file_size(g) && t->offset % quern_gguf_alignment(g) == 0);
    promise(quern_gguf_read(g, t, 0, bytes, size, &error) == QP_OK);
    promise(quern_gguf_read(g, t, t->bytes - size, bytes, size, &error) == QP_OK);
    promise(quern_gguf_read(g, t, t->bytes, bytes, 1, &error) == QP_ERR_INVALID);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quern_gguf *g = NULL;
    quern_error error = {0};
    if (quern_gguf_open_memory(data, size, "fuzz", &g, &error) != QP_OK) {
        promise(!g && !strncmp(error.text, "fuzz: ", 6) && !strchr(error.text, '\n'));
        return 0;
    }
    for (uint64_t i = 0; i < quern_gguf_kv_count(g); i++) {
        const quern_gguf_kv *kv = quern_gguf_kv_at(g, i);
        promise(quern_gguf_find(g, kv->key.data) == kv);
        for (uint64_t n = 0; n < kv->count && n < 1000; n++)
            visit_values(g, kv, n);
    }
    for (uint64_t i = 0; i < quern_gguf_tensor_count(g); i++)
        visit_tensor(g, quern_gguf_tensor_at(g, i));
    quern_gguf_close(g);
    return 0;
}
