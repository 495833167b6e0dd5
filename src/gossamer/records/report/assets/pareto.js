// Quality against each cost, with the front drawn. One axis is one ledger, one unit, one setting.

function costs() {
  const runs = rows().flatMap((row) => row.runs);
  const workloads = [...new Set(runs.map((run) => run.compute.workload))];
  const kinds = [
    ['executed', 'macs_effective', 'MACs executed per sample, M (theoretical'],
    ['nonzero', 'macs_nonzero', 'MACs of non-zeros per sample, M (theoretical'],
    ...(runs.some(attends) ? [['attention', 'attention_macs', 'attention MACs per sample, M (theoretical']] : []),
  ];
  const words = {executed: ['executed', 'zeros inside dense products are counted', 'MACs executed'],
    nonzero: ['of non-zeros', 'no runtime is claimed to skip the zeros', 'MACs of non-zeros'],
    attention: ['of attention', 'by closed form, what chooses the keys included; a mask executes none less', 'MACs of attention']};
  return {
    bytes: [{id: 'bytes', name: 'on disk', title: 'weight files on disk, MB (storage)',
      get: (run) => run.size.checkpoint_bytes / 1e6, show: (x) => `${x.toFixed(2)} MB on disk`}],
    latency: D.settings.map((setting, n) => ({id: String(n), name: setting.label,
      title: `latency p50, ${setting.workload}, ms (measured)`, note: `measured on ${setting.detail}`,
      get: (run) => timed(run, n)?.compressed.p50 ?? null, show: (x) => `${x.toFixed(2)} ms measured`}))
      .filter((one) => runs.some((run) => one.get(run) !== null)),
    macs: kinds.flatMap(([id, field, title]) => workloads.map((workload) => ({
      id: `${id} ${workload}`, name: `${words[id][0]}, ${workload}`,
      title: `${title})`,
      note: `${workload}; ${words[id][1]}`,
      get: (run) => (run.compute.workload === workload && finite(run.compute[field])
        ? run.compute[field] / 1e6 : null),
      show: (x) => `${x.toFixed(1)} M ${words[id][2]}`}))),
    trainable: [{id: 'trainable', name: 'trained parameters', log: true,
      title: 'trained parameters (storage)', get: (run) => run.size.trainable_parameters,
      show: (x) => `${whole(x)} trained parameters`}],
  };
}

const PANELS = {bytes: 'Bytes', latency: 'Latency', macs: 'MACs', trainable: 'Trained parameters'};

function showPareto() {
  const body = $('pareto-body');
  if (S.scope < 0 && D.scopes.length > 1) return void fill(body, oneScopeFirst());
  if (!rows().length) {
    return void fill(body, h('p', {class: 'empty'}, 'No run to draw: finish one, or loosen the filters.'));
  }
  if (!body.querySelector('.pareto')) {
    fill(body, h('p', {class: 'lead'}), h('div', {class: 'key'}),
      h('div', {class: 'grid pareto'}, Object.entries(PANELS).map(([id, title]) =>
        h('figure', {'data-panel': id},
          h('figcaption', {}, h('h3', {}, title), h('span', {class: 'choice'})),
          h('div', {class: 'plot', role: 'img'}), h('p', {class: 'note'})))));
  }
  const scope = D.scopes[Math.max(S.scope, 0)];
  fill(body.querySelector('.lead'), S.group
    ? 'A point is a configuration: the mean over its seeds, with 95% intervals. '
    : 'A point is a run. ',
  'The line joins those that no other beats in both. Click a point to select it everywhere.');
  fill(body.querySelector('.key'), legend(new Set(rows().map((row) => row.method))));
  for (const [panel, options] of Object.entries(costs())) {
    const figure = body.querySelector(`[data-panel="${panel}"]`);
    const chosenOne = options.find((one) => one.id === S[panel]) ?? options[0];
    const choice = figure.querySelector('.choice');
    fill(choice, options.length > 1 && h('select', {'aria-label': `Which ${PANELS[panel]}`,
      onchange: (event) => change({[panel]: event.target.value})},
    options.map((one) => h('option', {value: one.id, selected: one === chosenOne}, one.name))));
    const place = figure.querySelector('.plot');
    figure.classList.toggle('without', !chosenOne);
    if (!chosenOne) {
      figure.querySelector('.note').textContent =
        'Nothing was measured for these runs. gossamer bench RUN measures one on this device.';
      continue;
    }
    figure.querySelector('.note').textContent = chosenOne.note ?? '';
    const points = paretoPoints(chosenOne);
    place.setAttribute('aria-label', `test ${scope.metric} against ${chosenOne.title}: ` +
      `${points.length} points, on the front ${points.filter((p) => p.front).map((p) => p.row.title).slice(0, 8).join('; ')}`);
    plot(place, () => paretoFigure(chosenOne, scope, points));
  }
}

