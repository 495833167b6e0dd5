// What the reader chose. All of it stands in the address behind the #, so a link, a reload and the
// back button bring the same view; how the page was scrolled stands in the session.

const S = {};
let listeners = [];

function clearState() {
  Object.assign(S, {
    scope: 0, // a place in D.scopes; -1: all
    group: D.groups.some((group) => group.runs.length > 1),
    sort: null, // [column, 1 or -1]
    q: '',
    filters: {},
    cols: null,
    sel: new Set(),
    run: null,
    diff: null,
    latency: null,
    macs: null,
    metric: null,
  });
}

const scopeId = (scope) => [scope.model, scope.dataset, scope.task, scope.metric, scope.apart].join(' ').trim();

function readState() {
  clearState();
  const read = new URLSearchParams(location.hash.slice(1));
  const scope = read.get('scope');
  if (scope === 'all') S.scope = -1;
  else if (scope) S.scope = Math.max(0, D.scopes.findIndex((one) => scopeId(one) === scope));
  if (read.has('group')) S.group = read.get('group') === '1';
  const sort = read.get('sort');
  if (sort) {
    const [, down, id] = /^(-?)(.*)$/.exec(sort);
    if (columnOf(id)) S.sort = [id, down ? -1 : 1];
  }
  S.q = read.get('q') ?? '';
  for (const [name, value] of read) {
    if (name.startsWith('f.') && columnOf(name.slice(2))) S.filters[name.slice(2)] = value;
  }
  const cols = read.get('cols');
  if (cols !== null) S.cols = cols.split(',').filter(columnOf);
  for (const key of read.getAll('sel')) if (D.byKey.has(key)) S.sel.add(key);
  for (const name of ['run', 'diff']) if (D.byKey.has(read.get(name))) S[name] = read.get(name);
  for (const name of ['latency', 'macs', 'metric']) S[name] = read.get(name);
}

function address(state = S) {
  const written = new URLSearchParams();
  if (state.run) written.set('run', state.run);
  if (state.diff) written.set('diff', state.diff);
  if (state.scope === -1) written.set('scope', 'all');
  else if (state.scope > 0) written.set('scope', scopeId(D.scopes[state.scope]));
  if (state.group !== D.groups.some((group) => group.runs.length > 1)) {
    written.set('group', state.group ? '1' : '0');
  }
  if (state.sort) written.set('sort', (state.sort[1] < 0 ? '-' : '') + state.sort[0]);
  if (state.q) written.set('q', state.q);
  for (const [id, text] of Object.entries(state.filters)) if (text) written.set(`f.${id}`, text);
  if (state.cols) written.set('cols', state.cols.join(','));
  for (const key of state.sel) written.append('sel', key);
  for (const name of ['latency', 'macs', 'metric']) if (state[name]) written.set(name, state[name]);
  const text = written.toString();
  return text ? `#${text}` : '#';
}

/** Change what is chosen, and show it. Another run's page is a step of the back button. */
function change(changes, step = false) {
  Object.assign(S, changes);
  const place = address();
  if (step) history.pushState(null, '', place);
  else history.replaceState(null, '', place);
  show();
}

const onChange = (listener) => listeners.push(listener);

function show() {
  for (const listener of listeners) listener();
}

function toggle(runs) {
  const sel = new Set(S.sel);
  const all = runs.every((run) => sel.has(run.key));
  for (const run of runs) if (all) sel.delete(run.key); else sel.add(run.key);
  change({sel});
}

function openRun(key) {
  keepScroll();
  change({run: key, diff: null}, true);
  window.scrollTo(0, 0);
  $('run').querySelector('h2')?.focus();
}

// --- rows: in the scope, past the filters, in order; kept until something of that changes
let lastRows = {key: null, rows: []};

function rows() {
  const key = JSON.stringify([S.scope, S.group, S.sort, S.q, S.filters]);
  if (lastRows.key !== key) lastRows = {key, rows: makeRows()};
  return lastRows.rows;
}

const allRows = new Map();
function everyRow(group) {
  if (!allRows.has(group)) {
    allRows.set(group, group
      ? D.groups.map((one) => new Row(one.runs, `group ${one.id}`))
      : D.finished.map((run) => new Row([run], run.key)));
  }
  return allRows.get(group);
}

function makeRows() {
  let found = everyRow(S.group).filter((row) => S.scope < 0 || row.scope === S.scope);
  for (const [id, text] of Object.entries(S.filters)) {
    const test = parseFilter(text);
    const column = columnOf(id);
    if (test) found = found.filter((row) => test(row.cell(column)));
  }
  const words = S.q.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) {
    found = found.filter((row) => {
      const text = row.runs.map((run) => [run.of.label, run.model, run.dataset, run.name, run.key,
        run.sweep, `seed ${run.seed}`, ...run.overrides].join(' ')).join(' ').toLowerCase();
      return words.every((word) => text.includes(word));
    });
  }
  const [id, direction] = S.sort ?? defaultSort();
  const column = columnOf(id);
  const value = new Map(found.map((row) => [row, row.cell(column).value]));
  return found.sort((a, b) => direction * order(value.get(a), value.get(b), direction));
}

function defaultSort() {
  const scope = D.scopes[Math.max(S.scope, 0)];
  return ['quality', scope && scope.direction === 'min' ? 1 : -1];
}

/** Numbers before words; what is missing comes last, whichever way the column is sorted. */
function order(a, b, direction) {
  const [missingA, missingB] = [a, b].map((v) => v === null || v === undefined || v === '');
  if (missingA || missingB) return direction * (missingA - missingB);
  if (typeof a === 'number' && typeof b === 'number') return a - b;
  if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
  return String(a).localeCompare(String(b), 'en', {numeric: true});
}

/** The runs that curves and heat maps show: the selected ones, else the best of each method. */
function chosen(most) {
  const picked = D.runs.filter((run) => S.sel.has(run.key));
  if (picked.length) return {runs: picked.slice(0, most), picked: true, all: picked.length};
  const scope = D.scopes[Math.max(S.scope, 0)];
  if (!scope) return {runs: [], picked: false, all: 0};
  const sign = scope.direction === 'min' ? -1 : 1;
  const best = new Map();
  for (const row of everyRow(true)) {
    if (row.scope !== Math.max(S.scope, 0)) continue;
    const value = row.cell(columnOf('quality')).value;
    const other = best.get(row.method);
    if (value !== null && (!other || sign * value > sign * other.value)) {
      best.set(row.method, {value, run: row.runs[0]});
    }
  }
  const runs = [...best.values()].map(({run}) => run);
  runs.sort((a, b) => a.method.localeCompare(b.method));
  return {runs: runs.slice(0, most), picked: false, all: runs.length};
}
