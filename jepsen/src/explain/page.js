"use strict";
// Draws the picture: rows of bars, the order through them, and where it breaks. Only what is in view is drawn.
const D = JSON.parse(document.getElementById("data").textContent);
D.bars = D.bars.map(([id, process, call, end, text, kind, part, core]) =>
  ({ id, process, call, end, text: D.texts[text], kind: ["read", "write", "failed", "arrival"][kind], part, core }));
for (const p of D.parts) p.order = p.order.map(([bar, state]) => ({ bar, state: D.texts[state] }));
const $ = (id) => document.getElementById(id);
const view = $("view"), map = $("map"), tip = $("tip");
const GUTTER = 84, AXIS = 22, LANE = 16, GAP = 6;
const esc = (s) => String(s).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const below = (list, value, of) => { // first index whose key is not below the value
  let a = 0, b = list.length;
  while (a < b) { const m = (a + b) >> 1; if (of(list[m]) < value) a = m + 1; else b = m; }
  return a;
};

// --- Time ---------------------------------------------------------------------------------------------------
const moments = [...new Set(D.bars.flatMap((b) => (b.end === null ? [b.call] : [b.call, b.end])))].sort((a, b) => a - b);
if (!moments.length) moments.push(0);
const rank = (t) => {
  const i = below(moments, t, (m) => m);
  if (i === 0) return 0;
  if (i === moments.length) return moments.length - 1;
  return moments[i] === t ? i : i - 1 + (t - moments[i - 1]) / (moments[i] - moments[i - 1]);
};
const unrank = (x) => {
  const i = Math.max(0, Math.min(moments.length - 1, Math.floor(x)));
  const next = moments[Math.min(i + 1, moments.length - 1)];
  return moments[i] + (next - moments[i]) * (Math.max(0, x) - i);
};
let warped = true;
const X = (t) => (warped ? rank(t) : t - moments[0]);
const T = (x) => (warped ? unrank(x) : moments[0] + x);
const last = () => Math.max(1, X(moments[moments.length - 1]));
const time = (t) => {
  if (!D.ticks_per_second) return String(Math.round(t));
  const s = t / D.ticks_per_second;
  return s < 1 ? +(s * 1000).toFixed(3) + " ms" : s.toFixed(3) + " s";
};
const named = (i) => D.label + D.bars[i].id;

// --- Parts and rows -----------------------------------------------------------------------------------------
const offender = D.bars.findIndex((b) => b.core === 2);
const broken = D.verdict !== "invalid" ? -1 : offender >= 0 ? D.bars[offender].part : D.parts.findIndex((p) => p.stuck);
let part = D.parts.length > 1 ? broken : 0; // -1: all
const steps = D.bars.map(() => null); // by bar: its step in the order of its part
D.parts.forEach((p) => p.order.forEach((s, i) => (steps[s.bar] = { i, before: i ? p.order[i - 1].state : null, after: s.state })));
const watchers = [...new Set(D.bars.filter((b) => b.kind === "arrival").map((b) => b.process))].sort((a, b) => a - b);
let rows = [], height = 0, points = [];

function layout() {
  D.bars.forEach((b) => { b.x = X(b.call); b.z = b.end === null ? b.x : X(b.end); });
  const shown = D.bars.map((b, i) => i).filter((i) => part < 0 || D.bars[i].part === part);
  shown.sort((a, b) => D.bars[a].x - D.bars[b].x || a - b);
  const processes = new Map();
  for (const i of shown) {
    const p = D.bars[i].process;
    if (!processes.has(p)) processes.set(p, { names: [p], bars: [], from: D.bars[i].x, to: 0 });
    const row = processes.get(p);
    row.bars.push(i);
    row.to = Math.max(row.to, D.bars[i].z);
  }
  rows = [...processes.values()].sort((a, b) => a.names[0] - b.names[0]);
  if (rows.length > 32) rows = share(rows);
  let y = AXIS + GAP;
  for (const row of rows) {
    row.lanes = [];
    for (const i of row.bars) {
      let lane = row.lanes.findIndex((l) => D.bars[l[l.length - 1]].z <= D.bars[i].x);
      if (lane < 0) { lane = row.lanes.length; row.lanes.push([]); }
      row.lanes[lane].push(i);
      D.bars[i].y = y + lane * LANE;
    }
    row.y = y;
    y += row.lanes.length * LANE + GAP;
  }
  height = y;
  points = trace();
}

