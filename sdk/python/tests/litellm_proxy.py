"""LiteLLM's proxy with guardrails of the kind `generic_guardrail_api`."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 240.0
MASTER_KEY = "sk-0123456789abcdef0123456789abcdef"


@dataclass
class Guardrail:
    """Where it asks, and the lines of its `litellm_params` besides."""

    url: str
    params: str = "api_key: os.environ/CHECKREIN_API_KEY"


@contextlib.contextmanager
def proxying(model: str, key: str, guardrails: dict[str, Guardrail]) -> Iterator[str]:
    """A proxy before the model at ``model``, by its address; a request names the guardrails that it wants."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="checkrein-litellm-") as folder:
        config = Path(folder, "config.yaml")
        config.write_text(configuration(model, guardrails))
        env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | {
            "CHECKREIN_API_KEY": key,
            "HOME": folder,
            "TMPDIR": folder,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the network for one
            "LITELLM_MASTER_KEY": MASTER_KEY,
        }
        program = Path(sys.executable).with_name("litellm")
        log = Path(folder, "log")
        with log.open("wb") as out:
            child = subprocess.Popen(
                [program, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            ends = time.monotonic() + START_SECONDS
            while not _answers(url):
                assert child.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < ends, log.read_text()[-4000:]
                time.sleep(0.2)
            yield url
        finally:
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def configuration(model: str, guardrails: dict[str, Guardrail]) -> str:
    lines = [
        "model_list:",
        f'  - {{model_name: m, litellm_params: {{model: openai/m, api_base: "{model}", api_key: sk-x}}}}',
        "guardrails:",
    ]
    for name, guardrail in guardrails.items():
        lines += [
            f"  - guardrail_name: {name}",
            "    litellm_params:",
            "      guardrail: generic_guardrail_api",
            "      mode: [pre_call, post_call]",
            f"      api_base: {guardrail.url}",
            *(f"      {line}" for line in guardrail.params.splitlines()),
        ]
    return "\n".join(lines) + "\n"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/liveliness", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
