/* SPDX-License-Identifier: MIT
 * engine/metadata_features.h: the keys of a file that change a model's numbers, so that none of them is passed over in silence.
 *
 * Each one is either read by the architecture (a reader that asks for a key has dealt with it) or has a value that means "not
 * used"; any other is refused by name. An architecture therefore lists nothing: it reads what it computes. */
#ifndef ENGINE_METADATA_FEATURES_H
#define ENGINE_METADATA_FEATURES_H

#include "engine/hparams.h"

/* The architecture asked for this key. */
void features_note(metadata *md, const char *suffix);
/* Fails with QP_ERR_UNSUPPORTED, naming key, value and feature, for a key of the list that nobody asked for. A file that was
 * already found wanting is better described by such a key: the new failure takes the old one's place. */
void features_refuse_unread(metadata *md);

#endif
