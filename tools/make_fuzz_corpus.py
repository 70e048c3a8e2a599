#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seeds of tests/fuzz/corpus: tiny GGUF files by hand, nothing random, so that running it again changes nothing.

usage: tools/make_fuzz_corpus.py [FOLDER]        (default: tests/fuzz/corpus beside this script)
"""
import os
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, data):
    return string(data) if kind == STRING else struct.pack("<" + FORMATS[kind], data)


def scalar(key, kind, data):
    return string(key) + struct.pack("<I", kind) + value(kind, data)


def array(key, kind, items):
    head = string(key) + struct.pack("<IIQ", ARRAY, kind, len(items))
    return head + b"".join(value(kind, item) for item in items)


def tensor(name, shape, number, offset):
    dims = struct.pack("<I%dQ" % len(shape), len(shape), *shape)
    return string(name) + dims + struct.pack("<IQ", number, offset)


def gguf(entries, tensors=(), data=b"", version=3, alignment=32):
    body = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join(entries) + b"".join(tensors)
    if tensors:
        body += b"\0" * (-len(body) % alignment) + data
    return body


def vocabulary(pieces, extra=(), scores=True, kinds=True):
    """pieces: (text, score, kind)"""
    entries = [scalar("tokenizer.ggml.model", STRING, "llama"), array("tokenizer.ggml.tokens", STRING, [p[0] for p in pieces])]
    if scores:
        entries.append(array("tokenizer.ggml.scores", F32, [p[1] for p in pieces]))
    if kinds:
        entries.append(array("tokenizer.ggml.token_type", I32, [p[2] for p in pieces]))
    return gguf(entries + list(extra))


def byte_letters():
    """The characters that byte-level vocabularies write bytes as."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [letters[b] for b in range(256)]


def byte_vocabulary(pre, extra_pieces=(), merges=(), extra=()):
    """extra_pieces: (text, kind), after the 256 letters and what the merges make"""
    pieces = [(c, 1) for c in byte_letters()] + [(m.replace(" ", ""), 1) for m in merges] + list(extra_pieces)
    entries = [scalar("tokenizer.ggml.model", STRING, "gpt2"), array("tokenizer.ggml.tokens", STRING, [p[0] for p in pieces])]
    entries += [scalar("tokenizer.ggml.pre", STRING, pre), array("tokenizer.ggml.token_type", I32, [p[1] for p in pieces])]
    return gguf(entries + [array("tokenizer.ggml.merges", STRING, merges)] + list(extra))


def seeds_gguf():
    every = [scalar("k%d" % kind, kind, 1) for kind in FORMATS] + [scalar("text", STRING, "word"), array("texts", STRING, ["a", "", "bcd"])]
    every += [array("a%d" % kind, kind, [0, 1, 1]) for kind in FORMATS]
    two = [tensor("token_embd.weight", (32, 4), 8, 0), tensor("output_norm.weight", (32,), 0, 160)]
    model = [scalar("general.architecture", STRING, "llama"), scalar("llama.block_count", U32, 1)]
    yield "nothing", gguf([])
    yield "every-type", gguf(every)
    yield "two-tensors", gguf(model, two, bytes(range(136)) + bytes(24) + bytes(128))
    yield "version-2", gguf(model, two, bytes(288), version=2)
    yield "alignment-64", gguf([scalar("general.alignment", U32, 64)], [tensor("t", (2, 2, 2, 2), 1, 0)], bytes(32), alignment=64)
    yield "parts", gguf([scalar("split.count", U16, 2), scalar("split.no", U16, 0)])
    yield "overlap", gguf([], [tensor("a", (32,), 0, 0), tensor("b", (32,), 0, 96)], bytes(256))
    yield "nested-array", gguf([string("n") + struct.pack("<IIQ", ARRAY, ARRAY, 1) + bytes(16)])
    yield "huge-counts", b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60) + bytes(64)


