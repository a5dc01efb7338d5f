// Servers that keep tokens, for the tests: Redis and PostgreSQL, each on 127.0.0.1 with its data in a folder that goes with it. One that was stopped or
// killed can be started again where it was.
import { randomBytes } from 'node:crypto';
import { chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { client } from '../../scripts/clients.mjs';
import { freePorts } from './ports.mjs';
import { run, startServer } from './process.mjs';

/** Kinds of servers. */
export const tokenServers = { redis: startRedis, postgres: startPostgres };

/** Name of the environment variable by which the runner lends the URL of its server of this kind to `cargo test`. */
export const urlVariable = (kind) => `SMARTREGISTRY_TEST_${kind.toUpperCase()}`;

/** Ports are taken by number, so another program can be quicker: then another number is tried. */
const TRIES = 3;

/** Whatever is special in a URL is in their passwords. */
const newPassword = () => `test-p@ss/${randomBytes(6).toString('hex')}`;

/**
 * A server in a folder of its own.
 *
 * @returns {Promise<{ url: string, secret: string, log: () => string, start: () => Promise<void>, kill: () => Promise<void>, stop: () => Promise<void> }>}
 *   after `kill`, which leaves it no time for anything, `start` brings it back with the same data at the same place; `stop` ends it and takes the data away
 */
async function startDatabase(name, secret, prepare) {
  for (let tries = 1; ; tries++) {
    const dir = await mkdtemp(join(tmpdir(), `smartregistry-${name}-`));
    const [port] = await freePorts(1);
    const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', HOME: dir };
    const { argv, ready, url, at, rough } = await prepare({ dir, port, env });
    let server;
    const start = async () => {
      server = await startServer(argv, { cwd: at, env, ready });
    };
    const remove = () => rm(dir, { recursive: true, force: true });
    try {
      await start();
    } catch (error) {
      await remove();
      if (tries === TRIES) throw error;
      console.error(`${error.message}\nbeginning anew`);
      continue;
    }
    const log = () => server.log();
    return { url, secret, log, start, kill: () => server.stop(rough), stop: () => server.stop('SIGINT').then(remove) };
  }
}

/** Redis, with a user who may touch our keys alone. */
export async function startRedis() {
  const { file } = await client('redis');
  const password = newPassword();
  return startDatabase('redis', password, async ({ dir, port }) => {
    // With the rights of the default user Redis replays its log at the start: without any it would drop every transaction in there.
    const off = ['--user', 'default', 'off', '~*', '&*', '+@all'];
    const user = [...off, '--user', 'registry', 'on', `>${password}`, '~smartregistry:*', '+@all'];
    // A number for each test. What was answered is on the disk.
    const more = ['--databases', '16384', '--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
    return {
      argv: [file, '--bind', '127.0.0.1', '--port', String(port), '--dir', dir, ...more, ...user],
      ready: /Ready to accept connections/,
      url: `redis://registry:${encodeURIComponent(password)}@127.0.0.1:${port}`,
      at: dir,
      rough: 'SIGKILL',
    };
  });
}

/** PostgreSQL, which does not run as root: then it gets the user that its package has made. */
export async function startPostgres() {
  const { file } = await client('postgres');
  const password = newPassword();
  return startDatabase('postgres', password, async ({ dir, port, env }) => {
    const owner = process.getuid() === 0 ? await userOf('postgres') : undefined;
    const as = owner ? ['/usr/bin/setpriv', `--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups'] : [];
    const [data, secret] = [join(dir, 'data'), join(dir, 'password')];
    await mkdir(data, { mode: 0o700 });
    await writeFile(secret, password, { mode: 0o600 });
    if (owner) for (const path of [dir, data, secret]) await chown(path, owner.uid, owner.gid);
    const init = ['-D', data, '-U', 'registry', '--auth=scram-sha-256', `--pwfile=${secret}`, '--encoding=UTF8', '--no-locale', '--no-sync'];
    (await run([...as, join(dirname(file), 'initdb'), ...init], { cwd: dir, env })).ok();
    const settings = { listen_addresses: '127.0.0.1', unix_socket_directories: '', max_connections: '400', fsync: 'off' };
    return {
      argv: [...as, file, '-D', data, '-p', String(port), ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      ready: /database system is ready to accept connections/,
      url: `postgres://registry:${encodeURIComponent(password)}@127.0.0.1:${port}/postgres`,
      at: dir,
      // Not SIGKILL: its children would live on for a while, and keep the next one from starting.
      rough: 'SIGQUIT',
    };
  });
}

async function userOf(name) {
  const line = (await readFile('/etc/passwd', 'utf8')).split('\n').find((entry) => entry.startsWith(`${name}:`));
  if (!line) throw new Error(`there is no user ${name} to run the server as`);
  const [, , uid, gid] = line.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}
