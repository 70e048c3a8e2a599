/* SPDX-License-Identifier: MIT
 * quern/engine.h: libquern-engine: model files, tokenizers, and sessions that turn tokens into tokens.
 *
 * Lifetimes: quern_context (device.h) > quern_device > model > session. A gguf and a tokenizer may also stand alone. */
#ifndef QUERN_ENGINE_H
#define QUERN_ENGINE_H

#include <quern/device.h>
#include <quern/format.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- GGUF files --------------------------------------------------------------------------------------------------- */

typedef struct quern_gguf quern_gguf;

/* Value types, numbered as in the file. */
typedef enum quern_gguf_type {
    QUERN_GGUF_UINT8 = 0, QUERN_GGUF_INT8 = 1, QUERN_GGUF_UINT16 = 2, QUERN_GGUF_INT16 = 3, QUERN_GGUF_UINT32 = 4,
    QUERN_GGUF_INT32 = 5, QUERN_GGUF_FLOAT32 = 6, QUERN_GGUF_BOOL = 7, QUERN_GGUF_STRING = 8, QUERN_GGUF_ARRAY = 9,
    QUERN_GGUF_UINT64 = 10, QUERN_GGUF_INT64 = 11, QUERN_GGUF_FLOAT64 = 12,
} quern_gguf_type;

/* Not terminated; may hold any bytes. */
typedef struct quern_string { const char *data; uint64_t size; } quern_string;

typedef struct quern_gguf_tensor {
    quern_string name; /* checked: 1..127 bytes, no control bytes, also terminated */
    qp_format format;
    uint32_t dims;
    int64_t ne[4];    /* 1 for dimensions that are not there */
    uint64_t offset;  /* from the start of the file */
    uint64_t bytes;
} quern_gguf_tensor;

typedef struct quern_gguf_kv {
    quern_string key; /* also terminated */
    quern_gguf_type type;
    quern_gguf_type element_type; /* of an array */
    uint64_t count;               /* elements of an array, else 1 */
} quern_gguf_kv;

/* Opens a GGUF v2 or v3 file and reads its header: every count, size, offset and type in it is checked against the file's
 * size before use, and tensors may not overlap the header or the file's end. Tensor data is not read. A file in parts
 * (split.count > 1) is refused by name. The text of an error begins with the path. Not thread-safe to open/close; all getters
 * may be called from any thread. */
QUERN_API quern_status quern_gguf_open(const char *path, quern_gguf **out, quern_error *error);
/* The same from memory (borrowed until close), for tests and embedded models. */
QUERN_API quern_status quern_gguf_open_memory(const void *data, uint64_t size, const char *name, quern_gguf **out, quern_error *error);
QUERN_API void quern_gguf_close(quern_gguf *gguf);
QUERN_API const char *quern_gguf_path(const quern_gguf *gguf);
QUERN_API uint32_t quern_gguf_version(const quern_gguf *gguf);
QUERN_API uint64_t quern_gguf_file_size(const quern_gguf *gguf);
QUERN_API uint32_t quern_gguf_alignment(const quern_gguf *gguf);

QUERN_API uint64_t quern_gguf_kv_count(const quern_gguf *gguf);
QUERN_API const quern_gguf_kv *quern_gguf_kv_at(const quern_gguf *gguf, uint64_t index);
QUERN_API const quern_gguf_kv *quern_gguf_find(const quern_gguf *gguf, const char *key); /* NULL: not there */
/* Typed access to element `index` of a key (0 unless an array). Integers of any width and bool convert when the value fits;
 * floats only to floats (and integers to floats). QP_ERR_NOT_FOUND when the key is missing, QP_ERR_FORMAT when the type is wrong. */
QUERN_API quern_status quern_gguf_get_u64(const quern_gguf *gguf, const char *key, uint64_t index, uint64_t *out, quern_error *error);
QUERN_API quern_status quern_gguf_get_i64(const quern_gguf *gguf, const char *key, uint64_t index, int64_t *out, quern_error *error);
QUERN_API quern_status quern_gguf_get_f64(const quern_gguf *gguf, const char *key, uint64_t index, double *out, quern_error *error);
QUERN_API quern_status quern_gguf_get_string(const quern_gguf *gguf, const char *key, uint64_t index, quern_string *out, quern_error *error);

