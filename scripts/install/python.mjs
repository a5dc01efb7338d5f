// Installs a Python program into a virtual environment of its own.
import { join } from 'node:path';
import { run } from '../lib/run.mjs';

export async function installFromPython(pin, folder) {
  await run('python3', ['-m', 'venv', folder]);
  await run(join(folder, 'bin', 'python'), ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `${pin.package}==${pin.version}`]);
}

export const fileOfPython = (pin, folder) => join(folder, pin.bin);
