/* SPDX-License-Identifier: MIT
 * kernels/vulkan/khr_matrices.c: part of the build, not of quern: `khr_matrices IN.spv NAME OUT.h` makes a kernel of
 * GL_NV_cooperative_matrix one of VK_KHR_cooperative_matrix, and writes it as an array of C.
 *
 * Every compiler of GLSL since 2019 knows NVIDIA's extension, those of 2023 and later alone know that of Khronos, which more
 * drivers have. The instructions are the same ones (SPV_NV_cooperative_matrix, SPV_KHR_cooperative_matrix) but for three things:
 *
 *   a type also says what its matrices are for: A or B of a product, or what is added up. That is read from the products they are
 * in; loads and stores have a number for the layout in front of the stride where NVIDIA's have a truth value behind it; products
 * have a mask of operands at the end, which may be left out.
 *
 * And barriers make memory of the workgroup available and visible, where compilers ask that of each load and store of it: drivers
 * would wait for each load before the next one.
 *
 * Whatever the module has beside these is kept. What the tool does not understand it refuses, and the build fails. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 1 << 20, HEADER = 5, BOUND = 3 };
enum { OP_UNDEF = 1, OP_EXTENSION = 10, OP_CAPABILITY = 17, OP_TYPE_INT = 21, OP_CONSTANT_TRUE = 41, OP_CONSTANT_FALSE = 42 };
enum { OP_LOAD = 61, OP_STORE = 62, OP_BARRIER = 224 };
enum { OP_CONSTANT = 43, OP_SPEC_CONSTANT_OP = 52, OP_FUNCTION = 54, OP_VARIABLE = 59 };
enum { NV_CAPABILITY = 5357, NV_TYPE = 5358, NV_LOAD = 5359, NV_STORE = 5360, NV_PRODUCT = 5361, NV_LENGTH = 5362 };
enum { KHR_CAPABILITY = 6022, KHR_TYPE = 4456, KHR_LOAD = 4457, KHR_STORE = 4458, KHR_PRODUCT = 4459, KHR_LENGTH = 4460 };
enum { AVAILABLE = 8, VISIBLE = 16, NOT_PRIVATE = 32 };                                     /* of accesses */
enum { ACQUIRE_RELEASE = 8, WORKGROUP = 256, MAKE_AVAILABLE = 8192, MAKE_VISIBLE = 16384 }; /* of barriers */
enum { USES = 3, BARRIERS = 4, ROW_MAJOR = 0, COLUMN_MAJOR = 1, UNKNOWN = 255 };

static const char NV_NAME[] = "SPV_NV_cooperative_matrix", KHR_NAME[] = "SPV_KHR_cooperative_matrix";

typedef struct module {
    uint32_t in[MOST_WORDS], out[MOST_WORDS], in_words, out_words;
    uint32_t *type_of;  /* of a result; both by id, of which there are in[BOUND] */
    uint8_t *use_of;    /* of a type of matrices */
    uint8_t *layout_of; /* of a truth value */
    uint32_t numbers;   /* the id of the constant 0u, before 1u and 2u: new ones, behind the type of unsigned integers */
    uint32_t numbered;
    uint32_t *value_of;          /* of a constant of one word */
    uint32_t barriers[BARRIERS]; /* ids of constants: what barriers order; theirs come behind the numbers */
    uint32_t barrier_count;
} module;

static void fail(const char *why)
{
    fprintf(stderr, "khr_matrices: %s\n", why);
    exit(1);
}

static uint32_t id(const module *m, uint32_t id)
{
    if (id >= m->in[BOUND])
        fail("an id is beyond the module's bound");
    return id;
}

static void read_module(module *m, const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t words = file ? fread(m->in, sizeof *m->in, MOST_WORDS, file) : 0;
    if (words <= HEADER || words == MOST_WORDS || m->in[0] != 0x07230203)
        fail("the input is no module of SPIR-V, or too long");
    fclose(file);
    m->in_words = (uint32_t)words;
    for (uint32_t at = HEADER; at < m->in_words; at += m->in[at] >> 16)
        if (!(m->in[at] >> 16) || (m->in[at] >> 16) > m->in_words - at)
            fail("an instruction has a wrong length");
    uint32_t bound = m->in[BOUND];
    m->type_of = calloc(bound, sizeof *m->type_of);
    m->use_of = malloc(bound);
    m->layout_of = malloc(bound);
    m->value_of = calloc(bound, sizeof *m->value_of);
    if (!m->value_of || !m->type_of || !m->use_of || !m->layout_of)
        fail("there is no memory");
    memset(m->use_of, UNKNOWN, bound);
    memset(m->layout_of, UNKNOWN, bound);
    m->numbers = bound;
}

