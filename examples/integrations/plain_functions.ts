// A loop that calls the functions that a model names, each checked before it runs. `npm install ./sdk/typescript`
import { Checkrein, guardTools } from "checkrein";

const client = new Checkrein(); // CHECKREIN_URL, CHECKREIN_API_KEY
const few = { category: "delete", record_count_exceeds: 25 };
await client.policies.create({ name: "few_deletes", rule: "block", condition: few });

const tools = guardTools(
  {
    findUsers: ({ dormant }: { dormant: boolean }) => [...Array(dormant ? 10_000 : 0).keys()],
    deleteUsers: ({ ids }: { ids: number[] }) => `${ids.length} users deleted`,
  },
  client,
);

// Stands for a model, which reads each result and then makes its next call.
const found = await tools.findUsers({ dormant: true });
console.log(`findUsers: ${found}`.slice(0, 60));
const ids = Array.isArray(found) ? found : [];
console.log(`deleteUsers: ${await tools.deleteUsers({ ids })}`); // too many at once
console.log(`deleteUsers: ${await tools.deleteUsers({ ids: ids.slice(0, 25) })}`);
client.close();
