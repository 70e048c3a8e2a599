/* SPDX-License-Identifier: MIT
 * engine/load.h: from the file to the device: several threads read stretches of rows and have the device pack them. */
#ifndef ENGINE_LOAD_H
#define ENGINE_LOAD_H

#include "engine/placement.h"
#include "engine/weights.h"

/* Fills every declared weight, whose memory is allocated and bound. Host memory beside that: at most 32 MiB of staging, less where
 * the file is read straight into the device's memory. The progress callback runs on the calling thread. */
quern_status weights_load(weight_set *set, quern_device *device, const placement *p, const quern_model_options *options,
                          quern_error *error);

#endif
