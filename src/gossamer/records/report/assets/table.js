// The table of runs. The frame stays while its rows change, so that what is being typed does too.

const PAGE = 100;
let shownRows = PAGE;
const frame = {};

function buildTable() {
  frame.search = h('input', {type: 'search', id: 'search', placeholder: 'Search runs and overrides',
    'aria-label': 'Search runs and overrides', value: S.q,
    oninput: (event) => change({q: event.target.value})});
  frame.group = h('input', {type: 'checkbox', id: 'group',
    onchange: (event) => change({group: event.target.checked})});
  frame.columns = h('details', {class: 'menu', id: 'columns'},
    h('summary', {role: 'button'}, 'Columns'), h('div', {class: 'panel', id: 'column-choice'}));
  frame.copy = h('details', {class: 'menu', id: 'copy'},
    h('summary', {role: 'button'}, 'Copy'),
    h('div', {class: 'panel narrow'}, Object.keys(COPIES).map((form) =>
      h('button', {type: 'button', class: 'item', onclick: () => copyRows(form)}, form))));
  frame.reset = h('button', {type: 'button', class: 'quiet', id: 'reset', onclick: () => {
    frame.search.value = '';
    change({q: '', filters: {}, sort: null, cols: null});
    frame.headers = null;
    show();
  }}, 'Reset');
  frame.told = h('span', {class: 'muted', id: 'rows-told', role: 'status'});
  frame.head = h('thead');
  frame.body = h('tbody', {id: 'rows'});
  frame.foot = h('div', {class: 'below'});
  fill($('table'),
    h('div', {class: 'bar'}, frame.search,
      h('label', {class: 'check'}, frame.group, 'Group by seeds'),
      frame.columns, frame.copy, frame.reset, frame.told),
    h('div', {class: 'box runs', tabindex: '0', role: 'region', 'aria-label': 'Table of runs'},
      h('table', {class: 'runs', role: 'grid', 'aria-multiselectable': 'true', 'aria-labelledby': 'runs-title'},
        frame.head, frame.body)),
    frame.foot,
    h('p', {class: 'hint'}, 'Filters: ', h('code', {}, 'dsee'), ' text, ', h('code', {}, '>0.8'), ' ',
      h('code', {}, '<=3'), ' ', h('code', {}, '0.7..0.9'), ' numbers in the column’s unit, ',
      h('code', {}, '!lora'), ' not. A row: Enter or click selects, ',
      h('kbd', {}, 'o'), ' opens, ↑ and ↓ move, → goes to its runs.'));
  document.addEventListener('click', (event) => {
    for (const menu of document.querySelectorAll('details.menu[open]')) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    for (const menu of document.querySelectorAll('details.menu[open]')) {
      menu.open = false;
      menu.querySelector('summary').focus();
    }
  });
}

function shownColumns() {
  const ids = S.cols ?? defaultColumns();
  return COLUMNS.filter((column) => ids.includes(column.id));
}

function showColumnChoice() {
  const shown = new Set(S.cols ?? defaultColumns());
  const at = document.activeElement?.dataset?.column;
  fill($('column-choice'), Object.entries(LEDGERS).map(([ledger, title]) => {
    const own = COLUMNS.filter((column) => column.ledger === ledger);
    return own.length > 0 && h('fieldset', {}, h('legend', {}, title), own.map((column) =>
      h('label', {title: column.help}, h('input', {type: 'checkbox', 'data-column': column.id,
        checked: shown.has(column.id), onchange: (event) => {
          if (event.target.checked) shown.add(column.id); else shown.delete(column.id);
          const filters = {...S.filters};
          if (!event.target.checked) delete filters[column.id];
          change({filters, cols: COLUMNS.filter((c) => shown.has(c.id)).map((c) => c.id)});
        }}), column.by)));
  }));
  if (at) document.querySelector(`[data-column="${CSS.escape(at)}"]`)?.focus();
}

function showHead(columns) {
  const key = columns.map((column) => column.id).join();
  if (frame.headers !== key) {
    frame.headers = key;
    fill(frame.head,
      h('tr', {}, h('th', {class: 'pick', scope: 'col'}, h('span', {class: 'hidden'}, 'Selected')),
        columns.map((column) => h('th', {scope: 'col', class: column.kind, 'data-id': column.id},
          h('button', {type: 'button', class: 'sort', title: `${column.help} (${LEDGERS[column.ledger]})`,
            onclick: () => sortBy(column)},
          h('span', {}, column.title, h('span', {class: 'arrow', 'aria-hidden': 'true'})),
          h('span', {class: 'unit'}, column.unit || '\u00a0')))),
        h('th', {class: 'open', scope: 'col'}, h('span', {class: 'hidden'}, 'Page'))),
      h('tr', {class: 'filters'}, h('td', {class: 'pick'}), columns.map((column) => h('td', {},
        h('input', {type: 'text', 'data-filter': column.id, value: S.filters[column.id] ?? '',
          placeholder: column.kind === 'number' ? '> < ..' : 'filter', spellcheck: 'false',
          autocomplete: 'off', 'aria-label': `Filter ${column.by}`,
          oninput: (event) => change({filters: {...S.filters, [column.id]: event.target.value}})}))),
      h('td', {class: 'open'})));
  }
  const [id, direction] = S.sort ?? defaultSort();
  for (const cell of frame.head.querySelectorAll('th[data-id]')) {
    const here = cell.dataset.id === id;
    cell.setAttribute('aria-sort', here ? (direction > 0 ? 'ascending' : 'descending') : 'none');
  }
}

