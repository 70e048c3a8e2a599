/* SPDX-License-Identifier: MIT
 * engine/model.h: a loaded model, as sessions see it. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "engine/arch/arch.h"
#include "engine/hparams.h"
#include "engine/placement.h"
#include "engine/weights.h"

struct quern_model {
    quern_device *device;
    const quern_gguf *gguf;
    quern_tokenizer *tokenizer; /* NULL: the file has no vocabulary */
    const arch *arch;
    hparams hp;
    weight_set set;
    model_weights weights;
    placement placement;
};

#endif
