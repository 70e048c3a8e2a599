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

/* What a load does before it allocates: reads the metadata, declares the weights and plans where they lie. A weight the device would
 * refuse fails here, unless `refusals` is set: then its op will say so. The caller has set device and gguf and destroys the model. */
quern_status model_prepare(quern_model *model, int refusals, quern_error *error);
uint32_t model_default_context(const quern_model *model); /* in tokens */

#endif