QUERN_API uint64_t quern_gguf_tensor_count(const quern_gguf *gguf);
QUERN_API const quern_gguf_tensor *quern_gguf_tensor_at(const quern_gguf *gguf, uint64_t index);
QUERN_API const quern_gguf_tensor *quern_gguf_tensor_find(const quern_gguf *gguf, const char *name);
/* Reads bytes [begin, begin + size) of a tensor into dst. A short read (the file shrank) is an error. Any thread. */
QUERN_API quern_status quern_gguf_read(const quern_gguf *gguf, const quern_gguf_tensor *tensor, uint64_t begin, void *dst, uint64_t size, quern_error *error);

/* ---- tokenizers --------------------------------------------------------------------------------------------------- */

typedef struct quern_tokenizer quern_tokenizer;

typedef struct quern_token_list { int32_t *ids; size_t count; size_t capacity; } quern_token_list; /* start from {0}; grows as needed */
QUERN_API void quern_token_list_free(quern_token_list *list);

enum {
    QUERN_TOKENIZE_BOS = 1u << 0,     /* put the BOS token in front if the model wants one */
    QUERN_TOKENIZE_SPECIAL = 1u << 1, /* text such as "</s>" becomes the special token */
};

typedef enum quern_token_kind { QUERN_TOKEN_NORMAL = 1, QUERN_TOKEN_UNKNOWN = 2, QUERN_TOKEN_CONTROL = 3, QUERN_TOKEN_USER = 4, QUERN_TOKEN_UNUSED = 5, QUERN_TOKEN_BYTE = 6 } quern_token_kind;

/* Builds a tokenizer from a file's vocabulary, which is copied. A file without one (no_vocab) gives QP_ERR_NOT_FOUND; a tokenizer
 * model that is not known, QP_ERR_UNSUPPORTED with its name. The result does not change: any thread may use it. */
QUERN_API quern_status quern_tokenizer_create(const quern_gguf *gguf, quern_tokenizer **out, quern_error *error);
QUERN_API void quern_tokenizer_destroy(quern_tokenizer *tokenizer);
QUERN_API const char *quern_tokenizer_model(const quern_tokenizer *tokenizer); /* "llama", … */
QUERN_API uint32_t quern_tokenizer_size(const quern_tokenizer *tokenizer);
QUERN_API int32_t quern_tokenizer_bos(const quern_tokenizer *tokenizer);     /* -1: none; likewise below */
QUERN_API int32_t quern_tokenizer_eos(const quern_tokenizer *tokenizer);
QUERN_API int quern_tokenizer_is_stop(const quern_tokenizer *tokenizer, int32_t token); /* EOS, EOT, … */
QUERN_API quern_token_kind quern_tokenizer_kind(const quern_tokenizer *tokenizer, int32_t token);
/* Appends the tokens of text (any bytes) to *list. */
QUERN_API quern_status quern_tokenize(const quern_tokenizer *tokenizer, const char *text, size_t size, uint32_t flags, quern_token_list *list, quern_error *error);
/* The bytes of one token: at most size are written, the full length is returned (it may be a part of a UTF-8 sequence). Control
 * tokens give nothing unless `special`. `first`: the token begins a stretch of text, whose leading space quern_tokenize made up
 * (SentencePiece) and which is dropped: quern_token_first(tokenizer, the token before it, -1 if none). */
QUERN_API int quern_token_first(const quern_tokenizer *tokenizer, int32_t before); /* nonzero at the start and after special tokens */
QUERN_API size_t quern_token_bytes(const quern_tokenizer *tokenizer, int32_t token, int first, int special, char *dst, size_t size);

/* Streams text without ever handing out a broken UTF-8 sequence: bytes wait here until a sequence is whole; bytes that can never
 * become one come out as U+FFFD. */
typedef struct quern_utf8_stream { unsigned char pending[4]; uint32_t count; } quern_utf8_stream; /* start from {0} */
/* dst needs room for 3 · (size + 4) bytes. Returns how many were written. size 0 flushes. */
QUERN_API size_t quern_utf8_push(quern_utf8_stream *stream, const char *bytes, size_t size, char *dst);

