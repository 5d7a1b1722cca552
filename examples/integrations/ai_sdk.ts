// An agent of the AI SDK whose tool calls are checked. `npm install ./sdk/typescript ai zod`
import { generateText, isStepCount, type ModelMessage, tool } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { Checkrein } from "checkrein";
import { checkedTools, held } from "checkrein/ai";
import { z } from "zod";

const client = new Checkrein(); // CHECKREIN_URL, CHECKREIN_API_KEY
const few = { tool: "delete*", record_count_exceeds: 25 };
await client.policies.create({ name: "few", rule: "block", condition: few });
await client.policies.create({ name: "ask", rule: "require_approval", condition: { tool: "delete*" } });

const deleteUsers = tool({
  inputSchema: z.object({ ids: z.array(z.number()) }),
  execute: async ({ ids }) => `${ids.length} users deleted`,
});
const tools = checkedTools({ deleteUsers }, client, { session: "chat-17" });

const turns = [10_000, 3, 0];
const model = new MockLanguageModelV4({ doGenerate: async () => says(turns.shift()) }); // stands for a model
function says(n = 0): any {
  const call = { toolCallId: `c${n}`, toolName: "deleteUsers", input: JSON.stringify({ ids: [...Array(n).keys()] }) };
  const content = [n ? { type: "tool-call", ...call } : { type: "text", text: "done" }];
  return { content, finishReason: { unified: "stop" }, usage: { inputTokens: {}, outputTokens: {} }, warnings: [] };
}

const messages: ModelMessage[] = [{ role: "user", content: "remove dormant users" }];
for (let paused = true; paused; ) {
  const result = await generateText({ model, tools, messages, stopWhen: isStepCount(9) });
  messages.push(...result.responseMessages);
  const [request] = result.content.filter((part) => part.type === "tool-approval-request");
  paused = request !== undefined;
  if (!request) continue;
  console.log("waits for a person:", held(tools, request)?.reason);
  await client.approvals.approve(held(tools, request)?.approvalId ?? ""); // somebody else, with an operator's key
  messages.push({ role: "tool", content: [{ type: "tool-approval-response", approvalId: request.approvalId, approved: true }] });
}
for (const { role, content } of messages) if (role !== "user") console.log(role, JSON.stringify(content).slice(-250));
client.close();
