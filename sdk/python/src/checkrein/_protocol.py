"""What is asked of the server and how its answers are read, without I/O.

The rule throughout: nothing but a complete, well-formed ``allow`` for the check that was asked lets an action
run.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from ._exchange import AMBIGUOUS, RETRIED, Failure, Reply, Request, Sleep, Steps, exchange
from ._json import Opaques, jsonable
from .errors import (
    AuthenticationError,
    BadRequestError,
    CheckreinError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    PolicyConflictError,
    PolicyInvalidError,
    RateLimitedError,
    RollbackConflictError,
    StatementError,
    UnreachableError,
)
from .result import BlastRadius, Decision, Drift, MatchedPolicy, Status

OnUnreachable = Literal["block", "allow_reads", "allow"]
ON_UNREACHABLE: Final = ("block", "allow_reads", "allow")
STATUSES: Final = ("ok", "error", "unknown")

#: Actions that change nothing, to the letter; the SDK guesses nothing beyond them.
READS: Final = frozenset({"read", "get", "list", "search", "select", "count", "view"})
# `<target>.<path>`: an address or URL is not merely read, something is sent there.
_PLAIN_RESOURCE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")

_POLL = 30.0
_ERROR_TEXT = 2000


class Protocol:
    """Every request that a client makes, as steps for a transport."""

    def __init__(self, where: str, *, timeout: float, retries: int, on_unreachable: OnUnreachable) -> None:
        self._where = where
        self._timeout = timeout
        self._retries = retries
        self._on_unreachable = on_unreachable

    # Checks

    def check(self, body: Mapping[str, Any]) -> Steps[Decision]:
        """Ask whether an action may run. Raises where the request or the key is wrong."""
        answer = yield from self.exchange(Request("POST", "/v1/checks", body))
        if isinstance(answer, Reply) and answer.status == 429:
            # The server was there and refused. An agent must not get past it by asking too often.
            return Decision("block", self._excuse(_refusal(answer)), degraded=True)
        decision = read_decision(answer)
        if isinstance(decision, Decision):
            return decision
        self.raise_for(answer)
        if isinstance(answer, Reply) and answer.status == 200 and answer.json() is AMBIGUOUS:
            # It may well have said no.
            return Decision("block", self._excuse(decision), degraded=True)
        return self._unasked(body, decision)

    def wait(self, held: Decision, timeout: float) -> Steps[Decision]:
        """Wait for a hold to be settled. What cannot be found out leaves it held."""
        ends = time.monotonic() + timeout
        while (left := ends - time.monotonic()) > 0:
            asked = time.monotonic()
            patience = min(_POLL, left)
            path = f"/v1/checks/{segment(held.id)}?wait={max(int(patience), 1)}s"
            request = Request("GET", path, patience=patience)
            answer = yield from exchange(request, timeout=self._timeout, retries=0)
            decision = read_decision(answer, held.id)
            if isinstance(decision, Decision) and not decision.held:
                return decision
            if not (isinstance(answer, Reply) and answer.status in RETRIED):
                self.raise_for(answer)
            # A server that does not wait must not be asked in a tight loop.
            early = min(1.0, patience) - (time.monotonic() - asked)
            if (pause := min(early, ends - time.monotonic())) > 0:
                yield Sleep(pause)
        return held

    def outcome(self, check: str, status: Status, records: int | None, error: str | None) -> Steps[None]:
        """Report what became of an action."""
        body: dict[str, Any] = {"status": status}
        if records is not None:
            body["records"] = records
        if error is not None:
            body["error"] = jsonable(error[:_ERROR_TEXT])
        yield from self._ask(Request("POST", f"/v1/checks/{segment(check)}/outcome", body))

    # Policies

    def create_policy(self, policy: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """Create a policy; the same one again is no error."""
        return self.object(Request("POST", "/v1/policies", jsonable(policy)))

    def apply_policies(self, policies: Sequence[Mapping[str, Any]]) -> Steps[dict[str, Any]]:
        """Put these policies in the place of all that came through the API."""
        whole = {"policies": jsonable(list(policies))}
        return self.object(Request("PUT", "/v1/policies", whole))

    def list_policies(self) -> Steps[list[dict[str, Any]]]:
        """All policies."""
        return self.in_((yield from self.object(Request("GET", "/v1/policies"))), "policies")

    def get_policy(self, name: str) -> Steps[dict[str, Any]]:
        """One policy."""
        return self.object(Request("GET", f"/v1/policies/{segment(name)}"))

    def delete_policy(self, name: str) -> Steps[None]:
        """Remove a policy."""
        yield from self._ask(Request("DELETE", f"/v1/policies/{segment(name)}", repeatable=False))

    # Approvals

    def list_approvals(self, state: str | None) -> Steps[list[dict[str, Any]]]:
        """Approvals, of one state or all, newest first; page by page."""
        return self.pages("/v1/approvals", "approvals", {} if state is None else {"state": state})

    def get_approval(self, approval: str) -> Steps[dict[str, Any]]:
        """One approval."""
        return self.object(Request("GET", f"/v1/approvals/{segment(approval)}"))

    def sample(self, approval: str) -> Steps[dict[str, Any]]:
        """Some of the records that a held action would touch."""
        # It reads what a person then sees, which goes on record each time.
        return self.object(Request("GET", f"/v1/approvals/{segment(approval)}/sample", repeatable=False))

    def decide(
        self, approval: str, decision: Literal["approve", "deny"], comment: str | None
    ) -> Steps[dict[str, Any]]:
        """Answer an approval."""
        body = {"decision": decision} | ({} if comment is None else {"comment": jsonable(comment)})
        path = f"/v1/approvals/{segment(approval)}/decision"
        return self.object(Request("POST", path, body, repeatable=False))

    def comment(self, approval: str, text: str) -> Steps[dict[str, Any]]:
        """Add a comment to an approval."""
        path = f"/v1/approvals/{segment(approval)}/comments"
        return self.object(Request("POST", path, {"text": jsonable(text)}, repeatable=False))

    def link(self, approval: str, person: str, lasting: str | None) -> Steps[dict[str, Any]]:
        """Make a link by which somebody can answer an approval."""
        body = {"for": person} | ({} if lasting is None else {"lasting": lasting})
        path = f"/v1/approvals/{segment(approval)}/links"
        return self.object(Request("POST", path, jsonable(body), repeatable=False))

    def withdraw(self, check: str | None) -> Steps[dict[str, Any]]:
        """Take a held check back."""
        return self.object(Request("POST", f"/v1/checks/{segment(check)}/withdraw"))

    # Grants

    def give_grant(self, fields: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """Give a grant."""
        body = {name: jsonable(value) for name, value in fields.items() if value is not None}
        return self.object(Request("POST", "/v1/grants", body, repeatable=False))

    def list_grants(self, agent: str | None, is_open: bool | None) -> Steps[list[dict[str, Any]]]:
        """Grants, newest first; page by page."""
        query = {} if agent is None else {"agent": agent}
        if is_open is not None:
            query["open"] = "true" if is_open else "false"
        return self.pages("/v1/grants", "grants", query)

    def get_grant(self, grant: str) -> Steps[dict[str, Any]]:
        """One grant."""
        return self.object(Request("GET", f"/v1/grants/{segment(grant)}"))

    def revoke_grant(self, grant: str) -> Steps[dict[str, Any]]:
        """Take a grant back."""
        return self.object(Request("DELETE", f"/v1/grants/{segment(grant)}", repeatable=False))

    # How

    def exchange(self, request: Request) -> Steps[Reply | Failure]:
        """Ask, as often as is safe and allowed."""
        # What is not the same when it is done twice is tried once: an answer that was lost may have been yes.
        retries = self._retries if request.repeatable else 0
        return exchange(request, timeout=self._timeout, retries=retries)

    def pages(self, path: str, key: str, query: dict[str, str]) -> Steps[list[dict[str, Any]]]:
        """All that a list holds, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = yield from self.object(Request("GET", path + (f"?{urlencode(query)}" if query else "")))
            found += self.in_(page, key)
            cursor = page.get("next_cursor")
            if not isinstance(cursor, str) or cursor == query.get("cursor"):
                return found
            query["cursor"] = cursor

    def _ask(self, request: Request) -> Steps[Reply]:
        return self._success((yield from self.exchange(request)))

    def _success(self, answer: Reply | Failure) -> Reply:
        self.raise_for(answer)
        if isinstance(answer, Reply) and 200 <= answer.status < 300:
            return answer
        cause = answer.cause if isinstance(answer, Failure) else _refusal(answer)
        raise UnreachableError(f"Checkrein at {self._where} could not be asked: {cause}")

    def object(self, request: Request) -> Steps[dict[str, Any]]:
        """Ask for a JSON object."""
        return self.object_in((yield from self.exchange(request)))

    def object_in(self, answer: Reply | Failure) -> dict[str, Any]:
        """The JSON object in an answer."""
        found = self._success(answer).json()
        if not isinstance(found, dict):
            raise UnreachableError(f"what answered at {self._where} is not Checkrein: no JSON object")
        return found

    def in_(self, found: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        """The list under a key of an answer."""
        items = found.get(key)
        if not isinstance(items, list):
            raise UnreachableError(f"what answered at {self._where} is not Checkrein: no `{key}`")
        return items

    def raise_for(self, answer: Reply | Failure) -> None:
        """Raise what an answer of 4xx means."""
        if isinstance(answer, Reply) and 400 <= answer.status < 500:
            raise _error(answer)

    def _excuse(self, cause: str) -> str:
        return (
            f"Checkrein at {self._where} could not decide ({cause}), so this does not run. "
            "Start it with `checkrein serve`, or set CHECKREIN_URL to where it runs."
        )

    def _unasked(self, body: Mapping[str, Any], cause: str) -> Decision:
        lenient = self._on_unreachable == "allow" or (self._on_unreachable == "allow_reads" and is_read(body))
        if not lenient:
            return Decision("block", self._excuse(cause), degraded=True)
        return Decision(
            "allow",
            f"Checkrein at {self._where} could not decide ({cause}); this runs unchecked, "
            f"because on_unreachable is {self._on_unreachable!r}.",
            degraded=True,
        )


def new_key() -> str:
    """A new idempotency key. It starts with the time (as a UUIDv7 does), because keys that
    are close in time are then close in the server's index, which is what keeps that small and fast.
    """
    return f"{time.time_ns() // 1_000_000:012x}{uuid.uuid4().hex[:20]}"


def check_body(fields: Mapping[str, Any], opaques: Opaques | None = None) -> dict[str, Any]:
    """The body of a check: what was given, as JSON, with an idempotency key."""
    opaques = opaques or Opaques()
    body = {key: jsonable(value, opaques) for key, value in fields.items() if value is not None}
    if ("action" in body) == ("tool" in body):
        raise BadRequestError(
            "a check is either explicit (action, resource, payload) or raw (tool, arguments); "
            "give exactly one of action and tool"
        )
    body.setdefault("idempotency_key", new_key())
    return body


def execution_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an execution: one statement or several, with an idempotency key."""
    body = given_body(fields)
    if ("statement" in body) == ("statements" in body):
        raise BadRequestError("give exactly one of statement and statements")
    if "statements" in body:
        # A text alone is a statement without parameters.
        body["statements"] = [{"statement": s} if isinstance(s, str) else s for s in body["statements"]]
    body.setdefault("idempotency_key", new_key())
    return body


def given_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, as JSON."""
    return {key: jsonable(value) for key, value in fields.items() if value is not None}


def is_read(body: Mapping[str, Any]) -> bool:
    """Whether the SDK itself can tell that nothing is changed and nothing sent."""
    resource = body.get("resource")
    return (
        body.get("action") in READS
        and isinstance(resource, str)
        and _PLAIN_RESOURCE.fullmatch(resource) is not None
        and not body.keys() & {"tool", "arguments", "statement", "params", "where"}
        and not _has_text(body.get("payload"))
    )


def _has_text(value: Any) -> bool:
    # A text may be a statement, a method or an address, which only the server can tell.
    if isinstance(value, dict):
        return any(_has_text(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_text(item) for item in value)
    return isinstance(value, str)


def read_decision(answer: Reply | Failure, expected: str | None = None) -> Decision | str:
    """The decision in an answer, or the cause why there is none.

    A verdict that is not exactly ``allow`` is never loosened, however little else was understood.
    """
    if isinstance(answer, Failure):
        return answer.cause
    if answer.status != 200:
        return _refusal(answer)
    found = answer.json()
    if found is AMBIGUOUS:
        return "its answer has a key twice or a number that is none, so nobody knows what it says"
    if not isinstance(found, dict) or "verdict" not in found:
        return "what answered there does not speak Checkrein's protocol"
    verdict, reason, check = found["verdict"], found.get("reason"), found.get("id")
    complete = _word(reason) and _word(check) and (expected is None or check == expected)
    if verdict == "allow" and not complete:
        return "its answer is incomplete or belongs to another check"
    if verdict not in ("allow", "hold", "block"):
        reason = (
            f"the server answered with the verdict {str(verdict)[:40]!r}, which this version of the SDK "
            "does not know and takes for a block; upgrade the package `checkrein`"
        )
        verdict = "block"
    return Decision(
        verdict=verdict,
        reason=str(reason) if _word(reason) else f"the server's verdict is {verdict}; it gave no reason",
        id=check if _word(check) else expected,
        policies=tuple(_policy(p) for p in items(found.get("policies"))),
        category=optional(found.get("category")),
        environment=optional(found.get("environment")),
        blast_radius=_blast_radius(found.get("blast_radius")),
        drift=_drift(found.get("drift")),
        breaker=optional(found.get("breaker")) or "closed",
        approval_id=optional(found.get("approval_id")),
        snapshot_id=optional(found.get("snapshot_id")),
        used_by=optional(found.get("used_by")),
        logged_at=optional(found.get("logged_at")),
        degraded=not complete,
        raw=found,
    )


def _word(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def optional(value: Any) -> str | None:
    """A text, or nothing."""
    return value if isinstance(value, str) else None


def items(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def number(value: Any) -> int | None:
    """A whole number, or nothing."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _policy(found: Mapping[str, Any]) -> MatchedPolicy:
    return MatchedPolicy(
        name=str(found.get("name", "")),
        rule=str(found.get("rule", "")),
        mode=str(found.get("mode", "")),
        reason=str(found.get("reason", "")),
        exempted_by=optional(found.get("exempted_by")),
    )


def _blast_radius(found: Any) -> BlastRadius | None:
    if not isinstance(found, dict):
        return None
    return BlastRadius(
        records=number(found.get("records")),
        systems=number(found.get("systems")),
        recipients=number(found.get("recipients")),
        basis=str(found.get("basis", "")),
        declared=number(found.get("declared")),
        understated=found.get("understated") is True,
        declared_ids=found.get("declared_ids") is True,
        by_resource=tuple(
            (str(r.get("resource", "")), number(r.get("records"))) for r in items(found.get("by_resource"))
        ),
    )


def _drift(found: Any) -> Drift | None:
    if not isinstance(found, dict):
        return None
    return Drift(
        score=_figure(found.get("score")),
        severity=str(found.get("severity", "")),
        channel=str(found.get("channel", "")),
        reason=str(found.get("reason", "")),
        expected=_figure(found.get("expected")),
        seen=_figure(found.get("seen")),
        agents=str(found["agents"]) if found.get("agents") is not None else None,
    )


def _figure(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def segment(name: str | None) -> str:
    """``name`` as one segment of a path."""
    if not name or name in (".", ".."):
        raise BadRequestError(f"{name!r} is not a name")
    return quote(jsonable(name), safe="")


def _problem(answer: Reply) -> dict[str, Any]:
    found = answer.json()
    return found if isinstance(found, dict) else {}


def _refusal(answer: Reply) -> str:
    """Why an answer is no decision, in a few words."""
    if 300 <= answer.status < 400:
        return f"it answered {answer.status}, a redirect, which is not followed"
    problem = _problem(answer)
    told = problem.get("detail") or problem.get("title")
    told = f": {told[:300]}" if isinstance(told, str) else ""
    busy = " after several tries" if answer.status in RETRIED else ""
    return f"it answered {answer.status}{busy}{told}"


_ERRORS: dict[int, type[CheckreinError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitedError,
}


def _error(answer: Reply) -> CheckreinError:
    problem = _problem(answer)
    told = problem.get("detail") or problem.get("title") or f"the server answered {answer.status}"
    problems = items(problem.get("errors"))
    lines = [str(told), *(f"- {_one_line(p)}" for p in problems)]
    if answer.status == 401:
        lines.append("The key comes from `api_key=`, else from CHECKREIN_API_KEY.")
    conflicts = items(problem.get("conflicts"))
    kind = _ERRORS.get(answer.status, BadRequestError)
    if answer.status == 422 and str(problem.get("type", "")).endswith("/statement-failed"):
        kind = StatementError
    if answer.status == 409 and str(problem.get("type", "")).endswith("/rollback-conflicts"):
        kind = RollbackConflictError
    error = kind("\n".join(lines))
    if isinstance(error, RollbackConflictError):
        error.conflicts = conflicts
        error.conflict_count = number(problem.get("conflict_count")) or len(conflicts)
        plan = problem.get("plan")
        error.digest = optional(plan.get("digest")) if isinstance(plan, dict) else None
    error.status = answer.status
    error.type = optional(problem.get("type"))
    error.request_id = answer.headers.get("x-request-id")
    error.problems = problems
    return error


def _one_line(problem: Mapping[str, Any]) -> str:
    message = problem.get("message")
    if not isinstance(message, str):
        return ", ".join(f"{key}: {value}" for key, value in problem.items())
    where = " ".join(str(problem[key]) for key in ("subject", "path") if problem.get(key))
    return f"{where}: {message}" if where else message


def policy_error(error: CheckreinError) -> CheckreinError:
    """The more telling form of an error about policies."""
    special: type[CheckreinError]
    if isinstance(error, ConflictError):
        special = PolicyConflictError
    elif isinstance(error, BadRequestError) and error.status == 422:
        special = PolicyInvalidError
    else:
        return error
    better = special(*error.args)
    better.__dict__.update(error.__dict__)
    return better
