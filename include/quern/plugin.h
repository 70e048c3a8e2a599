/* SPDX-License-Identifier: MIT
 *
 * quern/plugin.h: the compute plugin ABI. Stands alone: <stdint.h> and <stddef.h>, C11 and C++11.
 *
 * A plugin is a shared object that exports ONE symbol, the const data object `quern_plugin`. The host reads magic,
 * struct_size and the ABI numbers in it before it calls anything, then asks query() for the backend table.
 *
 * Rules that hold everywhere in this file
 *  - Growth: every struct that crosses the boundary starts with struct_size, set by whoever allocates it. Members are only
 *    ever added at the end, and a member is there only if it lies inside struct_size. Enum numbers are never reused.
 *    QP_HAS(ptr, member) tests. A plugin built against major X minor Y loads in every host of major X, minor >= Y.
 *  - Errors: every call that can fail returns a qp_status and, if the caller passed a qp_text, a sentence a user can act
 *    on. Nothing aborts, exits, raises a signal or throws across the boundary. On failure, outputs are left as they were.
 *  - Handles (qp_device, qp_buffer, qp_program, qp_timeline) are opaque, made and destroyed by the plugin. A child is
 *    destroyed before its parent. Destroying NULL is allowed and does nothing.
 *  - Threads: "any" means any thread, concurrently with anything else on the same object; "device" means any thread, but
 *    the host calls at most one such function of one device at a time. Different devices are independent.
 *  - Device loss is sticky: once a call has returned QP_ERR_DEVICE_LOST every later call on that device but the destroy
 *    and close functions returns it too, and every timeline wait ends with it.
 *  - A plugin imports the C library and vendor drivers (opened at run time), nothing of the host's: the services that it
 *    may use come in through qp_host. It runs no code before query(): no constructors.
 *  - Sizes and offsets are bytes, times nanoseconds, and memory is little endian.
 */
#ifndef QUERN_PLUGIN_H
#define QUERN_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QP_MAGIC 0x504e5251u /* "QRNP" */
#define QP_ABI_MAJOR 1u
#define QP_ABI_MINOR 0u

/* Is `member` inside the struct that `ptr` points to? (ptr->struct_size says how much its maker knew.) */
#define QP_HAS(ptr, member) \
    ((size_t)(ptr)->struct_size >= (size_t)((const char *)(&(ptr)->member + 1) - (const char *)(ptr)))

#if defined(_WIN32)
#define QP_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define QP_EXPORT __attribute__((visibility("default")))
#else
#define QP_EXPORT
#endif

/* ---- status ------------------------------------------------------------------------------------------------------- */

typedef int32_t qp_status;
enum {
    QP_OK = 0,
    QP_TIMEOUT = 1,             /* not an error: a wait ended before its value was reached */
    QP_ERR_INVALID = -1,        /* the caller broke a rule of this file; the text says which */
    QP_ERR_UNSUPPORTED = -2,    /* a valid request that this device does not serve; the text says why */
    QP_ERR_OUT_OF_MEMORY = -3,  /* host or device memory; the text says which heap, how much was asked, how much is free */
    QP_ERR_DEVICE_LOST = -4,    /* the device reset or vanished; close it */
    QP_ERR_DRIVER = -5,         /* the driver failed in another way; the text carries its words */
    QP_ERR_IO = -6,
    QP_ERR_FORMAT = -7,         /* malformed data, such as a corrupt file */
    QP_ERR_NOT_FOUND = -8,
    QP_ERR_CANCELLED = -9,
    QP_ERR_INTERNAL = -10,      /* a bug: please report it */
};

/* Where a call may write words. Either the pointer to this or `data` may be NULL. Always ends in '\0' when size > 0. */
typedef struct qp_text {
    char *data;
    size_t size; /* bytes at data, the terminator included */
} qp_text;

/* ---- block formats ------------------------------------------------------------------------------------------------ */

/* X(name, number, elements a block, bytes a block, quantised). Numbers and block layouts are those of the GGUF specification. */
#define QP_FORMAT_LIST(X)        \
    X(F32, 0, 1, 4, 0)           \
    X(F16, 1, 1, 2, 0)           \
    X(Q4_0, 2, 32, 18, 1)        \
    X(Q4_1, 3, 32, 20, 1)        \
    X(Q5_0, 6, 32, 22, 1)        \
    X(Q5_1, 7, 32, 24, 1)        \
    X(Q8_0, 8, 32, 34, 1)        \
    X(Q2_K, 10, 256, 84, 1)      \
    X(Q3_K, 11, 256, 110, 1)     \
    X(Q4_K, 12, 256, 144, 1)     \
    X(Q5_K, 13, 256, 176, 1)     \
    X(Q6_K, 14, 256, 210, 1)     \
    X(IQ2_XXS, 16, 256, 66, 1)   \
    X(IQ2_XS, 17, 256, 74, 1)    \
    X(IQ3_XXS, 18, 256, 98, 1)   \
    X(IQ1_S, 19, 256, 50, 1)     \
    X(IQ4_NL, 20, 32, 18, 1)     \
    X(IQ3_S, 21, 256, 110, 1)    \
    X(IQ2_S, 22, 256, 82, 1)     \
    X(IQ4_XS, 23, 256, 136, 1)   \
    X(I8, 24, 1, 1, 0)           \
    X(I16, 25, 1, 2, 0)          \
    X(I32, 26, 1, 4, 0)          \
    X(I64, 27, 1, 8, 0)          \
    X(F64, 28, 1, 8, 0)          \
    X(IQ1_M, 29, 256, 56, 1)     \
    X(BF16, 30, 1, 2, 0)         \
    X(TQ1_0, 34, 256, 54, 1)     \
    X(TQ2_0, 35, 256, 66, 1)     \
    X(MXFP4, 39, 32, 17, 1)

