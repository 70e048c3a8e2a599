/* SPDX-License-Identifier: MIT
 * Which shape of cooperative matrices is taken of those that a device lists. The lists are what drivers of several makers say. */
#include "backends/vulkan/matrices.h"
#include "tests/tap.h"

#include <string.h>

enum { HALF = VK_COMPONENT_TYPE_FLOAT16_KHR, FLOAT = VK_COMPONENT_TYPE_FLOAT32_KHR, BYTE = 3, WORD = 5, WORKGROUP = 2 };

/* All numbers of A and B in one type, of C and the result in another. */
static VkCooperativeMatrixPropertiesKHR of(uint32_t m, uint32_t n, uint32_t k, uint32_t from, uint32_t to)
{
    return (VkCooperativeMatrixPropertiesKHR){.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR,
                                              .MSize = m,
                                              .NSize = n,
                                              .KSize = k,
                                              .AType = from,
                                              .BType = from,
                                              .CType = to,
                                              .ResultType = to,
                                              .scope = VK_SCOPE_SUBGROUP_KHR};
}

static void takes(const char *what, const VkCooperativeMatrixPropertiesKHR *list, uint32_t count, uint32_t m, uint32_t n,
                  uint32_t k)
{
    qv_matrices best = qv_matrices_best(list, count);
    ok(best.height == m && best.width == n && best.depth == k, "%s: %u x %u x %u", what, best.height, best.width, best.depth);
}

int main(void)
{
    VkCooperativeMatrixPropertiesKHR amd[] = {of(16, 16, 16, HALF, HALF), of(16, 16, 16, HALF, FLOAT), of(16, 16, 16, BYTE, WORD)};
    takes("one size, several types", amd, 3, 16, 16, 16);
    takes("sums of 16 bits and integers alone", (VkCooperativeMatrixPropertiesKHR[]){amd[0], amd[2]}, 2, 0, 0, 0);
    VkCooperativeMatrixPropertiesKHR nvidia[] = {of(16, 8, 8, HALF, FLOAT), of(16, 16, 16, HALF, HALF), of(16, 8, 16, HALF, FLOAT),
                                                 of(16, 16, 16, HALF, FLOAT), of(16, 16, 32, BYTE, WORD)};
    takes("several sizes", nvidia, 5, 16, 16, 16);
    takes("the smaller ones of them", nvidia, 3, 16, 8, 16);
    takes("matrices that are lower than broad", (VkCooperativeMatrixPropertiesKHR[]){of(8, 16, 16, HALF, FLOAT)}, 1, 8, 16, 16);
    takes("the smallest", (VkCooperativeMatrixPropertiesKHR[]){of(8, 8, 8, HALF, FLOAT)}, 1, 8, 8, 8);
    takes("steps along K that 64 holds", (VkCooperativeMatrixPropertiesKHR[]){of(16, 16, 64, HALF, FLOAT)}, 1, 16, 16, 64);

    takes("sizes that tiles are not made of",
          (VkCooperativeMatrixPropertiesKHR[]){of(32, 32, 16, HALF, FLOAT), of(16, 16, 4, HALF, FLOAT), of(12, 16, 16, HALF, FLOAT),
                                               of(16, 16, 48, HALF, FLOAT), of(0, 0, 0, HALF, FLOAT)},
          5, 0, 0, 0);
    VkCooperativeMatrixPropertiesKHR odd[] = {amd[1], amd[1], amd[1], amd[1]};
    odd[0].scope = WORKGROUP;
    odd[1].saturatingAccumulation = VK_TRUE;
    odd[2].BType = BYTE;
    odd[3].CType = HALF;
    takes("a scope, saturation, mixed types", odd, 4, 0, 0, 0);
    takes("no list", NULL, 0, 0, 0, 0);
    return tap_done();
}
