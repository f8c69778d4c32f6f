'use strict';
// RUN: { title, verdict, failed, options, end, members: [id], lines: [[time, kind, node, text, status]],
//   arrows: [[sent, arrives | -1, from, to, kind, delivered, text]], ops: [[client, call, return | -1, outcome, text, bad]],
//   faults: [[begin, end, [node], text, group]] }. Times are in microseconds.
// A status is [term, role, leader, last, persisted, commit, applied, revision]; a crash has none.
const $ = id => document.getElementById(id);
const LANE = 96, STRIP = 9, LEFT = 66, TOP = 20, OP = 20;
const ROLE = ['#e9edf3', '#d9c8f2', '#ffd873'];            // follower, (pre-)candidate, leader
const ROLES = ['follower', 'pre-candidate', 'candidate', 'leader'];
const FAULT = { cut: '#d62f2f', isolate: '#d62f2f', clog: '#e07b00', lossy: '#e07b00', disconnect: '#b0553a',
  crash: '#3b3f46', pause: '#5b6470', cpu: '#5b6470', clock: '#1f6fd1', disk: '#8a5a2b' };
const OUTCOME = { ok: '#57b374', error: '#e0a92e', refused: '#aab2bd', unknown: '#f3f3f3' };
const lanes = new Map(RUN.members.map((id, i) => [id, i]));
const clients = [...new Set(RUN.ops.map(o => o[0]))].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
let cursor = RUN.failed ? RUN.lines.length - 1 : 0;
let view = [0, RUN.end];
let hits = [], beats = false;

// Where each member stood after each of its events, in order of time.
const states = new Map(RUN.members.map(id => [id, []]));
RUN.lines.forEach((l, i) => { const s = states.get(l[2]); if (s && (l[4] || l[1] === 'crash')) s.push([l[0], i, l[4] || null]); });
// Bands: while a member keeps its role and term.
const bands = [];
for (const [id, list] of states) {
  let open = null;
  for (const [time, , s] of list) {
    const key = s ? s[1] + '@' + s[0] : 'down';
    if (open && open.key === key) continue;
    if (open) { open.end = time; bands.push(open); }
    open = { id, key, begin: time, end: RUN.end, role: s ? s[1] : -1, term: s ? s[0] : 0 };
  }
  if (open) bands.push(open);
}
const maxLast = Math.max(1, ...RUN.lines.map(l => l[4] ? l[4][3] : 0));
function stateAt(id, index) {
  const list = states.get(id); let low = 0, high = list.length;
  while (low < high) { const mid = (low + high) >> 1; if (list[mid][1] <= index) low = mid + 1; else high = mid; }
  return low ? list[low - 1][2] : null;
}
function fit(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth;
  canvas.width = width * ratio; canvas.height = height * ratio; canvas.style.height = height + 'px';
  const g = canvas.getContext('2d'); g.scale(ratio, ratio); g.clearRect(0, 0, width, height);
  return [g, width];
}
const seconds = t => (t / 1e6).toFixed(6);
function roleColour(role) { return role < 0 ? '#50555d' : role === 0 ? ROLE[0] : role === 3 ? ROLE[2] : ROLE[1]; }
function faultColour(text) {
  const word = text.split(' ')[0];
  if (word.startsWith('clock')) return FAULT.clock;
  if (['slow-disk', 'full-disk', 'failed-sync', 'read-errors', 'bit-rot', 'misdirected-write'].includes(word)) return FAULT.disk;
  if (word === 'slow-cpu') return FAULT.cpu;
  if (word === 'power-loss') return FAULT.crash;
  return FAULT[word] || '#888';
}
// Faults of one lane that overlap in time take a row each.
function faultRows() {
  const rows = new Map(RUN.members.map(id => [id, []]));
  return RUN.faults.flatMap(([begin, end, nodes, text]) => nodes.filter(n => rows.has(n)).map(node => {
    const ends = rows.get(node); let row = ends.findIndex(e => e <= begin);
    if (row < 0) row = ends.length < 3 ? ends.length : 2;
    ends[row] = end; return { begin, end, node, row, text };
  }));
}
const shades = faultRows();
const height = () => TOP + RUN.members.length * LANE + 10 + clients.length * OP + 10;

