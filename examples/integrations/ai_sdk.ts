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

const inputSchema = z.object({ ids: z.array(z.number()) });
const deleteUsers = tool({ inputSchema, execute: ({ ids }) => `${ids.length} users deleted` });
const tools = checkedTools({ deleteUsers }, client, { session: "chat-17" });

const turns = [10_000, 3, 0];
const model = new MockLanguageModelV4({ doGenerate: async () => says(turns.shift() ?? 0) }); // stands for a model
function says(n: number): any {
  const input = JSON.stringify({ ids: [...Array(n).keys()] });
  const call = { type: "tool-call", toolCallId: `c${n}`, toolName: "deleteUsers", input };
  const usage = { inputTokens: {}, outputTokens: {} };
  const content = [n ? call : { type: "text", text: "done" }];
  return { content, finishReason: { unified: "stop" }, usage, warnings: [] };
}

const messages: ModelMessage[] = [{ role: "user", content: "remove dormant users" }];
for (;;) {
  const result = await generateText({ model, tools, messages, stopWhen: isStepCount(9) });
  messages.push(...result.responseMessages);
  const request = result.content.find((part) => part.type === "tool-approval-request");
  if (!request) break;
  const hold = held(tools, request);
  console.log("waits for a person:", hold?.reason);
  await client.approvals.approve(hold?.approvalId ?? ""); // somebody else, with an operator's key
  const { approvalId } = request;
  messages.push({ role: "tool", content: [{ type: "tool-approval-response", approvalId, approved: true }] });
}
for (const { role, content } of messages) console.log(role, JSON.stringify(content).slice(-250));
client.close();
