// What differs between two runs: configuration, results, environment; what is equal is left out.

function runDiff(run) {
  const others = D.runs.filter((other) => other !== run);
  const title = (other) => `${runTitle(other)} · ${other.model} × ${other.dataset}${other.status === 'done' ? '' : ` · ${other.status}`}`;
  return [h('div', {class: 'bar'}, h('label', {for: 'diff-with'}, 'Compare with'),
    h('select', {id: 'diff-with', onchange: (event) => change({diff: event.target.value || null})},
      h('option', {value: ''}, others.length ? 'choose a run…' : 'there is no other run'),
      others.map((other) => h('option', {value: other.key}, cutTo(title(other), 90))))),
  h('div', {id: 'diff-body'})];
}

function showDiff(run) {
  const other = D.byKey.get(S.diff);
  $('pick').textContent = S.sel.has(run.key) ? 'Selected' : 'Select';
  $('pick').setAttribute('aria-pressed', String(S.sel.has(run.key)));
  if ($('diff-with').value !== (S.diff ?? '')) $('diff-with').value = S.diff ?? '';
  if (!other) return void $('diff-body').replaceChildren();
  const parts = [
    ['Configuration', {seed: String(run.seed), ...config(run)}, {seed: String(other.seed), ...config(other)}],
    ['Results', results(run), results(other)],
    ['Environment', surroundings(run), surroundings(other)],
  ];
  fill($('diff-body'), parts.map(([title, mine, theirs]) => {
    const keys = [...new Set([...Object.keys(mine), ...Object.keys(theirs)])];
    const lines = keys.filter((key) => mine[key] !== theirs[key]);
    return h('div', {class: 'part'}, h('h4', {}, title), lines.length
      ? plainTable([['key'], ['this run'], [cutTo(runTitle(other), 40)]], lines.map((key) =>
        [key, mine[key] ?? h('span', {class: 'muted'}, 'not there'), theirs[key] ?? h('span', {class: 'muted'}, 'not there')]), `${title} that differs`)
      : h('p', {class: 'muted'}, 'No difference.'));
  }));
}

function results(run) {
  if (run.status !== 'done') return {status: run.status, error: run.error};
  const found = {status: run.status};
  for (const [name, value] of Object.entries(run.quality.compressed)) found[`test ${name}`] = fixed(4)(value);
  for (const [name, value] of Object.entries(run.quality.dense)) found[`test ${name} of the dense twin`] = fixed(4)(value);
  Object.assign(found, {
    'on disk, bytes (storage)': whole(run.size.checkpoint_bytes),
    'non-zero parameters (theoretical)': whole(run.size.nonzero_parameters),
    'trained parameters (storage)': whole(run.size.trainable_parameters),
    'MACs executed (theoretical)': whole(run.compute.macs_effective),
    'MACs of non-zeros (theoretical)': whole(run.compute.macs_nonzero),
    ...(attends(run) ? {'attention MACs (theoretical)': whole(run.compute.attention_macs)} : {}),
    'steps in all': whole(run.budget.total),
  });
  for (const entry of run.speed) {
    if ('skipped' in entry) continue;
    const setting = D.settings[entry.setting];
    found[`latency p50, ${setting.workload}, ms (measured on ${setting.detail})`] = fixed(2)(entry.compressed.p50);
  }
  return found;
}

function surroundings(run) {
  return {host: run.host, device: run.device, commit: run.git.commit ?? 'none', dirty: String(run.git.dirty),
    ...Object.fromEntries(Object.entries(D.versions[run.versions]).map(([name, version]) => [`version of ${name}`, version ?? 'not installed'])),
    ...D.environments[run.environment]};
}
