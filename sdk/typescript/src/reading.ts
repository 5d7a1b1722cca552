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
  // Some writers say NaN and Infinity. That is no JSON, but what else it says may well be a no.
  const { plain, numbersThatAreNone } = withoutNonNumbers(text);
  let value: unknown;
  try {
    value = JSON.parse(plain);
  } catch {
    return undefined;
  }
  return numbersThatAreNone || hasTwins(plain) ? AMBIGUOUS : value;
}

/** The end of the string that begins at `at`: the place after its closing quote. */
function stringEnd(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === '"') return i + 1;
  }
  return text.length;
}

const MAY_BEGIN_ONE = new Set("-0123456789NI");
const NUMBER = /-?(?:NaN|Infinity|\d[\d.eE+-]*)/y;
const KEY_ENDS = /\s*:/y;

function withoutNonNumbers(text: string): { plain: string; numbersThatAreNone: boolean } {
  const kept: string[] = [];
  let from = 0;
  for (let i = 0; i < text.length;) {
    if (text[i] === '"') {
      i = stringEnd(text, i);
      continue;
    }
    NUMBER.lastIndex = i;
    const word = MAY_BEGIN_ONE.has(text.charAt(i)) ? NUMBER.exec(text)?.[0] : undefined;
    // `1e999` is a number to JSON, and infinite to whoever reads it into one.
    if (word !== undefined && !Number.isFinite(Number(word))) {
      kept.push(text.slice(from, i), "null");
      from = i + word.length;
    }
    i += word?.length ?? 1;
  }
  return { plain: kept.join("") + text.slice(from), numbersThatAreNone: from > 0 };
}

/** Whether an object in `text`, which is JSON, has a key twice. */
function hasTwins(text: string): boolean {
  const open: (Set<string> | undefined)[] = []; // the keys of each open object; a list has none
  for (let i = 0; i < text.length;) {
    const c = text[i];
    if (c === '"') {
      const end = stringEnd(text, i);
      const keys = open.at(-1);
      KEY_ENDS.lastIndex = end;
      if (keys !== undefined && KEY_ENDS.test(text)) {
        const key = JSON.parse(text.slice(i, end)) as string;
        if (keys.has(key)) return true;
        keys.add(key);
      }
      i = end;
      continue;
    }
    if (c === "{") open.push(new Set());
    else if (c === "[") open.push(undefined);
    else if (c === "}" || c === "]") open.pop();
    i++;
  }
  return false;
}
