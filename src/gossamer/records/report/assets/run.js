// One run's own page: everything its record says, ledger by ledger, and what differs from another.

function showRun() {
  const run = D.byKey.get(S.run);
  $('summary').hidden = Boolean(run);
  $('run').hidden = !run;
  document.body.classList.toggle('one-run', Boolean(run));
  if (!run) {
    $('run').replaceChildren();
    $('run').dataset.shown = '';
    document.title = 'Gossamer report';
    return;
  }
  document.title = `${runTitle(run)} – Gossamer report`;
  if ($('run').dataset.shown === run.key) return void showDiff(run);
  $('run').dataset.shown = run.key;
  const done = run.status === 'done';
  fill($('run'),
    h('p', {class: 'back'}, h('a', {href: address({...S, run: null, diff: null}), id: 'back',
      onclick: (event) => { event.preventDefault(); closeRun(); }}, '← All runs')),
    h('h2', {tabindex: '-1'}, swatch(run.method), ' ', runTitle(run)),
    h('p', {class: 'lead'}, `${run.model} × ${run.dataset}, ${run.task}; `,
      h('span', {class: `status ${run.status}`}, run.status), `, ${day(run.finished)} UTC`),
    !done && h('p', {class: 'error', role: 'note'}, run.error),
    done && runTiles(run),
    h('p', {class: 'command'}, h('code', {}, `gossamer ${run.overrides.join(' ')}`)),
    h('div', {class: 'bar'},
      h('button', {type: 'button', onclick: () => toggle([run]), id: 'pick'}, 'Select'),
      h('span', {class: 'muted path'}, run.path)),
    h('nav', {class: 'inner', 'aria-label': 'Parts of this run'}, runParts(run).map(([id, title]) =>
      h('a', {href: `#${id}`, onclick: (event) => scrollTo(event, id)}, title))),
    h('div', {class: 'sheets'}, runParts(run).map(([id, title, make, half]) =>
      h('section', {id, class: half && 'half', 'aria-labelledby': `${id}-title`},
        h('h3', {id: `${id}-title`}, title), make(run)))));
  showDiff(run);
}

function closeRun() {
  change({run: null, diff: null}, true);
  restoreScroll();
}

