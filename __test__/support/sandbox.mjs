// A home folder per test, so that no client sees this machine's registry settings, tokens or caches, and no test another's.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * @param {string} name part of the folder's name, for people who look at it
 * @returns {Promise<{ dir: string, home: string, env: Record<string, string>, folder: (name: string) => Promise<string>, remove: () => Promise<void> }>}
 */
export async function sandbox(name) {
  const dir = await mkdtemp(join(tmpdir(), `smartregistry-${name.replace(/[^a-z0-9]+/gi, '-')}-`));
  const home = join(dir, 'home');
  await mkdir(join(home, 'run'), { recursive: true, mode: 0o700 });
  await mkdir(join(home, 'tmp'));
  return {
    dir,
    home,
    env: cleanEnv(home),
    async folder(path) {
      await mkdir(join(dir, path), { recursive: true });
      return join(dir, path);
    },
    remove: () => rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }),
  };
}

/** The whole environment of a client. Made from nothing: `npm test` itself runs under npm and carries dozens of npm_config_ variables. */
function cleanEnv(home) {
  return {
    HOME: home,
    PATH: [dirname(process.execPath), '/usr/local/bin', '/usr/bin', '/bin'].join(':'),
    TMPDIR: join(home, 'tmp'),
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    NO_COLOR: '1',
    XDG_CACHE_HOME: join(home, '.cache'),
    XDG_CONFIG_HOME: join(home, '.config'),
    XDG_DATA_HOME: join(home, '.local/share'),
    XDG_RUNTIME_DIR: join(home, 'run'),
  };
}
