#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/engine/references/NAME.gguf and NAME.logits: tiny random models of the architectures that the engine knows, and the
float32 logits that the `transformers` package computes for them. tests/engine/test_references.c holds the engine against these.

Run from the source root; needs torch, transformers, gguf and numpy (the README beside the files says which versions made them).
Names of cases on the command line make only those.

A case is a configuration of transformers and what the metadata of a GGUF file says about it. Sizes are odd on purpose: one KV head,
heads that do not divide the embedding, windows and original contexts shorter than the text. Parameters are drawn so that every one
of them matters: norms around 1, biases and sinks of the size of what they are added to, scores of attention far from uniform.
"""
import math
import os
import struct
import sys
import zlib

import gguf
import numpy as np
import torch
import transformers

FOLDER = "tests/engine/references"
TOKENS = 40
KEYS, T = gguf.Keys, gguf.MODEL_TENSOR


# ---- parameters ----

def drawn(case, name, parameter):
    """Values for one parameter, from a seed of their own: a case does not change when another one does."""
    rng = np.random.default_rng(zlib.crc32(f"{case}/{name}".encode()))
    shape = tuple(parameter.shape)
    x = rng.standard_normal(shape)
    leaf = name.split(".")[-1]
    if leaf == "A_log":
        x = np.log(rng.uniform(0.3, 4, shape))
    elif "norm" in name:
        x = 0.3 * x + (leaf == "weight" and not starts_at_zero(parameter))
    elif leaf in ("sinks", "dt_bias"):
        pass
    elif leaf.endswith("bias"):
        x = 0.4 * x
    elif "embed_tokens" in name:
        x = (0.2 if case.startswith(("gemma", "granite")) else 0.7) * x  # what these multiply it by
    elif "conv1d" in name:
        x = 0.7 * x
    else:
        x = gain(case, name) * x / math.sqrt(shape[1] if case == "gpt-oss" and "experts" in name else shape[-1])
    tensor = torch.from_numpy(x.astype(np.float32))
    # matrices of few bits, so that a compressed repository is smaller
    return tensor.bfloat16().float() if tensor.dim() > 1 else tensor


def gain(case, name):
    """How much larger than its input a product is."""
    if any(word in name for word in ("q_proj", "k_proj", "qkv", "gate.weight", "router")):
        return 1.8  # sharp choices
    if case == "gpt-oss" and "experts" in name:
        return 3.5 if "gate_up" in name else 0.3  # some of them beyond the 7 that the gate is cut at
    return 1.2


def starts_at_zero(parameter):
    """Is this a norm whose weight counts from 1 (Gemma, Qwen3.5)?"""
    return bool((parameter == 0).all())


def make_model(name, case):
    torch.manual_seed(0)
    config = case["config"](**case["sizes"])
    config._attn_implementation = config._experts_implementation = "eager"
    model = case["model"](config).float().eval()
    with torch.no_grad():
        for key, parameter in sorted(model.named_parameters()):
            parameter.copy_(drawn(name, key, parameter))
    return model


# ---- metadata ----

class Meta:
    """Writes ARCHITECTURE.suffix keys by the templates of gguf.Keys."""

    def __init__(self, writer, arch):
        self.writer, self.arch = writer, arch

    def u32(self, key, value):
        self.writer.add_uint32(key.format(arch=self.arch), int(value))

    def f32(self, key, value):
        self.writer.add_float32(key.format(arch=self.arch), float(value))

    def string(self, key, value):
        self.writer.add_string(key.format(arch=self.arch), value)


def head_size(config):
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def full_rope(config):
    rope = config.rope_parameters
    return rope.get("full_attention", rope)


def rope_dims(config):
    return int(head_size(config) * full_rope(config).get("partial_rotary_factor", 1))


def write_rope(meta, config):
    rope = full_rope(config)
    kind = rope["rope_type"]
    meta.f32(KEYS.Rope.FREQ_BASE, rope["rope_theta"])
    meta.u32(KEYS.Rope.DIMENSION_COUNT, rope_dims(config))
    if "sliding_attention" in config.rope_parameters:
        meta.f32(KEYS.Rope.FREQ_BASE_SWA, config.rope_parameters["sliding_attention"]["rope_theta"])
    if kind in ("linear", "yarn", "longrope"):
        meta.string(KEYS.Rope.SCALING_TYPE, kind)
    if kind in ("linear", "yarn"):
        meta.f32(KEYS.Rope.SCALING_FACTOR, rope["factor"])
    if kind in ("yarn", "longrope"):
        meta.u32(KEYS.Rope.SCALING_ORIG_CTX_LEN, rope["original_max_position_embeddings"])
    optional = {"attention_factor": KEYS.Rope.SCALING_YARN_ATTN_FACTOR, "beta_fast": KEYS.Rope.SCALING_YARN_BETA_FAST,
                "beta_slow": KEYS.Rope.SCALING_YARN_BETA_SLOW, "mscale_all_dim": KEYS.Rope.SCALING_YARN_LOG_MUL}
    for name, key in optional.items():
        if kind == "yarn" and rope.get(name) is not None:
            meta.f32(key, rope[name])
    if kind == "longrope":  # Ding et al. 2024: what softmax loses over a longer context
        grown = config.max_position_embeddings / rope["original_max_position_embeddings"]
        meta.f32(KEYS.Rope.SCALING_ATTN_FACTOR,
                 math.sqrt(1 + math.log(grown) / math.log(rope["original_max_position_embeddings"])))


def write_shape(meta, config):
    meta.u32(KEYS.LLM.VOCAB_SIZE, config.vocab_size)
    meta.u32(KEYS.LLM.CONTEXT_LENGTH, config.max_position_embeddings)
    meta.u32(KEYS.LLM.EMBEDDING_LENGTH, config.hidden_size)
    meta.u32(KEYS.LLM.BLOCK_COUNT, config.num_hidden_layers)
    if getattr(config, "intermediate_size", None):  # Qwen3.5's mixtures have no layer without experts
        meta.u32(KEYS.LLM.FEED_FORWARD_LENGTH, config.intermediate_size)
    meta.u32(KEYS.Attention.HEAD_COUNT, config.num_attention_heads)
    meta.u32(KEYS.Attention.HEAD_COUNT_KV, config.num_key_value_heads)
    if getattr(config, "head_dim", None):
        meta.u32(KEYS.Attention.KEY_LENGTH, config.head_dim)
        meta.u32(KEYS.Attention.VALUE_LENGTH, config.head_dim)
    if hasattr(config, "norm_epsilon"):
        meta.f32(KEYS.Attention.LAYERNORM_EPS, config.norm_epsilon)
    else:
        meta.f32(KEYS.Attention.LAYERNORM_RMS_EPS, config.rms_norm_eps)
    if getattr(config, "sliding_window", None):
        meta.u32(KEYS.Attention.SLIDING_WINDOW, config.sliding_window)


def write_experts(meta, config):
    count = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    if not count:
        return
    meta.u32(KEYS.LLM.EXPERT_COUNT, count)
    meta.u32(KEYS.LLM.EXPERT_USED_COUNT, config.num_experts_per_tok)
    size = getattr(config, "moe_intermediate_size", None) or (config.intermediate_size if config.model_type == "gpt_oss" else 0)
    if size:
        meta.u32(KEYS.LLM.EXPERT_FEED_FORWARD_LENGTH, size)
    if getattr(config, "shared_expert_intermediate_size", None):
        meta.u32(KEYS.LLM.EXPERT_SHARED_FEED_FORWARD_LENGTH, config.shared_expert_intermediate_size)


def write_granite(meta, config):
    meta.f32(KEYS.Attention.SCALE, config.attention_multiplier)
    meta.f32(KEYS.LLM.EMBEDDING_SCALE, config.embedding_multiplier)
    meta.f32(KEYS.LLM.RESIDUAL_SCALE, config.residual_multiplier)
    meta.f32(KEYS.LLM.LOGIT_SCALE, config.logits_scaling)


def write_gemma2(meta, config):
    meta.f32(KEYS.LLM.ATTN_LOGIT_SOFTCAPPING, config.attn_logit_softcapping)
    meta.f32(KEYS.LLM.FINAL_LOGIT_SOFTCAPPING, config.final_logit_softcapping)
    meta.f32(KEYS.Attention.SCALE, config.query_pre_attn_scalar ** -0.5)


def write_qwen35(meta, config):
    meta.u32(KEYS.SSM.CONV_KERNEL, config.linear_conv_kernel_dim)
    meta.u32(KEYS.SSM.STATE_SIZE, config.linear_key_head_dim)
    meta.u32(KEYS.SSM.GROUP_COUNT, config.linear_num_key_heads)
    meta.u32(KEYS.SSM.TIME_STEP_RANK, config.linear_num_value_heads)
    meta.u32(KEYS.SSM.INNER_SIZE, config.linear_num_value_heads * config.linear_value_head_dim)
    meta.u32(KEYS.LLM.FULL_ATTENTION_INTERVAL, config.layer_types.index("full_attention") + 1)
    sections = list(full_rope(config)["mrope_section"])
    meta.writer.add_array(KEYS.Rope.DIMENSION_SECTIONS.format(arch=meta.arch), (sections + [0] * 4)[:4])


# ---- tensors ----

def interleaved(heads):
    """Rows of Q and K for a rope that turns neighbours: transformers keeps the two halves of a pair half a head apart."""
    def change(x, config):
        n = heads(config)
        return x.reshape(n, 2, x.shape[0] // n // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
    return change


NEIGHBOURS = {"self_attn.q_proj": interleaved(lambda c: c.num_attention_heads),
              "self_attn.k_proj": interleaved(lambda c: c.num_key_value_heads)}


def plus_one(x, _):
    return x + 1


def by_value_index(parts):
    """Qwen3.5 keeps the value heads that share a key head together, files count first over key heads: head v·keys + k.
    `parts` tells which rows these are: rows before them, and rows of one head."""
    def change(x, config):
        keys, values = config.linear_num_key_heads, config.linear_num_value_heads
        first, size = parts(config)
        tail = x[first:].reshape(keys, values // keys, size, *x.shape[1:]).swapaxes(0, 1)
        return np.concatenate([x[:first], tail.reshape(x[first:].shape)])
    return change


def value_rows(config):
    return 2 * config.linear_num_key_heads * config.linear_key_head_dim, config.linear_value_head_dim


PLAIN_VALUES = by_value_index(lambda c: (0, c.linear_value_head_dim))
ONE_EACH = by_value_index(lambda c: (0, 1))
DELTA = {
    "linear_attn.in_proj_qkv": by_value_index(value_rows),
    "linear_attn.in_proj_z": PLAIN_VALUES,
    "linear_attn.in_proj_a": ONE_EACH,
    "linear_attn.in_proj_b": ONE_EACH,
    "linear_attn.dt_bias": ONE_EACH,
    "linear_attn.A_log": lambda x, c: -np.exp(ONE_EACH(x, c)),
    "linear_attn.conv1d": lambda x, c: by_value_index(value_rows)(x[:, 0], c),
    "linear_attn.out_proj": lambda x, c: np.ascontiguousarray(PLAIN_VALUES(x.T, c).T),
    "layernorm": plus_one, "q_norm": plus_one, "k_norm": plus_one, "model.norm": plus_one,
}
# names that the package's map does not have, and experts, of which transformers keeps gate and up in one tensor
SPLIT = {"mlp.experts.gate_up_proj": (T.FFN_GATE_EXP, T.FFN_UP_EXP), "mlp.experts.down_proj": (T.FFN_DOWN_EXP,),
         "moe.experts.gate_up_proj": (T.FFN_GATE_EXP, T.FFN_UP_EXP), "moe.experts.down_proj": (T.FFN_DOWN_EXP,),
         "mlp.gate.weight": (T.FFN_GATE_INP,), "moe.router.weight": (T.FFN_GATE_INP,), "linear_attn.dt_bias": (T.SSM_DT,), "linear_attn.A_log": (T.SSM_A,)}


def expert_parts(x, transposed):
    """Gate and up, or down alone. gpt-oss keeps columns where others keep rows, and gate and up alternating."""
    if transposed:
        return [x[..., 0::2], x[..., 1::2]]
    half = x.shape[1] // 2
    return [x[:, :half], x[:, half:]]


def named(names, layer, key, x, gpt_oss):
    """(name in the file, values) of one parameter of transformers."""
    for word, tensors in SPLIT.items():
        if word not in key:
            continue
        bias = key.endswith("bias")
        if gpt_oss and "experts" in word and not bias:
            x = x.swapaxes(1, 2)
        if len(tensors) == 1:
            parts = [x]
        elif gpt_oss and not bias:
            parts = [x[:, 0::2], x[:, 1::2]]
        else:
            parts = expert_parts(x, gpt_oss)
        suffix = {T.SSM_A: "", T.SSM_DT: ".bias"}.get(tensors[0], ".bias" if bias else ".weight")
        return [(gguf.TENSOR_NAMES[t].format(bid=layer) + suffix, p) for t, p in zip(tensors, parts)]
    if "self_attn.sinks" in key:
        return [(gguf.TENSOR_NAMES[T.ATTN_SINKS].format(bid=layer) + ".weight", x)]
    base, suffix = key.rsplit(".", 1)
    name = names.get_name(base)
    if name is None:
        raise ValueError(f"the package's map has no name for {key}")
    return [(f"{name}.{suffix}", x)]


def write_tensors(writer, model, case):
    config, arch = model.config, case["arch"]
    names = gguf.get_tensor_name_map(next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == arch), config.num_hidden_layers)
    for key, parameter in model.named_parameters():
        x = parameter.detach().numpy()
        for word, change in case.get("change", {}).items():
            if word in key:
                x = change(x, config)
        layer = key.split("layers.")[1].split(".")[0] if "layers." in key else None
        for name, part in named(names, layer, key, x, arch == "gpt-oss"):
            writer.add_tensor(name, np.ascontiguousarray(part.squeeze() if "shexp" in name and part.shape[0] == 1 else part))
    rope = full_rope(config)
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, rope_dims(config)))
    if rope["rope_type"] == "longrope":
        for which in ("short", "long"):
            writer.add_tensor(f"rope_factors_{which}.weight", np.array(rope[f"{which}_factor"], dtype=np.float32))


def llama3_factors(rope, dims):
    """What each frequency is divided by (Llama team 2024, arXiv:2407.21783): 1 for short waves, `factor` for those longer than the
    original context / low_freq_factor, and between the two a straight line in the number of turns."""
    turns = rope["original_max_position_embeddings"] * rope["rope_theta"] ** (-np.arange(0, dims, 2) / dims) / (2 * math.pi)
    share = np.clip((turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"]), 0, 1)
    return (1 / (share + (1 - share) / rope["factor"])).astype(np.float32)


def write_model(name, case, model):
    path, config = f"{FOLDER}/{name}.gguf", model.config
    writer = gguf.GGUFWriter(path, case["arch"])
    meta = Meta(writer, case["arch"])
    writer.add_name(f"tiny random {name}")
    write_shape(meta, config)
    write_rope(meta, config)
    write_experts(meta, config)
    if "write" in case:
        case["write"](meta, config)
    writer.add_tokenizer_model("no_vocab")
    write_tensors(writer, model, case)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# ---- logits ----

def run(model, tokens):
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].numpy()


def write_logits(path, model, tokens):
    logits = run(model, tokens).astype(np.float32)
    exact = run(model.double(), tokens)
    model.float()
    error = float(((logits - exact) ** 2).sum() / (exact ** 2).sum())
    if not np.isfinite(logits).all() or error > 1e-9:
        raise ValueError(f"{path}: float32 and float64 differ by an NMSE of {error:.1e}: the model is too delicate to compare with")
    with open(path, "wb") as file:
        file.write(b"QLOG" + struct.pack("<II", *logits.shape) + np.array(tokens, dtype="<i4").tobytes())
        file.write(logits.astype("<f4").tobytes())
    return error


def text(name, count, vocabulary):
    return [int(t) for t in np.random.default_rng(zlib.crc32(f"{name}/text".encode())).integers(0, vocabulary, count)]


# ---- cases ----

def case(arch, family, sizes, **more):
    prefix = more.pop("classes", family)
    return {"arch": arch, "config": getattr(transformers, more.pop("config", f"{prefix}Config")),
            "model": getattr(transformers, f"{prefix}ForCausalLM"), "sizes": sizes, **more}


def sizes(hidden, inner, layers, heads, kv, **more):
    """What all configurations call alike. The norms' epsilon is large enough to show, and there are no special tokens."""
    return {"hidden_size": hidden, **({"intermediate_size": inner} if inner else {}), "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": 61, "max_position_embeddings": 128,
            "tie_word_embeddings": False, "rms_norm_eps": 0.03, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None, **more}


