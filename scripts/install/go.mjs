// Builds a client that is a Go program from the module proxy.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { run, StepError } from '../lib/run.mjs';

/** @param {{ package: string, version: string, bin: string, test?: boolean }} pin `test`: the package is no command but a test, and is built as one */
export async function installFromGo(pin, folder) {
  const build = pin.test ? buildTest : installCommand;
  await build(pin, folder).catch((error) => {
    if (!error.message.startsWith('cannot run')) throw error;
    throw new StepError(`${pin.package} is built with Go, and there is no go command on this machine`);
  });
  if (!existsSync(fileOfGo(pin, folder))) throw new StepError(`building ${pin.package} left no ${pin.bin}`);
}

const installCommand = (pin, folder) =>
  run('go', ['install', `${pin.package}@${pin.version}`], { cwd: folder, env: { ...process.env, GOBIN: folder } });

/** Only within its own module are the versions of what a test needs those that the module names. */
async function buildTest(pin, folder) {
  const { stdout } = await run('go', ['mod', 'download', '-json', `${pin.package}@${pin.version}`], { cwd: folder });
  await run('go', ['test', '-c', '-o', fileOfGo(pin, folder), '.'], { cwd: JSON.parse(stdout).Dir });
}

export const fileOfGo = (pin, folder) => join(folder, pin.bin);
