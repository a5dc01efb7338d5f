// Installs the packages of package-lock.json where they are missing or not those of the lock file.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { locked } from './once.mjs';
import { root } from './paths.mjs';
import { run, say } from './run.mjs';

/** @param {{ dev: boolean }} options with `dev: false` only what the program itself needs at run time has to be there */
export async function nodeModules({ dev }) {
  await locked(join(root, '.npm-ci.lock'), async () => {
    if (await installed(dev)) return;
    say('installing the npm packages');
    await run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error', ...(dev ? [] : ['--omit=dev'])]);
  });
}

/** npm writes what it installed to a hidden lock file: it has to hold every package of ours in our version. */
async function installed(dev) {
  const hidden = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(hidden)) return false;
  const [wanted, there] = await Promise.all([join(root, 'package-lock.json'), hidden].map(async (file) => JSON.parse(await readFile(file, 'utf8')).packages));
  return Object.entries(wanted).every(([path, entry]) => path === '' || entry.optional || (entry.dev && !dev) || there[path]?.version === entry.version);
}