def rope(kind="default", theta=10000.0, **more):
    return {"rope_type": kind, "rope_theta": theta, **more}


YARN = {"theta": 1000.0, "factor": 4.0, "original_max_position_embeddings": 32}
SHORT = [1.0, 1.05, 1.2, 1.35, 1.6, 2.0]
LONG = [1.1, 1.4, 2.3, 4.0, 6.5, 9.0]
GEMMA = {"norm": plus_one}

CASES = {
    "llama3": case("llama", "Llama", sizes(24, 32, 3, 3, 1, head_dim=20, rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)), change=NEIGHBOURS),
    "llama-linear": case("llama", "Llama", sizes(36, 44, 2, 3, 3, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                                                 rope_parameters=rope("linear", factor=4.0)), change=NEIGHBOURS),
    "llama-yarn": case("llama", "Llama", sizes(24, 28, 1, 4, 2, head_dim=16, rope_parameters=rope(
        "yarn", **YARN, beta_fast=1.5, beta_slow=0.5, attention_factor=1.3)), change=NEIGHBOURS),
    "llama-yarn-log": case("llama", "Llama", sizes(24, 28, 1, 4, 2, head_dim=16, rope_parameters=rope(
        "yarn", **YARN, mscale=1.0, mscale_all_dim=0.4)), change=NEIGHBOURS),
    "mistral": case("llama", "Mistral", sizes(24, 32, 3, 4, 2, head_dim=14, sliding_window=9), change=NEIGHBOURS),
    "qwen2": case("qwen2", "Qwen2", sizes(40, 36, 2, 5, 1, tie_word_embeddings=True, rope_parameters=rope("yarn", **YARN))),
    "qwen3": case("qwen3", "Qwen3", sizes(30, 33, 2, 3, 1, head_dim=20)),
    "smollm3": case("smollm3", "SmolLM3", sizes(24, 26, 5, 4, 2, tie_word_embeddings=True), change=NEIGHBOURS),
    "granite": case("granite", "Granite", sizes(32, 40, 2, 4, 2, attention_bias=True, mlp_bias=True, embedding_multiplier=6.0,
                                                residual_multiplier=0.4, attention_multiplier=0.2, logits_scaling=3.0),
                    change=NEIGHBOURS, write=write_granite),
    "granitemoe": case("granitemoe", "GraniteMoe", sizes(
        32, 20, 2, 4, 2, num_local_experts=5, num_experts_per_tok=2, embedding_multiplier=6.0, residual_multiplier=0.4,
        attention_multiplier=0.2, logits_scaling=3.0), change=NEIGHBOURS, write=write_granite),
    "starcoder2": case("starcoder2", "Starcoder2", sizes(30, 50, 3, 5, 1, tie_word_embeddings=True, sliding_window=11,
                                                         norm_epsilon=0.03)),
    "gemma": case("gemma", "Gemma", sizes(27, 34, 3, 3, 1, head_dim=18, tie_word_embeddings=True), change=GEMMA),
    "gemma2": case("gemma2", "Gemma2", sizes(27, 30, 3, 3, 1, head_dim=16, tie_word_embeddings=True, sliding_window=7,
                                             query_pre_attn_scalar=10, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
                   change=GEMMA, write=write_gemma2),
    "gemma3": case("gemma3", "Gemma3", sizes(18, 22, 7, 3, 1, head_dim=12, tie_word_embeddings=True, sliding_window=6,
                                             query_pre_attn_scalar=12, rope_parameters={
                                                 "full_attention": rope("linear", 100000.0, factor=8.0),
                                                 "sliding_attention": rope(theta=500.0)}),
                   change=GEMMA, config="Gemma3TextConfig"),
    "phi3": case("phi3", "Phi3", sizes(
        48, 30, 2, 3, 1, sliding_window=31, original_max_position_embeddings=32, rope_parameters=rope(
            "longrope", partial_rotary_factor=0.75, short_factor=SHORT, long_factor=LONG, original_max_position_embeddings=32)),
                 texts={"phi3": 32, "phi3-long": 52}),
    "mixtral": case("llama", "Mixtral", sizes(24, 18, 2, 4, 2, num_local_experts=5, num_experts_per_tok=2), change=NEIGHBOURS),
    "qwen2moe": case("qwen2moe", "Qwen2Moe", sizes(24, 40, 2, 4, 2, moe_intermediate_size=14, shared_expert_intermediate_size=22,
                                                   num_experts=6, num_experts_per_tok=3, norm_topk_prob=False)),
    "qwen3moe": case("qwen3moe", "Qwen3Moe", sizes(24, 40, 2, 3, 1, head_dim=16, moe_intermediate_size=14, num_experts=7,
                                                   num_experts_per_tok=3, norm_topk_prob=True)),
    "gpt-oss": case("gpt-oss", "GptOss", sizes(24, 16, 3, 3, 1, head_dim=16, num_local_experts=5, num_experts_per_tok=2,
                                               sliding_window=8, rope_parameters=rope(
                                                   "yarn", **YARN, beta_fast=32.0, beta_slow=1.0, truncate=False))),
    "qwen35": case("qwen35", "Qwen3_5", sizes(24, 26, 3, 2, 1, head_dim=32, linear_num_key_heads=2, linear_num_value_heads=6,
                                              linear_key_head_dim=8, linear_value_head_dim=8, full_attention_interval=2,
                                              rope_parameters=rope(partial_rotary_factor=0.25, mrope_section=[2, 1, 1])),
                   config="Qwen3_5TextConfig", change=DELTA, write=write_qwen35),
    "qwen35moe": case("qwen35moe", "Qwen3_5Moe", sizes(
        24, None, 4, 2, 1, head_dim=24, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=8, moe_intermediate_size=10, shared_expert_intermediate_size=12, num_experts=5, num_experts_per_tok=2,
        rope_parameters=rope(partial_rotary_factor=0.25, mrope_section=[1, 1, 1])),
                      config="Qwen3_5MoeTextConfig", change=DELTA, write=write_qwen35),
}


def make(name):
    c = CASES[name]
    model = make_model(name, c)
    path = write_model(name, c, model)
    for logits, count in c.get("texts", {name: TOKENS}).items():
        error = write_logits(f"{FOLDER}/{logits}.logits", model, text(logits, count, model.config.vocab_size))
        print(f"{logits:14} {os.path.getsize(path) / 1024:6.0f} KiB, float32 against float64: NMSE {error:.1e}")


def main():
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, numpy {np.__version__}")
    for name in sys.argv[1:] or CASES:
        make(name)


main()