function sortBy(column) {
  const [id, direction] = S.sort ?? defaultSort();
  const first = column.kind === 'number' ? -1 : 1;
  change({sort: [column.id, id === column.id ? -direction : first]});
}

function showTable() {
  frame.group.checked = S.group;
  if (document.activeElement !== frame.search) frame.search.value = S.q;
  const columns = shownColumns();
  showColumnChoice();
  showHead(columns);
  for (const input of frame.head.querySelectorAll('[data-filter]')) {
    const text = S.filters[input.dataset.filter] ?? '';
    if (input !== document.activeElement && input.value !== text) input.value = text;
    input.classList.toggle('active', text !== '');
  }
  const found = rows();
  const visible = found.filter((row, n) => n < shownRows || isSelected(row) !== 'false');
  const focused = document.activeElement?.dataset?.row;
  fill(frame.body, visible.map((row) => tableRow(row, columns)));
  if (!found.length) {
    put(frame.body, h('tr', {}, h('td', {class: 'empty', colspan: columns.length + 2},
      D.finished.length ? 'No run matches. Loosen a filter, or ' : 'No run is finished yet.',
      D.finished.length > 0 && h('button', {type: 'button', class: 'quiet',
        onclick: () => frame.reset.click()}, 'reset them'))));
  }
  if (focused) document.querySelector(`[data-row="${CSS.escape(focused)}"]`)?.focus();
  const all = everyRow(S.group).filter((row) => S.scope < 0 || row.scope === S.scope).length;
  const word = S.group ? 'configuration' : 'run';
  const of = found.length === all ? '' : `${found.length.toLocaleString('en-US')} of `;
  frame.told.textContent = of + count(all, word);
  const more = found.length - visible.length;
  fill(frame.foot, more > 0 && [
    h('button', {type: 'button', onclick: () => { shownRows += PAGE; show(); }},
      `Show ${Math.min(PAGE, more)} more`),
    h('button', {type: 'button', class: 'quiet', onclick: () => { shownRows = Infinity; show(); }},
      `Show all ${found.length.toLocaleString('en-US')}`)]);
}

/** "true", "false" or "mixed". */
function isSelected(row) {
  const n = row.runs.filter((run) => S.sel.has(run.key)).length;
  return n === 0 ? 'false' : n === row.runs.length ? 'true' : 'mixed';
}

function tableRow(row, columns) {
  const selected = isSelected(row);
  return h('tr', {'data-row': row.id, tabindex: '0', 'aria-selected': String(selected !== 'false'),
    class: selected === 'false' ? '' : 'selected',
    onclick: (event) => { if (!event.target.closest('a, button')) toggle(row.runs); },
    onkeydown: (event) => rowKey(event, row)},
  h('td', {class: 'pick'}, h('span', {class: `tick ${selected}`, 'aria-hidden': 'true'})),
  columns.map((column) => {
    const cell = row.cell(column);
    const interval = cell.low === undefined ? null
      : `${cell.value.toFixed(3)}×, 95% interval ${cell.low.toFixed(3)} to ${cell.high.toFixed(3)}`;
    const long = column.kind === 'text' && cell.text.length > 36;
    return h('td', {class: column.kind + (cell.text === '–' ? ' none' : ''),
      title: cell.title ?? interval ?? (long ? cell.text : null)},
    column.id === 'method' && swatch(row.method), cell.text);
  }),
  h('td', {class: 'open'}, row.runs.map((run) => runLink(run, row.grouped ? `s${run.seed}` : 'open', {tabindex: '-1'}))));
}

/** In a row of the table Tab passes over it, and → leads to it; everywhere else it is any link. */
function runLink(run, text, properties = {}) {
  return h('a', {href: address({...S, run: run.key, diff: null}), title: `The page of ${runTitle(run)}`,
    ...properties, onclick: (event) => {
      if (event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      openRun(run.key);
    }}, text);
}

/** ↑ ↓ from row to row, → into its links and on, ← back; what is typed into a link is the link's. */
function rowKey(event, row) {
  const at = event.currentTarget;
  const stops = [at, ...at.querySelectorAll('td.open a')];
  const here = stops.indexOf(event.target);
  const step = {ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling'}[event.key];
  const aside = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (here < 0 || event.metaKey || event.ctrlKey || event.altKey) return;
  if (step) at[step]?.focus();
  else if (aside) stops[here + aside]?.focus();
  else if (here > 0) return;
  else if (event.key === 'Enter' || event.key === ' ') toggle(row.runs);
  else if (event.key === 'o') openRun(row.runs[0].key);
  else return;
  event.preventDefault();
}
