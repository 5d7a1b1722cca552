/** Reads what a server sent, and notices where another reader could understand something else. */

/** JSON with two values under one key, or with a number that is none: whoever else reads it may read another. */
export const AMBIGUOUS = Symbol("ambiguous");

/** The JSON in `bytes`; `undefined` when it is none. */
export function readJson(bytes: Uint8Array): unknown {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return isJsonButForNumbers(text) ? AMBIGUOUS : undefined;
  }
  return isAmbiguous(text) ? AMBIGUOUS : value;
}

const [QUOTE, BACKSLASH, COLON, OPEN, CLOSE, LIST, END] = [0x22, 0x5c, 0x3a, 0x7b, 0x7d, 0x5b, 0x5d];
const NUMBER = /-?\d[\d.eE+-]*/y;
const NEXT = /\S/g;

/** Whether an object in `text`, which is JSON, has a key twice, or a number is too great to be one. */
function isAmbiguous(text: string): boolean {
  const open: (Set<string> | undefined)[] = []; // the keys of each open object; a list has none
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      const end = stringEnd(text, i);
      const keys = open.at(-1);
      if (keys !== undefined && isColon(text, end + 1)) {
        const name = text.slice(i, end + 1);
        const key = name.includes("\\") ? JSON.stringify(JSON.parse(name)) : name;
        if (keys.has(key)) return true;
        keys.add(key);
      }
      i = end;
    } else if (c === OPEN) open.push(new Set());
    else if (c === LIST) open.push(undefined);
    else if (c === CLOSE || c === END) open.pop();
    else if (c === 0x2d || (c >= 0x30 && c <= 0x39)) {
      NUMBER.lastIndex = i;
      const digits = NUMBER.exec(text)?.[0] ?? "";
      // `1e999` is a number to JSON, and infinite to whoever reads it into one.
      if (!Number.isFinite(Number(digits))) return true;
      i += digits.length - 1;
    }
  }
  return false;
}

/** The place of the quote that ends the string at `from`. */
function stringEnd(text: string, from: number): number {
  let end = text.indexOf('"', from + 1);
  for (; end >= 0; end = text.indexOf('"', end + 1)) {
    let before = end;
    while (text.charCodeAt(before - 1) === BACKSLASH) before--;
    if ((end - before) % 2 === 0) return end;
  }
  return text.length;
}

function isColon(text: string, at: number): boolean {
  if (text.charCodeAt(at) === COLON) return true;
  NEXT.lastIndex = at;
  return NEXT.exec(text)?.[0] === ":";
}

/** Whether `text` is JSON but for `NaN` and `Infinity`, which some writers say: what else it says may well be a no. */
function isJsonButForNumbers(text: string): boolean {
  // By hand, because a pattern would look through text that is no JSON again and again.
  const kept: string[] = [];
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) === QUOTE) {
      i = stringEnd(text, i);
      continue;
    }
    const word = ["NaN", "Infinity", "-Infinity"].find((one) => text.startsWith(one, i));
    if (word === undefined) continue;
    kept.push(text.slice(from, i), "null");
    from = i + word.length;
    i = from - 1;
  }
  try {
    JSON.parse(kept.join("") + text.slice(from));
    return true;
  } catch {
    return false;
  }
}
