// Builds a client that is a Go program from the module proxy.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run, StepError } from '../lib/run.mjs';

export async function installFromGo(pin, folder) {
  await run('go', ['install', `${pin.package}@${pin.version}`], { cwd: folder, env: { ...process.env, GOBIN: folder } }).catch((error) => {
    if (!error.message.startsWith('cannot run')) throw error;
    throw new StepError(`${pin.package} is built with Go, and there is no go command on this machine`);
  });
  if (!existsSync(fileOfGo(pin, folder))) throw new StepError(`go install ${pin.package} left no ${pin.bin}`);
}

export const fileOfGo = (pin, folder) => join(folder, pin.bin);
