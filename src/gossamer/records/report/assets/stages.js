// What a stage found out, beside its quality: figures by themselves, and figures of each layer.

function stageFigures(stage) {
  const alone = Object.entries(stage.figures ?? {});
  const series = Object.entries(stage.series ?? {});
  if (!alone.length && !series.length) return null;
  return h('div', {class: 'found'}, h('h4', {}, `${stage.name}: what it found out`),
    alone.length > 0 && facts(alone.map(([name, value]) => [name, significant(value)]), stage.name),
    series.length > 0 && [h('div', {class: 'grid two'}, families(series).map(([family, kinds]) => seriesPlot(stage, family, kinds))),
      h('details', {}, h('summary', {}, `${count(series.length, 'figure')} of each layer`),
        plainTable([['figure'], ...series[0][1].map((_, n) => [`layer ${n}`, true])],
          series.map(([kind, values]) => [kind, ...values.map(significant)]), `${stage.name} by layer`))]);
}

/** Kinds that end in the same word are drawn together: recall, oracle recall, random recall. */
function families(series) {
  const found = new Map();
  for (const [kind, values] of series) {
    const word = kind.split(' ').at(-1);
    found.set(word, [...(found.get(word) ?? []), [kind, values]]);
  }
  return [...found].filter(([, kinds]) => kinds.length > 1);
}

function seriesPlot(stage, family, kinds) {
  const place = h('div', {class: 'plot', role: 'img',
    'aria-label': `${kinds.map(([kind]) => kind).join(', ')} by layer, ${stage.name}`});
  const color = (n) => PALETTE[isDark() ? 'dark' : 'light'][n % PALETTE.light.length];
  plot(place, () => ({
    data: kinds.map(([kind, values], n) => ({x: values.map((_, layer) => layer), y: values, name: escaped(kind),
      customdata: values.map(() => kind), mode: 'lines+markers',
      line: {color: color(n), width: n ? 1.5 : 3, dash: DASHES[n % DASHES.length]},
      marker: {color: color(n), symbol: MARKERS[n % MARKERS.length], size: n ? 6 : 8},
      text: values.map((value, layer) => `${escaped(kind)}, layer ${layer}: ${significant(value)}`),
      hovertemplate: '%{text}<extra></extra>'})),
    layout: layout({height: 280, showlegend: true, legend: {orientation: 'h', y: -0.25, font: {size: 11}},
      xaxis: {title: {text: 'layer'}, dtick: Math.max(1, Math.ceil(kinds[0][1].length / 13))},
      yaxis: {title: {text: escaped(family)}, rangemode: 'tozero', nticks: 6}}),
  }));
  return h('figure', {}, h('figcaption', {}, h('h3', {}, `${family} by layer`)), place);
}
