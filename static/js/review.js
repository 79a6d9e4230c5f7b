// The review screen: one item, its labels, and the next items ready behind it. This module joins the parts, each of which
// is a module of its own; the page says where they are, since the names of static files change with their content.

const RENEW_EVERY = 3 * 60 * 1000; // A lease lasts ten minutes.
const LOOK_AGAIN_EVERY = 20 * 1000;

const byId = (id) => document.getElementById(id);
const data = (id) => JSON.parse(byId(id).textContent);
const root = byId("review");
const addresses = data("modules-data");
const part = (name) => import(addresses[name]);
const number = new Intl.NumberFormat("en");

const [
  { Server }, { Outbox }, { Voice }, { Queue }, { ItemView, armOf }, { ImageViewer }, { TextReader }, { Labels }, { Keys },
  { Notes }, { Guidelines },
] = await Promise.all(
  ["server", "outbox", "voice", "queue", "item", "image", "text", "labels", "keys", "notes", "guidelines"].map(part),
);
const { WrittenAnswer } = addresses.written ? await part("written") : {};
const { SpanAnswer } = addresses.span ? await part("span") : {};

const voice = new Voice();
const { announce, notify, hint } = Object.fromEntries(
  ["announce", "notify", "hint"].map((name) => [name, (sentence) => voice[name](sentence)]),
);
const server = new Server({ csrf: root.dataset.csrf, rounds: root.dataset.apiRound, tasks: root.dataset.apiTasks });
const person = root.dataset.person;

let progress = data("progress-data");
const atFirst = progress; // Its `left` is what was left for this person then; replies do not count it anew.
let ready = false; // The item can be judged: its image, if it has one, is on the page.
let undoing = false;
const recent = new Map(); // task id → the task as it was shown, until its answer is saved: for an undo before that
const given = []; // what was answered here, last one last: for words on the undo button

// --- Parts -----------------------------------------------------------------------------------------------------------

const written = WrittenAnswer
  ? new WrittenAnswer({ save: (text) => answer("label", null, "", { answer: text }), onMode: () => showProgress(), announce, notify })
  : null;
const span = SpanAnswer
  ? new SpanAnswer({ onChange: () => showAccept(queue.shown), bringIntoView: (...box) => reader.bringIntoView(...box), announce })
  : null;

const answers = new Outbox({
  prefix: `overread-answer:${root.dataset.storage}:`,
  send: (entry) => {
    entry.asks = queue.missing;
    const body = entry.asks ? { ...entry.body, next: entry.asks } : entry.body;
    return server.post(server.taskUrl(entry.task.id, "submit"), body);
  },
  onSaved: (entry, reply) => {
    recent.delete(entry.task.id);
    progress = reply.data?.progress ?? { ...progress, mine: progress.mine + 1 }; // None while a large round is counted.
    if (reply.data?.tasks?.length) queue.take(reply.data.tasks);
    else if (entry.asks || !queue.shown) void queue.refill(); // It says why there is none.
    showProgress(); // What is left depends on what is held.
  },
  onChange: () => {
    showUnsaved();
    showProgress();
  },
  onRefused: (entry, reply) => {
    const refused = recent.get(entry.task.id);
    queue.answered.delete(entry.task.id);
    recent.delete(entry.task.id);
    forget(entry.task.id);
    if (entry.body.answer) written?.keepDraft(entry.task.id, entry.body.answer);
    if (refused) span?.keep(refused.id, refused.item.text, entry.body);
    notify(`Your answer to item ${entry.task.item.external_id} was not kept. ${reply.sentence}`);
    void queue.refill();
  },
});

// Notes wait by themselves: one that cannot be saved holds up no answer.
const noted = new Outbox({
  prefix: `overread-note:${root.dataset.storage}:`,
  send: (entry) => server.post(`${root.dataset.apiItems}${entry.task.id}/comments/`, entry.body),
  onSaved: () => undefined,
  onChange: () => showUnsaved(),
  onRefused: (entry, reply) => {
    notes.giveBack(entry);
    notify(`Your note to item ${entry.task.item.external_id} was not kept. ${reply.sentence} Its text is a draft again.`);
  },
});

