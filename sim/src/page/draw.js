'use strict';
// The run, unpacked, and how it is drawn. RUN is what mod.rs writes: lines [time passed, kind, member or watcher, text,
// status if it has changed], arrows [time passed, took | -1, from, to, received, kind, term, first, second],
// faults [begin, end, [member], text], ops [client, call, return | -1, outcome, text, bad], texts. Times are microseconds.
// A status is [term, role, leader, last, durable, commit, applied, revision, last term].
const $ = id => document.getElementById(id);
const KINDS = ['deliver', 'wake', 'disk', 'ask', 'answer', 'watch', 'fault', 'start', 'crash', 'phase'];
const ROLES = ['follower', 'pre-candidate', 'candidate', 'leader'];
const FAULT = { cut: '#d62f2f', isolate: '#d62f2f', drop: '#d62f2f', clog: '#e07b00', lossy: '#e07b00', late: '#e07b00', disconnect: '#b0553a',
  crash: '#4b5058', 'power-loss': '#4b5058', pause: '#6b7480', 'slow-cpu': '#6b7480', 'clock-rate': '#1f6fd1', 'clock-jump': '#1f6fd1' };
const DISK = '#8a5a2b', MEMBERSHIP = '#0f8a80', OUTCOMES = ['#57b374', '#e0a92e', '#c9ced6'];
const STRIP = 11, PAD = 6, LEFT = 74, RIGHT = 12, TOP = 22, OP = 19;

let passed = 0, sent = 0;
const lines = RUN.lines.map(([dt, kind, node, text, status]) =>
  ({ t: passed += dt, kind: KINDS[kind], node, text: RUN.texts[text], status, beat: RUN.texts[text].includes(' Heartbeat') }));
const arrows = RUN.arrows.map(([dt, took, from, to, ok, kind, term, first, second]) => {
  const t0 = sent += dt, name = RUN.texts[kind];
  return { t0, t1: took < 0 ? null : t0 + took, from, to, ok: !!ok, kind: name, beat: name.startsWith('Heartbeat'), text: `n${from} → n${to} ${name}@${term} ${first} ${second}` };
});
const ops = RUN.ops.map(([client, call, back, outcome, text, bad], i) => ({ i, client, call, back, outcome, text, bad: !!bad }));
const faults = RUN.faults.map(([begin, end, nodes, text]) => ({ begin, end, nodes, text }));
// An operation whose outcome is unknown may take effect at any time; it is drawn until its client asks again.
const next = new Map();
for (const o of [...ops].reverse()) { o.end = o.back >= 0 ? o.back : next.get(o.client) ?? RUN.end; next.set(o.client, o.call); }
const suspects = ops.filter(o => o.bad).sort((a, b) => a.end - b.end);
const clients = [...new Set(ops.map(o => o.client))].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
const watchers = [...new Set(lines.filter(l => l.kind === 'watch').map(l => l.node))].sort((a, b) => a - b);
const rows = new Map([...clients.filter(c => c.startsWith('client')), ...watchers.map(w => 'watcher ' + w), ...clients.filter(c => !c.startsWith('client'))].map((name, i) => [name, i]));
// What is said of a member whose state is not there: a flight recorder sees one member only. Who joins later is not there yet, and who
// was removed does not come back.
const ABSENT = RUN.absent || 'down';
const born = new Map(RUN.members.map(id => [id, (lines.find(l => l.node === id && (l.kind === 'start' || l.status && l.kind !== 'watch')) || { t: RUN.end }).t]));
const leaves = (id, t) => faults.some(f => f.begin <= t && f.text === 'remove n' + id) && !lines.some(l => l.kind === 'start' && l.node === id && l.t > t);
const absence = (id, t) => RUN.absent ? ABSENT : t < born.get(id) ? 'not there yet' : leaves(id, t) ? 'removed' : ABSENT;
const lanes = new Map(RUN.members.map((id, i) => [id, i]));
// Whom the failure is about: who gave the last of the answers that do not fit, or the members that the text names.
const blamed = new Set(RUN.failed ? [...(suspects.length ? suspects[suspects.length - 1].text : RUN.why).matchAll(/\bn(\d+)\b/g)].map(m => +m[1]) : []);
const breaksAt = suspects.length ? suspects[suspects.length - 1].end : RUN.failed ? RUN.end : null;

