// The live event stream: bounded, filtered, pausable; runs of deltas fold into one row.

const MAX_ROWS = 500;
const MAX_FOLDED = 200;

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 1, hour12: false,
});

export class EventStream {
  #list;
  #rows = [];
  #held = [];
  #filter = "";
  paused = false;

  constructor(list) {
    this.#list = list;
    this.clear();
  }

  add(event, way = "received") {
    const entry = { event, way, at: new Date() };
    if (!this.paused) return this.#show(entry);
    this.#held.push(entry);
    if (this.#held.length > MAX_ROWS) this.#held.shift();
  }

  get waiting() {
    return this.#held.length;
  }

  resume() {
    this.paused = false;
    for (const entry of this.#held.splice(0)) this.#show(entry);
  }

  filter(words) {
    this.#filter = words.trim().toLowerCase();
    for (const row of this.#rows) this.#sift(row);
  }

  clear() {
    this.#rows = [];
    this.#held = [];
    const empty = document.createElement("li");
    empty.className = "empty";
    empty.textContent = "Events of a call appear here, newest last.";
    this.#list.replaceChildren(empty);
  }

  #show({ event, way, at }) {
    const list = this.#list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const last = this.#rows.at(-1);
    if (last && last.way === way && last.type === event.type && event.type.endsWith(".delta")) {
      last.events.push(event);
      if (last.events.length > MAX_FOLDED) last.events.shift();
      last.count.textContent = `×${++last.times}`;
      if (last.details.open) last.json.textContent = pretty(last.events);
    } else {
      if (!this.#rows.length) list.replaceChildren();
      this.#rows.push(this.#row(event, way, at));
      if (this.#rows.length > MAX_ROWS) this.#rows.shift().node.remove();
    }
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  #row(event, way, at) {
    const node = document.createElement("li");
    node.className = `${way} ${event.type === "error" ? "error" : ""}`;
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    const time = document.createElement("time");
    time.textContent = clock.format(at);
    const arrow = document.createElement("span");
    arrow.className = "way";
    arrow.textContent = way === "sent" ? "↑" : "↓";
    arrow.title = way;
    const type = document.createElement("span");
    type.className = "type";
    type.textContent = type.title = event.type;
    const count = document.createElement("span");
    count.className = "count";
    summary.append(time, arrow, type, count);
    const json = document.createElement("pre");
    details.append(summary, json);
    node.append(details);
    const row = { node, details, count, json, way, type: event.type, events: [event], times: 1 };
    // Most rows are never opened: their JSON is laid out when one is.
    details.addEventListener("toggle", () => {
      json.textContent = details.open ? pretty(row.events) : "";
    });
    this.#sift(row);
    this.#list.append(node);
    return row;
  }

  #sift(row) {
    row.node.hidden = !row.type.toLowerCase().includes(this.#filter);
  }
}

function pretty(events) {
  return JSON.stringify(events.length === 1 ? events[0] : events, null, 2);
}
