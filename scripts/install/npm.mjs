// Installs a client that is an npm package, each in a folder of its own, with the npm and the registry of this machine.
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run, StepError } from '../lib/run.mjs';

/** @param {{ package: string, version: string, bin: string, scripts?: boolean }} pin */
export async function installFromNpm(pin, folder) {
  // The field is what newer npm versions ask before they run an install script; bun, deno and pnpm 12 put their binary in place with one.
  const allowScripts = pin.scripts ? { [pin.package]: true } : {};
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, allowScripts }));
  const flags = ['--no-audit', '--no-fund', '--no-save', '--no-package-lock', '--loglevel=error'];
  await run('npm', ['install', ...flags, ...(pin.scripts ? [] : ['--ignore-scripts']), `${pin.package}@${pin.version}`], {
    cwd: folder,
  });
  if (!existsSync(fileOfNpm(pin, folder))) {
    throw new StepError(`${pin.package}@${pin.version} was installed but has no ${pin.bin}: did its install script run?`);
  }
}

export const fileOfNpm = (pin, folder) => join(folder, 'node_modules', pin.package, pin.bin);
