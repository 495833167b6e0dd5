// What a stage found out, as its method logged it: figures of their own, and series over layers.

function stageFigures(stage) {
  const [alone, series] = [Object.entries(stage.figures ?? {}), Object.entries(stage.series ?? {})];
  if (!alone.length && !series.length) return null;
  const when = stage.steps ? 'in its last step' : 'when it was done';
  const shares = series.filter(([, values]) => values.every(([, value]) => finite(value) && value >= 0 && value <= 1));
  return h('div', {class: 'part stage-figures'},
    h('h4', {}, `What ${stage.name} logged ${when}`),
    alone.length > 0 && facts(alone.map(([name, value]) => [name, significant(value)]), `Figures of ${stage.name}`),
    shares.length > 0 && seriesFigure(stage, shares),
    series.length > 0 && seriesTable(stage, series));
}

const COLORS = () => PALETTE[isDark() ? 'dark' : 'light'];
/** A colour for each series, and another dash when they have all been used. */
const seriesLook = (n) => ({color: COLORS()[n % COLORS().length], dash: DASHES[Math.floor(n / COLORS().length) % DASHES.length]});

function seriesFigure(stage, shares) {
  const place = h('div', {class: 'plot', role: 'img', 'aria-label': `${shares.map(([name]) => name).join(', ')} by layer, after ${stage.name}`});
  const key = h('ul', {class: 'legend series', 'aria-label': 'Series'});
  plot(place, () => {
    fill(key, shares.map(([name], n) => h('li', {}, lineSample(seriesLook(n).color, seriesLook(n).dash), name)));
    return {data: shares.map(([name, values], n) => ({x: values.map(([layer]) => layer), y: values.map(([, value]) => value),
      name, mode: 'lines+markers', line: {width: 2, ...seriesLook(n)}, marker: {size: 6, symbol: MARKERS[n % MARKERS.length]},
      text: values.map(([layer, value]) => `<b>${escaped(cutTo(name, 60))}</b><br>layer ${layer}: ${significant(value)}`),
      hovertemplate: '%{text}<extra></extra>'})),
    layout: layout({height: 260, xaxis: {title: {text: 'layer'}, dtick: layerTick(shares)},
      yaxis: {range: [-0.02, 1.02], nticks: 6}})};
  });
  return [place, key];
}

/** Every layer has its tick, of many every second, fifth, … one. */
function layerTick(series) {
  const most = Math.max(...series.flatMap(([, values]) => values.map(([layer]) => layer)));
  return [1, 2, 5, 10, 20, 50].find((step) => most / step <= 24) ?? 100;
}

function seriesTable(stage, series) {
  const layers = [...new Set(series.flatMap(([, values]) => values.map(([layer]) => layer)))].sort((a, b) => a - b);
  const columns = [['by layer'], ['mean', true], ...layers.map((layer) => [String(layer), true])];
  return plainTable(columns, series.map(([name, values]) => {
    const at = new Map(values);
    const share = values.every(([, value]) => !finite(value) || (value >= 0 && value <= 1));
    const show = (value) => (share ? fixed(3)(value) : significant(value));
    return [name, show(mean(values.map(([, value]) => value)).mean), ...layers.map((layer) => (at.has(layer) ? show(at.get(layer)) : ''))];
  }), `Figures of ${stage.name} by layer`);
}
