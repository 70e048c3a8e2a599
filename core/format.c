/* SPDX-License-Identifier: MIT */
#include <quern/format.h>

#include <strings.h>

static const quern_format_info formats[] = {
#define ROW(name, number, elements, bytes, quantised) {#name, number, elements, bytes, quantised},
    QP_FORMAT_LIST(ROW)
#undef ROW
};

enum { FORMATS = sizeof formats / sizeof *formats };

const quern_format_info *quern_format_at(uint32_t index)
{
    return index < FORMATS ? &formats[index] : NULL;
}

const quern_format_info *quern_format_get(qp_format format)
{
    for (uint32_t i = 0; i < FORMATS; i++)
        if (formats[i].format == format)
            return &formats[i];
    return NULL;
}

const quern_format_info *quern_format_by_name(const char *name)
{
    for (uint32_t i = 0; name && i < FORMATS; i++)
        if (!strcasecmp(formats[i].name, name))
            return &formats[i];
    return NULL;
}

int quern_format_bytes(qp_format format, int64_t elements, uint64_t *bytes)
{
    const quern_format_info *info = quern_format_get(format);
    if (!info || elements < 0 || elements % info->block_elements)
        return 0;
    return !__builtin_mul_overflow((uint64_t)elements / info->block_elements, (uint64_t)info->block_bytes, bytes);
}