// Processes that do not overlap in time share a row: a client whose operation was never answered goes on under
// another number.
function share(all) {
  const rows = [];
  for (const row of [...all].sort((a, b) => a.from - b.from)) {
    const free = rows.find((r) => r.to < row.from);
    if (!free) { rows.push(row); continue; }
    free.names.push(...row.names);
    free.bars.push(...row.bars);
    free.to = row.to;
  }
  return rows.sort((a, b) => a.names[0] - b.names[0]);
}

// A point for every step: as late as the steps before demand, as early as those behind permit, in the middle.
function trace() {
  const p = D.parts[part < 0 ? broken : part];
  if (!p) return [];
  const early = [], n = p.order.length;
  for (let i = 0, x = 0; i < n; i++) early.push((x = Math.max(x, D.bars[p.order[i].bar].x)));
  const points = new Array(n);
  for (let i = n - 1, x = Infinity; i >= 0; i--) {
    const b = D.bars[p.order[i].bar];
    x = Math.min(x, b.end === null ? (x === Infinity ? early[i] + 1 : x) : b.z);
    points[i] = { x: (early[i] + Math.max(x, early[i])) / 2, y: b.y + LANE / 2, bar: p.order[i].bar };
  }
  return points;
}

// --- View ---------------------------------------------------------------------------------------------------
let left = 0, scale = 1, top_ = 0, width = 0, tall = 0, hover = -1, pinned = false, found = new Set();
const sx = (x) => GUTTER + (x - left) * scale;
const clamp = () => {
  const room = width - GUTTER - 30;
  scale = Math.max(room / (last() * 1.05), Math.min(scale, warped ? 120 : 1e9));
  left = Math.max(-20 / scale, Math.min(left, last() - room / scale + 30 / scale));
  if (last() * scale <= room) left = -10 / scale;
  top_ = Math.max(0, Math.min(top_, height - tall));
};
function whole() { scale = 0; clamp(); draw(); }
function focus(i, span) {
  const b = D.bars[i];
  if (part >= 0 && b.part !== part) choose(b.part);
  scale = (width - GUTTER) / (span || Math.max(40, (b.z - b.x) * 3)) / (warped ? 1 : last() / moments.length);
  clamp();
  left = (b.x + b.z) / 2 - (width - GUTTER) / 2 / scale;
  top_ = b.y - tall / 2;
  clamp();
  draw();
}
function size() {
  width = view.clientWidth || 800;
  tall = Math.max(120, Math.min(height + 8, Math.round(innerHeight * 0.62)));
  for (const [c, h] of [[view, tall], [map, 36]]) {
    c.style.height = h + "px";
    c.width = width * devicePixelRatio;
    c.height = h * devicePixelRatio;
  }
}
const context = (c) => {
  const g = c.getContext("2d");
  g.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  g.clearRect(0, 0, width, c.height);
  g.font = "11px system-ui, sans-serif";
  g.textBaseline = "middle";
  return g;
};

