/* SPDX-License-Identifier: MIT
 * engine/recipes.c: the recipes of quantize. A new one is a row of the first table; docs/quantize.md shows it to users, and a test
 * holds the two against each other. */
#include "engine/recipes.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

/* Tables, one line an entry. */
/* clang-format off */
#define F(name) QP_FORMAT_##name
#define ALL(a) {F(a), F(a), QUERN_LAYERS_NONE}
#define FIRST(a, b) {F(a), F(b), QUERN_LAYERS_FIRST}
#define SPREAD(a, b) {F(a), F(b), QUERN_LAYERS_SPREAD}
#define SAME(a) {ALL(a), ALL(a), ALL(a), ALL(a), ALL(a), ALL(a), ALL(a), ALL(a)}

static const quern_recipe recipes[] = {
    /* roles: output, embeddings, attn_v, attn_output, ffn_down, experts, their down, other */
    {"TQ1_0", "for models trained to weights of −1, 0 and 1, and no others", 36,
     {ALL(Q6_K), ALL(Q6_K), ALL(TQ1_0), ALL(TQ1_0), ALL(TQ1_0), ALL(TQ1_0), ALL(TQ1_0), ALL(TQ1_0)}, F(TQ1_0)},
    {"TQ2_0", "the same, in a layout that is quicker to read", 37,
     {ALL(Q6_K), ALL(Q6_K), ALL(TQ2_0), ALL(TQ2_0), ALL(TQ2_0), ALL(TQ2_0), ALL(TQ2_0), ALL(TQ2_0)}, F(TQ2_0)},
    {"Q2_K", "smallest, with a loss that everybody sees", 10,
     {ALL(Q6_K), ALL(Q6_K), ALL(Q4_K), ALL(Q3_K), ALL(Q3_K), ALL(Q2_K), ALL(Q3_K), ALL(Q2_K)}, F(Q8_0)},
    {"Q3_K_S", "very small", 11,
     {ALL(Q6_K), ALL(Q6_K), ALL(Q3_K), ALL(Q3_K), ALL(Q3_K), ALL(Q3_K), ALL(Q3_K), ALL(Q3_K)}, F(Q8_0)},
    {"Q3_K_M", "very small, with more where it counts", 12,
     {ALL(Q6_K), ALL(Q6_K), FIRST(Q4_K, Q5_K), ALL(Q4_K), FIRST(Q4_K, Q5_K), ALL(Q3_K), FIRST(Q4_K, Q5_K), ALL(Q3_K)}, F(Q8_0)},
    {"Q3_K_L", "very small, with still more there", 13,
     {ALL(Q6_K), ALL(Q6_K), ALL(Q5_K), ALL(Q5_K), ALL(Q5_K), ALL(Q3_K), ALL(Q5_K), ALL(Q3_K)}, F(Q8_0)},
    {"MXFP4", "experts in MXFP4, as some models were trained; the rest Q8_0", 38,
     {ALL(Q8_0), ALL(Q8_0), ALL(Q8_0), ALL(Q8_0), ALL(Q8_0), ALL(MXFP4), ALL(MXFP4), ALL(Q8_0)}, F(Q8_0)},
    {"IQ4_XS", "the least of four bits", 30,
     {ALL(Q6_K), ALL(Q6_K), ALL(Q5_K), ALL(IQ4_XS), FIRST(IQ4_XS, Q5_K), ALL(IQ4_XS), FIRST(IQ4_XS, Q5_K), ALL(IQ4_XS)}, F(Q8_0)},
    {"IQ4_NL", "four bits, any row of 32", 25,
     {ALL(Q8_0), ALL(Q8_0), ALL(Q5_0), ALL(IQ4_NL), FIRST(IQ4_NL, Q5_0), ALL(IQ4_NL), FIRST(IQ4_NL, Q5_0), ALL(IQ4_NL)}, F(Q8_0)},
    {"Q4_0", "four bits in the plainest blocks, quick everywhere", 2,
     {ALL(Q8_0), ALL(Q8_0), ALL(Q4_0), ALL(Q4_0), ALL(Q4_0), ALL(Q4_0), ALL(Q4_0), ALL(Q4_0)}, F(Q8_0)},
    {"Q4_K_S", "four bits", 14,
     {ALL(Q6_K), ALL(Q6_K), FIRST(Q4_K, Q5_K), ALL(Q4_K), FIRST(Q4_K, Q5_K), ALL(Q4_K), FIRST(Q4_K, Q5_K), ALL(Q4_K)}, F(Q8_0)},
    {"Q4_K_M", "four bits, with more where it counts: what to take when in doubt", 15,
     {ALL(Q6_K), ALL(Q6_K), SPREAD(Q4_K, Q6_K), ALL(Q4_K), SPREAD(Q4_K, Q6_K), ALL(Q4_K), SPREAD(Q4_K, Q6_K), ALL(Q4_K)}, F(Q8_0)},
    {"Q4_1", "four bits and a minimum", 3,
     {ALL(Q8_0), ALL(Q8_0), ALL(Q4_1), ALL(Q4_1), ALL(Q4_1), ALL(Q4_1), ALL(Q4_1), ALL(Q4_1)}, F(Q8_0)},
    {"Q5_0", "five bits in plain blocks", 8,
     {ALL(Q8_0), ALL(Q8_0), ALL(Q5_0), ALL(Q5_0), ALL(Q5_0), ALL(Q5_0), ALL(Q5_0), ALL(Q5_0)}, F(Q8_0)},
    {"Q5_K_S", "five bits", 16,
     {ALL(Q6_K), ALL(Q6_K), ALL(Q5_K), ALL(Q5_K), ALL(Q5_K), ALL(Q5_K), ALL(Q5_K), ALL(Q5_K)}, F(Q8_0)},
    {"Q5_K_M", "five bits, with more where it counts", 17,
     {ALL(Q6_K), ALL(Q6_K), SPREAD(Q5_K, Q6_K), ALL(Q5_K), SPREAD(Q5_K, Q6_K), ALL(Q5_K), SPREAD(Q5_K, Q6_K), ALL(Q5_K)}, F(Q8_0)},
    {"Q5_1", "five bits and a minimum", 9,
     {ALL(Q8_0), ALL(Q8_0), ALL(Q5_1), ALL(Q5_1), ALL(Q5_1), ALL(Q5_1), ALL(Q5_1), ALL(Q5_1)}, F(Q8_0)},
    {"Q6_K", "six bits: a loss that is hard to see", 18, SAME(Q6_K), F(Q8_0)},
    {"Q8_0", "eight bits: next to no loss", 7, SAME(Q8_0), F(Q8_0)},
    {"BF16", "16 bits, the range of F32", 32, SAME(BF16), F(BF16)},
    {"F16", "16 bits, up to 65504", 1, SAME(F16), F(F16)},
    {"F32", "32 bits", 0, SAME(F32), F(F32)},
};

