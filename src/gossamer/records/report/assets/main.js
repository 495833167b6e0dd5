// Puts the page together.

const SECTIONS = [['overview', 'Overview'], ['runs', 'Runs'], ['pareto', 'Cost'], ['curves', 'Curves'],
  ['layers', 'Layers'], ['axes', 'Axes'], ['unfinished', 'Not finished']];

function showUnfinished() {
  if (!D.cut.length) return;
  const by = ['failed', 'preempted'].map((status) => [status, D.cut.filter((run) => run.status === status)])
    .filter(([, runs]) => runs.length).map(([status, runs]) => `${runs.length} ${status}`);
  fill($('unfinished-body'),
    h('p', {class: 'lead'}, `${by.join(', ')}: in no table and no mean above. `,
      'A preempted run goes on with ', h('code', {}, 'gossamer resume RUN'), '.'),
    plainTable([['status'], ['run'], ['error'], ['when, UTC'], ['folder']], D.cut.map((run) => [
      h('span', {class: `status ${run.status}`}, run.status),
      h('a', {href: address({...S, run: run.key, diff: null}), onclick: (event) => { event.preventDefault(); openRun(run.key); }},
        `${run.name} · ${run.method} · seed ${run.seed}`),
      run.error, day(run.finished), run.path]), 'Runs that did not finish'));
}

function showTray() {
  const runs = D.runs.filter((run) => S.sel.has(run.key));
  $('tray').hidden = !runs.length || Boolean(S.run);
  if (!runs.length) return;
  const labels = new Map(); // seeds of one configuration are named once
  for (const run of runs) {
    const label = run.of ? run.of.label : run.method;
    labels.set(label, [...(labels.get(label) ?? []), run]);
  }
  const most = 5;
  fill($('tray'), h('strong', {}, count(runs.length, 'run'), ' selected'),
    h('ul', {}, [...labels].slice(0, most).map(([label, [run, ...more]]) => h('li', {title: label}, swatch(run.method),
      runLink(run, cutTo(label, 36)), h('span', {class: 'muted'}, more.length ? `${more.length + 1} seeds` : `seed ${run.seed}`))),
    labels.size > most && h('li', {}, `and ${labels.size - most} more`)),
    h('button', {type: 'button', class: 'quiet', id: 'clear', onclick: () => change({sel: new Set()})}, 'Clear'));
}

function setTheme(theme, kept = true) {
  document.documentElement.dataset.theme = theme;
  $('theme').textContent = theme === 'dark' ? 'Light' : 'Dark';
  $('theme').setAttribute('aria-label', `Switch to the ${theme === 'dark' ? 'light' : 'dark'} theme`);
  if (kept) {
    try { localStorage.setItem('gossamer theme', theme); } catch { /* private */ }
  }
}

function startTheme() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  let kept = null;
  try { kept = localStorage.getItem('gossamer theme'); } catch { /* private */ }
  setTheme(kept ?? (system.matches ? 'dark' : 'light'), false);
  system.addEventListener('change', (event) => {
    if (kept === null) { setTheme(event.matches ? 'dark' : 'light', false); repaint(); }
  });
  $('theme').addEventListener('click', () => {
    kept = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
    setTheme(kept);
    repaint();
  });
}

/** Colours are in markers too, so everything with one is made again. */
function repaint() {
  $('run').dataset.shown = '';
  show();
  redraw();
}

function showCounts() {
  const cut = D.cut.length ? `, ${D.cut.length} not finished` : '';
  $('counts').textContent = `${count(D.finished.length, 'run')}${cut} · ${D.sources.join(' ')}`;
  $('about').textContent = `Built ${day(D.built)} UTC from records on disk. ± is half of a 95% t interval over seeds. ` +
    'Theoretical, storage, measured and modelled figures are kept apart; “no speed-up” is said as plainly as one.';
  fill($('notes'), D.notes.length > 0 && h('details', {}, h('summary', {}, count(D.notes.length, 'note'), ' on what was left out'),
    h('ul', {}, D.notes.map((note) => h('li', {}, note)))));
  $('unfinished').hidden = !D.cut.length;
  fill($('nav'), SECTIONS.filter(([id]) => !$(id).hidden).map(([id, title]) => h('a', {href: `#${id}`,
    onclick: (event) => {
      event.preventDefault();
      if (S.run) change({run: null, diff: null}, true);
      scrollTo(event, id);
    }}, title)));
}

async function start() {
  await unpack();
  makeColumns();
  startTheme();
  readState();
  restoreShown();
  showCounts();
  buildTable();
  for (const part of [showOverview, showTable, showPareto, showCurves, showLayers, showParallel, showUnfinished, showTray, showRun]) onChange(part);
  $('main').hidden = false;
  $('loading').remove();
  show();
  const again = performance.getEntriesByType('navigation')[0]?.type === 'reload';
  if (again) restoreScroll();
  addEventListener('popstate', () => { readState(); show(); if (!S.run) restoreScroll(); });
  addEventListener('pagehide', keepScroll);
  document.querySelector('.skip').addEventListener('click', (event) => { event.preventDefault(); $('main').focus(); });
  startLive();
  document.documentElement.dataset.ready = 'true';
}

start().catch((error) => {
  $('loading')?.remove();
  document.body.prepend(h('p', {class: 'error wide', role: 'alert'}, `This page could not be shown: ${error.message}`));
  throw error;
});
