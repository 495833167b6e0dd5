// A card for each model × data set: its sentence, what it rests on, and the choice of what is shown.

const TONES = {gain: 'gain', even: 'not told apart', loss: 'no gain in quality', open: 'open'};

function showOverview() {
  const cards = D.scopes.map((scope, n) => {
    const chosenHere = S.scope === n;
    const best = scope.best === null ? null : D.groups[scope.best];
    return h('div', {class: `card ${scope.tone}${chosenHere ? ' chosen' : ''}`},
      h('div', {class: 'card-head'},
        h('h3', {}, scopeTitle(scope)),
        h('span', {class: `tone ${scope.tone}`}, TONES[scope.tone])),
      h('p', {class: 'headline'}, scope.headline),
      scope.details.length > 0 && h('ul', {class: 'details'},
        scope.details.map((line) => h('li', {}, line))),
      h('div', {class: 'card-foot'},
        D.scopes.length > 1 && h('button', {type: 'button', 'aria-pressed': String(chosenHere),
          onclick: () => change({scope: n})}, chosenHere ? 'Shown below' : 'Show below'),
        best && h('button', {type: 'button', class: 'quiet', onclick: () => {
          change({scope: n, sel: new Set(best.runs.map((run) => run.key))});
          say(`Selected ${count(best.runs.length, 'run')} of ${best.label}`);
        }}, 'Select the best'),
        h('span', {class: 'muted'}, count(scope.runs, 'run'))));
  });
  fill($('scopes'),
    cards.length === 0 && h('p', {class: 'empty'}, 'No run is finished yet. Start one with ',
      h('code', {}, 'gossamer'), ', then build this page again, or keep it fresh with ',
      h('code', {}, 'gossamer report … --watch'), '.'),
    h('div', {class: `cards${cards.length === 1 ? ' single' : ''}`}, cards),
    D.scopes.length > 1 && h('div', {class: 'below'},
      h('button', {type: 'button', class: 'quiet', 'aria-pressed': String(S.scope === -1),
        onclick: () => change({scope: -1})},
      S.scope === -1 ? 'The table shows all of them' : 'Show all of them in the table')));
}

/** What plots of quality say when several scopes are shown at once. */
function oneScopeFirst() {
  return h('p', {class: 'empty'},
    'Quality on different data sets has no common axis. Show one of them: ',
    D.scopes.map((scope, n) => h('button', {type: 'button', class: 'quiet',
      onclick: () => change({scope: n})}, scopeTitle(scope))));
}