function overview() {
  const [g, width] = fit($('overview'), 20 + RUN.members.length * 18);
  const x = t => LEFT + (width - LEFT - 10) * t / RUN.end;
  g.font = '10px system-ui, DejaVu Sans'; g.textBaseline = 'middle';
  RUN.members.forEach((id, i) => { g.fillStyle = '#1b2330'; g.fillText('n' + id, 30, 15 + i * 18); });
  for (const b of bands) { g.fillStyle = roleColour(b.role); g.fillRect(x(b.begin), 8 + lanes.get(b.id) * 18, Math.max(1, x(b.end) - x(b.begin)), 14); }
  for (const s of shades) { g.fillStyle = faultColour(s.text); g.globalAlpha = .75; g.fillRect(x(s.begin), 18 + lanes.get(s.node) * 18, Math.max(1.5, x(s.end) - x(s.begin)), 4); }
  g.globalAlpha = 1;
  for (const o of RUN.ops) if (o[5]) { g.fillStyle = '#c22b2b'; g.fillRect(x(o[1]) - 1, 2, 3, 5); }
  g.fillStyle = '#66707f';
  const step = nice(RUN.end / 12);
  for (let t = 0; t <= RUN.end - step / 3; t += step) g.fillText((t / 1e6) + ' s', x(t), 13 + RUN.members.length * 18);
  g.strokeStyle = '#1f6fd1'; g.lineWidth = 1.5; g.fillStyle = '#1f6fd118';
  g.fillRect(x(view[0]), 1, x(view[1]) - x(view[0]), 8 + RUN.members.length * 18);
  g.strokeRect(x(view[0]), 1, Math.max(2, x(view[1]) - x(view[0])), 8 + RUN.members.length * 18);
}
function nice(value) { const p = 10 ** Math.floor(Math.log10(value)); return [1, 2, 5, 10].find(m => m * p >= value) * p; }

