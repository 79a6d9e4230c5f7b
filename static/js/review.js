// The review screen: one item, its labels, and the next items ready behind it. Whatever the server says is put on the
// page as text, never as markup.

const WANTED = 4; // Items held: the one on the page and the next ones.
const MOST_HELD = 10; // More are never handed out at once.
const RENEW_EVERY = 3 * 60 * 1000; // A lease lasts ten minutes.
const LOOK_AGAIN_EVERY = 20 * 1000;
const PATIENCE = 20 * 1000;

const root = document.getElementById("review");
const byId = (id) => document.getElementById(id);
const labels = JSON.parse(byId("labels-data").textContent);
const { Answers } = await import(root.dataset.answers);

const number = new Intl.NumberFormat("en");
// Labels have the digits 1 to 9 in their order. Where all are digits themselves, each has its own: 4 gives “4”.
const areDigits = labels.every((label) => /^[0-9]$/.test(label.name));
const keyOf = (label, index) => (areDigits ? label.name : index < 9 ? String(index + 1) : "");
const byKey = new Map(labels.map((label, index) => [keyOf(label, index), label]).filter(([key]) => key));
const isRoomy = byKey.size === labels.length; // Every label has a key.

const written = root.dataset.written
  ? new (await import(root.dataset.written)).WrittenAnswer({
    save: (text) => answer("label", null, "", text),
    onMode: () => showProgress(),
    announce,
    notify,
  })
  : null;

let progress = JSON.parse(byId("progress-data").textContent);
let queue = []; // The first one is on the page.
let shown = null;
let ready = false; // The item can be judged: its image, if it has one, is on the page.
let undoing = false;
let isClosed = root.dataset.closed === "true";
let lookAgain = null;
const pictures = new Map(); // task id → its image, loaded ahead
const answered = new Map(); // task id → the version that was answered here
const recent = new Map(); // task id → the task as it was shown, until its answer is saved: for an undo before that
const given = []; // what was answered here, last one last: for words on the undo button

// --- The server ------------------------------------------------------------------------------------------------------

function csrfToken() {
  // The cookie's is newer than the page's after signing in again in another tab.
  const cookie = document.cookie.split("; ").find((each) => each.startsWith("csrftoken="));
  return cookie ? cookie.slice("csrftoken=".length) : root.dataset.csrf;
}

function request(url, body, options = {}) {
  return fetch(url, {
    method: "POST",
    credentials: "same-origin",
    headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": csrfToken() },
    body: JSON.stringify(body),
    ...options,
  });
}

const roundUrl = (action) => `${root.dataset.apiRound}${action}/`;
const taskUrl = (taskId, action) => `${root.dataset.apiTasks}${taskId}/${action}/`;

// One request after the other: what is handed out then never overtakes what was answered.
let lane = Promise.resolve();

function post(url, body) {
  const reply = lane.then(() => exchange(url, body));
  lane = reply.catch(() => undefined);
  return reply;
}

async function exchange(url, body) {
  const response = await request(url, body, { signal: AbortSignal.timeout(PATIENCE) });
  let data = null;
  try {
    data = await response.json();
  } catch {
    // A proxy's error page, say: the status is all there is to know.
  }
  return { status: response.status, data, sentence: response.ok ? "" : sentenceOf(response.status, data) };
}

function sentenceOf(status, data) {
  if (status === 401) return "You are signed out. Sign in again in another tab.";
  if (data && typeof data.detail === "string") return data.detail;
  return `The server answered with an error (${status}).`;
}

// --- Answers ---------------------------------------------------------------------------------------------------------

const answers = new Answers({
  prefix: root.dataset.storage,
  send: (answer) => post(taskUrl(answer.task.id, "submit"), answer.body),
  onSaved: (answer, reply) => {
    recent.delete(answer.task.id);
    progress = reply.data?.progress ?? progress;
    showProgress();
  },
  onChange: () => {
    showUnsaved();
    showProgress();
  },
  onRefused: (answer, reply) => {
    answered.delete(answer.task.id);
    recent.delete(answer.task.id);
    forget(answer.task.id);
    if (answer.body.answer) written?.keepDraft(answer.task.id, answer.body.answer);
    notify(`Your answer to item ${answer.task.item.external_id} was not kept. ${reply.sentence}`);
    void refill();
  },
});

