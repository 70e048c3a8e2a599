#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bench/peer/llama_cpp.py: Quern and llama.cpp on the same device and the same file with random weights, in turn, so that what
the machine does meanwhile happens to both. llama.cpp is built by hand, outside this repository; this runs its llama-bench.

  bench/peer/llama_cpp.py --llama-bench PATH [--quern-bench build/bench/quern-bench-engine] [--device vulkan]
                          [--shape 1b] [--formats q8_0,q4_k_m] [--prompt 32] [--generate 8] [--repeat 3] [--json FILE]

Each engine runs once before it counts, which compiles its kernels. The tables are on stdout; --json has every run."""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile


def say(words):
    print(words, file=sys.stderr, flush=True)


def run(command, environment=None):
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def quern(o, model):
    out = json.loads(run([o.quern_bench, "--model", model, "--device", o.device, "--prompt", str(o.prompt), "--generate", str(o.generate),
                          "--repeat", "1", "--json"]))
    return {"prefill": out["prefill_tokens_per_second"][0], "decode": out["decode_tokens_per_second"][0], "device": out["device"]}


def llama_cpp(o, model):
    # without the variable its Vulkan backend leaves a processor that poses as a GPU alone and quietly runs on the CPU backend
    out = json.loads(run([o.llama_bench, "-m", model, "-p", str(o.prompt), "-n", str(o.generate), "-r", "1", "-o", "json", "-ngl",
                          "99" if o.device.startswith("vulkan") else "0"], {"GGML_VK_VISIBLE_DEVICES": "0"}))
    if o.device.startswith("vulkan") and not out[0]["gpu_info"]:
        sys.exit(f"this llama-bench found no Vulkan device; it has the backends {out[0]['backends']}")
    found = {("prefill" if test["n_prompt"] else "decode"): test["avg_ts"] for test in out}
    return {**found, "device": out[0].get("gpu_info") or out[0]["cpu_info"], "build": out[0]["build_commit"]}


def compare(o, name):
    folder = tempfile.mkdtemp(prefix="quern-peer-")
    model = os.path.join(folder, f"{o.shape}-{name}.gguf")
    try:
        run([o.quern_bench, "--shape", o.shape, "--format", name, "--write", model])
        engines = {"quern": quern, "llama.cpp": llama_cpp}
        runs = {engine: [] for engine in engines}
        for i in range(o.repeat + 1):
            for engine, measure in engines.items():
                say(f"{name}: {engine}, " + (f"run {i} of {o.repeat}" if i else "a run that compiles"))
                found = measure(o, model)
                if i:
                    runs[engine].append(found)
    finally:
        for file in os.listdir(folder):
            os.remove(os.path.join(folder, file))
        os.rmdir(folder)
    middle = {engine: {what: statistics.median(r[what] for r in runs[engine]) for what in ("prefill", "decode")} for engine in runs}
    times = {what: middle["quern"][what] / middle["llama.cpp"][what] for what in ("prefill", "decode")}
    for what in ("prefill", "decode"):
        print(f"{name:8} {what:8} quern {middle['quern'][what]:8.2f} tok/s   llama.cpp {middle['llama.cpp'][what]:8.2f} tok/s   "
              f"{times[what]:.2f} times", flush=True)
    return {"format": name, "runs": runs, "median": middle, "times": times}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--llama-bench", required=True)
    p.add_argument("--quern-bench", default="build/bench/quern-bench-engine")
    p.add_argument("--device", default="vulkan", help="as in quern run: vulkan or cpu")
    p.add_argument("--shape", default="1b")
    p.add_argument("--formats", default="q8_0,q4_k_m")
    p.add_argument("--prompt", type=int, default=32)
    p.add_argument("--generate", type=int, default=8)
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("--json", metavar="FILE")
    o = p.parse_args()
    results = [compare(o, name) for name in o.formats.split(",")]
    if o.json:
        with open(o.json, "w", encoding="utf-8") as out:
            json.dump({"benchmark": "peer", "system": " ".join(platform.uname()[i] for i in (0, 2, 4)), "processors": os.cpu_count(),
                       "shape": o.shape, "prompt": o.prompt, "generate": o.generate, "results": results}, out, indent=2)
            out.write("\n")


if __name__ == "__main__":
    main()
