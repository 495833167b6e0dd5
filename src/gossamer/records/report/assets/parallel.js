// Parallel coordinates: a line per row over the keys that the sweep varied, ending in the quality.
// Drawn as lines of an ordinary plot, so that a click, a hover and the printer work as elsewhere.

const MOST_AXES = 8;

function parallelAxes(found) {
  const runs = found.flatMap((row) => row.runs);
  const quality = columnOf('quality');
  const axes = [{name: 'method', get: (row) => row.method}];
  for (const key of varyingAxes(runs)) {
    axes.push({name: key, get: (row) => {
      const text = config(row.runs[0])[key];
      return text === undefined ? null : plainValue(text);
    }});
  }
  const last = {name: quality.title, get: (row) => row.cell(quality).value};
  return {axes: [...axes.slice(0, MOST_AXES - 1), last], left: Math.max(0, axes.length - MOST_AXES + 1)};
}

/** Where a value lies on its axis, 0 to 1; its ticks; −0.12: this row has no such key. */
function scale(axis, found) {
  const values = found.map(axis.get);
  const known = [...new Set(values.filter((value) => value !== null))];
  const lacking = values.includes(null);
  const numeric = known.length > 0 && known.every((value) => typeof value === 'number');
  const missing = lacking ? [[-0.12, '–']] : [];
  if (numeric && known.length > 1) {
    const sorted = [...known].sort((a, b) => a - b);
    const [low, high] = [sorted[0], sorted[sorted.length - 1]];
    const log = low > 0 && high / low >= 50;
    const to = log ? Math.log : (x) => x;
    const place = (value) => (to(value) - to(low)) / (to(high) - to(low));
    const few = sorted.length <= 8;
    const ticks = (few ? sorted : [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low)));
    return {place: (value) => (value === null ? -0.12 : place(value)),
      ticks: [...missing, ...ticks.map((value) => [place(value), significant(value)])]};
  }
  const sorted = known.map(String).sort((a, b) => a.localeCompare(b, 'en', {numeric: true}));
  const place = (value) => (sorted.length === 1 ? 0.5 : sorted.indexOf(String(value)) / (sorted.length - 1));
  const ticks = sorted.length <= 12 ? sorted : [sorted[0], sorted[sorted.length - 1]];
  return {place: (value) => (value === null ? -0.12 : place(value)),
    ticks: [...missing, ...ticks.map((text) => [place(text), text])]};
}

function showParallel() {
  const body = $('axes-body');
  if (S.scope < 0 && D.scopes.length > 1) return void fill(body, oneScopeFirst());
  const found = rows().filter((row) => row.cell(columnOf('quality')).value !== null);
  const {axes, left} = parallelAxes(found);
  if (found.length < 2) {
    return void fill(body, h('p', {class: 'empty'}, 'Nothing was swept here. Vary keys in one command: ',
      h('code', {}, 'gossamer -m compression=lora,dsee trainer.lr=1e-4,3e-4 seed=1,2,3'), '.'));
  }
  if (!body.querySelector('.plot')) {
    fill(body, h('p', {class: 'lead'}), h('div', {class: 'key'}),
      h('div', {class: 'box', tabindex: '0', role: 'region', 'aria-label': 'Parallel coordinates'},
        h('div', {class: 'plot parallel', role: 'img'})), h('p', {class: 'note'}));
  }
  fill(body.querySelector('.lead'), `Each line is a ${S.group ? 'configuration (the mean over its seeds)' : 'run'}; `,
    'it follows the table’s filters. Click one on an axis to select it.');
  fill(body.querySelector('.key'), legend(new Set(found.map((row) => row.method))));
  body.querySelector('.note').textContent = (left ? `${count(left, 'more key')} vary and are not drawn; filter to fewer. ` : '') +
    (found.some((row) => axes.some((axis) => axis.get(row) === null))
      ? 'A line at “–” has no such key: it belongs to another method.' : '');
  const place = body.querySelector('.plot');
  place.setAttribute('aria-label', `${count(found.length, 'line')} over ${axes.map((axis) => axis.name).join(', ')}`);
  plot(place, () => parallelFigure(found, axes));
}

