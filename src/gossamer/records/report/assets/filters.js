// What a filter says: text that must be in the cell, or comparisons of numbers.
//   dsee     >0.8     >=0.7 <0.9     0.7..0.9     =3     !=lora     !lora

const COMPARISON = /^(>=|<=|!=|>|<|=)\s*(.+)$/;
const RANGE = /^(-?[\d.]+(?:e-?\d+)?)\.\.(-?[\d.]+(?:e-?\d+)?)$/i;

/** A test of {value, text}; null for an empty filter. */
function parseFilter(text) {
  const words = text.trim().replace(/(>=|<=|!=|>|<|=)\s+/g, '$1');
  if (!words) return null;
  if (/^(>|<|=|!=)/.test(words)) {
    const tests = words.split(/\s+(?=[<>=!])/).map(comparison);
    return (cell) => tests.every((test) => test(cell));
  }
  const range = RANGE.exec(typed(words));
  if (range) {
    const [low, high] = [Number(range[1]), Number(range[2])];
    return ({value}) => finite(value) && value >= low && value <= high;
  }
  if (words.startsWith('!') && words.length > 1) {
    const inner = words.slice(1).toLowerCase();
    return (cell) => !contains(cell, inner);
  }
  const lower = words.toLowerCase();
  return (cell) => contains(cell, lower);
}

/** A number as the table writes it: −1,234.5 */
const typed = (text) => text.replace(/−/g, '-').replace(/(\d),(?=\d{3})/g, '$1');

const contains = (cell, lower) =>
  String(cell.text).toLowerCase().includes(lower) ||
  String(cell.value ?? '').toLowerCase().includes(lower);

function comparison(word) {
  const found = COMPARISON.exec(word.replace(/−/g, '-'));
  if (!found) return () => true; // still being typed
  const [, sign, right] = found;
  const number = Number(typed(right));
  if (right.trim() !== '' && Number.isFinite(number)) {
    const compare = {
      '>': (value) => value > number,
      '<': (value) => value < number,
      '>=': (value) => value >= number,
      '<=': (value) => value <= number,
      '=': (value) => value === number,
      '!=': (value) => value !== number,
    }[sign];
    return ({value}) => {
      const left = typeof value === 'string' && value !== '' ? Number(value) : value;
      return finite(left) && compare(left);
    };
  }
  const lower = right.toLowerCase();
  if (sign === '=') return ({value, text}) => lower === String(value).toLowerCase() || lower === String(text).toLowerCase();
  if (sign === '!=') return ({value, text}) => lower !== String(value).toLowerCase() && lower !== String(text).toLowerCase();
  return () => false; // more or less than a word
}
