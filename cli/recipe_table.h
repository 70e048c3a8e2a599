/* SPDX-License-Identifier: MIT
 * cli/recipe_table.h: quern quantize --list: the recipes, as the table of docs/quantize.md. */
#ifndef CLI_RECIPE_TABLE_H
#define CLI_RECIPE_TABLE_H

/* A table in Markdown, or a JSON array. Gives the exit status. */
int cli_recipes_print(int json);

#endif