typedef uint32_t qp_format;
enum {
#define QP_FORMAT_ENUM(name, number, elements, bytes, quantised) QP_FORMAT_##name = number,
    QP_FORMAT_LIST(QP_FORMAT_ENUM)
#undef QP_FORMAT_ENUM
        QP_FORMAT_LIMIT = 64 /* every format number is below this */
};

/* ---- host services ------------------------------------------------------------------------------------------------ */

enum { QP_LOG_ERROR = 0, QP_LOG_WARN = 1, QP_LOG_INFO = 2, QP_LOG_DEBUG = 3 };

/* One processing unit (hardware thread) that this process may run on. */
typedef struct qp_cpu {
    uint32_t os_index;   /* the operating system's number */
    uint32_t core;       /* physical core, counted from 0 over the machine */
    uint32_t smt;        /* 0 for the first processing unit of its core */
    uint32_t numa_node;  /* operating system's number of the nearest node */
    uint32_t package;
    uint32_t efficiency; /* 0 for the slowest kind of core of the machine, larger is faster */
} qp_cpu;

typedef struct qp_thread qp_thread; /* opaque, the host's */

/* What the host offers. Lives as long as the plugin is loaded. Every member may be NULL: the plugin then does without
 * (C library allocation and threads, no log). Thread rule of every member: any. */
typedef struct qp_host {
    uint32_t struct_size;
    uint32_t abi_minor; /* of the host */
    void *ctx;          /* passed back as the first argument */
    void (*log)(void *ctx, int level, const char *message); /* one line, no newline at the end */
    void *(*alloc)(void *ctx, size_t size, size_t align);   /* align: a power of two; NULL when there is no memory */
    void (*free)(void *ctx, void *ptr);
    /* The processing units to use, best first: one of each core before any second one. Returns how many there are, which
     * may be more than cap; out may be NULL when cap is 0. */
    uint32_t (*cpus)(void *ctx, qp_cpu *out, uint32_t cap);
    /* Starts a thread bound to the processing unit os_index (UINT32_MAX: not bound). NULL when it cannot. */
    qp_thread *(*thread_start)(void *ctx, const char *name, uint32_t os_index, void (*main)(void *arg), void *arg);
    void (*thread_join)(void *ctx, qp_thread *thread);
    /* Host memory: total, and what this process may really use now (limits of its control group included). */
    void (*memory)(void *ctx, uint64_t *total, uint64_t *available);
} qp_host;

/* ---- devices ------------------------------------------------------------------------------------------------------ */

enum {
    QP_DEVICE_OTHER = 0,
    QP_DEVICE_CPU = 1,
    QP_DEVICE_GPU_INTEGRATED = 2,
    QP_DEVICE_GPU_DISCRETE = 3,
    QP_DEVICE_GPU_SOFTWARE = 4,
    QP_DEVICE_NULL = 5,
};

enum {
    QP_HEAP_DEVICE_LOCAL = 1u << 0,
    QP_HEAP_HOST_VISIBLE = 1u << 1, /* buffers can be mapped */
    QP_HEAP_HOST_CACHED = 1u << 2,  /* reading a mapping is quick */
    QP_HEAP_UNIFIED = 1u << 3,      /* the same memory as the host's: count it once */
};

typedef struct qp_heap {
    uint64_t size;           /* bytes in all */
    uint64_t budget;         /* bytes this process may take now, 0: unknown */
    uint64_t max_allocation; /* largest single buffer */
    uint32_t flags;          /* QP_HEAP_* */
    uint32_t alignment;      /* the host places tensors at multiples of this. A part of one that an op names as a tensor of its
                              * own (columns of a matrix, a few numbers of the step block) may start at any whole element */
} qp_heap;

enum { QP_MAX_HEAPS = 8 };

enum {
    QP_DEVICE_HAS_PCI = 1u << 0,
    QP_DEVICE_HAS_UUID = 1u << 1,
    QP_DEVICE_CAN_IMPORT = 1u << 2, /* buffer_import works */
    QP_DEVICE_PORTABLE = 1u << 3,   /* an interface that serves every maker's cards: a plugin made for this one may show it too */
};

typedef struct qp_device_info {
    uint32_t struct_size;
    uint32_t kind; /* QP_DEVICE_* */
    uint32_t flags;
    uint32_t units;        /* cores or multiprocessors the plugin would use, 0: unknown */
    char name[128];        /* what the maker calls it */
    char driver[128];      /* driver and version, "" when there is none */
    char features[256];    /* what kernels are chosen by, words separated by a space, such as "avx512f avx512_vnni" */
    uint32_t pci_domain, pci_bus, pci_device, pci_function;
    uint8_t uuid[16];
    uint32_t heap_count;
    uint32_t weight_heap; /* index of the heap for weights, KV cache and arena */
    uint32_t host_heap;   /* index of the heap for what the host writes and reads often; may equal weight_heap */
    uint32_t reserved;
    qp_heap heaps[QP_MAX_HEAPS];
} qp_device_info;

