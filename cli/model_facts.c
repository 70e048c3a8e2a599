/* SPDX-License-Identifier: MIT */
#include "cli/model_facts.h"
#include "cli/output.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_ARRAY_LIMIT = 1000 };

const char *cli_group_name(cli_group group)
{
    static const char *const names[] = {"embedding", "attention", "ffn", "norms", "output", "other"};
    return names[group];
}

const char *cli_format_name(qp_format format)
{
    const quern_format_info *info = quern_format_get(format);
    return info ? info->name : "?";
}

/* By the names that GGUF files give their tensors. */
static cli_group group_of(const char *name)
{
    if (strstr(name, "norm"))
        return CLI_GROUP_NORMS;
    if (!strncmp(name, "token_embd.", 11) || !strncmp(name, "position_embd.", 14) || !strncmp(name, "token_types.", 12))
        return CLI_GROUP_EMBEDDING;
    if (!strncmp(name, "output.", 7))
        return CLI_GROUP_OUTPUT;
    if (!strncmp(name, "blk.", 4) && strstr(name, ".attn_"))
        return CLI_GROUP_ATTENTION;
    if (!strncmp(name, "blk.", 4) && strstr(name, ".ffn_"))
        return CLI_GROUP_FFN;
    return CLI_GROUP_OTHER;
}

static int by_group(const void *left, const void *right)
{
    const cli_group_row *a = left, *b = right;
    if (a->group != b->group)
        return a->group < b->group ? -1 : 1;
    return (a->format > b->format) - (a->format < b->format);
}

static void add_to_group(cli_facts *facts, const quern_gguf_tensor *tensor)
{
    cli_group group = group_of(tensor->name.data);
    uint32_t i = 0;
    while (i < facts->group_count && (facts->groups[i].group != group || facts->groups[i].format != tensor->format))
        i++;
    cli_group_row *row = &facts->groups[i];
    if (i == facts->group_count)
        facts->groups[facts->group_count++] = (cli_group_row){.group = group, .format = tensor->format};
    row->count++;
    row->bytes += tensor->bytes;
}

void cli_facts_gather(const quern_gguf *gguf, cli_facts *out)
{
    quern_string text;
    *out = (cli_facts){.gguf = gguf, .info.struct_size = sizeof out->info};
    if (quern_gguf_get_string(gguf, "general.architecture", 0, &text, NULL) == QP_OK)
        snprintf(out->architecture, sizeof out->architecture, "%.*s", (int)(text.size < 63 ? text.size : 63), text.data);
    out->described = quern_model_inspect(gguf, &out->info, NULL) == QP_OK;
    out->runs = quern_model_check(gguf, &out->refusal) == QP_OK;
    /* a row for each pair of group and format at most */
    out->groups = malloc((CLI_GROUP_OTHER + 1) * QP_FORMAT_LIMIT * sizeof *out->groups);
    for (uint64_t i = 0; i < quern_gguf_tensor_count(gguf); i++) {
        const quern_gguf_tensor *tensor = quern_gguf_tensor_at(gguf, i);
        out->parameters += (uint64_t)(tensor->ne[0] * tensor->ne[1] * tensor->ne[2] * tensor->ne[3]);
        out->tensor_bytes += tensor->bytes;
        if (out->groups)
            add_to_group(out, tensor);
    }
    if (out->groups)
        qsort(out->groups, out->group_count, sizeof *out->groups, by_group);
    const quern_gguf_kv *tokens = quern_gguf_find(gguf, "tokenizer.ggml.tokens");
    out->vocabulary = tokens && tokens->type == QUERN_GGUF_ARRAY ? tokens->count : out->info.vocabulary;
}

const char *cli_model_size(const quern_model_info *info, char *out, size_t size)
{
    char all[32], active[32];
    cli_count(all, info->parameters);
    if (info->experts)
        snprintf(out, size, "%s (%s active)", all, cli_count(active, info->active_parameters));
    else
        snprintf(out, size, "%s", all);
    return out;
}

void cli_shape_text(const quern_gguf_tensor *tensor, char *out, size_t size)
{
    int used = snprintf(out, size, "%" PRId64, tensor->ne[0]);
    for (uint32_t d = 1; d < tensor->dims && d < 4 && used > 0 && (size_t)used < size; d++)
        used += snprintf(out + used, size - (size_t)used, " x %" PRId64, tensor->ne[d]);
}

