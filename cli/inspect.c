/* SPDX-License-Identifier: MIT
 * cli/inspect.c: quern inspect: what a model file says of itself. */
#include "cli/commands.h"
#include "cli/model_facts.h"
#include "cli/output.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct inspect_args {
    int json, all, full, tensors;
} inspect_args;

enum { TEMPLATE_LINES = 5, ARRAY_SHOWN = 8 };

/* ---- for people ---- */

static void print_value(const cli_facts *facts, const char *label, const char *key)
{
    char *text = cli_kv_text(facts->gguf, key, ARRAY_SHOWN);
    if (!text)
        return;
    cli_print("  %-14s", label);
    cli_print_text(text, strlen(text), 0);
    cli_print("\n");
    free(text);
}

static void print_shape(const cli_facts *facts)
{
    const quern_model_info *info = &facts->info;
    char text[32];
    cli_print("  %-14s", "architecture");
    cli_print_text(facts->architecture, strlen(facts->architecture), 0);
    cli_print("\n");
    print_value(facts, "name", "general.name");
    print_value(facts, "licence", "general.license");
    cli_print("  %-14s%s (%llu)\n", "parameters", cli_count(text, facts->parameters), (unsigned long long)facts->parameters);
    if (!facts->runs) {
        cli_print("  %-14s", "not runnable");
        cli_print_text(facts->refusal.text, strlen(facts->refusal.text), 0);
        cli_print("\n");
    }
    if (!facts->described)
        return;
    cli_print("  %-14s%u\n", "layers", info->layers);
    cli_print("  %-14s%u\n", "embedding", info->embedding);
    cli_print("  %-14s%u\n", "feed forward", info->feed_forward);
    if (info->experts)
        cli_print("  %-14s%u of %u for a token: %s parameters active\n", "experts", info->experts_used, info->experts,
                  cli_count(text, info->active_parameters));
    cli_print("  %-14s%u of %u", "heads", info->heads, info->head_size_k);
    if (info->head_size_v != info->head_size_k)
        cli_print(" (values %u)", info->head_size_v);
    cli_print(", over %u KV heads\n", info->kv_heads);
    cli_print("  %-14s%u tokens\n", "context", info->context);
}

static void print_rope(const cli_facts *facts)
{
    char *text = cli_rope_text(facts);
    cli_print("  %-14s", "rope");
    cli_print_text(text ? text : "", text ? strlen(text) : 0, 0);
    cli_print("\n");
    free(text);
}

static void print_tokenizer(const cli_facts *facts)
{
    char *model = cli_kv_text(facts->gguf, "tokenizer.ggml.model", 1), *pre = cli_kv_text(facts->gguf, "tokenizer.ggml.pre", 1);
    cli_print("  %-14s", "tokenizer");
    if (model)
        cli_print_text(model, strlen(model), 0);
    else
        cli_print("none");
    if (model && pre) {
        cli_print(", pre-tokenizer ");
        cli_print_text(pre, strlen(pre), 0);
    }
    free(model);
    free(pre);
    cli_print("\n  %-14s%llu tokens\n", "vocabulary", (unsigned long long)facts->vocabulary);
    print_value(facts, "BOS", "tokenizer.ggml.bos_token_id");
    print_value(facts, "EOS", "tokenizer.ggml.eos_token_id");
}

static void print_groups(const cli_facts *facts)
{
    char size[32];
    cli_print("\nTensors: %llu\n  %-12s%-10s%8s%12s\n", (unsigned long long)quern_gguf_tensor_count(facts->gguf), "group", "format",
              "count", "size");
    for (uint32_t i = 0; i < facts->group_count; i++)
        cli_print("  %-12s%-10s%8u%12s\n", cli_group_name(facts->groups[i].group), cli_format_name(facts->groups[i].format),
                  facts->groups[i].count, cli_size(size, facts->groups[i].bytes));
    cli_print("  %-12s%-10s%8llu%12s\n", "all", "", (unsigned long long)quern_gguf_tensor_count(facts->gguf),
              cli_size(size, facts->tensor_bytes));
}

static void print_template(const cli_facts *facts, int full)
{
    quern_string text;
    if (quern_gguf_get_string(facts->gguf, "tokenizer.chat_template", 0, &text, NULL) != QP_OK) {
        cli_print("\nChat template: none\n");
        return;
    }
    uint64_t shown = 0, lines = 0;
    while (shown < text.size && (full || (lines < TEMPLATE_LINES && shown < 400)))
        lines += text.data[shown++] == '\n';
    cli_print("\nChat template, %llu bytes:\n", (unsigned long long)text.size);
    cli_print_text(text.data, shown, 1);
    cli_print("%s", shown < text.size ? " … (--full shows all)\n" : shown && text.data[shown - 1] == '\n' ? "" : "\n");
}

