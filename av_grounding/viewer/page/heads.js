// The heads of the model: a card, a slider and a button each, made of the page's templates once
// the heads are known.

import { byId, live, memory, settings, show } from "./state.js";


export const words = (name) => name.replaceAll("_", " ");
const title = (name) => name[0].toUpperCase() + words(name.slice(1));
const rgb = (colour, alpha = 1) => `rgba(${colour.join(", ")}, ${alpha})`;

export const strong = (style) => rgb(style.strong);

// The colour of a head on the page itself, light or dark.
export function inkOf(style) {
  const card = byId(`card-${style.name}`);
  return card ? getComputedStyle(card).borderTopColor : strong(style);
}

function made(template, style) {
  const element = byId(template).content.firstElementChild.cloneNode(true);
  element.classList.add(style.name);
  if (!["sound", "speech"].includes(style.name)) {
    element.classList.add("other");
    element.style.setProperty("--weak", rgb(style.weak));
    element.style.setProperty("--strong", rgb(style.strong));
  }
  const glyph = element.querySelector(".glyph");
  if (glyph) glyph.replaceWith(byId(`glyph-${style.mark}`).content.firstElementChild.cloneNode(true));
  for (const place of element.querySelectorAll("[data-id]")) place.id = `${place.dataset.id}-${style.name}`;
  return element;
}

export function setHeads(heads, setView) {
  const key = JSON.stringify(heads);
  if (live.headsKey === key) return;
  Object.assign(live, { heads, headsKey: key, points: [], picture: null });
  const views = document.querySelector(".segments");
  const [all, camera] = ["both", "camera"].map((view) => views.querySelector(`[data-view="${view}"]`));
  views.replaceChildren(all, ...heads.map((style, i) => button(style, i, setView)), camera);
  all.textContent = heads.length === 2 ? "Both" : "All";
  camera.title = `Camera alone (${heads.length + 2})`;
  document.querySelector(".sliders").replaceChildren(...heads.map(slider));
  const cards = document.querySelector(".heads");
  cards.replaceChildren(...heads.map((style) => card(style, setView)));
  cards.classList.toggle("many", heads.length > 2);
  show();
}

function button(style, index, setView) {
  const element = made("head-button", style);
  Object.assign(element.dataset, { view: style.name });
  element.title = `${title(style.name)} only (${index + 2})`;
  element.append(title(style.name));
  element.addEventListener("click", () => setView(style.name));
  return element;
}

function slider(style) {
  const element = made("head-slider", style), input = element.querySelector("input");
  element.querySelector("span").textContent = `${title(style.name)} opacity`;
  const kept = memory.load(localStorage, input.id);
  if (kept !== null) input.value = kept;
  const take = () => { settings.opacity[style.name] = input.value / 100; show(); };
  input.addEventListener("input", take);
  input.addEventListener("change", () => memory.save(localStorage, input.id, input.value));
  take();
  return element;
}

function card(style, setView) {
  const element = made("head-card", style);
  element.id = `card-${style.name}`;
  element.dataset.head = style.name;
  element.classList.toggle("dashed", style.is_dashed);
  element.querySelector("h2").append(title(style.name));
  element.querySelector(".asks").textContent = style.asks;
  element.querySelector("b").style.left = `calc(${100 * style.threshold}% - 1px)`;
  element.addEventListener("click", () => setView(settings.view === style.name ? "both" : style.name));
  return element;
}
