// Names to choose from while typing (an ARIA combobox), errors tied to their boxes, answers that are announced, scrolled to
// and focused, pictures with a text and clicks into them, copying.
const list = element.querySelector("ul");
let box = null, chosen = -1, asked = 0, timer = null;

const input = (id) => document.querySelector(`#${id} input, #${id} textarea`);
const say = (field, text) => {  // as if it had been typed
  const own = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value");
  own.set.call(field, text);
  field.dispatchEvent(new Event("input", { bubbles: true }));
};
const close = () => {
  list.hidden = true;
  chosen = -1;
  box?.setAttribute("aria-expanded", "false");
  box?.removeAttribute("aria-activedescendant");
};
const leave = () => {  // whatever is still asked for comes too late
  clearTimeout(timer);
  asked += 1;
  close();
};
const take = (name) => {
  const field = box;
  say(field, name);
  close();
  field.dispatchEvent(new Event("blur"));
};
const mark = (index) => {
  const options = [...list.querySelectorAll("[role=option]")];
  if (!options.length) return;
  chosen = (index + options.length) % options.length;
  options.forEach((option, i) => option.setAttribute("aria-selected", i === chosen));
  box.setAttribute("aria-activedescendant", options[chosen].id);
  options[chosen].scrollIntoView({ block: "nearest" });
};
const show = (field, names, onHub) => {
  list.replaceChildren(...names.map((name, i) => {
    const option = document.createElement("li");
    option.textContent = name;
    option.id = `name-${i}`;
    option.setAttribute("role", "option");
    option.addEventListener("mousedown", (event) => { event.preventDefault(); take(name); });
    return option;
  }));
  if (!onHub) {
    const note = document.createElement("li");
    note.className = "note";
    note.textContent = "The Hub cannot be searched now; these are embedded or were compared before.";
    list.append(note);
  }
  list.hidden = !list.children.length;
  field.setAttribute("aria-expanded", String(!list.hidden));
  if (list.hidden) return;
  const place = field.getBoundingClientRect(), frame = list.offsetParent.getBoundingClientRect();
  Object.assign(list.style, {
    left: `${place.left - frame.left}px`, top: `${place.bottom - frame.top + 2}px`, width: `${place.width}px`,
  });
};
const search = (field) => {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    const turn = ++asked;
    const [names, onHub] = field.closest("#atlas-model")
      ? await server.find_members(field.value, input("atlas-choice").value) : await server.find_names(field.value);
    if (turn === asked && document.activeElement === field) { box = field; chosen = -1; show(field, names, onHub); }
  }, 180);
};
const keys = (event) => {
  if (event.key === "Tab") leave();
  if (list.hidden && event.key === "ArrowDown") { box = event.target; search(event.target); event.preventDefault(); }
  if (list.hidden) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    mark(chosen < 0 && event.key === "ArrowUp" ? -1 : chosen + (event.key === "ArrowDown" ? 1 : -1));
    event.preventDefault();
  } else if (event.key === "Enter" && chosen >= 0) {
    event.preventDefault();
    event.stopPropagation();
    take(list.querySelectorAll("[role=option]")[chosen].textContent);
  } else if (event.key === "Escape") leave();
};
const LIVE = ["a-message", "b-message", "cost", "status", "result", "nearest-model-message", "nearest-status", "nearest-result",
  "start-models-message", "start-status", "start-result", "atlas-model-message", "atlas-status", "atlas-result", "atlas-found"];
