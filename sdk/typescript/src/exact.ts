/**
 * Values as JSON, exactly. What is checked must be what runs, so nothing is guessed, rounded or left out: a value
 * that JSON cannot say is refused, with its place and what to do.
 */
import { BadRequestError } from "./errors.js";

/** A value that JSON can say. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The server's limit on nesting, less the levels that the request puts around a value. */
const MAX_DEPTH = 60;
/** The server's limit on a list of records. */
const MAX_ITEMS = 100_000;

/**
 * A copy of `value` that nobody else holds. Throws `BadRequestError` where JSON cannot say it; `name` is what
 * the value is called there.
 */
export function exact(value: unknown, name: string): Json {
  return copied(value, name, 0);
}

function copied(value: unknown, path: string, depth: number): Json {
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      return value.isWellFormed() ? value : refuse(path, "is text with half a character (a lone surrogate)");
    case "number":
      return number(value, path);
    case "bigint":
      return refuse(path, "is a bigint", "send it as text");
    case "undefined":
      return refuse(path, "is undefined", "leave it out, or send null");
    case "object":
      return value === null ? null : composed(value, path, depth);
    default:
      return refuse(path, `is a ${typeof value}`);
  }
}

function number(value: number, path: string): number {
  if (!Number.isFinite(value)) refuse(path, `is ${value}`, "send null or text");
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    refuse(path, `is ${value}, over 2^53, where numbers lose digits`, "send it as text");
  }
  return value;
}

function composed(value: object, path: string, depth: number): Json {
  if (depth >= MAX_DEPTH) {
    refuse(path, `is nested deeper than ${MAX_DEPTH} levels, or contains itself`);
  }
  if (Array.isArray(value)) return list(value, path, depth);
  if (!isPlain(value)) {
    const hint = value instanceof Date ? "send its toISOString()" : "send its fields as a plain object";
    refuse(path, `is a ${kind(value)}`, hint);
  }
  const copy: { [key: string]: Json } = {};
  for (const key of Reflect.ownKeys(value)) {
    const at = `${path}${step(key)}`;
    const held = Reflect.getOwnPropertyDescriptor(value, key);
    if (typeof key === "symbol" || !held?.enumerable) return refuse(at, "is a property that JSON leaves out");
    if (!("value" in held)) return refuse(at, "is computed by a getter");
    // Not by assignment, which would take `__proto__` for something else.
    Object.defineProperty(copy, key, { ...held, value: copied(held.value, at, depth + 1) });
  }
  return copy;
}

function list(value: unknown[], path: string, depth: number): Json[] {
  if (value.length > MAX_ITEMS) {
    const told = `has ${value.length} items, more than the ${MAX_ITEMS} that a check takes`;
    refuse(path, told, "send its length as record_count");
  }
  const copy = Array.from(value, (item, at) => copied(item, `${path}[${at}]`, depth + 1));
  if (Reflect.ownKeys(value).length !== copy.length + 1) refuse(path, "is a list with holes or properties");
  return copy;
}

/** Whether `value` is an object literal, of this realm or another. */
function isPlain(value: object): boolean {
  const proto: unknown = Object.getPrototypeOf(value);
  if (proto === null || proto === Object.prototype) return true;
  return Object.getPrototypeOf(proto) === null && Object.hasOwn(proto as object, "isPrototypeOf");
}

function kind(value: object): string {
  const found: unknown = value.constructor?.name;
  return typeof found === "string" && /^\w{1,60}$/.test(found) ? found : "object of a class";
}

function step(key: string | symbol): string {
  if (typeof key === "symbol") return "[a symbol]";
  return /^\w{1,60}$/.test(key) ? `.${key}` : `[${JSON.stringify(key.slice(0, 60))}]`;
}

function refuse(path: string, what: string, hint = "send what describes it"): never {
  throw new BadRequestError(`${path} ${what}, so it cannot be checked as it is; ${hint}`);
}
