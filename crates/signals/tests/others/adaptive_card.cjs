// Reads Adaptive Cards, one a line, with Microsoft's own library, and prints what it has against them.
const folder = process.argv[2];
const cards = require(`${folder}/node_modules/adaptivecards/dist/adaptivecards.js`);

for (const line of require("node:fs").readFileSync(0, "utf8").trim().split("\n")) {
  const context = new cards.SerializationContext(cards.Versions.v1_4);
  const card = new cards.AdaptiveCard();
  card.version = cards.Versions.v1_4;
  const sent = JSON.parse(line);
  card.parse(sent, context);
  const events = Array.from({ length: context.eventCount }, (_, at) => context.getEventAt(at).message);
  events.push(...card.validateProperties().validationEvents.map((event) => event.message));
  if (card.getItemCount() !== sent.body.length) events.push("elements are missing");
  console.log(events.length === 0 ? "good" : events.join("; "));
}
