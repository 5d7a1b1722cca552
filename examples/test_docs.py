"""What the documents show must work: each block of code in them, and each command, is tried or parsed.

A failure names the file and line. Needs the package `checkrein` and, in CHECKREIN_BIN, the binary.
"""

import ast
import contextlib
import functools
import importlib
import inspect
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import checkrein
import pytest
from real_server import serving

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("sdk/*/README.md"),
]
PLACEHOLDER = re.compile(r"…|^[A-Z]+$")  # `apr_…`, `FILE`: stands for any value


@dataclass(frozen=True)
class Piece:
    """Something in a page: where it is, what kind it is, and its text."""

    where: str
    kind: str
    text: str

    def __str__(self) -> str:
        return self.where


def pieces(page: Path) -> Iterator[Piece]:
    """The fenced blocks of a page by their language, and its inline code as kind ``inline``."""
    name, kind, began, lines = page.relative_to(ROOT), None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if kind is None:
                kind, began, lines = line[3:].strip(), number + 1, []
            else:
                yield Piece(f"{name}:{began}", kind, "\n".join(lines))
                kind = None
        elif kind is not None:
            lines.append(line)
        else:
            for code in re.findall(r"`([^`]+)`", line):
                yield Piece(f"{name}:{number}", "inline", code.replace("\\|", "|"))
    assert kind is None, f"{name}:{began}: the block has no end"


ALL = [piece for page in PAGES for piece in pieces(page)]
ALL = [p for p in ALL if p.kind != "inline" or p.text.startswith(("checkrein ", "--"))]


def of(*kinds: str) -> Any:
    return pytest.mark.parametrize("piece", [p for p in ALL if p.kind in kinds], ids=str)


