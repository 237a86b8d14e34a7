// What the pages of administration do: buttons and forms that ask the API, parts that are fetched anew when something happens.
//
//   <button data-method="POST" data-url="/api/…">            asks, then fetches every part of the page anew
//   <form data-method="PUT" data-url="/api/aes/{title}">     the same with a body made of its fields; {title} is one of them
//   data-done="…" says it, data-then="/admin/" goes there, data-confirm="…" asks before
//   <div data-part="/admin/parts/…" data-live>               a part; data-live: fetched when the body's data-feed tells of something,
//                                                            data-every="3": every 3 seconds while somebody looks
"use strict";

const root = document.body.dataset.root;
const notice = document.getElementById("notice");

function say(text, bad = false) {
  notice.textContent = text;
  notice.classList.toggle("bad", bad);
  notice.setAttribute("role", bad ? "alert" : "status");
  notice.hidden = !text;
}

async function ask(method, url, body) {
  const answer = await fetch(root + url, {
    method,
    headers: { "Content-Type": "application/json" },
    body: method === "DELETE" ? undefined : JSON.stringify(body ?? {}),
  });
  const text = await answer.text();
  const given = text ? JSON.parse(text) : null;
  if (!answer.ok) throw new Error(`${given.error}: ${given.todo}.`);
  return given;
}

async function act(element, body) {
  const { method, url, done, then, confirm } = element.dataset;
  if (confirm && !window.confirm(confirm)) return;
  const button = element.matches("button") ? element : element.querySelector("button");
  // Asked now: by the time of the answer the part may have been fetched anew, and the element be nowhere.
  const part = element.closest("[data-part]");
  const section = element.closest("section");
  button.disabled = true;
  try {
    await ask(method, url.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(body[name])), without(body, url));
    if (then) {
      window.location.assign(root + then);
    } else if (part) {
      say(done);
      await refresh(document.querySelectorAll("[data-part]"), section);
    } else {
      window.location.reload();
    }
  } catch (error) {
    say(error.message, true);
  } finally {
    button.disabled = false;
  }
}

// The body without what is in the address already.
function without(body, url) {
  return body && Object.fromEntries(Object.entries(body).filter(([name]) => !url.includes(`{${name}}`)));
}

const READ = {
  lines: (field) => field.value.split("\n").map((line) => line.trim()).filter(Boolean),
  choice: (field) => field.value || null,
  flag: (field) => field.checked,
  // With the spaces at its ends: they are part of a passcode.
  whole: (field) => field.value,
  // What is empty is no value; dates and times are DICOM's, and several titles stand between backslashes.
  value: (field) => field.value.trim() || null,
  date: (field) => field.value.replaceAll("-", "") || null,
  time: (field) => field.value.replaceAll(":", "") || null,
  titles: (field) => field.value.split("\\").map((title) => title.trim()).filter(Boolean),
  // Lines of NAME=value.
  pairs: (field) => Object.fromEntries(READ.lines(field).map((line) => line.split(/=(.*)/s, 2).map((part) => (part ?? "").trim()))),
};

function read(form) {
  const body = {};
  for (const field of form.elements) {
    const as = field.dataset.as;
    if (!field.name) continue;
    if (as === "list") {
      body[field.name] ??= [];
      if (field.checked) body[field.name].push(field.value);
    } else if (as) {
      body[field.name] = READ[as](field);
    } else if (field.type === "number") {
      body[field.name] = field.value ? Number(field.value) : 0;
    } else {
      body[field.name] = field.value.trim();
    }
  }
  return nested(body);
}

// A field of the name a.b is the member b of a.
function nested(body) {
  const whole = {};
  for (const [name, value] of Object.entries(body)) {
    const [outer, inner] = name.split(".");
    if (inner) whole[outer] = { ...whole[outer], [inner]: value };
    else whole[outer] = value;
  }
  return whole;
}

async function refresh(parts, section) {
  const focused = section?.contains(document.activeElement) || document.activeElement === document.body;
  for (const part of parts) await fetchPart(part);
  // Whoever pressed a button that is gone goes on at the heading of where it was.
  if (focused && section && !section.contains(document.activeElement)) section.querySelector("[tabindex]")?.focus();
}

async function fetchPart(part) {
  const query = "query" in part.dataset ? window.location.search : "";
  const answer = await fetch(root + part.dataset.part + query);
  if (!answer.ok) throw new Error(`This page cannot be brought up to date (${answer.status}).`);
  part.innerHTML = await answer.text();
  localize(part);
}

// Times are the reader's own.
function localize(place) {
  for (const one of place.querySelectorAll("time")) {
    const moment = new Date(one.dateTime);
    one.title = one.dateTime;
    one.textContent = `${moment.toLocaleDateString("sv")} ${moment.toLocaleTimeString("sv")}`;
  }
}

async function echo(button) {
  const list = document.getElementById(button.dataset.steps);
  list.replaceChildren();
  button.disabled = true;
  try {
    for (const step of await ask("POST", button.dataset.echo)) {
      const item = document.createElement("li");
      item.textContent = `${step.ok ? "✓" : "✗"} ${step.name}: ${step.text} (${Math.round(step.milliseconds)} ms)`;
      item.classList.toggle("bad", !step.ok);
      list.append(item);
    }
  } catch (error) {
    say(error.message, true);
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.echo) echo(button);
  else if (button?.dataset.method) act(button, JSON.parse(button.dataset.body ?? "null"));
});

document.addEventListener("submit", (event) => {
  if (!event.target.dataset.method) return;
  event.preventDefault();
  act(event.target, read(event.target));
});

// What happens is told by the server; many things at once are one refresh, and none while somebody fills in a form in a part.
function follow(feed) {
  const live = document.getElementById("live");
  const tell = (text) => live && (live.textContent = text);
  const source = new EventSource(root + feed);
  let waiting = null;
  const update = async () => {
    waiting = null;
    const parts = [...document.querySelectorAll("[data-live]")].filter((part) => !part.querySelector("details[open]"));
    try {
      await refresh(parts);
    } catch (error) {
      tell(error.message);
    }
  };
  // Whatever happened before, or while there was no connection, is looked at too.
  source.onopen = () => { tell("live"); waiting ??= setTimeout(update, 0); };
  source.onerror = () => tell("not connected; trying again");
  source.onmessage = () => { waiting ??= setTimeout(update, 300); };
}

for (const part of document.querySelectorAll("[data-every]")) {
  setInterval(() => {
    const busy = document.hidden || part.contains(document.activeElement);
    if (!busy) fetchPart(part).catch((error) => say(error.message, true));
  }, 1000 * Number(part.dataset.every));
}

localize(document);
if (document.body.dataset.feed) follow(document.body.dataset.feed);
