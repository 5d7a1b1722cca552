// A client of the official TypeScript SDK, version 1 or 2: connects, calls tools, prints what it got as JSON.
//   node mcp_client.mjs v1|v2 '{"command":[…],"env":{…}} or {"url":…}' '[["tool",{…}],…]'
const [version, target, calls] = [process.argv[2], ...process.argv.slice(3).map((text) => JSON.parse(text))];

const v1 = async () => {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StdioClientTransport } = await import("@modelcontextprotocol/sdk/client/stdio.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  return { Client, StdioClientTransport, StreamableHTTPClientTransport };
};
const v2 = async () => ({
  ...(await import("@modelcontextprotocol/client")),
  ...(await import("@modelcontextprotocol/client/stdio")),
});

const { Client, StdioClientTransport, StreamableHTTPClientTransport } = await (version === "v1" ? v1() : v2());
const client = new Client({ name: "test", version: "1" }, { capabilities: {} });
const transport = target.url
  ? new StreamableHTTPClientTransport(new URL(target.url))
  : new StdioClientTransport({ command: target.command[0], args: target.command.slice(1), env: target.env });
await client.connect(transport);
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const progress = [];
const results = await Promise.all(
  calls.map(([name, args]) =>
    client.callTool({ name, arguments: args }, ...(version === "v1" ? [undefined] : []), {
      onprogress: (at) => progress.push(at.progress),
    }),
  ),
);
console.log(JSON.stringify({ tools, results, progress }));
await client.close();
process.exit(0);