// `text` is a written answer, where the project's answers are written.
function answer(action, label = null, reason = "", text = null) {
  if (!shown || undoing) return;
  if (action === "label" && !ready) return announce("The image is not there yet.");
  const task = shown;
  const body = {
    action, label: label ? label.id : null, reason, version: task.version, seconds: secondsShown(), key: crypto.randomUUID(),
  };
  if (text !== null) body.answer = text;
  const words = label ? label.name : text === null ? "skipped" : text === task.machine?.answer ? "accepted" : "edited";
  queue = queue.filter((each) => each.id !== task.id);
  answered.set(task.id, task.version);
  given.push({ taskId: task.id, words });
  shown = null;
  // Of the item only what a sentence needs: texts and reasonings do not belong in the browser's storage.
  const kept = { id: task.id, version: task.version, item: { external_id: task.item.external_id } };
  recent.set(task.id, task);
  answers.add({ task: kept, body, at: Date.now() });
  announce(label ? `${label.name}.` : `${words[0].toUpperCase()}${words.slice(1)}.`);
  showNext();
  if (queue.length < WANTED - 1) void refill();
}

function accept() {
  if (!shown?.machine) return;
  if (written) return answer("label", null, "", shown.machine.answer);
  const label = labels.find((each) => each.id === shown.machine.label_id);
  if (label) answer("label", label);
}

async function undo() {
  if (undoing) return;
  undoing = true;
  root.setAttribute("aria-busy", "true");
  try {
    const unsent = answers.takeBack();
    if (unsent && recent.has(unsent.task.id)) return takeBack(recent.get(unsent.task.id), unsent.body.answer);
    if (!(await answers.flush())) return notify("Undo needs the server: wait until your answers are saved.");
    const reply = await post(roundUrl("undo"), {});
    if (reply.status !== 200) return notify(reply.sentence);
    progress = reply.data.progress ?? progress;
    takeBack(reply.data.task, reply.data.answer);
  } catch {
    notify("The server cannot be reached, so nothing was undone.");
  } finally {
    undoing = false;
    root.removeAttribute("aria-busy");
    showProgress();
  }
}

function takeBack(task, text = "") {
  if (text && text !== task.machine?.answer) written?.keepDraft(task.id, text);
  answered.delete(task.id);
  forget(task.id);
  queue = [task, ...queue.filter((each) => each.id !== task.id)];
  tellTabs();
  announce("Undone.");
  show(task);
}

function forget(taskId) {
  const at = given.findLastIndex((each) => each.taskId === taskId);
  if (at >= 0) given.splice(at, 1);
}

// --- The queue -------------------------------------------------------------------------------------------------------

let refilling = null;
let isWanted = false; // Asked for while an earlier request was under way, which may not know what happened since.

function refill() {
  isWanted = true;
  refilling ??= claimWhileWanted().finally(() => { refilling = null; });
  return refilling;
}

async function claimWhileWanted() {
  while (isWanted) {
    isWanted = false;
    await claim();
  }
}

// Ask for the items that this person holds, and more if there is room. What the server says replaces the queue.
async function claim() {
  clearTimeout(lookAgain);
  let reply;
  try {
    reply = await post(roundUrl("next"), { count: Math.min(MOST_HELD, answers.count + Math.max(WANTED, queue.length)) });
  } catch {
    reply = { status: 0, sentence: "The server cannot be reached." };
  }
  if (reply.status !== 200) return cannotClaim(reply);
  progress = reply.data.progress ?? progress;
  const fresh = reply.data.tasks.filter(isOpen);
  const current = shown && fresh.find((task) => task.id === shown.id && task.version === shown.version);
  const isKept = !current && written?.hasDraft === true; // Nobody's words are taken away under the fingers.
  const isLost = shown !== null && !current && !isKept;
  queue = isKept ? [shown, ...fresh.filter((task) => task.id !== shown.id)] : current ? [shown, ...fresh.filter((task) => task.id !== shown.id)] : fresh;
  queue.forEach(preload);
  tellTabs();
  showProgress();
  if (isKept) notify("Too much time went by: others can get this item now. You can still save your text; it counts unless somebody was faster.");
  if (fresh.length) isClosed = false;
  else if (isLost) isClosed = true; // An open round would have handed out the same items again.
  if (isLost) {
    shown = null;
    if (fresh.length) notify("Too much time went by, so the item that you looked at went to somebody else.");
  }
  if (!shown) showNext(!isWanted);
}