const WAYS = [  // what begins a comparison, what says why it cannot begin, what shows how it goes, where its answer comes
  ["#go, #examples button", ["a-message", "b-message", "cost"], "status", "result"],
  ["#nearest-go", ["nearest-model-message"], "nearest-status", "nearest-result"],
  ["#atlas-go", ["atlas-model-message"], "atlas-status", "atlas-result"],
  ["#start-go", ["start-models-message"], "start-status", "start-result"],
];
let awaited = null;
const wrongs = (way) => way[1].map((id) => document.querySelector(`#${id} .wrong`)).filter(Boolean);
const go = (way) => {
  const old = [...wrongs(way), document.querySelector(`#${way[3]} section`)];
  awaited = { way, old, until: Date.now() + 1500, followed: false, led: false };
  setTimeout(arrive, 1600);  // the same answer again changes nothing on the page
};
const arrive = () => {
  if (!awaited) return;
  const { way, old, until, followed, led } = awaited, place = document.getElementById(way[3]);
  const fresh = (element) => element && (!old.includes(element) || (!led && Date.now() > until));
  const wrong = wrongs(way).find(fresh), answer = fresh(place.querySelector("section"));
  if (document.querySelector(`#${way[2]} .progress`) && !followed) {
    awaited.followed = true;
    turn(document.getElementById(way[2]));
  }
  if (!wrong && !answer) return;
  // What was there before may be the answer, or the server is slow and the answer is still to come.
  if (old.includes(wrong || place.querySelector("section"))) awaited.led = true;
  else awaited = null;
  turn(wrong ? wrong.closest("[aria-live]") : place);
};
const turn = (target) => {
  target.tabIndex = -1;
  target.focus({ preventScroll: true });
  const { top, bottom } = target.getBoundingClientRect();
  if (innerWidth < 900 || top < 0 || Math.min(bottom, top + 200) > innerHeight) target.scrollIntoView({ block: "start" });
};
const dress = () => {
  for (const id of ["a", "b", "nearest-model", "atlas-model", "start-models"]) {
    const field = input(id);
    if (!field) continue;
    const wrong = document.querySelector(`#${id}-message .wrong`);
    field.setAttribute("aria-invalid", String(Boolean(wrong)));
    if (field.dataset.dressed) continue;
    field.dataset.dressed = "yes";
    field.setAttribute("aria-describedby", `${id}-message`);
    if (id === "start-models") continue;  // of many names
    const named = { role: "combobox", "aria-autocomplete": "list", "aria-controls": "names", "aria-expanded": "false",
      autocomplete: "off", spellcheck: "false", autocapitalize: "off" };
    for (const [name, value] of Object.entries(named)) field.setAttribute(name, value);
    field.addEventListener("input", (event) => { if (event.isTrusted) search(field); });
    field.addEventListener("focus", () => { field.select(); field.dataset.fresh = "yes"; });
    field.addEventListener("click", () => { if (field.dataset.fresh) field.select(); delete field.dataset.fresh; });
    field.addEventListener("blur", leave);
    field.addEventListener("keydown", keys, true);
  }
  for (const id of LIVE) document.getElementById(id)?.setAttribute("aria-live", "polite");
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    const text = plot.layout?.meta?.alt;
    if (text) { plot.setAttribute("role", "img"); plot.setAttribute("aria-label", text); }
  }
  arrive();
  for (const plot of document.querySelectorAll(".pickable .js-plotly-plot")) if (plot.on && !plot.dataset.dressed) pick(plot);
  for (const plot of document.querySelectorAll(".clickable .js-plotly-plot")) {
    if (plot.dataset.dressed || !plot.on) continue;
    plot.dataset.dressed = "yes";
    plot.on("plotly_click", ({ points: [point] }) => {
      const [a, b] = point.customdata;
      say(input("picked"), JSON.stringify([a, b, point.data.meta]));
    });
  }
};
const pick = (plot) => {  // a point of an atlas is asked about
  plot.dataset.dressed = "yes";
  plot.on("plotly_click", ({ points: [point] }) => {
    say(input("atlas-model"), point.customdata[0]);
    setTimeout(() => document.querySelector("#atlas-go").click(), 50);
  });
};
const copy = async (button) => {
  let text = button.dataset.text;
  if (button.dataset.kind === "link") text = location.origin + location.pathname + text;
  const said = button.parentElement.querySelector(".copied");
  try {
    await navigator.clipboard.writeText(text);
    said.textContent = `${button.dataset.kind} copied`;
  } catch {  // no permission, or no secure connection: show it, selected
    const field = document.createElement("textarea");
    field.value = text;
    field.setAttribute("aria-label", button.dataset.kind);
    said.replaceChildren(field);
    field.select();
  }
};
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("button");
  if (button?.matches(".copy")) copy(button);
  const way = button && WAYS.find(([begins]) => button.closest(begins));
  if (way) go(way);
}, true);
document.addEventListener("keydown", (event) => {
  // Gradio's lists open at every key, and after Tab nothing would close them.
  if (event.key === "Tab" && event.target.matches?.("input[role=combobox][aria-controls$=-options]")) event.stopPropagation();
  if (event.key !== "Enter" || event.shiftKey || chosen >= 0) return;
  if (event.target.closest?.("#a, #b")) go(WAYS[0]);
  if (event.target.closest?.("#nearest-model")) go(WAYS[1]);
  if (event.target.closest?.("#atlas-model")) go(WAYS[2]);
}, true);
for (const used of ["pointerdown", "keydown", "wheel"]) {
  addEventListener(used, () => { if (awaited?.led) awaited = null; }, true);  // the visitor has gone on: stay
}
addEventListener("resize", () => { const width = input("width"); if (width) say(width, String(innerWidth)); });
new MutationObserver(dress).observe(document.body, { childList: true, subtree: true });
dress();