let asked = false;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; paint(); paintMap(); });
}
function paint() {
  const g = context(view), col = {};
  for (const n of ["text", "soft", "line", "read", "write", "failed", "arrival", "bad", "core", "order", "back", "panel"]) col[n] = css(n);
  paintBands(g, AXIS, tall, sx);
  g.save();
  g.beginPath();
  g.rect(GUTTER, AXIS, width - GUTTER, tall - AXIS);
  g.clip();
  for (const row of rows) {
    const y = row.y - top_;
    if (y > tall || y + row.lanes.length * LANE < 0) continue;
    g.fillStyle = col.line;
    g.fillRect(GUTTER, y + row.lanes.length * LANE + GAP / 2 - 1, width - GUTTER, 1);
    row.lanes.forEach((lane) => paintLane(g, lane, col));
  }
  paintOrder(g, col);
  g.restore();
  paintAxis(g, col);
  g.fillStyle = col.soft;
  g.textAlign = "left";
  for (const row of rows) {
    const y = row.y - top_ + LANE / 2;
    const name = D.bars[row.bars[0]].kind === "arrival" ? `watcher ${watchers.indexOf(row.names[0])}` : row.names.length > 1 ? `p ${row.names[0]}…${row.names[row.names.length - 1]}` : `process ${row.names[0]}`;
    if (y > AXIS && y < tall) g.fillText(name, 8, y, GUTTER - 12);
  }
}
function paintLane(g, lane, col) {
  const start = Math.max(0, below(lane, left, (i) => D.bars[i].z) - 1), end = left + (width - GUTTER) / scale;
  const fails = D.parts[broken] && part === broken && D.verdict === "invalid";
  let drawn = -1;
  for (let k = start; k < lane.length && D.bars[lane[k]].x <= end; k++) {
    const i = lane[k], b = D.bars[i], x = sx(b.x), y = b.y - top_;
    let w = Math.max(b.end === null ? 36 : (b.z - b.x) * scale, 1.5);
    if (b.end === null && k + 1 < lane.length) w = Math.max(3, Math.min(w, sx(D.bars[lane[k + 1]].x) - x));
    const special = b.core || i === hover || found.has(i);
    if (!special && x + w <= drawn) continue; // hidden behind its neighbour
    drawn = x + w;
    g.globalAlpha = special || !fails || steps[i] ? 1 : 0.45;
    if (b.end === null) {
      const fade = g.createLinearGradient(x, 0, x + w, 0);
      fade.addColorStop(0, col[b.kind]);
      fade.addColorStop(1, "transparent");
      g.fillStyle = fade;
    } else g.fillStyle = col[b.kind];
    g.fillRect(x, y + 1, w, LANE - 3);
    if (special) {
      g.strokeStyle = i === hover ? col.text : b.core === 2 ? col.bad : b.core ? col.core : col.order;
      g.lineWidth = 2;
      g.strokeRect(x, y + 1, w, LANE - 3);
    }
    if (w > 26) {
      g.fillStyle = col.text;
      g.textAlign = "left";
      g.save();
      g.beginPath();
      g.rect(x + 3, y, w - 5, LANE);
      g.clip();
      g.fillText(b.text, Math.max(x + 4, GUTTER + 4), y + LANE / 2);
      g.restore();
    }
    g.globalAlpha = 1;
  }
}
function paintOrder(g, col) {
  if (!$("line").checked || !points.length) return;
  const from = Math.max(0, below(points, left, (p) => p.x) - 1);
  const to = Math.min(points.length, below(points, left + (width - GUTTER) / scale, (p) => p.x) + 1);
  if (to - from > 2500) return; // it would be a blot
  g.strokeStyle = col.order;
  g.globalAlpha = to - from > 400 ? 0.35 : 0.8;
  g.lineWidth = 1.2;
  g.beginPath();
  for (let k = from; k < to; k++) g.lineTo(sx(points[k].x), points[k].y - top_);
  g.stroke();
  if (to - from < 250) {
    g.fillStyle = col.order;
    for (let k = from; k < to; k++) {
      g.beginPath();
      g.arc(sx(points[k].x), points[k].y - top_, 3, 0, 7);
      g.fill();
    }
  }
  g.globalAlpha = 1;
  const p = D.parts[part < 0 ? broken : part];
  if (!p || !p.stuck) return;
  const b = D.bars[p.stuck.bar], end = points[points.length - 1];
  const x = sx(Math.max(b.x, end ? Math.min(end.x, b.z) : b.x)), y = b.y - top_ + LANE / 2;
  g.strokeStyle = col.bad;
  g.lineWidth = 1.6;
  if (end && to === points.length) {
    g.setLineDash([5, 4]);
    g.beginPath();
    g.moveTo(sx(end.x), end.y - top_);
    g.lineTo(x, y);
    g.stroke();
    g.setLineDash([]);
  }
  g.lineWidth = 2.5;
  g.beginPath();
  for (const d of [-1, 1]) { g.moveTo(x - 5, y - 5 * d); g.lineTo(x + 5, y + 5 * d); }
  g.stroke();
}
function paintBands(g, y, bottom, sx) {
  const hues = {};
  for (const band of D.bands) {
    const hue = (hues[band.label.split(" ")[0]] ??= 10 + 67 * Object.keys(hues).length);
    const a = Math.max(sx(X(band.from)), y ? GUTTER : 0), z = Math.min(sx(X(band.to)), width);
    if (z <= a) continue;
    g.fillStyle = `hsl(${hue} 70% 50% / 0.14)`;
    g.fillRect(a, y, Math.max(z - a, 2), bottom - y);
    if (y && z - a > 30) {
      g.fillStyle = css("soft");
      g.textAlign = "left";
      g.fillText(band.label, a + 3, bottom - 8, z - a - 4);
    }
  }
}
function paintAxis(g, col) {
  g.fillStyle = col.panel;
  g.fillRect(0, 0, width, AXIS);
  g.fillStyle = col.soft;
  g.textAlign = "center";
  const count = Math.max(2, Math.floor((width - GUTTER) / 130));
  let before = -1;
  for (let k = 0; k <= count; k++) {
    // Evenly spaced moments are labelled where they are; nothing happens between them.
    const wish = left + ((width - GUTTER) * k) / count / scale, at = warped ? Math.round(wish) : wish, x = sx(at);
    if (x < GUTTER || x > width || (warped && (at === before || at < 0 || at >= moments.length))) continue;
    before = at;
    g.fillRect(x, AXIS - 4, 1, 4);
    if (x > GUTTER + 20 && x < width - 40) g.fillText(time(T(at)), x, AXIS / 2);
  }
}
let density = null;
function paintMap() {
  const g = context(map), unit = width / last();
  paintBands(g, 0, 36, (x) => x * unit);
  if (!density || density.length !== Math.ceil(width)) {
    density = new Array(Math.ceil(width)).fill(0);
    for (const row of rows) for (const i of row.bars) density[Math.min(density.length - 1, Math.floor(D.bars[i].x * unit))]++;
  }
  const most = Math.max(...density, 1);
  g.fillStyle = css("read");
  density.forEach((n, x) => n && g.fillRect(x, 36 - Math.max(2, (n / most) * 32), 1, 36));
  for (const row of rows) for (const i of row.bars) if (D.bars[i].core) {
    g.fillStyle = css(D.bars[i].core === 2 ? "bad" : "core");
    g.fillRect(D.bars[i].x * unit - 1, 0, 3, 36);
  }
  g.strokeStyle = css("text");
  g.strokeRect(Math.max(0.5, left * unit), 0.5, Math.max(4, ((width - GUTTER) / scale) * unit), 35);
}

