// An agent of the OpenAI Agents SDK whose tool calls are checked. `npm install ./sdk/typescript @openai/agents zod`
import { Agent, run, setTracingDisabled } from "@openai/agents";
import { assistantMessage, functionCall, ScriptedModel } from "@openai/agents/testing";
import { Checkrein } from "checkrein";
import { checkedTool, held } from "checkrein/openai-agents";
import { z } from "zod";

setTracingDisabled(true); // so that nothing is sent to OpenAI
const client = new Checkrein(); // CHECKREIN_URL, CHECKREIN_API_KEY
const few = { tool: "delete_*", record_count_exceeds: 25 };
await client.policies.create({ name: "few", rule: "block", condition: few });
await client.policies.create({ name: "ask", rule: "require_approval", condition: { tool: "delete_*" } });

const tool = checkedTool(client); // in the place of `tool` from @openai/agents
const deleteUsers = tool({
  name: "delete_users",
  description: "Deletes users.",
  parameters: z.object({ ids: z.array(z.number()) }),
  execute: ({ ids }) => `${ids.length} users deleted`,
});

const call = (n: number) => functionCall("delete_users", { ids: [...Array(n).keys()] }, { callId: `c${n}` });
const model = new ScriptedModel([[call(10_000), call(3)], [assistantMessage("done")]]); // stands for a model
const agent = new Agent({ name: "cleaner", model, tools: [deleteUsers] });

let result = await run(agent, "remove dormant users");
while (result.interruptions.length > 0) {
  for (const interruption of result.interruptions) {
    const hold = held(interruption);
    console.log("waits for a person:", hold?.reason);
    await client.approvals.approve(hold?.approvalId ?? ""); // somebody else, with an operator's key
    result.state.approve(interruption);
  }
  result = await run(agent, result.state);
}
for (const item of result.output) console.log(JSON.stringify(item).slice(-250));
client.close();