static void print_metadata(const cli_facts *facts)
{
    cli_print("\nMetadata:\n");
    for (uint64_t i = 0; i < quern_gguf_kv_count(facts->gguf); i++) {
        const quern_gguf_kv *kv = quern_gguf_kv_at(facts->gguf, i);
        char *text = cli_kv_text(facts->gguf, kv->key.data, ARRAY_SHOWN);
        cli_print("  ");
        cli_print_text(kv->key.data, kv->key.size, 0);
        cli_print(" = ");
        cli_print_text(text ? text : "?", text ? strlen(text) : 1, 0);
        cli_print("\n");
        free(text);
    }
}

static void print_tensors(const cli_facts *facts)
{
    char shape[96], size[32];
    cli_print("\n  %-40s%-10s%-24s%12s\n", "tensor", "format", "shape", "size");
    for (uint64_t i = 0; i < quern_gguf_tensor_count(facts->gguf); i++) {
        const quern_gguf_tensor *tensor = quern_gguf_tensor_at(facts->gguf, i);
        cli_shape_text(tensor, shape, sizeof shape);
        cli_print("  %-40s%-10s%-24s%12s\n", tensor->name.data, cli_format_name(tensor->format), shape,
                  cli_size(size, tensor->bytes));
    }
}

static void print_all(const cli_facts *facts, const inspect_args *args)
{
    char size[32];
    const char *path = quern_gguf_path(facts->gguf);
    cli_print_text(path, strlen(path), 0);
    cli_print(": GGUF version %u, %s\n", quern_gguf_version(facts->gguf), cli_size(size, quern_gguf_file_size(facts->gguf)));
    print_shape(facts);
    print_rope(facts);
    print_tokenizer(facts);
    print_groups(facts);
    print_template(facts, args->full);
    if (args->all)
        print_metadata(facts);
    if (args->tensors)
        print_tensors(facts);
}

/* ---- for programs ---- */

