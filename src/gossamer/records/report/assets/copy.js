// The rows that match, with the columns that are shown, as text for other programs.

const COPIES = {CSV: asCsv, Markdown: asMarkdown, LaTeX: asLatex};

async function copyRows(form) {
  const [columns, found] = [shownColumns(), rows()];
  const text = COPIES[form](columns, found);
  frame.copy.open = false;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h('textarea', {'aria-hidden': 'true', class: 'hidden', value: text});
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    if (!done) return say('The browser refused the clipboard');
  }
  say(`${count(found.length, 'row')} copied as ${form}`);
}

/** Numbers in full, an interval in a column of its own. */
function asCsv(columns, found) {
  const quote = (value) => {
    let text = value === null || value === undefined ? '' : String(value);
    if (typeof value === 'string' && /^[=+@-]/.test(text) && plainValue(text) === text) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  const split = columns.flatMap((column) => {
    const told = column.told ? [[`${column.by}, told`, (cell) => cell.text]] : [];
    const half = column.interval && S.group
      ? [[`${column.by}, half of its 95% interval`, (cell) => cell.half]] : [];
    return [[column.by, (cell) => cell.value], ...half, ...told]
      .map(([title, get]) => ({column, title, get}));
  });
  const lines = found.map((row) => split.map(({column, get}) => quote(get(row.cell(column)))));
  return [split.map(({title}) => quote(title)), ...lines].map((line) => line.join(',')).join('\r\n') + '\r\n';
}

function asMarkdown(columns, found) {
  const safe = (text) => text.replace(/[\\`*_<>[\]|]/g, '\\$&').replace(/\s+/g, ' ');
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [
    line(columns.map((column) => safe(column.by))),
    line(columns.map((column) => (column.kind === 'number' ? '---:' : '---'))),
    ...found.map((row) => line(columns.map((column) => safe(row.cell(column).text)))),
  ].join('\n') + '\n';
}

const LATEX = {'\\': '\\textbackslash{}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}',
  '±': '$\\pm$', '×': '$\\times$', '−': '$-$', '–': '--', '·': '$\\cdot$', '’': '\''};

/** For the booktabs package. */
function asLatex(columns, found) {
  const safe = (text) => text.replace(/[&%$#_{}]/g, '\\$&')
    .replace(/\\(?![&%$#_{}])|[~^±×−–·’]/g, (letter) => LATEX[letter]).replace(/\s+/g, ' ');
  const line = (cells) => `  ${cells.join(' & ')} \\\\`;
  return [
    `\\begin{tabular}{${columns.map((c) => (c.kind === 'number' ? 'r' : 'l')).join('')}}`,
    '  \\toprule',
    line(columns.map((column) => safe(column.by))),
    '  \\midrule',
    ...found.map((row) => line(columns.map((column) => safe(row.cell(column).text)))),
    '  \\bottomrule',
    '\\end{tabular}',
  ].join('\n') + '\n';
}
