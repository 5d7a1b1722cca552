"""The real server in a temporary folder, for tests. They fail without `$CHECKREIN_BIN`, the binary."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60.0


@dataclass(frozen=True)
class RealServer:
    """A server that runs, with a store of its own."""

    url: str
    admin_key: str
    binary: Path
    data: Path

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run a `checkrein` command against this server as its admin."""
        env = os.environ | {
            "CHECKREIN_URL": self.url,
            "CHECKREIN_API_KEY": self.admin_key,
            "CHECKREIN_DATA": str(self.data),
        }
        return subprocess.run(
            [self.binary, *args], env=env, text=True, capture_output=True, timeout=60, check=False
        )


def binary() -> Path:
    """The binary under test."""
    path = os.environ.get("CHECKREIN_BIN")
    if not path or not Path(path).is_file():
        raise RuntimeError(
            "CHECKREIN_BIN must name the checkrein binary; build it with `cargo build` and set "
            f"CHECKREIN_BIN=target/debug/checkrein (now: {path!r})"
        )
    return Path(path).resolve()


@contextlib.contextmanager
def serving(config: Path | None = None, listen: str = "127.0.0.1:0") -> Iterator[RealServer]:
    """Start a server, with ``config`` if one is given; stop it and remove its folder at the end."""
    program = binary()
    with tempfile.TemporaryDirectory(prefix="checkrein-test-") as folder:
        key = "ck_admin_" + secrets.token_hex(32)
        data = Path(folder, "data")
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CHECKREIN_")}
        log = Path(folder, "server.log")
        if config is None:
            # Tests do the same thing over and over, which would open the breaker of any agent.
            config = Path(folder, "checkrein.toml")
            config.write_text('[drift]\nmode = "alert"\n')
        more = ["--config", config]
        with log.open("wb") as out:
            child = subprocess.Popen(
                [program, "serve", "--json", "--listen", listen, "--data", data, *more],
                env=clean | {"CHECKREIN_ADMIN_KEY": key},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=out,
                cwd=folder,
            )
        try:
            url = _url(child)
            if url is None:
                raise RuntimeError(
                    f"the server does not serve (exit code {child.poll()}):\n{log.read_text()}"
                )
            server = RealServer(url, key, program, data)
            yield server
        finally:
            child.terminate()
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                raise
            finally:
                assert child.stdout is not None
                child.stdout.close()


def _url(child: subprocess.Popen[bytes]) -> str | None:
    """Where the server listens, from the line that it prints once it does."""
    assert child.stdout is not None
    line = b""
    ends = time.monotonic() + START_SECONDS
    while not line.endswith(b"\n") and select.select([child.stdout], [], [], ends - time.monotonic())[0]:
        if not (piece := os.read(child.stdout.fileno(), 4096)):
            return None
        line += piece
    return str(json.loads(line)["listening"]) if line.endswith(b"\n") else None