typedef struct qp_device qp_device;
typedef struct qp_buffer qp_buffer;
typedef struct qp_program qp_program;
typedef struct qp_timeline qp_timeline;

typedef struct qp_device_options {
    uint32_t struct_size;
    uint32_t threads;    /* host threads that a CPU device computes with, 0: one for each core it may use */
    const char *variant; /* restrict kernels to this instruction set or feature level ("ref", "avx2", …), NULL: the best */
    uint32_t max_submit_ms; /* a GPU is given work in submissions that take no longer than about this, 0: the plugin's default,
                             * safe under a 2 s watchdog. A CPU device ignores it */
    uint32_t reserved;
} qp_device_options;

/* ---- tensors ------------------------------------------------------------------------------------------------------ */

enum { QP_LAYOUT_GGUF = 0 /* blocks in row order, as on disk */ }; /* larger numbers are the plugin's own, from weight_layout */

/* ne[0] runs along a row and counts elements; nb[i] is the byte distance between neighbours in dimension i (nb[0]: of
 * blocks). ne[i] is 1 for a dimension that is not there. A tensor that an op does not use has buffer == NULL.
 *
 * Activations are always {features of a head, heads, rows, 1} ({n, 1, rows, 1} where there are no heads): ne[2] counts rows
 * (tokens) everywhere, so that the live row count below means one thing. Weights are {K, M, experts, 1}.
 *
 * A tensor may lie in a buffer of any heap of its device; what ops read and write often belongs in weight_heap. Strides of
 * activations are multiples of 4 and otherwise free (a result may be columns of a wider matrix). */
typedef struct qp_tensor {
    qp_buffer *buffer;
    uint64_t offset;
    qp_format format;
    uint32_t layout;
    int64_t ne[4];
    int64_t nb[4];
} qp_tensor;

/* ---- ops ---------------------------------------------------------------------------------------------------------- */

/* X(NAME, name, number, in place, written): `in place` is the set of sources (bit i for src[i]) that dst may be, `written` the set
 * of those that the op changes beside dst: state that one run leaves to the next. Hazards count a written source like dst. */
#define QP_OP_LIST(X)                                                                       \
    X(GET_ROWS, get_rows, 1, 0, 0)                                                          \
    X(NORM, norm, 2, 1u << QP_NORM_X, 0)                                                    \
    X(MATMUL, matmul, 3, 1u << QP_MATMUL_RESIDUAL, 0)                                       \
    X(ROPE, rope, 4, 1u << QP_ROPE_X, 0)                                                    \
    X(KV_APPEND, kv_append, 5, 0, 0)                                                        \
    X(ATTENTION, attention, 6, 0, 0)                                                        \
    X(ELEMENTWISE, elementwise, 7, 1u << QP_ELEMENTWISE_A | 1u << QP_ELEMENTWISE_B, 0)      \
    X(COPY, copy, 8, 0, 0)                                                                  \
    X(SAMPLE, sample, 9, 0, 0)                                                              \
    X(EXPERT_ROUTE, expert_route, 10, 0, 0)                                                 \
    X(EXPERT_MATMUL, expert_matmul, 11, 1u << QP_EXPERT_MATMUL_RESIDUAL, 0)                 \
    X(SHORT_CONV, short_conv, 12, 0, 1u << QP_SHORT_CONV_STATE)                             \
    X(DELTA_RULE, delta_rule, 13, 0, 1u << QP_DELTA_RULE_STATE)

typedef uint32_t qp_op_kind;
enum {
    QP_OP_NONE = 0,
#define QP_OP_ENUM(NAME, name, number, in_place, written) QP_OP_##NAME = number,
    QP_OP_LIST(QP_OP_ENUM)
#undef QP_OP_ENUM
        QP_OP_LIMIT = 32
};

typedef uint32_t qp_activation;
enum {
    QP_ACT_NONE = 0,
    QP_ACT_SILU = 1,
    QP_ACT_GELU = 2, /* erf */
    QP_ACT_GELU_TANH = 3,
    QP_ACT_RELU = 4,
    QP_ACT_SIGMOID = 5,
    QP_ACT_GELU_QUICK = 6,
    QP_ACT_SOFTPLUS = 7, /* ln(1 + exp(x)) */
    /* Of a gated pair only: with g = min(a, limit) and u = clamp(b, -limit, limit), g / (1 + exp(−alpha·g)) · (u + 1); alpha and
     * limit are parameters of the op */
    QP_ACT_SWIGLU_CLAMPED = 8,
};

/* QP_OP_GET_ROWS  dst[., ., r] = scale * table[ids[r]]
 *   src[0] table {n, rows of the table}, any format, QP_LAYOUT_GGUF or packed with QP_WEIGHT_ROWS
 *   src[1] ids I32 {rows}. An id outside the table gives a row of zeros.
 *   dst    F32 {n, 1, rows} */
enum { QP_GET_ROWS_TABLE = 0, QP_GET_ROWS_IDS = 1 };
typedef struct qp_get_rows_params {
    float scale;
} qp_get_rows_params;

/* QP_OP_NORM  over ne[0], for each head and row:
 *   RMS    y = x / sqrt(mean(x²) + eps) · w         Zhang & Sennrich 2019, arXiv:1910.07467
 *   LAYER  y = (x − mean) / sqrt(var + eps) · w + b  Ba et al. 2016, arXiv:1607.06450
 *   L2     y = x / max(sqrt(sum(x²)), eps)
 *   src[0] x F32 {n, heads, rows}; src[1] weight F32 {n} or none; src[2] bias F32 {n} or none; dst F32, may be x */
