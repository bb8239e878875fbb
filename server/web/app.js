// The page at "/": search by a picture or by an item, browse, add and delete. Speaks only the public REST API
// (docs/openapi.yaml); every address is relative, so that the page also works behind a proxy's path.
//
// The place in the page is the address's fragment, so that the browser's back button works:
//   #/            nothing asked yet, or a picture of the reader's own (which has no address)
//   #/like/<id>   the neighbours of the item <id>
"use strict";

const PAGE_SIZE = 48;
const TINY = 96; // pictures smaller than this are drawn with visible pixels, not blurred

const $ = (id) => document.getElementById(id);
const itemUrl = (id) => "items/" + encodeURIComponent(id);
const imageUrl = (id) => itemUrl(id) + "/image";
const likeUrl = (id) => "#/like/" + encodeURIComponent(id);
const plural = (n, one, many) => n.toLocaleString("en") + " " + (n === 1 ? one : many);

// --- Talking to the server --------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// A server with keys answers 401 until it gets one; it is kept for this tab alone. Pictures are fetched with it, too.
let key = sessionStorage.getItem("key");
let keyQuestion = null; // the question that is open, for all who wait for its answer

function withKey(options) {
  return key ? { ...options, headers: { ...(options && options.headers), Authorization: "Bearer " + key } } : options;
}

function askKey(wrong) {
  if (!keyQuestion) {
    const form = $("key-form");
    $("key-message").textContent = wrong ? "The server does not know this key." : "This server asks for a key.";
    form.hidden = false;
    $("key").focus();
    keyQuestion = new Promise((resolve) => {
      form.onsubmit = (event) => {
        event.preventDefault();
        key = $("key").value.trim();
        $("key").value = "";
        sessionStorage.setItem("key", key);
        form.hidden = true;
        keyQuestion = null;
        resolve();
      };
    });
  }
  return keyQuestion;
}

async function fetchWithKey(url, options) {
  for (;;) {
    const used = key;
    const response = await fetch(url, withKey(options));
    if (response.status !== 401) {
      return response;
    }
    if (used === key) { // else somebody was told another one meanwhile
      await askKey(Boolean(used));
    }
  }
}

async function ask(url, options) {
  let response;
  try {
    response = await fetchWithKey(url, options);
  } catch (error) {
    throw new Refused(0, "", "The server does not answer. Is it still running?");
  }
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch (error) {
    if (response.ok) {
      throw new Refused(response.status, "", "The server's answer is not JSON.");
    }
  }
  if (!response.ok) {
    const told = body && body.error;
    const wait = response.headers.get("Retry-After");
    throw new Refused(response.status, told ? told.code : "",
      (told ? told.message : "The server answered with status " + response.status) +
      (wait ? " (try again in " + wait + " s)" : ""));
  }
  return { status: response.status, body };
}

// --- Small pieces of the page -----------------------------------------------------------------------------------------

function say(place, text, kind) {
  const p = document.createElement("p");
  p.className = kind || "note";
  p.textContent = text;
  $(place).replaceChildren(...(text ? [p] : []));
}

function sayError(place, doing, error) {
  const why = error instanceof Refused ? error.message + (error.code ? " [" + error.code + "]" : "") : String(error);
  say(place, doing + ": " + why, "error");
}

// An <img> cannot send a key: with one the bytes are fetched here. `use` gets an address, unless it came too late.
async function withAddress(url, use) {
  if (!key || url.startsWith("blob:")) {
    use(url);
    return;
  }
  try {
    const response = await fetchWithKey(url);
    if (response.ok) {
      use(URL.createObjectURL(await response.blob()));
    }
  } catch (error) {
    use(url); // shown as a broken picture
  }
}

function letGo(address) {
  if (address && address.startsWith("blob:")) {
    URL.revokeObjectURL(address);
  }
}

function picture(id) {
  const img = document.createElement("img");
  img.loading = "lazy";
  img.alt = id;
  img.addEventListener("load", () => {
    img.classList.toggle("tiny", img.naturalWidth < TINY && img.naturalHeight < TINY);
    letGo(img.src);
  });
  withAddress(imageUrl(id), (address) => { img.src = address; });
  return img;
}

function tile(id, score) {
  const li = document.createElement("li");
  li.className = "tile";
  const link = document.createElement("a");
  link.href = likeUrl(id);
  link.title = id;
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = id;
  link.append(picture(id), name);
  if (score !== undefined) {
    const line = document.createElement("span");
    line.className = "score";
    line.style.setProperty("--share", String(Math.min(1, Math.max(0, score))));
    line.textContent = score.toFixed(4);
    link.append(line);
  }
  li.append(link);
  return li;
}

