/** The way to the server: direct, or through the proxy that the environment names. */
import http from "node:http";
import https from "node:https";
import type { Duplex } from "node:stream";
import tls from "node:tls";

/** How to send: to there, on these connections, with this before the path, and with these headers. */
export interface Way {
  to: Endpoint;
  agent: http.Agent;
  prefix: string;
  headers: Record<string, string>;
}

/** What `http.request` is told of a URL. */
export interface Endpoint {
  protocol: string;
  hostname: string;
  port: string;
}

/** The longest that a proxy may take to connect. */
const CONNECT_MS = 60_000;

/** The way to `url`: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` count, in either case. */
export function proxied(url: URL, options: http.AgentOptions): Way {
  const proxy = proxyFor(url, process.env);
  const agentOf = ({ protocol }: URL): http.Agent =>
    protocol === "https:" ? new https.Agent(options) : new http.Agent(options);
  if (proxy === undefined) return { to: endpoint(url), agent: agentOf(url), prefix: "", headers: {} };
  const credentials = authorization(proxy);
  if (url.protocol === "https:") {
    return { to: endpoint(url), agent: new Tunnel(proxy, credentials, options), prefix: "", headers: {} };
  }
  // A proxy that asks in our place: what is sent names the whole address.
  return { to: endpoint(proxy), agent: agentOf(proxy), prefix: url.origin, headers: credentials };
}

/** `http` or `https`, as an address wants it. */
export function moduleFor({ protocol }: { protocol: string }): typeof http | typeof https {
  return protocol === "https:" ? https : http;
}

function endpoint({ protocol, hostname, port }: URL): Endpoint {
  return { protocol, hostname: hostname.replace(/^\[|\]$/g, ""), port };
}

/** The proxy for `url`, if there is one. */
export function proxyFor(url: URL, env: Readonly<Record<string, string | undefined>>): URL | undefined {
  // A proxy cannot reach this machine's own loopback, and would be told the key.
  if (/^(localhost|127\.0\.0\.1|\[::1\])$/.test(url.hostname)) return undefined;
  const named = (name: string): string => env[name] || env[name.toUpperCase()] || "";
  const found = named(`${url.protocol.slice(0, -1)}_proxy`);
  if (found === "" || isExempt(url, named("no_proxy"))) return undefined;
  const proxy = found.includes("://") ? found : `http://${found}`;
  if (!URL.canParse(proxy)) throw new TypeError("the environment names a proxy whose address makes no sense");
  return new URL(proxy);
}

/** Whether `list`, of hosts and domains divided by commas, has the host of `url`. */
function isExempt(url: URL, list: string): boolean {
  const names = list.split(",").map((name) =>
    name
      .trim()
      .toLowerCase()
      .replace(/^\*?\./, ""),
  );
  return names.some(
    (name) =>
      name === "*" ||
      (name !== "" && [url.hostname, url.host].some((host) => host === name || host.endsWith(`.${name}`))),
  );
}

function authorization(proxy: URL): Record<string, string> {
  if (proxy.username === "") return {};
  const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { "proxy-authorization": `Basic ${Buffer.from(pair).toString("base64")}` };
}

/** Connections through a proxy that passes on bytes it cannot read. */
class Tunnel extends https.Agent {
  readonly #proxy: URL;
  readonly #headers: Record<string, string>;

  constructor(proxy: URL, headers: Record<string, string>, options: https.AgentOptions) {
    super(options);
    this.#proxy = proxy;
    this.#headers = headers;
  }

  override createConnection(
    options: https.RequestOptions,
    made: (error: Error | null, socket: Duplex) => void,
  ): undefined {
    const fail = made as (error: Error) => void;
    const path = `${options.host}:${options.port || 443}`;
    const asked = moduleFor(this.#proxy).request({
      ...endpoint(this.#proxy),
      method: "CONNECT",
      path,
      headers: { host: path, ...this.#headers },
      agent: false,
      timeout: CONNECT_MS,
    });
    asked.once("connect", (response, socket) => {
      if (response.statusCode === 200) {
        made(null, tls.connect({ ...(options as tls.ConnectionOptions), socket }));
      } else {
        socket.destroy();
        fail(new Error(`the proxy answered ${response.statusCode}`));
      }
    });
    asked.once("error", fail);
    asked.once("timeout", () => asked.destroy(new Error("the proxy does not answer")));
    asked.end();
    return undefined;
  }
}