static void set_use(module *m, uint32_t value, uint8_t use)
{
    uint8_t *known = &m->use_of[id(m, m->type_of[id(m, value)])];
    if (*known != UNKNOWN && *known != use)
        fail("matrices of one type have two uses: their sizes must be different constants");
    *known = use;
}

/* Whether an instruction's second word is the type of its result, the third. In functions some without results pass for such, which
 * changes nothing: what they name has been defined before, and the first one counts. */
static int has_result(uint32_t op, int in_function)
{
    return in_function || op == OP_UNDEF || (op >= OP_CONSTANT_TRUE && op <= OP_SPEC_CONSTANT_OP) || op == OP_VARIABLE;
}

static uint32_t barrier_of(module *m, uint32_t semantics)
{
    uint32_t i = 0;
    while (i < m->barrier_count && m->barriers[i] != semantics)
        i++;
    if (i == BARRIERS)
        fail("there are too many kinds of barriers");
    if (i == m->barrier_count)
        m->barriers[m->barrier_count++] = id(m, semantics);
    return i;
}

/* The types of values, what products make of them, and which truth values are which. */
static void learn(module *m)
{
    int in_function = 0;
    for (uint32_t at = HEADER; at < m->in_words; at += m->in[at] >> 16) {
        const uint32_t *words = &m->in[at];
        uint32_t op = words[0] & 0xffff, count = words[0] >> 16;
        in_function |= op == OP_FUNCTION;
        if (op == OP_CONSTANT_TRUE || op == OP_CONSTANT_FALSE)
            m->layout_of[id(m, words[2])] = op == OP_CONSTANT_TRUE ? COLUMN_MAJOR : ROW_MAJOR;
        if (op == OP_CONSTANT && count == 4)
            m->value_of[id(m, words[2])] = words[3];
        if (op == OP_BARRIER)
            barrier_of(m, words[3]);
        if (count >= 3 && has_result(op, in_function) && words[2] < m->in[BOUND] && !m->type_of[words[2]])
            m->type_of[words[2]] = words[1];
        for (uint8_t use = 0; op == NV_PRODUCT && use < USES; use++)
            set_use(m, words[3 + use], use);
    }
}

static void put(module *m, uint32_t op, const uint32_t *words, uint32_t count)
{
    if (m->out_words + count + 1 > MOST_WORDS)
        fail("the module is too long");
    m->out[m->out_words++] = (count + 1) << 16 | op;
    memcpy(m->out + m->out_words, words, count * sizeof *words);
    m->out_words += count;
}

static void put_extension(module *m)
{
    uint32_t name[(sizeof KHR_NAME + 3) / 4] = {0};
    memcpy(name, KHR_NAME, sizeof KHR_NAME);
    put(m, OP_EXTENSION, name, sizeof name / sizeof *name);
}

static void put_numbers(module *m, uint32_t type)
{
    for (uint32_t n = 0; n < USES; n++)
        put(m, OP_CONSTANT, (const uint32_t[]){type, m->numbers + n, n}, 3);
    for (uint32_t n = 0; n < m->barrier_count; n++) {
        uint32_t semantics = m->value_of[m->barriers[n]];
        if ((semantics & (ACQUIRE_RELEASE | WORKGROUP)) != (ACQUIRE_RELEASE | WORKGROUP))
            fail("a barrier does not order the workgroup's memory");
        put(m, OP_CONSTANT, (const uint32_t[]){type, m->numbers + USES + n, semantics | MAKE_AVAILABLE | MAKE_VISIBLE}, 3);
    }
    m->numbered = 1;
}