const queue = new Queue({
  server,
  answers,
  channel: root.dataset.storage,
  isBegun: () => written?.hasDraft === true || span?.hasChoice === true,
  onProgress: (now) => {
    progress = now ?? progress;
    showProgress();
  },
  onKept: () => notify(`Too much time went by: others can get this item now. You can still save your ${span ? "answer" : "text"}; it counts unless somebody was faster.`),
  onLost: () => notify("Too much time went by, so the item that you looked at went to somebody else."),
  onShow: show,
  onEmpty: showEmpty,
  onTrouble: (sentence) => showLoading(`${sentence} Trying again …`),
  onStopped: (sentence) => showDone("You cannot go on for now", sentence),
});

const item = new ItemView({ isWritten: written !== null, span });
const viewer = new ImageViewer({
  announce,
  onReady: (task) => {
    if (queue.shown !== task) return;
    if (!ready) startClock();
    ready = true;
  },
});
const reader = new TextReader({ announce, storage: `overread-text-size:${person}` });
const guidelines = new Guidelines({ load: () => server.exchange(root.dataset.apiGuidelines), announce });
const labels = new Labels({
  labels: data("labels-data"),
  give: (label) => answer("label", label),
  announce,
  onLook: (label) => guidelines.look(label),
  storage: `overread-labels:${person}:${root.dataset.project}`,
});
const notes = new Notes({
  outbox: noted,
  load: (itemId) => server.exchange(`${root.dataset.apiItems}${itemId}/comments/`),
  announce,
  hint,
  storage: `overread-draft:${root.dataset.storage}:`,
});
const keys = new Keys({
  commands: data("commands-data"),
  chosen: data("keys-data"),
  taken: labels.digits,
  lettersSearch: written === null && !labels.isRoomy,
  storage: `overread-keys:${person}`,
  save: (changes) => server.exchange(root.dataset.apiKeys, { method: "PATCH", body: { keys: changes } }),
  announce,
});

// --- Answers ---------------------------------------------------------------------------------------------------------

// `said` is an answer in words: `{answer}`, of a span `{answer, start, end}`, or `{no_answer}`.
function answer(action, label = null, reason = "", said = null) {
  const task = queue.shown;
  if (!task || undoing) return;
  if (action === "label" && !label && !said) return; // Nobody answers with nothing.
  if (action === "label" && !ready) return hint("The image is not there yet.");
  const body = {
    action, label: label ? label.id : null, reason, version: task.version, seconds: secondsShown(), key: crypto.randomUUID(),
  };
  Object.assign(body, said);
  const words = label ? label.name : said === null ? "skipped" : wordsFor(said, task);
  given.push({ taskId: task.id, words });
  // Of the item only what a sentence needs: texts and reasonings do not belong in the browser's storage.
  const kept = { id: task.id, version: task.version, item: { external_id: task.item.external_id } };
  recent.set(task.id, task);
  if (label) labels.remember(label);
  announce(label ? `${label.name}.` : `${words[0].toUpperCase()}${words.slice(1)}.`);
  answers.add({ task: kept, body, at: Date.now() });
  queue.answer(task);
}

// What was done, for the button that takes it back.
function wordsFor(said, task) {
  const isNone = said.no_answer === true;
  if (span) return isNone === (task.machine?.answer === "") && !span.hasChoice && task.machine ? "accepted" : isNone ? "no answer" : "chosen";
  return said.answer === task.machine?.answer ? "accepted" : "edited";
}

function acceptSpan() {
  if (span.canSave) answer("label", null, "", span.said);
  else hint("There is no answer to accept. Choose the words in the text, or say that it holds none.");
}