// Where each member stood after each of its events; a crash has no status.
const states = new Map(RUN.members.map(id => [id, []]));
lines.forEach((l, i) => { const s = states.get(l.node); if (s && l.kind !== 'watch' && (l.status || l.kind === 'crash')) s.push([l.t, i, l.status || null]); });
// Bands: while a member keeps its role and term.
const bands = [];
for (const [id, list] of states) {
  let open = null;
  for (const [t, , s] of list) {
    const key = s ? s[1] + '@' + s[0] : 'down';
    if (open && open.key === key) continue;
    if (open) { open.end = t; bands.push(open); }
    open = { key, id, begin: t, end: RUN.end, role: s ? s[1] : -1, term: s ? s[0] : 0, absent: s ? '' : absence(id, t) };
  }
  if (open) bands.push(open);
}
function stateAt(id, index) {
  const list = states.get(id); let low = 0, high = list.length;
  while (low < high) { const m = (low + high) >> 1; if (list[m][1] <= index) low = m + 1; else high = m; }
  return low ? list[low - 1][2] : null;
}
// Faults of one lane that overlap in time take a row each.
const shades = (() => {
  const open = new Map(RUN.members.map(id => [id, []]));
  return faults.flatMap(f => f.nodes.filter(n => open.has(n)).map(node => {
    const ends = open.get(node); let row = ends.findIndex(e => e <= f.begin);
    if (row < 0) row = Math.min(ends.length, 2);
    ends[row] = f.end; return { ...f, node, row };
  }));
})();
// The room above a lane that its faults need.
const STRIPS = STRIP * Math.max(1, ...shades.map(s => s.row + 1));

// Squeezed time: a gap in which nothing happens takes hardly more room than a short one.
const squeezed = (() => {
  const times = [0, RUN.end];
  lines.forEach(l => { if (!l.beat && l.kind !== 'wake' && l.kind !== 'disk') times.push(l.t); });
  arrows.forEach(a => { if (!a.beat) times.push(a.t0); });
  ops.forEach(o => times.push(o.call, o.end)); faults.forEach(f => times.push(f.begin, f.end));
  const at = [...new Set(times)].filter(t => t >= 0 && t <= RUN.end).sort((a, b) => a - b);
  const gaps = at.slice(1).map((t, i) => t - at[i]).sort((a, b) => a - b);
  const cap = Math.max(200, gaps.length ? gaps[gaps.length >> 1] * 4 : 0);
  const room = [0];
  for (let i = 1; i < at.length; i++) { const g = at[i] - at[i - 1]; room.push(room[i - 1] + (g <= cap ? g : cap * (1 + Math.log2(g / cap)))); }
  return { at, room, cap };
})();
let squeeze = true, beats = false, cursor = 0, view = [0, RUN.end], hits = [], hit = new Set();
function between(from, to, v) {
  let low = 0, high = from.length - 1;
  if (v <= from[0]) return to[0] + v - from[0]; if (v >= from[high]) return to[high] + v - from[high];
  while (high - low > 1) { const m = (low + high) >> 1; if (from[m] <= v) low = m; else high = m; }
  return to[low] + (to[high] - to[low]) * (v - from[low]) / (from[high] - from[low] || 1);
}
const roomAt = t => squeeze ? between(squeezed.at, squeezed.room, t) : t;
const timeAtRoom = r => squeeze ? between(squeezed.room, squeezed.at, r) : r;
const timeAt = (width, x, range) => { const [a, b] = range.map(roomAt); return timeAtRoom(a + (b - a) * (x - LEFT) / (width - LEFT - RIGHT)); };