/* ---- models ------------------------------------------------------------------------------------------------------- */

typedef struct quern_model quern_model;
typedef struct quern_session quern_session;

/* Called while weights load; return nonzero to stop (the load ends with QP_ERR_CANCELLED). From the loading thread. */
typedef int (*quern_progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);

typedef struct quern_model_options {
    uint32_t struct_size;
    uint32_t threads;         /* that read the file and pack; 0: up to 4 */
    quern_progress progress;
    void *progress_ctx;
} quern_model_options;

/* Reads the architecture from the metadata, checks every tensor's presence, shape and format, asks the device how it wants the
 * weights, allocates them as one plan and loads them. The gguf is borrowed and must outlive the model. options may be NULL. */
QUERN_API quern_status quern_model_load(quern_device *device, const quern_gguf *gguf, const quern_model_options *options, quern_model **out, quern_error *error);
QUERN_API void quern_model_destroy(quern_model *model);

typedef struct quern_model_info {
    uint32_t struct_size;
    char architecture[64];
    char name[128];
    uint64_t parameters;
    uint64_t weight_bytes; /* on the device, packing and alignment included */
    uint32_t layers, embedding, heads, kv_heads, head_size_k, head_size_v, feed_forward, vocabulary, context;
    uint32_t experts, experts_used; /* of a mixture's layer, and how many of them a token goes to; 0: no mixture */
    uint64_t active_parameters;     /* that a token passes through; parameters where there is no mixture */
    uint32_t default_context; /* that a session gets when none is asked for and memory suffices */
} quern_model_info;
QUERN_API void quern_model_get_info(const quern_model *model, quern_model_info *info); /* set struct_size */
/* The same from the file's header alone, for any architecture, also one that cannot be run: nothing is loaded, no device is needed.
 * weight_bytes is then the size on disk; a number that the file does not tell is 0. Where layers differ, the first one's numbers. */
QUERN_API quern_status quern_model_inspect(const quern_gguf *gguf, quern_model_info *info, quern_error *error);
/* inspect does not say whether the model could be run; this does, as far as the header tells: what loading would refuse for the sake of
 * the architecture, metadata, tensors' names and shapes or the vocabulary is refused here, in the same words. Whether a device has
 * the kernels and the memory is not looked at. Any thread. */
QUERN_API quern_status quern_model_check(const quern_gguf *gguf, quern_error *error);
/* The architectures that can be run, as general.architecture names them, in the table's order; NULL past the last. Any thread. */
QUERN_API const char *quern_architecture_at(uint32_t index);
/* NULL for a model without a vocabulary. */
QUERN_API const quern_tokenizer *quern_model_tokenizer(const quern_model *model);

/* ---- sessions ----------------------------------------------------------------------------------------------------- */

enum {
    QUERN_SESSION_ALL_LOGITS = 1u << 0, /* logits of every row can be read, not only of the last */
    QUERN_SESSION_FLOAT = 1u << 1,      /* matrix products take activations as floats, also where the device would quantise them to
                                         * 8 bits: slower, and what devices that compute in floats give (QP_MATMUL_FLOAT) */
};

typedef struct quern_session_options {
    uint32_t struct_size;
    uint32_t context;  /* tokens of KV cache; 0: the model's (with longrope its original one), or as much as fits if that is less */
    uint32_t chunk;    /* most tokens a prefill program takes; 0: 256 */
    qp_format kv_k, kv_v; /* F16 (1), F32 (0), BF16, Q8_0: see kv_set */
    uint32_t kv_set;   /* 0: both are F16 and kv_k, kv_v are ignored */
    uint32_t flags;    /* QUERN_SESSION_* */
} quern_session_options;

typedef struct quern_session_info {
    uint32_t struct_size;
    uint32_t context, chunk;
    uint64_t kv_bytes, arena_bytes, scratch_bytes, step_bytes, logits_bytes; /* all that the session allocated on the device */
    uint64_t state_bytes; /* likewise: of recurrent layers. Not 0: the session can go on or begin anew, but not go back (truncate) */
} quern_session_info;