/* Where rows are not whole blocks: blocks of 32 of about as many bits, or some more. */
static const struct { qp_format format, fallback; } fallbacks[] = {
    {F(TQ1_0), F(IQ4_NL)}, {F(TQ2_0), F(IQ4_NL)}, {F(Q2_K), F(IQ4_NL)}, {F(Q3_K), F(IQ4_NL)},
    {F(IQ4_XS), F(IQ4_NL)}, {F(Q4_K), F(Q5_0)}, {F(Q5_K), F(Q5_1)}, {F(Q6_K), F(Q8_0)},
};

/* Roles by name, without the layer; the first that matches. */
static const struct { const char *pattern; quern_role role; } roles[] = {
    {"output.weight", QUERN_ROLE_OUTPUT},
    {"token_embd.weight", QUERN_ROLE_EMBEDDINGS}, /* of tied embeddings: OUTPUT */
    {"attn_v.weight", QUERN_ROLE_ATTN_V},
    {"attn_qkv.weight", QUERN_ROLE_ATTN_V},
    {"attn_v_b.weight", QUERN_ROLE_ATTN_V},
    {"attn_kv_b.weight", QUERN_ROLE_ATTN_V},
    {"attn_output.weight", QUERN_ROLE_ATTN_OUTPUT},
    {"ffn_down_exps.weight", QUERN_ROLE_EXPERTS_DOWN},
    {"ffn_down*.weight", QUERN_ROLE_FFN_DOWN}, /* also of experts that all tokens share */
    {"*_exps.weight", QUERN_ROLE_EXPERTS},
};

