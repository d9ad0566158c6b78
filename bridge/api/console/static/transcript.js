// Both sides of a conversation, put together from the event stream.

const WHO = { user: "Caller", assistant: "Agent", system: "System" };

// What a pressed key says when it is a turn of the caller.
const KEY_TURN = /^\[dtmf\] (\S)$/;

export class Transcript {
  #list;
  #entries = new Map();
  #pressed = [];

  constructor(list) {
    this.#list = list;
    this.clear();
  }

  clear(words = "What is said appears here.") {
    this.#entries.clear();
    this.#pressed = [];
    const empty = document.createElement("li");
    empty.className = "empty";
    empty.textContent = words;
    this.#list.replaceChildren(empty);
  }

  receive(event) {
    switch (event.type) {
      case "conversation.item.added":
      case "conversation.item.created":
      case "conversation.item.done":
        return this.#item(event.item, event.previous_item_id);
      case "conversation.item.deleted":
        return this.#drop(event.item_id);
      case "conversation.item.truncated":
        return this.#entry(event.item_id)?.node.classList.add("cut");
      case "conversation.item.input_audio_transcription.delta":
        return this.#grow(event.item_id, "user", event.delta);
      case "conversation.item.input_audio_transcription.completed":
        return this.#say(event.item_id, "user", event.transcript);
      case "conversation.item.input_audio_transcription.failed":
        return this.#say(event.item_id, "user", "(not transcribed)");
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        return this.#grow(event.item_id, "assistant", event.delta);
      case "response.output_audio_transcript.done":
        return this.#say(event.item_id, "assistant", event.transcript);
      case "response.output_text.done":
        return this.#say(event.item_id, "assistant", event.text);
      case "response.output_item.done":
        return this.#item(event.item);
      case "input_audio_buffer.dtmf_event_received":
        return this.#key(event.event);
    }
  }

  #item(item, previous) {
    if (!item?.id) return;
    if (item.type === "message" && WHO[item.role]) {
      const words = (item.content ?? []).map((part) => part.transcript ?? part.text ?? "").join("");
      const key = item.role === "user" && KEY_TURN.exec(words);
      if (key) return this.#turn(item.id, key[1], previous);
      const entry = this.#entry(item.id) ?? this.#add(item.id, item.role, previous);
      // Items arrive empty and are filled by deltas: an empty copy never wipes what was heard.
      if (words) this.#write(entry, words);
    } else if (item.type === "function_call" && item.status !== "in_progress") {
      this.#aside(item.id, "Tool", `${item.name}(${item.arguments ?? ""})`, previous);
    } else if (item.type === "function_call_output") {
      this.#aside(item.id, "Result", item.output, previous);
    }
  }

  // A key is told twice where it is a turn: when it is pressed, and as an item.
  #key(digit) {
    const id = `key-${crypto.randomUUID()}`;
    this.#pressed.push({ id, digit });
    this.#aside(id, "Key", digit);
  }

  #turn(id, digit, previous) {
    if (this.#entry(id)) return;
    const at = this.#pressed.findIndex((key) => key.digit === digit);
    if (at < 0) return this.#aside(id, "Key", digit, previous);
    const [key] = this.#pressed.splice(at, 1);
    this.#entries.set(id, this.#entry(key.id));
    this.#entries.delete(key.id);
  }

  #entry(id) {
    return this.#entries.get(id);
  }

  #grow(id, role, words) {
    const entry = this.#entry(id) ?? this.#add(id, role);
    this.#write(entry, entry.words + words);
  }

  #say(id, role, words) {
    this.#write(this.#entry(id) ?? this.#add(id, role), words);
  }

  #aside(id, who, words, previous) {
    const entry = this.#entry(id) ?? this.#add(id, "aside", previous);
    entry.node.firstChild.textContent = who;
    this.#write(entry, words);
  }

  #add(id, role, previous) {
    if (!this.#entries.size) this.#list.replaceChildren();
    const node = document.createElement("li");
    node.className = `${role} pending`;
    const who = document.createElement("span");
    who.className = "who";
    who.textContent = WHO[role] ?? "";
    const said = document.createElement("span");
    said.className = "said";
    node.append(who, said);
    let before = this.#entry(previous)?.node;
    // Keys pressed since then are no items: the conversation goes on below them.
    const keys = this.#pressed.map(({ id }) => this.#entry(id)?.node);
    while (before && keys.includes(before.nextElementSibling)) before = before.nextElementSibling;
    this.#follow(() => (before ? before.after(node) : this.#list.append(node)));
    const entry = { node, said, words: "" };
    this.#entries.set(id, entry);
    return entry;
  }

  #write(entry, words) {
    entry.words = words ?? "";
    this.#follow(() => {
      entry.said.textContent = entry.words;
      entry.node.classList.toggle("pending", !entry.words);
    });
  }

  #drop(id) {
    this.#entry(id)?.node.remove();
    this.#entries.delete(id);
  }

  // Stay at the end unless the reader has scrolled up.
  #follow(change) {
    const list = this.#list;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    change();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }
}
