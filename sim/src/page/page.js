'use strict';
// What can be done with the page: the cursor, the view, search, keys. How a run is drawn is in draw.js.
const seconds = t => (t / 1e6).toFixed(6);
const shown = l => beats || !(l.beat || l.kind === 'wake');
const escape = text => text.replace(/[&<>"]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

function membersTable() {
  const at = RUN.members.map(id => [id, stateAt(id, cursor)]);
  const high = Math.max(1, ...at.map(([, s]) => s ? s[3] : 0)), low = Math.max(1, high - 27);
  const cell = (s, i) => `<i class="${i <= s[6] ? 'applied' : i <= s[5] ? 'committed' : i <= s[4] ? 'durable' : i <= s[3] ? 'held' : ''}" title="entry ${i}"></i>`;
  const row = ([id, s]) => {
    const name = `<td style="${blamed.has(id) ? 'color:var(--bad);font-weight:700' : ''}">n${id}</td>`;
    if (!s) return `<tr>${name}<td colspan=9 style="text-align:left">${absence(id, lines[cursor] ? lines[cursor].t : 0)}</td></tr>`;
    const cells = []; for (let i = low; i <= high; i++) cells.push(cell(s, i));
    return `<tr>${name}<td style="background:${roleColour(s[1])}">${ROLES[s[1]]}</td><td>${s[0]}</td><td>${s[2] ? 'n' + s[2] : '–'}</td><td>${s[3]}@${s[8]}</td><td>${s[4]}</td><td>${s[5]}</td><td>${s[6]}</td><td>${s[7]}</td><td class=log>${cells.join('')}</td></tr>`;
  };
  $('members').innerHTML = '<tr><th></th><th>role</th><th>term</th><th>leader</th><th title="last entry, and its term">last</th><th>durable</th><th>commit</th><th>applied</th><th title="of the store">rev</th>' +
    `<th class=log title="from dark to light: applied, committed, durable, held"><span>log ${low}</span><span>${high}</span></th></tr>` + at.map(row).join('');
}
function eventList() {
  const list = $('events'), place = []; list.textContent = '';
  for (let i = cursor, n = 0; i >= 0 && n < 7; i--) if (shown(lines[i]) || i === cursor) { place.unshift(i); n++; }
  for (let i = cursor + 1; i < lines.length && place.length < 40; i++) if (shown(lines[i])) place.push(i);
  const kinds = { fault: 'fault', start: 'fault', crash: 'fault', ask: 'client', answer: 'client', watch: 'client' };
  for (const i of place) {
    const li = document.createElement('li'), l = lines[i]; li.textContent = seconds(l.t).padStart(11) + '  ' + l.text; li.title = l.text;
    li.className = (i === cursor ? 'now ' : hit.has(i) ? 'hit ' : '') + (RUN.failed && !suspects.length && i === lines.length - 1 ? 'bad' : kinds[l.kind] || '');
    li.onclick = () => go(i); list.append(li);
  }
}
function detail() {
  const now = lines[cursor], t = now ? now.t : 0, part = (name, items) => items.length ? `${name}\n${items.map(i => '  ' + i).join('\n')}\n` : '';
  const on = faults.filter(f => f.begin <= t && f.end >= t).map(f => f.text);
  const waiting = ops.filter(o => o.call <= t && o.end >= t).map(o => `${o.bad ? '✗ ' : ''}${o.client}: ${o.text}`);
  const flying = arrows.filter(a => a.t0 <= t && a.t1 !== null && a.t1 > t && (beats || !a.beat)).map(a => a.text + (a.ok ? '' : '  (lost)'));
  $('detail').textContent = (now ? now.text + '\n\n' : '') + part('faults', on) + part('under way', waiting) + part('messages on their way', flying.slice(0, 12));
}
let planned = 0;
function draw() { if (!planned) planned = requestAnimationFrame(() => { planned = 0; $('clock').textContent = lines[cursor] ? seconds(lines[cursor].t) + ' s' : ''; overview(); picture(); membersTable(); eventList(); detail(); address(); }); }
let saving = 0;
function address() { clearTimeout(saving); saving = setTimeout(() => { try { history.replaceState(null, '', `#event=${cursor}&from=${Math.round(view[0])}&to=${Math.round(view[1])}`); } catch { /* Not everywhere. */ } }, 250); }

function go(index) {
  cursor = Math.max(0, Math.min(lines.length - 1, index)); const t = lines[cursor] ? lines[cursor].t : 0;
  if (t < view[0] || t > view[1]) { const [a, b] = view.map(roomAt), half = (b - a) / 2, at = roomAt(t); look(timeAtRoom(at - half), timeAtRoom(at + half)); } else draw();
}
function step(by, same) {
  const node = lines[cursor] && lines[cursor].kind !== 'watch' ? lines[cursor].node : 0;
  for (let i = cursor + by; i >= 0 && i < lines.length; i += by) if (shown(lines[i]) && (!same || lines[i].node === node && lines[i].kind !== 'watch')) return go(i);
}
// Ranges are moved and scaled in room, so that squeezed time moves as it looks.
function look(from, to) {
  const all = roomAt(RUN.end), least = squeeze ? 20 : 100; let [a, b] = [roomAt(from), roomAt(to)];
  const size = Math.min(all, Math.max(least, b - a)); a = Math.max(0, Math.min(all - size, a)); view = [timeAtRoom(a), timeAtRoom(a + size)]; draw();
}
function zoom(factor, time) {
  const t = Math.min(view[1], Math.max(view[0], time ?? (lines[cursor] ? lines[cursor].t : 0))), [a, b] = view.map(roomAt), at = roomAt(t);
  look(timeAtRoom(at - (at - a) * factor), timeAtRoom(at + (b - at) * factor));
}
// (Times of events are sums of differences.)
const firstAt = time => { const t = time - .02; let low = 0, high = lines.length; while (low < high) { const m = (low + high) >> 1; if (lines[m].t < t) low = m + 1; else high = m; } return Math.min(low, lines.length - 1); };
function lookAround(from, to, index) {
  const [a, b] = [roomAt(from), roomAt(to)], pad = Math.max((b - a) * .15, squeezed.cap * 6); cursor = index; look(timeAtRoom(a - pad), timeAtRoom(b + pad * .6));
}
function violation() {
  if (!lines.length || breaksAt === null) return;
  if (!suspects.length) return lookAround(lines[Math.max(0, lines.length - 60)].t, breaksAt, lines.length - 1);
  const last = suspects[suspects.length - 1]; lookAround(Math.min(...suspects.map(o => o.call)), last.end, firstAt(last.end));
}
let chosen = -1;
function suspect(by) { if (suspects.length) { chosen = (chosen + by + suspects.length) % suspects.length; const o = suspects[chosen]; lookAround(o.call, o.end, firstAt(o.call)); } }
function search(by) {
  const text = $('search').value.trim().toLowerCase(); hits = text ? lines.flatMap((l, i) => l.text.toLowerCase().includes(text) ? [i] : []) : []; hit = new Set(hits);
  const found = text ? ops.filter(o => o.text.toLowerCase().includes(text)) : [];
  if (text && !hits.length) { hits = found.map(o => firstAt(o.call)); hit = new Set(hits); }
  if (by && hits.length) { const i = by > 0 ? hits.find(i => i > cursor) ?? hits[0] : [...hits].reverse().find(i => i < cursor) ?? hits[hits.length - 1]; go(i); } else draw();
  $('hits').textContent = text ? `${hits.length ? hits.indexOf(cursor) + 1 + ' of ' : ''}${hits.length}` : '';
}
function dark(on) { document.documentElement.dataset.theme = on ? 'dark' : 'light'; readColours(); legend(); draw(); }
const toggle = (id, value) => { $(id).checked = value; $(id).onchange(); };
const deeds = { first: () => go(0), last: () => go(lines.length - 1), back: () => step(-1), forward: () => step(1), in: () => zoom(.5), out: () => zoom(2), all: () => look(0, RUN.end), violation,
  dark: () => dark(document.documentElement.dataset.theme !== 'dark'), help: () => $('help').open ? $('help').close() : $('help').showModal() };
document.querySelectorAll('nav button').forEach(b => b.onclick = () => deeds[b.dataset.do]());
$('beats').onchange = () => { beats = $('beats').checked; draw(); };
$('squeeze').onchange = () => { squeeze = $('squeeze').checked; draw(); };
$('search').oninput = () => search(0); $('search').onkeydown = e => { e.stopPropagation(); if (e.key === 'Enter') search(e.shiftKey ? -1 : 1); if (e.key === 'Escape') $('search').blur(); };
document.onkeydown = e => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const keys = { ArrowLeft: () => step(-1, e.shiftKey), ArrowRight: () => step(1, e.shiftKey), Home: deeds.first, End: deeds.last, '+': deeds.in, '=': deeds.in, '-': deeds.out, 0: deeds.all, v: violation,
    n: () => suspect(1), p: () => suspect(-1), s: () => toggle('squeeze', !squeeze), h: () => toggle('beats', !beats), d: deeds.dark, '?': deeds.help, '/': () => $('search').focus() };
  if (keys[e.key]) { keys[e.key](); e.preventDefault(); }
};

const stage = $('picture'), at = e => { const r = stage.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; };
$('overview').onclick = e => { const r = $('overview').getBoundingClientRect(), t = timeAt(r.width, e.clientX - r.left, [0, RUN.end]), [a, b] = view.map(roomAt), half = Math.min((b - a) / 2, roomAt(RUN.end) / 8), m = roomAt(t); look(timeAtRoom(m - half), timeAtRoom(m + half)); };
let drag = null;
stage.onmousedown = e => { drag = { x: e.clientX, room: view.map(roomAt), moved: false }; };
window.onmousemove = e => {
  if (!drag) return e.target === stage ? tip(e) : ($('tip').hidden = true);
  const dx = e.clientX - drag.x; if (Math.abs(dx) > 3) drag.moved = true;
  if (drag.moved) { const d = dx * (drag.room[1] - drag.room[0]) / (stage.clientWidth - LEFT - RIGHT); look(timeAtRoom(drag.room[0] - d), timeAtRoom(drag.room[1] - d)); }
};
window.onmouseup = e => { if (drag && !drag.moved && e.target === stage) pick(e); drag = null; };
stage.onwheel = e => { if (e.shiftKey) return; e.preventDefault(); zoom(e.deltaY > 0 ? 1.25 : .8, timeAt(stage.clientWidth, at(e)[0], view)); };
function near(x, y) {
  let best = null, least = 6;
  for (const [x0, y0, x1, y1, a] of drawn) {
    const l = (x1 - x0) ** 2 + (y1 - y0) ** 2, k = l ? Math.max(0, Math.min(1, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / l)) : 0;
    const d = Math.hypot(x - x0 - k * (x1 - x0), y - y0 - k * (y1 - y0)); if (d < least) { least = d; best = a; }
  }
  return best;
}
function under(e) {
  const [x, y] = at(e), t = timeAt(stage.clientWidth, x, view), slack = timeAt(stage.clientWidth, x + 4, view) - t;
  const row = Math.floor((y - opTop()) / OP), name = [...rows].find(([, r]) => r === row)?.[0];
  if (y >= opTop()) return { t, op: ops.find(o => o.client === name && o.call - slack <= t && o.end + slack >= t), line: lines.find(l => l.kind === 'watch' && 'watcher ' + l.node === name && Math.abs(l.t - t) < slack * 1.5) };
  const strip = shades.find(s => s.begin - slack <= t && s.end + slack >= t && y >= lane(s.node) + s.row * STRIP && y < lane(s.node) + (s.row + 1) * STRIP);
  return { t, fault: strip, arrow: near(x, y), node: RUN.members.find(id => y >= lane(id) && y < lane(id) + LANE) };
}
function tip(e) {
  const { op, fault, arrow, line } = under(e), box = $('tip');
  const text = op ? `${op.bad ? 'cannot be explained: ' : ''}${op.client}: ${op.text}\n${seconds(op.call)} – ${op.back < 0 ? 'never answered' : seconds(op.back)} s` : fault ? `${fault.text}\n${seconds(fault.begin)} – ${seconds(fault.end)} s`
    : line ? line.text : arrow ? `${arrow.text}\n${seconds(arrow.t0)} → ${arrow.t1 === null ? 'lost' : seconds(arrow.t1) + (arrow.ok ? '' : ' (not received)')}` : '';
  box.hidden = !text; if (!text) return; box.textContent = text;
  box.style.left = Math.min(e.clientX + 14, innerWidth - box.offsetWidth - 8) + 'px'; box.style.top = Math.min(e.clientY + 14, innerHeight - box.offsetHeight - 8) + 'px';
}
function pick(e) {
  const { t, op, arrow, node } = under(e), to = op ? op.call : arrow && arrow.ok && arrow.t1 !== null ? arrow.t1 : t;
  let best = firstAt(to), least = Infinity;
  for (let i = 0; i < lines.length; i++) { if (!shown(lines[i]) || node && !op && !arrow && lines[i].node !== node) continue; const d = Math.abs(lines[i].t - to) + (arrow && lines[i].text !== arrow.text ? .5 : 0); if (d < least) { least = d; best = i; } }
  go(best);
}
function legend() {
  const items = [['leader', C.leader], ['(pre-)candidate', C.candidate], ['follower', C.follower], [ABSENT, C.down], ['cut, dropped', FAULT.cut], ['bad link', FAULT.clog], ['clock', FAULT['clock-rate']], ['disk', DISK], ['operator', MEMBERSHIP],
    ['append', '#2a8a5a'], ['vote', '#8a3ffc'], ['read', '#1f6fd1'], ['lost ✗', '#d62f2f'], ['answered', OUTCOMES[0]], ['refused with an error', OUTCOMES[1]], ['outcome unknown', OUTCOMES[2]]];
  $('legend').innerHTML = items.map(([n, c]) => `<span><i style="background:${c}"></i>${n}</span>`).join('');
}
// What a stale answer comes to, in the words of this run.
function plainly() {
  if (RUN.rule !== 'real-time' || suspects.length !== 2) return null;
  const [early, late] = suspects, said = o => /@(\d+) by (n\d+)/.exec(o.text), [a, b] = [said(early), said(late)];
  if (!a || !b || early.back < 0 || early.back > late.call) return null;
  return `${b[2]} answered (2) from revision ${b[1]}, although ${a[2]} had answered (1) with revision ${a[1]}, ${span(late.call - early.back)} before (2) was asked.`;
}
// How everybody stood when it broke, and what was wrong just then.
function circumstances() {
  const last = suspects[suspects.length - 1], at = last ? firstAt(last.end) : lines.length - 1, t = breaksAt;
  const stood = RUN.members.map(id => { const s = stateAt(id, at); return s ? `n${id} ${s[1] === 3 ? 'leads' : ROLES[s[1]]} term ${s[0]}, commit ${s[5]}, applied ${s[6]}` : `n${id} is ${absence(id, t)}`; });
  const since = last ? Math.min(...suspects.map(o => o.call)) : t, on = [...new Set(faults.filter(f => f.begin <= t && f.end >= since && f.nodes.length).map(f => f.text))];
  return `then: ${stood.join(' · ')}` + (on.length ? `\nfaults: ${on.slice(0, 6).join(' · ')}${on.length > 6 ? ' · …' : ''}` : '');
}
function headline() {
  $('title').textContent = RUN.title; document.title = RUN.failed ? RUN.rule + ' – ' + RUN.title : RUN.title;
  $('verdict').textContent = RUN.failed ? 'violates: ' + RUN.rule : RUN.why; $('verdict').className = RUN.failed ? 'bad' : 'good'; $('options').textContent = RUN.options;
  $('jump').hidden = !RUN.failed; $('case').hidden = !RUN.failed; if (!RUN.failed) return;
  $('meaning').textContent = RUN.meaning; $('meaning').hidden = !RUN.meaning;
  // The operations are listed beneath, as buttons; the text need not list them again.
  $('why').textContent = plainly() ?? (suspects.length ? RUN.why.split('\n')[0] : RUN.why);
  $('then').textContent = circumstances();
  suspects.forEach((o, i) => { const li = document.createElement('li'), b = document.createElement('button'); b.innerHTML = `<b>${i + 1}</b> ${escape(o.client)}: ${escape(o.text)} <small>${seconds(o.call)} – ${o.back < 0 ? '?' : seconds(o.back)} s</small>`; b.onclick = () => { chosen = i - 1; suspect(1); }; li.append(b); $('suspects').append(li); });
}
function open() {
  headline(); dark(matchMedia('(prefers-color-scheme: dark)').matches);
  const asked = new URLSearchParams(location.hash.slice(1)), number = name => asked.has(name) && isFinite(+asked.get(name)) ? +asked.get(name) : null;
  if (asked.has('theme')) dark(asked.get('theme') === 'dark');
  if (asked.has('squeeze')) toggle('squeeze', asked.get('squeeze') !== 'off');
  if (asked.has('search')) { $('search').value = asked.get('search'); search(0); }
  if (RUN.failed) violation(); else {
    // The first fault, and no more than can be made out.
    const first = faults.length ? faults[0].begin : 0, at = firstAt(first), some = lines.slice(at).filter(l => shown(l) && l.kind !== 'disk');
    lookAround(first, some.length ? some[Math.min(some.length - 1, 250)].t : RUN.end, at);
  }
  if (number('from') !== null && number('to') !== null) look(number('from'), number('to'));
  if (number('event') !== null) go(number('event'));
}
window.onresize = draw;
open();
