// Training curves of the selected runs, on the run's one step axis, with the stages marked.

const MOST_CURVES = 24;

function showCurves() {
  const body = $('curves-body');
  const {runs, picked, all} = chosen(MOST_CURVES);
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.curves)))].sort(curveOrder);
  if (!runs.length || !names.length) {
    return void fill(body, h('p', {class: 'empty'}, runs.length
      ? 'These runs have no metrics.jsonl beside their record, so there is nothing to draw.'
      : 'No run to draw yet: finish one, or select some in the table.'));
  }
  if (!body.querySelector('.grid')) {
    fill(body, h('p', {class: 'lead'}), h('div', {class: 'grid two'},
      [0, 1].map((n) => h('figure', {'data-curve': n}, h('figcaption', {},
        h('h3', {}), h('span', {class: 'choice'})), h('div', {class: 'plot', role: 'img'})))),
    h('ul', {class: 'legend runs'}), h('p', {class: 'note'}));
  }
  fill(body.querySelector('.lead'), chosenSentence(picked, all, MOST_CURVES));
  const scope = D.scopes[runs[0].scope ?? 0];
  const loss = names.includes('train/loss') ? 'train/loss' : names[0];
  const wanted = `validation/${scope?.metric}`;
  const other = names.find((name) => name === wanted) ?? names.find((name) => name !== loss) ?? loss;
  const shown = [loss, names.includes(S.metric) ? S.metric : other];
  shown.forEach((name, n) => {
    const figure = body.querySelector(`[data-curve="${n}"]`);
    fill(figure.querySelector('h3'), name);
    fill(figure.querySelector('.choice'), n === 1 && names.length > 2 && h('select',
      {'aria-label': 'Which metric', onchange: (event) => change({metric: event.target.value})},
      names.map((one) => h('option', {value: one, selected: one === name}, one))));
    const place = figure.querySelector('.plot');
    place.setAttribute('aria-label', `${name} by step of ${runs.map(runTitle).join('; ')}`);
    plot(place, () => curvesFigure(name, runs));
  });
  fill(body.querySelector('.legend'), runs.map((run) => h('li', {},
    lineSample(look(run.method).color, dashOf(run, runs)), runLink(run, runTitle(run)))));
  body.querySelector('.note').textContent = 'Dotted verticals: where a stage begins. ' +
    (D.points ? `Long curves are thinned to ${D.points} points, the lowest and highest of each ` +
      'stretch kept.' : 'Every logged point is drawn.');
}

function chosenSentence(picked, all, most) {
  if (!picked) return 'Nothing is selected, so these are the best of each method, one seed of each. Select runs in the table or a plot.';
  const cut = all > most ? `, the first ${most} of them drawn` : '';
  return `${count(all, 'selected run')}${cut}.`;
}

const curveOrder = (a, b) => {
  const rank = (name) => (name.startsWith('validation/') ? 0 : name.endsWith('loss') ? 1 : 2);
  return rank(a) - rank(b) || a.localeCompare(b);
};

function dashOf(run, runs) {
  const own = runs.filter((other) => other.method === run.method);
  return DASHES[own.indexOf(run) % DASHES.length];
}

function lineSample(color, dash) {
  const pattern = {solid: '', dash: '6 3', dot: '1.5 3', dashdot: '6 3 1.5 3', longdash: '9 4', longdashdot: '9 3 1.5 3'};
  const name = 'http://www.w3.org/2000/svg';
  const picture = document.createElementNS(name, 'svg');
  picture.setAttribute('viewBox', '0 0 28 10');
  picture.setAttribute('class', 'line');
  picture.setAttribute('aria-hidden', 'true');
  const line = document.createElementNS(name, 'path');
  for (const [key, value] of Object.entries({d: 'M1 5H27', stroke: color, 'stroke-width': 2.5,
    'stroke-dasharray': pattern[dash]})) line.setAttribute(key, value);
  picture.append(line);
  return picture;
}

/** Where each stage of a run begins: after its base, one after the other; one-shot ones take none. */
function stageStarts(run) {
  let step = run.budget && run.budget.start === 'trained' ? run.budget.base : 0;
  return (run.stages ?? []).map((stage) => {
    const start = step;
    step += stage.steps;
    return {name: stage.name, start};
  });
}

function curvesFigure(name, runs) {
  const style = getComputedStyle(document.documentElement);
  const drawn = runs.filter((run) => run.curves[name]);
  const traces = drawn.map((run) => {
    const [steps, values] = run.curves[name];
    const {color, symbol} = look(run.method);
    const few = values.length <= 12;
    return {x: D.steps[steps], y: values, customdata: values.map(() => run.key), name: run.key,
      mode: few ? 'lines+markers' : 'lines', line: {color, width: 2, dash: dashOf(run, runs)},
      marker: {color, symbol, size: 7},
      text: values.map((value, n) => `<b>${escaped(cutTo(runTitle(run), 60))}</b><br>step ` +
        `${D.steps[steps][n]}<br>${escaped(name)} ${significant(value)}`),
      hovertemplate: '%{text}<extra></extra>'};
  });
  // one mark for each place, with the names of the stages that begin there
  const marks = new Map();
  for (const run of drawn) {
    for (const {name: stage, start} of stageStarts(run)) {
      if (!marks.has(start)) marks.set(start, new Set());
      marks.get(start).add(stage);
    }
  }
  const places = [...marks.entries()].sort((a, b) => a[0] - b[0]);
  const lines = places.map(([x]) => ({type: 'line', x0: x, x1: x, yref: 'paper', y0: 0, y1: 1,
    line: {color: style.getPropertyValue('--muted'), width: 1, dash: 'dot'}}));
  const annotations = places.length > 6 ? [] : places.map(([x, names]) => ({
    x, yref: 'paper', y: 1, yanchor: 'bottom', xanchor: 'left', textangle: 0, showarrow: false,
    text: escaped([...names].map((one) => cutTo(one, 18)).slice(0, 3).join('\n')).replace(/\n/g, '<br>') +
      (names.size > 3 ? `<br>+${names.size - 3}` : ''),
    align: 'left', font: {size: 10, color: style.getPropertyValue('--muted')},
    hovertext: escaped([...names].join(', '))}));
  const top = 16 + 13 * Math.max(0, ...places.map(([, names]) => Math.min(4, names.size)));
  return {data: traces, layout: layout({height: 320, shapes: lines, annotations,
    margin: {l: 56, r: 24, t: annotations.length ? top : 12, b: 48},
    xaxis: {title: {text: 'step'}, rangemode: 'tozero'}, yaxis: {title: {text: escaped(name)}, nticks: 6}}),
  click: (key) => openRun(key)};
}
