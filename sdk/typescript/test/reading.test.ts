/** Answers are read as `JSON.parse` reads them, unless another reader could read something else. */
import assert from "node:assert/strict";
import { test } from "node:test";

const { readJson, AMBIGUOUS } = (await import(new URL("../../dist/reading.js", import.meta.url).href)) as {
  readJson(bytes: Uint8Array): unknown;
  AMBIGUOUS: symbol;
};

let seed = 7;
const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
const pick = <T>(...from: T[]): T => from[random(from.length)] as T;

/** Some text of a JSON string, with escapes and what looks like JSON in it. */
const name = (): string =>
  Array.from({ length: random(4) }, () =>
    pick("a", '"', "\\", "{", ":", ",", "é", "\u{1f600}", "\n", "/"),
  ).join("");

/** How a writer may write `text`: some of its characters escaped. */
const written = (text: string): string => {
  const units = Array.from({ length: text.length }, (_, at) => text.charCodeAt(at));
  const escaped = (unit: number): string => `\\u${unit.toString(16).padStart(4, "0")}`;
  const one = (unit: number): string => JSON.stringify(String.fromCharCode(unit)).slice(1, -1);
  return `"${units.map((unit) => (random(4) === 0 ? escaped(unit) : one(unit))).join("")}"`;
};
const gap = (): string => pick("", "", " ", "\n\t ");

/** Some JSON as a writer may write it; `twins` counts the keys that are there twice. */
function json(depth: number, twins: { count: number }): string {
  if (depth === 0 || random(3) === 0) return pick("null", "true", "-0.5e3", "12", "1e-999", written(name()));
  const items = Array.from({ length: random(4) }, () => json(depth - 1, twins));
  if (random(2) === 0) return `[${gap()}${items.join(`${gap()},`)}${gap()}]`;
  const names = items.map(name);
  twins.count += names.length - new Set(names).size;
  return `{${gap()}${items.map((item, i) => `${written(names[i] ?? "")}${gap()}:${gap()}${item}`).join(",")}${gap()}}`;
}

test("keys that are there twice are noticed, and no others", () => {
  const found = { plain: 0, twice: 0 };
  for (let i = 0; i < 5000; i++) {
    const twins = { count: 0 };
    const text = `${gap()}${json(5, twins)}${gap()}`;
    const read = readJson(Buffer.from(text));
    if (twins.count > 0) assert.equal(read, AMBIGUOUS, text);
    else assert.deepEqual(read, JSON.parse(text), text);
    found[twins.count > 0 ? "twice" : "plain"]++;
  }
  assert.ok(found.plain > 500 && found.twice > 100, JSON.stringify(found));
});

test("numbers that are none are noticed, wherever they are", () => {
  for (const text of [
    "NaN",
    "[1,-Infinity]",
    '{"a":{"b":Infinity}}',
    "1e999",
    '{"a":[-1E+400]}',
    "9".repeat(400),
  ]) {
    assert.equal(readJson(Buffer.from(text)), AMBIGUOUS, text);
  }
  for (const text of ['"NaN"', '{"Infinity":"1e999"}', '["\\"NaN"]', "1e308", "-0"]) {
    assert.deepEqual(readJson(Buffer.from(text)), JSON.parse(text), text);
  }
  for (const text of ["", "NaNx", "{NaN}", '{"a":NaN', "nul", "01", '"\\x"', "[1,]", '"', "\ufeff1"]) {
    assert.equal(readJson(Buffer.from(text)), undefined, text);
  }
});