enum { QP_NORM_X = 0, QP_NORM_WEIGHT = 1, QP_NORM_BIAS = 2 };
enum { QP_NORM_RMS = 0, QP_NORM_LAYER = 1, QP_NORM_L2 = 2 };
typedef struct qp_norm_params {
    uint32_t kind;
    float eps;
    float weight_offset; /* added to each weight: 1 for models that store w − 1, else 0 */
} qp_norm_params;

/* QP_OP_MATMUL  with fused dequantisation and epilogue:
 *   a   = scale·(W x) + bias_scale·bias
 *   dst = act(a)                                  no second weight
 *   dst = act(a) · (scale2·(W2 x) + bias_scale2·bias2)   gated pair
 *   and + residual, if there is one.
 *   src[0] W {K, M}, any supported format and layout; src[1] x F32 {K, 1, rows}; src[2] bias F32 {M}; src[3] residual F32
 *   {M, 1, rows}; src[4] W2 like W; src[5] bias2 F32 {M}; dst F32 {M, 1, rows}, may be the residual but not x.
 *   Where the device computes quantised weights with int8 activations these are quantised in blocks of 32 along K, unless
 *   QP_MATMUL_FLOAT is set. */
enum { QP_MATMUL_W = 0, QP_MATMUL_X = 1, QP_MATMUL_BIAS = 2, QP_MATMUL_RESIDUAL = 3, QP_MATMUL_W2 = 4, QP_MATMUL_BIAS2 = 5 };
enum { QP_MATMUL_FLOAT = 1u << 0 };
typedef struct qp_matmul_params {
    float scale, bias_scale;
    float scale2, bias_scale2;
    qp_activation act;
    uint32_t flags;
} qp_matmul_params;

/* QP_OP_ROPE  rotary position embedding (Su et al. 2021, arXiv:2104.09864) of the first n_dims features of each head.
 *   NORMAL rotates pairs (2i, 2i+1), NEOX pairs (i, i + n_dims/2). θ_i = pos · freq_base^(−2i/n_dims) / factor_i.
 *   YaRN (Peng et al. 2023, arXiv:2309.00071): θ = interpolated·(1−mix) + extrapolated·mix, mix = ramp(beta_fast, beta_slow,
 *   original_context)·ext_factor, interpolated = freq_scale·θ; with ext_factor == 0 it is linear scaling. The ramp's ends are whole
 *   pairs, the lower one rounded down and the upper one up, unless QP_ROPE_EXACT_RAMP is set. sin and cos are multiplied by
 *   attn_factor (with ext_factor != 0 also by 1 + 0.1·ln(1/freq_scale)).
 *   MULTI: reserved for sections[4].
 *   src[0] x F32 {head size, heads, rows}; src[1] positions I32 {rows}; src[2] frequency factors F32 {n_dims/2} or none;
 *   dst F32, may be x. n_dims is even and at most the head size; the other features are copied. */
enum { QP_ROPE_X = 0, QP_ROPE_POSITIONS = 1, QP_ROPE_FACTORS = 2 };
enum { QP_ROPE_NORMAL = 0, QP_ROPE_NEOX = 1, QP_ROPE_MULTI = 2 };
enum { QP_ROPE_EXACT_RAMP = 1u << 0 };
typedef struct qp_rope_params {
    uint32_t mode;
    uint32_t n_dims;
    float freq_base, freq_scale;
    float ext_factor, attn_factor, beta_fast, beta_slow;
    uint32_t original_context;
    uint32_t sections[4];
    uint32_t flags;
} qp_rope_params;

/* QP_OP_KV_APPEND  cache[., h, cells[r]] = convert(x[., h, r])
 *   src[0] x F32 {head size, KV heads, rows}; src[1] cells I32 {rows}, a cell outside the cache is skipped;
 *   dst the cache {head size, KV heads, cells}: F32, F16, BF16 or Q8_0, any strides with whole blocks along ne[0]. Two live rows
 *   that name one cell leave it undefined */
enum { QP_KV_APPEND_X = 0, QP_KV_APPEND_CELLS = 1 };

/* QP_OP_ATTENTION  causal, grouped heads: query head h reads KV head h / (heads / KV heads).
 *   s_c = softcap(scale · q·k_c), softcap(x) = cap·tanh(x/cap) where softcap > 0
 *   over the cells c <= pos[r], and c > pos[r] − window where window > 0; a sink adds exp(sink[h]) to the denominator.
 *   dst = Σ softmax(s)_c v_c        (online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867)
 *   src[0] q F32 {K size, heads, rows}; src[1] K cache {K size, KV heads, cells}; src[2] V cache {V size, KV heads, cells};
 *   src[3] positions I32 {rows}, clamped to the cache, a negative one gives zeros; src[4] sinks F32 {heads} or none;
 *   dst F32 {V size, heads, rows} */
enum { QP_ATTENTION_Q = 0, QP_ATTENTION_K = 1, QP_ATTENTION_V = 2, QP_ATTENTION_POSITIONS = 3, QP_ATTENTION_SINKS = 4 };
typedef struct qp_attention_params {
    float scale;
    float softcap;
    uint32_t window;
} qp_attention_params;

