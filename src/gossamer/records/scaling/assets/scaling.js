// A section for each series: its runs, their means, and the laws with their bands.

const S = {log: true, hidden: new Set()}; // laws by name
const LAWS = ['power', 'power + floor', 'exponential', 'logarithmic'];
const colorOf = (law) => PALETTE[isDark() ? 'dark' : 'light'][LAWS.indexOf(law)];
const faint = (color, share) => color + Math.round(255 * share).toString(16).padStart(2, '0');
const ranged = ({value, low, high}) => (low === null && high === null ? or(value)
  : `${or(value)} [${or(low)}, ${or(high)}]`);
const or = (value) => (value === null ? '∞' : significant(value));
const big = (value) => {
  const [, size, prefix] = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k'], [1, '']]
    .map(([limit, letter]) => [value >= limit, limit, letter]).find(([fits]) => fits) ?? [true, 1, ''];
  return `${significant(value / size)}${prefix && ` ${prefix}`}`;
};
const what = (one) => `${one.metric}${one.unit ? `, ${one.unit}` : ''}`;

/** The stretches of a curve: inside the budgets, and beyond either end. */
function stretches(curve, low, high) {
  const places = curve.x.map((x, n) => n);
  return [[places.filter((n) => curve.x[n] <= low), 'dot'],
    [places.filter((n) => curve.x[n] >= low && curve.x[n] <= high), 'solid'],
    [places.filter((n) => curve.x[n] >= high), 'dot']];
}

function traces(one) {
  const [low, high] = [one.budgets[0].x, one.budgets.at(-1).x];
  const shown = (y) => (S.log && !(y > 0) ? null : y); // a logarithm has no place for it
  const laws = one.curves.filter(({law}) => !S.hidden.has(law)).flatMap((curve) => {
    const color = colorOf(curve.law);
    const at = (n) => `${escaped(curve.law)}, ${big(curve.x[n])} ${one.x}: ` + ranged({
      value: curve.value[n], low: curve.low[n], high: curve.high[n]});
    const least = Math.min(...curve.value.filter((y) => y > 0)) / 1e3;
    const bottom = (y) => (S.log ? Math.max(y, least) : y);
    const known = curve.x.map((x, n) => n).filter((n) => curve.low[n] !== null && curve.high[n] !== null && (!S.log || curve.high[n] > 0));
    return [
      {x: [...known.map((n) => curve.x[n]), ...known.toReversed().map((n) => curve.x[n])],
        y: [...known.map((n) => curve.high[n]), ...known.toReversed().map((n) => bottom(curve.low[n]))],
        mode: 'lines', line: {width: 0}, fill: 'toself', fillcolor: faint(color, 0.13), hoverinfo: 'skip', name: `${curve.law} band`},
      ...stretches(curve, low, high).map(([places, dash]) => ({
        x: places.map((n) => curve.x[n]), y: places.map((n) => shown(curve.value[n])), text: places.map(at),
        mode: 'lines', line: {color, width: 2, dash}, hovertemplate: '%{text}<extra></extra>', name: curve.law})),
    ];
  });
  const ink = isDark() ? '#e7e9ec' : '#1d2024';
  const points = one.points.filter(({gap}) => !S.log || gap > 0);
  const means = one.budgets.filter(({gap}) => !S.log || gap > 0);
  // an interval that reaches below zero ends, on a logarithmic axis, far below its mean
  const down = ({gap, interval}) => (S.log ? Math.min(interval ?? 0, gap * 0.999) : interval ?? 0);
  return [...laws,
    {x: points.map(({x}) => x), y: points.map(({gap}) => gap), mode: 'markers', name: 'seeds',
      marker: {size: 7, color: faint(ink, 0), line: {width: 1.2, color: faint(ink, 0.65)}},
      text: points.map(({x, seed, gap, runs}) => `seed ${seed}, ${big(x)} ${one.x}: ${signed(4)(gap)}${runs > 1 ? `, mean of ${runs} runs` : ''}`),
      hovertemplate: '%{text}<extra></extra>'},
    {x: means.map(({x}) => x), y: means.map(({gap}) => gap), mode: 'markers', name: 'means',
      marker: {size: 8, symbol: 'diamond', color: ink}, error_y: {type: 'data', symmetric: false, color: ink, thickness: 1.4, width: 5,
        array: means.map(({interval}) => interval ?? 0), arrayminus: means.map(down)},
      text: means.map(({x, n, gap, interval}) => `mean of ${count(n, 'seed')}, ${big(x)} ${one.x}: ${signed(4)(gap)}${interval === null ? '' : ` ± ${fixed(4)(interval)}`}`),
      hovertemplate: '%{text}<extra></extra>'}];
}

