/* SPDX-License-Identifier: MIT
 * quern/device.h: finding compute devices and driving one. Calls are checked here, then go to the device's plugin.
 *
 * Lifetimes: context > device > buffer, timeline, program. Destroy children first (a parent destroyed early lives on, out of reach,
 * until its last child is gone); destroying NULL does nothing. A timeline outlives the runs that name it.
 *
 * Threads: every function may be called from any thread at any time; calls on one object that destroys it are the caller's to
 * order. Handles inside descriptions (qp_tensor.buffer, qp_signal.timeline) are looked up: a wrong or stale one is an error.
 *
 * Structs of plugin.h: the caller sets struct_size, also of those that are filled in, which then are as far as that goes. */
#ifndef QUERN_DEVICE_H
#define QUERN_DEVICE_H

#include <quern/plugin.h>
#include <quern/status.h>
#include <quern/topology.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_context quern_context;
typedef struct quern_device quern_device;
typedef struct quern_buffer quern_buffer;
typedef struct quern_program quern_program;
typedef struct quern_timeline quern_timeline;

/* ---- finding devices ---- */

typedef struct quern_context_options {
    uint32_t struct_size;
    uint32_t probe_timeout_ms;   /* for each plugin's child process; 0: 2000 */
    const char *plugin_path;     /* folders, separated by ':', searched before the others; NULL: none */
    const char *only;            /* probe only the plugin of this name ("cpu"); NULL: all */
    const quern_topology *topology; /* for locality and the placing of threads; NULL: this machine's */
} quern_context_options;

/* Searches plugins (options' plugin_path, then QUERN_PLUGIN_PATH, then the folder beside this library, then the install folder;
 * files named quern_NAME.so, the first of a name wins), probes each in a child process, all at once, and lists the devices.
 * A plugin that fails costs one quern_plugin_failure, never an error here. options may be NULL.
 *
 * The child is the program quern-probe (QUERN_PROBE names another place for it); where there is none, or no process can be made,
 * plugins are tried in this process, with a warning in the log. Returns within probe_timeout_ms and half a second. Thread-safe. */
QUERN_API quern_status quern_context_create(const quern_context_options *options, quern_context **out, quern_error *error);
QUERN_API void quern_context_destroy(quern_context *context);
QUERN_API const quern_topology *quern_context_topology(const quern_context *context);

typedef struct quern_plugin_failure {
    char name[64];    /* "vulkan" */
    char path[512];   /* the file */
    char reason[512]; /* a sentence */
} quern_plugin_failure;

/* A backend's view of a card that another backend is preferred for. */
typedef struct quern_device_view {
    char plugin[64];
    uint32_t plugin_index; /* the plugin's number of the device */
    qp_device_info info;
} quern_device_view;

enum { QUERN_MAX_VIEWS = 4 };

/* One physical device. */
typedef struct quern_device_entry {
    char id[80];       /* what --device takes: "cpu", "vulkan", "cuda:1" (the number only where a plugin has several) */
    uint32_t view_count;
    quern_device_view views[QUERN_MAX_VIEWS]; /* views[0] is the preferred one */
    char preferred_why[128]; /* why views[0], "" when it is the only one */
    int32_t numa_node; /* nearest node, -1: all alike or unknown */
    uint64_t cpuset[QUERN_CPUSET_WORDS];
} quern_device_entry;

/* In order of preference for running a model; NULL past the last. Live as long as the context. Thread-safe. */
QUERN_API const quern_device_entry *quern_context_device(const quern_context *context, uint32_t index);
QUERN_API const quern_plugin_failure *quern_context_failure(const quern_context *context, uint32_t index);
/* NULL or "auto": the first. An unknown id: QP_ERR_NOT_FOUND, the text lists the ids there are and, if a plugin of that name
 * failed, why. */
QUERN_API quern_status quern_context_find(const quern_context *context, const char *id, const quern_device_entry **out, quern_error *error);

/* ---- a device ---- */

typedef struct quern_device_options {
    uint32_t struct_size;
    uint32_t threads;    /* see qp_device_options */
    const char *variant;
    uint32_t max_submit_ms;
    uint32_t reserved;
} quern_device_options;

/* Loads the plugin into this process (the first time a device of it is opened; it then stays loaded until the process ends, and
 * contexts share it: drivers do not bear being unloaded) and opens the device. id as in quern_context_find, or the id of another
 * view of a card. options may be NULL. Thread-safe. */
QUERN_API quern_status quern_device_open(quern_context *context, const char *id, const quern_device_options *options, quern_device **out, quern_error *error);
QUERN_API void quern_device_close(quern_device *device);
/* As it was when opened. */
QUERN_API const qp_device_info *quern_device_info(const quern_device *device);
QUERN_API const char *quern_device_id(const quern_device *device);
/* Asks again, for the budgets of now. */
QUERN_API quern_status quern_device_refresh(quern_device *device, qp_device_info *info, quern_error *error);