/* Allocates the KV cache, arena and step block and makes the programs: nothing is allocated after this returns. One thread at a
 * time for each session; sessions of one model may run from different threads. options may be NULL. */
QUERN_API quern_status quern_session_create(quern_model *model, const quern_session_options *options, quern_session **out, quern_error *error);
QUERN_API void quern_session_destroy(quern_session *session);
QUERN_API void quern_session_get_info(const quern_session *session, quern_session_info *info);

/* Runs tokens through the model at the next positions, in chunks; the last one's logits can then be read. Allocates nothing.
 * Nothing is done: QP_ERR_INVALID for a token outside the vocabulary, QP_ERR_OUT_OF_MEMORY when the context has no room for all of
 * them. The session is as it was before: QP_ERR_FORMAT when the logits come out as NaN or infinity (the text says at which position).
 * stop, if given, is looked at before each chunk: nonzero ends with QP_ERR_CANCELLED, and quern_session_length tells how far it
 * came. A run that failed on the device ends the session: every later eval gives that error and says that it must be made anew
 * (quern_session_snapshot keeps its tokens). */
QUERN_API quern_status quern_session_eval(quern_session *session, const int32_t *tokens, size_t count, const volatile int *stop, quern_error *error);
/* Logits after the last eval: vocabulary floats. The pointer is valid until the next eval. */
QUERN_API quern_status quern_session_logits(quern_session *session, const float **logits, quern_error *error);
/* With QUERN_SESSION_ALL_LOGITS: of each row of the last eval, whose count must then be at most chunk: rows × vocabulary. */
QUERN_API quern_status quern_session_all_logits(quern_session *session, const float **logits, size_t *rows, quern_error *error);
/* The token that the device found most likely after the last eval, the lowest one of equals. */
QUERN_API quern_status quern_session_greedy(quern_session *session, int32_t *token, quern_error *error);
/* How many tokens the cache holds, and going back to fewer (there are no results to read then until the next eval). A model with
 * recurrent layers (state_bytes of the info is not 0) can only go back to 0: QP_ERR_UNSUPPORTED for another length, and nothing is
 * done. After logits that were not finite its eval is refused (QP_ERR_INVALID) until the session is cut to 0. */
QUERN_API uint32_t quern_session_length(const quern_session *session);
QUERN_API quern_status quern_session_truncate(quern_session *session, uint32_t length, quern_error *error);
/* The tokens that the cache holds, quern_session_length of them. The pointer lives as long as the session; what it points to changes
 * with eval, prefill and truncate. */
QUERN_API const int32_t *quern_session_tokens(const quern_session *session);
/* How many of these tokens, from the first on, are what the cache holds. */
QUERN_API uint32_t quern_session_common_prefix(const quern_session *session, const int32_t *tokens, size_t count);
/* Makes the session hold exactly these tokens, with the logits of the last one to read: what agrees with the cache is kept, the rest
 * of the cache is dropped, and only the tokens behind that run (the last one always does, unless its results are still there). This
 * is how a conversation goes on at the price of its new tokens. *reused (may be NULL): how many were kept. Errors and stop as
 * with quern_session_eval; where the tokens cannot fit at all nothing changes. A session whose state cannot go back (recurrent
 * layers) starts from the first token instead. Allocates nothing. */
QUERN_API quern_status quern_session_prefill(quern_session *session, const int32_t *tokens, size_t count, const volatile int *stop,
                                             uint32_t *reused, quern_error *error);

/* ---- going on elsewhere ------------------------------------------------------------------------------------------- */

/* What a session was made with and the tokens it holds, apart from any device: to go on with them after the device is lost, or to
 * move to another one. (Not the cache itself, which on a lost device is gone: the tokens are run again.) */
typedef struct quern_snapshot quern_snapshot;

/* Touches no device, so that a session whose device was lost can be asked, and then destroyed, and its model and device with it.
 * Where an eval or prefill failed because of that, the snapshot has all tokens that the first such one was given, as if it had succeeded.
 * Where the session's device multiplies quantised weights with float activations the snapshot has QUERN_SESSION_FLOAT, so that a
 * device that would quantise them gives the same numbers, and the same greedy text, more slowly. */