function accept() {
  const task = queue.shown;
  if (!task) return;
  if (span) return acceptSpan();
  if (!task.machine) {
    return hint(armOf(task) === "blind"
      ? "Nothing is accepted: you see this item without the machine's label. Choose one yourself."
      : "The machine gave no label to accept. Choose one yourself.");
  }
  if (written) return answer("label", null, "", { answer: task.machine.answer });
  const label = labels.byId.get(task.machine.label_id);
  if (label) answer("label", label);
}

async function undo() {
  if (undoing) return;
  undoing = true;
  root.setAttribute("aria-busy", "true");
  try {
    const unsent = answers.takeBack();
    if (unsent && recent.has(unsent.task.id)) return takeBack(recent.get(unsent.task.id), unsent.body);
    if (!(await answers.flush())) return notify("Undo needs the server: wait until your answers are saved.");
    const reply = await server.post(server.roundUrl("undo"), {});
    if (reply.status !== 200) return notify(reply.sentence);
    progress = reply.data.progress ?? progress;
    takeBack(reply.data.task, reply.data);
  } catch {
    notify("The server cannot be reached, so nothing was undone.");
  } finally {
    undoing = false;
    root.removeAttribute("aria-busy");
    showProgress();
  }
}

function takeBack(task, said) {
  if (said.answer && said.answer !== task.machine?.answer) written?.keepDraft(task.id, said.answer);
  span?.keep(task.id, task.item.text, said);
  forget(task.id);
  announce("Undone.");
  queue.putFirst(task);
}

function forget(taskId) {
  const at = given.findLastIndex((each) => each.taskId === taskId);
  if (at >= 0) given.splice(at, 1);
}

async function handBack() {
  byId("menu").open = false;
  if (undoing) return;
  try {
    if (!(await answers.flush())) return notify("Your answers are not saved yet. Hand your items back when they are.");
    const reply = await queue.handBack();
    if (reply.status !== 200) return notify(reply.sentence);
    showDone("Your items are handed back", "Others can get them now. You can leave, or take the next ones.");
  } catch {
    notify("The server cannot be reached. Your items go back to the others by themselves ten minutes after you leave.");
  }
}

// --- The item --------------------------------------------------------------------------------------------------------

let shownSince = 0;
let shownBefore = 0; // visible time of the item before the page was last hidden

function secondsShown() {
  const running = document.hidden ? 0 : performance.now() - shownSince;
  return Math.round((shownBefore + running) / 10) / 100;
}

function startClock() {
  shownSince = performance.now();
  shownBefore = 0;
}

function show(task, image) {
  reader.keepPlace();
  setState("item");
  root.dataset.task = String(task.id);
  ready = false;
  startClock();
  item.show(task);
  labels.show(task);
  written?.show(task);
  span?.show(task);
  showAccept(task);
  reader.show(task);
  viewer.show(task, image);
  notes.show(task);
  guidelines.show(task);
  voice.endHint();
  if (!notes.isOpen) byId("stage").focus({ preventScroll: true });
  if (document.scrollingElement.scrollTop > 0) scrollTo(0, 0); // On a narrow window the page itself scrolls.
  span?.find();
  announce(item.describe(task));
}

function showAccept(task) {
  if (!byId("accept-button") || !task) return;
  if (span) return showAcceptSpan();
  byId("accept-button").disabled = !task.machine;
  if (written) byId("accept-text").textContent = task.machine ? "Accept" : "No answer";
  else if (task.machine) byId("accept-text").textContent = `Accept ${task.machine.label}`;
  else byId("accept-text").textContent = armOf(task) === "blind" ? "Choose a label" : "No label to accept";
}

function showAcceptSpan() {
  byId("accept-button").disabled = !span.canSave;
  byId("accept-text").textContent = span.hasChoice ? "Save" : span.canSave ? "Accept" : "Choose the answer";
}

// --- What is said about the state ------------------------------------------------------------------------------------

