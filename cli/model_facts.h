/* SPDX-License-Identifier: MIT
 * cli/model_facts.h: what quern inspect tells of a GGUF file, gathered from its header. */
#ifndef CLI_MODEL_FACTS_H
#define CLI_MODEL_FACTS_H

#include <quern/engine.h>

struct json_object;

typedef enum cli_group {
    CLI_GROUP_EMBEDDING,
    CLI_GROUP_ATTENTION,
    CLI_GROUP_FFN,
    CLI_GROUP_NORMS,
    CLI_GROUP_OUTPUT,
    CLI_GROUP_OTHER
} cli_group;

/* Tensors of one group in one format. */
typedef struct cli_group_row {
    cli_group group;
    qp_format format;
    uint32_t count;
    uint64_t bytes;
} cli_group_row;

typedef struct cli_facts {
    const quern_gguf *gguf;
    char architecture[64];
    uint64_t parameters, tensor_bytes, vocabulary;
    int described; /* whether info is there */
    quern_model_info info;
    int runs; /* whether the engine would run it; if not, refusal says why */
    quern_error refusal;
    cli_group_row *groups; /* by group, then format; free() it */
    uint32_t group_count;
} cli_facts;

void cli_facts_gather(const quern_gguf *gguf, cli_facts *out);
/* "1.24 B", or of a mixture of experts "30.5 B (3.3 B active)"; returns out. */
const char *cli_model_size(const quern_model_info *info, char *out, size_t size);
const char *cli_group_name(cli_group group);
const char *cli_format_name(qp_format format);
/* "4096 x 256" */
void cli_shape_text(const quern_gguf_tensor *tensor, char *out, size_t size);

/* These give malloc'd text; NULL when the key is missing or there is no memory. An array shows its first `shown` elements. */
char *cli_kv_text(const quern_gguf *gguf, const char *key, uint64_t shown);
char *cli_rope_text(const cli_facts *facts);
/* The value as JSON; arrays in full up to 1000 elements, longer ones as an object {type, count}. */
struct json_object *cli_kv_json(const quern_gguf *gguf, const quern_gguf_kv *kv);

#endif
