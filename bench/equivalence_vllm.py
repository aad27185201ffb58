"""The equivalence verdict on real models: vLLM on the CPU, sampling at temperature 0.7.

First the same weights on two servers; then the second server with its weights rounded to fewer bits. The old
server answers each prompt twice, for the user and for the noise baseline, the new one once. Each server has
its own seed: two servers with the same seed and the same order of prompts draw the same random numbers, which
makes their answers more similar than two answers of one server. Requires the output of ``python -m
demo.real_vllm prepare``; takes about fifteen minutes on two cores.

    python bench/equivalence_vllm.py --prompts 200 --bits 3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.equivalence import counts, leg
from demo.processes import free_port
from demo.prompts import load
from demo.real import ServerConfig, launch
from demo.real.server import RealVllm, cores, wait_ready
from mirror_collector.compare import EvidenceBlock, compare
from mirror_collector.exchange import Pair, Role
from xds_server.analysis.verdicts import EquivalenceResult, assess_equivalence

_AT_ONCE = 4
_TIMEOUT = aiohttp.ClientTimeout(total=240)
_ROUND = """
import sys
import numpy as np
from safetensors.numpy import load_file, save_file
source, target, bits = sys.argv[1], sys.argv[2], int(sys.argv[3])
tensors = load_file(source)
for name, tensor in tensors.items():
    if tensor.ndim == 2 and "embed" not in name:
        step = np.abs(tensor).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
        tensors[name] = (np.round(tensor / np.maximum(step, 1e-12)) * step).astype(tensor.dtype)
save_file(tensors, target, metadata={"format": "pt"})
"""


def prompts(count: int) -> list[str]:
    """Return `count` different prompts."""
    known = load()
    texts = [prompt.text for prompt in known]
    texts += [prompt.second_turn for prompt in known if prompt.second_turn]
    texts += [f"In one sentence: {text}" for text in texts]
    return texts[:count]


async def answers(url: str, model: str, asked: list[str], tokens: int, name: str) -> list[str]:
    """Return a sampled answer to each prompt, with a few requests at a time."""
    room, done = asyncio.Semaphore(_AT_ONCE), 0
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:

        async def one(text: str) -> str:
            nonlocal done
            document = {
                "model": model,
                "messages": [{"role": "user", "content": text}],
                "temperature": 0.7,
                "max_tokens": tokens,
            }
            async with room, session.post(f"{url}/v1/chat/completions", json=document) as answer:
                answer.raise_for_status()
                document = await answer.json()
            done += 1
            if done % 25 == 0:
                print(f"{name}: {done} of {len(asked)} answers", flush=True)
            return str(document["choices"][0]["message"]["content"])

        return list(await asyncio.gather(*(one(text) for text in asked)))


def verdict(old: list[str], new: list[str], again: list[str]) -> dict[str, Any]:
    """Return the verdict after all pairs, and the first verdict with its number of pairs."""
    block, first, found = EvidenceBlock(), None, None
    for number, texts in enumerate(zip(old, new, again, strict=True), start=1):
        legs = [
            leg(role, text) for role, text in zip((Role.PRIMARY, Role.SHADOW, Role.NOISE), texts, strict=True)
        ]
        comparison = compare(Pair(primary=legs[0], shadow=legs[1], noise=legs[2]))
        block.add(comparison, first_of_unit=True, first_baseline_of_unit=True)
        found = assess_equivalence(counts(block))
        if first is None and found.equivalence.value != "Inconclusive":
            first = (number, found.equivalence.value)
    return {"pairs": len(old), "first": first, **_summary(found)}


def _summary(found: EquivalenceResult | None) -> dict[str, Any]:
    if found is None:
        return {}
    text = next((one for one in found.measures if one.measure == "rouge_l"), None)
    signs = None if text is None else [text.outcomes.less, text.outcomes.more, text.outcomes.same]
    return {"verdict": found.equivalence.value, "words": found.message, "rouge_l_less_more_same": signs}


def changed_root(root: Path, folder: Path, script: str, *arguments: str) -> Path:
    """Return a copy of `root` in `folder`, with weights that a Python script changed.

    The script gets two safetensors files, one to read and one to write, and then `arguments`. The Python of
    `root` runs it.
    """
    for part in root.iterdir():
        if part.name not in {"model", "logs", ".lock"}:
            (folder / part.name).symlink_to(part)
    (folder / "model").mkdir()
    for part in (root / "model").iterdir():
        if part.name != "model.safetensors":
            (folder / "model" / part.name).symlink_to(part)
    files = [str(one / "model" / "model.safetensors") for one in (root, folder)]
    python = root / "env" / "bin" / "python"
    subprocess.run([str(python), "-c", script, *files, *arguments], check=True, timeout=300)
    return folder


async def run_comparisons(root: Path, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Run both comparisons, and return their verdicts."""
    texts = prompts(asked.prompts)
    computed = cores()
    old_config = ServerConfig(
        root=root, name="smol-a", port=free_port(), core=computed[0], max_model_len=512, seed=1
    )
    new_config = replace(old_config, name="smol-b", port=free_port(), core=computed[-1], seed=2)
    old, new = launch(old_config, folder), launch(new_config, folder)
    running: list[RealVllm] = [old, new]
    result: dict[str, Any] = {"prompts": len(texts), "max_tokens": asked.tokens}
    try:
        wait_ready(running)
        twice, once = await asyncio.gather(
            answers(old.base_url, "smol-a", [*texts, *texts], asked.tokens, "old"),
            answers(new.base_url, "smol-b", texts, asked.tokens, "new"),
        )
        users, again = twice[: len(texts)], twice[len(texts) :]
        result["same_weights"] = verdict(users, once, again)
        print(json.dumps(result["same_weights"]), flush=True)
        if asked.bits:
            for server in running:
                server.stop()
            running.clear()
            coarse = folder / "coarse"
            coarse.mkdir()
            config = replace(
                new_config, root=changed_root(root, coarse, _ROUND, str(asked.bits)), port=free_port()
            )
            running.append(launch(config, folder))
            wait_ready(running)
            rounded = await answers(config.base_url, "smol-b", texts, asked.tokens, f"{asked.bits} bits")
            result[f"rounded_to_{asked.bits}_bits"] = verdict(users, rounded, again)
    finally:
        for server in running:
            server.stop()
    return result


def main() -> None:
    """Print progress; the last line is JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=24, help="Maximum tokens per answer.")
    parser.add_argument(
        "--bits", type=int, default=3, help="Bits of the rounded weights; 0 skips this comparison."
    )
    parser.add_argument("--dir", type=Path, default=Path(".vllm"), help="Folder with the prepared servers.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(run_comparisons(asked.dir.resolve(), Path(folder), asked))))


if __name__ == "__main__":
    main()