/* QP_OP_ELEMENTWISE  dst = f(a, b); b has a's shape, or ne[2] == 1 and is then used for every row.
 *   ADD a + b · MUL a·b · SCALE scale·a + offset · ACT act(a) · GLU act(a)·b · SOFTCAP scale·tanh(a/scale)
 *   (GLU with QP_ACT_SWIGLU_CLAMPED takes alpha from scale and limit from offset)
 *   src[0] a F32; src[1] b F32 or none; dst F32, may be a or b */
enum { QP_ELEMENTWISE_A = 0, QP_ELEMENTWISE_B = 1 };
enum {
    QP_ELEMENTWISE_ADD = 0,
    QP_ELEMENTWISE_MUL = 1,
    QP_ELEMENTWISE_SCALE = 2,
    QP_ELEMENTWISE_ACT = 3,
    QP_ELEMENTWISE_GLU = 4,
    QP_ELEMENTWISE_SOFTCAP = 5,
};
typedef struct qp_elementwise_params {
    uint32_t function;
    qp_activation act;
    float scale, offset;
} qp_elementwise_params;

/* QP_OP_COPY  dst = convert(src[0]): same ne, any pair of formats the device knows (QP_LAYOUT_GGUF), any strides.
 *   Values are rounded (kernels/ref/ref.h says how for Q8_0 and Q4_0). search, for weights: scales are looked for that lose least,
 *   which takes far longer and is the only way into most formats of blocks; an op is refused where the device has no search for
 *   dst's format. It changes nothing in a conversion to Q8_0 or to single elements. */
typedef struct qp_copy_params {
    uint32_t search;
} qp_copy_params;

/* QP_OP_SAMPLE  GREEDY: dst[r] = the index of the largest logit, the lowest one of equals; -1 if a logit is NaN.
 *   src[0] logits F32 {vocabulary, 1, rows}; dst I32 {rows} */
enum { QP_SAMPLE_GREEDY = 0 };
typedef struct qp_sample_params {
    uint32_t kind;
} qp_sample_params;

/* QP_OP_EXPERT_ROUTE  which k experts each row goes to, and with what weight.
 *   p = SOFTMAX or SIGMOID of the logits; SOFTMAX_CHOSEN: the softmax is taken over the k chosen logits only.
 *   Chosen are the k largest of p + bias (SOFTMAX_CHOSEN: of logit + bias; without a bias: of the logits, whose order is the same), of
 *   equals the lower number, in falling order. With groups > 1 only experts of the groups_used best groups may be chosen: a group is
 *   experts/groups neighbours, its score the sum of its two largest p + bias (DeepSeek-AI 2024, arXiv:2412.19437); they hold at least
 *   k experts. The weight is p without the bias; with QP_EXPERT_NORMALISE the k weights are divided by their sum unless that is 0;
 *   then they are multiplied by scale.
 *   src[0] logits F32 {experts, 1, rows}; src[1] bias F32 {experts} or none
 *   dst    F32 {k, 2, rows}: [i, 0, r] the weight, [i, 1, r] the number of the expert. A row with a logit, or with a
 *          bias, that is not finite gets NaN weights and the experts 0..k-1 */
enum { QP_EXPERT_ROUTE_LOGITS = 0, QP_EXPERT_ROUTE_BIAS = 1 };
enum { QP_GATE_SOFTMAX = 0, QP_GATE_SIGMOID = 1, QP_GATE_SOFTMAX_CHOSEN = 2 };
enum { QP_EXPERT_NORMALISE = 1u << 0 };
typedef struct qp_expert_route_params {
    uint32_t gate; /* QP_GATE_* */
    uint32_t flags;
    uint32_t groups, groups_used; /* 0 or 1: no groups */
    float scale;
} qp_expert_route_params;

/* QP_OP_EXPERT_MATMUL  a matmul with the matrix of each row's chosen experts. With e = expert i of row r:
 *   a_i = scales[e]·(W_e x_i) + bias_e,  y_i = act(a_i), or act(a_i)·(W2_e x_i + bias2_e) for a gated pair
 *   dst[., i, r] = y_i, or with QP_EXPERT_SUM dst[., 0, r] = sum over i of weight_i·y_i, + residual if there is one.
 *   src[0] W {K, M, experts}; src[1] x F32 {K, 1 or k, rows}: with 1 every expert of the row gets the same x; src[2] bias F32
 *   {M, experts} or none; src[3] residual F32 {M, 1, rows} (with QP_EXPERT_SUM only) or none; src[4] W2 like W or none; src[5] bias2
 *   F32 {M, experts} or none; src[6] route: what EXPERT_ROUTE wrote, F32 {k, 2, rows}; src[7] scales F32 {experts} or none, not with a
 *   gated pair; dst F32 {M, k, rows}, with QP_EXPERT_SUM {M, 1, rows}, may be the residual but not x.
 *   The sum is taken in the order of i. An expert number outside W, or NaN, gives zeros for that i and adds nothing to the sum, whatever
 *   its weight. Activations quantised as for MATMUL. QP_ACT_SWIGLU_CLAMPED with a gated pair only. */