// --- What serves ------------------------------------------------------------------------------------------------------

let generation = null;

async function showModel() {
  try {
    const model = (await ask("model")).body;
    generation = model.generation;
    $("serving").textContent = "model " + model.model + ", generation " + model.generation + ", " +
      plural(model.items, "picture", "pictures");
    return model;
  } catch (error) {
    $("serving").textContent = error.message;
    return null;
  }
}

// Every answer with scores names its generation: when another model has taken over, the head of the page says so.
function noteGeneration(body) {
  if (body.generation !== generation) {
    showModel();
  }
}

// --- Filter -----------------------------------------------------------------------------------------------------------

// "label = cat, year = 2024" as the API's filter; what begins with a brace is one already. A value is JSON where it is,
// else a string. Throws with a sentence.
function filterOf(text) {
  text = text.trim();
  if (!text || text.startsWith("{")) {
    return text;
  }
  const must = text.split(",").filter((part) => part.trim()).map((part) => {
    const at = part.indexOf("=");
    const key = part.slice(0, Math.max(at, 0)).trim();
    if (!key) {
      throw new Refused(0, "", "\"" + part.trim() + "\" is not of the form key = value");
    }
    const value = part.slice(at + 1).trim();
    let match = value;
    try {
      match = JSON.parse(value);
    } catch (error) {
      // a bare word
    }
    return { key, match };
  });
  return must.length ? JSON.stringify({ must }) : "";
}

function filterArgument() {
  const filter = filterOf($("filter").value);
  return filter ? "&filter=" + encodeURIComponent(filter) : "";
}

// The merge patch (RFC 7396) that makes `to` of `from`, both objects.
function mergePatch(from, to) {
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const patch = {};
  for (const key of Object.keys(from)) {
    if (!(key in to)) {
      patch[key] = null;
    }
  }
  for (const [key, value] of Object.entries(to)) {
    if (isObject(value) && isObject(from[key])) {
      const inner = mergePatch(from[key], value);
      if (Object.keys(inner).length) {
        patch[key] = inner;
      }
    } else if (JSON.stringify(value) !== JSON.stringify(from[key])) {
      patch[key] = value;
    }
  }
  return patch;
}

// --- Search -----------------------------------------------------------------------------------------------------------

let query = null;     // {blob, name} or {id}
let queryBlobUrl = null;
let asked = 0;        // a slow answer must not overwrite that of a later question

function showNeighbours(body, of) {
  noteGeneration(body);
  const list = body.neighbors;
  $("results-title").hidden = false;
  $("results-title").textContent = list.length ? plural(list.length, "neighbour", "neighbours") + " of " + of
    : $("filter").value.trim() ? "No neighbours under this filter"
      : "No neighbours: the catalogue holds no other picture yet";
  $("results").replaceChildren(...list.map((n) => tile(n.id, n.score)));
}

function showQueryImage(src, alt) {
  const img = $("query");
  img.hidden = !src;
  img.alt = alt;
  img.classList.remove("tiny");
  img.onload = () => img.classList.toggle("tiny", img.naturalWidth < TINY && img.naturalHeight < TINY);
  if (src) {
    img.dataset.wanted = src;
    withAddress(src, (address) => {
      if (img.dataset.wanted === src) {
        img.src = address;
      }
    });
  } else {
    delete img.dataset.wanted;
    img.removeAttribute("src");
  }
}

let subject = null; // the item whose facts are shown

function showSubject(item) {
  subject = item;
  $("subject").hidden = !item;
  showEditor(false);
  if (!item) {
    return;
  }
  $("subject-name").textContent = item.id;
  letGo($("subject-download").href);
  $("subject-download").href = imageUrl(item.id);
  withAddress(imageUrl(item.id), (address) => {
    if (subject === item) {
      $("subject-download").href = address;
    }
  });
  $("subject-download").download = item.id.split("/").pop();
  const facts = [];
  const fact = (name, value) => {
    const dt = document.createElement("dt");
    const dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    facts.push(dt, dd);
  };
  for (const [key, value] of Object.entries(item.metadata || {})) {
    fact(key, typeof value === "string" ? value : JSON.stringify(value));
  }
  if (item.width && item.height) {
    fact("size", item.width + " × " + item.height);
  }
  $("subject-facts").replaceChildren(...facts);
}

