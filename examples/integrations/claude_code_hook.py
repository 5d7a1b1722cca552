"""Claude Code in a project where every tool call is checked, with a scripted model."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checkrein import Checkrein

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sdk/python/tests"))
from claude_code import environment, program
from claude_server import claude

checkrein = os.environ.get("CHECKREIN_BIN", "checkrein")
rule = {"category": "write", "resource_pattern": "*/.env"}
Checkrein().policies.create({"name": "no_secrets", "rule": "block", "condition": rule})


def run(*command: str | Path, **env: str) -> str:
    return subprocess.run(command, env=os.environ | env, check=True, stdout=-1, text=True).stdout


# An agent's key: it can neither approve nor change policies.
key = run(checkrein, "keys", "create", "--role", "agent", "--name", "claude", "--agent", "claude-code")

with tempfile.TemporaryDirectory() as project:
    os.chdir(project)
    run(checkrein, "hook", "claude-code", "--install")
    calls = [("Write", {"file_path": f"{project}/{name}", "content": "A=1"}) for name in (".env", "notes")]
    with claude([calls]) as model:
        env = environment(Path(project), ANTHROPIC_BASE_URL=model.url, CHECKREIN_API_KEY=key.strip())
        print(run(program(), "-p", "write the settings", "--permission-mode", "acceptEdits", **env))
        print(*model.read(), sep="\n")
    print("written:", [p.name for p in Path(project).iterdir() if p.name in (".env", "notes")])