QUERN_API quern_status quern_session_snapshot(const quern_session *session, quern_snapshot **out, quern_error *error);
QUERN_API void quern_snapshot_destroy(quern_snapshot *snapshot);
/* Its tokens; the pointer lives as long as the snapshot. count may be NULL. */
QUERN_API const int32_t *quern_snapshot_tokens(const quern_snapshot *snapshot, uint32_t *count);

typedef struct quern_restore_options {
    uint32_t struct_size;
    uint32_t flags;   /* QUERN_SESSION_*, beside those of the snapshot */
    uint32_t without; /* … and those that the new session shall not have */
    uint32_t reserved;
    quern_progress progress; /* counts tokens; may be NULL. Nonzero stops */
    void *progress_ctx;
} quern_restore_options;

/* A session of the same context size, chunk, KV formats and flags on `model`, which is the same model on another device (or on the
 * same one, opened again), with the snapshot's tokens run through it and the logits of the last one to read. options may be NULL.
 * QP_ERR_INVALID: the model's vocabulary is another one. QP_ERR_CANCELLED: progress said stop; *out is a session all the same, that
 * holds the tokens which have been run. Other errors are those of quern_session_create and quern_session_eval. One thread at a time
 * for the model's session; the snapshot may be shared. */
QUERN_API quern_status quern_snapshot_restore(const quern_snapshot *snapshot, quern_model *model,
                                              const quern_restore_options *options, quern_session **out, quern_error *error);

/* ---- explaining --------------------------------------------------------------------------------------------------- */

enum { QUERN_PHASE_DECODE = 0 /* one token */, QUERN_PHASE_PREFILL = 1 /* a chunk of tokens */ };

/* One op of a model as a device would run it. Strings are valid during the call that hands it out. */
typedef struct quern_explained_op {
    uint32_t struct_size;
    uint32_t phase;    /* QUERN_PHASE_* */
    uint32_t rows;     /* tokens that the phase's program takes */
    uint32_t index;    /* of the op in the program */
    int32_t layer;     /* −1: of none */
    uint32_t layout;   /* of the weight: 0 as in the file, else packed by the device */
    const char *op;    /* "matmul" */
    const char *part;  /* of the model: "attention output" */
    qp_format format;  /* of the weight, the cache or whatever src[0] is */
    int64_t ne[4];     /* its shape */
    quern_status status; /* QP_OK, or why the device refuses: QP_ERR_UNSUPPORTED */
    const char *kernel;  /* the variant that runs, "" for a refused op */
    const char *words;   /* of a refusal its reason, else why no quicker kernel was taken; may be "" */
    uint64_t bytes_moved, operations, scratch_bytes; /* see qp_op_info */
} quern_explained_op;

typedef void (*quern_explain_fn)(void *ctx, const quern_explained_op *op);

/* Tells of every op of a session's programs, decode first, where and how the device would run it. Nothing is loaded or allocated on
 * the device; a weight or an op that it refuses is told like the others. Of options context, chunk and KV formats count (a context
 * of 0 is the model's own). Errors are those of quern_model_load and quern_session_create that come before any allocation. */
QUERN_API quern_status quern_explain(quern_device *device, const quern_gguf *gguf, const quern_session_options *options, quern_explain_fn each, void *ctx,
                                     quern_error *error);

/* ---- chat --------------------------------------------------------------------------------------------------------- */

/* A conversation as the tokens that a model was trained on. Models bring a template for that, in a language of its own (Jinja);
 * here are the families of templates that models in use have, and a model's family is recognised by what its template says. */
typedef struct quern_chat quern_chat;

typedef struct quern_chat_family {
    const char *name;  /* "chatml" */
    const char *about; /* the models that use it */
} quern_chat_family;
/* NULL past the last. Any thread, the pointer is valid forever. */
QUERN_API const quern_chat_family *quern_chat_family_at(uint32_t index);