/* Element index of a key, whatever its type, as text. */
static void print_element(FILE *to, const quern_gguf *gguf, const char *key, quern_gguf_type type, uint64_t index)
{
    quern_string text;
    double real;
    uint64_t natural;
    int64_t whole;
    if (type == QUERN_GGUF_STRING && quern_gguf_get_string(gguf, key, index, &text, NULL) == QP_OK)
        fwrite(text.data, 1, text.size, to);
    else if (type == QUERN_GGUF_BOOL && quern_gguf_get_u64(gguf, key, index, &natural, NULL) == QP_OK)
        fputs(natural ? "true" : "false", to);
    else if ((type == QUERN_GGUF_FLOAT32 || type == QUERN_GGUF_FLOAT64) &&
             quern_gguf_get_f64(gguf, key, index, &real, NULL) == QP_OK)
        fprintf(to, "%.9g", real);
    else if (quern_gguf_get_i64(gguf, key, index, &whole, NULL) == QP_OK)
        fprintf(to, "%" PRId64, whole);
    else if (quern_gguf_get_u64(gguf, key, index, &natural, NULL) == QP_OK)
        fprintf(to, "%" PRIu64, natural);
    else
        fputs("?", to);
}

char *cli_kv_text(const quern_gguf *gguf, const char *key, uint64_t shown)
{
    const quern_gguf_kv *kv = quern_gguf_find(gguf, key);
    char *text = NULL;
    size_t size;
    FILE *to = kv ? open_memstream(&text, &size) : NULL;
    if (!to)
        return NULL;
    if (kv->type != QUERN_GGUF_ARRAY) {
        print_element(to, gguf, key, kv->type, 0);
    } else {
        fputs("[", to);
        for (uint64_t i = 0; i < kv->count && i < shown; i++) {
            fputs(i ? ", " : "", to);
            print_element(to, gguf, key, kv->element_type, i);
        }
        fprintf(to, kv->count > shown ? ", … %" PRIu64 " in all]" : "]", kv->count);
    }
    fclose(to);
    return text;
}

static void append_key(FILE *to, const cli_facts *facts, const char *label, const char *suffix)
{
    char key[160];
    snprintf(key, sizeof key, "%s.rope.%s", facts->architecture, suffix);
    char *text = cli_kv_text(facts->gguf, key, 4);
    if (text)
        fprintf(to, "%s%s %s", ftell(to) ? ", " : "", label, text);
    free(text);
}

char *cli_rope_text(const cli_facts *facts)
{
    static const struct {
        const char *label, *suffix;
    } rows[] = {{"dimensions", "dimension_count"},
                {"sections", "dimension_sections"},
                {"base", "freq_base"},
                {"scaling", "scaling.type"},
                {"linear scale", "scale_linear"},
                {"factor", "scaling.factor"},
                {"original context", "scaling.original_context_length"},
                {"attention factor", "scaling.attn_factor"}};
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (!to)
        return NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        append_key(to, facts, rows[i].label, rows[i].suffix);
    if (quern_gguf_tensor_find(facts->gguf, "rope_freqs.weight"))
        fprintf(to, "%sfrequency factors", ftell(to) ? ", " : "");
    if (!ftell(to))
        fputs("the architecture's defaults", to);
    fclose(to);
    return text;
}

static struct json_object *element_json(const quern_gguf *gguf, const quern_gguf_kv *kv, quern_gguf_type type, uint64_t index)
{
    quern_string text;
    double real;
    uint64_t natural;
    int64_t whole;
    const char *key = kv->key.data;
    if (type == QUERN_GGUF_STRING)
        return quern_gguf_get_string(gguf, key, index, &text, NULL) == QP_OK ? cli_json_text(text.data, text.size) : NULL;
    if (type == QUERN_GGUF_BOOL)
        return quern_gguf_get_u64(gguf, key, index, &natural, NULL) == QP_OK ? json_object_new_boolean((int)natural) : NULL;
    if (type == QUERN_GGUF_FLOAT32 || type == QUERN_GGUF_FLOAT64)
        return quern_gguf_get_f64(gguf, key, index, &real, NULL) == QP_OK ? cli_json_real(real) : NULL;
    if (quern_gguf_get_i64(gguf, key, index, &whole, NULL) == QP_OK)
        return json_object_new_int64(whole);
    return quern_gguf_get_u64(gguf, key, index, &natural, NULL) == QP_OK ? json_object_new_uint64(natural) : NULL;
}

struct json_object *cli_kv_json(const quern_gguf *gguf, const quern_gguf_kv *kv)
{
    if (kv->type != QUERN_GGUF_ARRAY)
        return element_json(gguf, kv, kv->type, 0);
    if (kv->count > JSON_ARRAY_LIMIT) {
        struct json_object *object = json_object_new_object();
        json_object_object_add(object, "array_of", json_object_new_int((int)kv->element_type));
        json_object_object_add(object, "count", json_object_new_uint64(kv->count));
        return object;
    }
    struct json_object *list = json_object_new_array();
    for (uint64_t i = 0; i < kv->count; i++)
        json_object_array_add(list, element_json(gguf, kv, kv->element_type, i));
    return list;
}
