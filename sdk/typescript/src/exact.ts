/**
 * Values as JSON, exactly. What is checked must be what runs, so nothing is guessed, rounded or left out: a value
 * that JSON cannot say is refused, with its place and what to do.
 */
import { types } from "node:util";
import { BadRequestError } from "./errors.js";

/** A value that JSON can say. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The server's limit on nesting, less the levels that the request puts around a value. */
const MAX_DEPTH = 60;
/** The server's limit on a list of records. */
const MAX_ITEMS = 100_000;

const HALF = "half a character (a lone surrogate)";

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
      return value.isWellFormed() ? value : refuse(path, `is text with ${HALF}`);
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
  // JSON.stringify writes it as 0, which is another number: 1 / -0 is -Infinity.
  if (Object.is(value, -0)) refuse(path, "is -0", "send 0");
  return value;
}

function composed(value: object, path: string, depth: number): Json {
  if (depth >= MAX_DEPTH) {
    refuse(path, `is nested deeper than ${MAX_DEPTH} levels, or contains itself`);
  }
  if (types.isProxy(value)) refuse(path, "is a Proxy, which may say something else each time it is asked");
  if (Array.isArray(value)) return list(value, path, depth);
  // What is inherited from anything else, of another realm too, is not seen here, but by what runs.
  const proto: unknown = Object.getPrototypeOf(value);
  if (proto !== null && proto !== Object.prototype) {
    const hint = value instanceof Date ? "send its toISOString()" : "send its fields as a plain object";
    refuse(path, `is a ${kind(value)}`, hint);
  }
  const copy: { [key: string]: Json } = {};
  for (const key of Reflect.ownKeys(value)) {
    const at = `${path}${step(key)}`;
    const held = Reflect.getOwnPropertyDescriptor(value, key);
    if (typeof key === "symbol" || !held?.enumerable) return refuse(at, "is a property that JSON leaves out");
    if (!key.isWellFormed()) refuse(at, `has a name with ${HALF}`);
    // Not by assignment, which would take `__proto__` for something else.
    Object.defineProperty(copy, key, { ...held, value: copied(stored(held, at), at, depth + 1) });
  }
  return copy;
}

function list(value: unknown[], path: string, depth: number): Json[] {
  if (Object.getPrototypeOf(value) !== Array.prototype) {
    refuse(path, `is a ${kind(value)}, no plain list`, "send its items as a plain list");
  }
  if (value.length > MAX_ITEMS) {
    const told = `has ${value.length} items, more than the ${MAX_ITEMS} that a check takes`;
    refuse(path, told, "send its length as record_count");
  }
  const copy = Array.from({ length: value.length }, (_, index) => {
    const at = `${path}[${index}]`;
    return copied(stored(Reflect.getOwnPropertyDescriptor(value, index), at), at, depth + 1);
  });
  if (Reflect.ownKeys(value).length !== copy.length + 1) refuse(path, "is a list with holes or properties");
  return copy;
}

/** What a property holds; what a getter says may be something else the next time. */
function stored(held: PropertyDescriptor | undefined, path: string): unknown {
  return held !== undefined && !("value" in held) ? refuse(path, "is computed by a getter") : held?.value;
}

function kind(value: object): string {
  const found: unknown = value.constructor?.name;
  if (found === "Object" || found === "Array") return `${found} with another prototype, or of another realm`;
  return typeof found === "string" && /^\w{1,60}$/.test(found) ? found : "object of a class";
}

function step(key: string | symbol): string {
  if (typeof key === "symbol") return "[a symbol]";
  return /^\w{1,60}$/.test(key) ? `.${key}` : `[${JSON.stringify(key.slice(0, 60))}]`;
}

function refuse(path: string, what: string, hint = "send what describes it"): never {
  throw new BadRequestError(`${path} ${what}, so it cannot be checked as it is; ${hint}`);
}
