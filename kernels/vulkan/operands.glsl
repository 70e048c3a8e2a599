/* SPDX-License-Identifier: MIT
 * kernels/vulkan/operands.glsl: what a kernel multiplies: W and x of a matmul or, with QV_EXPERTS, those of a mixture, where a
 * group of tokens is some pairs of a token and one of its experts, all of the same expert, out of the list that expert_group.comp
 * left; or, where there is none, a single pair. Parameters are in p; rows of W in [p.first, p.m). */

#ifdef QV_EXPERTS
layout(push_constant, scalar) uniform block { qv_expert_matmul_push push; };
layout(buffer_reference, scalar, buffer_reference_align = 8) readonly buffer params { qv_expert_matmul_params p; };

qv_expert_matmul_params p;
#define RARE(name) p.name
#define HAS_BIAS (p.bias != 0)
#define HAS_SCALES (p.scales != 0)
uint expert, elements; /* of the group at hand: p.experts where no expert has its number, of whose W nothing is read; K */
uint group_end;

/* Groups [push.first_item, push.end_item) are this dispatch's, as far as there are so many. */
void begin()
{
    p = params(push.params).p;
    p.first = push.first;
    p.m = push.m;
    group_end = push.end_item;
    if (p.list == 0)
        group_end = min(live_rows(p.live, p.rows, p.x) * p.chosen, group_end);
}

uint64_t grid_address()
{
    return push.params + p.grid;
}

/* The pair at place t of the list: its number is that of the token times `chosen` and that of its expert among the token's. */
uint pair_at(uint t)
{
    return p.list != 0 ? u32s(p.list).v[t] : t;
}

uint64_t activations_at(uint t)
{
    uint pair = pair_at(t);
    return row_of(p.x, pair % p.chosen, p.x_head, pair / p.chosen, p.x_row);
}

uint64_t result_at(uint t)
{
    uint pair = pair_at(t);
    return row_of(p.dst, pair % p.chosen, p.dst_head, pair / p.chosen, p.dst_row);
}

uint64_t weights_at(uint m, bool second)
{
    uint64_t e = min(expert, p.experts - 1);
    return second ? p.w2 + e * p.w2_expert + uint64_t(m) * p.w2_row : p.w + e * p.w_expert + uint64_t(m) * p.w_row;
}

uint first_group()
{
    return push.first_item;
}

uint behind_groups(uint tokens)
{
    return max(group_end, push.first_item);
}

/* Places [x, y) of the list; none where x == y. */
uvec2 group_span(uint group, uint tokens)
{
    uvec2 span = uvec2(group, group + 1);
    if (p.list != 0) {
        u32s tile = u32s(p.tiles + 16 * uint64_t(group));
        expert = tile.v[0];
        span = uvec2(tile.v[1], tile.v[2]);
    } else {
        float number = f32s(row_of(p.route, 1, p.route_head, group / p.chosen, p.route_row)).v[group % p.chosen];
        expert = number >= 0.0 && number < float(p.experts) ? uint(number) : p.experts;
    }
    elements = expert < p.experts ? p.k : 0;
    return span;
}

#else
layout(push_constant, scalar) uniform block { qv_matmul_params p; };

#define elements p.k

uint token_count;

void begin()
{
    token_count = live_rows(p.live, p.rows, p.x);
}

uint64_t grid_address()
{
    return p.grid;
}

uint64_t activations_at(uint t)
{
    return p.x + uint64_t(t) * p.x_row;
}

uint64_t weights_at(uint m, bool second)
{
    return (second ? p.w2 : p.w) + uint64_t(m) * p.w_row;
}

uint first_group()
{
    return 0;
}

uint behind_groups(uint tokens)
{
    return (token_count + tokens - 1) / tokens;
}

/* Tokens [x, y). */
uvec2 group_span(uint group, uint tokens)
{
    return uvec2(group * tokens, min((group + 1) * tokens, live_rows(p.live, p.rows, p.x)));
}
#endif
