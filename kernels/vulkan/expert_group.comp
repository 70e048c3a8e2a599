#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/expert_group.comp: the route sorted by expert, for kernels that multiply several tokens by the same matrix: a
 * list of the pairs of a token and one of its experts, by expert, each expert's in their order; and tiles of at most so many
 * neighbours in it, each of one expert: {expert, first place in the list, place behind the last, 0}, the rest of them empty.
 * Numbers that no expert has come last, as those of one more. A workgroup an expert. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 6) const uint GROUP = 64; /* the same as constant 0 */

const uint MOST = 1024; /* experts, and the one more; QV_MOST_EXPERTS */

layout(push_constant, scalar) uniform block { qv_expert_group_params p; };

shared uint counts[MOST];
shared uvec2 parts[GROUP];

uint expert_of(uint pair)
{
    float number = f32s(row_of(p.route, 1, p.route_head, pair / p.chosen, p.route_row)).v[pair % p.chosen];
    return number >= 0.0 && number < float(p.experts) ? uint(number) : p.experts;
}

uint tiles_of(uint count)
{
    return (count + p.columns - 1) / p.columns;
}

/* The sum over all invocations of what each gives. */
uvec2 all_of(uvec2 mine)
{
    uint here = gl_LocalInvocationID.x;
    barrier();
    parts[here] = mine;
    for (uint step = GROUP / 2; step > 0; step /= 2) {
        barrier();
        if (here < step)
            parts[here] += parts[here + step];
    }
    barrier();
    return parts[0];
}

/* The pairs of expert e, from place `at` of the list on: each invocation has neighbours of its own to look through. */
void place_pairs(uint e, uint pairs, uint at)
{
    uint here = gl_LocalInvocationID.x, share = (pairs + GROUP - 1) / GROUP, count = 0;
    uint first = min(here * share, pairs), end = min(first + share, pairs);
    for (uint i = first; i < end; i++)
        count += expert_of(i) == e ? 1u : 0u;
    barrier();
    parts[here].x = count;
    barrier();
    for (uint i = 0; i < here; i++)
        at += parts[i].x;
    for (uint i = first; i < end && count > 0; i++)
        if (expert_of(i) == e)
            u32s(p.list).v[at++] = i;
}

void put_tile(uint i, uvec3 tile)
{
    u32s to = u32s(p.tiles + 16 * uint64_t(i));
    to.v[0] = tile.x;
    to.v[1] = tile.y;
    to.v[2] = tile.z;
}

void main()
{
    uint here = gl_LocalInvocationID.x, pairs = live_rows(p.live, p.rows, p.route) * p.chosen;
    for (uint e = here; e <= p.experts; e += GROUP)
        counts[e] = 0;
    barrier();
    for (uint i = here; i < pairs; i += GROUP)
        atomicAdd(counts[expert_of(i)], 1u);
    barrier();
    for (uint e = gl_WorkGroupID.x; e <= p.experts; e += gl_NumWorkGroups.x) {
        uvec2 before = uvec2(0);
        for (uint i = here; i < e; i += GROUP)
            before += uvec2(counts[i], tiles_of(counts[i]));
        before = all_of(before);
        uint count = counts[e], tiles = tiles_of(count);
        if (count > 0)
            place_pairs(e, pairs, before.x);
        for (uint i = here; i < tiles; i += GROUP)
            put_tile(before.y + i, uvec3(e, before.x + i * p.columns, before.x + min(count, (i + 1) * p.columns)));
        if (e == p.experts)
            for (uint i = before.y + tiles + here; i < p.slots; i += GROUP)
                put_tile(i, uvec3(e, 0, 0));
    }
}