typedef struct quern_chat_options {
    uint32_t struct_size;
    const char *family; /* take this one, whatever the template says; NULL: the model's own */
    int64_t now;        /* seconds since 1970 (UTC), for templates that tell the model the date; 0: 26 July 2024, which Llama 3.1's
                         * template takes where it is not told */
} quern_chat_options;

/* gguf brings the template (tokenizer.chat_template) and may be NULL where options name a family; the tokenizer is borrowed and must
 * outlive the chat. QP_ERR_NOT_FOUND: the model has no template, or there is no family of that name (the text lists them);
 * QP_ERR_UNSUPPORTED: its template is of no known family. Does not change once it is made: any thread may use it. */
QUERN_API quern_status quern_chat_create(const quern_gguf *gguf, const quern_tokenizer *tokenizer, const quern_chat_options *options,
                                         quern_chat **out, quern_error *error);
QUERN_API void quern_chat_destroy(quern_chat *chat);
QUERN_API const quern_chat_family *quern_chat_get_family(const quern_chat *chat);

enum {
    QUERN_CHAT_CAN_SWITCH = 1u << 0,     /* QUERN_CHAT_THINK and QUERN_CHAT_NO_THINK change something */
    QUERN_CHAT_DROPS_THINKING = 1u << 1, /* what an answer thought is not shown to the model again in later turns */
};
QUERN_API uint32_t quern_chat_traits(const quern_chat *chat);

typedef enum quern_chat_role { QUERN_CHAT_SYSTEM = 0, QUERN_CHAT_USER = 1, QUERN_CHAT_ASSISTANT = 2 } quern_chat_role;

typedef struct quern_chat_message {
    quern_chat_role role;
    const char *text; /* any bytes, not terminated. Never read as markup: "<|im_end|>" in it is text */
    size_t size;
    /* Of an answer: the tokens that the model made it of. They stand in place of the text, so that a session's cache still fits
     * (the same text may be cut into tokens in several ways). NULL: the text is tokenised. */
    const int32_t *tokens;
    size_t token_count;
} quern_chat_message;

enum { QUERN_CHAT_THINK = 1u << 0, QUERN_CHAT_NO_THINK = 1u << 1 }; /* neither: the template's default */

/* The conversation, up to where the answer begins. It is: a system message or none, then users and assistants in turn, and ends with
 * the user; anything else is QP_ERR_INVALID with the place. Appends to *list, with a BOS token in front where the model wants one. */
QUERN_API quern_status quern_chat_tokenize(const quern_chat *chat, const quern_chat_message *messages, size_t count, uint32_t flags,
                                           quern_token_list *list, quern_error *error);
/* The same as text, as the model's own template gives it: at most room bytes at dst; *size: how many there are. */
QUERN_API quern_status quern_chat_text(const quern_chat *chat, const quern_chat_message *messages, size_t count, uint32_t flags,
                                       char *dst, size_t room, size_t *size, quern_error *error);
/* Nonzero for a token that ends an answer: those of quern_tokenizer_is_stop and the family's end of turn. */
QUERN_API int quern_chat_is_stop(const quern_chat *chat, int32_t token);

/* What a generated token belongs to. Thinking is known where it is marked by tokens of its own (<think>, gpt-oss's channels). */
typedef enum quern_chat_part {
    QUERN_CHAT_ANSWER = 0,
    QUERN_CHAT_THINKING = 1,
    QUERN_CHAT_MARKUP = 2, /* of no interest to a reader */
} quern_chat_part;
typedef struct quern_chat_stream { uint32_t state, size; char header[24]; } quern_chat_stream;
/* For an answer to what quern_chat_tokenize made with these flags. */
QUERN_API quern_chat_stream quern_chat_stream_begin(const quern_chat *chat, uint32_t flags);
QUERN_API quern_chat_part quern_chat_stream_push(const quern_chat *chat, quern_chat_stream *stream, int32_t token);

/* ---- converting --------------------------------------------------------------------------------------------------- */

