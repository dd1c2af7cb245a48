// Policies: their list, and one's text.
import {act, go, show} from './app.js';
import {call, encodePath, list, read} from './api.js';
import {button, element, field, form, table} from './dom.js';

export async function policiesPage() {
  const names = await list('sys/policies/acl');
  const name = field('New policy', {required: true});
  show('Policies',
    table(['Name'], names.map((each) =>
      [element('a', {href: '#/policies/' + encodePath(each)}, each)])),
    element('h2', {}, 'Add one'),
    form(name.rows, 'Write it', () => go('#/policies/' + encodePath(name.input.value.trim()))));
}

export async function policyPage(name) {
  const path = 'sys/policies/acl/' + encodePath(name);
  const answer = await read(path);
  const text = field('Policy', {lines: true, required: true});
  text.input.value = answer?.data?.policy ?? '';
  const save = () => act(() => call('PUT', path, {policy: text.input.value}), 'Saved.');
  const remove = async () => {
    if (!confirm(`Delete the policy ${name}?`)) return;
    await act(async () => {
      await call('DELETE', path);
      go('#/policies');
    });
  };
  show(name, form(text.rows, 'Save', save),
    element('div', {class: 'row'}, button('Delete this policy', remove, 'bad')));
}