def seeds_tokenizer():
    """A vocabulary's length, the vocabulary, then text (its first byte: flags)."""
    space = "\u2581"
    byte_pieces = [("<0x%02X>" % b, 0.0, 6) for b in range(256)]
    letters = [(c, -100.0 - i, 1) for i, c in enumerate(space + "abcdefgh")]
    merges = [(space + "a", -1.0, 1), ("ab", -2.0, 1), ("bc", -2.0, 1), ("abc", -3.0, 1), (space + space, -4.0, 1), ("aa", -5.0, 1), ("aaaa", -6.0, 1)]
    control = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("\n", 0.0, 4), ("<|im_end|>", 0.0, 3)]
    ids = [scalar("tokenizer.ggml.bos_token_id", U32, 1), scalar("tokenizer.ggml.eos_token_id", U32, 2), scalar("tokenizer.ggml.unknown_token_id", U32, 0)]
    flags = [scalar("tokenizer.ggml.add_bos_token", BOOL, True), scalar("tokenizer.ggml.add_space_prefix", BOOL, False)]
    unused = [("abcd", -0.5, 5), ("abcdefgh", -0.7, 1), ("cd", -0.1, 5)]
    text = "\x03abc <s>aaaa\n\n  abcdefgh \u00e9\u20ac\U0001f999</s>".encode() + b"\xff\xc3\xf0\x9f"
    full = vocabulary(control + byte_pieces + letters + merges, ids)
    cases = {
        "full": (full, text),
        "plain-text": (full, b"\0" + b"abcabc aab " * 8),
        "no-prefix": (vocabulary(control + byte_pieces + letters + merges, ids + flags), text),
        "no-bytes": (vocabulary(control + letters + merges, ids), text),
        "unused": (vocabulary(control + letters + merges + unused, ids), b"\1abcdefgh abcd cd abcdabcd"),
        "no-types": (vocabulary(control + byte_pieces + letters + merges, ids, kinds=False), text),
        "phi": (vocabulary(control + letters, ids + [scalar("general.architecture", STRING, "phi3")]), b"\2<|im_end|> \n a"),
        "no-scores": (vocabulary(control + letters, ids, scores=False), text),
        "id-outside": (vocabulary(letters, ids[:1] + [scalar("tokenizer.ggml.eot_token_id", U32, 99)]), text),
    }
    g = "\u0120"  # a space
    merges = ["a b", "b c", "ab c", g + " a", "a a", "aa aa", "1 2", "l l", g + g + " " + g, "\u00c3 \u00a9", "' s", "q nothing", "a b"]
    more = [("<|endoftext|>", 3), ("<|im_end|>", 1), ("<user>", 4), ("\u00f5", 4), ("", 1), ("ab", 3), (g + "whole", 1)]
    bpe_text = "\x03abc aaaa it's  whole<user> 1234\n\n <|im_end|> \u00e9\u00f5\u4e00\u3000\U0001f999!!".encode() + b"\xff\xc3\xf0\x9f"
    for pre in ("default", "gpt-2", "llama-bpe", "qwen2", "gpt-4o", "starcoder", "deepseek-llm", "deepseek-v3"):
        cases["bpe-" + pre] = (byte_vocabulary(pre, more, merges), bpe_text)
    cases["bpe-long-word"] = (byte_vocabulary("gpt-2", more, merges), b"\0" + b"abcaabca" * 40)
    cases["bpe-bad-merge"] = (byte_vocabulary("gpt-2", more, ["ab"]), bpe_text)
    cases["bpe-unknown-rule"] = (byte_vocabulary("mars", more, merges), bpe_text)
    for name, (vocab, rest) in cases.items():
        yield name, struct.pack("<I", len(vocab)) + vocab + rest


CHAT_TOKENS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start|>", "<|message|>", "<|channel|>",
               "<|end|>", "<|return|>", "<|call|>", "[INST]", "[/INST]", "<|user|>", "<|assistant|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]


def chat_messages(*turns):
    """(role, text): 0 system, 1 user, 2 assistant"""
    return b"".join(bytes([role, len(text)]) + text for role, text in turns)


def seeds_chat():
    """A file's length, the file, the number of a family (255: the template's own), flags, messages."""
    talk = chat_messages((0, b"Be brief. /no_think"), (1, b" <|im_end|> [INST] <end_of_turn>\n"), (2, b"<think>hm</think>\n\nOk"), (1, b"\xff \xe3\x80\x80"))
    short = chat_messages((1, b"Hi"))
    templates = {
        "chatml": "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou are a quern.<|im_end|>\\n' }}{% endif %}",
        "qwen3": "<|im_start|> <|im_end|> </think> {% if add_generation_prompt %}{% if enable_thinking is true %}{{ '<think>\\n' }}{% endif %}{% endif %}",
        "smollm3": "<|im_start|> Reasoning Mode Custom Instructions {%- elif reasoning_mode == \"/think\" -%}\n {{- \"Think first.\\n\\n\" -}}",
        "gpt-oss": "<|start|> <|message|> <|channel|>",
        "gemma": "{{ bos_token }}<start_of_turn><end_of_turn>",
        "mistral": "{{ bos_token }}[INST] x[/INST]",
        "zephyr": "{{ '<|user|>\\n' + message['content'] + eos_token }}",
        "unknown": "{{ messages }}",
    }
    for kind in (3, 4):
        for name, template in templates.items():
            entries = [scalar("tokenizer.chat_template", STRING, template), scalar("tokenizer.ggml.bos_token_id", U32, 256), scalar("tokenizer.ggml.eos_token_id", U32, 257)]
            vocab = byte_vocabulary("gpt-2", [(token, kind) for token in CHAT_TOKENS] + [("<think>", 4), ("</think>", 4)], [], entries)
            yield "%s-%d" % (name, kind), struct.pack("<I", len(vocab)) + vocab + b"\xff\0" + talk
    for number in range(25):
        vocab = byte_vocabulary("gpt-2", [(token, 3) for token in CHAT_TOKENS])
        yield "family-%d" % number, struct.pack("<I", len(vocab)) + vocab + bytes([number, number % 3]) + (talk if number % 2 else short)


def seeds_talk():
    full = b'{"quern_chat":1,"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"\\u00e9\\n"},{"role":"assistant","content":"a","thinking":"t"}]}\n'
    yield "full", full
    yield "none", b'{"messages":[]}'
    yield "long", b'{"messages":[' + b",".join([b'{"role":"user","content":"a"},{"role":"assistant","content":"b"}'] * 20) + b"]}"
    yield "turns", b'{"messages":[{"role":"user","content":"a"},{"role":"user","content":"a"}]}'
    yield "roles", b'{"messages":[{"role":"tool","content":[1,2.5e3,null,true,{"a":[[]]}]}]}'
    yield "deep", b"[" * 40
    yield "lines", b"what is a quern?\n/stats\n\xc3\xa9\n\x1b[31m\n\xff\xfe\nlast"


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "tests", "fuzz", "corpus")
    for folder, seeds in (("gguf", seeds_gguf()), ("tokenizer", seeds_tokenizer()), ("chat", seeds_chat()), ("talk", seeds_talk())):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
        for name, data in seeds:
            with open(os.path.join(root, folder, name), "wb") as file:
                file.write(data)


if __name__ == "__main__":
    main()
