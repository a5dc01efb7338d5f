// Installs the real clients and servers that the tests drive: `node scripts/clients.mjs [name…]`, without a name all but the lazy ones.
// Versions are pinned in versions.json; everything goes to a cache outside the checkout and is installed once.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fileOfApt, installFromApt } from './install/apt.mjs';
import { fileOfCargo, installFromCargo } from './install/cargo.mjs';
import { fileOfGo, installFromGo } from './install/go.mjs';
import { fileOfNpm, installFromNpm } from './install/npm.mjs';
import { fileOfPython, installFromPython } from './install/python.mjs';
import { cache } from './lib/paths.mjs';
import { locked, once } from './lib/once.mjs';
import { say, script, StepError } from './lib/run.mjs';

const sources = {
  npm: { install: installFromNpm, file: fileOfNpm },
  go: { install: installFromGo, file: fileOfGo },
  cargo: { install: installFromCargo, file: fileOfCargo },
  pypi: { install: installFromPython, file: fileOfPython },
  apt: { install: installFromApt, file: fileOfApt },
};

const { '//': _about, ...pins } = JSON.parse(readFileSync(new URL('versions.json', import.meta.url), 'utf8'));

/** Names of all pinned programs. */
export const clientNames = Object.keys(pins);

/** Whether the program is installed only when a test asks for it. */
export const isLazy = (name) => pins[name].lazy === true;

/**
 * Installs the program `name` if it is not there yet.
 *
 * @param {string} name a key of versions.json
 * @returns {Promise<{ name: string, version?: string, file: string, argv: string[] }>} `argv` starts it: `[...argv, ...arguments]`
 */
export async function client(name) {
  const pin = pins[name];
  if (!pin) throw new StepError(`no client is called ${name}; there are ${clientNames.join(', ')}`);
  const source = sources[pin.from];
  const folder = join(cache, 'clients', pin.version ? `${name}-${pin.version}` : name);
  const install = async () => {
    say(`installing ${name}${pin.version ? ` ${pin.version}` : ''}`);
    await source.install(pin, folder);
  };
  if (pin.from === 'apt') {
    // dpkg has a lock of its own that fails instead of waiting.
    await locked(join(cache, 'clients', 'apt.lock'), () => source.install(pin, folder));
  } else {
    await once(folder, install);
  }
  const file = source.file(pin, folder);
  return { name, version: pin.version, file, argv: await argvOf(pin, file) };
}

async function argvOf(pin, file) {
  if (!pin.run) return [file];
  if (pin.run === 'node') return [process.execPath, file];
  return [...(await client(pin.run)).argv, file];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    const asked = process.argv.slice(2);
    for (const name of asked.length ? asked : clientNames.filter((name) => !isLazy(name))) {
      const { argv, version } = await client(name);
      console.log(`${name}${version ? ` ${version}` : ''}: ${argv.join(' ')}`);
    }
  });
}