function paretoPoints(axis) {
  const quality = columnOf('quality');
  const points = [];
  for (const row of rows()) {
    const {value: y, half} = row.cell(quality);
    const x = mean(row.runs.map(axis.get)); // of one setting only: null if a seed lacks it
    if (y !== null && x.mean !== null) points.push({row, x: x.mean, dx: x.half, y, dy: half});
  }
  const sign = D.scopes[Math.max(S.scope, 0)].direction === 'min' ? -1 : 1;
  let best = null; // points that tie in both are on the front together
  for (const point of [...points].sort((a, b) => a.x - b.x || sign * (b.y - a.y))) {
    point.front = best === null || sign * point.y > sign * best.y ||
      (point.x === best.x && point.y === best.y);
    if (point.front) best = point;
  }
  return points;
}

function paretoFigure(axis, scope, points) {
  const style = getComputedStyle(document.documentElement);
  const front = points.filter((point) => point.front).sort((a, b) => a.x - b.x);
  const any = points.some(({row}) => isSelected(row) !== 'false');
  const traces = [{x: front.map((p) => p.x), y: front.map((p) => p.y), mode: 'lines',
    line: {shape: 'hv', width: 1.5, color: style.getPropertyValue('--muted'), dash: 'dot'},
    hoverinfo: 'skip', name: 'front', customdata: front.map((p) => p.row.id)}];
  for (const method of D.methods) {
    const own = points.filter(({row}) => row.method === method);
    if (!own.length) continue;
    const {color, symbol} = look(method);
    const picked = own.map(({row}) => isSelected(row) !== 'false');
    const errors = points.length <= 30 && own.some((p) => p.dy !== null);
    traces.push({
      x: own.map((p) => p.x), y: own.map((p) => p.y), customdata: own.map((p) => p.row.id),
      mode: 'markers', name: method, hovertemplate: '%{text}<extra></extra>',
      text: own.map((p) => paretoHover(axis, scope, p)),
      error_y: errors ? {array: own.map((p) => p.dy ?? 0), color: `${color}88`, thickness: 1, width: 3} : undefined,
      error_x: errors && own.some((p) => p.dx > 1e-6 * p.x)
        ? {array: own.map((p) => p.dx ?? 0), color: `${color}88`, thickness: 1, width: 3} : undefined,
      marker: {color, symbol, size: own.map((p, n) => (picked[n] ? 13 : p.front ? 9 : 7)),
        opacity: own.map((p, n) => (picked[n] ? 1 : any ? 0.35 : p.front ? 1 : 0.75)),
        line: {color: style.getPropertyValue('--text'), width: picked.map((p) => (p ? 2 : 0))}},
    });
  }
  const xs = points.map((p) => p.x);
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const twins = points.some(({row}) => row.method === 'none') ? {} : twinLine(points, style);
  return {
    data: traces,
    layout: layout({height: 300, ...twins,
      xaxis: {title: {text: escaped(axis.title)}, type: axis.log ? 'log' : 'linear', nticks: 6,
        tickformat: axis.log ? '~s' : undefined, dtick: axis.log && high > 9 * low ? 1 : undefined,
        range: axis.log ? undefined : frameOf(points, 'x', 'dx')},
      yaxis: {title: {text: escaped(`test ${scope.metric}`)}, nticks: 6, range: frameOf(points, 'y', 'dy')}}),
    click: (id) => {
      const row = everyRow(S.group).find((one) => one.id === id);
      if (row) toggle(row.runs);
    },
  };
}

/** The range of an axis: the points decide, and intervals as far as they are not much wider (two
 * seeds have one of ±900%); what is equal but for its last digits is shown as equal. */
function frameOf(points, at, half) {
  const values = points.map((point) => point[at]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = Math.max(high - low, 0.02 * Math.abs(high)) || 1;
  const told = points.map((point) => point[half] ?? 0).sort((a, b) => a - b);
  const room = points.length <= 30 ? Math.min(told[Math.floor(told.length / 2)] * 1.15, span) : 0;
  const pad = Math.max(0.12 * span, room, high - low < 0.02 * Math.abs(high) ? 5 * span : 0);
  return [low < 0 ? low - pad : Math.max(low - pad, high > 2 * low ? -0.02 * high : 0), high + pad];
}

/** Where no dense run is among the points: the height of their dense twins. */
function twinLine(points, style) {
  const dense = points.flatMap(({row}) => row.runs.map((run) => run.quality.dense[run.metric] ?? null));
  const {mean: y} = mean(dense.filter((value) => value !== null));
  if (y === null) return {};
  const color = style.getPropertyValue('--muted');
  return {
    shapes: [{type: 'line', xref: 'paper', x0: 0, x1: 1, y0: y, y1: y, line: {color, width: 1, dash: 'dash'}, layer: 'below'}],
    annotations: [{xref: 'paper', x: 1, y, xanchor: 'right', yanchor: 'bottom', showarrow: false,
      text: 'dense twins, mean', font: {size: 10, color}}],
  };
}

function paretoHover(axis, scope, {row, x, y, dy}) {
  const lines = [`<b>${escaped(cutTo(row.title, 60))}</b>`,
    `test ${escaped(scope.metric)} ${fixed(4)(y)}${dy === null ? '' : ` ± ${dy.toFixed(4)}`}`,
    escaped(axis.show(x))];
  if (row.grouped) lines.push(count(row.runs.length, 'seed'));
  return lines.join('<br>');
}
