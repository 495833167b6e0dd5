// A page that is written again while a sweep runs loads itself again: what was chosen stands in the
// address, how far it was scrolled in the session. Not while somebody types, reads a menu or moves.

const CALM = 2500; // ms without a hand on the page
let touched = 0;
for (const kind of ['keydown', 'pointermove', 'pointerdown', 'wheel', 'touchmove']) {
  addEventListener(kind, () => { touched = Date.now(); }, {passive: true});
}

function busy() {
  const at = document.activeElement;
  return document.hidden || Boolean(at?.matches('input:not([type=checkbox]), textarea, select')) ||
    Boolean(document.querySelector('details.menu[open]')) || !getSelection().isCollapsed ||
    Date.now() - touched < CALM;
}

function startLive() {
  if (!D.refresh) return;
  const due = Date.now() + 1000 * D.refresh;
  let paused = sessionStorageGet('paused') === '1';
  const button = h('button', {type: 'button', class: 'quiet', id: 'pause', onclick: () => {
    paused = !paused;
    sessionStorageSet('paused', paused ? '1' : '0');
    tell();
  }});
  const text = h('span', {});
  fill($('live'), text, button);
  const tell = () => {
    text.textContent = paused ? 'paused' : `live, every ${D.refresh} s`;
    button.textContent = paused ? 'Go on' : 'Pause';
    $('live').classList.toggle('on', !paused);
  };
  tell();
  setInterval(() => {
    if (paused || Date.now() < due || busy()) return;
    keepScroll();
    location.reload();
  }, 500);
}

function sessionStorageGet(name) {
  try { return sessionStorage.getItem(`gossamer ${location.pathname} ${name}`); } catch { return null; }
}

function sessionStorageSet(name, value) {
  try { sessionStorage.setItem(`gossamer ${location.pathname} ${name}`, value); } catch { /* private */ }
}

const scrollPlace = () => (S.run ? `scroll ${S.run}` : 'scroll');

function keepScroll() {
  const table = document.querySelector('.box.runs');
  sessionStorageSet(scrollPlace(), JSON.stringify([scrollX, scrollY, table?.scrollLeft, table?.scrollTop, shownRows === Infinity ? -1 : shownRows]));
}

function restoreScroll() {
  const kept = JSON.parse(sessionStorageGet(scrollPlace()) ?? 'null');
  if (!kept) return;
  const [x, y, left, top] = kept;
  const table = document.querySelector('.box.runs');
  if (table) [table.scrollLeft, table.scrollTop] = [left ?? 0, top ?? 0];
  window.scrollTo({left: x, top: y, behavior: 'instant'});
}

function restoreShown() {
  const kept = JSON.parse(sessionStorageGet('scroll') ?? 'null');
  if (kept) shownRows = kept[4] === -1 ? Infinity : kept[4] ?? PAGE;
}