// --- Details ------------------------------------------------------------------------------------------------
function at(x, y) {
  const t = left + (x - GUTTER) / scale, slack = 3 / scale;
  if (x < GUTTER || y < AXIS) return -1;
  for (const row of rows) for (const lane of row.lanes) {
    const b0 = D.bars[lane[0]];
    if (y + top_ < b0.y || y + top_ >= b0.y + LANE) continue;
    let k = below(lane, t + slack, (i) => D.bars[i].x) - 1;
    const b = D.bars[lane[k]];
    if (b && (b.z + slack >= t || (b.end === null && (t - b.x) * scale < 36))) return lane[k];
  }
  return -1;
}
function details(i) {
  const b = D.bars[i], p = D.parts[b.part], s = steps[i];
  let h = `<b>${esc(b.text)}</b><br>${named(i)} · ${b.kind === "arrival" ? "watcher" : "process"} ${b.process}`;
  if (p.name) h += ` · key ${esc(p.name)}`;
  h += `<br><span class="soft">${time(b.call)} – ${b.end === null ? "never answered" : time(b.end)}</span>`;
  if (s) {
    h += `<br>step ${s.i + 1} of ${p.order.length}<br>`;
    if (s.before !== null) h += `before: ${esc(s.before)}<br>`;
    h += `after: ${esc(s.after)}`;
  } else if (p.stuck && p.stuck.bar === i) {
    h += `<br><span class="bad">fits nowhere${p.stuck.exhaustive ? "" : " (not every order was tried)"}</span>`;
    for (const [state, way] of p.stuck.states.slice(0, 6))
      h += `<br>after ${way.map(named).join(", ") || "nothing"} the state is ${esc(state)}`;
  } else if (p.order.length) h += `<br><span class="soft">not in the order: it breaks before</span>`;
  if (b.core) h += `<br><span class="bad">${D.cycles.length ? "part of what cannot be" : b.core === 2 ? "the operation that cannot be explained" : "needed to see why"}</span>`;
  return h;
}
function showTip(i, x, y) {
  tip.hidden = i < 0;
  if (i < 0) return;
  tip.innerHTML = details(i);
  const w = tip.offsetWidth, h = tip.offsetHeight;
  tip.style.left = Math.max(4, Math.min(x + 14, width - w - 6)) + "px";
  tip.style.top = (y + h + 24 > tall && y > h + 14 ? y - h - 10 : y + 16) + "px";
}
function jump(i) {
  hover = i;
  focus(i, warped ? 60 : 60);
  pinned = true;
  showTip(i, sx((D.bars[i].x + D.bars[i].z) / 2), D.bars[i].y - top_);
  history.replaceState(null, "", "#op=" + D.bars[i].id);
}
const breaking = () => {
  const p = D.parts[broken];
  return p && p.stuck && p.stuck.exhaustive ? p.stuck.bar : offender;
};

