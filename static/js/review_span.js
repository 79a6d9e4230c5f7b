// An answer that is a span of the text, on the review screen: the machine's is marked in place, and another is chosen with
// the mouse, a finger or the keyboard. Offsets here are those of strings; the server's count characters, of which some
// take two places in a string.

const byId = (id) => document.getElementById(id);
const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });

export class SpanAnswer {
  // `onChange()` when another answer is chosen, or none; `bringIntoView(box, how)` scrolls what holds the text;
  // `announce(sentence)` is read aloud. A choice is marked in `tone`.
  constructor({ onChange, bringIntoView, announce, tone = "human" }) {
    Object.assign(this, { onChange, bringIntoView, announce, tone });
    this.task = null;
    this.text = "";
    this.given = null; // the machine's, [start, end) in the text; an empty one says that there is none; null for nothing
    this.places = []; // where the words of the machine's answer stand
    this.others = []; // {span, tone, who}: what else was said of the text, to be seen beside the choice
    this.chosen = null; // [start, end) of this person's choice
    this.before = null; // what was chosen before choosing by keyboard began
    this.isMoving = false; // chosen by keyboard
    this.isNative = false; // the choice is the browser's own selection, which marks it
    this.tapped = null; // [start, end) of the word that a finger chose first
    this.kept = new Map(); // task id → a choice that was taken back or refused
    document.addEventListener("selectionchange", () => this.#onSelection());
    byId("text").addEventListener("click", (event) => this.#onClick(event));
    byId("span-cancel").addEventListener("click", () => this.cancel());
  }

  // Words were chosen that are not saved.
  get hasChoice() {
    return this.chosen !== null;
  }

  get canSave() {
    return this.chosen !== null || this.given !== null;
  }

  // The chosen words; "" for none.
  get words() {
    return this.chosen ? this.text.slice(...this.chosen) : "";
  }

  // What the server is to be told: of the chosen words, else of the machine's answer.
  get said() {
    const [start, end] = this.chosen ?? this.given;
    if (start === end) return { no_answer: true };
    return {
      answer: this.text.slice(start, end), start: charactersIn(this.text, start), end: charactersIn(this.text, end),
    };
  }

  show(task) {
    if (this.task && this.chosen) this.kept.set(this.task.id, this.chosen); // Undo brings another item before it is saved.
    this.task = task;
    this.text = task.item.text;
    const { machine } = task;
    this.given = machine ? this.#placeOf(machine) : null;
    this.places = (machine?.occurrences ?? []).map((place) => this.#placeOf(place));
    this.others = (task.marks ?? []).map(({ tone, who, ...place }) => ({ span: this.#placeOf(place), tone, who }));
    this.chosen = this.kept.get(task.id) ?? null;
    this.kept.delete(task.id);
    this.isMoving = false;
    this.isNative = false;
    this.tapped = null;
    this.#render();
    byId("span").hidden = false;
  }

  // Bring the answer into view. To be called once the page has the item's layout.
  find() {
    this.#reveal(this.chosen ?? this.given, { centers: true });
  }

  hide() {
    this.task = null;
    this.chosen = null;
    byId("span").hidden = true;
  }

  // Keep a choice that could not be saved, or was taken back: the item comes with it.
  keep(taskId, text, said) {
    if (!said.answer) return;
    const span = [placeIn(text, said.start), placeIn(text, said.end)];
    if (text.slice(...span) === said.answer) this.kept.set(taskId, span);
  }

  describe(task) {
    const { machine, item } = task;
    const answer = machine === null ? "" : machine.answer ? `The machine answers: ${machine.answer}.` : "The machine says that the text holds no answer.";
    return [`Item ${item.external_id}.`, item.question, answer].join(" ");
  }

  // --- Choosing ------------------------------------------------------------------------------------------------------

  // Begin to choose by keyboard: at the words chosen already, else at the machine's answer, else at the first word.
  begin() {
    if (!this.task || this.isMoving) return;
    const segments = this.#words();
    if (!segments.length) return this.announce("This text has no words.");
    this.before = this.chosen;
    this.tapped = null;
    const start = this.given && this.given[0] < this.given[1] ? this.given : (this.others[0]?.span ?? segments[0]);
    this.isMoving = true;
    byId("stage").focus({ preventScroll: true }); // On a button Enter would mean the button.
    this.#choose(this.chosen ?? start);
    this.announce("Arrows move the beginning by words, with Shift the end. Enter saves, Escape cancels.");
  }

  cancel() {
    if (!this.isMoving && this.chosen === null) return false;
    this.tapped = null;
    this.chosen = this.isMoving ? this.before : null;
    this.isMoving = false;
    if (this.isNative) getSelection().removeAllRanges();
    this.isNative = false;
    this.#render();
    this.onChange();
    byId("stage").focus({ preventScroll: true });
    this.announce(this.chosen ? `Cancelled. Chosen: ${this.words}.` : "Cancelled. Nothing is chosen.");
    return true;
  }

  // The next place where the machine's answer stands; after the last comes the first.
  nextPlace() {
    if (!this.task) return;
    if (this.places.length < 2) {
      return this.announce(this.places.length ? "The answer stands in the text once." : "There is no answer in the text to look for.");
    }
    const at = this.places.findIndex((place) => isSame(place, this.chosen ?? this.given));
    const next = (at + 1) % this.places.length;
    this.isMoving = false;
    this.#choose(this.places[next], `Place ${next + 1} of ${this.places.length}.`);
  }

  // Returns whether the key was one of choosing.
  onKey(event) {
    if (!this.task || event.ctrlKey || event.metaKey) return false;
    if (event.key === "Escape" && !event.altKey) return this.cancel();
    if (!this.isMoving) return false;
    const isRtl = getComputedStyle(byId("text")).direction === "rtl";
    const step = { ArrowRight: isRtl ? -1 : 1, ArrowLeft: isRtl ? 1 : -1 }[event.key];
    if (step) {
      const segments = event.altKey ? this.#letters() : this.#words();
      this.#move(event.shiftKey, (edge) => neighbor(segments, edge, event.shiftKey, step));
      return true;
    }
    if (event.altKey) return false;
    const jump = {
      ArrowDown: () => this.#onLine(event.shiftKey, 1),
      ArrowUp: () => this.#onLine(event.shiftKey, -1),
      Home: () => this.#words()[0],
      End: () => this.#words().at(-1),
    }[event.key];
    if (!jump) return false;
    const word = jump();
    if (word) this.#move(event.shiftKey, () => word);
    return true;
  }

  // Move the end or the beginning to that of the word or letter that `to(edge)` gives. The other one comes along where it
  // would be passed, so that something is always chosen.
  #move(isEnd, to) {
    const [start, end] = this.chosen;
    const target = to(isEnd ? end : start);
    if (!target) return;
    if (isEnd) this.#choose(target[1] > start ? [start, target[1]] : target);
    else this.#choose(target[0] < end ? [target[0], end] : target);
  }

  #choose(span, before = "") {
    if (this.isNative) getSelection().removeAllRanges();
    this.isNative = false;
    this.chosen = span[0] < span[1] && (this.isMoving || !isSame(span, this.given)) ? span : null;
    this.#render();
    this.onChange();
    this.#reveal(span);
    const words = this.text.slice(...span);
    this.announce(`${before} ${words.length <= 200 ? words : `${words.slice(0, 100)} … ${words.slice(-60)}`}`.trim());
  }

  // What is selected with the mouse or a finger is the choice, without the white space around it.
  #onSelection() {
    if (!this.task || byId("text").hidden) return;
    const selection = getSelection();
    const range = selection.rangeCount ? selection.getRangeAt(0) : null;
    if (!range || range.collapsed || !byId("text").contains(range.commonAncestorContainer)) {
      if (this.isNative && (!range || range.collapsed)) {
        this.isNative = false; // The browser shows it no more: a mark does from now on.
        this.#render();
      }
      return;
    }
    const span = trimmed(this.text, this.#offset(range.startContainer, range.startOffset), this.#offset(range.endContainer, range.endOffset));
    if (!span) return;
    this.isMoving = false;
    this.tapped = null;
    this.isNative = true;
    this.chosen = span;
    this.#showAnswer();
    this.onChange();
    clearTimeout(this.told);
    this.told = setTimeout(() => { if (this.isNative) this.announce(`Chosen: ${this.words}.`); }, 400);
  }

  // A click on another place of the answer takes it; a finger takes words.
  #onClick(event) {
    if (!this.task || !getSelection().isCollapsed) return;
    if (event.pointerType === "touch" && (this.chosen || this.tapped)) return this.#onTap(event);
    const mark = event.target instanceof Element ? event.target.closest("mark[data-place]") : null;
    const place = mark ? this.places[Number(mark.dataset.place)] : null;
    if (place && !isSame(place, this.given)) {
      this.isMoving = false;
      return this.#choose(place, `Place ${Number(mark.dataset.place) + 1} of ${this.places.length}.`);
    }
    if (event.pointerType === "touch") this.#onTap(event);
  }

  // A tap takes a word, the next one all words up to another; one on a word that is taken begins anew. What was chosen
  // in another way stays, since a tap beside the browser's own selection only closes its menu.
  #onTap({ clientX, clientY }) {
    if (this.chosen && !this.tapped) return;
    const word = this.#wordAt(clientX, clientY);
    if (!word) return;
    const [start, end] = this.chosen ?? this.tapped ?? word;
    const isInside = start <= word[0] && word[1] <= end;
    const span = isInside ? word : [Math.min(start, word[0]), Math.max(end, word[1])];
    this.isMoving = false;
    this.tapped = span;
    this.#choose(span);
  }

  // The word under a place of the window; null between words.
  #wordAt(x, y) {
    const caret = document.caretPositionFromPoint?.(x, y);
    const range = caret ? null : document.caretRangeFromPoint?.(x, y);
    const node = caret?.offsetNode ?? range?.startContainer;
    if (!node || !byId("text").contains(node)) return null;
    const at = this.#offset(node, caret?.offset ?? range.startOffset);
    const near = this.#words().filter(([start, end]) => start <= at && at <= end);
    return near.find((word) => this.#covers(word, x, y)) ?? null;
  }

  #covers([start, end], x, y) {
    const range = document.createRange();
    range.setStart(...this.#point(start, true));
    range.setEnd(...this.#point(end, false));
    return [...range.getClientRects()].some((box) => box.left <= x && x <= box.right && box.top <= y && y <= box.bottom);
  }

  // --- Places in the text --------------------------------------------------------------------------------------------

  #placeOf({ start, end }) {
    return [placeIn(this.text, start), placeIn(this.text, end)];
  }

  // Words, and signs that stand between them: whatever an answer may be made of.
  #words() {
    if (this.segmented !== this.text) {
      this.segmented = this.text;
      this.segments = [];
      for (const { segment, index } of new Intl.Segmenter(undefined, { granularity: "word" }).segment(this.text)) {
        if (segment.trim()) this.segments.push([index, index + segment.length]);
      }
    }
    return this.segments;
  }

  // The letters around what is chosen: those of the whole of a long text would take too long to find at every key.
  #letters() {
    const from = Math.max(0, this.chosen[0] - 64);
    const until = Math.min(this.text.length, this.chosen[1] + 64);
    return [...graphemes.segment(this.text.slice(from, until))]
      .filter(({ segment }) => segment.trim())
      .map(({ segment, index }) => [from + index, from + index + segment.length]);
  }