/* What a matrix is to the model: some decide more than others about the result, and a recipe gives those more bits. */
typedef enum quern_role {
    QUERN_ROLE_OUTPUT,     /* output.weight, or the embeddings where they serve as that */
    QUERN_ROLE_EMBEDDINGS, /* tables of token embeddings */
    QUERN_ROLE_ATTN_V,     /* values, alone or with queries and keys */
    QUERN_ROLE_ATTN_OUTPUT,
    QUERN_ROLE_FFN_DOWN,
    QUERN_ROLE_EXPERTS,    /* gate and up of experts */
    QUERN_ROLE_EXPERTS_DOWN,
    QUERN_ROLE_OTHER,
    QUERN_ROLES,
} quern_role;

/* Layers that get a role's second format. */
typedef enum quern_layers {
    QUERN_LAYERS_NONE,
    QUERN_LAYERS_FIRST,  /* the first eighth, rounded up */
    QUERN_LAYERS_SPREAD, /* the first and the last eighth, and every third between */
} quern_layers;

/* Which tensor gets which format. Matrices that are small and decide much (norms, expert gates, convolutions) are never changed. */
typedef struct quern_recipe {
    const char *name;  /* "Q4_K_M" */
    const char *about; /* a few words */
    uint32_t file_type; /* general.file_type */
    struct {
        qp_format usual, more;
        quern_layers where; /* have `more` in place of `usual` */
    } roles[QUERN_ROLES];
    qp_format mixture; /* keys and values of models with experts, where they are a small share of all */
} quern_recipe;

/* In the order in which they are best shown, largest files last; NULL past the last. Valid forever, any thread. */
QUERN_API const quern_recipe *quern_recipe_at(uint32_t index);
/* By name, letter case ignored; NULL when there is none. */
QUERN_API const quern_recipe *quern_recipe_find(const char *name);
/* What is written where a row is not whole blocks of a format; F16 when the row is not whole blocks of that either. */
QUERN_API qp_format quern_recipe_fallback(qp_format format);

/* Tensors whose name matches get a format of the caller's choice. Of several rules that match, the last one counts. */
typedef struct quern_tensor_rule {
    const char *pattern; /* with * or ?, all of a name; without, a part of it: "blk.*.attn_v.weight", "ffn_down" */
    qp_format format;
} quern_tensor_rule;

enum { QUERN_QUANTIZE_DRY_RUN = 1u << 0 /* everything but converting: nothing is written */ };

typedef struct quern_quantize_options {
    uint32_t struct_size;
    uint32_t flags; /* QUERN_QUANTIZE_* */
    const quern_recipe *recipe;
    const quern_tensor_rule *rules;
    uint32_t rule_count;
    /* Each tensor in the file's order, before anything is written; may be NULL. */
    void (*tensor)(void *ctx, const quern_gguf_tensor *tensor, qp_format to);
    void *tensor_ctx;
    quern_progress progress; /* counts bytes of the input; nonzero stops with QP_ERR_CANCELLED. May be NULL */
    void *progress_ctx;
} quern_quantize_options;

/* What was written, or would be: tensors, not the header. */
typedef struct quern_quantize_info {
    uint32_t struct_size;
    uint64_t tensors, elements, input_bytes, output_bytes;
    uint64_t again;    /* tensors that were quantised already and are quantised anew */
    uint64_t fallback; /* tensors whose rows are not whole blocks of the format that the recipe has for them */
    struct {
        uint64_t tensors, elements, bytes;
    } formats[QP_FORMAT_LIMIT]; /* of the output */
} quern_quantize_info;

/* Writes the model with its weights in other formats, as a recipe has it. The device converts (QP_OP_COPY with search; the CPU's
 * can all formats of recipes), in portions of some 8 MiB of floats: memory does not grow with the model, and the result does not
 * depend on the number of threads. Metadata is copied; general.file_type and general.quantization_version are set. What is
 * unusual (rows that are not whole blocks, input that was quantised already) is logged once.
 * QP_ERR_INVALID: the output is the input, a rule matches no matrix. QP_ERR_FORMAT: a weight is not a finite number or beyond what
 * the format can say; the text names the tensor. out_path gets its name when all of it is written and flushed: after an error or a
 * stop what was there before is untouched. It is not looked at in a dry run. info may be NULL. One call at a time for each device. */