/* Matrices that are small and decide much: they stay as they are. */
static const char *const kept[] = {
    "*_norm.weight", "ffn_gate_inp*.weight", "position_embd.weight", "token_types.weight", "shortconv.conv.weight",
    "ssm_conv1d*.weight", "ssm_alpha.weight", "ssm_beta.weight", "ssm_ba.weight", "ssm_dt.weight", "ssm_x.weight",
};
/* clang-format on */

const quern_recipe *quern_recipe_at(uint32_t index)
{
    return index < sizeof recipes / sizeof *recipes ? &recipes[index] : NULL;
}

const quern_recipe *quern_recipe_find(const char *name)
{
    for (uint32_t i = 0; name && i < sizeof recipes / sizeof *recipes; i++)
        if (!strcasecmp(recipes[i].name, name))
            return &recipes[i];
    return NULL;
}

qp_format quern_recipe_fallback(qp_format format)
{
    for (size_t i = 0; i < sizeof fallbacks / sizeof *fallbacks; i++)
        if (fallbacks[i].format == format)
            return fallbacks[i].fallback;
    return QP_FORMAT_F16;
}

/* The name without "blk.N.", and N, or -1. */
static const char *name_in_layer(const quern_gguf_tensor *t, int64_t *layer)
{
    uint32_t number = 0;
    int used = 0;
    *layer = -1;
    if (sscanf(t->name.data, "blk.%9" SCNu32 ".%n", &number, &used) != 1 || !used)
        return t->name.data;
    *layer = number;
    return t->name.data + used;
}

int recipe_takes(const quern_gguf_tensor *t)
{
    const quern_format_info *info = quern_format_get(t->format);
    int number = t->format == QP_FORMAT_F32 || t->format == QP_FORMAT_F16 || t->format == QP_FORMAT_BF16 || info->quantised;
    int64_t layer;
    const char *name = name_in_layer(t, &layer);
    if (t->dims < 2 || !number || fnmatch("*.weight", name, 0))
        return 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (!fnmatch(kept[i], name, 0))
            return 0;
    return 1;
}

static quern_role role_of(const recipe_model *model, const char *name)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (!fnmatch(roles[i].pattern, name, 0))
            return roles[i].role == QUERN_ROLE_EMBEDDINGS && model->tied ? QUERN_ROLE_OUTPUT : roles[i].role;
    }
    return QUERN_ROLE_OTHER;
}

recipe_model recipe_model_of(const quern_gguf *gguf, const quern_recipe *recipe)
{
    recipe_model model = {.recipe = recipe, .tied = !quern_gguf_tensor_find(gguf, "output.weight")};
    for (uint64_t i = 0; i < quern_gguf_tensor_count(gguf); i++) {
        const quern_gguf_tensor *t = quern_gguf_tensor_at(gguf, i);
        int64_t layer;
        const char *name = name_in_layer(t, &layer);
        model.layers = layer >= (int64_t)model.layers ? (uint32_t)layer + 1 : model.layers;
        model.mixture |= !fnmatch("*_exps.weight", name, 0);
    }
    return model;
}

static int layer_has_more(quern_layers where, int64_t layer, uint32_t layers)
{
    int64_t eighth = (layers + 7) / 8;
    if (layer < 0 || where == QUERN_LAYERS_NONE)
        return 0;
    if (layer < eighth)
        return 1;
    return where == QUERN_LAYERS_SPREAD && (layer >= (int64_t)layers - eighth || (layer - eighth) % 3 == 2);
}

static uint32_t bits_of(qp_format format)
{
    const quern_format_info *info = quern_format_get(format);
    return info->block_bytes * 256 / info->block_elements;
}

qp_format recipe_choice(const recipe_model *model, const quern_gguf_tensor *t)
{
    int64_t layer;
    const char *name = name_in_layer(t, &layer);
    quern_role role = role_of(model, name);
    const quern_recipe *recipe = model->recipe;
    int more = layer_has_more(recipe->roles[role].where, layer, model->layers);
    qp_format choice = more ? recipe->roles[role].more : recipe->roles[role].usual;
    int small = model->mixture && !fnmatch("attn_[kv].weight", name, 0);
    return small && bits_of(recipe->mixture) > bits_of(choice) ? recipe->mixture : choice;
}

int recipe_rule_matches(const char *pattern, const char *name)
{
    return strpbrk(pattern, "*?[") ? !fnmatch(pattern, name, 0) : *pattern && strstr(name, pattern) != NULL;
}
