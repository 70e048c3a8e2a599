/* SPDX-License-Identifier: MIT */
#include "cli/scores.h"
#include "cli/output.h"

#include <json-c/json.h>
#include <stdlib.h>

int cli_scores_begin(cli_scores *s, const cli_score_args *args, size_t room)
{
    *s = (cli_scores){.args = *args,
                      .capacity = room,
                      .scores = malloc((room ? room : 1) * sizeof *s->scores),
                      .alternative_counts = malloc((room ? room : 1) * sizeof *s->alternative_counts),
                      .summary = {.struct_size = sizeof s->summary, .unsure = (float)args->unsure}};
    s->alternatives = malloc((room ? room : 1) * (args->top ? args->top : 1) * sizeof *s->alternatives);
    if (s->scores && s->alternatives && s->alternative_counts)
        return CLI_OK;
    cli_scores_free(s);
    return cli_fail("no memory for the scores of %zu tokens: a smaller -n or --top-logprobs helps", room);
}

int cli_scores_add(cli_scores *s, const float *logits, uint32_t vocabulary, int32_t token, int ends)
{
    quern_error error = {0};
    quern_score score;
    quern_alternative *top = s->args.top && !ends && s->count < s->capacity ? s->alternatives + s->count * s->args.top : NULL;
    uint32_t top_count = s->args.top;
    if (quern_score_token(logits, vocabulary, token, &score, top, &top_count, &error) != QP_OK)
        return cli_error(&error);
    if (ends) {
        s->end = score;
        s->has_end = 1;
        return CLI_OK;
    }
    if (s->count == s->capacity)
        return CLI_OK;
    s->alternative_counts[s->count] = top ? top_count : 0;
    s->scores[s->count++] = score;
    quern_confidence_add(&s->summary, &score);
    return CLI_OK;
}

void cli_scores_free(cli_scores *s)
{
    free(s->scores);
    free(s->alternatives);
    free(s->alternative_counts);
    *s = (cli_scores){0};
}

static void add_token(json_object *to, const quern_tokenizer *tokenizer, int32_t token, double logprob)
{
    char bytes[1024];
    size_t size = quern_token_bytes(tokenizer, token, 0, 1, bytes, sizeof bytes);
    json_object_object_add(to, "id", json_object_new_int(token));
    json_object_object_add(to, "text", cli_json_text(bytes, size < sizeof bytes ? size : sizeof bytes));
    json_object_object_add(to, "logprob", cli_json_real(logprob));
}

static json_object *score_json(const cli_scores *s, const quern_tokenizer *tokenizer, const quern_score *score)
{
    json_object *object = json_object_new_object();
    add_token(object, tokenizer, score->token, score->logprob);
    json_object_object_add(object, "entropy", cli_json_real(score->entropy));
    json_object_object_add(object, "rank", json_object_new_uint64(score->rank));
    if (!s->args.top || score == &s->end)
        return object;
    size_t at = (size_t)(score - s->scores);
    json_object *list = json_object_new_array();
    for (uint32_t i = 0; i < s->alternative_counts[at]; i++) {
        const quern_alternative *a = &s->alternatives[at * s->args.top + i];
        json_object *one = json_object_new_object();
        add_token(one, tokenizer, a->token, a->logprob);
        json_object_array_add(list, one);
    }
    json_object_object_add(object, "top", list);
    return object;
}

void cli_scores_json(const cli_scores *s, const quern_tokenizer *tokenizer, struct json_object *root)
{
    json_object *list = json_object_new_array(), *summary = json_object_new_object();
    const quern_confidence *c = &s->summary;
    for (size_t i = 0; i < s->count; i++)
        json_object_array_add(list, score_json(s, tokenizer, &s->scores[i]));
    json_object_object_add(root, "scores", list);
    json_object_object_add(root, "end", s->has_end ? score_json(s, tokenizer, &s->end) : NULL);
    json_object_object_add(summary, "tokens", json_object_new_uint64(c->tokens));
    json_object_object_add(summary, "mean_logprob", c->tokens ? cli_json_real(c->mean_logprob) : NULL);
    json_object_object_add(summary, "perplexity", c->tokens ? cli_json_real(c->perplexity) : NULL);
    json_object_object_add(summary, "min_logprob", c->tokens ? cli_json_real(c->min_logprob) : NULL);
    json_object_object_add(summary, "min_at", c->tokens ? json_object_new_uint64(c->min_at) : NULL);
    json_object_object_add(summary, "mean_entropy", c->tokens ? cli_json_real(c->mean_entropy) : NULL);
    json_object_object_add(summary, "max_entropy", c->tokens ? cli_json_real(c->max_entropy) : NULL);
    json_object_object_add(summary, "unsure_below", cli_json_real(s->args.unsure));
    json_object_object_add(summary, "unsure_tokens", json_object_new_uint64(c->unsure_tokens));
    json_object_object_add(root, "confidence", summary);
}
