// Keys press buttons, and the next question, which is on the page already, shows at once.
"use strict";

const cards = () => [...document.querySelectorAll("#work .card")];
const visible = () => cards().find((card) => !card.hidden);
const say = (words) => { const place = document.getElementById("message"); if (place) place.textContent = words; };

function focusQuestion() {
  const title = visible()?.querySelector("h2");
  if (title) title.focus({ preventScroll: true });
}

function lock(isLocked) {
  cards().forEach((card) => card.querySelectorAll("button").forEach((button) => { button.disabled = isLocked; }));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.target.matches("input, textarea, select")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const buttons = [...(visible()?.querySelectorAll("button") ?? [])];
  const button = buttons.find((one) => one.dataset.key === key || one.dataset.arrow === key);
  if (button) { event.preventDefault(); button.click(); }
});

// htmx reads the form first, then this runs.
document.addEventListener("htmx:beforeSend", (event) => {
  const [current, next] = cards();
  const action = event.detail.requestConfig.parameters.get?.("do");
  if (next && action !== "undo") { current.hidden = true; next.hidden = false; }
  lock(true);
});

function back(words) {
  const [current, next] = cards();
  if (current) current.hidden = false;
  if (next) next.hidden = true;
  lock(false);
  say(words);
  focusQuestion();
}

document.addEventListener("htmx:sendError", () => back("The server does not answer. Your answer was not stored: press it again."));
document.addEventListener("htmx:timeout", () => back("The server does not answer. Press your answer again."));

// Words of this page go above the question. What a proxy or a fault sends must not replace it.
const isOurs = (xhr) => xhr.getResponseHeader("hx-retarget") !== null;
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400 && !isOurs(event.detail.xhr)) event.detail.shouldSwap = false;
});
document.addEventListener("htmx:afterRequest", (event) => {
  const { xhr } = event.detail;
  if (xhr.status < 400) return;
  const unknown = `The server has failed (${xhr.status}). Press your answer again.`;
  back(isOurs(xhr) ? document.getElementById("message")?.textContent ?? "" : unknown);
});
document.addEventListener("htmx:afterSettle", focusQuestion);

function replaceBroken(image) {
  const words = document.createElement("p");
  words.textContent = `${image.alt}: cannot be decoded. Skip it, or say that you can't tell.`;
  image.replaceWith(words);
}

document.addEventListener("error", (event) => {
  if (event.target instanceof HTMLImageElement) replaceBroken(event.target);
}, true);
document.addEventListener("DOMContentLoaded", () => {
  // those that were known to be broken before this script ran
  [...document.images].filter((one) => one.complete && one.naturalWidth === 0).forEach(replaceBroken);
  focusQuestion();
});
