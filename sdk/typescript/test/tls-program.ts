/** Asks a server with TLS, directly and through a proxy; in a program of its own, for Node reads CAs once. */
import { readFileSync } from "node:fs";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { ALLOW, make, Server } from "./scripted.js";

const [key, cert] = process.argv.slice(2).map((file) => readFileSync(file));
const server = await new Server({ key, cert }).start();
server.will().then_(ALLOW);
const { port } = new URL(server.url);

const tunnelled: (string | undefined)[] = [];
const proxy = http.createServer();
proxy.on("connect", (request: http.IncomingMessage, socket: net.Socket) => {
  tunnelled.push(request.url);
  if (request.url !== "checkrein.invalid:7070") return void socket.end("HTTP/1.1 403 no\r\n\r\n");
  const to = net.connect(Number(port), "127.0.0.1", () => {
    socket.write("HTTP/1.1 200 Connected\r\n\r\n");
    to.pipe(socket).pipe(to);
  });
  to.on("error", () => socket.destroy());
  socket.on("error", () => to.destroy());
});
await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));

async function asked(name: string, url: string): Promise<void> {
  const client = make(server, { url, timeoutMs: 5000, retries: 0 });
  const result = await client.check({ action: "update", resource: "shop.users" });
  console.log(`${name}: ${result.verdict} ${result.reason}`);
  client.close();
}

await asked("direct", server.url);
process.env["https_proxy"] = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
await asked("tunnel", "https://checkrein.invalid:7070");
await asked("refused", "https://elsewhere.invalid:7070");
console.log(`asked: ${server.asked.length}`);
console.log(`tunnelled to: ${tunnelled[0]}`);
proxy.close();
proxy.closeAllConnections();
await server.stop();
