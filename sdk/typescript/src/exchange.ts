/** One request and its retries. */
import type { Transport } from "./transport.js";

/** Answers that another try may better. */
export const RETRIED: ReadonlySet<number> = new Set([429, 502, 503, 504]);
/** The largest answer that is read, in bytes; of an execution, which returns rows. */
export const MAX_ANSWER = 8 * 1024 * 1024;
export const MAX_ROWS_ANSWER = 64 * 1024 * 1024;
const MAX_PAUSE = 1000;

/** What is asked. `path` begins with a slash and is already quoted. */
export interface Request {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  body?: unknown;
  /** Milliseconds that the server has been asked to take before it answers. */
  patienceMs?: number;
  /** Bytes that the answer may have. */
  room?: number;
  /** Doing it twice is not the same as doing it once. */
  once?: boolean;
  /** Gives up when it is aborted: the promise is rejected with its reason. */
  signal?: AbortSignal | undefined;
}

/** An answer, whatever it says. */
export class Reply {
  constructor(
    readonly status: number,
    readonly headers: Readonly<Record<string, string | string[] | undefined>>,
    /** The body as JSON; `undefined` when it is none, `AMBIGUOUS` when readers may differ about it. */
    readonly json: unknown,
  ) {}
}

/** No answer; `cause` says why, for a person. */
export class Failure {
  constructor(readonly cause: string) {}
}

/** What came of a request. */
export type Answer = Reply | Failure;

/** `timeoutMs` for one try, over and above a request's patience; `retries` after the first. */
export interface Limits {
  timeoutMs: number;
  retries: number;
}

/**
 * Asks, and asks again where that may help; answers with the last answer or failure. All tries and pauses
 * together take at most as long as all tries may.
 */
export async function exchange(transport: Transport, request: Request, limits: Limits): Promise<Answer> {
  // What is not the same when it is done twice is tried once: an answer that was lost may have been yes.
  const retries = request.once ? 0 : limits.retries;
  const one = limits.timeoutMs + (request.patienceMs ?? 0);
  const ends = performance.now() + one * (retries + 1);
  for (let attempt = 0; ; attempt++) {
    const left = Math.max(ends - performance.now(), 1);
    const answer = await transport.send(request, Math.min(one, left));
    if (answer instanceof Reply && !RETRIED.has(answer.status)) return answer;
    const pause = pauseAfter(answer, attempt);
    if (attempt >= retries || pause >= ends - performance.now()) return answer;
    await sleep(pause, request.signal);
  }
}

/** Nothing, for some milliseconds; rejected with the reason of `signal` when it is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function pauseAfter(answer: Answer, attempt: number): number {
  const asked = answer instanceof Reply ? retryAfter(answer.headers["retry-after"]) : undefined;
  // Jitter, so that many clients of a server that comes back do not come at once.
  return asked ?? (0.5 + Math.random() / 2) * Math.min(100 * 2 ** attempt, MAX_PAUSE);
}

function retryAfter(value: string | string[] | undefined): number | undefined {
  if (typeof value !== "string") return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  if (!/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/.test(value)) return undefined;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(at - Date.now(), 0);
}
