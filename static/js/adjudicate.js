// Deciding between answers by keyboard, and how long it took. Without this file every button of the page works as well.

const form = document.getElementById("decide-form");
const filter = document.getElementById("filter");
const labels = [...document.querySelectorAll("#labels .review-label")];
const help = document.getElementById("help-dialog");

// --- The clock: it runs while the page is seen --------------------------------------------------------------------------

let since = performance.now();
let before = 0;

document.addEventListener("visibilitychange", () => {
  if (document.hidden) before += performance.now() - since;
  else since = performance.now();
});

function secondsShown() {
  const running = document.hidden ? 0 : performance.now() - since;
  return Math.round((before + running) / 10) / 100;
}

let isSent = false;
for (const each of document.querySelectorAll("#decide-form, #write-form, #skip-form, #span-form, #none-form")) {
  each.addEventListener("submit", (event) => {
    // A second press of a key must not decide the next item.
    if (isSent) return event.preventDefault();
    isSent = true;
    each.elements.namedItem("seconds").value = String(secondsShown());
  });
}

// A page that comes back from the browser's history can be decided again; the server says if somebody was faster.
addEventListener("pageshow", (event) => {
  if (event.persisted) isSent = false;
});

// --- Finding a label ----------------------------------------------------------------------------------------------------

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function found() {
  const asked = plain(filter.value.trim());
  const named = labels.filter((label) => plain(label.dataset.name).includes(asked));
  // Names that begin with what was typed come first.
  return named.sort((one, other) => Number(plain(other.dataset.name).startsWith(asked)) - Number(plain(one.dataset.name).startsWith(asked)));
}

function showFound() {
  const kept = new Set(found());
  for (const label of labels) label.hidden = !kept.has(label);
  document.getElementById("none-found").hidden = kept.size > 0;
}

filter?.addEventListener("input", showFound);
filter?.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    const [first] = filter.value.trim() ? found() : [document.getElementById("suggested")];
    first?.click();
  } else if (event.key === "Escape") {
    filter.value = "";
    showFound();
    document.getElementById("stage").focus({ preventScroll: true });
  }
});

// --- Words of the text as the answer -------------------------------------------------------------------------------------

const spanData = document.getElementById("span-data");
let span = null; // once its module is there; until then, and without it, an answer can be typed

function showChosen() {
  document.getElementById("span-save").disabled = !span.hasChoice;
  document.getElementById("span-chosen").value = span.hasChoice ? `${span.said.start}-${span.said.end}` : "";
}

// On wide screens the text scrolls in its part of the page; on narrow ones by itself if it is long, and with the page,
// behind the answers below.
function bringIntoView(box) {
  let { top, bottom } = box;
  const scroll = (part, from, to) => {
    if (part.scrollHeight <= part.clientHeight || (top >= from + 24 && bottom <= to - 24)) return;
    const before = part.scrollTop;
    part.scrollTop += (top + bottom) / 2 - (from + to) / 2;
    top -= part.scrollTop - before;
    bottom -= part.scrollTop - before;
  };
  for (const part of [document.getElementById("stage"), document.getElementById("text")]) {
    const { top: from, bottom: to } = part.getBoundingClientRect();
    if (getComputedStyle(part).overflowY === "auto") scroll(part, from, to);
  }
  const answer = document.querySelector(".decide-answer");
  const isBelow = getComputedStyle(answer).position === "sticky";
  scroll(document.scrollingElement, 0, isBelow ? answer.getBoundingClientRect().top : innerHeight);
}

async function offerSpans() {
  const { module, item, marks } = JSON.parse(spanData.textContent);
  const { SpanAnswer } = await import(module);
  const announcer = document.getElementById("announcer");
  span = new SpanAnswer({ onChange: showChosen, bringIntoView, announce: (sentence) => { announcer.textContent = sentence; }, tone: "ok" });
  span.show({ id: 0, item, marks, machine: null });
  document.getElementById("own").hidden = true;
  document.getElementById("choose").hidden = false;
  document.getElementById("span-begin").addEventListener("click", () => span.begin());
}

if (spanData) offerSpans();

// --- Keys ---------------------------------------------------------------------------------------------------------------

const isTyping = (target) => target instanceof HTMLElement && target.matches("input, textarea, select");
const hasOwnEnter = (target) => target instanceof HTMLElement && target.matches("button, a, summary");

function press(selector) {
  const button = document.querySelector(selector);
  button?.click();
  return Boolean(button);
}

function editor(event) {
  if (event.target.id === "answer" && event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    document.getElementById("write-form").requestSubmit();
  }
}

function pressed(event) {
  const { key } = event;
  if (key === "Enter" && span?.hasChoice && !hasOwnEnter(event.target)) return press("#span-save");
  if (key === "Enter") return !hasOwnEnter(event.target) && press("#suggested, .decide-choice");
  if (/^[0-9]$/.test(key)) return press(`#decide-form [data-key="${key}"]`);
  if (key === "ArrowRight") return press("#later");
  if (key === "?") return help.showModal() ?? true;
  if (filter && (key === "/" || /^\p{L}$/u.test(key))) {
    filter.focus();
    if (key === "/") return true;
    filter.value += key;
    showFound();
    return true;
  }
  if (span && key.toLowerCase() === "m") return span.begin() ?? true;
  if (key.toLowerCase() === "x") return press("#none-form button");
  if (key.toLowerCase() === "u") return press("#undo-form button");
  if (key.toLowerCase() === "e") return write();
  return false;
}

function write() {
  const own = document.getElementById("own");
  if (!own || own.hidden) return false;
  own.open = true;
  document.getElementById("answer").focus();
  return true;
}

document.addEventListener("keydown", (event) => {
  if (help.open || event.isComposing) return;
  if (isTyping(event.target)) return editor(event);
  if (span?.onKey(event)) return event.preventDefault();
  if (event.repeat) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && press("#undo-form button")) return event.preventDefault();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (pressed(event)) event.preventDefault();
});

if (form) document.getElementById("stage").focus({ preventScroll: true });
