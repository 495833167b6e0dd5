// The columns of the table: what each is, its unit, the ledger it belongs to, and its definition.
// get(run) is a number in the column's unit, or text; null where there is none.

let COLUMNS = [];
const LEDGERS = {
  quality: 'quality on the test split',
  storage: 'storage: what is on disk',
  theoretical: 'theoretical: counted, not timed',
  measured: 'measured on a device',
  budget: 'budget',
  run: 'the run',
  sweep: 'configuration',
};

const plainValue = (text) => {
  const number = Number(text);
  return text !== '' && Number.isFinite(number) ? number : text;
};

function makeColumns() {
  const one = D.scopes.filter((scope) => scope.metric).map((scope) => scope.metric);
  const metric = new Set(one).size === 1 ? `test ${one[0]}` : 'test quality';
  const text = (id, title, ledger, get, help, shown) =>
    ({id, title, ledger, get, help, shown, kind: 'text', text: (value) => value ?? '–'});
  const number = (id, title, unit, ledger, get, show, help, shown, extra) =>
    ({id, title, unit, ledger, get, text: show, help, shown, kind: 'number', ...extra});
  const interval = {interval: true};
  COLUMNS = [
    text('method', 'Method', 'run', (run) => run.method,
      'The compression methods in their order; none is the dense model.', true),
    text('configuration', 'Configuration', 'sweep',
      (run) => run.of.label.split(' · ').slice(1).join(' · '),
      'What tells this configuration from the others of its method.',
      null),
    text('model', 'Model', 'run', (run) => run.model, 'The choice of model.', false),
    text('dataset', 'Data set', 'run',
      (run) => [run.dataset, D.scopes[run.scope].apart].filter(Boolean).join(' · '),
      'The choice of data set, and what tells it from another of that name.', false),
    number('seed', 'Seeds', '', 'run', (run) => run.seed, whole,
      'Every draw derives from it. Grouped: how many seeds there are.', true, {seeds: true}),
    number('quality', metric, '', 'quality', primary, fixed(4),
      'The primary metric on the test split, after the exported files were loaded again.',
      true, interval),
    number('difference', 'to dense', '', 'quality', against, signed(4),
      'Compressed minus its dense twin of the same seed, in the primary metric.', true, interval),
    ...D.metrics.filter((name) => !one.includes(name) || new Set(one).size > 1).map((name) =>
      number(`metric.${name}`, `test ${name}`, '', 'quality',
        (run) => run.quality.compressed[name] ?? null, fixed(4),
        `${name} on the test split.`, false, interval)),
    number('bytes', 'on disk', 'MB', 'storage', (run) => run.size.checkpoint_bytes / 1e6, fixed(2),
      'Bytes of the weight files on disk, scales and indices included; 1 MB is 1,000,000 bytes.',
      true),
    number('bytes.ratio', 'on disk', '% of dense', 'storage',
      (run) => (100 * run.size.checkpoint_bytes) / run.size.dense_checkpoint_bytes, fixed(1),
      'The same as a share of the dense twin’s files.', false),
    number('trainable', 'trained parameters', 'k', 'storage',
      (run) => run.size.trainable_parameters / 1e3, fixed(1),
      'The most parameters that any stage trained.', true),
    number('nonzero', 'non-zero parameters', 'M, theoretical', 'theoretical',
      (run) => run.size.nonzero_parameters / 1e6, fixed(3),
      'Parameters of the exported model that are not exactly zero. No file is claimed to be smaller for it.', false),
    number('bits', 'bits per weight', 'bits', 'storage', (run) => run.size.bits_per_weight,
      fixed(2), 'Stored bits per weight over the changed layers, scales and indices included.',
      false),
    number('macs', 'executed MACs', 'M, theoretical', 'theoretical',
      (run) => run.compute.macs_effective / 1e6, fixed(1),
      'Multiply-accumulates of one sample as the exported model runs; zeros inside a dense ' +
      'product are counted.', true),
    number('macs.nonzero', 'MACs of non-zeros', 'M, theoretical', 'theoretical',
      (run) => run.compute.macs_nonzero / 1e6, fixed(1),
      'Only products with a non-zero weight. No runtime is claimed to skip the others.', true),
    ...(D.finished.some(attends) ? [
      number('attention', 'attention MACs', 'M, theoretical', 'theoretical',
        (run) => (attends(run) ? run.compute.attention_macs / 1e6 : null), fixed(1),
        'Products of attention by closed form, what chooses the keys included. A mask over a dense product saves none of them.', true),
      number('attention.saved', 'attention MACs saved', '%, theoretical', 'theoretical',
        (run) => (attends(run) ? 100 * run.compute.attention_saved : null), fixed(1),
        'The share of attention’s dense products that is not computed, in theory.', true),
      number('attention.model', 'of the model saved', '%, theoretical', 'theoretical',
        (run) => (attends(run) ? 100 * run.compute.attention_saved_of_model : null), fixed(1),
        'The same MACs as a share of the whole dense model’s.', true),
      number('attention.map', 'attention map kept', '%', 'theoretical',
        (run) => percentOf(run.compute.attention_density), fixed(1),
        'Share of the entries of all attention maps, query by key, that are kept.', false),
      number('attention.tiles', 'attention tiles kept', '%', 'theoretical',
        (run) => percentOf(run.compute.attention_block_density), fixed(1),
        'Share of the maps’ tiles of 128 × 128 that are not empty: what a block-sparse kernel could skip is the rest.', false),
    ] : []),
    ...D.settings.flatMap((setting, n) => [
      number(`latency.${n}`, `latency p50, ${setting.label}`, 'ms, measured', 'measured',
        (run) => timed(run, n)?.compressed.p50 ?? null, fixed(2),
        `Median time of one call, ${setting.workload}; measured on ${setting.detail}.`, n === 0),
      {id: `speedup.${n}`, title: `speed-up, ${setting.label}`, unit: 'measured',
        ledger: 'measured', kind: 'number', shown: n === 0, told: true, setting: n,
        get: (run) => (run.method === 'none' ? null : timed(run, n)?.speed_up.p50 ?? null),
        text: fixed(2),
        help: 'Dense / compressed time, taken in turns; told only where its 95% interval leaves ' +
          `1 out and it differs by more than 5%. Measured on ${setting.detail}.`},
    ]),
    number('steps', 'steps', '', 'budget', (run) => run.budget.total, whole,
      'Optimizer steps in all, the base included.', false),
    text('pair', 'equal pair', 'budget', (run) => (run.budget.pair_equal ? 'yes' : 'no'),
      'Whether the dense twin is the same model and took as many steps.', false),
    number('minutes', 'time', 'min', 'run',
      (run) => (Date.parse(run.finished) - Date.parse(run.started)) / 6e4, fixed(1),
      'Wall time of the last attempt.', false),
    text('name', 'Name', 'run', (run) => run.name, 'The folder below outputs.', false),
    text('sweep', 'Sweep', 'run', (run) => run.sweep, 'The folder of the sweep.', false),
    text('digest', 'Digest', 'run', (run) => run.digest.slice(0, 12),
      'Over everything in the configuration that changes the result, but the seed.', false),
    text('device', 'Device', 'run', (run) => run.device, 'The machine’s processor.', false),
    text('finished', 'Finished', 'run', (run) => day(run.finished), 'UTC.', false),
    ...D.axes.map((axis) => ({id: `config.${axis}`, title: axis, ledger: 'sweep', kind: 'text',
      shown: false, get: (run) => plainValue(config(run)[axis] ?? ''), help: `The key ${axis}.`,
      text: (value) => (value === '' || value === null ? '–' : String(value))})),
  ];
  for (const column of COLUMNS) column.by = `${column.title}${column.unit ? ` (${column.unit})` : ''}`;
}