// Neither answered here and on its way, nor handed out before the server had the answer.
function isOpen(task) {
  return !answers.has(task.id) && !(answered.has(task.id) && answered.get(task.id) >= task.version);
}

function cannotClaim(reply) {
  if (shown) return; // There is something to do; it is tried again with the next answer.
  byId("loading").textContent = `${reply.sentence} Trying again …`;
  setState("loading");
  lookAgain = setTimeout(() => void refill(), 5000);
}

function showNext(isFresh = false) {
  if (queue.length) return show(queue[0]);
  shown = null;
  if (isFresh && !answers.count) return showDone();
  byId("loading").textContent = answers.count ? "Waiting until your answers are saved …" : "Loading …";
  setState("loading");
  if (isFresh) lookAgain = setTimeout(() => void refill(), 2000);
}

// --- Other tabs of this person ---------------------------------------------------------------------------------------

// They are handed the same items. Each says which it holds, so that one that is closed does not give away another's.
const tab = crypto.randomUUID();
const elsewhere = new Map(); // tab → ids of the tasks that it holds
const tabs = "BroadcastChannel" in window ? new BroadcastChannel(root.dataset.storage) : null;

function tellTabs(asks = false) {
  tabs?.postMessage({ tab, held: queue.map((task) => task.id), asks });
}

tabs?.addEventListener("message", ({ data }) => {
  elsewhere.set(data.tab, data.held);
  if (data.asks) tellTabs();
});

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

function preload(task) {
  if (!task.item.image_url || pictures.has(task.id)) return;
  const image = new Image();
  image.src = task.item.image_url;
  pictures.set(task.id, image);
}

function show(task) {
  shown = task;
  setState("item");
  unzoom();
  showImage(task);
  showWords(task);
  showMachine(task);
  showLabels(task);
  written?.show(task);
  closeFilter();
  for (const panel of document.querySelectorAll(".review-stage, .review-said")) panel.scrollTop = 0;
  startClock();
  byId("stage").focus({ preventScroll: true });
  for (const id of pictures.keys()) if (!queue.some((each) => each.id === id)) pictures.delete(id);
  announce(describe(task));
}

function describe(task) {
  if (written) return describeAnswer(task);
  const machine = task.machine ? `The machine says ${task.machine.label}.` : "";
  const doubt = task.criticism?.error_prob != null ? `Error probability ${task.criticism.error_prob.toFixed(3)}.` : "";
  return [`Item ${task.item.external_id}.`, machine, doubt].join(" ");
}

function describeAnswer(task) {
  const facts = task.criticism?.facts ?? [];
  const flagged = facts.filter((fact) => fact.error_prob >= 0.25).length;
  const quality = task.criticism?.quality;
  return [
    `Item ${task.item.external_id}.`,
    facts.length ? `${flagged} of ${facts.length} facts in doubt.` : "",
    quality == null ? "" : `Quality ${quality.toFixed(3)}.`,
  ].join(" ");
}

function showImage(task) {
  const frame = byId("frame");
  frame.querySelector("img")?.remove();
  frame.hidden = !task.item.image_url;
  frame.dataset.state = "loading";
  ready = frame.hidden;
  if (frame.hidden) return;
  preload(task);
  const image = pictures.get(task.id);
  image.alt = `Item ${task.item.external_id}`;
  image.className = "review-image";
  image.draggable = false;
  const settle = (state) => {
    if (shown !== task) return;
    frame.dataset.state = state;
    if (!ready) startClock();
    ready = true; // A broken image can still be judged to be none.
    if (state === "broken") announce("The image cannot be shown.");
  };
  image.classList.toggle("review-image-small", isSmall(task));
  frame.prepend(image);
  if (image.complete) settle(image.naturalWidth ? "there" : "broken");
  else {
    image.addEventListener("load", () => settle("there"), { once: true });
    image.addEventListener("error", () => settle("broken"), { once: true });
  }
}

// Small images are enlarged dot by dot: smoothing would blur what there is to see.
function isSmall(task) {
  return Math.max(task.item.image_width ?? 0, task.item.image_height ?? 0) <= 160;
}

