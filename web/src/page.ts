// The page: takes pictures in, shows each before and after, and saves results.

import { zipSync } from "fflate";

import { compose, cutOut, draw, load, type ComposeOptions, type Cutout } from "./birefnet";

interface Item {
  name: string;
  file: Blob;
  address: string; // of the original
  clean: boolean; // how `cutout` was made
  cutout?: Cutout;
  button: HTMLButtonElement;
}

const PREVIEW = 1600; // longer side of what is shown [px]
const REVEALED = 35; // per cent of the original that stays in sight
const SUFFIXES = { "image/png": "png", "image/webp": "webp", "image/jpeg": "jpg" };

const find = <T extends HTMLElement>(selector: string) => document.querySelector<T>(selector)!;
const all = <T extends HTMLElement>(selector: string) => [...document.querySelectorAll<T>(selector)];
const main = find("main");
const frame = find(".frame");
const before = find<HTMLImageElement>(".before");
const canvas = find<HTMLCanvasElement>(".after canvas");
const slide = find<HTMLInputElement>(".slide");
const crop = find(".crop");
const list = find(".film ul");
const form = find<HTMLFormElement>(".panel");
const files = find<HTMLInputElement>(".files");
const backdropFile = find<HTMLInputElement>(".backdrop-file");
const field = <T = HTMLInputElement>(name: string) => form.elements.namedItem(name) as T;

let items: Item[] = [];
let current: Item | undefined;
let backdrop: Blob | undefined;
let working = false;
let drawing = 0;

// ---- Pictures -------------------------------------------------------------------------------

function add(added: Iterable<Blob>): void {
  problem("");
  const hadFocus = document.activeElement?.closest(".drop, .film");
  const start = items.length;
  for (const file of added) {
    const name = (file as File).name || "pasted.png";
    const address = URL.createObjectURL(file);
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.state = "waiting";
    button.innerHTML = `<img alt="">`;
    button.querySelector("img")!.src = address;
    button.setAttribute("aria-label", name);
    button.title = name;
    const item: Item = { name, file, address, clean: true, button };
    button.onclick = () => show(item);
    const entry = document.createElement("li");
    entry.append(button);
    list.append(entry);
    items.push(item);
  }
  if (items.length === start) return;
  show(items[start]);
  if (hadFocus) items[start].button.focus();
  void work();
}

/** Cut out what is waiting, the picture in sight first. */
async function work(): Promise<void> {
  if (working) return;
  working = true;
  for (;;) {
    const item = current && isWaiting(current) ? current : items.find(isWaiting);
    if (!item) break;
    const cleanColours = field("clean").checked;
    try {
      item.cutout = await cutOut(item.file, { cleanColours });
      item.clean = cleanColours;
    } catch (error) {
      problem(`${item.name}: ${(error as Error).message}.`);
      if (items.includes(item)) remove(item);
      continue;
    }
    if (!items.includes(item)) continue;
    item.button.dataset.state = "done";
    item.button.dataset.seconds = String(item.cutout.seconds);
    const thumbnail = item.button.querySelector("img")!;
    if (thumbnail.src !== item.address) URL.revokeObjectURL(thumbnail.src);
    thumbnail.src = URL.createObjectURL(item.cutout.png);
    if (item === current) await present(true);
    else controls();
  }
  working = false;
}

function isWaiting(item: Item): boolean {
  return !item.cutout || item.clean !== field("clean").checked;
}

function show(item: Item): void {
  current = item;
  main.dataset.view = "picture";
  for (const { button } of items) button.setAttribute("aria-current", String(button === item.button));
  before.src = item.address;
  before.alt = `The original: ${item.name}`;
  before.onload = () => {
    frame.style.setProperty("--ratio", String(before.naturalWidth / before.naturalHeight));
  };
  void present(false);
}

function remove(item: Item): void {
  const index = items.indexOf(item);
  items = items.filter((other) => other !== item);
  item.button.parentElement!.remove();
  URL.revokeObjectURL(item.address);
  if (item !== current) return controls();
  const next = items[Math.min(index, items.length - 1)];
  current = undefined;
  if (next) {
    show(next);
    next.button.focus();
  } else {
    main.dataset.view = "empty";
    find(".drop .choose").focus();
  }
}

