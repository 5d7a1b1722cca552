/** A server that follows a script to the byte: real sockets, strict about what it is asked. */
import net, { type AddressInfo, type Socket } from "node:net";
import { setTimeout as later } from "node:timers/promises";
import tls, { type TlsOptions } from "node:tls";
import { Checkrein, type CheckreinOptions } from "checkrein";

export const DECISION = {
  id: "chk_1",
  verdict: "allow",
  reason: "no policy objects",
  policies: [],
  category: "write",
  environment: "production",
  blast_radius: {
    records: 3,
    systems: 1,
    recipients: null,
    basis: "declared",
    declared: 3,
    by_resource: [{ resource: "shop.users", records: 3 }],
  },
  logged_at: "2026-11-22T09:10:05.123456Z",
  a_field_of_a_later_version: { x: 1 },
};

/** A request as it arrived. */
export interface Asked {
  method: string;
  path: string;
  headers: Record<string, string>;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  body: any;
  connection: number;
}

/** What is done with one request; it may write anything, close, or wait. */
export type Act = (socket: Socket, asked: Asked) => void | Promise<void>;

export function reply(
  status: number,
  body: unknown,
  type = "application/json",
  more: Record<string, string> = {},
): Act {
  const raw = Buffer.isBuffer(body)
    ? body
    : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
  return (socket) => {
    const head = { "content-type": type, "content-length": raw.length, "x-request-id": "req_7", ...more };
    const lines = Object.entries(head).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(Buffer.concat([Buffer.from(`HTTP/1.1 ${status} X\r\n${lines.join("")}\r\n`), raw]));
  };
}

export function problem(
  status: number,
  detail: string,
  errors?: object[],
  more: Record<string, string> = {},
): Act {
  const body = { type: "https://x/p", title: "T", status, detail, ...(errors && { errors }) };
  return reply(status, body, "application/problem+json", more);
}

export const decision = (changes: object): Act => reply(200, { ...DECISION, ...changes });
export const ALLOW = decision({});
export const BLOCK = decision({ verdict: "block", reason: "touches 10000 records, over 25" });
export const HOLD = decision({ verdict: "hold", reason: "needs approval", approval_id: "apr_1" });
export const OK = reply(200, {});

/** Takes the request and says nothing until the client gives up. */
export const silent: Act = () => {};
export const close: Act = (socket) => void socket.destroy();
/** Announces more than is sent. */
export const halfClosed: Act = (socket) =>
  void socket.end('HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{"id":"chk_1","verdict":"allow"');
export const raw =
  (data: string | Buffer): Act =>
  (socket) =>
    void socket.end(data);

/** Sends `data` byte by byte, each soon enough for a naive read time-out. */
export const drip =
  (data: string, every = 100): Act =>
  async (socket) => {
    for (const byte of data) {
      if (socket.destroyed) return;
      socket.write(byte);
      await later(every);
    }
  };

/** Does the acts of its script in order, and `then` for all requests after. */
export class Server {
  readonly asked: Asked[] = [];
  readonly outcomes: Record<string, unknown>[] = [];
  readonly faults: string[] = [];
  connections = 0;
  url = "";
  #script: Act[] = [];
  #then: Act | undefined;
  #outcome: Act = OK;
  readonly #open = new Set<Socket>();
  readonly #listener: net.Server;

  constructor(secure?: TlsOptions) {
    const accept = (socket: Socket): void => this.#accept(socket);
    this.#listener = secure ? tls.createServer(secure, accept) : net.createServer(accept);
    this.#listener.on("tlsClientError", () => {});
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve) => this.#listener.listen(0, "127.0.0.1", resolve));
    const { port } = this.#listener.address() as AddressInfo;
    this.url = `${this.#listener instanceof tls.Server ? "https" : "http"}://127.0.0.1:${port}`;
    return this;
  }

  will(...acts: Act[]): this {
    this.#script = acts;
    this.#then = undefined;
    this.#outcome = OK;
    return this;
  }

  /** For all requests after the script. */
  then_(act: Act): this {
    this.#then = act;
    return this;
  }

  /** For reports of outcomes. */
  onOutcome(act: Act): this {
    this.#outcome = act;
    return this;
  }

  checks(): Asked[] {
    return this.asked.filter((a) => !a.path.endsWith("/outcome"));
  }

  /** The outcomes that were reported, once there are `n`: nobody waits for the report of a run that was given up. */
  async reported(n = 1): Promise<unknown[]> {
    for (let i = 0; i < 500 && this.outcomes.length < n; i++) await later(20);
    return this.outcomes.map((outcome) => outcome["status"]);
  }

  async stop(): Promise<void> {
    for (const socket of this.#open) socket.destroy();
    await new Promise((resolve) => this.#listener.close(resolve));
  }

  #accept(socket: Socket): void {
    const connection = ++this.connections;
    this.#open.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#open.delete(socket));
    let kept = Buffer.alloc(0);
    socket.on("data", (piece) => {
      kept = Buffer.concat([kept, piece as Buffer]);
      try {
        for (let taken = read(kept, connection); taken; taken = read(kept, connection)) {
          kept = kept.subarray(taken.size);
          void this.#next(taken.asked)(socket, taken.asked);
        }
      } catch (error) {
        this.faults.push(String(error));
        socket.destroy();
      }
    });
  }

  #next(asked: Asked): Act {
    this.asked.push(asked);
    if (asked.path.endsWith("/outcome")) {
      this.outcomes.push(asked.body as Record<string, unknown>);
      return this.#outcome;
    }
    const act = this.#script.shift() ?? this.#then;
    if (!act) throw new Error(`not in the script: ${JSON.stringify(asked)}`);
    return act;
  }
}

function read(bytes: Buffer, connection: number): { asked: Asked; size: number } | undefined {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [first = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const [method = "", path = "", version] = first.split(" ");
  must(version === "HTTP/1.1", first);
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [, name = "", value = ""] = /^([^:]+): *(.*)$/.exec(line) ?? [];
    must(!(name.toLowerCase() in headers), `${name} twice`);
    headers[name.toLowerCase()] = value.trim();
  }
  const length = Number(headers["content-length"] ?? 0);
  const from = end + 4;
  if (bytes.length < from + length) return undefined;
  const content = bytes.subarray(from, from + length).toString();
  must(length === 0 || headers["content-type"] === "application/json", "a body that is not called JSON");
  must(headers["authorization"] === "Bearer ck_test", `authorization: ${headers["authorization"]}`);
  const body: unknown = content === "" ? undefined : JSON.parse(content);
  return { asked: { method, path, headers, body, connection }, size: from + length };
}

function must(is: boolean, what: string): void {
  if (!is) throw new Error(what);
}

/** Runs `test` with a server, and fails where it was asked something that makes no sense. */
export async function withServer(
  test: (server: Server) => Promise<void>,
  secure?: TlsOptions,
): Promise<void> {
  const server = await new Server(secure).start();
  try {
    await test(server);
  } finally {
    await server.stop();
  }
  must(server.faults.length === 0, server.faults.join("\n"));
}

/** A client whose warnings go into `lines`; its time is not to run out on a busy machine. */
export function make(server: Server, changes: CheckreinOptions = {}, lines: string[] = []): Checkrein {
  return new Checkrein({
    url: server.url,
    apiKey: "ck_test",
    timeoutMs: 10_000,
    log: (line) => void lines.push(line),
    ...changes,
  });
}
