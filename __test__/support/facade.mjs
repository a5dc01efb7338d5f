// A registry in this process, through the public API, for the tests of that API.
import { createHash } from 'node:crypto';
import { SmartRegistry } from 'smartregistry-native';
import { publishDocument, tarball } from './wire.mjs';

/** The configuration of the tests; `changes` replace whole options. */
export const config = (changes = {}) => ({
  storage: { type: 'memory' },
  auth: { jwtSecret: 'a secret of the tests, long enough to sign', tokenStore: 'memory', npmTokens: { enabled: true }, ociTokens: { enabled: true } },
  npm: { enabled: true, basePath: '/npm' },
  oci: { enabled: true, basePath: '/oci' },
  ...changes,
});

/**
 * A running registry with a user; it is destroyed with the test.
 *
 * @param {import('node:test').TestContext} t
 */
export async function open(t, changes) {
  const registry = new SmartRegistry(config(changes));
  await registry.init();
  t.after(() => registry.destroy());
  return registry;
}

/** Tokens of a user of the built-in provider, as headers. */
export async function login(registry, user = 'alice') {
  const auth = registry.getAuthManager();
  const userId = await auth.authenticate({ username: user, password: 'correct-horse-7' });
  const npm = await auth.createNpmToken(userId, false);
  const oci = await auth.createOciToken(userId, ['oci:repository:*:*'], 3600);
  return { userId, npm: { Authorization: `Bearer ${npm}` }, oci: { Authorization: `Bearer ${oci}` }, npmToken: npm, ociToken: oci };
}

export const sha256 = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Bytes that differ everywhere. */
export function noise(size) {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 4) bytes.writeUInt32LE(Math.imul(at + 1, 2654435761) >>> 0, Math.min(at, size - 4));
  return bytes;
}

/** Pushes a blob in one request and gives the answer. */
export const pushBlob = (registry, headers, digest, body, more = {}) =>
  registry.handleRequest({ method: 'POST', path: '/oci/team/app/blobs/uploads/', headers: { ...headers, 'Content-Type': 'application/octet-stream', ...more }, query: { digest }, body });

export const getBlob = (registry, headers, digest) => registry.handleRequest({ method: 'GET', path: `/oci/team/app/blobs/${digest}`, headers, query: {} });

/** Publishes a small version and gives the answer. A tag other than latest keeps the order of tags out of it. */
export async function publish(registry, headers, name, version, { path = `/npm/${name}`, tag = 'latest' } = {}) {
  const document = publishDocument(name, version, await tarball(name, version));
  document['dist-tags'] = { [tag]: version };
  return registry.handleRequest({ method: 'PUT', path, headers, query: {}, body: document });
}
