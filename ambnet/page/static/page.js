// The page works without this. With it: what changes arrives by itself, a filter, the keyboard, light and dark.
"use strict";

const root = document.documentElement;

function stored(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    localStorage.setItem(name, value);
  } catch {
    // A browser that keeps nothing keeps nothing.
  }
  return null;
}

const theme = stored("theme");
if (theme === "dark" || theme === "light") root.dataset.theme = theme;

function switchTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  stored("theme", root.dataset.theme);
}

document.addEventListener("DOMContentLoaded", () => {
  const body = document.body;
  const input = document.getElementById("q");
  const lost = document.getElementById("lost");
  const nothing = document.getElementById("nothing");
  const beat = document.getElementById("beat");
  const service = document.querySelector(".whole")?.dataset.name ?? "";

  // Ages: the server's clock counts, not this machine's.

  let ahead = 0;
  const clock = (now) => { ahead = Date.now() / 1000 - now; };
  clock(Number(body.dataset.now));

  function age(seconds) {
    if (seconds >= 2 * 86400) return `${Math.floor(seconds / 86400)} d`;
    if (seconds >= 2 * 3600) return `${Math.floor(seconds / 3600)} h`;
    if (seconds >= 120) return `${Math.floor(seconds / 60)} min`;
    return `${Math.max(0, Math.floor(seconds))} s`;
  }

  function showAges(within) {
    const now = Date.now() / 1000 - ahead;
    for (const each of within.querySelectorAll("time")) {
      const { since, until } = each.dataset;
      const text = age(since === undefined ? Number(until) - now : now - Number(since));
      if (each.textContent !== text) each.textContent = text;
    }
  }

  // What changed.

  function parsed(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  }

  function replace(old, fresh) {
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && focused !== old ? [...old.querySelectorAll("a, button")].indexOf(focused) : -1;
    if (old.className !== fresh.className && fresh.matches(".seat")) fresh.classList.add("fresh");
    const unfolded = old.querySelector("details")?.open;
    if (unfolded) fresh.querySelector("details")?.setAttribute("open", "");
    old.replaceWith(fresh);
    if (focused === old) fresh.focus({ preventScroll: true });
    else if (place >= 0) fresh.querySelectorAll("a, button")[place]?.focus({ preventScroll: true });
  }

  function arrange(list, ids, made) {
    const keep = new Set(ids);
    for (const child of [...list.children]) if (!keep.has(child.id)) child.remove();
    let next = list.firstElementChild;
    for (const id of ids) {
      let child = list.querySelector(`:scope > #${id}`);
      if (!child) {
        child = made.get(id);
        if (!child) continue;
        made.delete(id);
        if (child.matches(".seat")) child.classList.add("fresh");
      }
      if (child === next) next = next.nextElementSibling;
      else list.insertBefore(child, next);
    }
  }

  function patch(news) {
    const made = new Map();
    for (const [id, html] of Object.entries(news.set)) made.set(id, parsed(html));
    for (const [id, ids] of Object.entries(news.lists)) {
      const list = document.getElementById(id);
      if (list) arrange(list, ids, made);
    }
    for (const [id, fresh] of made) {
      const old = document.getElementById(id);
      if (!old || !fresh) continue;
      const rows = fresh.matches("section.service") ? old.querySelector("tbody") : null;
      if (rows) continue; // a service's frame never changes; its parts come by themselves
      showAges(fresh);
      replace(old, fresh);
    }
    filter();
    showAges(document);
  }

  // Whether we hear anything.

  let heard = Date.now();
  let source;

  function alive(now) {
    heard = Date.now();
    clock(now);
    lost.hidden = true;
    root.dataset.live = "yes";
    beat.textContent = "live";
  }

  function silent(why) {
    root.dataset.live = "no";
    beat.textContent = "not live";
    lost.querySelector("span").textContent =
      `${why}: what is shown is from ${new Date(heard).toLocaleTimeString()}. Trying again.`;
    lost.hidden = false;
  }

  function connect() {
    const query = new URLSearchParams({ of: service, version: body.dataset.version });
    source = new EventSource(`${body.dataset.live}?${query}`);
    source.addEventListener("patch", (event) => {
      const news = JSON.parse(event.data);
      alive(news.now);
      patch(news);
    });
    source.addEventListener("beat", (event) => alive(JSON.parse(event.data).now));
    source.addEventListener("error", () => {
      silent("The server of this page does not answer");
      if (source.readyState === EventSource.CLOSED) {
        body.dataset.version = "";
        setTimeout(connect, 5000);
      }
    });
  }

  setInterval(() => {
    showAges(document);
    if (Date.now() - heard > 40000) silent("Nothing was heard of this page's server");
  }, 1000);

  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  // The filter.

  let filtered = false;

  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length && !filtered) {
      if (nothing) nothing.hidden = document.getElementById("services").childElementCount > 0;
      return;
    }
    filtered = words.length > 0;
    const matches = (text) => words.every((word) => text.includes(word));
    let shown = 0;
    const sections = service ? document.querySelectorAll(".whole") : document.querySelectorAll("#services > .service");
    for (const section of sections) {
      const whole = matches(section.dataset.name.toLowerCase());
      let rows = 0;
      for (const row of section.querySelectorAll("tr.seat")) {
        const hide = !whole && !matches(row.textContent.toLowerCase());
        if (row.hidden !== hide) row.hidden = hide;
        if (!hide) rows += 1;
      }
      const hide = !service && !whole && !rows;
      if (section.hidden !== hide) section.hidden = hide;
      if (!hide) shown += 1;
    }
    if (nothing) {
      nothing.hidden = shown > 0;
      nothing.textContent = words.length ? "Nothing here matches the filter." : "No service is known yet.";
    }
  }

  let written;
  input.addEventListener("input", () => {
    filter();
    clearTimeout(written);
    written = setTimeout(() => {
      const query = input.value ? `?${new URLSearchParams({ q: input.value })}` : location.pathname;
      history.replaceState(null, "", query);
    }, 300);
  });
  input.form.addEventListener("submit", (event) => { if (!service) event.preventDefault(); });

  // The keyboard.

  function move(step) {
    const items = [...document.querySelectorAll("#services h2 a, tr.seat")].filter((item) => item.checkVisibility());
    if (!items.length) return;
    const at = items.indexOf(document.activeElement);
    const to = items[at < 0 ? (step > 0 ? 0 : items.length - 1) : Math.min(Math.max(at + step, 0), items.length - 1)];
    to.focus();
    to.scrollIntoView({ block: "nearest" });
  }

  const keys = {
    "/": () => { input.focus(); input.select(); },
    j: () => move(1),
    k: () => move(-1),
    u: () => { if (service) location.href = "/"; },
    t: switchTheme,
    Escape: () => { input.value = ""; filter(); document.activeElement?.blur(); },
    Enter: () => {
      const href = document.activeElement?.dataset?.href;
      if (href && href !== location.pathname) location.href = href;
    },
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target === input) {
      if (event.key === "Escape") {
        input.value = "";
        input.dispatchEvent(new Event("input"));
        input.blur();
      } else if (event.key === "Enter" && !service) {
        event.preventDefault();
        input.blur();
        move(1);
      }
      return;
    }
    const act = keys[event.key];
    if (!act || (event.key === "Enter" && document.activeElement?.matches("a, button"))) return;
    if (event.key !== "Enter") event.preventDefault();
    act();
  });

  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", switchTheme);
  document.querySelector(".keys").hidden = false;

  showAges(document);
  filter();
  connect();
});