let C = {};
function readColours() {
  const css = getComputedStyle(document.documentElement);
  C = Object.fromEntries(['ink', 'dim', 'line', 'bad', 'sheet', 'follower', 'candidate', 'leader', 'down', 'grid', 'axis', 'band-ink', 'now', 'hit'].map(n => [n, css.getPropertyValue('--' + n).trim()]));
}
const FONT = 'system-ui, "DejaVu Sans", sans-serif';
function fit(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
  canvas.width = width * ratio; canvas.height = height * ratio; canvas.style.height = height + 'px';
  const g = canvas.getContext('2d'); g.scale(ratio, ratio); g.clearRect(0, 0, width, height); g.textBaseline = 'middle';
  return [g, width];
}
const roleColour = role => role < 0 ? C.down : role === 0 ? C.follower : role === 3 ? C.leader : C.candidate;
function faultColour(text) {
  const word = text.split(' ')[0];
  if (['slow-disk', 'full-disk', 'failed-sync', 'read-errors', 'bit-rot', 'misdirected-write', 'lost-disk'].includes(word)) return DISK;
  return FAULT[word] || MEMBERSHIP;
}
function arrowColour(kind) {
  if (kind.includes('Vote') || kind === 'CampaignNow') return '#8a3ffc';
  if (kind.includes('Chunk')) return DISK;
  if (kind.includes('Read')) return '#1f6fd1';
  if (kind.startsWith('Append')) return '#2a8a5a';
  return '#7d8794';
}
function nice(value) { const p = 10 ** Math.floor(Math.log10(value)); return [1, 2, 5, 10].find(m => m * p >= value) * p; }
const span = t => t >= 1e6 ? +(t / 1e6).toPrecision(3) + ' s' : t >= 1e3 ? +(t / 1e3).toPrecision(3) + ' ms' : Math.round(t) + ' µs';

function overview() {
  const n = RUN.members.length, each = n > 5 ? 11 : 14, height = 10 + n * each + 14;
  const [g, width] = fit($('overview'), height), room = roomAt(RUN.end) || 1;
  const x = t => LEFT + (width - LEFT - RIGHT) * roomAt(t) / room;
  g.font = '10px ' + FONT;
  RUN.members.forEach((id, i) => { g.fillStyle = blamed.has(id) ? C.bad : C.ink; g.fillText('n' + id, 30, 8 + i * each + each / 2); });
  for (const b of bands) { g.fillStyle = roleColour(b.role); g.fillRect(x(b.begin), 8 + lanes.get(b.id) * each, Math.max(1, x(b.end) - x(b.begin)), each - 2); }
  for (const s of shades) { g.fillStyle = faultColour(s.text); g.globalAlpha = .75; g.fillRect(x(s.begin), 8 + lanes.get(s.node) * each + each - 5, Math.max(1.5, x(s.end) - x(s.begin)), 3); }
  g.globalAlpha = 1;
  g.fillStyle = '#1f6fd1'; for (const i of hits) g.fillRect(x(lines[i].t), 0, 1, 6);
  for (const o of suspects) { g.fillStyle = C.bad; g.fillRect(x(o.call), 2, Math.max(3, x(o.end) - x(o.call)), 4); }
  if (breaksAt !== null) { g.fillStyle = C.bad; g.fillRect(x(breaksAt) - 1, 0, 2, height); }
  ticks(g, x, [0, RUN.end], width, height - 7, false, height);
  g.strokeStyle = '#1f6fd1'; g.lineWidth = 1.5; g.fillStyle = '#1f6fd118';
  const from = x(view[0]), to = Math.max(from + 3, x(view[1]));
  g.fillRect(from, 1, to - from, height - 16); g.strokeRect(from, 1, to - from, height - 16);
}
function ticks(g, x, range, width, y, lines_, height) {
  g.font = '10px ' + FONT; let last = -1e9;
  const mark = (t, label) => {
    const at = x(t); if (at - last < 62 || at > width - 40) return; last = at;
    if (lines_) { g.strokeStyle = C.grid; g.lineWidth = 1; g.beginPath(); g.moveTo(at, y + 8); g.lineTo(at, height); g.stroke(); }
    g.fillStyle = C.dim; g.fillText(label, at + 2, y);
  };
  if (!squeeze) {
    const step = nice((range[1] - range[0]) / 10);
    for (let t = Math.ceil(range[0] / step) * step; t <= range[1]; t += step) mark(t, step < 1e6 ? (t / 1e3).toFixed(step < 1e3 ? 2 : 0) + ' ms' : +(t / 1e6).toFixed(3) + ' s');
    return;
  }
  for (let px = LEFT; px < width - 60; px += 104) {
    const t = timeAt(width, px, range), local = timeAt(width, px + 104, range) - t, step = nice(Math.max(1, local / 12)), at = Math.max(range[0], Math.round(t / step) * step);
    mark(at, (at / 1e6).toFixed(Math.max(0, Math.min(6, 6 - Math.floor(Math.log10(step))))) + ' s');
  }
}

