/* SPDX-License-Identifier: MIT
 * engine/program.h: one program of a session: the model's ops for a fixed number of rows, and the step block that tells two runs
 * apart. */
#ifndef ENGINE_PROGRAM_H
#define ENGINE_PROGRAM_H

#include "engine/model.h"

/* Where the I32 values of a step lie in the step block, in bytes. */
typedef struct step_layout {
    uint64_t live;          /* {1}: real rows */
    uint64_t selected_live; /* {1}: rows that logits are wanted of, of those in `selected` */
    uint64_t tokens;        /* {rows}, once for each part of the embedding */
    uint64_t positions;     /* {rows}: also the cells */
    uint64_t selected;      /* {1}: the row that goes on to the logits */
    uint64_t bytes;
} step_layout;

typedef struct program {
    uint32_t rows;
    int select; /* logits of one selected row; else of all of them */
    int floats; /* matrix products take activations as they are */
    int floats_anyway; /* … and would without being told: known once it is made */
    step_layout layout;
    /* from program_measure; device_bytes is what the plugin takes by itself, about */
    uint64_t arena_bytes, scratch_bytes, scratch_alignment, device_bytes;
    uint32_t op_count;
    quern_program *made;
} program;

/* A stretch of device memory; buffer NULL: not allocated yet. */
typedef struct region {
    quern_buffer *buffer;
    uint64_t offset, bytes;
} region;

/* The session's tensors and memory, shared by its programs. */
typedef struct program_memory {
    uint32_t cells;                     /* of the context */
    const qp_tensor *k_cache, *v_cache; /* by layer */
    const qp_tensor *conv_state, *rule_state;
    region step, logits, sampled, arena, scratch;
} program_memory;

/* parts: of the embedding. */
void program_init(program *p, uint32_t rows, uint32_t parts, uint32_t session_flags);

/* Writes the graph down and asks the device what it takes: the bytes end up in *p. Nothing is kept but the numbers. */
quern_status program_measure(program *p, quern_model *model, const program_memory *memory, quern_error *error);
/* Makes the program, in the memory that program_measure asked for. */
quern_status program_make(program *p, quern_model *model, const program_memory *memory, quern_error *error);
void program_destroy(program *p);
/* The ops of the program; *graph owns them and is the caller's to destroy, also on failure. Tensors have a place as far as memory
 * is allocated. */
quern_status program_list_ops(program *p, quern_model *model, const program_memory *memory, quern_graph **graph, const qp_op **ops,
                              quern_error *error);

#endif