function picture() {
  const [g, width] = fit($('picture'), height());
  const span = Math.max(1, view[1] - view[0]);
  const x = t => LEFT + (width - LEFT - 10) * (t - view[0]) / span;
  const clip = t => Math.min(width - 10, Math.max(LEFT, x(t)));
  const mid = id => TOP + lanes.get(id) * LANE + LANE / 2 + 6;
  const lane = id => TOP + lanes.get(id) * LANE;
  g.textBaseline = 'middle';
  ticks(g, x, span, width);
  for (const b of bands) if (b.end >= view[0] && b.begin <= view[1]) band(g, b, clip(b.begin), clip(b.end), lane(b.id));
  for (const s of shades) if (s.end >= view[0] && s.begin <= view[1]) shade(g, s, clip(s.begin), clip(s.end), lane(s.node));
  RUN.members.forEach(id => {
    g.strokeStyle = '#9aa4b2'; g.lineWidth = 1; g.beginPath(); g.moveTo(LEFT, mid(id)); g.lineTo(width - 10, mid(id)); g.stroke();
    g.fillStyle = '#1b2330'; g.font = '600 14px system-ui, DejaVu Sans'; g.fillText('n' + id, 14, mid(id));
  });
  g.save(); g.beginPath(); g.rect(LEFT, 0, width - LEFT - 10, height()); g.clip();
  arrows(g, x, mid); points(g, x, mid); operations(g, x, clip);
  g.restore();
  clients.forEach((c, i) => { g.fillStyle = '#66707f'; g.font = '10px system-ui, DejaVu Sans'; g.fillText(c, 8, opTop() + i * OP + 9); });
  const now = RUN.lines[cursor];
  if (now) { const at = x(now[0]); g.strokeStyle = '#111'; g.setLineDash([4, 3]); g.beginPath(); g.moveTo(at, TOP - 6); g.lineTo(at, height()); g.stroke(); g.setLineDash([]); }
}
const opTop = () => TOP + RUN.members.length * LANE + 10;
function ticks(g, x, span, width) {
  const step = nice(span / 10); g.font = '10px system-ui, DejaVu Sans';
  for (let t = Math.ceil(view[0] / step) * step; t <= view[1]; t += step) {
    g.strokeStyle = '#eef1f5'; g.beginPath(); g.moveTo(x(t), TOP - 4); g.lineTo(x(t), height()); g.stroke();
    g.fillStyle = '#66707f'; g.fillText(step < 1e6 ? (t / 1e3).toFixed(step < 1e3 ? 2 : 0) + ' ms' : t / 1e6 + ' s', Math.min(x(t) + 2, width - 60), 9);
  }
}
function band(g, b, from, to, top) {
  g.fillStyle = roleColour(b.role); g.fillRect(from, top + 3 * STRIP + 2, Math.max(1, to - from), LANE - 3 * STRIP - 10);
  if (to - from > 34) {
    g.fillStyle = b.role < 0 ? '#fff' : '#3d4654'; g.font = '10px system-ui, DejaVu Sans';
    const text = b.role < 0 ? 'down' : (to - from > 100 ? ROLES[b.role] + ' ' : '') + 'term ' + b.term;
    g.fillText(text, from + 4, top + LANE - 16);
  }
}
function shade(g, s, from, to, top) {
  g.fillStyle = faultColour(s.text); g.globalAlpha = .16; g.fillRect(from, top + 3 * STRIP + 2, Math.max(1, to - from), LANE - 3 * STRIP - 10);
  g.globalAlpha = 1; g.fillRect(from, top + 1 + s.row * STRIP, Math.max(2, to - from), STRIP - 1);
  if (to - from > 40) { g.save(); g.beginPath(); g.rect(from, top, to - from - 2, 3 * STRIP); g.clip(); g.fillStyle = '#fff'; g.font = '8px system-ui, DejaVu Sans'; g.fillText(s.text, from + 3, top + 5 + s.row * STRIP); g.restore(); }
}
function arrows(g, x, mid) {
  const seen = RUN.arrows.filter(a => (a[1] < 0 ? a[0] : a[1]) >= view[0] && a[0] <= view[1] && (beats || !a[4].startsWith('Heartbeat')));
  const labels = seen.length < 90;
  for (const [sent, arrives, from, to, kind, delivered] of seen) {
    if (!lanes.has(from) || !lanes.has(to)) continue;
    const x0 = x(sent), y0 = mid(from), y1 = mid(to);
    const lost = !delivered, end = arrives < 0 ? sent + (view[1] - view[0]) / 60 : arrives;
    const part = lost ? .45 : 1, x1 = x0 + (x(end) - x0) * part, ye = y0 + (y1 - y0) * part;
    g.strokeStyle = lost ? '#d62f2f' : colour(kind); g.globalAlpha = seen.length > 600 ? .35 : .85; g.lineWidth = lost ? 1.2 : 1;
    g.setLineDash(lost ? [3, 2] : []); g.beginPath(); g.moveTo(x0, y0); g.lineTo(x1, ye); g.stroke(); g.setLineDash([]);
    if (lost) { g.beginPath(); g.moveTo(x1 - 3, ye - 3); g.lineTo(x1 + 3, ye + 3); g.moveTo(x1 - 3, ye + 3); g.lineTo(x1 + 3, ye - 3); g.stroke(); }
    else if (seen.length < 600) head(g, x0, y0, x1, ye);
    if (labels) { g.globalAlpha = 1; g.fillStyle = g.strokeStyle; g.font = '9px system-ui, DejaVu Sans'; g.fillText(kind, (x0 + x1) / 2 + 3, (y0 + ye) / 2); }
  }
  g.globalAlpha = 1;
}
function colour(kind) {
  if (kind.includes('Vote') || kind === 'CampaignNow') return '#8a3ffc';
  if (kind.includes('Chunk')) return '#8a5a2b';
  if (kind.includes('Read')) return '#1f6fd1';
  if (kind.startsWith('Append')) return '#2a8a5a';
  return '#7d8794';
}
function head(g, x0, y0, x1, y1) {
  const a = Math.atan2(y1 - y0, x1 - x0); g.fillStyle = g.strokeStyle; g.beginPath(); g.moveTo(x1, y1);
  g.lineTo(x1 - 6 * Math.cos(a - .4), y1 - 6 * Math.sin(a - .4)); g.lineTo(x1 - 6 * Math.cos(a + .4), y1 - 6 * Math.sin(a + .4)); g.fill();
}
function points(g, x, mid) {
  RUN.lines.forEach(([time, kind, node], i) => {
    if (time < view[0] || time > view[1] || !lanes.has(node) || !['disk', 'start', 'crash', 'ask'].includes(kind)) return;
    g.fillStyle = { disk: '#8a5a2b', start: '#23703a', crash: '#111', ask: '#1d6b3c' }[kind];
    const r = i === cursor ? 5 : kind === 'disk' ? 1.8 : 3; g.beginPath(); g.arc(x(time), mid(node), r, 0, 7); g.fill();
  });
}
// An operation whose outcome is unknown may take effect at any time; it is drawn until its client asks again.
const until = new Map();
for (const o of [...RUN.ops].reverse()) { if (o[2] < 0) o[6] = until.get(o[0]) ?? RUN.end; until.set(o[0], o[1]); }
function operations(g, x, clip) {
  for (const [client, call, back, outcome, text, bad, again] of RUN.ops) {
    const end = back < 0 ? again : back; if (end < view[0] || call > view[1]) continue;
    const y = opTop() + clients.indexOf(client) * OP, from = clip(call), to = Math.max(from + 2, clip(end));
    g.fillStyle = OUTCOME[outcome] || '#ccc'; g.fillRect(from, y, to - from, OP - 5);
    g.strokeStyle = bad ? '#c22b2b' : '#0003'; g.lineWidth = bad ? 3 : 1; g.setLineDash(back < 0 ? [3, 2] : []); g.strokeRect(from, y, to - from, OP - 5); g.setLineDash([]);
    if (to - from > 30) { g.save(); g.beginPath(); g.rect(from, y, to - from, OP); g.clip(); g.fillStyle = '#13261b'; g.font = (bad ? '600 ' : '') + '9.5px system-ui, DejaVu Sans'; g.fillText(text, from + 3, y + 8); g.restore(); }
  }
}

