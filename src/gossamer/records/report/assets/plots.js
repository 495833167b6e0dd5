// What all plots share: a colour and a marker for each method, the theme, drawing when in view.

// Okabe and Ito's palette, which people with any colour vision can tell apart
const PALETTE = {
  light: ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#8a7a00'],
  dark: ['#56b4e9', '#ff8a3d', '#2fc59b', '#e39cc4', '#e69f00', '#4d9fe0', '#f0e442'],
};
const MARKERS = ['circle', 'square', 'diamond', 'triangle-up', 'cross', 'star', 'hexagon'];
const DASHES = ['solid', 'dash', 'dot', 'dashdot', 'longdash', 'longdashdot'];

let printing = false;
const isDark = () => !printing && document.documentElement.dataset.theme === 'dark';

function look(method) {
  if (method === 'none') return {color: isDark() ? '#b5bcc6' : '#4a4f57', symbol: 'x'};
  const n = D.methods.filter((name) => name !== 'none').indexOf(method);
  const palette = PALETTE[isDark() ? 'dark' : 'light'];
  const turn = Math.floor(n / palette.length); // beyond seven, another marker in the same colour
  return {color: palette[n % palette.length], symbol: MARKERS[(n + turn) % MARKERS.length]};
}

const SHAPES = {
  circle: 'M8 3a5 5 0 1 0 .01 0z',
  square: 'M3.5 3.5h9v9h-9z',
  diamond: 'M8 2l6 6-6 6-6-6z',
  'triangle-up': 'M8 2.5l6 10.5H2z',
  cross: 'M6 2.5h4v3.5h3.5v4H10v3.5H6V10H2.5V6H6z',
  star: 'M8 1.5l1.9 4.3 4.6.5-3.4 3.1.9 4.6L8 11.7 4 14l.9-4.6L1.5 6.3l4.6-.5z',
  hexagon: 'M8 2l5.2 3v6L8 14l-5.2-3V5z',
  x: 'M3.5 5.3L5.3 3.5 8 6.2l2.7-2.7 1.8 1.8L9.8 8l2.7 2.7-1.8 1.8L8 9.8l-2.7 2.7-1.8-1.8L6.2 8z',
};

/** The method's marker, as it is in the plots. */
function swatch(method) {
  const {color, symbol} = look(method);
  const name = 'http://www.w3.org/2000/svg';
  const picture = document.createElementNS(name, 'svg');
  for (const [key, value] of Object.entries({viewBox: '0 0 16 16', class: 'swatch', 'aria-hidden': 'true'})) {
    picture.setAttribute(key, value);
  }
  const path = document.createElementNS(name, 'path');
  path.setAttribute('d', SHAPES[symbol]);
  path.setAttribute('fill', color);
  picture.append(path);
  return picture;
}

function legend(methods) {
  return h('ul', {class: 'legend', 'aria-label': 'Methods'}, [...methods].sort().map((method) =>
    h('li', {}, swatch(method), method === 'none' ? 'none (dense)' : method)));
}

/** Plotly reads some tags in texts: those of a record are written out. */
const escaped = (text) => String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
const cutTo = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function layout(extra = {}) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = {
    gridcolor: color('--grid'), linecolor: color('--line'), zeroline: false, ticks: 'outside',
    tickcolor: color('--line'), ticklen: 4, automargin: true, showline: true,
    title: {font: {size: 12, color: color('--muted')}, standoff: 10}, tickfont: {size: 11},
  };
  const {xaxis = {}, yaxis = {}, ...rest} = extra;
  const merged = (own) => ({...axis, ...own, title: {...axis.title, ...(own.title ?? {})}});
  return {
    font: {family: style.getPropertyValue('--sans'), size: 12, color: color('--text')},
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false,
    margin: {l: 56, r: 16, t: 12, b: 48}, hovermode: 'closest', dragmode: false,
    hoverlabel: {bgcolor: color('--surface'), bordercolor: color('--line'), align: 'left',
      font: {family: style.getPropertyValue('--sans'), size: 12, color: color('--text')}},
    xaxis: merged(xaxis), yaxis: merged(yaxis), ...rest,
  };
}

const CONFIG = {displaylogo: false, responsive: false, displayModeBar: false, doubleClick: 'reset'};

// --- a plot is drawn when it comes into view, and again when what it shows has changed
const plots = new Map(); // element -> {make, key, drawn, seen}
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const plot = plots.get(entry.target);
    if (!plot) continue;
    plot.seen = entry.isIntersecting;
    if (plot.seen) draw(entry.target);
  }
}, {rootMargin: '300px'});

/** make() gives {data, layout, click}: click(customdata) is called for the point clicked. */
function plot(element, make) {
  if (!plots.has(element)) {
    plots.set(element, {});
    watcher.observe(element);
  }
  const one = plots.get(element);
  one.make = make;
  one.stale = true;
  element.dataset.state = 'stale';
  if (one.seen) draw(element);
}

function draw(element) {
  const one = plots.get(element);
  if (!one.stale || !element.isConnected) return;
  one.stale = false;
  const made = one.make();
  const width = element.clientWidth;
  const size = {...made.layout, width, height: made.layout.height ?? 320};
  Plotly.react(element, made.data, size, CONFIG);
  one.click = made.click;
  if (!one.bound) {
    one.bound = true;
    element.on('plotly_click', ({points}) => one.click?.(points[0].customdata));
  }
  element.dataset.state = 'drawn';
}

function redraw(everything = false) {
  for (const [element, one] of plots) {
    if (!element.isConnected) {
      watcher.unobserve(element);
      plots.delete(element);
      if (one.bound) Plotly.purge(element);
      continue;
    }
    one.stale = true;
    if (everything || one.seen) draw(element);
  }
}

let resizing = 0;
window.addEventListener('resize', () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => redraw(), 150);
});
window.addEventListener('beforeprint', () => {
  printing = true;
  document.documentElement.classList.add('printing');
  redraw(true);
});
window.addEventListener('afterprint', () => {
  printing = false;
  document.documentElement.classList.remove('printing');
  redraw();
});
