// What the file carries, unpacked: D, with each run tied to what it shares with others.

let D = null;

async function unpack() {
  const packed = Uint8Array.from(atob($('data').textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  D = JSON.parse(await new Response(stream).text());
  D.byKey = new Map(D.runs.map((run) => [run.key, run]));
  D.finished = D.runs.filter((run) => run.status === 'done');
  D.cut = D.runs.filter((run) => run.status !== 'done');
  D.groups.forEach((group, n) => {
    group.id = n;
    group.runs = group.members.map((place) => D.finished[place]);
    for (const run of group.runs) {
      run.of = group;
      run.scope = group.scope;
    }
  });
  D.methods = [...new Set(D.runs.map((run) => run.method))].sort();
  D.metrics = [...new Set(D.finished.flatMap((run) => Object.keys(run.quality.compressed)))];
}

const config = (run) => D.configs[run.config];
const primary = (run) => run.quality.compressed[run.metric] ?? null;
const against = (run) => {
  const [small, dense] = [primary(run), run.quality.dense[run.metric] ?? null];
  return small === null || dense === null || run.method === 'none' ? null : small - dense;
};
/** Whether a method chose what this run's attention sees. */
const attends = (run) => finite(run.compute.attention_macs);
const percentOf = (share) => (finite(share) ? 100 * share : null);
const timed = (run, setting) => run.speed.find((entry) => entry.setting === setting) ?? null;
const scopeName = (scope) => `${scope.model} × ${scope.dataset}`;
/** Two scopes can have one model and data set: what sets them apart is added. */
const scopeTitle = (scope) => scopeName(scope) + (scope.apart ? ` (${scope.apart})` : '');
const runTitle = (run) => `${run.of ? run.of.label : run.method} · seed ${run.seed}`;

/** Mean and half of its 95% t interval; null where a value is missing, half null for one seed. */
function mean(values) {
  if (!values.length || !values.every(finite)) return {mean: null, half: null, n: values.length};
  const n = values.length;
  const middle = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return {mean: middle, half: null, n};
  const variance = values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (n - 1);
  return {mean: middle, half: Math.sqrt(variance / n) * D.t[n - 2], n};
}

/** Which of several numbers are the same for all runs: keys of a configuration that vary here. */
function varyingAxes(runs) {
  return D.axes.filter((axis) => {
    const values = new Set(runs.map((run) => config(run)[axis]).filter((v) => v !== undefined));
    return values.size > 1;
  });
}
