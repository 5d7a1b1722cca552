/** What the documents show in TypeScript compiles against this package and the frameworks. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../../..", import.meta.url));

/** What readers have of their own. */
const READERS = `import type { StructuredTool } from "@langchain/core/tools";
import type { ModelMessage, ToolSet } from "ai";
import type { Checkrein } from "checkrein";
declare global {
  const client: Checkrein;
  const ids: number[];
  const chatId: string;
  const model: any;
  const messages: ModelMessage[];
  const tools: ToolSet;
  const langchainTools: StructuredTool[];
  const description: string, parameters: undefined, execute: () => string;
}
`;

function blocks(): [where: string, text: string][] {
  const docs = readdirSync(path.join(root, "docs"), { recursive: true, encoding: "utf8" });
  const pages = docs.filter((file) => file.endsWith(".md")).map((file) => `docs/${file}`);
  return ["README.md", "sdk/typescript/README.md", ...pages].flatMap((page) => {
    const text = readFileSync(path.join(root, page), "utf8");
    return [...text.matchAll(/^```ts\n([^]*?)^```$/gm)].map((found): [string, string] => {
      return [`${page}:${text.slice(0, found.index).split("\n").length + 1}`, found[1] ?? ""];
    });
  });
}

test("TypeScript in the documents compiles", () => {
  const found = blocks();
  assert.ok(found.length >= 15, `${found.length} blocks`);
  const parent = fileURLToPath(new URL("..", import.meta.url));
  mkdirSync(path.join(parent, "dist"), { recursive: true });
  const folder = mkdtempSync(path.join(parent, "dist/docs-"));
  try {
    writeFileSync(path.join(folder, "readers.d.ts"), READERS);
    for (const [where, text] of found) {
      writeFileSync(path.join(folder, `${where.replace(/[/:]/g, "_")}.ts`), `${text}\nexport {};\n`);
    }
    const compilerOptions = { noEmit: true, noUnusedLocals: false, noUnusedParameters: false };
    const config = { extends: "../../../tsconfig.json", compilerOptions, include: ["*.ts"] };
    writeFileSync(path.join(folder, "tsconfig.json"), JSON.stringify(config));
    const tsc = path.join(
      path.dirname(createRequire(import.meta.url).resolve("typescript/package.json")),
      "bin/tsc",
    );
    const done = spawnSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8" });
    assert.equal(done.status, 0, done.stdout);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
