// element('a', {href: '#/'}, 'text', child…): nothing is ever made from markup, so that no secret's
// content can become part of the page's structure.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function button(text, onclick, kind = '') {
  return element('button', {type: 'button', class: kind, onclick}, text);
}

// A labelled input. `input` is where its text is.
export function field(text, attributes = {}) {
  const id = 'field-' + text.toLowerCase().replace(/[^a-z]+/g, '-');
  const kind = attributes.lines ? 'textarea' : 'input';
  const input = element(kind, {id, spellcheck: 'false', autocomplete: 'off', ...attributes});
  return {input, rows: [element('label', {for: id}, text), input]};
}

// A form whose submit runs `work`.
export function form(rows, label, work) {
  return element('form', {class: 'card', onsubmit: (event) => { event.preventDefault(); work(); }},
    ...rows, element('div', {class: 'row'}, element('button', {class: 'main'}, label)));
}

export function table(heads, rows) {
  return element('table', {},
    element('thead', {}, element('tr', {}, ...heads.map((head) => element('th', {scope: 'col'}, head)))),
    element('tbody', {}, ...rows.map((cells) =>
      element('tr', {}, ...cells.map((cell) => element('td', {}, cell))))));
}
