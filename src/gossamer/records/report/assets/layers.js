// Density and bits of every layer, for the selected runs side by side.

const MOST_LAYERED = 16;

function showLayers() {
  const body = $('layers-body');
  const {runs, picked, all} = chosen(MOST_LAYERED);
  const layered = runs.filter((run) => run.status === 'done' && run.density.length);
  if (!layered.length) {
    return void fill(body, h('p', {class: 'empty'},
      'No layer is in these runs’ ledgers. Select a compressed run in the table or a plot.'));
  }
  if (!body.querySelector('.grid')) {
    fill(body, h('p', {class: 'lead'}), h('div', {class: 'grid two'},
      [['density', 'Density', 'share of weights that are not zero, or of an attention map that is kept (theoretical)'],
        ['bits', 'Bits', 'stored bits per weight (storage)']].map(([id, title, unit]) =>
        h('figure', {'data-layers': id}, h('figcaption', {}, h('h3', {}, title),
          h('span', {class: 'muted'}, unit)), h('div', {class: 'plot', role: 'img'})))),
    h('p', {class: 'note'}));
  }
  fill(body.querySelector('.lead'), chosenSentence(picked, all, MOST_LAYERED),
    ' Layers that a run does not have, or that it left alone, are empty or dense; hover for why.');
  const columns = layered.map((run) => ({run, at: new Map(D.layers[run.layers].map((layer, n) => [layer.name, n]))}));
  const names = [...new Set(layered.flatMap((run) => D.layers[run.layers].map((layer) => layer.name)))];
  for (const field of ['density', 'bits']) {
    const place = body.querySelector(`[data-layers="${field}"] .plot`);
    place.setAttribute('aria-label', `${field} of ${count(names.length, 'layer')} in ${layered.map(runTitle).join('; ')}`);
    plot(place, () => layersFigure(field, columns, names));
  }
  body.querySelector('.note').textContent = `${count(names.length, 'layer')} in execution order, first on top. ` +
    'Numbers under the columns: ' + layered.map((run, n) => `${n + 1} ${runTitle(run)}`).join('; ') + '.';
}

/** What all names begin with says nothing: it is left out, up to a dot. */
function shortNames(names) {
  const parts = names.map((name) => name.split('.'));
  let shared = 0;
  while (parts.length > 1 && parts.every((words) => words.length > shared + 1 && words[shared] === parts[0][shared])) shared += 1;
  return parts.map((words) => {
    const text = words.slice(shared).join('.');
    return text.length > 28 ? `${text.slice(0, 12)}…${text.slice(-15)}` : text;
  });
}

function layersFigure(field, columns, names) {
  const style = getComputedStyle(document.documentElement);
  const value = (n, {run, at}) => (at.has(names[n]) ? run[field][at.get(names[n])] : null);
  const z = names.map((_, n) => columns.map((column) => value(n, column)));
  const hover = names.map((name, n) => columns.map(({run, at}) => {
    if (!at.has(name)) return `<b>${escaped(cutTo(name, 70))}</b><br>${escaped(cutTo(runTitle(run), 60))}<br>not in this run’s ledger`;
    const layer = D.layers[run.layers][at.get(name)];
    return [`<b>${escaped(cutTo(name, 70))}</b>`, escaped(cutTo(runTitle(run), 60)),
      `${finite(layer.dense_macs) ? 'map kept' : 'density'} ${percent(run.density[at.get(name)])}${layer.target === null ? '' : `, target ${percent(layer.target)}`}`,
      finite(layer.dense_macs) ? `${percent(run.tiles[at.get(name)])} of its 128 × 128 tiles` : `${significant(run.bits[at.get(name)])} bits per weight`,
      `${escaped(layer.pattern)}, ${layer.shape.join(' × ')}`,
      layer.skipped ? `left alone: ${escaped(cutTo(layer.skipped, 60))}` : null].filter(Boolean).join('<br>');
  }));
  const most = Math.max(32, ...z.flat().filter(finite));
  const cells = names.length * columns.length <= 400 && columns.length <= 10;
  const labels = shortNames(names);
  const dark = isDark();
  return {
    data: [{type: 'heatmap', z, x: columns.map((_, n) => n), y: names.map((_, n) => n), text: hover,
      customdata: names.map(() => columns.map(({run}) => run.key)),
      hovertemplate: '%{text}<extra></extra>', colorscale: scaleOf(dark), zmin: 0,
      zmax: field === 'density' ? 1 : most, xgap: 2, ygap: 1,
      texttemplate: undefined, showscale: true,
      colorbar: {thickness: 10, len: 0.5, y: 1, yanchor: 'top', outlinewidth: 0, tickfont: {size: 11},
        tickformat: field === 'density' ? '.0%' : '', nticks: 5}}],
    layout: layout({
      height: Math.max(220, Math.min(1400, 80 + names.length * (names.length > 90 ? 10 : 15))),
      margin: {l: 60, r: 8, t: 8, b: 48},
      annotations: cells ? z.flatMap((line, n) => line.map((number, m) => number === null ? null : ({
        x: m, y: n, showarrow: false, font: {size: 10, color: inkOn(number / (field === 'density' ? 1 : most), dark)},
        text: field === 'density' ? `${Math.round(100 * number)}%` : significant(number)}))).filter(Boolean) : [],
      xaxis: {tickvals: columns.map((_, n) => n), ticktext: columns.map((_, n) => String(n + 1)),
        title: {text: 'run'}, showgrid: false, showline: false, ticks: ''},
      yaxis: {autorange: 'reversed', tickvals: names.map((_, n) => n), ticktext: labels.map(escaped),
        showgrid: false, showline: false, ticks: '', tickfont: {size: 10}, nticks: names.length}}),
    click: (key) => openRun(key),
  };
}

/** One hue, from what is left alone (close to the page) to what is taken away (strong). */
const scaleOf = (dark) => (dark
  ? [[0, '#8fd0f7'], [0.35, '#3f94c9'], [0.7, '#23587d'], [1, '#262b32']]
  : [[0, '#003a5c'], [0.35, '#0072b2'], [0.7, '#7fb8dc'], [1, '#eef1f2']]);
const inkOn = (share, dark) => ((share < (dark ? 0.3 : 0.55)) === dark ? '#14181c' : '#f6f8f9');
