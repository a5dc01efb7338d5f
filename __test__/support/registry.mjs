// A running registry for the tests, in one of its modes over one of the storages, with users and tokens made by its own command line.
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cli } from '../../scripts/lib/paths.mjs';
import { run, startServer } from './process.mjs';
import { s3Kinds, startS3 } from './s3.mjs';
import { sandbox } from './sandbox.mjs';

const LISTENING = /listening on (http:\/\/127\.0\.0\.1:(\d+))/;

/** `listener` is the server of the command line, the others are Express applications (see express-app.mjs). Beside them there is `node-http`. */
export const modes = ['listener', 'express', 'express-parsed', 'express-stream', 'express-handler', 'express-handler-parsed', 'express5'];

/** `local` is a folder, the others are S3 servers. */
export const storages = ['local', ...s3Kinds];

const expressFlags = {
  express: ['raw'],
  'express-parsed': ['parsed'],
  'express-stream': ['stream'],
  'express-handler': ['handler'],
  'express-handler-parsed': ['handler-parsed'],
  express5: ['raw', '--express5'],
};

/**
 * Starts a registry. Packages and repositories whose name or scope is `private` need a login to be read, all others do not.
 *
 * @param {string} mode one of `modes`, or `node-http` (see node-http-app.mjs)
 * @param {string} storageKind one of `storages`
 * @param {object | ((config: object) => object)} [more] further options of its configuration, or what to make of it
 */
export async function startRegistry(mode, storageKind, more = {}) {
  const box = await sandbox(`${mode}-${storageKind}`);
  const s3 = storageKind === 'local' ? undefined : await startS3(storageKind);
  const base = configOf(s3 ? s3.storage() : { type: 'local', path: join(box.dir, 'data') });
  const merged = (own) => ({ ...base, ...own, storage: { ...base.storage, ...own.storage }, oci: { ...base.oci, ...own.oci } });
  const config = typeof more === 'function' ? more(base) : merged(more);
  const file = join(box.dir, 'registry.json');
  await writeFile(file, JSON.stringify(config, undefined, 2));
  const server = await startServer(argvOf(mode, file), { cwd: box.dir, env: box.env, ready: LISTENING }).catch(async (error) => {
    await s3?.stop();
    throw error;
  });
  const [, url, port] = server.match;
  const registry = { mode, storageKind, config, file, box, url, pid: server.pid, port: Number(port), npm: `${url}/npm/`, host: `127.0.0.1:${port}`, log: server.log };
  return Object.assign(registry, {
    addUser: (name, password) => addUser(registry, name, password),
    createToken: (name, protocol, ...flags) => createToken(registry, name, protocol, ...flags),
    async stop() {
      await server.stop();
      await s3?.stop();
      await box.remove();
    },
  });
}

const app = (name) => fileURLToPath(new URL(`${name}.mjs`, import.meta.url));

function argvOf(mode, file) {
  if (mode === 'listener') return [process.execPath, cli, 'serve', '--port', '0', '--config', file];
  if (mode === 'node-http') return [process.execPath, app('node-http-app'), file];
  return [process.execPath, app('express-app'), file, ...expressFlags[mode]];
}

function configOf(storage) {
  return {
    storage,
    auth: {
      jwtSecret: randomBytes(24).toString('hex'),
      // What the command line writes has to be seen by the running server.
      tokenStore: 'storage',
      npmTokens: { enabled: true },
      ociTokens: { enabled: true, service: 'smartregistry-test' },
      visibility: [
        { pattern: 'npm:package:@private/*', visibility: 'private' },
        { pattern: 'oci:repository:private/*', visibility: 'private' },
      ],
    },
    npm: { enabled: true, basePath: '/npm' },
    oci: { enabled: true, basePath: '/oci' },
  };
}

/** Runs the command line on the data of the registry, while it serves. */
async function command(registry, args, input) {
  const argv = [process.execPath, cli, ...args, '--config', registry.file];
  return (await run(argv, { cwd: registry.box.dir, env: registry.box.env, input })).ok();
}

async function addUser(registry, name, password) {
  await command(registry, ['user', 'add', name, '--password-stdin'], `${password}\n`);
}

/** @returns {Promise<string>} the token, which is all that the command prints on stdout */
async function createToken(registry, name, protocol, ...flags) {
  const { stdout } = await command(registry, ['token', 'create', '--user', name, '--protocol', protocol, ...flags]);
  return stdout.trim();
}