function parallelFigure(found, axes) {
  const style = getComputedStyle(document.documentElement);
  const scales = axes.map((axis) => scale(axis, found));
  const any = found.some((row) => isSelected(row) !== 'false');
  const lines = new Map(); // one trace for each method and each state, as there can be thousands
  for (const row of found) {
    const picked = isSelected(row) !== 'false';
    const name = `${picked ? 1 : 0} ${row.method}`;
    if (!lines.has(name)) lines.set(name, {row, picked, x: [], y: [], ids: [], text: []});
    const line = lines.get(name);
    const hover = `<b>${escaped(cutTo(row.title, 60))}</b><br>${escaped(axes[axes.length - 1].name)} ` +
      escaped(row.cell(columnOf('quality')).text);
    axes.forEach((axis, n) => {
      line.x.push(n);
      line.y.push(scales[n].place(axis.get(row)));
      line.ids.push(row.id);
      line.text.push(hover);
    });
    line.x.push(null);
    line.y.push(null);
    line.ids.push(null);
    line.text.push('');
  }
  const many = found.length > 60;
  const data = [...lines.entries()].sort((a, b) => (a[0] < b[0] ? -1 : 1)).map(([, line]) => {
    const {color, symbol} = look(line.row.method);
    return {x: line.x, y: line.y, customdata: line.ids, text: line.text, mode: 'lines+markers',
      connectgaps: false, hovertemplate: '%{text}<extra></extra>',
      opacity: line.picked ? 1 : any ? 0.18 : many ? 0.4 : 0.8,
      line: {color, width: line.picked ? 3 : many ? 1 : 1.75}, marker: {color, symbol, size: line.picked ? 9 : 6}};
  });
  const text = style.getPropertyValue('--text');
  const annotations = scales.flatMap(({ticks}, n) => ticks.map(([y, label]) => ({x: n, y,
    text: escaped(cutTo(String(label), 18)), showarrow: false, xanchor: n === axes.length - 1 ? 'left' : 'right',
    xshift: n === axes.length - 1 ? 8 : -8, font: {size: 11, color: text},
    bgcolor: style.getPropertyValue('--surface'), borderpad: 1, opacity: 0.92})));
  annotations.push(...axes.map((axis, n) => ({x: n, y: 1, yshift: 26, showarrow: false, yanchor: 'bottom',
    xanchor: n === 0 ? 'left' : n === axes.length - 1 ? 'right' : 'center', xshift: n === 0 ? -50 : n === axes.length - 1 ? 50 : 0,
    font: {size: 12, color: style.getPropertyValue('--muted')}, hovertext: escaped(axis.name),
    text: escaped(shortKey(axis.name))})));
  const left = 32 + 6.5 * Math.max(8, ...scales[0].ticks.map(([, label]) => Math.min(18, String(label).length)));
  const shapes = axes.map((_, n) => ({type: 'line', x0: n, x1: n, y0: 0, y1: 1,
    line: {color: style.getPropertyValue('--line'), width: 2}, layer: 'below'}));
  return {data, layout: layout({height: printing ? 320 : 420, annotations, shapes, margin: {l: left, r: 70, t: 60, b: 16},
    xaxis: {visible: false, range: [-0.02, axes.length - 0.98]}, yaxis: {visible: false, range: [-0.18, 1.06]}}),
  click: (id) => {
    const row = everyRow(S.group).find((one) => one.id === id);
    if (row) toggle(row.runs);
  }};
}

/** "compression.magnitude.sparsity" has no room over an axis: its last two words. */
const shortKey = (name) => (name.startsWith('compression.') ? name.split('.').slice(-2).join('.') : name);