let LANE = 96, drawn = [];
const lane = id => TOP + lanes.get(id) * LANE;
const thick = () => LANE - STRIPS - PAD;
const mid = id => lane(id) + STRIPS + thick() * (thick() < 34 ? .36 : .45);
const opTop = () => TOP + RUN.members.length * LANE + 8;
function picture() {
  const room = $('stage').clientHeight - TOP - 16 - rows.size * OP;
  LANE = Math.max(62, Math.min(120, Math.floor(room / RUN.members.length)));
  const height = Math.max($('stage').clientHeight - 1, opTop() + rows.size * OP + 6);
  const [g, width] = fit($('picture'), height), [a, b] = view.map(roomAt), scale = (width - LEFT - RIGHT) / Math.max(1e-9, b - a);
  const x = t => LEFT + (roomAt(t) - a) * scale, clip = t => Math.min(width - RIGHT, Math.max(LEFT, x(t)));
  const seen = (from, to) => to >= view[0] && from <= view[1];
  ticks(g, x, view, width, 9, true, height);
  for (const s of bands) if (seen(s.begin, s.end)) band(g, s, clip(s.begin), clip(s.end), lane(s.id));
  for (const s of shades) if (seen(s.begin, s.end)) shade(g, s, clip(s.begin), clip(s.end), lane(s.node));
  if (squeeze) idle(g, x, width);
  for (const id of RUN.members) {
    g.strokeStyle = C.axis; g.lineWidth = 1; g.beginPath(); g.moveTo(LEFT, mid(id)); g.lineTo(width - RIGHT, mid(id)); g.stroke();
    g.fillStyle = blamed.has(id) ? C.bad : C.ink; g.font = '600 14px ' + FONT; g.fillText('n' + id, 14, mid(id));
  }
  g.save(); g.beginPath(); g.rect(LEFT, 0, width - LEFT - RIGHT, height); g.clip();
  suspicion(g, x, height); messages(g, x); points(g, x); operations(g, clip, seen); streams(g, x); breaks(g, x, height);
  g.restore();
  g.font = '10.5px ' + FONT;
  for (const [name, row] of rows) { g.fillStyle = suspects.some(o => o.client === name) ? C.bad : C.dim; g.fillText(name, 8, opTop() + row * OP + 8); }
  const now = lines[cursor];
  if (now && now.t >= view[0] && now.t <= view[1]) {
    const at = x(now.t); g.strokeStyle = C.ink; g.lineWidth = 1; g.setLineDash([4, 3]); g.beginPath(); g.moveTo(at, 2); g.lineTo(at, height); g.stroke(); g.setLineDash([]);
    if (lanes.has(now.node) && now.kind !== 'watch') { g.strokeStyle = C.ink; g.lineWidth = 2; g.beginPath(); g.arc(at, mid(now.node), 6, 0, 7); g.stroke(); }
  }
}
function idle(g, x, width) {
  const { at, cap } = squeezed; g.font = '9px ' + FONT;
  for (let i = 1; i < at.length; i++) {
    const gap = at[i] - at[i - 1]; if (gap < cap * 8 || at[i] < view[0] || at[i - 1] > view[1]) continue;
    const from = Math.max(LEFT, x(at[i - 1])), to = Math.min(width - RIGHT, x(at[i])); if (to - from < 34) continue;
    g.fillStyle = C.dim; g.globalAlpha = .8; const label = '· ' + span(gap) + ' ·'; g.fillText(label, (from + to) / 2 - g.measureText(label).width / 2, TOP - 3); g.globalAlpha = 1;
  }
}
function band(g, b, from, to, top) {
  g.fillStyle = roleColour(b.role); g.fillRect(from, top + STRIPS, Math.max(1, to - from), thick());
  const text = b.role < 0 ? b.absent : (to - from > 110 ? ROLES[b.role] + ', ' : '') + 'term ' + b.term;
  if (to - from > (b.role < 0 ? 34 : 46)) { g.fillStyle = b.role < 0 ? '#fff' : C['band-ink']; g.font = (b.role === 3 ? '600 ' : '') + '10.5px ' + FONT; g.fillText(text, from + 4, top + LANE - PAD - 7); }
}
function shade(g, s, from, to, top) {
  g.fillStyle = faultColour(s.text); g.globalAlpha = .13; g.fillRect(from, top + STRIPS, Math.max(1, to - from), thick());
  g.globalAlpha = 1; g.fillRect(from, top + s.row * STRIP, Math.max(2, to - from), STRIP - 1);
  if (to - from > 30) { g.save(); g.beginPath(); g.rect(from, top, to - from - 2, STRIPS); g.clip(); g.fillStyle = '#fff'; g.font = '9px ' + FONT; g.fillText(s.text, from + 3, top + s.row * STRIP + 5.5); g.restore(); }
}
function messages(g, x) {
  let seen = arrows.filter(a => (a.t1 ?? a.t0) >= view[0] && a.t0 <= view[1] && (beats || !a.beat) && lanes.has(a.from) && lanes.has(a.to));
  if (seen.length > 2500) { // What would be the same line is drawn once.
    const same = new Set();
    seen = seen.filter(a => { const key = Math.round(x(a.t0)) * 4096 + a.from * 256 + a.to * 16 + (a.ok ? 1 : 0) + (a.kind.includes('Vote') ? 2 : 0); return !same.has(key) && same.add(key); });
  }
  const labels = seen.length < 110, faint = seen.length > 900; drawn = [];
  for (const a of seen) {
    const x0 = x(a.t0), y0 = mid(a.from), y1 = mid(a.to), lost = !a.ok;
    const full = a.t1 === null ? x0 + 26 : x(a.t1), part = lost ? .42 : 1, x1 = x0 + (full - x0) * part, ye = y0 + (y1 - y0) * part;
    drawn.push([x0, y0, x1, ye, a]);
    g.strokeStyle = lost ? '#d62f2f' : arrowColour(a.kind); g.globalAlpha = faint ? .4 : .9; g.lineWidth = 1.1;
    g.setLineDash(lost ? [3, 2] : []); g.beginPath(); g.moveTo(x0, y0); g.lineTo(x1, ye); g.stroke(); g.setLineDash([]);
    if (lost) { g.beginPath(); g.moveTo(x1 - 3, ye - 3); g.lineTo(x1 + 3, ye + 3); g.moveTo(x1 - 3, ye + 3); g.lineTo(x1 + 3, ye - 3); g.stroke(); }
    else if (!faint) head(g, x0, y0, x1, ye);
  }
  g.globalAlpha = 1;
  if (labels) label(g);
}
// Labels where they fit: none on top of another.
function label(g) {
  const taken = []; g.font = '9.5px ' + FONT;
  for (const [x0, y0, x1, y1, a] of drawn) {
    const w = g.measureText(a.kind).width;
    for (const part of [.5, .3, .7]) {
      const left = x0 + (x1 - x0) * part + 4, y = y0 + (y1 - y0) * part, box = [left, y - 6, left + w, y + 6];
      if (taken.some(t => t[0] < box[2] && box[0] < t[2] && t[1] < box[3] && box[1] < t[3])) continue;
      taken.push(box); g.fillStyle = a.ok ? arrowColour(a.kind) : '#d62f2f'; g.fillText(a.kind, left, y); break;
    }
  }
}
function head(g, x0, y0, x1, y1) {
  const a = Math.atan2(y1 - y0, x1 - x0); g.fillStyle = g.strokeStyle; g.beginPath(); g.moveTo(x1, y1);
  g.lineTo(x1 - 6 * Math.cos(a - .4), y1 - 6 * Math.sin(a - .4)); g.lineTo(x1 - 6 * Math.cos(a + .4), y1 - 6 * Math.sin(a + .4)); g.fill();
}
function points(g, x) {
  const colours = { disk: DISK, start: '#23a050', crash: '#d62f2f', ask: '#1d8a4c' };
  const seen = lines.filter(l => l.t >= view[0] && l.t <= view[1] && colours[l.kind] && lanes.has(l.node));
  // Where there are many, what is asked and written steps back behind what starts and crashes.
  const many = seen.length > 500, last = new Map();
  for (const l of seen) {
    const small = l.kind === 'disk' || l.kind === 'ask', at = x(l.t), key = l.node + l.kind;
    if (small && many && at - (last.get(key) ?? -9) < 2) continue;
    last.set(key, at);
    g.fillStyle = colours[l.kind]; g.beginPath(); g.arc(at, mid(l.node), l.kind === 'disk' ? 1.8 : small && many ? 1.4 : 3.5, 0, 7); g.fill();
  }
}
function suspicion(g, x, height) {
  for (const o of suspects) { g.fillStyle = '#c22b2b14'; g.fillRect(x(o.call), TOP, Math.max(2, x(o.end) - x(o.call)), height - TOP); }
}
function operations(g, clip, seen) {
  for (const o of ops) {
    if (!seen(o.call, o.end)) continue;
    const y = opTop() + rows.get(o.client) * OP, from = clip(o.call), to = Math.max(from + 2, clip(o.end));
    g.fillStyle = OUTCOMES[o.outcome]; g.globalAlpha = o.bad || !suspects.length ? 1 : .55; g.fillRect(from, y, to - from, OP - 5); g.globalAlpha = 1;
    g.strokeStyle = o.bad ? C.bad : '#0004'; g.lineWidth = o.bad ? 2.5 : 1; g.setLineDash(o.back < 0 ? [3, 2] : []); g.strokeRect(from, y, to - from, OP - 5); g.setLineDash([]);
    if (to - from > 24) { g.save(); g.beginPath(); g.rect(from, y, to - from, OP); g.clip(); g.fillStyle = '#13261b'; g.font = (o.bad ? '700 ' : '') + '10px ' + FONT; g.fillText(o.text, from + 4, y + 7.5); g.restore(); }
  }
  for (const o of suspects) if (seen(o.call, o.end)) badge(g, clip(o.call), opTop() + rows.get(o.client) * OP + 7, suspects.indexOf(o) + 1);
}
function badge(g, x, y, number) {
  g.fillStyle = C.bad; g.beginPath(); g.arc(x, y, 8, 0, 7); g.fill();
  g.fillStyle = '#fff'; g.font = '700 10px ' + FONT; const text = String(number); g.fillText(text, x - g.measureText(text).width / 2, y + .5);
}
function streams(g, x) {
  const colours = { created: '#7d8794', events: '#57b374', progress: '#1f6fd1', canceled: '#d62f2f' };
  for (const l of lines) {
    if (l.kind !== 'watch' || l.t < view[0] || l.t > view[1]) continue;
    const y = opTop() + rows.get('watcher ' + l.node) * OP + 7, what = Object.keys(colours).find(n => l.text.includes(n));
    g.fillStyle = colours[what] || '#7d8794'; g.beginPath(); g.moveTo(x(l.t), y - 6); g.lineTo(x(l.t) + 5, y); g.lineTo(x(l.t), y + 6); g.lineTo(x(l.t) - 5, y); g.fill();
  }
}
function breaks(g, x, height) {
  if (breaksAt === null) return;
  const at = x(breaksAt); g.strokeStyle = C.bad; g.lineWidth = 2; g.beginPath(); g.moveTo(at, 2); g.lineTo(at, height); g.stroke();
  g.font = '700 10.5px ' + FONT; const text = RUN.rule, w = g.measureText(text).width + 10, left = at + w > $('picture').clientWidth - RIGHT ? at - w : at;
  g.fillStyle = C.bad; g.fillRect(left, TOP - 8, w, 15); g.fillStyle = '#fff'; g.fillText(text, left + 5, TOP);
}
