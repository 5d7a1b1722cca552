/** `guardTools`, in a loop that calls the functions that the model names. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Checkrein, guardTools, Refusal } from "checkrein";
import { contract, type Drive, RAN, runExample, TOOLS } from "./contract.js";
import { ALLOW, BLOCK, make, withServer } from "./scripted.js";

type Loop = Record<string, (args: never) => Promise<unknown>>;

const loop: Drive = async (client, turns, options) => {
  const { delete_users, send_mail, fail } = TOOLS;
  const plain = { delete_users: delete_users.run, send_mail: send_mail.run, fail: fail.run };
  const tools = guardTools(plain, client, options) as Loop;
  const read: string[] = [];
  for (const turn of turns) {
    const calls = turn.map(([name, args]) => tools[name]?.(args as never));
    read.push(...(await Promise.all(calls)).map(String));
  }
  return read;
};

contract("guardTools", loop);
beforeEach(() => void (RAN.length = 0));

async function deleteUsers({ ids }: { ids: number[] }): Promise<string> {
  RAN.push(["deleteUsers", ids]);
  return `${ids.length} deleted`;
}

test("a refusal is a text with its decision", () =>
  withServer(async (server) => {
    server.will(BLOCK);
    const [tool] = guardTools([deleteUsers], make(server));
    const refused = await tool({ ids: [1] });
    assert.ok(refused instanceof Refusal);
    assert.equal(refused.decision.verdict, "block");
    assert.match(String(refused), /^NOT RUN: touches 10000 records/);
    assert.equal(JSON.stringify({ refused }), JSON.stringify({ refused: String(refused) }));
    assert.equal(tool.name, "deleteUsers");
    assert.equal(server.asked[0]?.body.tool, "deleteUsers");
  }));

test("a change during the check does not reach the tool", () =>
  withServer(async (server) => {
    const args = { ids: [1] };
    server.will((socket, asked) => {
      args.ids.push(2);
      return ALLOW(socket, asked);
    });
    const [tool] = guardTools([deleteUsers], make(server));
    assert.equal(await tool(args), "1 deleted");
    assert.deepEqual(RAN, [["deleteUsers", [1]]]);
    assert.deepEqual(server.asked[0]?.body.arguments, { ids: [1] });
  }));

test("what cannot be guarded is refused at once", () => {
  const client = new Checkrein();
  assert.throws(() => guardTools([7 as never], client), /goes around a function/);
  assert.throws(() => guardTools([() => 1], client), /no name/);
  const bound = deleteUsers.bind(null, { ids: [1] }) as () => unknown;
  assert.throws(() => guardTools({ get_x: bound }, client), /a bound function hides/);
  assert.throws(() => guardTools([bound], client), /a bound function hides/);
  assert.throws(() => guardTools([deleteUsers], {} as Checkrein), /give the adapter a Checkrein/);
  assert.throws(() => guardTools([deleteUsers], client, { waitMs: -1 }), /waitMs/);
});

test("other arguments than one object are the caller's mistake", () =>
  withServer(async (server) => {
    const [tool] = guardTools([deleteUsers], make(server));
    const called = tool as (...args: unknown[]) => Promise<unknown>;
    for (const wrong of [[[1, 2]], ["x"], [{ ids: [1] }, 2], [{ ids: undefined }]]) {
      await assert.rejects(called(...wrong), { name: "BadRequestError" });
    }
    assert.deepEqual([RAN, server.asked], [[], []]);
  }));

test("the example", async () => {
  const said = (await runExample("plain_functions")).split("\n");
  assert.match(said[0] ?? "", /^findUsers: 0,1,2/);
  assert.match(said[1] ?? "", /^deleteUsers: NOT RUN: Blocked by few_deletes/);
  assert.equal(said[2], "deleteUsers: 25 users deleted");
});