function showEditor(open) {
  $("edit").hidden = !open;
  $("subject-edit").hidden = open;
  if (open) {
    $("edit-text").value = JSON.stringify(subject.metadata || {}, null, 2);
    $("edit-text").focus();
  }
}

async function saveMetadata(event) {
  event.preventDefault();
  const item = subject;
  try {
    const wanted = JSON.parse($("edit-text").value);
    if (wanted === null || typeof wanted !== "object" || Array.isArray(wanted)) {
      throw new Refused(0, "", "metadata is a JSON object");
    }
    const patch = mergePatch(item.metadata || {}, wanted);
    const saved = (await ask(itemUrl(item.id), { method: "PATCH", body: JSON.stringify(patch),
      headers: { "Content-Type": "application/merge-patch+json" } })).body;
    if (subject === item) {
      showSubject(saved);
      say("message", "The metadata of " + item.id + " is saved.");
    }
  } catch (error) {
    sayError("message", "The metadata of " + item.id + " was not saved", error);
  }
}

// moveFocus: the reader followed a link that is gone now, so the keyboard goes on from the new results.
async function search(moveFocus) {
  if (!query) {
    return;
  }
  const mine = ++asked;
  const asking = query;
  say("message", "Searching …");
  try {
    const how = "k=" + $("k").value + filterArgument();
    const answer = asking.blob
      ? await ask("neighbors?" + how, { method: "POST", body: asking.blob,
        headers: { "Content-Type": "application/octet-stream" } })
      : await ask("neighbors?id=" + encodeURIComponent(asking.id) + "&" + how);
    if (mine !== asked) {
      return;
    }
    say("message", "");
    showNeighbours(answer.body, asking.blob ? asking.name : asking.id);
    if (moveFocus) {
      $("results-title").focus({ preventScroll: true });
    }
    if (asking.id) {
      const item = (await ask(itemUrl(asking.id))).body;
      if (mine === asked) {
        showSubject(item);
      }
    }
  } catch (error) {
    if (mine === asked) {
      $("results").replaceChildren();
      $("results-title").hidden = true;
      if (asking.id) {
        showQueryImage(null, "");
      }
      sayError("message", "The search for " + (asking.blob ? asking.name : asking.id) + " failed", error);
    }
  }
}

function searchFile(file) {
  if (queryBlobUrl) {
    URL.revokeObjectURL(queryBlobUrl);
  }
  queryBlobUrl = URL.createObjectURL(file);
  query = { blob: file, name: file.name || "the pasted picture" };
  showQueryImage(queryBlobUrl, "Your picture: " + query.name);
  showSubject(null);
  if (location.hash.startsWith("#/like/")) {
    history.pushState(null, "", "#/");
  }
  search();
}

function followAddress(event) { // without an event: the page has just opened
  if (!location.hash.startsWith("#/like/")) {
    return;
  }
  let id;
  try {
    id = decodeURIComponent(location.hash.slice("#/like/".length));
  } catch (error) {
    say("message", "The address names no item.", "error");
    return;
  }
  query = { id };
  showQueryImage(imageUrl(id), id);
  showSubject(null);
  $("search-title").scrollIntoView();
  search(Boolean(event));
}

// --- Catalogue --------------------------------------------------------------------------------------------------------

let cursors = [null]; // where each page so far begins; the last one is shown
let nextCursor = null;

function deleteButton(id) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "danger";
  button.textContent = "×";
  button.title = "Delete " + id;
  button.setAttribute("aria-label", button.title);
  button.addEventListener("click", () => remove(id));
  return button;
}

async function showCatalogue() {
  const after = cursors[cursors.length - 1];
  try {
    const body = (await ask("items?limit=" + PAGE_SIZE + (after ? "&after=" + encodeURIComponent(after) : "") +
      filterArgument())).body;
    if (!body.items.length && cursors.length > 1) { // the last item of the last page was deleted
      cursors.pop();
      await showCatalogue();
      return;
    }
    nextCursor = body.next;
    $("catalogue").replaceChildren(...body.items.map((item) => {
      const li = tile(item.id);
      li.append(deleteButton(item.id));
      return li;
    }));
    $("page").textContent = body.items.length ? "page " + cursors.length
      : $("filter").value.trim() ? "No picture fulfils the filter." : "The catalogue is empty: add some pictures.";
  } catch (error) {
    sayError("catalogue-message", "The catalogue cannot be listed", error);
  }
  $("previous").disabled = cursors.length < 2;
  $("next").disabled = !nextCursor;
}

