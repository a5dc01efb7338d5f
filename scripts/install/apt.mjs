// Installs Debian's packages. Only root can; others are told which package is missing.
import { existsSync } from 'node:fs';
import { run, StepError } from '../lib/run.mjs';

export async function installFromApt(pin) {
  if (existsSync(pin.bin)) return;
  const packages = pin.package.split(' ');
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    throw new StepError(`${pin.bin} is missing: install ${packages.join(' ')} with the package manager of this machine`);
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['install', '--yes', '--quiet=2', '--no-install-recommends', ...packages];
  const first = await run('apt-get', install, { env, allowFailure: true });
  if (first.code !== 0) {
    // A new machine has no package lists, or old ones that name versions which are gone.
    await run('apt-get', ['update', '--quiet=2'], { env });
    await run('apt-get', install, { env });
  }
  if (!existsSync(pin.bin)) throw new StepError(`${packages.join(' ')} was installed but has no ${pin.bin}`);
}

export const fileOfApt = (pin) => pin.bin;
