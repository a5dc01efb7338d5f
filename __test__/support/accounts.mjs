// Accounts for the tests of npm clients: people with homes of their own, second factors, and requests that no client has a command for.
import { join } from 'node:path';
import { Authenticator } from './authenticator.mjs';
import { password } from './matrix.mjs';
import { npmrc } from './npm-config.mjs';
import { write } from './packages.mjs';
import { must } from './wire.mjs';

/** The flag that makes an npm command use a token. */
export const asToken = (site, token) => `--${site.registry.npm.replace(/^http:/, '')}:_authToken=${token}`;

/** Makes a user with a home that holds a token of theirs; `site.as(name)` is their environment. */
export async function person(site, name, files = (url, token) => ({ '.npmrc': npmrc(url, token) })) {
  await site.registry.addUser(name, password);
  const token = await site.registry.createToken(name, 'npm');
  await write(join(site.box.home, name), files(site.registry.npm, token));
  return token;
}

/** A request to the registry; the answer's JSON. */
export async function call(site, token, method, path, body, headers = {}) {
  const response = await fetch(`${site.registry.npm}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = { status: response.status, headers: response.headers, url: response.url, text: await response.text() };
  must(answer, 200, 201);
  return JSON.parse(answer.text);
}

/** Enrols a second factor for the owner of a token. */
export async function enrol(site, token, mode) {
  const { tfa } = await call(site, token, 'POST', '-/npm/v1/user', { tfa: { password, mode } });
  const app = new Authenticator(new URL(tfa).searchParams.get('secret'));
  const { tfa: recovery } = await call(site, token, 'POST', '-/npm/v1/user', { tfa: [await app.code()] });
  return { app, recovery };
}
