// Holds server events, a file of JSON lines, to the schema of @openai/agents-realtime, and prints
// those that it would drop.

import { readFileSync } from "node:fs";
import { parseRealtimeEvent } from "./node_modules/@openai/agents-realtime/dist/openaiRealtimeEvents.mjs";

const lines = readFileSync(process.argv[2], "utf8").split("\n").filter(Boolean);
for (const data of lines) {
  if (parseRealtimeEvent({ data }).isGeneric) console.log(data);
}
