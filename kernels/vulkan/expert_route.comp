#version 460
/* SPDX-License-Identifier: MIT
 * kernels/vulkan/expert_route.comp: which experts a row goes to, and with what weight. One workgroup a row; the best expert
 * that is left is found once for each that is chosen. */
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 1) const uint GATE = 0; /* as in quern/plugin.h */
layout(constant_id = 2) const uint NORMALISE = 0;

layout(push_constant, scalar) uniform block { qv_expert_route_params p; };

const uint MAX_GROUPS = 256;
#define MINUS_INFINITY uintBitsToFloat(0xff800000u)
#define NOT_A_NUMBER uintBitsToFloat(0x7fc00000u)

shared float values[gl_WorkGroupSize.x];
shared int orders[gl_WorkGroupSize.x];
shared uint numbers[gl_WorkGroupSize.x];
shared float group_scores[MAX_GROUPS];
shared uint taken[MAX_GROUPS];

f32s logits;
float most, sum;

/* e^x, where it would be subnormal 0 (some drivers flush such numbers and some do not), and exactly 1 where it rounds to that:
 * what is equal must be for all. */
float small_exp(float x)
{
    return x < -87.0 ? 0.0 : abs(x) < 2.9e-8 ? 1.0 : exp(x);
}

float probability(uint e)
{
    switch (GATE) {
    case 1u: return logits.v[e] < -80.0 ? small_exp(logits.v[e]) : 1.0 / (1.0 + exp(-logits.v[e]));
    case 0u: return small_exp(logits.v[e] - most) / sum;
    default: return logits.v[e]; /* the softmax comes once they are chosen */
    }
}

float biased(uint e)
{
    float x = probability(e);
    return p.bias != 0 ? x + f32s(p.bias).v[e] : x;
}

/* Integers in the order of floats. Floats that are subnormal are all equal to devices that take them for zero. */
int order_of(float x)
{
    int bits = floatBitsToInt(x);
    return bits < 0 ? -(bits & 0x7fffffff) : bits;
}
#define LEAST (-0x7f800000)

/* What experts are compared by: without a bias the logits are in the same order and exact. */
int score(uint e)
{
    return order_of(p.bias != 0 ? biased(e) : logits.v[e]);
}

/* Does a come before b? Of equals the lower number does. */
bool before(int score_a, uint a, int score_b, uint b)
{
    return score_a > score_b || score_a == score_b && a < b;
}

/* Halves the lists until their first entries are the best, or the sum, of all. */
void gather(bool add)
{
    uint mine = gl_LocalInvocationID.x;
    barrier();
    for (uint half_size = gl_WorkGroupSize.x / 2; half_size > 0; half_size /= 2) {
        if (mine < half_size) {
            uint other = mine + half_size;
            if (add) {
                values[mine] += values[other];
            } else if (before(orders[other], numbers[other], orders[mine], numbers[mine])) {
                orders[mine] = orders[other];
                numbers[mine] = numbers[other];
            }
        }
        barrier();
    }
}

bool finite(float x)
{
    return (floatBitsToUint(x) & 0x7f800000u) != 0x7f800000u;
}

/* 0 if a logit or a bias is not finite; else the largest logit and the softmax's sum are known. */
bool measure()
{
    uint mine = gl_LocalInvocationID.x;
    float broken = 0.0, part = 0.0;
    int best = LEAST;
    for (uint e = mine; e < p.experts; e += gl_WorkGroupSize.x) {
        if (!finite(logits.v[e]) || p.bias != 0 && !finite(f32s(p.bias).v[e]))
            broken = 1.0;
        else
            best = max(best, order_of(logits.v[e]));
    }
    values[mine] = broken;
    gather(true);
    bool sound = values[0] == 0.0;
    barrier();
    orders[mine] = best;
    numbers[mine] = mine;
    gather(false);
    most = intBitsToFloat(orders[0] < 0 ? -orders[0] | int(0x80000000u) : orders[0]);
    barrier();
    for (uint e = mine; sound && e < p.experts; e += gl_WorkGroupSize.x)
        part += small_exp(logits.v[e] - most);
    values[mine] = part;
    gather(true);
    sum = values[0];
    barrier();
    return sound;
}