enum {
    QP_EXPERT_MATMUL_W = 0,
    QP_EXPERT_MATMUL_X = 1,
    QP_EXPERT_MATMUL_BIAS = 2,
    QP_EXPERT_MATMUL_RESIDUAL = 3,
    QP_EXPERT_MATMUL_W2 = 4,
    QP_EXPERT_MATMUL_BIAS2 = 5,
    QP_EXPERT_MATMUL_ROUTE = 6,
    QP_EXPERT_MATMUL_SCALES = 7,
};
enum { QP_EXPERT_SUM = 1u << 1 }; /* beside QP_MATMUL_FLOAT */
typedef struct qp_expert_matmul_params {
    qp_activation act;
    uint32_t flags;
    float alpha, limit; /* of QP_ACT_SWIGLU_CLAMPED */
} qp_expert_matmul_params;

/* QP_OP_SHORT_CONV  causal convolution over time, each channel on its own:
 *   dst[c, r] = act(sum over j < width of w[j, c]·x[c, r - width + 1 + j] + bias[c])
 *   Rows before the first come from the state, which afterwards holds the last width - 1 live rows. A row at position 0 begins a
 *   sequence: what comes before it counts as zeros.
 *   src[0] x F32 {channels, 1, rows}; src[1] w F32 {width, channels}; src[2] bias F32 {channels} or none; src[3] positions I32 {rows};
 *   src[4] state F32 {channels, width - 1}, oldest row first, read and written; dst F32 {channels, 1, rows}. width is 2 to 16 */
enum {
    QP_SHORT_CONV_X = 0,
    QP_SHORT_CONV_W = 1,
    QP_SHORT_CONV_BIAS = 2,
    QP_SHORT_CONV_POSITIONS = 3,
    QP_SHORT_CONV_STATE = 4,
};
typedef struct qp_short_conv_params {
    qp_activation act;
} qp_short_conv_params;

/* QP_OP_DELTA_RULE  gated delta rule (Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464), row after row, for each value head h with its
 *   state S {K size, V size}, and key head j = h mod key heads (QP_DELTA_GROUPED: h / (value heads / key heads)):
 *   S = exp(g)·S;  d = beta·(v - Sᵀ k);  S = S + k dᵀ;  dst = scale·Sᵀ q
 *   A row at position 0 begins a sequence: S is zero before it.
 *   src[0] q, src[1] k F32 {K size, key heads, rows}; src[2] v F32 {V size, value heads, rows}; src[3] g F32 {value heads, 1, rows};
 *   src[4] beta F32 {value heads, 1, rows}; src[5] positions I32 {rows}; src[6] state F32 {V size, K size, value heads}, read and
 *   written; dst F32 {V size, value heads, rows}. Value heads are a multiple of the key heads, K size is at most QP_DELTA_MAX_K */
enum {
    QP_DELTA_RULE_Q = 0,
    QP_DELTA_RULE_K = 1,
    QP_DELTA_RULE_V = 2,
    QP_DELTA_RULE_GATE = 3,
    QP_DELTA_RULE_BETA = 4,
    QP_DELTA_RULE_POSITIONS = 5,
    QP_DELTA_RULE_STATE = 6,
};
enum { QP_DELTA_GROUPED = 1u << 0 };
enum { QP_DELTA_MAX_K = 512 }; /* the largest K size */
typedef struct qp_delta_rule_params {
    float scale;
    uint32_t flags;
} qp_delta_rule_params;

enum { QP_OP_SOURCES = 8 };

/* One operation: flat data, copied by program_create. dst shares no byte with a source, unless the op's comment (and QP_OP_LIST) lets it
 * be that source: then the two are the same tensor (buffer, offset, ne, nb). */
typedef struct qp_op {
    uint32_t struct_size;
    qp_op_kind kind;
    uint32_t version; /* of the kind's meaning; all are 1 now. A plugin refuses a version it does not know */
    uint32_t tag;     /* the caller's, for explain and profiles; the plugin only hands it back */
    /* I32 {1}, read when the op runs (an earlier op may have written it): only rows [0, live) are computed, the others are left
     * as they are. It is clamped to [0, rows]; rows is ne[2] of dst, for KV_APPEND and SAMPLE that of src[0]. ne[0] == 0: no such
     * tensor, every row. */
    qp_tensor live;
    qp_tensor dst;
    qp_tensor src[QP_OP_SOURCES];
    union {
        qp_get_rows_params get_rows;
        qp_norm_params norm;
        qp_matmul_params matmul;
        qp_rope_params rope;
        qp_attention_params attention;
        qp_elementwise_params elementwise;
        qp_copy_params copy;
        qp_sample_params sample;
        qp_expert_route_params expert_route;
        qp_expert_matmul_params expert_matmul;
        qp_short_conv_params short_conv;
        qp_delta_rule_params delta_rule;
        uint64_t bytes[16];
    } p;
} qp_op;

typedef struct qp_op_info {
    uint32_t struct_size;
    uint32_t reserved;
    char kernel[64];        /* the variant that would run, such as "matmul_q8_0.avx512_vnni" */
    uint64_t scratch_bytes; /* for this op alone; program_measure tells it for a program */
    uint64_t bytes_moved;   /* the least that must be read and written at full rows, for a prediction */
    uint64_t operations;    /* multiply-adds count two */
    char note[192];         /* why a better kernel was not taken (the op, the device, the user's choice), "" when there is none */
} qp_op_info;

/* ---- weights ------------------------------------------------------------------------------------------------------ */

enum {
    QP_WEIGHT_MATMUL = 1u << 0, /* W or W2 of matmuls */
    QP_WEIGHT_ROWS = 1u << 1,   /* table of get_rows */
    QP_WEIGHT_PLAIN = 1u << 2,  /* small vectors (norms, biases): layout stays QP_LAYOUT_GGUF */
};

