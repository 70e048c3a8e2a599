/* SPDX-License-Identifier: MIT
 * engine/model.h: a loaded model, as sessions see it. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "engine/arch/arch.h"
#include "engine/hparams.h"
#include "engine/placement.h"
#include "engine/weights.h"

#include <pthread.h>

struct quern_model {
    quern_device *device;
    const quern_gguf *gguf;
    quern_tokenizer *tokenizer; /* NULL: the file has no vocabulary */
    const arch *arch;
    hparams hp;
    weight_set set;
    model_weights weights;
    placement placement;
    /* The plugin takes one program call of a device at a time, and sessions of one model may run from several threads. */
    pthread_mutex_t device_lock;
};

#endif