/** The range of the points and their intervals, and of what was asked for, with some room. */
function range(one) {
  const asked = one.laws.filter(({law}) => S.log && !S.hidden.has(law)).flatMap(({at}) => at.map(({value}) => value));
  const values = [...one.points.map(({gap}) => gap), ...one.budgets.flatMap(({gap, interval}) => [gap - (interval ?? 0), gap + (interval ?? 0)]), ...asked]
    .filter((y) => finite(y) && (!S.log || y > 0));
  if (!values.length) return null;
  const seen = one.points.map(({gap}) => gap).filter((gap) => gap > 0);
  const least = S.log ? Math.max(Math.min(...values), Math.min(...seen) / 30) : Math.min(0, ...values);
  const [low, high] = S.log ? [Math.log10(least), Math.log10(Math.max(...values))] : [least, Math.max(...values)];
  const room = 0.08 * (high - low) || 0.1;
  return [low - room, high + room];
}

function picture(one) {
  const xs = one.curves[0]?.x ?? one.budgets.map(({x}) => x);
  const type = S.log ? 'log' : 'linear';
  // far predictions would squeeze the runs into a corner of a linear axis
  const span = S.log ? [Math.log10(xs[0]), Math.log10(xs.at(-1))] : [0, 2 * one.budgets.at(-1).x];
  const heights = range(one) ?? undefined;
  const ticks = (ends) => (S.log ? {dtick: ends && ends[1] - ends[0] < 1 ? 'D1' : 'D2'} : {});
  const line = getComputedStyle(document.documentElement).getPropertyValue('--muted').trim();
  return {data: traces(one), layout: layout({
    height: 440, margin: {l: 76, r: 20, t: 12, b: 52},
    shapes: S.log ? [] : [{type: 'line', xref: 'paper', x0: 0, x1: 1, y0: 0, y1: 0, line: {color: line, width: 1.2, dash: 'dash'}}],
    annotations: S.log ? [] : [{xref: 'paper', x: 1, y: 0, xanchor: 'right', yanchor: 'bottom', text: 'dense', showarrow: false, font: {size: 11, color: line}}],
    xaxis: {type, range: span, title: {text: `${one.x} that the run's own steps saw`}, exponentformat: 'SI', ...ticks()},
    yaxis: {type, range: heights, title: {text: `gap in ${escaped(what(one))}`}, tickformat: '.3~g', ...ticks(heights)},
  })};
}

