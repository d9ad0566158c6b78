// One script of a CommonJS package and all it requires, for a page that has no modules.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const REQUIRED = /\brequire\('([^']+)'\)/g;

// What a page gets instead of node's own.
function located(name, from) {
  const require = createRequire(from);
  if (name === "events") return require.resolve("events/events.js");
  if (name === "debug") {
    const manifest = require.resolve("debug/package.json");
    return join(dirname(manifest), JSON.parse(readFileSync(manifest)).browser);
  }
  return require.resolve(name);
}

// Sets `globalThis[as]` to what the package exports.
export function bundle(name, as) {
  const files = new Map();
  function add(path) {
    if (files.has(path)) return;
    const text = readFileSync(path, "utf8");
    const needs = {};
    files.set(path, { text, needs });
    if (path.endsWith(".json")) return;
    for (const [, wanted] of text.matchAll(REQUIRED)) needs[wanted] = located(wanted, path);
    Object.values(needs).forEach(add);
  }
  const entry = located(name, import.meta.url);
  add(entry);
  const modules = [...files].map(([path, { text, needs }]) => {
    const body = path.endsWith(".json") ? `module.exports = ${text}` : text;
    return `${JSON.stringify(path)}: [${JSON.stringify(needs)}, (require, module, exports) => {\n${body}\n}]`;
  });
  return `globalThis.process ??= { env: {} };
    globalThis[${JSON.stringify(as)}] = (() => {
      const modules = {${modules.join(",\n")}};
      const loaded = {};
      function load(path) {
        if (loaded[path]) return loaded[path].exports;
        const module = (loaded[path] = { exports: {} });
        const [needs, body] = modules[path];
        body((name) => load(needs[name]), module, module.exports);
        return module.exports;
      }
      return load(${JSON.stringify(entry)});
    })();`;
}