/* The sum of a group's two best. */
float group_score(uint g)
{
    uint size = p.experts / p.groups;
    float first = MINUS_INFINITY, second = MINUS_INFINITY;
    for (uint e = g * size; e < (g + 1) * size; e++) {
        float s = biased(e);
        if (s > first) {
            second = first;
            first = s;
        } else if (s > second) {
            second = s;
        }
    }
    return size > 1 ? first + second : first;
}

void choose_groups()
{
    uint mine = gl_LocalInvocationID.x;
    for (uint g = mine; g < p.groups; g += gl_WorkGroupSize.x)
        group_scores[g] = p.groups > 1 ? group_score(g) : 0.0;
    barrier();
    for (uint g = mine; g < p.groups; g += gl_WorkGroupSize.x) {
        uint better = 0;
        for (uint other = 0; other < p.groups; other++)
            better += before(order_of(group_scores[other]), other, order_of(group_scores[g]), g) ? 1 : 0;
        taken[g] = p.groups <= 1 || better < p.groups_used ? 1 : 0;
    }
    barrier();
}

/* The best of those after `last`, the one chosen before, whose score is as this loop computed it: another place in the code
 * may round otherwise, and would put an expert before or after itself. */
uint next_best(bool is_first, inout int last_score, uint last)
{
    uint mine = gl_LocalInvocationID.x, size = p.experts / p.groups, best = 0xffffffffu;
    int best_score = LEAST;
    for (uint e = mine; e < p.experts; e += gl_WorkGroupSize.x) {
        int s = score(e);
        bool left = taken[e / size] != 0 && (is_first || e != last && before(last_score, last, s, e));
        if (left && (best == 0xffffffffu || before(s, e, best_score, best))) {
            best = e;
            best_score = s;
        }
    }
    orders[mine] = best_score;
    numbers[mine] = best;
    gather(false);
    best = min(numbers[0], p.experts - 1);
    last_score = orders[0];
    barrier();
    return best;
}

/* The weights of the chosen, whose numbers are written already. A softmax that is divided by the sum of the chosen is the
 * softmax of the chosen, which does not vanish with them; sigmoids far below zero are exponentials, too. But where doubles
 * would vanish, it is 0. */
void weigh(f32s weights, f32s chosen)
{
    float total = 0.0, highest = MINUS_INFINITY;
    for (uint i = 0; i < p.chosen; i++)
        highest = max(highest, logits.v[uint(chosen.v[i])]);
    float depth = GATE == 0u ? most - highest : -highest;
    bool of_chosen = GATE == 2u || NORMALISE != 0 && (GATE == 0u || depth > 80.0);
    for (uint i = 0; i < p.chosen; i++) {
        uint e = uint(chosen.v[i]);
        float x = of_chosen ? small_exp(logits.v[e] - highest) : probability(e);
        weights.v[i] = x;
        total += x;
    }
    bool vanished = GATE != 2u && NORMALISE != 0 && depth > 745.0;
    float factor = vanished ? 0.0 : p.scale / (of_chosen || NORMALISE != 0 && total > 1e-37 ? total : 1.0);
    for (uint i = 0; i < p.chosen; i++)
        weights.v[i] *= factor;
}

void main()
{
    uint rows = live_rows(p.live, p.rows, p.logits);
    bool writes = gl_LocalInvocationID.x == 0;
    for (uint row = gl_WorkGroupID.x; row < rows; row += gl_NumWorkGroups.x) {
        logits = f32s(p.logits + uint64_t(row) * p.logits_row);
        f32s weights = f32s(row_of(p.dst, 0, p.dst_head, row, p.dst_row));
        f32s chosen = f32s(row_of(p.dst, 1, p.dst_head, row, p.dst_row));
        bool sound = measure();
        if (sound)
            choose_groups();
        uint last = 0;
        int last_score = 0;
        for (uint i = 0; i < p.chosen; i++) {
            last = sound ? next_best(i == 0, last_score, last) : i;
            if (writes) {
                chosen.v[i] = float(last);
                if (!sound)
                    weights.v[i] = NOT_A_NUMBER;
            }
        }
        if (writes && sound)
            weigh(weights, chosen);
        barrier();
    }
}
