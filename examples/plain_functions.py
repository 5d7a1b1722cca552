"""An agent loop of plain Python functions, as LangChain runs them; each call is checked first."""

from checkrein import Checkrein, PolicyViolationError

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
few = {"name": "few_at_once", "rule": "block", "condition": {"action": "update", "record_count_exceeds": 25}}
client.policies.create(few)
client.policies.create({"name": "no_deletes", "rule": "block", "condition": {"category": "delete"}})
tags: dict[int, str] = {}


@client.guard
def find_users(inactive_days: int) -> list[int]:
    return [1, 2, 3]


@client.guard(action="update", resource="crm.users", payload=lambda ids, tag: {"record_count": len(ids)})
def tag_users(ids: list[int], tag: str) -> str:
    tags.update(dict.fromkeys(ids, tag))
    return f"{len(tags)} users tagged"


@client.guard
def delete_users(ids: list[int]) -> None:
    raise SystemExit("this must never run")


tools = {f.__name__: f for f in (find_users, tag_users, delete_users)}
model = [  # stands for a model's answers
    ("find_users", {"inactive_days": 90}),
    ("tag_users", {"ids": [1, 2, 3], "tag": "dormant"}),
    ("tag_users", {"ids": list(range(10_000)), "tag": "dormant"}),
    ("delete_users", {"ids": [1, 2, 3]}),
]
for name, arguments in model:
    try:
        answer = tools[name](**arguments)
    except PolicyViolationError as stopped:
        answer = f"stopped: {stopped.reason}"
    print(f"{name}({', '.join(f'{k}={v!r}'[:40] for k, v in arguments.items())}): {answer}")