static void add_info(json_object *root, const cli_facts *facts)
{
    const quern_model_info *info = &facts->info;
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {{"layers", info->layers},
                {"embedding", info->embedding},
                {"feed_forward", info->feed_forward},
                {"experts", info->experts},
                {"experts_used", info->experts_used},
                {"active_parameters", info->active_parameters},
                {"heads", info->heads},
                {"kv_heads", info->kv_heads},
                {"head_size_k", info->head_size_k},
                {"head_size_v", info->head_size_v},
                {"context", info->context},
                {"weight_bytes", info->weight_bytes}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        json_object_object_add(root, rows[i].key, facts->described ? json_object_new_uint64(rows[i].value) : NULL);
}

static json_object *groups_json(const cli_facts *facts)
{
    json_object *list = json_object_new_array();
    for (uint32_t i = 0; i < facts->group_count; i++) {
        json_object *object = json_object_new_object();
        json_object_object_add(object, "group", json_object_new_string(cli_group_name(facts->groups[i].group)));
        json_object_object_add(object, "format", json_object_new_string(cli_format_name(facts->groups[i].format)));
        json_object_object_add(object, "count", json_object_new_uint64(facts->groups[i].count));
        json_object_object_add(object, "bytes", json_object_new_uint64(facts->groups[i].bytes));
        json_object_array_add(list, object);
    }
    return list;
}

static json_object *tensors_json(const cli_facts *facts)
{
    json_object *list = json_object_new_array();
    for (uint64_t i = 0; i < quern_gguf_tensor_count(facts->gguf); i++) {
        const quern_gguf_tensor *tensor = quern_gguf_tensor_at(facts->gguf, i);
        json_object *object = json_object_new_object(), *shape = json_object_new_array();
        for (uint32_t d = 0; d < tensor->dims; d++)
            json_object_array_add(shape, json_object_new_int64(tensor->ne[d]));
        json_object_object_add(object, "name", cli_json_text(tensor->name.data, tensor->name.size));
        json_object_object_add(object, "format", json_object_new_string(cli_format_name(tensor->format)));
        json_object_object_add(object, "shape", shape);
        json_object_object_add(object, "offset", json_object_new_uint64(tensor->offset));
        json_object_object_add(object, "bytes", json_object_new_uint64(tensor->bytes));
        json_object_array_add(list, object);
    }
    return list;
}

static json_object *metadata_json(const cli_facts *facts)
{
    json_object *object = json_object_new_object();
    for (uint64_t i = 0; i < quern_gguf_kv_count(facts->gguf); i++) {
        const quern_gguf_kv *kv = quern_gguf_kv_at(facts->gguf, i);
        json_object *key = cli_json_text(kv->key.data, kv->key.size); /* made valid UTF-8 */
        if (key)
            json_object_object_add(object, json_object_get_string(key), cli_kv_json(facts->gguf, kv));
        json_object_put(key);
    }
    return object;
}

static void add_value(json_object *root, const cli_facts *facts, const char *name, const char *key)
{
    const quern_gguf_kv *kv = quern_gguf_find(facts->gguf, key);
    json_object_object_add(root, name, kv ? cli_kv_json(facts->gguf, kv) : NULL);
}

static void print_json(const cli_facts *facts, const inspect_args *args)
{
    json_object *root = json_object_new_object();
    const char *path = quern_gguf_path(facts->gguf);
    char *rope = cli_rope_text(facts);
    json_object_object_add(root, "file", cli_json_text(path, strlen(path)));
    json_object_object_add(root, "file_size", json_object_new_uint64(quern_gguf_file_size(facts->gguf)));
    json_object_object_add(root, "gguf_version", json_object_new_uint64(quern_gguf_version(facts->gguf)));
    json_object_object_add(root, "architecture", cli_json_text(facts->architecture, strlen(facts->architecture)));
    add_value(root, facts, "name", "general.name");
    json_object_object_add(root, "parameters", json_object_new_uint64(facts->parameters));
    json_object_object_add(root, "runs", json_object_new_boolean(facts->runs));
    json_object_object_add(root, "refused_because",
                           facts->runs ? NULL : cli_json_text(facts->refusal.text, strlen(facts->refusal.text)));
    add_info(root, facts);
    json_object_object_add(root, "rope", rope ? cli_json_text(rope, strlen(rope)) : NULL);
    add_value(root, facts, "tokenizer", "tokenizer.ggml.model");
    add_value(root, facts, "pre_tokenizer", "tokenizer.ggml.pre");
    json_object_object_add(root, "vocabulary", json_object_new_uint64(facts->vocabulary));
    add_value(root, facts, "bos", "tokenizer.ggml.bos_token_id");
    add_value(root, facts, "eos", "tokenizer.ggml.eos_token_id");
    add_value(root, facts, "chat_template", "tokenizer.chat_template");
    json_object_object_add(root, "tensor_count", json_object_new_uint64(quern_gguf_tensor_count(facts->gguf)));
    json_object_object_add(root, "tensor_bytes", json_object_new_uint64(facts->tensor_bytes));
    json_object_object_add(root, "tensor_groups", groups_json(facts));
    if (args->all)
        json_object_object_add(root, "metadata", metadata_json(facts));
    if (args->tensors)
        json_object_object_add(root, "tensors", tensors_json(facts));
    free(rope);
    cli_print_json(root);
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const inspect_args *args = raw;
    quern_gguf *gguf;
    quern_error error = {0};
    cli_facts facts;
    (void)operand_count;
    if (quern_gguf_open(operands[0], &gguf, &error) != QP_OK)
        return cli_error(&error);
    cli_facts_gather(gguf, &facts);
    if (args->json)
        print_json(&facts, args);
    else
        print_all(&facts, args);
    free(facts.groups);
    quern_gguf_close(gguf);
    return CLI_OK;
}

static const inspect_args defaults = {0};
static const cli_option options[] = {
    {"all", 'a', CLI_FLAG, offsetof(inspect_args, all), NULL, "every metadata key and its value (long arrays are cut)", 0, 0, NULL},
    {"tensors", 0, CLI_FLAG, offsetof(inspect_args, tensors), NULL, "every tensor with its format, shape and size", 0, 0, NULL},
    {"full", 0, CLI_FLAG, offsetof(inspect_args, full), NULL, "the whole chat template, not its first lines", 0, 0, NULL},
    {"json", 0, CLI_FLAG, offsetof(inspect_args, json), NULL, "print one JSON object", 0, 0, NULL},
};

const cli_command cli_inspect = {
    .name = "inspect",
    .summary = "show what a model file holds",
    .synopsis = "MODEL [--all] [--tensors] [--full] [--json]",
    .about = "Reads the header of a GGUF file, not its weights: architecture and sizes, the formats of each group of tensors, the\n"
             "tokenizer, the context it was trained for, its chat template; and whether this quern can run it.",
    .examples = "quern inspect model.gguf\nquern inspect model.gguf --tensors --all\nquern inspect model.gguf --json",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .defaults = &defaults,
    .args_size = sizeof(inspect_args),
    .run = run,
};