// ---- The result -----------------------------------------------------------------------------

function options(): ComposeOptions {
  const choice = field<RadioNodeList>("background").value;
  return {
    background: choice === "colour" ? field("colour").value : choice === "picture" ? backdrop : undefined,
    crop: field("crop").checked,
    format: field<HTMLSelectElement>("format").value as ComposeOptions["format"],
  };
}

/** Show the result of the picture in sight, or that it is on its way. */
async function present(isNew: boolean): Promise<void> {
  controls();
  const item = current;
  if (!item || isWaiting(item)) return;
  const cutout = item.cutout!;
  const { background, format } = options();
  const mine = ++drawing;
  const scale = Math.min(1, PREVIEW / Math.max(cutout.width, cutout.height));
  const sketch = new OffscreenCanvas(
    Math.max(1, Math.round(cutout.width * scale)),
    Math.max(1, Math.round(cutout.height * scale)),
  );
  const context = sketch.getContext("2d")!;
  context.imageSmoothingQuality = "high";
  context.scale(sketch.width / cutout.width, sketch.height / cutout.height);
  await draw(context, cutout, background ?? (format === "image/jpeg" ? "white" : undefined));
  if (mine !== drawing || item !== current) return;
  canvas.width = sketch.width;
  canvas.height = sketch.height;
  canvas.getContext("2d")!.drawImage(sketch, 0, 0);
  if (isNew) {
    slideTo(100);
    frame.offsetWidth; // so that the move to come starts there
    frame.classList.add("is-revealing");
    slideTo(REVEALED);
  }
  controls();
}

/** Bring everything beside the picture up to date. */
function controls(): void {
  const cutout = current && !isWaiting(current) ? current.cutout : undefined;
  const { crop: cropped, format, background } = options();
  frame.setAttribute("aria-busy", String(!cutout));
  const choice = field<RadioNodeList>("background").value;
  for (const part of all("[data-for]")) part.hidden = part.dataset.for !== choice;
  find(".note").hidden = format !== "image/jpeg" || !!background;
  find(".paint").style.setProperty("--paint", field("colour").value);
  find<HTMLButtonElement>(".panel [type=submit]").disabled = !cutout;
  const zip = find<HTMLButtonElement>(".zip");
  const done = items.filter((item) => !isWaiting(item)).length;
  zip.hidden = items.length < 2;
  zip.disabled = done < items.length;
  zip.textContent = done < items.length ? `${done} of ${items.length} are ready` : `Download all ${done} (zip)`;
  const box = cropped ? cutout?.box : null;
  crop.style.display = box ? "block" : "none";
  if (cutout && box) {
    crop.style.left = `${(100 * box.x) / cutout.width}%`;
    crop.style.top = `${(100 * box.y) / cutout.height}%`;
    crop.style.width = `${(100 * box.width) / cutout.width}%`;
    crop.style.height = `${(100 * box.height) / cutout.height}%`;
  }
  find(".status").textContent = cutout ? verdict(cutout) : "Cutting out …";
  canvas.setAttribute("aria-label", cutout ? `The cut-out of ${current!.name}` : "");
}

function verdict({ coverage, confidence, width, height, seconds }: Cutout): string {
  if (coverage < 0.0005 || confidence < 0.25) {
    return "No object found: nothing in this picture stands out clearly.";
  }
  const percent = (share: number) => `${Math.round(100 * share)} %`;
  return `The subject takes ${percent(coverage)} of the picture · ${percent(confidence)} sure · ${width} × ${height} px · ${seconds.toFixed(1)} s`;
}

function slideTo(value: number): void {
  slide.value = String(value);
  slide.setAttribute("aria-valuetext", `${value} % original`);
  frame.style.setProperty("--at", `${value}%`);
}

async function save(): Promise<void> {
  if (current?.cutout) download(await compose(current.cutout, options()), resultName(current));
}

async function saveAll(): Promise<void> {
  const zip: Record<string, Uint8Array> = {};
  for (const item of items) {
    let name = resultName(item);
    for (let number = 2; name in zip; number++) name = resultName(item, number);
    zip[name] = new Uint8Array(await (await compose(item.cutout!, options())).arrayBuffer());
  }
  // Pictures are compressed already.
  download(new Blob([zipSync(zip, { level: 0 }) as BlobPart], { type: "application/zip" }), "cutouts.zip");
}

