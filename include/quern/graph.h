/* SPDX-License-Identifier: MIT
 * quern/graph.h: writing down a model's ops once and giving the values between them room in one arena.
 *
 * A graph is a list of ops over values. A value is bound (lies in a buffer the caller owns: weights, KV cache, step block,
 * results) or temporary (lies in the arena from the op that writes it first to the op that reads it last). plan() gives each
 * temporary its offset; compile() turns the ops into a device's program. The graph may be destroyed after that.
 *
 * Not thread-safe: one thread at a time for each graph. */
#ifndef QUERN_GRAPH_H
#define QUERN_GRAPH_H

#include <quern/device.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_graph quern_graph;
typedef uint32_t quern_value; /* 0: none */

QUERN_API quern_status quern_graph_create(quern_graph **out, quern_error *error);
QUERN_API void quern_graph_destroy(quern_graph *graph);

/* Errors of these three are kept in the graph and come out of plan(), so that model code stays readable: they return 0, and 0 as
 * a source means "none". The shape is {ne0, ne1, ne2}; see qp_tensor for what the dimensions mean. */
QUERN_API quern_value quern_graph_bind(quern_graph *graph, const qp_tensor *tensor);
QUERN_API quern_value quern_graph_temp(quern_graph *graph, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2);
/* The same bytes with another shape, contiguous, starting `offset` bytes into base; nb0… are the base's for dimensions whose
 * stride is given as 0. */
QUERN_API quern_value quern_graph_view(quern_graph *graph, quern_value base, uint64_t offset, const int64_t ne[4], const int64_t nb[4]);

/* The shape and place of a value (buffer NULL and offset 0 for temporaries before plan). */
QUERN_API quern_status quern_graph_tensor(const quern_graph *graph, quern_value value, qp_tensor *out, quern_error *error);

/* Adds an op: kind and parameters (params may be NULL: zeros) of params_size bytes, the destination, sources in the op's order.
 * live: the value that holds the live row count, 0: all rows. tag: for explain. */
QUERN_API void quern_graph_op(quern_graph *graph, qp_op_kind kind, const void *params, size_t params_size, quern_value dst,
                              const quern_value *sources, uint32_t source_count, quern_value live, uint32_t tag);

/* Places the temporaries. alignment: of each offset, a power of two. *arena_bytes is all they need together. */
QUERN_API quern_status quern_graph_plan(quern_graph *graph, uint64_t alignment, uint64_t *arena_bytes, quern_error *error);

/* The ops with their tensors resolved; arena (at least arena_bytes) may be NULL to ask the device about them before anything is
 * allocated: temporaries then have no buffer. The array belongs to the graph and is valid until it changes. */
QUERN_API quern_status quern_graph_ops(quern_graph *graph, quern_buffer *arena, uint64_t arena_offset, const qp_op **ops, uint32_t *count, quern_error *error);

#ifdef __cplusplus
}
#endif
#endif