function section(one) {
  const element = h('div', {class: 'plot', role: 'img', 'aria-label': `gap over ${one.x}: ${one.title}`});
  const missing = h('span', {class: 'muted'});
  const names = one.laws.map(({law}) => law);
  const show = () => {
    const lost = one.points.filter(({gap}) => gap <= 0).length;
    missing.textContent = S.log ? (lost ? `${count(lost, 'gap')} at or below 0, which a logarithm cannot show: see linear` : 'dense = 0 is below a logarithmic axis') : '';
    plot(element, () => picture(one));
  };
  shows.push(show);
  const heads = ['a', 'b', 'c'].filter((name) => one.laws.some(({parameters}) => parameters[name]));
  const at = one.laws[0].at;
  return h('section', {}, h('h2', {}, one.title),
    h('p', {class: 'lead'}, `gap: ${one.gap.replace('-', '−')} in ${what(one)}, to ${one.twin.join(', or ')}. ${count(one.runs, 'run')}, ${count(one.budgets.length, 'budget')}, ${count(one.seeds.length, 'seed')}.`),
    h('figure', {}, h('figcaption', {}, h('div', {class: 'laws', role: 'group', 'aria-label': 'Laws'}, names.map((law) => {
      const key = h('span', {class: 'key', 'data-law': law});
      return h('label', {}, h('input', {type: 'checkbox', checked: !S.hidden.has(law), 'data-box': law, onchange: (event) => {
        S.hidden[event.target.checked ? 'delete' : 'add'](law);
        repaint();
      }}), key, law);
    })), missing), element),
    h('ul', {class: 'verdict'}, one.verdict.map((line) => h('li', {}, line)),
      one.not_fitted.map(({law, why}) => h('li', {}, `not fitted: ${law}: ${why}`)),
      h('li', {class: 'muted'}, `Bands and [ ] are 95% intervals of ${whole(one.resamples)} resamples: ${one.drawn}. ◆ is a budget's mean with its t interval over seeds.`)),
    h('div', {class: 'tables'}, plainTable(
      [['law'], ['gap ≈'], ...heads.map((name) => [name, true]), ['R²', true], ['AICc', true], ['left-out error', true],
        ...at.map(({x, extrapolated}) => [`at ${big(x)}${extrapolated ? ' (extrapolated)' : ''}`, true])],
      one.laws.map((law) => [law.law === one.preferred ? h('strong', {}, law.law, ' (preferred)') : law.law, law.formula,
        ...heads.map((name) => (law.parameters[name] ? ranged(law.parameters[name]) : '')),
        fixed(4)(law.r2), fixed(1)(law.aicc), significant(law.left_out_error), ...law.at.map(ranged)]), 'Laws')));
}

const shows = [];
function repaint() {
  $('scale').textContent = S.log ? 'Linear axes' : 'Logarithmic axes';
  for (const key of document.querySelectorAll('[data-law]')) key.style.background = colorOf(key.dataset.law);
  for (const box of document.querySelectorAll('[data-box]')) box.checked = !S.hidden.has(box.dataset.box);
  for (const show of shows) show();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $('theme').textContent = theme === 'dark' ? 'Light' : 'Dark';
  $('theme').setAttribute('aria-label', `Switch to the ${theme === 'dark' ? 'light' : 'dark'} theme`);
}

async function start() {
  const packed = Uint8Array.from(atob($('data').textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const data = JSON.parse(await new Response(stream).text());
  setTheme(matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  $('theme').addEventListener('click', () => {
    setTheme(isDark() ? 'light' : 'dark');
    repaint();
  });
  $('scale').addEventListener('click', () => {
    S.log = !S.log;
    repaint();
  });
  // laws that no series prefers would only hide the others
  const wanted = new Set(['power', 'power + floor', ...data.series.map(({preferred}) => preferred)]);
  for (const {laws} of data.series) if (!laws.some(({law}) => wanted.has(law))) wanted.add(laws[0].law);
  for (const law of LAWS) if (!wanted.has(law)) S.hidden.add(law);
  put($('main'), data.series.map(section));
  fill($('notes'), data.notes.length > 0 && h('details', {}, h('summary', {}, count(data.notes.length, 'note'), ' on what was left out'),
    h('ul', {}, data.notes.map((note) => h('li', {}, note)))));
  $('counts').textContent = data.series.length === 1 ? '1 series' : `${data.series.length} series`;
  $('main').hidden = false;
  repaint();
  document.documentElement.dataset.ready = '';
}

start();