function showWords(task) {
  const { question, text, columns } = task.item;
  byId("question").textContent = question;
  byId("question").hidden = !question;
  byId("text").textContent = text;
  byId("text").hidden = !text;
  byId("text").dataset.length = text.length > 600 ? "long" : "short";
  const names = Object.keys(columns ?? {});
  byId("columns").hidden = !names.length;
  byId("columns-list").replaceChildren(...names.flatMap((name) => [
    element("dt", name), element("dd", columns[name] === null ? "" : String(columns[name])),
  ]));
  byId("words").hidden = !question && !text;
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function showMachine(task) {
  if (!byId("machine")) return; // A blind round's page has no place for it.
  const { machine, criticism, failure } = task;
  byId("machine").hidden = !machine || (written !== null && criticism == null);
  byId("machine-voice").hidden = !machine;
  if (machine) {
    write("machine-label", machine.label);
    byId("machine-who").textContent = machine.who;
    write("machine-confidence", machine.confidence == null ? "" : `Its confidence is ${machine.confidence.toFixed(2)}.`);
    write("machine-reasoning", machine.reasoning);
  }
  const doubt = criticism?.error_prob ?? criticism?.quality;
  byId("doubt-line").hidden = doubt == null;
  if (doubt != null) {
    byId("doubt").setAttribute("width", String(100 * doubt));
    byId("doubt-number").textContent = doubt.toFixed(3);
  }
  byId("criticism").hidden = !criticism;
  if (criticism) {
    byId("criticism-who").textContent = criticism.who;
    write("criticism-reasoning", criticism.reasoning);
  }
  byId("failure").hidden = !failure;
  if (failure) byId("failure-text").textContent = `The machine gave no ${written ? "answer" : "label"}. ${failure.message}`;
}

function write(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

// --- Labels ----------------------------------------------------------------------------------------------------------

const buttons = labels.map((label, index) => {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "review-label";
  if (keyOf(label, index)) {
    const key = element("kbd", keyOf(label, index));
    key.setAttribute("aria-hidden", "true");
    button.append(key);
    button.setAttribute("aria-keyshortcuts", keyOf(label, index));
  }
  const name = element("span", label.name);
  name.dir = "auto";
  button.append(name);
  if (label.description) button.title = label.description;
  button.addEventListener("click", () => answer("label", label));
  return button;
});
byId("labels").replaceChildren(...buttons);
byId("labels").dataset.many = String(labels.length > 12);

function showLabels(task) {
  labels.forEach((label, index) => {
    const isMachine = task.machine?.label_id === label.id;
    buttons[index].toggleAttribute("data-machine", isMachine);
    buttons[index].setAttribute("aria-label", isMachine ? `${label.name}, the machine's label` : label.name);
  });
  const acceptButton = byId("accept-button");
  if (!acceptButton) return;
  acceptButton.disabled = !task.machine;
  if (written) byId("accept-text").textContent = task.machine ? "Accept" : "No answer";
  else byId("accept-text").textContent = task.machine ? `Accept ${task.machine.label}` : "No label to accept";
}

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLocaleLowerCase();
const plainNames = labels.map((label) => plain(label.name));
let picked = -1; // index of the label that Enter would give

function openFilter(typed) {
  byId("filter").hidden = false;
  const input = byId("filter-input");
  input.value = typed;
  input.focus();
  filter();
}

function closeFilter() {
  byId("filter-input").value = "";
  byId("filter").hidden = isRoomy;
  filter();
}

function filter() {
  const typed = plain(byId("filter-input").value.trim());
  const matches = [];
  plainNames.forEach((name, index) => {
    const isMatch = name.includes(typed);
    buttons[index].hidden = !isMatch;
    if (isMatch) matches.push(index);
  });
  matches.sort((a, b) => Number(plainNames[b].startsWith(typed)) - Number(plainNames[a].startsWith(typed)));
  pick(typed && matches.length ? matches[0] : -1);
  if (!typed) return;
  announce(matches.length ? `${matches.length} labels match. Enter gives ${labels[matches[0]].name}.` : "No label matches.");
}

function pick(index) {
  picked = index;
  buttons.forEach((button, at) => button.toggleAttribute("data-picked", at === picked));
  buttons[picked]?.scrollIntoView({ block: "nearest" });
}

function movePick(step) {
  const visible = labels.map((_, index) => index).filter((index) => !buttons[index].hidden);
  if (!visible.length) return;
  const at = visible.indexOf(picked);
  pick(visible[(at + step + visible.length) % visible.length]);
  announce(labels[picked].name);
}

byId("filter-input").addEventListener("input", filter);
byId("filter-input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    if (picked >= 0 && !event.repeat) answer("label", labels[picked]);
  } else if (event.key === "Escape") {
    closeFilter();
    byId("stage").focus({ preventScroll: true });
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    movePick(event.key === "ArrowDown" ? 1 : -1);
  }
});

