// A provider of OpenID Connect as others wrote it (npm `oidc-provider`), with its own pages to sign in. Takes from
// standard input: {"redirect": …, "secret": …, "people": {NAME: CLAIMS}}. Prints its issuer, and ends with its input.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(new URL("../../.cache/oidc/package.json", import.meta.url));
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { redirect, secret, people } = JSON.parse((await lines.next()).value);

const server = createServer().listen(0, "127.0.0.1", () => {
  // Another name than Checkrein's, so that the browser takes it for another site.
  const issuer = `http://localhost:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      { client_id: "checkrein", client_secret: secret, redirect_uris: [redirect], response_types: ["code"] },
    ],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
    // Any name and password sign in; what is known of the name is what counts.
    findAccount: (_, name) => people[name] && { accountId: name, claims: () => ({ sub: name, ...people[name] }) },
    cookies: { keys: [secret] },
    renderError: (ctx, out) => {
      ctx.type = "text";
      ctx.body = JSON.stringify(out);
    },
  });
  server.on("request", provider.callback());
  console.log(JSON.stringify({ issuer }));
});

await lines.next();
server.closeAllConnections();
server.close();
