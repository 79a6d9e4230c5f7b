// Sends the upload form with a progress bar and drag and drop. Without this script the form still works.

const form = document.querySelector("form[data-upload]");
if (form) {
  const zone = form.querySelector("[data-dropzone]");
  const input = form.querySelector("input[type=file]");
  const button = form.querySelector("button[type=submit]");
  const problem = form.querySelector("[data-upload-problem]");
  const encoding = form.querySelector("[data-upload-encoding]");
  const box = form.querySelector("[data-upload-progress]");
  const bar = box.querySelector("progress");
  const words = box.querySelector("[data-upload-words]");
  let request = null;

  function refuse(sentence) {
    problem.textContent = sentence;
    problem.hidden = sentence === "";
    if (sentence) input.focus();
  }

  function busy(is) {
    box.hidden = !is;
    button.disabled = input.disabled = is;
    bar.value = 0;
  }

  function tooLarge(file) {
    if (file.size <= Number(form.dataset.maxBytes)) return false;
    refuse(`“${file.name}” is larger than ${form.dataset.maxSize}, which is the limit. Split it into several uploads.`);
    return true;
  }

  function percent(event) {
    if (!event.lengthComputable) return;
    const done = Math.round((100 * event.loaded) / event.total);
    bar.value = done;
    words.textContent = done < 100 ? `Sending, ${done}%` : "Reading the file";
  }

  function answered() {
    const path = new URL(request.responseURL, location.href).pathname;
    if (request.status < 300 && path !== location.pathname) return location.assign(request.responseURL);
    busy(false);
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    const said = page.querySelector("[data-upload-problem]")?.textContent.trim();
    refuse(said || "The server did not accept the file. Load this page again and retry.");
    encoding.open = encoding.open || Boolean(page.querySelector("[data-upload-encoding]")?.open);
  }

  function send() {
    const data = new FormData(form);
    refuse("");
    busy(true);
    request = new XMLHttpRequest();
    request.upload.addEventListener("progress", percent);
    request.addEventListener("load", answered);
    request.addEventListener("error", () => {
      busy(false);
      refuse("The connection broke before the file was there. Send it again.");
    });
    request.addEventListener("abort", () => busy(false));
    request.open("POST", form.action || location.href);
    request.send(data);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [file] = input.files;
    if (file && !tooLarge(file)) send();
  });
  form.querySelector("[data-upload-cancel]").addEventListener("click", () => request?.abort());
  input.addEventListener("change", () => {
    refuse("");
    if (input.files.length) tooLarge(input.files[0]);
  });

  // Files that miss the zone would otherwise replace the page.
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  zone.addEventListener("dragover", () => { zone.dataset.over = ""; });
  zone.addEventListener("dragleave", (event) => {
    if (!zone.contains(event.relatedTarget)) delete zone.dataset.over;
  });
  zone.addEventListener("drop", (event) => {
    delete zone.dataset.over;
    const files = event.dataTransfer?.files;
    if (!files?.length || request?.readyState === 1 && !box.hidden) return;
    if (files.length > 1) return refuse("One file at a time, please: put images into one zip.");
    input.files = files;
    if (!tooLarge(files[0])) send();
  });
}