async function remove(id) {
  if (!confirm("Delete " + id + " from the catalogue?")) {
    return;
  }
  try {
    await ask(itemUrl(id), { method: "DELETE" });
    say("catalogue-message", id + " is deleted.");
  } catch (error) {
    sayError("catalogue-message", id + " was not deleted", error);
  }
  if (query && query.id === id) {
    query = null;
    showQueryImage(null, "");
    showSubject(null);
    $("results").replaceChildren();
    $("results-title").hidden = true;
    history.replaceState(null, "", "#/");
  } else if (query) {
    search();
  }
  await Promise.all([showModel(), showCatalogue()]);
}

async function addOne(file, replace) {
  if (!replace) {
    try {
      await ask(itemUrl(file.name));
      return "skipped";
    } catch (error) {
      if (error.status !== 404) {
        throw error;
      }
    }
  }
  const answer = await ask(itemUrl(file.name), { method: "PUT", body: file,
    headers: { "Content-Type": "application/octet-stream" } });
  return answer.status === 201 ? "added" : "replaced";
}

async function add(files) {
  const count = { added: 0, replaced: 0, skipped: 0 };
  const failures = [];
  let done = 0;
  for (const file of files) {
    say("catalogue-message", "Adding " + (++done) + " of " + files.length + " …");
    try {
      count[await addOne(file, $("replace").checked)]++;
    } catch (error) {
      failures.push(file.name + ": " + error.message);
      if (error.status === 0) {
        break;
      }
    }
  }
  const parts = Object.entries(count).filter(([, n]) => n).map(([what, n]) => n + " " + what +
    (what === "skipped" ? " (the name is taken)" : ""));
  if (failures.length) {
    parts.push(failures.length + " failed (" + failures.slice(0, 3).join("; ") + (failures.length > 3 ? "; …" : "") + ")");
  }
  say("catalogue-message", parts.join(", ") + ".", failures.length ? "error" : "note");
  await Promise.all([showModel(), showCatalogue()]);
}

// --- Wiring -----------------------------------------------------------------------------------------------------------

function filesOf(list) {
  return [...list].filter((file) => file && file.size > 0);
}

function wire() {
  const drop = $("drop");
  for (const type of ["dragover", "drop"]) { // a picture dropped beside the field must not replace the page
    document.addEventListener(type, (event) => event.preventDefault());
  }
  for (const type of ["dragenter", "dragover"]) {
    drop.addEventListener(type, () => drop.classList.add("over"));
  }
  for (const type of ["dragleave", "drop"]) {
    drop.addEventListener(type, () => drop.classList.remove("over"));
  }
  drop.addEventListener("drop", (event) => {
    const [file] = filesOf(event.dataTransfer.files);
    if (file) {
      searchFile(file);
    } else {
      say("message", "That was no picture file.", "error");
    }
  });
  document.addEventListener("paste", (event) => {
    const [file] = filesOf(event.clipboardData.files);
    if (file) {
      searchFile(file);
    }
  });
  $("query-file").addEventListener("change", (event) => {
    const [file] = filesOf(event.target.files);
    event.target.value = "";
    if (file) {
      searchFile(file);
    }
  });
  $("add-files").addEventListener("change", (event) => {
    const files = filesOf(event.target.files);
    event.target.value = "";
    if (files.length) {
      add(files);
    }
  });
  for (const input of document.querySelectorAll("input[type=file]")) { // the label is what one sees of the input
    const label = document.querySelector("label[for=" + input.id + "]");
    input.addEventListener("focus", () => label.classList.toggle("focus", input.matches(":focus-visible")));
    input.addEventListener("blur", () => label.classList.remove("focus"));
  }
  $("k").addEventListener("change", () => search());
  $("filter").addEventListener("change", () => {
    cursors = [null];
    say("catalogue-message", "");
    search();
    showCatalogue();
  });
  $("subject-edit").addEventListener("click", () => showEditor(true));
  $("edit-cancel").addEventListener("click", () => showEditor(false));
  $("edit").addEventListener("submit", saveMetadata);
  $("subject-delete").addEventListener("click", () => query && query.id && remove(query.id));
  $("previous").addEventListener("click", () => {
    cursors.pop();
    showCatalogue();
  });
  $("next").addEventListener("click", () => {
    cursors.push(nextCursor);
    showCatalogue();
  });
  window.addEventListener("hashchange", followAddress);
}

wire();
showModel();
showCatalogue();
followAddress();