  // The word nearest to the same place on the line below or above.
  #onLine(isEnd, step) {
    const words = this.#words();
    const edge = isEnd ? this.chosen[1] : this.chosen[0];
    let at = words.findIndex(([start, end]) => (isEnd ? end >= edge : end > edge));
    if (at < 0) at = words.length - 1;
    const from = this.#box(words[at]);
    const middle = (from.left + from.right) / 2;
    let line = null;
    let best = null;
    let nearest = Infinity;
    for (let index = at + step; index >= 0 && index < words.length; index += step) {
      const box = this.#box(words[index]);
      if (step * (box.top - from.top) < from.height / 2) continue;
      line ??= box.top;
      if (Math.abs(box.top - line) > box.height / 2) break;
      const distance = Math.abs((box.left + box.right) / 2 - middle);
      if (distance < nearest) [best, nearest] = [words[index], distance];
    }
    return best ?? (step > 0 ? words.at(-1) : words[0]);
  }

  // How far into the text a place in the page is; marks hold nothing but their part of it.
  #offset(node, offset) {
    const range = document.createRange();
    range.setStart(byId("text"), 0);
    range.setEnd(node, offset);
    return range.toString().length;
  }

  #box([start, end]) {
    const range = document.createRange();
    range.setStart(...this.#point(start, true));
    range.setEnd(...this.#point(end, false));
    return range.getBoundingClientRect();
  }

  // The text node with this offset of the text, and the offset in it.
  #point(offset, isStart) {
    const walker = document.createTreeWalker(byId("text"), NodeFilter.SHOW_TEXT);
    let left = offset;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (left < node.data.length || (!isStart && left === node.data.length)) return [node, left];
      left -= node.data.length;
    }
    return [byId("text"), byId("text").childNodes.length];
  }

  #reveal(span, how = {}) {
    if (span && span[0] < span[1]) this.bringIntoView(this.#box(span), how);
  }

  // --- What is shown -------------------------------------------------------------------------------------------------

  // The text with its marks, cut wherever one begins or ends, for they may overlap.
  #render() {
    const spans = [
      ...this.places.map((span, place) => ({ span, place })),
      ...(this.given ? [{ span: this.given, tone: "machine" }] : []),
      ...this.others,
      ...(this.chosen && !this.isNative ? [{ span: this.chosen, tone: this.tone }] : []),
    ].filter(({ span }) => span[0] < span[1]);
    const cuts = [...new Set([0, this.text.length, ...spans.flatMap(({ span }) => span)])].sort((a, b) => a - b);
    const parts = cuts.slice(1).map((end, index) => {
      const over = spans.filter(({ span }) => span[0] <= cuts[index] && end <= span[1]);
      const words = this.text.slice(cuts[index], end);
      if (!over.length) return words;
      const mark = document.createElement("mark");
      mark.className = "span";
      mark.textContent = words;
      mark.dataset.tone = [...new Set(over.map(({ tone }) => tone).filter(Boolean))].join(" ") || "place";
      mark.title = [...new Set(over.map(({ who }) => who).filter(Boolean))].join(", ");
      const place = over.find((each) => each.place !== undefined)?.place;
      if (place !== undefined) mark.dataset.place = String(place);
      return mark;
    });
    byId("text").replaceChildren(...parts);
    byId("text").toggleAttribute("data-choosing", this.isMoving);
    this.#showAnswer();
  }

  #showAnswer() {
    const span = this.chosen ?? this.given;
    const isNone = span !== null && span[0] === span[1];
    byId("span").dataset.tone = this.chosen ? this.tone : "machine";
    byId("span-whose").textContent = this.chosen ? "Your answer" : this.given ? "The machine's answer" : "Your answer";
    byId("span-answer").textContent = span && !isNone ? this.text.slice(...span) : "";
    byId("span-answer").hidden = span === null || isNone;
    byId("span-none").hidden = !isNone;
    byId("span-missing").hidden = span !== null;
    byId("span-cancel").hidden = !this.chosen;
    const at = span ? this.places.findIndex((place) => isSame(place, span)) : -1;
    byId("span-places").textContent = this.places.length > 1 && at >= 0 ? `place ${at + 1} of ${this.places.length}` : "";
  }
}