// --- Zoom ------------------------------------------------------------------------------------------------------------

function unzoom() {
  const image = byId("frame").querySelector("img");
  byId("frame").removeAttribute("data-zoomed");
  byId("zoom-button").setAttribute("aria-pressed", "false");
  if (image) image.style.width = image.style.height = "";
}

// Zoomed, an image has at least its own size and twice that of its frame; the place that was clicked stays in view.
function zoom(x = 0.5, y = 0.5) {
  const frame = byId("frame");
  const image = frame.querySelector("img");
  if (!image || frame.dataset.state !== "there") return;
  if ("zoomed" in frame.dataset) return unzoom();
  const fit = Math.min(frame.clientWidth / image.naturalWidth, frame.clientHeight / image.naturalHeight);
  const scale = Math.max(1, fit * 2.5);
  frame.dataset.zoomed = "";
  byId("zoom-button").setAttribute("aria-pressed", "true");
  image.style.width = `${image.naturalWidth * scale}px`;
  image.style.height = `${image.naturalHeight * scale}px`;
  frame.scrollLeft = x * image.clientWidth - frame.clientWidth / 2;
  frame.scrollTop = y * image.clientHeight - frame.clientHeight / 2;
}

byId("frame").addEventListener("click", (event) => {
  if (!(event.target instanceof HTMLImageElement)) return;
  const image = event.target;
  const fit = Math.min(image.clientWidth / image.naturalWidth, image.clientHeight / image.naturalHeight);
  const box = image.getBoundingClientRect();
  const part = (at, middle, size) => Math.min(1, Math.max(0, 0.5 + (at - middle) / size));
  zoom(
    part(event.clientX, box.left + box.width / 2, image.naturalWidth * fit),
    part(event.clientY, box.top + box.height / 2, image.naturalHeight * fit),
  );
});

// --- What is said about the state ------------------------------------------------------------------------------------

function setState(state) {
  root.dataset.state = state;
  byId("loading").hidden = state !== "loading";
  byId("done").hidden = state !== "done";
  if (state !== "item") {
    written?.hide();
    for (const id of ["frame", "words", "columns"]) byId(id).hidden = true;
  }
}

function showDone() {
  setState("done");
  const left = progress.waiting + progress.leased;
  const [title, text] = left === 0
    ? ["Nothing left to review", `All ${number.format(progress.selected)} items of this round are done.`]
    : isClosed || progress.waiting
      ? ["This round is closed", "No more items are handed out. An owner of the project can reopen it."]
      : ["Nothing left for you", `Others are looking at the last ${number.format(left)}. What they give back comes to you.`];
  byId("done-title").textContent = title;
  byId("done-text").textContent = text;
  byId("look-again").hidden = left === 0;
  byId("done-title").focus();
  announce(title);
  if (left) lookAgain = setTimeout(() => void refill(), LOOK_AGAIN_EVERY);
}

function showProgress() {
  const done = Math.min(progress.selected, progress.answered + progress.skipped + answers.count);
  byId("progress-bar").max = Math.max(1, progress.selected);
  byId("progress-bar").value = done;
  byId("progress-text").textContent = `${number.format(done)} of ${number.format(progress.selected)}`;
  const parts = [`${number.format(progress.answered)} answered`];
  if (progress.skipped) parts.push(`${number.format(progress.skipped)} skipped`);
  if (byId("machine")) parts.push(`${number.format(progress.corrected)} corrected`);
  byId("progress-text").title = parts.join(", ");
  const last = given.at(-1);
  byId("undo-button").disabled = undoing || (!last && !progress.mine && !answers.count);
  byId("undo-button").querySelector("span").textContent = last ? `Undo ${last.words}` : "Undo";
}