function scrollTo(event, id) {
  event.preventDefault();
  const part = $(id);
  part.scrollIntoView({behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth'});
  part.setAttribute('tabindex', '-1');
  part.focus({preventScroll: true});
}

function runParts(run) {
  const parts = run.status === 'done' ? [
    ['run-quality', 'Quality', runQuality, true],
    ['run-checks', 'Checks', runChecks, true],
    ['run-ledgers', 'Ledgers', runLedgers],
    ['run-stages', 'Stages and budget', runStages],
    ...(run.pictures ? [['run-pictures', 'Pictures', runPictures]] : []),
    ...(run.density.length ? [['run-layers', 'Layers', runLayers]] : []),
  ] : [];
  return [...parts,
    ['run-diff', 'Difference to another run', runDiff],
    ['run-config', 'Configuration', runConfig],
    ['run-environment', 'Environment', runEnvironment, true],
    ...(run.artifacts?.length ? [['run-artifacts', 'Artefacts', runArtifacts, true]] : [])];
}

/** The figures that are asked for first, each with its ledger. */
function runTiles(run) {
  const tile = (title, value, note) => h('div', {class: 'tile'},
    h('dt', {}, title), h('dd', {}, value, h('small', {}, note)));
  const change = against(run);
  const {size, compute} = run;
  const [first] = run.speed.filter((entry) => !('skipped' in entry));
  return h('dl', {class: 'tiles'},
    tile(`test ${run.metric}`, primary(run) === null ? 'not finite' : fixed(4)(primary(run)),
      change === null ? 'the dense model' : `${signed(4)(change)} to its dense twin`),
    tile('on disk', `${fixed(2)(size.checkpoint_bytes / 1e6)} MB`,
      `${percent(size.checkpoint_bytes / size.dense_checkpoint_bytes)} of the dense, storage`),
    tile('MACs executed', `${fixed(1)(compute.macs_effective / 1e6)} M`,
      `${percent(compute.macs_effective / compute.macs_dense)} of the dense, theoretical`),
    tile('trained', whole(size.trainable_parameters),
      `${percent(size.trainable_parameters / size.dense_parameters)} of the parameters`),
    first && tile(`latency, ${D.settings[first.setting].workload}`, `${fixed(2)(first.compressed.p50)} ms`,
      `${run.method === 'none' ? 'p50' : first.told}, measured`));
}

function runQuality(run) {
  const dense = run.method === 'none';
  const rowsOf = Object.keys(run.quality.compressed).map((name) => {
    const [small, twin] = [run.quality.compressed[name], run.quality.dense[name] ?? null];
    const show = (value) => (value === null ? 'not finite' : fixed(4)(value));
    const change_ = small === null || twin === null ? '–' : signed(4)(small - twin);
    const title = `test ${name}${name === run.metric ? ` (primary, ${run.direction === 'min' ? 'lower' : 'higher'} is better)` : ''}`;
    return dense ? [title, show(small)] : [title, show(twin), show(small), change_];
  });
  return [plainTable(dense ? [['metric'], ['dense', true]]
    : [['metric'], ['dense twin', true], ['compressed', true], ['change', true]], rowsOf, 'Quality'),
  !dense && !run.budget.pair_equal && h('p', {class: 'note'}, 'Not an equal pair: the twin is another model or took another number of steps.')];
}

function ledger(title, note, table) {
  return h('div', {class: `ledger ${title.toLowerCase()}`}, h('h4', {}, title), h('p', {class: 'note'}, note), table);
}

function runLedgers(run) {
  const {size, compute} = run;
  const share = (part, all) => (all ? percent(part / all) : '–');
  const columns = [['figure'], ['dense twin', true], ['this run', true], ['of the dense', true]];
  const macs = (value) => `${fixed(1)(value / 1e6)} M`;
  const mb = (value) => `${fixed(2)(value / 1e6)} MB`;
  return h('div', {class: 'ledgers'},
    ledger('Storage', 'What is really there, in the weight files.', plainTable(columns, [
      ['on disk', mb(size.dense_checkpoint_bytes), mb(size.checkpoint_bytes), share(size.checkpoint_bytes, size.dense_checkpoint_bytes)],
      ['parameters', whole(size.dense_parameters), whole(size.parameters), share(size.parameters, size.dense_parameters)],
      ['trained parameters', '', whole(size.trainable_parameters), share(size.trainable_parameters, size.dense_parameters)],
      ['bits per weight, changed layers', '', size.bits_per_weight === null ? 'none changed' : significant(size.bits_per_weight), ''],
      ['state while it runs', '', mb(size.state_bytes), ''],
    ], 'Storage')),
    ledger('Theoretical', `MACs are multiply-accumulates of one sample, ${compute.workload}; counted by ${compute.counted_by}.`, plainTable(columns, [
      ['MACs executed', macs(compute.macs_dense), macs(compute.macs_effective), share(compute.macs_effective, compute.macs_dense)],
      ['MACs of non-zeros (no runtime is claimed to skip the others)', macs(compute.macs_dense), macs(compute.macs_nonzero), share(compute.macs_nonzero, compute.macs_dense)],
      ['non-zero parameters', whole(size.dense_parameters), whole(size.nonzero_parameters), share(size.nonzero_parameters, size.dense_parameters)],
      ...(size.format_bytes ? [['storage by format (values and positions, no scales)', mb(size.dense_format_bytes), mb(size.format_bytes), share(size.format_bytes, size.dense_format_bytes)]] : []),
      ...(compute.bit_operations ? [['bit operations (bits of both operands, kept weights)', macs(compute.bit_operations_dense), macs(compute.bit_operations), share(compute.bit_operations, compute.bit_operations_dense)]] : []),
      ...(attends(run) ? attentionRows(compute, macs, share) : []),
    ], 'Theoretical')),
    ledger('Measured', 'The model and its twin in turns, on one device.', run.speed.length
      ? plainTable([['workload'], ['measured on'], ['dense p50, ms', true], ['p50, ms', true], ['p95, ms', true], ['per second', true], ['peak MB', true], ['speed-up [95%]', true]],
        run.speed.map((entry) => {
          if ('skipped' in entry) return [entry.workload, `not measured: ${entry.skipped}`, '', '', '', '', '', ''];
          const setting = D.settings[entry.setting];
          const {compressed, dense, speed_up: up} = entry;
          const peak = compressed.peak_memory_bytes;
          const told = run.method === 'none' ? '–' : `${entry.told} [${up.low.toFixed(2)}, ${up.high.toFixed(2)}]`;
          return [setting.workload, setting.detail, fixed(2)(dense.p50), fixed(2)(compressed.p50), fixed(2)(compressed.p95),
            fixed(1)(compressed.throughput), peak === null ? '–' : fixed(1)(peak / 1e6), told];
        }), 'Measured')
      : h('p', {class: 'empty'}, 'Not measured. ', h('code', {}, `gossamer bench ${run.path}`), ' does it.')),
    compute.modelled && ledger('Modelled', 'A cost model’s figure; nothing was timed.',
      facts([[`by ${compute.modelled.by}`, String(compute.modelled.figure)]], 'Modelled')));
}

/** Of attention's products by closed form; what of it is saved, also of the whole model. */
function attentionRows(compute, macs, share) {
  const {attention_macs: after, attention_macs_dense: before, macs_dense: all} = compute;
  return [
    ['attention MACs (closed form, what chooses the keys included; a mask executes none less)', macs(before), macs(after), share(after, before)],
    ['the whole model with these attention MACs', macs(all), macs(all - before + after), share(all - before + after, all)],
    ['attention map kept, by element', '100.0%', percent(compute.attention_density), ''],
    ['attention map kept, by tiles of 128 × 128', '100.0%', percent(compute.attention_block_density), ''],
  ];
}

function runChecks(run) {
  const bad = run.checks.filter((check) => !check.passed).length;
  return [h('p', {class: 'lead'}, bad ? `${bad} of ${count(run.checks.length, 'check')} failed.` : `All ${count(run.checks.length, 'check')} passed, on what was reloaded from the exported files.`),
    h('ul', {class: 'checks'}, run.checks.map((check) => h('li', {class: check.passed ? 'passed' : 'failed'},
      h('span', {class: 'mark', 'aria-hidden': 'true'}, check.passed ? '✓' : '✗'),
      h('span', {}, check.name, h('span', {class: 'hidden'}, check.passed ? ' passed' : ' failed')),
      h('span', {class: 'muted'}, check.figure))))];
}

function runStages(run) {
  const {budget} = run;
  const metric = run.metric;
  const value = (quality) => (quality[metric] === undefined || quality[metric] === null ? '–' : fixed(4)(quality[metric]));
  return [h('p', {class: 'lead'}, `From ${budget.start} weights: ${count(budget.base, 'step')} of the base, ${budget.steps} of its own, ${budget.total} in all; `,
    `the dense twin took ${budget.twin.reduce((a, b) => a + b, 0)}${budget.unspent ? `; ${budget.unspent} unspent` : ''}.`),
  run.stages.length ? plainTable([['stage'], ['steps', true], ['seconds', true], ['trained parameters', true], [`validation ${metric} before`, true], ['after', true]],
    run.stages.map((stage) => [stage.name, stage.steps || 'one-shot', fixed(1)(stage.seconds), stage.steps ? whole(stage.trainable_parameters) : '–',
      value(stage.quality_before), value(stage.quality_after)]), 'Stages') : h('p', {class: 'empty'}, 'No stages: the model is used as it was.'),
  run.stages.map(stageFigures)];
}

/** What its methods drew of the exported model: pictures of one caption share it. */
function runPictures(run) {
  const told = new Map();
  for (const picture of run.pictures) {
    const words = `${picture.method}. ${picture.caption}`;
    told.set(words, [...(told.get(words) ?? []), picture]);
  }
  return [[...told].map(([words, pictures]) => [h('p', {class: 'lead'}, words),
    h('div', {class: 'pictures'}, pictures.map(({file, png, width, height}) => h('figure', {},
      h('img', {src: `data:image/png;base64,${png}`, width, height, alt: `${file}: ${words}`}),
      h('figcaption', {class: 'muted'}, file))))]),
  run.unshown.map((reason) => h('p', {class: 'note'}, reason))];
}

function runLayers(run) {
  const layers = D.layers[run.layers].map((layer, n) => ({...layer, n}));
  const head = ({name, shape, pattern, method, target, n}) => [name, shape.join(' × '), pattern, method ?? '–',
    target === null ? '–' : percent(target), percent(run.density[n])];
  const weights = layers.filter((layer) => !finite(layer.dense_macs));
  const maps = layers.filter((layer) => finite(layer.dense_macs));
  const k = (macs) => fixed(1)(macs / 1e3);
  return [weights.length > 0 && h('details', {}, h('summary', {}, count(weights.length, 'layer')),
    plainTable([['layer'], ['shape'], ['pattern'], ['method'], ['target', true], ['density', true], ['bits', true], ['MACs, k', true], ['left alone']],
      weights.map((layer) => [...head(layer), significant(run.bits[layer.n]), k(layer.macs), layer.skipped ?? '']), 'Layers')),
  maps.length > 0 && h('details', {}, h('summary', {}, count(maps.length, 'attention map')),
    h('p', {class: 'note'}, 'Products of queries, keys and values of one sample by closed form, what chooses the keys included; theoretical.'),
    plainTable([['attention'], ['heads × queries × keys'], ['pattern'], ['method'], ['target', true], ['kept', true], ['of 128 × 128 tiles', true], ['MACs, k', true], ['dense, k', true], ['of the dense', true], ['left alone']],
      maps.map((layer) => [...head(layer), percent(run.tiles[layer.n]), k(layer.macs), k(layer.dense_macs), percent(layer.macs / layer.dense_macs), layer.skipped ?? '']), 'Attention maps'))];
}

function runConfig(run) {
  const found = Object.entries(config(run));
  const groups = new Map();
  for (const [key, value] of found) {
    const [head] = key.includes('.') ? key.split('.') : [''];
    if (!groups.has(head)) groups.set(head, []);
    groups.get(head).push([head ? key.slice(head.length + 1) : key, value]);
  }
  if (groups.has('')) groups.get('').unshift(['seed', String(run.seed)]);
  return [h('p', {class: 'lead'}, `Digest ${run.digest}. Everything that was resolved, secrets hidden.`),
    h('div', {class: 'columns'}, [...groups].map(([head, entries]) =>
      h('div', {class: 'part'}, h('h4', {}, head || 'top'), facts(entries, head || 'top'))))];
}

function runEnvironment(run) {
  const git = run.git.commit ? `${run.git.commit.slice(0, 12)}${run.git.dirty ? ', with uncommitted changes' : ''}` : 'not a repository';
  const environment = Object.entries(D.environments[run.environment]);
  const versions = Object.entries(D.versions[run.versions]).map(([name, version]) => [name, version ?? 'not installed']);
  return [facts([['host', run.host], ['device', run.device], ['code', git], ['sweep', run.sweep ?? 'a single run'],
    ['started', `${day(run.started)} UTC`], ['finished', `${day(run.finished)} UTC`], ...versions], 'Environment'),
  environment.length > 0 && h('details', {}, h('summary', {}, `environment.json, ${count(environment.length, 'entry').replace('entrys', 'entries')}`),
    facts(environment, 'environment.json'))];
}

function runArtifacts(run) {
  return plainTable([['file'], ['bytes', true], ['sha256']],
    run.artifacts.map((each) => [each.path, whole(each.bytes), `${each.sha256}…`]), 'Artefacts');
}