function resultName({ name }: Item, number?: number): string {
  const stem = name.replace(/\.\w+$/, "");
  return `${stem}.cutout${number ? `.${number}` : ""}.${SUFFIXES[options().format!]}`;
}

function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function problem(text: string): void {
  const line = find(".problem");
  line.textContent = text;
  if (text) line.scrollIntoView({ block: "nearest" });
}

// ---- What people do -------------------------------------------------------------------------

for (const button of all(".choose")) button.onclick = () => files.click();
files.onchange = () => {
  add(files.files!);
  files.value = "";
};
for (const button of all("[data-example]")) {
  button.onclick = async () => {
    const name = button.dataset.example!;
    const blob = await (await fetch(`examples/${name}`)).blob();
    add([new File([blob], name, { type: blob.type })]);
  };
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("is-over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("is-over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("is-over");
  add(event.dataTransfer!.files);
});
addEventListener("paste", (event) => add(event.clipboardData!.files));
slide.oninput = () => {
  frame.classList.remove("is-revealing");
  slideTo(Number(slide.value));
};
form.onsubmit = (event) => {
  event.preventDefault();
  attempt(save);
};
find(".zip").onclick = () => attempt(saveAll);
find(".remove").onclick = () => remove(current!);
find(".backdrop").onclick = () => backdropFile.click();
backdropFile.onchange = async () => {
  const [file] = backdropFile.files!;
  backdropFile.value = "";
  if (!file) return;
  try {
    (await createImageBitmap(file)).close();
  } catch {
    return problem(`${file.name}: this is not a picture that the browser can read.`);
  }
  problem("");
  backdrop = file;
  find(".photo").style.backgroundImage = `url(${URL.createObjectURL(file)})`;
  await present(false);
};
form.onchange = ({ target }) => {
  if ((target as HTMLInputElement).name === "clean") void work();
  else if (field<RadioNodeList>("background").value === "picture" && !backdrop) backdropFile.click();
  void present(false);
};
field("colour").oninput = () => void present(false);

function attempt(deed: () => Promise<void>): void {
  deed().catch((error: Error) => problem(`This did not work: ${error.message}.`));
}

// ---- Start ----------------------------------------------------------------------------------

/** Let the service worker keep the files and allow threads; it may load the page once more. */
async function prepare(): Promise<boolean> {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return false;
  try {
    const controlled = new Promise((resolve) => {
      if (serviceWorker.controller) resolve(true);
      serviceWorker.oncontrollerchange = () => resolve(true);
      setTimeout(resolve, 3000);
    });
    await serviceWorker.register("sw.js");
    await controlled;
  } catch {
    return false; // not allowed here, such as in private windows
  }
  if (serviceWorker.controller && !crossOriginIsolated && !sessionStorage.getItem("reloaded")) {
    sessionStorage.setItem("reloaded", "yes");
    // Browsers may keep the page in this state, and show it again at a later reload.
    addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
    location.reload();
    await new Promise(() => {});
  }
  return !!serviceWorker.controller;
}

async function begin(): Promise<void> {
  const engine = find(".engine");
  engine.ariaBusy = "true"; // so that screen readers do not read every step
  const isKept = await prepare();
  try {
    const { name, threads } = await load({
      threads: Number(new URLSearchParams(location.search).get("threads")) || undefined,
      onProgress: ({ loaded, total }) => {
        const share = total ? ` ${Math.min(100, Math.round((100 * loaded) / total))} %` : "";
        engine.textContent = `Loading the network …${share}`;
      },
    });
    document.body.dataset.ready = String(performance.now() / 1000); // since the visit began
    const kept = isKept ? "works offline from now on" : "only with its server";
    engine.ariaBusy = "false";
    engine.textContent = `${name} is ready · ${threads} ${threads === 1 ? "thread" : "threads"} · ${kept}`;
  } catch (error) {
    engine.textContent = "";
    problem(`The network could not be loaded: ${(error as Error).message}.`);
  }
}

if (location.protocol !== "file:") void begin();
