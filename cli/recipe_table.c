/* SPDX-License-Identifier: MIT
 * cli/recipe_table.c: see recipe_table.h. */
#include "cli/recipe_table.h"
#include "cli/output.h"

#include <json-c/json.h>
#include <quern/engine.h>
#include <stdio.h>

static const char *const roles[QUERN_ROLES] = {"output",   "embeddings", "attn_v",     "attn_output",
                                               "ffn_down", "experts",    "their down", "other"};
static const char *const layers[] = {"none", "first", "spread"};

/* "Q4_K", "Q4_K, first Q5_K" */
static const char *cell(const quern_recipe *recipe, int role, char text[48])
{
    const char *usual = quern_format_get(recipe->roles[role].usual)->name, *more = quern_format_get(recipe->roles[role].more)->name;
    quern_layers where = recipe->roles[role].where;
    if (where == QUERN_LAYERS_NONE)
        snprintf(text, 48, "%s", usual);
    else
        snprintf(text, 48, "%s, %s %s", usual, layers[where], more);
    return text;
}

static void print_table(void)
{
    char text[48];
    cli_print("| TYPE |");
    for (int role = 0; role < QUERN_ROLES; role++)
        cli_print(" %s |", roles[role]);
    cli_print(" attn_k, attn_v of mixtures |\n|---|---|---|---|---|---|---|---|---|---|\n");
    for (uint32_t i = 0; quern_recipe_at(i); i++) {
        const quern_recipe *recipe = quern_recipe_at(i);
        cli_print("| %s |", recipe->name);
        for (int role = 0; role < QUERN_ROLES; role++)
            cli_print(" %s |", cell(recipe, role, text));
        cli_print(" %s |\n", quern_format_get(recipe->mixture)->name);
    }
}

static json_object *row(const quern_recipe *recipe)
{
    json_object *object = json_object_new_object(), *cells = json_object_new_object();
    json_object_object_add(object, "type", json_object_new_string(recipe->name));
    json_object_object_add(object, "about", json_object_new_string(recipe->about));
    json_object_object_add(object, "file_type", json_object_new_uint64(recipe->file_type));
    for (int role = 0; role < QUERN_ROLES; role++) {
        json_object *entry = json_object_new_object();
        json_object_object_add(entry, "usual", json_object_new_string(quern_format_get(recipe->roles[role].usual)->name));
        json_object_object_add(entry, "more", json_object_new_string(quern_format_get(recipe->roles[role].more)->name));
        json_object_object_add(entry, "layers", json_object_new_string(layers[recipe->roles[role].where]));
        json_object_object_add(cells, roles[role], entry);
    }
    json_object_object_add(object, "tensors", cells);
    json_object_object_add(object, "mixture", json_object_new_string(quern_format_get(recipe->mixture)->name));
    return object;
}

int cli_recipes_print(int json)
{
    if (!json) {
        print_table();
        return CLI_OK;
    }
    json_object *array = json_object_new_array();
    for (uint32_t i = 0; quern_recipe_at(i); i++)
        json_object_array_add(array, row(quern_recipe_at(i)));
    cli_print_json(array);
    return CLI_OK;
}