// --- Hands --------------------------------------------------------------------------------------------------
const place = (e) => { const r = view.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; };
view.addEventListener("wheel", (e) => {
  e.preventDefault();
  const [x] = place(e), t = left + (x - GUTTER) / scale;
  if (e.shiftKey) top_ += e.deltaY;
  else if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) left += e.deltaX / scale;
  else { scale *= Math.exp(-e.deltaY / 400); clamp(); left = t - (x - GUTTER) / scale; }
  clamp();
  draw();
}, { passive: false });
let drag = null;
view.addEventListener("pointerdown", (e) => { drag = { x: e.clientX, y: e.clientY, left, top_, moved: false }; view.setPointerCapture(e.pointerId); });
view.addEventListener("pointermove", (e) => {
  const [x, y] = place(e);
  if (drag) {
    const dx = e.clientX - drag.x, dy = e.clientY - drag.y;
    drag.moved ||= Math.abs(dx) + Math.abs(dy) > 4;
    if (!drag.moved) return;
    view.classList.add("drag");
    left = drag.left - dx / scale;
    top_ = drag.top_ - dy;
    pinned = false;
    tip.hidden = true;
    clamp();
    draw();
  } else if (!pinned) {
    const i = at(x, y);
    if (i !== hover) { hover = i; draw(); }
    showTip(i, x, y);
  }
});
view.addEventListener("pointerup", (e) => {
  view.classList.remove("drag");
  if (drag && !drag.moved) {
    const [x, y] = place(e), i = at(x, y);
    pinned = i >= 0;
    hover = i;
    showTip(i, x, y);
    if (i >= 0) history.replaceState(null, "", "#op=" + D.bars[i].id);
    draw();
  }
  drag = null;
});
view.addEventListener("pointerleave", () => { if (!pinned) { hover = -1; tip.hidden = true; draw(); } });
view.addEventListener("keydown", (e) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
  if (step) { left += (step[0] * 120) / scale; top_ += step[1] * 40; }
  else if (e.key === "+" || e.key === "-") scale *= e.key === "+" ? 1.4 : 1 / 1.4;
  else if (e.key === "Escape") { pinned = false; tip.hidden = true; hover = -1; }
  else return;
  e.preventDefault();
  clamp();
  draw();
});
const slide = (e) => { if (e.buttons || e.type === "click") { left = (e.offsetX / width) * last() - (width - GUTTER) / 2 / scale; clamp(); draw(); } };
map.addEventListener("click", slide);
map.addEventListener("pointermove", slide);
function choose(p) { part = p; $("part").value = p; density = null; layout(); size(); }
$("part").addEventListener("change", () => { choose(+$("part").value); tip.hidden = true; whole(); });
$("warp").addEventListener("change", () => { warped = $("warp").checked; density = null; layout(); whole(); if (breaking() >= 0) focus(breaking(), 60); });
$("line").addEventListener("change", draw);
$("all").addEventListener("click", () => { tip.hidden = true; pinned = false; whole(); });
$("jump").addEventListener("click", () => jump(breaking()));
let next = 0;
$("find").addEventListener("input", () => {
  const text = $("find").value.trim().toLowerCase(), id = /^(#|op |t)(\d+)$/.test(text) ? +text.replace(/^\D+/, "") : NaN;
  found = new Set(text ? D.bars.map((b, i) => i).filter((i) => (isNaN(id) ? D.bars[i].text.toLowerCase().includes(text) : D.bars[i].id === id)) : []);
  next = 0;
  draw();
});
$("find").addEventListener("keydown", (e) => { const all = [...found]; if (e.key === "Enter" && all.length) jump(all[next++ % all.length]); });
addEventListener("resize", () => { density = null; size(); clamp(); draw(); });

// --- Text around --------------------------------------------------------------------------------------------
function table(box, head, lines, click) {
  const t = box.querySelector("table");
  t.innerHTML = "<tr>" + head.map((h) => `<th>${h}</th>`).join("") + "</tr>";
  for (const [cells, value, type] of lines) {
    const tr = document.createElement("tr");
    tr.className = "link " + (type || "");
    tr.innerHTML = cells.map((c) => `<td>${esc(c)}</td>`).join("");
    tr.onclick = () => click(value);
    t.append(tr);
  }
  box.hidden = false;
}
function fill() {
  $("verdict").textContent = D.verdict;
  $("verdict").className = D.verdict;
  $("title").textContent = D.title;
  const unknown = D.bars.filter((b) => b.end === null).length;
  const arrived = D.bars.filter((b) => b.kind === "arrival").length;
  $("facts").textContent = `${D.model} · ${D.bars.length - arrived} operations, ${arrived ? arrived + " arrivals on watches, " : ""}${unknown} of unknown outcome · ` +
    [D.parts.length > 1 ? D.parts.length + " keys" : "", D.rule ? "rule: " + D.rule : ""].filter((t) => t).join(" · ");
  $("why").innerHTML = D.why.map((w) => `<li>${esc(w)}</li>`).join("");
  if (D.parts.length > 1) {
    $("part").innerHTML = `<option value="-1">all</option>` + D.parts.map((p, i) => `<option value="${i}">${esc(p.name)}</option>`).join("");
    $("part").value = part;
    const count = D.parts.map(() => 0);
    D.bars.forEach((b) => count[b.part]++);
    const lines = D.parts.map((p, i) => [[p.name, count[i], p.order.length, p.stuck ? (i === broken ? "breaks" : "undecided here") : ""], i, i === broken ? "offender" : ""]);
    table($("partlist"), ["key", "operations", "in the order", ""], lines.sort((a, b) => (b[2] > a[2]) - (b[2] < a[2])).slice(0, 200), (i) => { choose(i); whole(); });
  } else $("part").parentElement.hidden = true;
  const core = D.bars.map((b, i) => i).filter((i) => D.bars[i].core).sort((a, b) => D.bars[a].call - D.bars[b].call);
  const skipped = core.splice(0, Math.max(0, core.length - 40)).length;
  if (skipped) $("core").querySelector("h2").textContent += ` (and ${skipped} earlier operations)`;
  if (core.length)
    table($("core"), ["op", "process", "from", "to", "what"], core.map((i) => {
      const b = D.bars[i];
      return [[named(i), b.process, time(b.call), b.end === null ? "?" : time(b.end), b.text], i, b.core === 2 ? "offender" : ""];
    }), jump);
  $("jump").hidden = breaking() < 0;
  const meanings = { read: "read", write: "write", failed: "failed or refused", arrival: "arrived on a watch" };
  const kinds = new Set(D.bars.map((b) => b.kind));
  $("legend").innerHTML = Object.keys(meanings).filter((k) => kinds.has(k)).map((k) => `<i style="background:var(--${k})"></i>${meanings[k]}`).join("") +
    (unknown ? `<i style="background:linear-gradient(90deg,var(--write),transparent)"></i>never answered` : "");
  D.cycles.forEach((c) => cycle(c));
}
// A cycle as a ring of transactions, each arrow from the earlier to the later.
function cycle(c) {
  const box = $("cycles"), n = c.edges.length, W = 660, half = { w: 108, h: 20 };
  const rx = n < 3 ? 0 : 200, ry = n === 1 ? 0 : n === 2 ? 80 : Math.max(95, 34 * n);
  const raw = c.edges.map((_, k) => [rx * Math.sin((2 * Math.PI * k) / n), -ry * Math.cos((2 * Math.PI * k) / n)]);
  const low = Math.min(...raw.map((p) => p[1])), H = Math.max(...raw.map((p) => p[1])) - low + 2 * half.h + 24;
  const spots = raw.map(([x, y]) => [W / 2 + x, y - low + half.h + 12]);
  const colour = { ww: "#cf222e", wr: "#8250df", rw: "#bf8700", process: "#57606a", realtime: "#0969da" };
  const cut = (s) => (s.length > 34 ? s.slice(0, 33) + "…" : s);
  let lines = "", words = "", nodes = "", list = "";
  if (n < 2) return;
  c.edges.forEach((e, k) => {
    const [a, b] = [spots[k], spots[(k + 1) % n]], d = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
    const u = [(b[0] - a[0]) / d, (b[1] - a[1]) / d], bend = n === 2 ? 60 : 0;
    const m = [(a[0] + b[0]) / 2 - u[1] * bend, (a[1] + b[1]) / 2 + u[0] * bend];
    // The arrow ends where it meets the box, coming from the bend.
    const v = [b[0] - m[0], b[1] - m[1]], t = Math.min(half.w / Math.max(Math.abs(v[0]), 1e-9), half.h / Math.max(Math.abs(v[1]), 1e-9));
    const z = [b[0] - v[0] * t, b[1] - v[1] * t], col = colour[e.kind] || colour.process;
    const f = Math.hypot(v[0], v[1]), w = [v[0] / f, v[1] / f]; // which way the arrow points
    const l = [a[0] / 4 + m[0] / 2 + z[0] / 4, a[1] / 4 + m[1] / 2 + z[1] / 4];
    lines += `<path d="M${a[0]},${a[1]} Q${m[0]},${m[1]} ${z[0]},${z[1]}" fill="none" stroke="${col}" stroke-width="1.8"/>` +
      `<path d="M${z[0]},${z[1]} l${-9 * w[0] - 4 * w[1]},${-9 * w[1] + 4 * w[0]} l${8 * w[1]},${-8 * w[0]} z" fill="${col}"/>`;
    words += `<text class="edge" x="${l[0]}" y="${l[1] + 4}" text-anchor="middle" style="fill:${col}">${esc(e.kind)}</text>`;
    list += `<li>${named(e.from)} before ${named(e.to)} (${esc(e.kind)}): ${esc(e.because)}</li>`;
  });
  c.edges.forEach((e, k) => {
    const [x, y] = spots[k];
    nodes += `<g class="node" data-bar="${e.from}" style="cursor:pointer"><rect x="${x - half.w}" y="${y - half.h}" width="${2 * half.w}" height="${2 * half.h}" rx="5" fill="var(--panel)" stroke="var(--line)"/>` +
      `<text x="${x}" y="${y - 4}" text-anchor="middle" font-weight="600">${named(e.from)}</text><text x="${x}" y="${y + 12}" text-anchor="middle">${esc(cut(D.bars[e.from].text))}</text></g>`;
  });
  const div = document.createElement("div");
  div.innerHTML = `<h3>${esc(c.name)}</h3><svg viewBox="0 0 ${W} ${H}">${lines}${words}${nodes}</svg><ol>${list}</ol>`;
  div.querySelectorAll(".node").forEach((g) => (g.onclick = () => jump(+g.dataset.bar)));
  box.append(div);
  box.hidden = false;
}

fill();
layout();
size();
whole();
const wanted = /^#op=(\d+)$/.exec(location.hash);
const linked = wanted ? D.bars.findIndex((b) => b.id === +wanted[1]) : -1;
if (linked >= 0) jump(linked);
else if (breaking() >= 0) jump(breaking());