QUERN_API quern_status quern_quantize(quern_device *device, const quern_gguf *in, const char *out_path, const quern_quantize_options *options,
                                      quern_quantize_info *info, quern_error *error);

/* ---- sampling ----------------------------------------------------------------------------------------------------- */

typedef struct quern_sampler quern_sampler;

/* Applied in this order: repetition penalty, top_k, temperature and softmax, then top_p and min_p, both measured on that softmax. */
typedef struct quern_sampler_options {
    uint32_t struct_size;
    uint32_t top_k;           /* keep the k most likely; 0: all */
    float temperature;        /* 0: greedy, nothing else applies but the repetition penalty */
    float top_p;              /* keep the smallest set with this much probability (Holtzman et al. 2019, arXiv:1904.09751); 1: all */
    float min_p;              /* drop what is less likely than this share of the most likely (arXiv:2407.01082); 0: none */
    float repetition_penalty; /* Keskar et al. 2019, arXiv:1909.05858; 1: none */
    uint32_t repetition_window; /* last tokens it looks at; 0: none */
    uint64_t seed;
} quern_sampler_options;

/* Checks the ranges (QP_ERR_INVALID names the option). vocabulary: of the logits it will see. One thread at a time. */
QUERN_API quern_status quern_sampler_create(const quern_sampler_options *options, uint32_t vocabulary, quern_sampler **out, quern_error *error);
QUERN_API void quern_sampler_destroy(quern_sampler *sampler);
/* Remembers a token for the repetition penalty (sampled ones are remembered by themselves). */
QUERN_API void quern_sampler_accept(quern_sampler *sampler, int32_t token);
/* Nonzero when the device's own greedy token is the answer, so that no logits need be read. */
QUERN_API int quern_sampler_is_greedy(const quern_sampler *sampler);
/* The same options, seed and logits give the same token on every machine. QP_ERR_FORMAT when a logit is NaN or all are −inf. */
QUERN_API quern_status quern_sampler_sample(quern_sampler *sampler, const float *logits, int32_t *token, quern_error *error);

/* ---- confidence --------------------------------------------------------------------------------------------------- */

/* How sure the model is of a token: all of it about the softmax of the logits as the model gave them, before any repetition
 * penalty, temperature or cut, so that it says the same whatever the sampling. Natural logarithms. */
typedef struct quern_score {
    int32_t token;
    uint32_t rank;  /* tokens with a larger logit: 0 is the most likely one */
    double logprob; /* log of the token's probability, at most 0 */
    double entropy; /* −Σ p·log p over the whole vocabulary, in nats: 0 is certain, log(vocabulary) knows nothing */
} quern_score;

typedef struct quern_alternative {
    int32_t token;
    double logprob;
} quern_alternative;

/* Scores one token of `vocabulary` logits. top (may be NULL) receives the *top_count most likely tokens, the best first and the lowest
 * of equals first; *top_count becomes how many there are. log Σ exp is summed in double around the largest logit; −inf counts as
 * impossible. QP_ERR_FORMAT when a logit is NaN or +inf, or all are −inf; QP_ERR_INVALID for a token outside. Allocates nothing. Any thread. */
QUERN_API quern_status quern_score_token(const float *logits, uint32_t vocabulary, int32_t token, quern_score *score,
                                         quern_alternative *top, uint32_t *top_count, quern_error *error);

/* Of the tokens of an answer. Start from {.struct_size = sizeof, .unsure = a probability}. */
typedef struct quern_confidence {
    uint32_t struct_size;
    float unsure;           /* a token less likely than this counts as unsure; set by the caller, 0: none does */
    uint64_t tokens;        /* scored so far */
    uint64_t unsure_tokens;
    double mean_logprob;    /* from here on: of those tokens; 0 while there are none */
    double perplexity;      /* exp(−mean_logprob) */
    double min_logprob;     /* of the least likely one */
    uint64_t min_at;        /* and which that was, counted from 0 */
    double mean_entropy, max_entropy;
    double sum_logprob, sum_entropy;
} quern_confidence;
/* Adds one token. One thread at a time. */
QUERN_API void quern_confidence_add(quern_confidence *confidence, const quern_score *score);

#ifdef __cplusplus
}
#endif
#endif