typedef struct qp_weight_desc {
    uint32_t struct_size;
    qp_format format; /* on disk */
    uint32_t uses;    /* QP_WEIGHT_* */
    uint32_t reserved;
    int64_t ne[4];
} qp_weight_desc;

typedef struct qp_weight_info {
    uint32_t struct_size;
    uint32_t layout;
    uint64_t bytes;     /* on the device, padding included */
    uint64_t alignment; /* of its offset */
    int64_t row_step;   /* weight_pack takes rows in multiples of this, but for the last ones */
} qp_weight_info;

/* ---- programs ----------------------------------------------------------------------------------------------------- */

/* A stretch of a buffer. */
typedef struct qp_range {
    qp_buffer *buffer;
    uint64_t offset;
    uint64_t size;
} qp_range;

/* A program is a list of ops, checked, compiled and recorded once, run many times. Ops run as if one after another, in
 * order; the plugin finds the hazards from the tensors' ranges and may run independent ones together or fuse them. So do the
 * runs of one device: each behaves as if it began when the one submitted before it had ended, whatever their programs, and sees
 * all that one wrote. (A run that waits holds up those behind it.)
 *
 * All that differs between two runs is the step block: a small range that program_run fills from the caller's memory before
 * the first op (token ids, positions, cells, live row counts: I32 tensors that ops name as sources). It belongs in weight_heap. */
enum { QP_RUNS_QUEUED = 8 }; /* runs of one device that can be under way at least; program_run may wait for a place beyond these */

typedef struct qp_program_desc {
    uint32_t struct_size;
    uint32_t op_stride; /* sizeof(qp_op) as the caller knows it */
    const qp_op *ops;
    uint32_t op_count;
    uint32_t reserved;
    qp_range step;    /* buffer NULL: the program has no step block */
    /* At least program_measure's scratch_bytes. Its contents are undefined when a run begins: programs of one device share it. */
    qp_range scratch;
    /* Values that nobody reads once a run is over (core's arena): a plugin that fuses an op with all that read its result may leave
     * the result here unwritten. Every run writes what it reads here. buffer NULL: none. */
    qp_range transient;
} qp_program_desc;

typedef struct qp_program_memory {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t scratch_bytes;     /* in weight_heap, aligned like a tensor */
    uint64_t scratch_alignment;
    uint64_t host_bytes;        /* the plugin's own bookkeeping, about */
    uint64_t device_bytes;      /* on the device besides scratch, about: recorded commands, parameter blocks, counters */
} qp_program_memory;

typedef struct qp_signal {
    qp_timeline *timeline;
    uint64_t value;
} qp_signal;

typedef struct qp_run {
    uint32_t struct_size;
    uint32_t wait_count, signal_count;
    uint32_t reserved;
    const void *step; /* step.size bytes, copied before program_run returns; NULL: leave the block as it is */
    /* Timelines of the program's device. A value may be waited for before anybody has asked to signal it. */
    const qp_signal *waits;
    const qp_signal *signals; /* each larger than any value its timeline has or is about to get */
} qp_run;

/* ---- the backend table -------------------------------------------------------------------------------------------- */

typedef struct qp_backend {
    uint32_t struct_size;
    uint32_t reserved;

    /* Devices. Thread rule: any. Indices are stable while the plugin is loaded. */
    uint32_t (*device_count)(void);
    qp_status (*device_info)(uint32_t index, qp_device_info *info, qp_text *error); /* budgets are those of now */
    /* options may be NULL. A variant that the device does not have: QP_ERR_NOT_FOUND, the text lists those it has. */
    qp_status (*device_open)(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error);
    void (*device_close)(qp_device *device); /* waits for what runs */

    /* Buffers. Thread rule: any. Contents are undefined at first. map gives an address that stays valid until destroy, for
     * HOST_VISIBLE heaps only. import wraps host memory without a copy (the caller keeps it alive and unchanged). */
    qp_status (*buffer_create)(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error);
    qp_status (*buffer_import)(qp_device *device, void *memory, uint64_t size, qp_buffer **out, qp_text *error);
    qp_status (*buffer_map)(qp_buffer *buffer, void **address, qp_text *error);
    void (*buffer_destroy)(qp_buffer *buffer);

    /* Transfers between host memory and a buffer. They return when the caller's memory may be reused and the data can be
     * seen by what is submitted next; not ordered with programs under way: wait first for those that touch the same bytes.
     * Whether a read of other bytes waits for programs under way is up to the device; reading a mapping never does.
     * Thread rule: any. */
    qp_status (*buffer_write)(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error);
    qp_status (*buffer_read)(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error);

    /* Would this op run, and how? QP_OK, or QP_ERR_UNSUPPORTED with the reason in words. Tensors need no buffer yet (a source
     * that is present then has ne[0] > 0). What this says is what program_create does. info may be NULL. Thread rule: any. */
    qp_status (*op_query)(qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason);

    /* Weights. layout says how a tensor will lie on the device. pack converts rows [row, row + rows) of the whole tensor (rows
     * counted over ne[1]·ne[2]·ne[3]) from GGUF bytes at src to the tensor that starts at dst.offset. Different rows may be
     * packed from several threads at a time. It returns when src may be reused; what is submitted next sees the rows (the device
     * may still be packing, and a failure then comes out of timeline_wait). Thread rule: any. */
    qp_status (*weight_layout)(qp_device *device, const qp_weight_desc *desc, qp_weight_info *info, qp_text *error);
    qp_status (*weight_pack)(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                             int64_t rows, qp_range dst, qp_text *error);

    /* Programs. measure and create check every op and name the first that is refused; for measure, as for op_query, tensors
     * need no buffer yet, so that a host can learn what a program takes before it allocates. Thread rule: device. run starts the
     * program once every wait is reached and returns without waiting for it (but see QP_RUNS_QUEUED). A failure while it runs is
     * kept and comes out of timeline_wait. destroy waits for its runs; the caller sees to it that what they wait for comes. */
    qp_status (*program_measure)(qp_device *device, const qp_program_desc *desc, qp_program_memory *memory, qp_text *error);
    qp_status (*program_create)(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error);
    qp_status (*program_run)(qp_program *program, const qp_run *run, qp_text *error);
    void (*program_destroy)(qp_program *program);

    /* Timeline semaphores: a number that only grows. wait returns QP_OK once the value is reached, QP_TIMEOUT when timeout_ns
     * passed (0: only look; UINT64_MAX: forever), QP_ERR_DEVICE_LOST, or the error of the run that would have signalled. signal
     * refuses a value that is not larger than the timeline's (QP_ERR_INVALID). Thread rule: any. */
    qp_status (*timeline_create)(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error);
    qp_status (*timeline_value)(qp_timeline *timeline, uint64_t *value);
    qp_status (*timeline_signal)(qp_timeline *timeline, uint64_t value, qp_text *error);
    qp_status (*timeline_wait)(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error);
    void (*timeline_destroy)(qp_timeline *timeline);

    /* Optional tables by name and version, such as "quern.profiling/1"; NULL when there is none. Thread rule: any. */
    const void *(*get_extension)(const char *name);
} qp_backend;

