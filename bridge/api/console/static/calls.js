// The table of current calls, and the clock in it.

const KINDS = { sip: "phone", webrtc: "browser" };

export class CallTable {
  #body;
  #count;
  #act;
  #calls = [];
  #mine = null;
  #watched = null;

  // `act(verb, callId)` is called for "watch" and "hangup".
  constructor(body, count, act) {
    this.#body = body;
    this.#count = count;
    this.#act = act;
    body.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) this.#act(button.dataset.verb, button.dataset.call);
    });
    this.show([]);
  }

  mark({ mine, watched }) {
    this.#mine = mine;
    this.#watched = watched;
    this.show(this.#calls);
  }

  show(calls) {
    this.#calls = calls;
    this.#count.textContent = calls.length ? String(calls.length) : "";
    const focused = document.activeElement?.dataset ?? {};
    if (calls.length) this.#body.replaceChildren(...calls.map((call) => this.#row(call)));
    else this.#body.replaceChildren(this.#none());
    if (focused.call) {
      this.#body.querySelector(`[data-call="${CSS.escape(focused.call)}"][data-verb="${focused.verb}"]`)?.focus();
    }
  }

  #none() {
    const row = document.createElement("tr");
    const cell = row.insertCell();
    cell.colSpan = 6;
    cell.className = "empty";
    cell.textContent = "No calls.";
    return row;
  }

  #row(call) {
    const row = document.createElement("tr");
    row.className = call.state;
    if (call.id === this.#watched) row.setAttribute("aria-current", "true");
    const lamp = document.createElement("span");
    lamp.className = "lamp";
    row.insertCell().append(lamp, call.state);
    const from = call.id === this.#mine ? "this page" : party(call.from) || KINDS[call.type] || "";
    fill(row, "from", from, call.from ?? "");
    fill(row, "id", short(call.id), call.id);
    fill(row, "model", call.model ?? "");
    fill(row, "number", elapsed(call.answered_at ?? call.started_at));
    const act = fill(row, "act", "");
    if (call.state === "active" && call.id !== this.#mine && call.id !== this.#watched) {
      act.append(button("Watch", "watch", call.id));
    }
    act.append(button("Hang up", "hangup", call.id));
    return row;
  }
}

function fill(row, name, text, title = "") {
  const cell = row.insertCell();
  cell.className = name;
  cell.textContent = text;
  cell.title = title;
  return cell;
}

function button(text, verb, callId) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.dataset.verb = verb;
  button.dataset.call = callId;
  button.setAttribute("aria-label", `${text} ${short(callId)}`);
  return button;
}

// "Zoë" <sip:+1555@example.com;x=1>;tag=7 → Zoë +1555
function party(from) {
  const parts = /^\s*(?:"([^"]*)"|([^<"]*?))?\s*<?(?:sips?|tel):([^@;>]+)/i.exec(from ?? "");
  return parts ? [parts[1] ?? parts[2], parts[3]].filter(Boolean).join(" ") : (from ?? "");
}

export function short(callId) {
  return callId && callId.length > 18 ? `${callId.slice(0, 9)}…${callId.slice(-6)}` : (callId ?? "");
}

export function elapsed(since) {
  if (!since) return "";
  const seconds = Math.max(0, Math.floor(Date.now() / 1000 - since));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return seconds < 3600 ? minutes : `${Math.floor(seconds / 3600)}:${minutes}`;
}
