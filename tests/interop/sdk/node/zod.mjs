// Holds recorded server events, a file of JSON lines, to the schema of @openai/agents-realtime.

import { readFileSync } from "node:fs";
import { parseRealtimeEvent } from "./node_modules/@openai/agents-realtime/dist/openaiRealtimeEvents.mjs";

const dropped = new Set();
for (const data of readFileSync(process.argv[2], "utf8").split("\n").filter(Boolean)) {
  if (parseRealtimeEvent({ data }).isGeneric) dropped.add(JSON.parse(data).type);
}
console.log(JSON.stringify({ dropped: [...dropped] }));