/* ---- optional tables ---- */

/* "quern.kernels/1": tests of every kernel that the device could run, one after another, whichever of them ops would get. */
enum { QP_KERNEL_UNTESTED = 0, QP_KERNEL_RIGHT = 1, QP_KERNEL_WRONG = 2 };
typedef struct qp_kernel_result {
    uint32_t struct_size;
    uint32_t result;  /* QP_KERNEL_* */
    char kernel[64];  /* as in qp_op_info; several results have one name where a kernel comes in several forms */
    char words[192];  /* what is wrong, or why it is not tested; "" else */
} qp_kernel_result;
/* What a driver's compiler made of a kernel. Its figures have the names that the driver gives them ("VGPRs", "Spill Count"). */
enum {
    QP_CODE_TAKEN = 1u << 0, /* only kernels that ops would get, were all of them right */
    QP_CODE_TEXTS = 1u << 1, /* with the driver's own texts, its assembly for example, where it hands them out */
};
typedef struct qp_kernel_figure {
    char name[64];
    double value;
} qp_kernel_figure;
typedef struct qp_kernel_listing {
    const char *name; /* "Assembly" */
    const char *text;
} qp_kernel_listing;
typedef struct qp_kernel_code {
    uint32_t struct_size;
    uint32_t result;    /* QP_KERNEL_RIGHT: it compiles; QP_KERNEL_WRONG: the driver does not take it */
    char kernel[64];    /* as in qp_op_info, the first that uses this module with these constants */
    char module[128];   /* the module and what it was made for: "matmul_dot_Q4_K 0=64 1=1" */
    char words[192];    /* why it does not compile; "" else */
    uint64_t time_ns;   /* that the driver took; what quern has kept is not used, what the driver keeps by itself may be */
    uint32_t subgroup;  /* the size that its subgroups have, 0: not told */
    uint32_t figure_count;
    const qp_kernel_figure *figures;   /* this and the next until the call returns */
    const qp_kernel_listing *listings;
    uint32_t listing_count;
    uint32_t reserved;
} qp_kernel_code;
typedef struct qp_kernels {
    uint32_t struct_size;
    uint32_t reserved;
    /* only: those whose name contains this, NULL: all. each returns 0 to go on; else this returns QP_ERR_CANCELLED. What was known
     * of a kernel before is not believed, and what is found holds for programs made from now on. Thread rule: any; each is called by
     * the calling thread. */
    qp_status (*test)(qp_device *device, const char *only, int (*each)(void *ctx, const qp_kernel_result *result), void *ctx, qp_text *error);
    /* The same kernels, or with QP_CODE_TAKEN those that ops would get, compiled by the driver and not run: what its compiler tells. */
    qp_status (*compile)(qp_device *device, const char *only, uint32_t flags, int (*each)(void *ctx, const qp_kernel_code *code), void *ctx,
                         qp_text *error);
} qp_kernels;

/* The one exported object. */
typedef struct qp_plugin {
    uint32_t magic; /* QP_MAGIC */
    uint32_t struct_size;
    uint32_t abi_major, abi_minor; /* of the header it was built with */
    const char *name;              /* "cpu", "vulkan", …: lower case, no spaces */
    const char *version;
    /* Called once after loading. Returns the backend table, which lives as long as the plugin is loaded, or NULL with the
     * reason, for example that no driver is installed. host lives as long. Thread rule: one call at a time. */
    const qp_backend *(*query)(uint32_t host_minor, const qp_host *host, qp_text *reason);
} qp_plugin;

#define QP_PLUGIN_SYMBOL "quern_plugin"

#ifdef __cplusplus
}
#endif
#endif