const isSame = (one, other) => one !== null && other !== null && one[0] === other[0] && one[1] === other[1];

// The next or the last word or letter whose beginning (or end) lies behind or before this place.
function neighbor(segments, edge, isEnd, step) {
  const side = isEnd ? 1 : 0;
  return step > 0 ? segments.find((each) => each[side] > edge) : segments.findLast((each) => each[side] < edge);
}

// [start, end) without white space at its ends; null where nothing else is in it. Half a character becomes a whole one.
function trimmed(text, start, end) {
  const words = text.slice(start, end);
  const inner = words.trim();
  if (!inner) return null;
  let from = start + words.indexOf(inner);
  let until = from + inner.length;
  if (isInside(text, from)) from -= 1;
  if (isInside(text, until)) until += 1;
  return [from, until];
}

// Whether a place is between the two halves of a character.
const isInside = (text, place) => /^[\uD800-\uDBFF][\uDC00-\uDFFF]$/.test(text.slice(place - 1, place + 1));

// Characters before a place in a string.
export function charactersIn(text, place) {
  let count = 0;
  for (const _ of text.slice(0, place)) count += 1;
  return count;
}

// The place in a string that has so many characters before it.
export function placeIn(text, characters) {
  let place = 0;
  for (let count = 0; count < characters && place < text.length; count += 1) {
    place += text.codePointAt(place) > 0xFFFF ? 2 : 1;
  }
  return place;
}
