// Writes src/openapi.ts, the types of what travels, from openapi.json. With --check: fails where it is not current.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const { components } = JSON.parse(readFileSync(at("../../../openapi.json"), "utf8"));
const SCALARS = { string: "string", integer: "number", number: "number", boolean: "boolean", null: "null" };

function type(schema, indent) {
  if (schema === true || Object.keys(schema).every((key) => key === "description")) return "unknown";
  if (schema.$ref) return `components["schemas"][${JSON.stringify(schema.$ref.split("/").at(-1))}]`;
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const each = (list, glue) => list.map((one) => type(one, indent)).join(glue);
  if (schema.oneOf ?? schema.anyOf) return each(schema.oneOf ?? schema.anyOf, " | ");
  if (schema.allOf) return each(schema.allOf, " & ");
  if (Array.isArray(schema.type)) {
    return schema.type.map((one) => type({ ...schema, type: one }, indent)).join(" | ");
  }
  if (schema.type === "array") return `Array<${type(schema.items ?? {}, indent)}>`;
  if (schema.type === "object") return object(schema, indent);
  if (SCALARS[schema.type]) return SCALARS[schema.type];
  throw new Error(`no type for ${JSON.stringify(schema)}`);
}

function object(schema, indent) {
  // Where an object says nothing of itself, openapi.json means any JSON.
  if (!schema.properties && !schema.additionalProperties) return "unknown";
  if (!schema.properties) return `Record<string, ${type(schema.additionalProperties, indent)}>`;
  const inner = `${indent}  `;
  const lines = Object.entries(schema.properties).map(([name, property]) => {
    const optional = schema.required?.includes(name) ? "" : "?";
    return `${comment(property.description, inner)}${inner}${/^\w+$/.test(name) ? name : JSON.stringify(name)}${optional}: ${type(property, inner)};\n`;
  });
  return `{\n${lines.join("")}${indent}}`;
}

function comment(text, indent) {
  if (!text) return "";
  const lines = text.replaceAll("*/", "* /").split("\n");
  if (lines.length === 1) return `${indent}/** ${lines[0]} */\n`;
  return [`${indent}/**`, ...lines.map((line) => `${indent} * ${line}`.trimEnd()), `${indent} */\n`].join(
    "\n",
  );
}

const schemas = Object.entries(components.schemas).map(
  ([name, schema]) => `${comment(schema.description, "    ")}    ${name}: ${type(schema, "    ")};\n`,
);
const made =
  "// Made from openapi.json by `npm run types`; do not edit.\n\n" +
  `/** What travels. */\nexport interface components {\n  schemas: {\n${schemas.join("")}  };\n}\n`;
const file = at("../src/openapi.ts");
if (!process.argv.includes("--check")) writeFileSync(file, made);
else if (readFileSync(file, "utf8") !== made) {
  console.error("src/openapi.ts is not what openapi.json says; run: npm run types");
  process.exit(1);
}