function tables() {
  const now = RUN.lines[cursor]; $('clock').textContent = now ? seconds(now[0]) + ' s' : '';
  const rows = RUN.members.map(id => {
    const s = stateAt(id, cursor); if (!s) return `<tr><td>n${id}</td><td colspan=8 style="text-align:left">down</td></tr>`;
    const part = (n, c) => `<span style="width:${100 * n / maxLast}%;background:${c}"></span>`;
    return `<tr><td>n${id}</td><td style="background:${roleColour(s[1])}">${ROLES[s[1]]}</td><td>${s[0]}</td><td>${s[2] ? 'n' + s[2] : '–'}</td><td>${s[3]}</td><td>${s[4]}</td><td>${s[5]}</td><td>${s[6]}</td><td>${s[7]}</td><td class=bar><div>${part(s[3], '#cfd8e3')}${part(s[4], '#a9bdd6')}${part(s[5], '#6f9ad3')}${part(s[6], '#2f6ab3')}</div></td></tr>`;
  });
  $('members').innerHTML = '<tr><th></th><th>role</th><th>term</th><th>leader</th><th>last</th><th>durable</th><th>commit</th><th>applied</th><th>revision</th><th title="light to dark: last, durable, committed, applied">log</th></tr>' + rows.join('');
  const list = $('events'); list.textContent = '';
  const shown = 17, from = Math.max(0, Math.min(cursor - 8, RUN.lines.length - shown));
  RUN.lines.slice(from, from + shown).forEach((l, k) => {
    const li = document.createElement('li'), i = from + k; li.textContent = seconds(l[0]).padStart(11) + '  ' + l[3];
    li.className = (i === cursor ? 'now ' : hits.includes(i) ? 'hit ' : '') + (l[1] === 'fault' ? 'fault' : l[1] === 'ask' || l[1] === 'answer' ? 'client' : '');
    li.onclick = () => go(i, false); list.append(li);
  });
  const at = now ? now[0] : 0;
  const faults = RUN.faults.filter(f => f[0] <= at && f[1] >= at).map(f => f[3]);
  const waiting = RUN.ops.filter(o => o[1] <= at && (o[2] < 0 || o[2] >= at)).map(o => `${o[0]}: ${o[4]}`);
  const flying = RUN.arrows.filter(a => a[0] <= at && a[1] >= at).length;
  $('detail').textContent = (now ? now[3] + '\n\n' : '') + 'faults: ' + (faults.join('\n        ') || 'none') + '\n\nunder way: ' + (waiting.join('\n           ') || 'nothing') + `\n\n${flying} messages on their way`;
}
function draw() { overview(); picture(); tables(); }
function go(index, follow = true) {
  cursor = Math.max(0, Math.min(RUN.lines.length - 1, index)); const time = RUN.lines[cursor] ? RUN.lines[cursor][0] : 0;
  if (follow && (time < view[0] || time > view[1])) { const half = (view[1] - view[0]) / 2; look(time - half, time + half); } else draw();
}
function look(from, to) {
  const span = Math.min(RUN.end, Math.max(200, to - from)); from = Math.max(0, Math.min(RUN.end - span, from)); view = [from, from + span]; draw();
}
function zoom(factor, time) { const at = time ?? (RUN.lines[cursor] ? RUN.lines[cursor][0] : 0); const c = Math.min(view[1], Math.max(view[0], at)); look(c - (c - view[0]) * factor, c + (view[1] - c) * factor); }
function violation() { if (RUN.lines.length) { const bad = RUN.ops.filter(o => o[5]); const at = bad.length ? bad[0][1] : RUN.lines[RUN.lines.length - 1][0]; const end = bad.length ? Math.max(...bad.map(o => o[2] < 0 ? o[1] : o[2])) : at; const pad = Math.max(60e3, (end - at) / 4); cursor = Math.max(0, RUN.lines.findIndex(l => l[0] >= at)); look(at - (bad.length ? pad : 4 * pad), end + pad); } }
function search(next) {
  const text = $('search').value.toLowerCase(); hits = text ? RUN.lines.flatMap((l, i) => l[3].toLowerCase().includes(text) ? [i] : []) : [];
  $('hits').textContent = text ? hits.length + ' found' : '';
  if (next && hits.length) go(hits.find(i => i > cursor) ?? hits[0]); else draw();
}
function act(name) {
  ({ first: () => go(0), last: () => go(RUN.lines.length - 1), back: () => go(cursor - 1), forward: () => go(cursor + 1), in: () => zoom(.5), out: () => zoom(2), all: () => look(0, RUN.end), violation })[name]();
}
document.querySelectorAll('nav button').forEach(b => b.onclick = () => act(b.dataset.do));
$('beats').onchange = e => { beats = e.target.checked; draw(); };
$('search').oninput = () => search(false); $('search').onkeydown = e => { e.stopPropagation(); if (e.key === 'Enter') search(true); };
document.onkeydown = e => {
  const name = { ArrowLeft: 'back', ArrowRight: 'forward', Home: 'first', End: 'last', '+': 'in', '=': 'in', '-': 'out', '0': 'all' }[e.key];
  if (name) { act(name); e.preventDefault(); } else if (e.key === '/') { $('search').focus(); e.preventDefault(); }
};
const timeAt = (canvas, e, range) => { const r = canvas.getBoundingClientRect(); return range[0] + (range[1] - range[0]) * (e.clientX - r.left - LEFT) / (r.width - LEFT - 10); };
$('overview').onclick = e => { const t = timeAt($('overview'), e, [0, RUN.end]), half = Math.min((view[1] - view[0]) / 2, RUN.end / 8); look(t - half, t + half); };
let drag = null;
$('picture').onmousedown = e => { drag = { x: e.clientX, view: [...view], moved: false }; };
window.onmousemove = e => { if (!drag) return; const dx = e.clientX - drag.x; if (Math.abs(dx) > 3) { drag.moved = true; const d = dx * (drag.view[1] - drag.view[0]) / $('picture').clientWidth; look(drag.view[0] - d, drag.view[1] - d); } };
window.onmouseup = e => {
  if (drag && !drag.moved && e.target === $('picture')) { const t = timeAt($('picture'), e, view); let best = 0; RUN.lines.forEach((l, i) => { if (Math.abs(l[0] - t) < Math.abs(RUN.lines[best][0] - t)) best = i; }); go(best, false); }
  drag = null;
};
$('picture').onwheel = e => { e.preventDefault(); zoom(e.deltaY > 0 ? 1.25 : .8, timeAt($('picture'), e, view)); };
window.onresize = draw;
$('title').textContent = RUN.title; $('verdict').textContent = RUN.verdict; $('verdict').className = RUN.failed ? 'bad' : 'good'; $('options').textContent = RUN.options;
$('legend').innerHTML = [['leader', ROLE[2]], ['candidate', ROLE[1]], ['follower', ROLE[0]], ['down', '#50555d'], ['cut', FAULT.cut], ['link', FAULT.clog], ['clock', FAULT.clock], ['disk', FAULT.disk], ['append', '#2a8a5a'], ['vote', '#8a3ffc'], ['lost', '#d62f2f']].map(([n, c]) => `<span><i style="background:${c}"></i>${n}</span>`).join('');
if (RUN.failed) violation(); else { const first = RUN.faults[0]; const at = first ? first[0] : 0; cursor = Math.max(0, RUN.lines.findIndex(l => l[0] >= at)); look(at - 300e3, at + 900e3); }
