// The keystore's HTTP API, with the token in this module's memory alone: a reload forgets it.
let token = '';

export function signIn(text) { token = text.trim(); }
export function signOut() { token = ''; }
export function signedIn() { return token !== ''; }

// Segments are encoded, slashes between them stay.
export function encodePath(path) {
  return path.split('/').map(encodeURIComponent).join('/');
}

// The answer's document, or null where it has none. Throws an Error with `status`; its message is what
// the keystore said.
export async function call(method, path, body) {
  const headers = {'X-Vault-Request': 'true'};
  if (token) headers['X-Vault-Token'] = token;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch('/v1/' + path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store', credentials: 'omit', redirect: 'error',
    });
  } catch {
    throw new Error('The keystore does not answer. Is it running?');
  }
  const text = await response.text();
  const document = text ? JSON.parse(text) : null;
  if (response.ok) return document;
  const words = (document?.errors ?? []).map((error) => error.trim()).join('; ');
  const error = new Error(words || `The keystore answered ${response.status}.`);
  error.status = response.status;
  error.document = document;
  throw error;
}

// Null where there is nothing.
export async function read(path) {
  try {
    return await call('GET', path);
  } catch (error) {
    if (error.status === 404) return error.document?.data ? error.document : null;
    throw error;
  }
}

// Names below a directory.
export async function list(path) {
  const answer = await read(path + '?list=true');
  return answer?.data?.keys ?? [];
}
