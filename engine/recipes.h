/* SPDX-License-Identifier: MIT
 * engine/recipes.h: which tensor gets which format when a model is quantised. */
#ifndef QUERN_ENGINE_RECIPES_H
#define QUERN_ENGINE_RECIPES_H

#include "engine/gguf.h"

/* What of a model a recipe's choice depends on. */
typedef struct recipe_model {
    const quern_recipe *recipe;
    uint32_t layers;
    int tied;    /* the embeddings are the output matrix too */
    int mixture; /* there are experts */
} recipe_model;

recipe_model recipe_model_of(const quern_gguf *gguf, const quern_recipe *recipe);

/* Is it one of those that are converted at all? */
int recipe_takes(const quern_gguf_tensor *tensor);

/* The format that the recipe has for it, whatever its shape. */
qp_format recipe_choice(const recipe_model *model, const quern_gguf_tensor *tensor);

/* Does the pattern of a rule match the name? */
int recipe_rule_matches(const char *pattern, const char *name);

#endif
