"""A tool loop of your own: what the model may not do, it is told, and can try in a smaller way."""

from checkrein import Checkrein
from checkrein.integrations import guard_tools

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
few = {"category": "delete", "record_count_exceeds": 25}
client.policies.create({"name": "few_deletes", "rule": "block", "condition": few})


def find_users(inactive_days: int) -> list[int]:
    return list(range(10_000))


def delete_users(ids: list[int]) -> str:
    return f"{len(ids)} users deleted"


tools = {tool.__name__: tool for tool in guard_tools([find_users, delete_users], client)}
model = [  # stands for a model's tool calls
    ("find_users", {"inactive_days": 90}),
    ("delete_users", {"ids": list(range(10_000))}),
    ("delete_users", {"ids": list(range(25))}),
]
for name, arguments in model:
    print(f"{name}: {str(tools[name](**arguments))[:160]}")
