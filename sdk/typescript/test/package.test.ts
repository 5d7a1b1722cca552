/** What is published: its files, its version, its types. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

interface Manifest {
  version: string;
  dependencies?: object;
  exports: Record<string, { types: string; default: string } | string>;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as Manifest;
const folder = mkdtempSync(path.join(tmpdir(), "checkrein-package-"));
let files: string[];

function run(program: string, args: string[], cwd: string): string {
  const done = spawnSync(program, args, { cwd, encoding: "utf8", timeout: 300_000 });
  assert.equal(done.status, 0, done.stderr + done.stdout);
  return done.stdout;
}

before(() => {
  const pack = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder];
  const told = JSON.parse(run("npm", pack, root)) as object;
  const [packed] = Object.values(told) as [{ filename: string; files: { path: string }[] }];
  files = packed.files.map((file) => file.path);
  const to = path.join(folder, "node_modules/checkrein");
  mkdirSync(to, { recursive: true });
  run("tar", ["xzf", path.join(folder, packed.filename), "--strip-components=1", "-C", to], folder);
});
after(() => rmSync(folder, { recursive: true }));

test("nothing but dist, licence, readme and manifest is published", () => {
  const more = files.filter((file) => !/^dist\/[\w-]+\.(js|d\.ts)$/.test(file));
  assert.deepEqual(more.sort(), ["LICENSE", "README.md", "package.json"]);
  for (const exported of Object.values(manifest.exports)) {
    if (typeof exported === "string") continue;
    for (const file of Object.values(exported))
      assert.ok(files.includes(file.slice(2)), `${file} is published`);
  }
});

test("the core needs no other package", () => {
  assert.equal(manifest.dependencies, undefined);
  const script = 'import("checkrein").then((m) => console.log(typeof m.Checkrein, typeof m.guardTools))';
  assert.equal(run(process.execPath, ["-e", script], folder).trim(), "function function");
});

test("the version is told to the server as it is", () => {
  const source = readFileSync(path.join(root, "dist/version.js"), "utf8");
  assert.ok(source.includes(JSON.stringify(manifest.version)));
});

test("its types are found, under node16 and by bundlers", () => {
  const program = `import { Checkrein, guardTools, PolicyViolationError, Refusal } from "checkrein";
const client = new Checkrein();
const purge = client.guard(async ({ ids }: { ids: number[] }) => ids.length, { tool: "purge" });
const n: number = await purge({ ids: [1] });
const [tool] = guardTools([function find(_: { q: string }) { return [1]; }], client);
const found: number[] | Refusal = await tool({ q: "x" });
const result = await client.check({ action: "update", resource: "shop.users" });
if (result.blocked) throw new PolicyViolationError(result.reason, result);
// @ts-expect-error: a promise is no answer
client.check({ action: "update" }).blocked;
// @ts-expect-error: no such field
await client.check({ acton: "update" });
console.log(n, found);
`;
  writeFileSync(path.join(folder, "program.mts"), program);
  const tsc = path.join(
    path.dirname(createRequire(import.meta.url).resolve("typescript/package.json")),
    "bin/tsc",
  );
  for (const [module, resolution] of [
    ["node16", "node16"],
    ["nodenext", "nodenext"],
    ["esnext", "bundler"],
  ]) {
    const flags = ["--noEmit", "--strict", "--target", "es2022", "--types", ""];
    const how = ["--module", module ?? "", "--moduleResolution", resolution ?? ""];
    run(process.execPath, [tsc, ...flags, ...how, "--ignoreConfig", "program.mts"], folder);
  }
});
