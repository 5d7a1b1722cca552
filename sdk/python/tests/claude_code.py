"""Claude Code's own program, as `scripts/setup` installs it, with a scripted model."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from claude_server import Turn, claude

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = Path(".claude/settings.json")


def program() -> Path:
    found = list(ROOT.glob(".cache/claude-code/node_modules/@anthropic-ai/claude-code-*/claude"))
    assert len(found) == 1, "Claude Code is not installed; run scripts/setup test"
    return found[0]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of this machine's that has settings of a person; what it leaves behind is left in ``home``."""
    temporary = home / ".tmp"
    temporary.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k == "STARTED_BY_TEST_RUN"}
    return kept | {
        "PATH": f"{program().parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "CLAUDE_CODE_TMPDIR": str(temporary),
        "ANTHROPIC_API_KEY": "sk-dummy",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "IS_SANDBOX": "1",  # or it does not bypass permissions as root
        **more,
    }


def run(folder: Path, turns: list[Turn], key: str | None, *, mode: str = "bypassPermissions") -> list[str]:
    """What the model reads of the calls that it makes in ``folder``, Claude Code's project and home."""
    with claude(turns) as model:
        env = environment(folder, ANTHROPIC_BASE_URL=model.url)
        if key is not None:
            env["CHECKREIN_API_KEY"] = key
        done = subprocess.run(
            [program(), "-p", "go", "--permission-mode", mode, "--max-turns", "6"],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return model.read()


def change(folder: Path, **changes: Any) -> None:
    """Change the hook that is asked before a tool runs; ``None`` takes a field out."""
    settings = json.loads((folder / SETTINGS).read_text())
    (group,) = settings["hooks"]["PreToolUse"]
    (hook,) = group["hooks"]
    for name, value in changes.items():
        hook.pop(name, None)
        if value is not None:
            hook[name] = value
    (folder / SETTINGS).write_text(json.dumps(settings))
