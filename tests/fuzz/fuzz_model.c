/* SPDX-License-Identifier: MIT
 * tests/fuzz/fuzz_model.c: any GGUF bytes as a model: described, loaded, made a session of and run, on a device that computes
 * nothing but checks what it is asked for. */
#include "fuzz.h"

#include <quern/engine.h>

#include <string.h>

static void run(quern_model *model, uint32_t flags)
{
    static const int32_t tokens[] = {0, 0, 0, 0, 0};
    quern_error error = {0};
    quern_session *session = NULL;
    quern_session_options options = {.struct_size = sizeof options, .chunk = 3, .flags = flags};
    if (quern_session_create(model, &options, &session, &error) != QP_OK) {
        promise(!session && error.text[0]);
        return;
    }
    quern_session_info info = {.struct_size = sizeof info};
    quern_session_get_info(session, &info);
    promise(info.context > 0 && info.chunk > 0 && info.chunk <= info.context);
    size_t count = info.context < 5 ? info.context : 5;
    quern_status status = quern_session_eval(session, tokens, count, NULL, &error);
    promise(status == QP_OK || status == QP_ERR_FORMAT); /* what the memory holds is not defined here */
    promise(quern_session_length(session) == (status == QP_OK ? count : 0));
    const float *logits;
    int32_t token;
    promise(quern_session_logits(session, &logits, &error) == (status == QP_OK ? QP_OK : QP_ERR_INVALID));
    promise(quern_session_greedy(session, &token, &error) == (status == QP_OK ? QP_OK : QP_ERR_INVALID));
    quern_session_destroy(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quern_gguf *gguf = NULL;
    quern_model *model = NULL;
    quern_error error = {0};
    quern_model_info info = {.struct_size = sizeof info};
    static int device; /* only its address is used */
    quern_model_options options = {.struct_size = sizeof options, .threads = 1};
    if (quern_gguf_open_memory(data, size, "fuzz", &gguf, &error) != QP_OK)
        return 0;
    quern_model_inspect(gguf, &info, &error);
    error = (quern_error){0};
    if (quern_model_load((quern_device *)(void *)&device, gguf, &options, &model, &error) == QP_OK)
        run(model, size % 2 ? QUERN_SESSION_ALL_LOGITS : 0);
    else
        promise(!model && !strncmp(error.text, "fuzz: ", 6) && !strchr(error.text, '\n'));
    quern_model_destroy(model);
    quern_gguf_close(gguf);
    return 0;
}
