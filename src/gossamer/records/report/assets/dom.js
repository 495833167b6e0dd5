// Elements are made here, always with textContent: no text of a record is ever read as HTML.

const $ = (id) => document.getElementById(id);

/** h('td', {class: 'number', onclick: f}, 'text', child, …): null and false children are left out. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'selected') element[name] = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  put(element, ...children);
  return element;
}

function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

function fill(element, ...children) {
  element.replaceChildren();
  return put(element, ...children);
}

/** A definition list as a table of two columns: [[term, value], …]. */
function facts(rows, label) {
  return h('div', {class: 'box'}, h('table', {class: 'facts', 'aria-label': label},
    h('tbody', {}, rows.map(([term, value]) =>
      h('tr', {}, h('th', {scope: 'row'}, term), h('td', {}, value))))));
}

/** A plain table: `columns` are [title, isNumber]. */
function plainTable(columns, rows, label) {
  return h('div', {class: 'box', tabindex: '0', role: 'region', 'aria-label': label},
    h('table', {class: 'plain'},
      h('thead', {}, h('tr', {}, columns.map(([title, number]) =>
        h('th', {scope: 'col', class: number && 'number'}, title)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, row.map((value, n) =>
        h('td', {class: columns[n][1] && 'number'}, value)))))));
}

let saying = 0;
/** Tell something in passing, also to a screen reader. */
function say(text) {
  $('said').textContent = text;
  $('said').classList.add('shown');
  clearTimeout(saying);
  saying = setTimeout(() => $('said').classList.remove('shown'), 2500);
}

// Numbers: a true minus sign, no more digits than are meant.
const minus = (text) => text.replace(/^-/, '−').replace(/e-/, 'e−');
const finite = (value) => typeof value === 'number' && Number.isFinite(value);
const formats = Array.from({length: 7}, (_, digits) => new Intl.NumberFormat('en-US',
  {minimumFractionDigits: digits, maximumFractionDigits: digits}));
const fixed = (digits) => (value) => (finite(value) ? minus(formats[digits].format(value)) : '–');
const signed = (digits) => (value) =>
  finite(value) ? (value > 0 ? '+' : '') + fixed(digits)(value) : '–';
const whole = (value) => (finite(value) ? Math.round(value).toLocaleString('en-US') : '–');
const significant = (value) => {
  if (!finite(value)) return '–';
  const size = Math.abs(value);
  return minus(size !== 0 && (size < 1e-3 || size >= 1e6)
    ? Number(value.toPrecision(3)).toExponential().replace('e+', 'e')
    : String(Number(value.toPrecision(4))));
};
const percent = (value) => (finite(value) ? `${(100 * value).toFixed(1)}%` : '–');
const day = (iso) => String(iso).replace('T', ' ').slice(0, 16);
const count = (n, word) => `${n.toLocaleString('en-US')} ${word}${n === 1 ? '' : 's'}`;
