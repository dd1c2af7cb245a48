// Which page the address names, and what goes wrong on it.
import {call, read, signIn, signOut, signedIn} from './api.js';
import {element, field, form, table} from './dom.js';
import {policiesPage, policyPage} from './policies.js';
import {mountsPage, secretPage} from './secrets.js';

const main = document.getElementById('main');
const message = document.getElementById('message');

export function say(text, bad = false) {
  message.textContent = text;
  message.className = bad ? 'bad' : '';
  message.hidden = text === '';
}

// Runs what a person asked for; shows its error, or what `done` says.
export async function act(work, done = '') {
  say('');
  try {
    await work();
    if (done) say(done);
  } catch (error) {
    say(error.message, true);
  }
}

export function show(title, ...children) {
  document.title = `${title} – Coffer`;
  main.replaceChildren(element('h1', {}, title), ...children);
  main.focus();
}

export function go(hash) {
  if (location.hash === hash) route();
  else location.hash = hash;
}

function sealedPage(status) {
  if (!status.initialized) {
    show('Not initialized', element('p', {}, 'Initialize it where the keys can be handed out: ',
      element('code', {}, 'vault operator init')));
    return;
  }
  const key = field('Unseal key share', {type: 'password', required: true});
  show('Sealed',
    element('p', {}, `${status.progress} of ${status.t} shares are given.`),
    form(key.rows, 'Unseal', () => act(async () => {
      const now = await call('PUT', 'sys/unseal', {key: key.input.value.trim()});
      if (now.sealed) sealedPage(now);
      else route();
    })));
}

function signInPage() {
  const token = field('Token', {type: 'password', required: true});
  show('Sign in', form(token.rows, 'Sign in', () => act(async () => {
    signIn(token.input.value);
    try {
      await call('GET', 'auth/token/lookup-self');
    } catch (error) {
      signOut();
      throw error.status === 403 ? new Error('The keystore does not know this token.') : error;
    }
    route();
  })));
}

async function homePage() {
  const [status, self] = await Promise.all(
    [call('GET', 'sys/seal-status'), call('GET', 'auth/token/lookup-self')]);
  const facts = self.data;
  show('This keystore',
    table(['', ''], [
      ['Version', status.version], ['Storage', status.storage_type],
      ['Shares', `${status.t} of ${status.n} open it`],
      ['Signed in as', facts.display_name], ['Policies', facts.policies.join(', ')],
      ['Token ends', facts.expire_time ?? 'never'],
    ]));
}

const pages = [
  [/^\/?$/, homePage],
  [/^\/secrets$/, mountsPage],
  [/^\/secrets\/(.+)$/, secretPage],
  [/^\/policies$/, policiesPage],
  [/^\/policies\/(.+)$/, policyPage],
];

async function route() {
  const nav = document.getElementById('nav');
  await act(async () => {
    const status = await read('sys/seal-status');
    nav.hidden = status.sealed || !signedIn();
    if (status.sealed) return sealedPage(status);
    if (!signedIn()) return signInPage();
    const path = location.hash.slice(1);
    for (const [pattern, page] of pages) {
      const match = pattern.exec(path);
      if (match) return page(match[1] && decodeURIComponent(match[1]));
    }
    return show('No such page');
  });
}

document.getElementById('sign-out').addEventListener('click', () => {
  signOut();
  say('Signed out.');
  route();
});
addEventListener('hashchange', route);
route();