def run(*args: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    binary = os.environ.get("CHECKREIN_BIN")
    assert binary, "CHECKREIN_BIN must name the checkrein binary; `make test` sees to that"
    env = {k: v for k, v in os.environ.items() if not k.startswith("CHECKREIN_")}
    command = [str(Path(binary).resolve()), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, timeout=120, check=False)


@of("toml")
def test_toml_is_a_configuration(piece: Piece, tmp_path: Path) -> None:
    (tmp_path / "checkrein.toml").write_text(piece.text)
    done = run("config", "check", cwd=tmp_path)
    # The files and variables that it names are the reader's.
    readers = ("there is no", "is not set")  # files and variables
    wrong = [line for line in done.stderr.splitlines()[1:] if not any(word in line for word in readers)]
    assert done.returncode in (0, 1)
    assert done.returncode == 0 or not wrong, f"{piece}: {wrong}"


@of("json")
def test_json_is_policies_or_examples(piece: Piece, tmp_path: Path) -> None:
    file = tmp_path / "block.json"
    file.write_text(piece.text)
    if isinstance(json.loads(piece.text), list):
        done = run("policy", "test", file, "--policies", "examples/policies.toml")
    else:
        done = run("policy", "validate", file)
    assert done.returncode == 0, f"{piece}: {done.stdout}{done.stderr}"


@of("python")
def test_python_compiles_and_names_what_exists(piece: Piece) -> None:
    tree = compile(piece.text, piece.where, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    known = {
        "Checkrein": checkrein.Checkrein,
        "check": checkrein.Checkrein.check,
        "guard": checkrein.Checkrein.check,
        "wait": checkrein.CheckResult.wait,
        "outcome": checkrein.CheckResult.outcome,
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("checkrein", "vaultak"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{piece}: {node.module} has no {alias.name}"
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in known:
                allowed = {*inspect.signature(known[name]).parameters, *(["wait"] if name == "guard" else [])}
                given = {keyword.arg for keyword in node.keywords}
                assert given <= allowed, f"{piece}: {name} does not take {given - allowed}"


@dataclass
class Command:
    """What ``--help`` says of a command."""

    commands: set[str]
    flags: dict[str, bool]  # whether it takes a value
    least: int  # arguments
    most: float


@functools.cache
def command(path: tuple[str, ...] = ()) -> Command:
    done = run(*path, "--help")
    assert done.returncode == 0, f"`checkrein {' '.join(path)} --help`: {done.stderr}"
    parts = re.split(r"^Commands:$", done.stdout.split("\nOptions:")[0], flags=re.M)
    usage = re.search(r"^Usage: checkrein(.*)$", done.stdout, re.M)
    assert usage
    required = re.sub(r"--\S+ <[^>]+>(\.\.\.)?|\[[^\]]*\]", "", usage[1])
    flags: dict[str, bool] = {}
    for short, long, value in re.findall(r"^ +(-\w)?(?:, )?(--[a-z-]+)?( <)?", done.stdout, re.M):
        flags |= {flag: bool(value) for flag in (short, long) if flag}
    commands = set(re.findall(r"^  ([a-z-]+)  ", parts[1], re.M)) if len(parts) > 1 else set()
    least = len(re.findall(r"<(?!-)[^>]+>", required))
    optional = len(re.findall(r"\[(?!OPTIONS)[A-Z]+\]", usage[1]))
    return Command(commands, flags, least, float("inf") if "..." in usage[1] else least + optional)


def check_command(words: list[str], where: str, *, whole: bool) -> None:
    """``words`` after `checkrein`; with ``whole``, required arguments must be there too."""
    path: tuple[str, ...] = ()
    while words and command(path).commands:
        if words[0].startswith("-") or (not whole and PLACEHOLDER.search(words[0])):
            break
        assert words[0] in command(path).commands, (
            f"{where}: there is no command {' '.join((*path, words[0]))!r}"
        )
        path += (words.pop(0),)
    known, arguments = command(path), 0
    while words:
        word = words.pop(0)
        if word == "--":  # what follows is another program's
            arguments += len(words)
            break
        if not word.startswith("-") or word == "-":
            arguments += 1
            continue
        flag = word.split("=")[0]
        assert flag in known.flags, f"{where}: `checkrein {' '.join(path)}` has no {flag}"
        if known.flags[flag] and "=" not in word and words:
            words.pop(0)
    if whole:
        assert not known.commands, f"{where}: `checkrein {' '.join(path)}` needs a command"
        assert known.least <= arguments <= known.most, (
            f"{where}: `checkrein {' '.join(path)}`: {arguments} arguments"
        )


def typed(piece: Piece) -> Iterator[tuple[str, list[str], list[str]]]:
    """The command lines of a console or shell block, each with where it is and the output that follows it."""
    name, first = piece.where.split(":")
    lines = piece.text.splitlines()
    at = 0
    while at < len(lines):
        where, line = f"{name}:{int(first) + at}", lines[at]
        at += 1
        if piece.kind == "console":
            if not line.startswith("$ "):
                continue
            line = line[2:]
        while line.endswith("\\") or line.count('"') % 2:
            line, at = line.removesuffix("\\") + "\n" + lines[at], at + 1
        output = []
        while piece.kind == "console" and at < len(lines) and not lines[at].startswith("$ "):
            output.append(lines[at])
            at += 1
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in ("|", "&&", ";", ">"):
                if words:
                    yield where, words, output
                words = []
            else:
                words.append(word)


@of("console", "sh")
def test_commands_exist(piece: Piece) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for where, (program, *words), output in typed(piece):
        if program == "make":
            assert words[0] in targets, f"{where}: there is no target {words[0]}"
        elif program == "curl":
            body = words[words.index("-d") + 1] if "-d" in words else '{"tool":"none"}'
            if not any(word.endswith("/v1/checks") for word in words):
                assert isinstance(json.loads(body), dict), f"{where}: this is no JSON: {body}"
                continue
            assert run("classify", body).returncode == 0, f"{where}: this is no check: {body}"
        elif program == "pip":
            for path in words[1:]:
                folder, _, extras = path.partition("[")
                project = ROOT / folder / "pyproject.toml"
                assert path.startswith("-") or project.is_file(), f"{where}: no {path}"
                for extra in filter(None, extras.removesuffix("]").split(",")):
                    assert f"\n{extra} = [" in project.read_text(), f"{where}: no extra {extra}"
        elif program == "npm":
            for path in [word for word in words if word.startswith(("./", "sdk/"))]:
                assert (ROOT / path / "package.json").is_file(), f"{where}: no {path}"
        elif Path(program).name == "checkrein":
            check_command(words.copy(), where, whole=True)
            for file in re.findall(r"examples/\S+", " ".join(words)):
                assert (ROOT / file).is_file(), f"{where}: there is no {file}"
            if words[0] == "classify":
                said = run(*words)
                assert said.returncode == 0, f"{where}: {said.stderr}"
                shown = re.escape("\n".join(output)).replace("…", ".*")
                assert re.search(shown, said.stdout, re.S), f"{where}: it says otherwise:\n{said.stdout}"


@of("inline")
def test_inline_commands_and_flags_exist(piece: Piece) -> None:
    if piece.text.startswith("checkrein "):
        words = shlex.split(piece.text.split("&&")[0].replace("[", "").replace("]", ""))[1:]
        for alternative in words[1].split("|") if len(words) > 1 else [""]:
            rest = [w for w in [words[0], alternative, *words[2:]] if w and not PLACEHOLDER.search(w)]
            check_command(rest, piece.where, whole=False)
    else:
        assert piece.text.split()[0] in every_flag(), f"{piece}: no command has {piece.text}"


@functools.cache
def every_flag(path: tuple[str, ...] = ()) -> set[str]:
    known = command(path)
    return set(known.flags).union(*(every_flag((*path, c)) for c in known.commands - {"help"}))


def test_the_example_configuration_has_every_key() -> None:
    example = (ROOT / "examples/checkrein.toml").read_text()
    for line in (ROOT / "docs/configuration.md").read_text().splitlines():
        for key in (
            re.findall(r"`((?:[a-zNAME]+[._])*[a-z_]+)`", line.split(" | ")[0])
            if line.startswith("| ")
            else []
        ):
            last = key.split(".")[-1]
            assert re.search(rf"\b{last}\b\"? *=", example), f"examples/checkrein.toml does not show {key}"


def test_the_quickstart_happens_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [piece for piece in ALL if piece.where.startswith("docs/quickstart.md")]
    policies = next(piece.text for piece in shown if piece.kind == "json")
    five_lines, wait_for_a_person = (piece.text for piece in shown if piece.kind == "python")
    (tmp_path / "policies.json").write_text(policies)
    with serving() as server:
        monkeypatch.setenv("CHECKREIN_URL", server.url)
        monkeypatch.setenv("CHECKREIN_API_KEY", server.admin_key)
        done = server.command("policy", "apply", str(tmp_path / "policies.json"))
        assert done.returncode == 0, done.stderr
        names: dict[str, Any] = {}
        with pytest.raises(checkrein.PolicyViolationError, match="10000"):
            exec(five_lines, names)
        exec(five_lines.replace("10_000", "12"), names)
        assert len(five_lines.splitlines()) == 5

        asks, waits = wait_for_a_person.split("\n", 1)
        exec(asks, names)
        assert names["result"].held, names["result"].reason
        assert server.command("approvals", "approve", names["result"].approval_id).returncode == 0
        exec(waits, names)
        assert names["result"].allowed, names["result"].reason
        names["client"].close()


def test_the_recovery_drill_happens_as_told(tmp_path: Path) -> None:
    drill = [p for p in ALL if p.where.startswith("docs/rollback.md") and p.kind == "console"]
    steps = [words for piece in drill for _, words, _ in typed(piece)]
    file, config = tmp_path / "drill.sqlite", tmp_path / "checkrein.toml"

    def users() -> list[tuple[int, str]]:
        with contextlib.closing(sqlite3.connect(file)) as db:
            return db.execute("SELECT id, plan FROM users ORDER BY id").fetchall()

    def sql(words: list[str]) -> None:
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.executescript(words[1])

    before = [(1, "pro"), (2, "pro"), (3, "free")]
    assert [s[0] for s in steps[:4]] == ["alias", "sql", "checkrein", "checkrein"]
    sql(steps[1])
    added = run(*steps[2][1:], cwd=tmp_path)
    assert added.returncode == 0, added.stderr
    with serving(config) as server:

        def told(words: list[str], snapshot: str = "", code: int = 0) -> str:
            words = [w.replace("snp_…", snapshot) for w in words[1:]]
            done = server.command(*words)
            assert done.returncode == code, f"{words}: {done.returncode} {done.stdout}{done.stderr}"
            return done.stdout

        def newest() -> str:
            found = json.loads(server.command("snapshot", "list", "--json").stdout)
            return str(found["snapshots"][0]["id"])

        execute, listing, dry, rollback, others, refused, skip, force = steps[4:]
        told(execute)
        assert {plan for _, plan in users()} == {"expired"}
        assert newest() in told(listing)
        told(dry, newest())
        assert {plan for _, plan in users()} == {"expired"}
        told(rollback, newest())
        assert users() == before

        told(execute)
        sql(others)
        kept = newest()
        told(refused, kept, code=3)
        assert users() == [(1, "expired"), (2, "gold"), (3, "expired")]
        told(skip, kept)
        assert users() == [(1, "pro"), (2, "gold"), (3, "free")]
        told(force, kept)
        assert users() == before


def test_the_example_files_are_good() -> None:
    for args in (
        ["config", "check", "--config", "examples/checkrein.toml"],
        ["policy", "validate", "examples/policies.toml"],
        ["policy", "test", "examples/policy-tests.json", "--policies", "examples/policies.toml"],
    ):
        done = run(*args)
        assert done.returncode == 0, f"checkrein {' '.join(args)}: {done.stdout}{done.stderr}"


def test_there_is_something_to_test() -> None:
    kinds = {piece.kind for piece in ALL}
    assert {"toml", "json", "python", "console", "sh", "inline"} <= kinds
    assert sys.version_info >= (3, 10)
