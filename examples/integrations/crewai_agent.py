"""A CrewAI crew whose every tool call is checked. `pip install './sdk/python[crewai]'`"""

from checkrein import Checkrein
from checkrein.integrations.crewai import check_every_tool, checked_tools
from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool

client = Checkrein()  # CHECKREIN_URL, CHECKREIN_API_KEY
few = {"tool": "delete_*", "record_count_exceeds": 25}
client.policies.create({"name": "few", "rule": "block", "condition": few})


@tool
def delete_users(ids: list[int]) -> str:
    """Delete users."""
    print(f"{len(ids)} users deleted")
    return f"{len(ids)} users deleted"


class Scripted(BaseLLM):  # stands for a model
    def call(self, messages, *_, **__):
        seen = [
            str(m["content"]).rpartition("Observation: ")[2] for m in messages if "Observation: " in str(m)
        ]
        print("the model reads:", seen[-1][:200])
        if sizes:
            ids = list(range(sizes.pop(0)))
            return f'Thought: next\nAction: delete_users\nAction Input: {{"ids": {ids}}}'
        return "Thought: I now know the final answer\nFinal Answer: done"


sizes = [10_000, 3]
check_every_tool(client)  # a tool that somebody forgets to wrap is checked by the hook
tools = checked_tools([delete_users], client)
agent = Agent(role="cleaner", goal="clean", backstory="-", tools=tools, llm=Scripted(model="scripted"))
task = Task(description="remove dormant users", expected_output="a word", agent=agent)
print(Crew(agents=[agent], tasks=[task]).kickoff())