QUERN_API quern_status quern_buffer_create(quern_device *device, uint32_t heap, uint64_t size, quern_buffer **out, quern_error *error);
/* A buffer that is host memory, used in place. The caller keeps it alive and unchanged until the buffer is gone.
 * QP_ERR_UNSUPPORTED where the device has no QP_DEVICE_CAN_IMPORT. */
QUERN_API quern_status quern_buffer_import(quern_device *device, void *memory, uint64_t size, quern_buffer **out, quern_error *error);
/* The memory is given back once no program uses the buffer any more. */
QUERN_API void quern_buffer_destroy(quern_buffer *buffer);
QUERN_API uint64_t quern_buffer_size(const quern_buffer *buffer);
QUERN_API quern_status quern_buffer_map(quern_buffer *buffer, void **address, quern_error *error);
QUERN_API quern_status quern_buffer_write(quern_buffer *buffer, uint64_t offset, const void *data, uint64_t size, quern_error *error);
QUERN_API quern_status quern_buffer_read(quern_buffer *buffer, uint64_t offset, void *data, uint64_t size, quern_error *error);
/* A contiguous tensor of rows in GGUF layout inside a buffer (buffer may be NULL for a shape alone); QP_ERR_INVALID when it does
 * not fit or a row is not whole blocks. */
QUERN_API quern_status quern_buffer_tensor(quern_buffer *buffer, uint64_t offset, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2,
                                           int64_t ne3, qp_tensor *out, quern_error *error);
QUERN_API qp_range quern_buffer_range(quern_buffer *buffer, uint64_t offset, uint64_t size);

/* What an op of this kind is called: "matmul"; "unknown" for a number that no kind has. Any thread, the text is valid forever. */
QUERN_API const char *quern_op_name(qp_op_kind kind);
QUERN_API quern_status quern_op_query(quern_device *device, const qp_op *op, qp_op_info *info, quern_error *reason);
/* Tests the kernels of the device whose names contain `only` (NULL: all) on small tensors, for seconds or minutes, and hands out what it finds (qp_kernels in plugin.h) from
 * this thread; each returns 0 to go on, else QP_ERR_CANCELLED comes back. QP_ERR_UNSUPPORTED: the plugin has no such tests. */
QUERN_API quern_status quern_kernels_test(quern_device *device, const char *only, int (*each)(void *ctx, const qp_kernel_result *result), void *ctx,
                                          quern_error *error);
/* Compiles them instead, flags QP_CODE_*, and hands out what the driver's compiler tells (qp_kernel_code). Nothing is run. */
QUERN_API quern_status quern_kernels_compile(quern_device *device, const char *only, uint32_t flags,
                                             int (*each)(void *ctx, const qp_kernel_code *code), void *ctx, quern_error *error);
QUERN_API quern_status quern_weight_layout(quern_device *device, const qp_weight_desc *desc, qp_weight_info *info, quern_error *error);
QUERN_API quern_status quern_weight_pack(quern_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes,
                                         int64_t row, int64_t rows, quern_buffer *dst, uint64_t offset, quern_error *error);

QUERN_API quern_status quern_program_measure(quern_device *device, const qp_program_desc *desc, qp_program_memory *memory, quern_error *error);
QUERN_API quern_status quern_program_create(quern_device *device, const qp_program_desc *desc, quern_program **out, quern_error *error);
/* Starts it. The three-argument form of the common case: fill the step block, then signal timeline at value. step may be NULL. */
QUERN_API quern_status quern_program_run(quern_program *program, const void *step, quern_timeline *timeline, uint64_t value, quern_error *error);
QUERN_API quern_status quern_program_submit(quern_program *program, const qp_run *run, quern_error *error); /* in full */
QUERN_API void quern_program_destroy(quern_program *program);

QUERN_API quern_status quern_timeline_create(quern_device *device, uint64_t value, quern_timeline **out, quern_error *error);
QUERN_API quern_status quern_timeline_value(quern_timeline *timeline, uint64_t *value, quern_error *error);
QUERN_API quern_status quern_timeline_signal(quern_timeline *timeline, uint64_t value, quern_error *error);
QUERN_API quern_status quern_timeline_wait(quern_timeline *timeline, uint64_t value, uint64_t timeout_ns, quern_error *error);
QUERN_API qp_timeline *quern_timeline_handle(quern_timeline *timeline); /* for qp_signal */
QUERN_API void quern_timeline_destroy(quern_timeline *timeline);

#ifdef __cplusplus
}
#endif
#endif
