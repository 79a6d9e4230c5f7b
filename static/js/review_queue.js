// The items that this person holds: the one on the page and the next ones, with their images, ready behind it.

const WANTED = 4; // Items held: the one on the page and the next ones.
const MOST_HELD = 10; // More are never handed out at once.
const AGAIN_AFTER = 5000;

// What the server may say to somebody who can try again.
const LATER = new Set([0, 401, 408, 425, 429]);

export class Queue {
  // `isBegun()` says whether words were begun for the item on the page, which are not taken away under the fingers.
  // Called back: `onProgress(progress)`; `onKept()` when the item on the page went to others while words were begun;
  // `onLost()` when it went to somebody else; `onEmpty({isFresh, isClosed})` when there is none to show; `onShow(task)`;
  // `onTrouble(sentence)` while it cannot be reached and nothing is on the page; `onStopped(sentence)` when it refuses.
  constructor({ server, answers, channel, isBegun, onProgress, onKept, onLost, onEmpty, onShow, onTrouble, onStopped }) {
    Object.assign(this, {
      server, answers, isBegun, onProgress, onKept, onLost, onEmpty, onShow, onTrouble, onStopped,
    });
    this.items = []; // The first one is on the page.
    this.shown = null;
    this.answered = new Map(); // task id → the version that was answered here
    this.pictures = new Map(); // task id → its image, loaded ahead
    this.isClosed = false;
    this.refilling = null;
    this.isWanted = false; // Asked for while an earlier request was under way, which may not know what happened since.
    this.isAtRest = false; // The items were handed back: none is asked for until this person wants some again.
    this.again = null;
    this.#meetTabs(channel);
  }

  // --- Taking and giving ---------------------------------------------------------------------------------------------

  // The item on the page was answered: the next one comes.
  answer(task) {
    this.items = this.items.filter((each) => each.id !== task.id);
    this.answered.set(task.id, task.version);
    this.shown = null;
    this.next();
  }

  // How many items to ask for with an answer, so that none is waited for; 0 while there are enough. Answers that are
  // behind it in the outbox are still held.
  get missing() {
    if (this.isAtRest || this.items.length >= WANTED) return 0;
    return Math.min(MOST_HELD, this.answers.count - 1 + Math.max(WANTED, this.items.length));
  }

  // The task is open again: it is shown first.
  putFirst(task) {
    this.isAtRest = false;
    this.answered.delete(task.id);
    this.items = [task, ...this.items.filter((each) => each.id !== task.id)];
    this.tellTabs();
    this.#show(task);
  }

  next(isFresh = false) {
    if (this.items.length) return this.#show(this.items[0]);
    this.shown = null;
    this.onEmpty({ isFresh, isClosed: this.isClosed });
  }

  // Everything that this person holds goes back to the others. Resolves to whether the server took it.
  async handBack() {
    this.isAtRest = true;
    clearTimeout(this.again);
    await this.refilling;
    const reply = await this.server.post(this.server.roundUrl("release"), {});
    if (reply.status !== 200) {
      this.isAtRest = false;
      return reply;
    }
    this.items = [];
    this.shown = null;
    this.tellTabs();
    return reply;
  }

  wake() {
    this.isAtRest = false;
    return this.refill();
  }

  refill() {
    if (this.isAtRest) return Promise.resolve();
    this.isWanted = true;
    this.refilling ??= this.#claimWhileWanted().finally(() => { this.refilling = null; });
    return this.refilling;
  }

  later(delay) {
    clearTimeout(this.again);
    this.again = setTimeout(() => void this.refill(), delay);
  }

  // --- Asking the server ---------------------------------------------------------------------------------------------

  async #claimWhileWanted() {
    while (this.isWanted && !this.isAtRest) {
      this.isWanted = false;
      await this.#claim();
    }
  }

  // Ask for the items that this person holds, and more if there is room. What the server says replaces the queue.
  async #claim() {
    clearTimeout(this.again);
    let reply;
    try {
      const count = Math.min(MOST_HELD, this.answers.count + Math.max(WANTED, this.items.length));
      reply = await this.server.post(this.server.roundUrl("next"), { count });
    } catch {
      reply = { status: 0, sentence: "The server cannot be reached." };
    }
    if (reply.status !== 200) return this.#cannotClaim(reply);
    this.isClosed = reply.data.closed;
    this.onProgress(reply.data.progress);
    this.take(reply.data.tasks);
    this.onProgress(reply.data.progress); // What is left depends on what is held.
  }

  // What the server says that this person holds.
  take(tasks) {
    const fresh = tasks.filter((task) => this.#isOpen(task));
    const { shown } = this;
    const current = shown && fresh.find((task) => task.id === shown.id && task.version === shown.version);
    const isKept = Boolean(shown) && !current && this.isBegun();
    const isLost = shown !== null && !current && !isKept;
    const others = fresh.filter((task) => task.id !== shown?.id);
    this.items = current || isKept ? [shown, ...others] : fresh;
    this.items.forEach((task) => this.#loadAhead(task));
    this.tellTabs();
    if (isKept) this.onKept();
    if (isLost) {
      this.shown = null;
      if (fresh.length) this.onLost();
    }
    if (!this.shown) this.next(!this.isWanted);
  }

  // Neither answered here and on its way, nor handed out before the server had the answer.
  #isOpen(task) {
    return !this.answers.has(task.id) && !(this.answered.has(task.id) && this.answered.get(task.id) >= task.version);
  }

  #cannotClaim(reply) {
    if (this.shown) return; // There is something to do; it is tried again with the next answer.
    if (reply.status >= 500 || LATER.has(reply.status)) {
      this.onTrouble(reply.sentence);
      this.later(AGAIN_AFTER);
    } else {
      this.onStopped(reply.sentence);
    }
  }

  #show(task) {
    this.shown = task;
    this.#loadAhead(task);
    this.onShow(task, this.pictures.get(task.id) ?? null);
    for (const id of this.pictures.keys()) {
      if (!this.items.some((each) => each.id === id)) this.pictures.delete(id);
    }
  }

  #loadAhead(task) {
    if (!task.item.image_url || this.pictures.has(task.id)) return;
    const image = new Image();
    image.src = task.item.image_url;
    image.decode().catch(() => undefined); // Ready to be painted, too; one that is broken says so when it is shown.
    this.pictures.set(task.id, image);
  }

  // --- Other tabs of this person -------------------------------------------------------------------------------------

  // They are handed the same items. Each says which it holds, so that one that is closed does not give away another's.
  #meetTabs(channel) {
    this.tab = crypto.randomUUID();
    this.elsewhere = new Map(); // tab → ids of the tasks that it holds
    this.tabs = "BroadcastChannel" in window ? new BroadcastChannel(channel) : null;
    this.tabs?.addEventListener("message", ({ data }) => {
      this.elsewhere.set(data.tab, data.held);
      if (data.asks) this.tellTabs();
    });
  }

  tellTabs(asks = false) {
    this.tabs?.postMessage({ tab: this.tab, held: this.items.map((task) => task.id), asks });
  }

  // What is held goes back to the others at once.
  leave() {
    const heldElsewhere = new Set([...this.elsewhere.values()].flat());
    const tasks = this.items.map((task) => task.id).filter((id) => !heldElsewhere.has(id));
    if (tasks.length) this.server.sendOff(this.server.roundUrl("release"), { tasks });
    this.tabs?.postMessage({ tab: this.tab, held: [] });
  }
}