function showUnsaved() {
  const isTrouble = Boolean(answers.count && answers.trouble);
  byId("unsaved").hidden = !isTrouble;
  if (!isTrouble) return;
  const [what, kept] = answers.count === 1
    ? ["1 answer is", "It is"]
    : [`${number.format(answers.count)} answers are`, "They are"];
  byId("unsaved-text").textContent = `${what} not saved yet. ${answers.trouble} ${kept} kept in this browser and sent again.`;
}

function notify(sentence) {
  byId("notice-text").textContent = sentence;
  byId("notice").hidden = false;
}

let announced = "";

// Sentences of one moment are read together: a live region that changes twice in a row speaks only the last time.
function announce(sentence) {
  if (!announced) setTimeout(() => { byId("announcer").textContent = announced; announced = ""; }, 50);
  announced = `${announced} ${sentence}`.trim();
}

// --- Keys and buttons ------------------------------------------------------------------------------------------------

function openSkip() {
  if (!shown || undoing) return;
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

function digitOf(event) {
  if (/^[0-9]$/.test(event.key)) return event.key;
  // On some keyboards the digits of the upper row need Shift: there the place of the key counts.
  const place = !event.shiftKey && /^Digit([0-9])$/.exec(event.code);
  return place ? place[1] : "";
}

const commands = {
  s: openSkip,
  u: () => void undo(),
  z: () => zoom(),
  "?": () => byId("help-dialog").showModal(),
  ...(written
    ? { e: () => written.edit(), f: (event) => written.jump(event.shiftKey ? -1 : 1) }
    : { "/": () => openFilter("") }),
};

function onKey(event) {
  if (event.defaultPrevented || event.repeat || event.isComposing) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.closest("input, textarea, select")) return;
  if (event.key === "Enter") {
    if (target.closest("button, a, summary")) return; // They have a meaning of their own for it.
    event.preventDefault();
    return accept();
  }
  const command = commands[event.key.toLowerCase()];
  const digit = command ? "" : digitOf(event);
  if (command) {
    event.preventDefault();
    command(event);
  } else if (digit) {
    event.preventDefault();
    if (byKey.has(digit)) answer("label", byKey.get(digit));
  } else if (!isRoomy && /^\p{L}$/u.test(event.key)) {
    event.preventDefault();
    openFilter(event.key);
  }
}

document.addEventListener("keydown", onKey);
byId("accept-button")?.addEventListener("click", accept);
byId("skip-button").addEventListener("click", openSkip);
byId("undo-button").addEventListener("click", () => void undo());
byId("help-button").addEventListener("click", commands["?"]);
byId("zoom-button").addEventListener("click", () => zoom());
byId("look-again").addEventListener("click", () => void refill());
byId("unsaved-button").addEventListener("click", () => void answers.flush());
byId("notice-button").addEventListener("click", () => { byId("notice").hidden = true; });

// --- The page comes and goes -----------------------------------------------------------------------------------------

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    shownBefore += performance.now() - shownSince;
  } else {
    shownSince = performance.now();
    void refill();
  }
});
addEventListener("online", () => void answers.flush().then(() => refill()));
setInterval(() => { if (shown) void refill(); }, RENEW_EVERY);

addEventListener("beforeunload", (event) => {
  if ((answers.count && answers.trouble) || written?.hasDraft) event.preventDefault();
});

// What is held goes back to the others at once; answers still on their way are sent along.
addEventListener("pagehide", () => {
  for (const each of answers.waiting) void request(taskUrl(each.task.id, "submit"), each.body, { keepalive: true });
  const heldElsewhere = new Set([...elsewhere.values()].flat());
  const tasks = queue.map((task) => task.id).filter((id) => !heldElsewhere.has(id));
  if (tasks.length) void request(roundUrl("release"), { tasks }, { keepalive: true });
  tabs?.postMessage({ tab, held: [] });
});
addEventListener("pageshow", (event) => {
  if (event.persisted) void refill();
});

showProgress();
showUnsaved();
tellTabs(true);
await answers.flush();
await refill();
// A page that is loaded anew gives its items back while it leaves: that may reach the server after the first claim.
setTimeout(() => void refill(), 4000);
