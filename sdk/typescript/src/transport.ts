/**
 * Sends requests over HTTP.
 *
 * On `node:http` and not on `fetch`: a gate keeps connections of its own, which it can close, speaks through the
 * proxy that the environment names (in Node 20, too), and reads an answer's very bytes.
 */
import type http from "node:http";
import { type Answer, Failure, MAX_ANSWER, Reply, type Request } from "./exchange.js";
import { moduleFor, proxied, type Way } from "./proxy.js";
import { readJson } from "./reading.js";
import { traceparent } from "./trace.js";
import { VERSION } from "./version.js";

/** Idle connections are closed after this time, before a server or a balancer does it. */
const IDLE_MS = 20_000;

/** The server's address, as `new Checkrein` takes it. Throws `TypeError` where it is none. */
export function serverUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.username || url?.password || url?.search || url?.hash || /[?#@]/.test(text)) {
    throw new TypeError("url must hold no user, query or fragment; the key goes into apiKey");
  }
  if (!url || !/^https?:\/\/[^/]/.test(text) || url.port === "0" || /[^!-~]/.test(text)) {
    throw new TypeError(`url must look like http://127.0.0.1:7070, not ${JSON.stringify(text)}`);
  }
  return url;
}

/** Connections to one server. */
export class Transport {
  readonly #way: Way;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #connectMs: number;
  readonly #prefix: string;
  #closed = false;

  /** `timeoutMs` is also the longest that connecting may take. Throws `TypeError` for a key that can be none. */
  constructor(url: URL, apiKey: string | undefined, timeoutMs: number) {
    const key = (apiKey ?? "").trim();
    if (/[^!-~]/.test(key)) {
      throw new TypeError("the API key holds characters that no key has; was it copied whole?");
    }
    this.#connectMs = timeoutMs;
    this.#way = proxied(url, { keepAlive: true, maxFreeSockets: 64, timeout: IDLE_MS });
    this.#prefix = this.#way.prefix + url.pathname.replace(/\/+$/, "");
    this.#headers = {
      accept: "application/json",
      // An answer must not unfold into more than was sent.
      "accept-encoding": "identity",
      "user-agent": `checkrein-typescript/${VERSION}`,
      host: url.host,
      ...this.#way.headers,
      ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
    };
  }

  /** Sends `request`; all of it, to the last byte of the answer, within `ms`. */
  send(request: Request, ms: number): Promise<Answer> {
    if (this.#closed) throw new TypeError("this Checkrein client is closed");
    const { signal } = request;
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const asked = this.#ask(request);
      const settle = (answer: Answer): void => {
        for (const timer of timers) clearTimeout(timer);
        signal?.removeEventListener("abort", stop);
        resolve(answer);
        if (answer instanceof Failure) asked.destroy();
      };
      const stop = (): void => {
        reject(signal?.reason as Error);
        settle(new Failure("aborted"));
      };
      const within = (limit: number): NodeJS.Timeout =>
        setTimeout(() => settle(new Failure(`no answer within ${(limit / 1000).toFixed(1)} s`)), limit);
      const connecting = within(Math.min(this.#connectMs, ms));
      const timers = [connecting, within(ms)];
      signal?.addEventListener("abort", stop, { once: true });
      asked.on("socket", (socket) => {
        if (socket.connecting) socket.once("connect", () => clearTimeout(connecting));
        else clearTimeout(connecting);
      });
      asked.on("error", (error) => settle(failure(error)));
      asked.on("upgrade", () => settle(new Failure("it answered 101, which was not asked for")));
      asked.on("response", (response) => receive(response, request.room ?? MAX_ANSWER, settle));
    });
  }

  /** Closes the connections; nothing can be sent after. */
  close(): void {
    this.#closed = true;
    this.#way.agent.destroy();
  }

  #ask(request: Request): http.ClientRequest {
    const { body, method, path } = request;
    const content = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const trace = content && traceparent();
    const about = content && {
      "content-type": "application/json",
      "content-length": content.length,
      ...(trace && { traceparent: trace }),
    };
    const { to, agent } = this.#way;
    const asked = moduleFor(to).request({
      ...to,
      method,
      path: this.#prefix + path,
      headers: { ...this.#headers, ...about },
      agent,
    });
    asked.end(content);
    return asked;
  }
}

function receive(response: http.IncomingMessage, room: number, settle: (answer: Answer) => void): void {
  const pieces: Buffer[] = [];
  let size = 0;
  response.on("data", (piece: Buffer) => {
    pieces.push(piece);
    size += piece.length;
    if (size > room) settle(new Failure(`its answer is larger than ${room / 1024 / 1024} MiB`));
  });
  response.on("error", (error) => settle(failure(error)));
  response.on("close", () => settle(new Failure("its answer was broken off")));
  response.on("end", () => {
    if ((response.headers["content-encoding"] ?? "identity") !== "identity") {
      settle(new Failure("its answer is compressed, which was not asked for"));
    } else if (response.complete && size <= room) {
      settle(new Reply(response.statusCode ?? 0, response.headers, readJson(Buffer.concat(pieces))));
    }
  });
}

function failure(error: Error): Failure {
  const told = [(error as NodeJS.ErrnoException).code, error.message].filter(Boolean).join(": ");
  return new Failure(told.slice(0, 200) || error.name);
}