static void put_type(module *m, const uint32_t *words)
{
    uint8_t use = m->use_of[id(m, words[1])];
    if (use == UNKNOWN || !m->numbered)
        fail(m->numbered ? "matrices of a type are in no product" : "a type of matrices comes before unsigned integers");
    put(m, KHR_TYPE, (const uint32_t[]){words[1], words[2], words[3], words[4], words[5], m->numbers + use}, 6);
}

/* Without what barriers do; a mask and its scope are the last words. Returns how many words are left. */
static uint32_t ease(uint32_t *words, uint32_t mask_at, uint32_t count)
{
    if (count != mask_at + 2 || (words[mask_at] != (NOT_PRIVATE | VISIBLE) && words[mask_at] != (NOT_PRIVATE | AVAILABLE)))
        return count;
    words[mask_at] = NOT_PRIVATE;
    return count - 1;
}

/* A load, or a store, of no matrix. */
static void put_plain(module *m, uint32_t op, const uint32_t *words, uint32_t count)
{
    uint32_t to[16];
    if (count > 16)
        fail("an access is longer than any known");
    memcpy(to, words + 1, (count - 1) * sizeof *to);
    put(m, op, to, ease(to, op == OP_LOAD ? 3 : 2, count - 1));
}

/* `first` words, the pointer last among them or before the object; then stride, column major, and what may follow. */
static void put_access(module *m, uint32_t op, const uint32_t *words, uint32_t first, uint32_t count)
{
    uint32_t to[16], rest = count - first - 3;
    if (count < first + 3 || count > 16 || m->layout_of[id(m, words[first + 2])] == UNKNOWN)
        fail("a matrix is loaded or stored in a way that is not understood");
    memcpy(to, words + 1, first * sizeof *to);
    to[first] = m->numbers + m->layout_of[words[first + 2]];
    to[first + 1] = words[first + 1];
    memcpy(to + first + 2, words + first + 3, rest * sizeof *to);
    put(m, op, to, ease(to, first + 2, first + 2 + rest));
}

static void translate(module *m, const uint32_t *words)
{
    uint32_t op = words[0] & 0xffff, count = words[0] >> 16;
    switch (op) {
    case OP_CAPABILITY: put(m, op, (const uint32_t[]){words[1] == NV_CAPABILITY ? KHR_CAPABILITY : words[1]}, 1); return;
    case OP_EXTENSION:
        if (count - 1 < sizeof NV_NAME / 4 || memcmp(words + 1, NV_NAME, sizeof NV_NAME))
            break;
        put_extension(m);
        return;
    case OP_LOAD:
    case OP_STORE: put_plain(m, op, words, count); return;
    case OP_BARRIER: put(m, op, (const uint32_t[]){words[1], words[2], m->numbers + USES + barrier_of(m, words[3])}, 3); return;
    case NV_TYPE: put_type(m, words); return;
    case NV_LOAD: put_access(m, KHR_LOAD, words, 3, count); return;
    case NV_STORE: put_access(m, KHR_STORE, words, 2, count); return;
    case NV_PRODUCT: put(m, KHR_PRODUCT, words + 1, count - 1); return;
    case NV_LENGTH: put(m, KHR_LENGTH, words + 1, count - 1); return;
    default: break;
    }
    put(m, op, words + 1, count - 1);
    if (op == OP_TYPE_INT && words[2] == 32 && !words[3])
        put_numbers(m, words[1]);
}

static void write_array(const module *m, const char *name, const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file)
        fail("the output cannot be written");
    fprintf(file, "#pragma once\nconst uint32_t %s[] = {", name);
    for (uint32_t i = 0; i < m->out_words; i++)
        fprintf(file, "%s0x%08x,", i % 8 ? " " : "\n    ", m->out[i]);
    fprintf(file, "\n};\n");
    if (fclose(file))
        fail("the output cannot be written");
}

int main(int argc, char **argv)
{
    static module m;
    if (argc != 4)
        fail("it takes a module, a name and a header to write");
    read_module(&m, argv[1]);
    learn(&m);
    memcpy(m.out, m.in, HEADER * sizeof *m.in);
    m.out[BOUND] += USES + m.barrier_count;
    m.out_words = HEADER;
    for (uint32_t at = HEADER; at < m.in_words; at += m.in[at] >> 16)
        translate(&m, &m.in[at]);
    write_array(&m, argv[2], argv[3]);
    return 0;
}