function setState(state) {
  root.dataset.state = state;
  byId("loading").hidden = state !== "loading";
  byId("done").hidden = state !== "done";
  if (state === "item") return;
  reader.keepPlace();
  reader.hide();
  viewer.hide();
  item.hide();
  written?.hide();
  span?.hide();
}

function showLoading(sentence) {
  byId("loading").textContent = sentence;
  setState("loading");
}

function showEmpty({ isFresh, isClosed }) {
  if (isFresh && !answers.count) return showEnd(isClosed);
  showLoading(answers.count ? "Waiting until your answers are saved …" : "Loading …");
  if (isFresh) queue.later(2000);
}

function showEnd(isClosed) {
  const left = progress.waiting + progress.leased;
  if (left === 0) {
    return showDone("Nothing left to review", `All ${number.format(progress.selected)} items of this round are done.`, false);
  }
  if (isClosed) {
    showDone("This round is closed", "No more items are handed out. A manager of the project can reopen it.");
  } else {
    showDone("Nothing left for you", `The last ${number.format(left)} are with others, or wait for a decision between different answers. What is given back comes to you.`);
  }
  queue.later(LOOK_AGAIN_EVERY);
}

function showDone(title, text, canGoOn = true) {
  setState("done");
  byId("done-title").textContent = title;
  byId("done-text").textContent = text;
  byId("look-again").hidden = !canGoOn;
  byId("done-title").focus();
  announce(`${title}. ${text}`);
}

// What this person did, of that and what is left for them: every answer of theirs moves it, also one to an item that
// others answer too, or that only measures them.
function showProgress() {
  const done = progress.mine + answers.count;
  const left = leftForMe();
  byId("progress-bar").max = Math.max(1, done + left);
  byId("progress-bar").value = done;
  byId("progress-text").textContent = `${number.format(done)} of ${number.format(done + left)}`;
  byId("progress-left").textContent = `${number.format(left)} left for you`;
  const parts = [`${number.format(progress.answered)} answered`];
  if (progress.skipped) parts.push(`${number.format(progress.skipped)} skipped`);
  if (byId("machine")) parts.push(`${number.format(progress.corrected)} corrected`);
  byId("progress-text").title = parts.join(", ");
  const last = given.at(-1);
  byId("undo-button").disabled = undoing || (!last && !progress.mine && !answers.count);
  byId("undo-button").title = last ? `Undo ${last.words}` : "";
  byId("undo-words").textContent = last ? ` ${last.words}` : "";
}

// As many as there were, less those answered since; no more than wait, where each item is answered once.
function leftForMe() {
  const left = atFirst.left - (progress.mine + answers.count - atFirst.mine);
  const waiting = root.dataset.overlap === "1" ? progress.waiting + queue.items.length : Infinity;
  return Math.max(queue.items.length, Math.min(left, waiting));
}

function showUnsaved() {
  voice.unsaved(answers, noted);
}

// --- Keys and buttons ------------------------------------------------------------------------------------------------

function openSkip() {
  if (!queue.shown || undoing) return;
  byId("skip-reason").value = "";
  byId("skip-dialog").showModal();
}

byId("skip-form").addEventListener("submit", (event) => {
  const value = event.submitter?.value ?? "";
  answer("skip", null, value === "typed" ? byId("skip-reason").value.trim() : value);
});

// Focus would go back to the skip button, where Enter means something else than it does on the item.
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("close", () => byId("stage").focus({ preventScroll: true }));
}

byId("skip-dialog").addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLInputElement) {
    if (event.key !== "Enter") return;
    event.preventDefault();
    byId("skip-typed").click();
  } else if (/^[1-4]$/.test(event.key)) {
    event.preventDefault();
    byId("skip-reasons").children[Number(event.key)].click();
  }
});

