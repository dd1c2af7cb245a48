// Secrets engines and the secrets in those of type kv, version 1 and 2.
import {act, go, show} from './app.js';
import {call, encodePath, list, read} from './api.js';
import {button, element, field, form, table} from './dom.js';

const link = (path) => '#/secrets/' + encodePath(path);

async function mounts() {
  const answer = await call('GET', 'sys/internal/ui/mounts');
  return Object.entries(answer.data.secret)
    .filter(([, mount]) => mount.type === 'kv')
    .map(([path, mount]) => ({path, version: Number(mount.options?.version ?? 1), ...mount}));
}

export async function mountsPage() {
  const rows = (await mounts()).map((mount) =>
    [element('a', {href: link(mount.path)}, mount.path), `kv version ${mount.version}`,
      mount.description]);
  show('Secrets', rows.length ? table(['Path', 'Type', 'Description'], rows)
    : element('p', {class: 'quiet'}, 'Your policies reach no key-value engine.'));
}

// The mount that `path` lies in, and the rest.
async function locate(path) {
  const mount = (await mounts()).filter((each) => path.startsWith(each.path))
    .sort((a, b) => b.path.length - a.path.length)[0];
  if (!mount) throw new Error(`There is no key-value engine at ${path} that you may see.`);
  const key = path.slice(mount.path.length);
  const api = (kind) => mount.path + (mount.version === 2 ? kind + '/' : '') + encodePath(key);
  return {mount, key, api};
}

function trail(path) {
  const parts = path.split('/').filter((part) => part !== '');
  const links = parts.flatMap((part, i) => {
    const to = parts.slice(0, i + 1).join('/') + (i + 1 < parts.length || path.endsWith('/') ? '/' : '');
    return [' / ', element('a', {href: link(to)}, part)];
  });
  return element('p', {}, element('a', {href: '#/secrets'}, 'Secrets'), ...links);
}

export async function secretPage(path) {
  const place = await locate(path);
  if (place.key === '' || place.key.endsWith('/')) return directoryPage(path, place);
  return leafPage(path, place);
}

async function directoryPage(path, {api}) {
  const names = await list(api('metadata'));
  const name = field('New secret', {required: true});
  show(path, trail(path),
    names.length ? table(['Name'], names.map((each) =>
      [element('a', {href: link(path + each)}, each)]))
      : element('p', {class: 'quiet'}, 'Nothing is here yet.'),
    element('h2', {}, 'Add one'),
    form(name.rows, 'Write it', () => go(link(path + name.input.value.trim()))));
}

// A value that shows when it is asked to.
function hiddenValue(value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value, null, 2);
  const shown = element('span', {class: 'value'}, '••••••••');
  const toggle = button('Show', () => {
    const hidden = toggle.textContent === 'Show';
    shown.textContent = hidden ? text : '••••••••';
    toggle.textContent = hidden ? 'Hide' : 'Show';
  });
  return element('div', {}, shown, ' ', toggle, ' ',
    button('Copy', () => act(() => navigator.clipboard.writeText(text), 'Copied.')));
}

function editor(data, save) {
  const text = field('Data, as JSON', {lines: true, required: true});
  text.input.value = JSON.stringify(data ?? {'': ''}, null, 2);
  return form(text.rows, 'Save', () => act(() => {
    let parsed;
    try {
      parsed = JSON.parse(text.input.value);
    } catch (error) {
      throw new Error(`This is no JSON: ${error.message}`);
    }
    if (parsed === null || typeof parsed !== 'object' || Array.isArray(parsed)) {
      throw new Error('The data must be an object: {"key": "value"}');
    }
    return save(parsed);
  }));
}

async function leafPage(path, place, version = 0) {
  const two = place.mount.version === 2;
  const answer = await read(place.api('data') + (version ? `?version=${version}` : ''));
  const data = two ? answer?.data?.data : answer?.data;
  const again = (which = 0) => act(() => leafPage(path, place, which));
  const current = two ? await read(place.api('metadata')).catch(() => null) : null;
  const save = async (parsed) => {
    // Only onto what was read: nobody else's change is overwritten unseen.
    const body = two
      ? {data: parsed, options: {cas: current?.data?.current_version ?? 0}} : parsed;
    await call('POST', place.api('data'), body);
    await leafPage(path, place);
  };
  const edit = editor(data, save);
  edit.hidden = Boolean(data);
  show(path, trail(path),
    data ? table(['Key', 'Value'], Object.entries(data).map(([key, value]) => [key, hiddenValue(value)]))
      : element('p', {class: 'quiet'}, answer ? 'This version was deleted.' : 'Nothing is here yet.'),
    data ? element('div', {class: 'row'},
      button('Edit', () => { edit.hidden = !edit.hidden; }, 'main'),
      button('Delete', () => act(async () => {
        if (!confirm(`Delete ${path}?`)) return;
        await call('DELETE', place.api('data'));
        await (two ? leafPage(path, place) : go(link(path.slice(0, path.lastIndexOf('/') + 1))));
      }), 'bad')) : null,
    edit,
    two && current ? versionsTable(current.data, place, again) : null);
}

function versionsTable(metadata, place, again) {
  const state = (version) => version.destroyed ? 'destroyed'
    : version.deletion_time ? `deleted ${version.deletion_time}` : 'there';
  const change = (kind, number, question) => act(async () => {
    if (question && !confirm(question)) return;
    await call('POST', place.api(kind), {versions: [number]});
    await again();
  });
  const rows = Object.entries(metadata.versions).reverse().map(([text, version]) => {
    const number = Number(text);
    return [text, version.created_time, state(version), element('span', {class: 'row'},
      button('Look', () => again(number)),
      version.deletion_time && !version.destroyed
        ? button('Undelete', () => change('undelete', number)) : null,
      version.destroyed ? null : button('Destroy', () =>
        change('destroy', number, `Destroy version ${number}? It can't be brought back.`), 'bad'))];
  });
  return element('section', {}, element('h2', {}, 'Versions'),
    table(['Version', 'Written', 'State', ''], rows));
}
