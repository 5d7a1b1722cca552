// A LangChain.js agent whose tool calls are checked. `npm install ./sdk/typescript langchain zod` and its peers
import { tool } from "@langchain/core/tools";
import { Command, MemorySaver } from "@langchain/langgraph";
import { Checkrein } from "checkrein";
import { checkreinMiddleware } from "checkrein/langchain";
import { AIMessage, createAgent, fakeModel } from "langchain";
import { z } from "zod";

const client = new Checkrein(); // CHECKREIN_URL, CHECKREIN_API_KEY
const few = { tool: "delete_*", record_count_exceeds: 25 };
await client.policies.create({ name: "few", rule: "block", condition: few });
await client.policies.create({ name: "ask", rule: "require_approval", condition: { tool: "delete_*" } });

const deleteUsers = tool(({ ids }) => `${ids.length} users deleted`, {
  name: "delete_users",
  description: "Deletes users.",
  schema: z.object({ ids: z.array(z.number()) }),
});

const call = (n: number) => ({ name: "delete_users", args: { ids: [...Array(n).keys()] }, id: `c${n}` });
const model = fakeModel()
  .respondWithTools([call(3), call(10_000)])
  .respond(new AIMessage("done")); // stands for a model
const checkpointer = new MemorySaver();
const middleware = [checkreinMiddleware(client)];
const agent = createAgent({ model, tools: [deleteUsers], middleware, checkpointer });

const thread = { configurable: { thread_id: "ticket-17" } };
let state: any = await agent.invoke(
  { messages: [{ role: "user", content: "remove dormant users" }] },
  thread,
);
const question = state.__interrupt__[0].value;
console.log("waits for a person:", question.reason);
await client.approvals.approve(question.approval_id); // somebody else, with an operator's key
state = await agent.invoke(new Command({ resume: true }), thread);
for (const message of state.messages) console.log(`${message.type}: ${message.content}`);
client.close();