const columnOf = (id) => COLUMNS.find((column) => column.id === id);
/** Without a choice of one's own: a configuration where it tells rows apart, model and data set where
 * several are shown. */
function defaultColumns() {
  const groups = D.groups.filter((group) => S.scope < 0 || group.scope === S.scope);
  const told = groups.some((group) => group.label.includes(' · '));
  const many = S.scope < 0 && D.scopes.length > 1;
  // a table that fits is read at a glance: what is left out for the configuration is in the plots
  const depends = {configuration: told, model: many, dataset: many, 'macs.nonzero': !told, 'latency.0': !told};
  return COLUMNS.filter(({id, shown}) => depends[id] ?? shown).map(({id}) => id);
}

/** A row of the table: one run, or the seeds of one configuration. */
class Row {
  constructor(runs, id) {
    this.runs = runs;
    this.id = id;
    this.method = runs[0].method;
    this.scope = runs[0].scope;
    this.kept = new Map();
  }

  get grouped() {
    return this.id.startsWith('group ');
  }

  get title() {
    return this.grouped ? this.runs[0].of.label : runTitle(this.runs[0]);
  }

  /** {value, half, text}: value sorts and filters. */
  cell(column) {
    if (!this.kept.has(column.id)) this.kept.set(column.id, this.make(column));
    return this.kept.get(column.id);
  }

  make(column) {
    if (column.seeds && this.grouped) {
      return {value: this.runs.length, half: null, text: String(this.runs.length),
        title: `seeds ${this.runs.map((run) => run.seed).join(', ')}`};
    }
    if (column.told) return this.told(column);
    const values = this.runs.map(column.get);
    if (column.kind === 'text' || !this.grouped) {
      const distinct = [...new Set(values)];
      const value = distinct.length === 1 ? distinct[0] : distinct.join(', ');
      return {value, half: null, text: column.text(value)};
    }
    const found = mean(values);
    const half = column.interval ? found.half : null;
    const text = column.text(found.mean) + (half === null ? '' : ` ± ${half.toFixed(4)}`);
    return {value: found.mean, half, text};
  }

  told(column) {
    const entry = this.grouped
      ? this.runs[0].of.speed[column.setting] ?? null
      : this.method === 'none' ? null : timed(this.runs[0], column.setting);
    if (!entry) return {value: null, half: null, text: '–'};
    return {value: entry.speed_up.p50, half: null, text: entry.told,
      low: entry.speed_up.low, high: entry.speed_up.high};
  }
}
