// What people gave on its way to the server: answers, notes. Nothing is lost: each is kept in the browser's storage until
// the server has it, is sent again when the network fails, and carries a key of its own, so that sending it twice counts
// once.

const FIRST_DELAY = 1000;
const LONGEST_DELAY = 30000;

// What the server may say later to the same thing: signed out, forbidden for now, too slow, too many, broken.
const LATER = new Set([401, 403, 408, 425, 429]);

export class Outbox {
  // `send(entry)` resolves to {status, sentence} and rejects where the network fails. `onChange()` is called when the
  // number of waiting entries or the reason for waiting changes; `onRefused(entry, reply)` when one will never be taken.
  // An entry is {task, body, at}: `body` goes to the server and has the key.
  constructor({ prefix, send, onSaved, onChange, onRefused }) {
    this.prefix = prefix;
    this.send = send;
    this.onSaved = onSaved;
    this.onChange = onChange;
    this.onRefused = onRefused;
    this.waiting = this.#stored();
    this.trouble = "";
    this.delay = 0;
    this.timer = null;
    this.sending = null;
  }

  get count() {
    return this.waiting.length;
  }

  has(taskId) {
    return this.waiting.some((entry) => entry.task.id === taskId);
  }

  add(entry) {
    this.waiting.push(entry);
    this.#store(entry);
    this.onChange();
    void this.flush();
  }

  // The last entry, if it was never on the wire: it can be taken back as if it had not been given.
  takeBack() {
    const last = this.waiting.at(-1);
    if (!last || last.tried) return null;
    this.#drop(last);
    return last;
  }

  // Send what waits, in order. Resolves to whether all of it is saved.
  flush() {
    clearTimeout(this.timer);
    this.timer = null;
    this.sending ??= this.#sendAll().finally(() => { this.sending = null; });
    return this.sending;
  }

  async #sendAll() {
    while (this.waiting.length) {
      const entry = this.waiting[0];
      entry.tried = true;
      let reply;
      try {
        reply = await this.send(entry);
      } catch {
        return this.#later("The server cannot be reached.");
      }
      if (reply.status >= 500 || LATER.has(reply.status)) return this.#later(reply.sentence);
      this.delay = 0;
      this.trouble = "";
      this.#drop(entry);
      if (reply.status >= 400) this.onRefused(entry, reply);
      else this.onSaved(entry, reply);
    }
    return true;
  }

  #later(sentence) {
    this.trouble = sentence;
    this.delay = Math.min(this.delay ? this.delay * 2 : FIRST_DELAY, LONGEST_DELAY);
    this.timer = setTimeout(() => void this.flush(), this.delay);
    this.onChange();
    return false;
  }

  #drop(entry) {
    this.waiting = this.waiting.filter((each) => each !== entry);
    try {
      localStorage.removeItem(this.prefix + entry.body.key);
    } catch {
      // Storage is blocked: nothing was kept there either.
    }
    this.onChange();
  }

  #store(entry) {
    try {
      localStorage.setItem(this.prefix + entry.body.key, JSON.stringify({ ...entry, tried: true }));
    } catch {
      // Storage is blocked or full: it is still in memory, and the page warns before it is left.
    }
  }

  // What an earlier page could not send, oldest first. They may have been on the wire.
  #stored() {
    const found = [];
    try {
      for (let i = 0; i < localStorage.length; i++) {
        const name = localStorage.key(i);
        if (name.startsWith(this.prefix)) found.push(JSON.parse(localStorage.getItem(name)));
      }
    } catch {
      return [];
    }
    return found.sort((a, b) => a.at - b.at);
  }
}