const commands = {
  search: () => labels.open(""),
  edit: () => written?.edit(),
  span: () => span?.begin(),
  place: () => span?.nextPlace(),
  no_answer: () => answer("label", null, "", { no_answer: true }),
  fact_next: () => written?.jump(1),
  fact_previous: () => written?.jump(-1),
  skip: openSkip,
  undo: () => void undo(),
  note: () => notes.open(reader.marked || span?.words),
  words: () => reader.mark(),
  text_larger: () => reader.resize(1),
  text_smaller: () => reader.resize(-1),
  zoom: () => viewer.toggle(),
  zoom_in: () => viewer.zoomBy(1),
  zoom_out: () => viewer.zoomBy(-1),
  fit: () => viewer.fitAll(),
  actual_size: () => viewer.actualSize(),
  rotate_right: () => viewer.turn(1),
  rotate_left: () => viewer.turn(-1),
  contrast: () => viewer.openLight(),
  invert: () => viewer.invert(),
  guidelines: () => guidelines.toggle(),
  help: () => byId("help-dialog").showModal(),
};
// What a held key may do again and again.
const REPEATED = new Set(["text_larger", "text_smaller", "zoom_in", "zoom_out"]);

function digitOf(event) {
  if (/^[0-9]$/.test(event.key)) return event.key;
  // On some keyboards the digits of the upper row need Shift: there the place of the key counts.
  const place = !event.shiftKey && /^Digit([0-9])$/.exec(event.code);
  return place ? place[1] : "";
}

// What to do at a key; null where it is none of the screen's.
function meaningOf(event, target) {
  const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (span?.onKey(event) || reader.onKey(event)) return () => undefined;
  if (isPlain && event.key.startsWith("Arrow")) return viewer.move(event.key) ? () => undefined : null;
  const command = keys.commandOf(event);
  if (event.repeat && !REPEATED.has(command)) return null;
  if (isPlain && event.key === "Escape") return leavePanels;
  // Buttons and links have a meaning of their own for Enter.
  if (isPlain && event.key === "Enter") return target.closest("button, a, summary") ? null : accept;
  const digit = isPlain ? digitOf(event) : "";
  if (labels.byKey.has(digit)) return () => answer("label", labels.byKey.get(digit));
  if (command) return commands[command];
  if (isPlain && keys.lettersSearch && /^\p{L}$/u.test(event.key)) return () => labels.open(event.key);
  return null;
}

function leavePanels() {
  voice.endHint();
  guidelines.close();
  viewer.closeLight();
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.closest("input, textarea, select")) return;
  const act = meaningOf(event, target);
  if (!act) return;
  event.preventDefault();
  act();
});

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("button[data-command]") : null;
  if (button) commands[button.dataset.command]?.();
});
byId("accept-button")?.addEventListener("click", accept);
byId("hand-back").addEventListener("click", () => void handBack());
byId("look-again").addEventListener("click", () => void queue.wake());
byId("unsaved-button").addEventListener("click", () => void Promise.all([answers.flush(), noted.flush()]));

// --- The page comes and goes -----------------------------------------------------------------------------------------

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    shownBefore += performance.now() - shownSince;
  } else {
    shownSince = performance.now();
    void queue.refill();
  }
});
addEventListener("online", () => void Promise.all([answers.flush(), noted.flush()]).then(() => queue.refill()));
setInterval(() => { if (queue.shown) void queue.refill(); }, RENEW_EVERY);

addEventListener("beforeunload", (event) => {
  if ((answers.count && answers.trouble) || (noted.count && noted.trouble) || written?.hasDraft) event.preventDefault();
});

// Answers and notes still on their way are sent along; what is held goes back to the others.
addEventListener("pagehide", () => {
  for (const entry of answers.waiting) server.sendOff(server.taskUrl(entry.task.id, "submit"), entry.body);
  for (const entry of noted.waiting) server.sendOff(`${root.dataset.apiItems}${entry.task.id}/comments/`, entry.body);
  queue.leave();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) void queue.refill();
});

showProgress();
showUnsaved();
queue.tellTabs(true);
await answers.flush();
void noted.flush();
await queue.refill();
// A page that is loaded anew gives its items back while it leaves: that may reach the server after the first claim.
setTimeout(() => void queue.refill(), 4000);
