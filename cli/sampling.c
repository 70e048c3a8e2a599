/* SPDX-License-Identifier: MIT */
#include "cli/sampling.h"
#include "cli/output.h"

#include <sys/random.h>
#include <time.h>

static uint64_t fresh_seed(void)
{
    uint32_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = (uint32_t)time(NULL);
    return seed ? seed : 1;
}

int cli_sampler_make(const cli_sampling_args *args, uint32_t vocabulary, uint64_t *seed, uint64_t *fresh, quern_sampler **out)
{
    quern_error error = {0};
    *fresh = args->temperature > 0 && !args->seed ? fresh_seed() : 0;
    *seed = *fresh ? *fresh : args->seed;
    quern_sampler_options options = {
        .struct_size = sizeof options,
        .top_k = args->top_k,
        .temperature = (float)args->temperature,
        .top_p = (float)args->top_p,
        .min_p = (float)args->min_p,
        .repetition_penalty = (float)args->repeat_penalty,
        .repetition_window = args->repeat_penalty != 1.0 ? args->repeat_last : 0,
        .seed = *seed,
    };
    return quern_sampler_create(&options, vocabulary, out, &error) == QP_OK ? CLI_OK : cli_error(&error);
}
